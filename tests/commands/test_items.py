"""The verbs that change a catalogue: add, remove, update, compact and rollback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from tests.commands.test_cli import refused, run


@pytest.fixture
def folder(catalogue: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm")))


def top(folder: Path, photo: Path) -> str:
    return str(json.loads(run("search", folder, photo, "--k", 1, "--json").stdout)["results"][0]["hits"][0]["key"])


def test_only_new_and_changed_pictures_are_added(folder: Path, photos: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "new"
    source.mkdir()
    shutil.copy(photos[0], source / "a.jpg")
    (source / "broken.jpg").write_bytes(photos[1].read_bytes()[:300])
    report = json.loads(run("add", folder, source, "--json").stdout)
    assert (report["added"], report["kept"], [one["key"] for one in report["skipped"]]) == (1, 0, ["broken.jpg"])
    assert json.loads(run("add", folder, source, "--json").stdout)["added"] == 0
    shutil.copy(photos[2], source / "a.jpg")
    done = run("add", folder, source)
    assert done.stdout.startswith(f"1 pictures added to {folder}; 0 unchanged; 1 skipped; ")
    assert "skipped broken.jpg: " in done.stderr
    facts = json.loads(run("info", folder, "--json").stdout)
    assert (facts["count"], facts["unmerged"], facts["changes"]) == (60, 1, 1)
    assert (facts["health"], facts["jobs"], facts["migrating"]) == ("ok", 0, False)
    assert [one["count"] for one in facts["generations"]] == [59]
    assert facts["bytes"] == sum(facts["bytes_of"].values()) > facts["bytes_of"]["index"] > 59 * 1280 * 4
    assert "health           ok" in run("info", folder).stdout
    found = json.loads(run("search", folder, photos[2], "--k", 2, "--json").stdout)["results"][0]["hits"]
    assert sorted(hit["key"] for hit in found) == sorted(
        ["a.jpg", photos[2].relative_to(photos[2].parents[1]).as_posix()]
    )
    done = run("add", folder, source / "broken.jpg")
    assert (done.exit_code, done.stderr.strip().splitlines()[-1]) == (1, "error: none of the pictures could be added")
    assert refused("add", folder, tmp_path / "none").startswith("error: there is no file or folder")
    assert refused("add", tmp_path / "none", source).startswith("error: ")


def test_items_are_removed_and_updated_by_key_id_and_filter(folder: Path, photos: list[Path]) -> None:
    key = top(folder, photos[0])
    done = run("remove", folder, key, "no such", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"removed": 1, "missing": ["no such"]})
    assert "error: there is no item no such" in done.stderr
    assert top(folder, photos[0]) != key
    assert run("remove", folder, "--id", 5, "--id", 6).stdout == "2 items removed\n"
    done = CliRunner().invoke(cli, ["remove", str(folder), "-"], input=f"{top(folder, photos[9])}\r\n\n")
    assert done.stdout == "1 items removed\n"
    imagenet = '{"label": "imagenet"}'
    count = int(run("update", folder, "--where", imagenet, "--set", '{"label": "photo", "stars": 5}').stdout.split()[0])
    assert 10 < count < 20
    five = '{"stars": 5, "label": "photo"}'
    assert run("update", folder, "--where", five, "--set", '{"stars": null}').stdout == f"{count} items updated\n"
    assert run("update", folder, "--where", five, "--set", "{}").stdout == "0 items updated\n"
    assert run("remove", folder, "--where", '{"label": "photo"}').stdout == f"{count} items removed\n"


def test_a_merge_and_a_rollback_keep_every_item(folder: Path, photos: list[Path]) -> None:
    assert refused("rollback", folder).startswith("error: ")
    for verb in ("compact", "rollback"):
        assert "is not a catalogue: it is not there" in refused(verb, folder / "none")
    assert run("compact", folder).stdout == f"{folder}: generation 1, base-000001.hnsw of 59 items\n"
    run("remove", folder, top(folder, photos[0]))
    run("add", folder, photos[0])
    assert json.loads(run("compact", folder, "--json").stdout)["count"] == 59
    for generation in (2, 3, 4):
        assert top(folder, photos[0]) == photos[0].name
        assert run("verify", folder).exit_code == 0
        made = json.loads(run("rollback", folder, "--json").stdout)
        assert made["generation"] == generation + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--id", 1, "--set", "{oops"), "error: --set: this is not JSON"),
        (("--id", 1, "--set", "[1]"), "error: --set: give an object"),
        (("--id", 1, "--set", '{"a": NaN}'), "error: the metadata of 1 is not JSON"),
        (("--where", '{"$oops": 1}', "--set", "{}"), "error: where.$oops: there is no operator"),
    ],
)
def test_a_wrong_update_is_one_line(arguments: tuple[object, ...], message: str, folder: Path) -> None:
    assert refused("update", folder, *arguments).startswith(message)


def test_items_are_named_in_one_way(folder: Path) -> None:
    for names in ((), ("key", "--id", 1), ("--id", 1, "--where", "{}")):
        assert run("remove", folder, *names).exit_code == 2
