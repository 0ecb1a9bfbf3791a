"""The command line: results on stdout, one line for an error, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli import cli
from model import read_card
from model.card import write_card
from tests.serving import ROOT, Server, running


def run(*arguments: object, **environment: str) -> Result:
    """Run a command in this process, which has imported already what a command would take seconds to import."""
    return CliRunner().invoke(cli, [str(one) for one in arguments], env=environment, prog_name="cli.py")


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    command = [sys.executable, "cli.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def refused(*arguments: object, **environment: str) -> str:
    """The one line with which a command ends that exits with 1."""
    done = run(*arguments, **environment)
    assert done.exit_code == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("verb", [None, *cli.commands])
def test_every_verb_has_help_with_examples(verb: str | None) -> None:
    shown = run(*([verb] if verb else []), "--help")
    assert shown.exit_code == 0
    assert f"python cli.py {verb}" in shown.stdout if verb else all(name in shown.stdout for name in cli.commands)


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in ([], ["build"], ["nonsense"], ["search", "dir"], ["search", "dir", "a.jpg", "--k", "0"]):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert done.stdout == ""


def test_search_prints_a_line_for_each_hit(catalogue: Path, photos: list[Path], samples: Path) -> None:
    done = run("search", catalogue, photos[0], "--k", 3)
    assert done.exit_code == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 3
    assert rows[0] == ["1.0000", photos[0].relative_to(samples).as_posix()]


def test_a_process_prints_and_exits_as_it_does_here(catalogue: Path, photos: list[Path]) -> None:
    done = run_process("search", catalogue, photos[0], "/no/such.jpg", "--k", 1)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stderr == "error: /no/such.jpg: the file cannot be read (No such file or directory)\n"
    assert run_process("nonsense").returncode == 2


def test_a_setting_that_does_not_exist_is_warned_of(catalogue: Path, photos: list[Path]) -> None:
    done = run("search", catalogue, photos[0], LENS_MAX_IMAGE="3")
    assert done.exit_code == 0
    assert "warning: LENS_MAX_IMAGE is no setting, and is ignored; did you mean LENS_MAX_IMAGES?" in done.stderr


def test_search_json_is_what_the_server_answers(catalogue: Path, photos: list[Path], server: Server) -> None:
    printed = json.loads(run("search", catalogue, photos[0], photos[1], "--k", 4, "--json").stdout)
    answer = server.search(photos[0].read_bytes(), photos[1].read_bytes(), k=4).json()
    assert printed.keys() == answer.keys()
    assert printed["timings_ms"].keys() == answer["timings_ms"].keys()
    for ours, theirs in zip(printed["results"], answer["results"], strict=True):
        assert [hit["id"] for hit in ours["hits"]] == [hit["id"] for hit in theirs["hits"]]


def test_search_answers_the_readable_pictures_and_exits_with_1(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("text")
    done = run("search", catalogue, tmp_path / "text.jpg", photos[0], tmp_path / "none.jpg", "--k", 1)
    assert done.exit_code == 1
    assert done.stdout.count("\n") == 1
    assert [line.split(": ", 2)[2] for line in done.stderr.splitlines()] == [
        "the bytes are not a picture in a format that can be read",
        "the file cannot be read (No such file or directory)",
    ]


def test_any_k_and_a_pipe_are_no_trouble(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    import os

    assert run("search", catalogue, photos[0], "--k", 10**22).stdout.count("\n") == 59
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "it is not a file" in run("search", catalogue, tmp_path / "pipe.jpg").stderr


def test_a_link_to_a_catalogue_stays_a_link(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    done = run("build", photos[0], "--out", tmp_path / "link", "--model", "tf_efficientnet_lite0")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "catalogue.sqlite").is_file()


def test_info_says_what_a_catalogue_holds(catalogue: Path) -> None:
    facts = json.loads(run("info", catalogue, "--json").stdout)
    assert (facts["count"], facts["dim"], facts["model"]) == (59, 1280, "tf_efficientnet_lite0")
    assert "tf_efficientnet_lite0" in run("info", catalogue).stdout


def test_build_reports_as_json_and_on_one_line(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photos[0], tmp_path / "in")
    (tmp_path / "in" / "bad.jpg").write_text("text")
    arguments = ["build", tmp_path / "in", "--out", tmp_path / "out", "--model", "tf_efficientnet_lite0"]
    done = run(*arguments)
    assert done.stdout.startswith(f"1 pictures in {tmp_path / 'out'}; 1 skipped; ")
    assert "skipped bad.jpg: the bytes are not a picture" in done.stderr
    report = json.loads(run(*arguments, "--overwrite", "--json").stdout)
    assert (report["added"], report["kept"], report["reused"], len(report["skipped"])) == (0, 0, 1, 1)


def test_wrong_inputs_are_one_clear_line(catalogue: Path, photos: list[Path], samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert "no file or folder at /no/such" in refused("build", "/no/such", "--out", out)
    assert "no picture is in" in refused("build", tmp_path / "empty", "--out", out)
    assert "did you mean resnet50" in refused("build", samples, "--out", out, "--model", "resnet5")
    assert "no weights file at" in refused("build", samples, "--out", out, "--weights", tmp_path / "none.pth")
    assert "--weights FILE" in refused(
        "build", samples, "--out", out, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path)
    )
    assert "is a catalogue already" in refused("build", samples, "--out", catalogue)
    assert "is not a catalogue" in refused("search", tmp_path / "empty", photos[0])
    assert "is not a catalogue" in refused("info", tmp_path / "none")
    assert "is not a catalogue" in refused("pack", tmp_path / "none")
    assert "is not a catalogue" in refused("serve", tmp_path / "none")
    assert "no model named '[/red]'" in refused("build", samples, "--out", out, "--model", "[/red]")
    broken = shutil.copytree(catalogue, tmp_path / "broken")
    (broken / "extractor" / "graph.bin").unlink()
    assert "is missing; build the catalogue again" in refused("serve", broken)
    assert "where: this is not JSON" in refused("search", catalogue, photos[0], "--where", "{label: cats}")
    assert "where.width.$gtt: there is no operator $gtt" in refused(
        "search", catalogue, photos[0], "--where", '{"width": {"$gtt": 1}}'
    )
    assert "LENS_K='x' cannot be used" in refused("search", catalogue, photos[0], LENS_K="x")
    assert "LENS_CACHE='-1' cannot be used" in refused("serve", catalogue, LENS_CACHE="-1")
    assert "LENS_KEYS: key 1: write NAME SCOPES KEY" in refused("serve", catalogue, LENS_KEYS="shop")
    assert not out.exists()


def test_a_catalogue_made_with_another_model_is_refused(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(catalogue, tmp_path / "other")
    card = read_card(other / "extractor")
    write_card(replace(card, precision="int8"), other / "extractor")
    for verb in (["search", other, photos[0]], ["info", other], ["serve", other]):
        assert "was made with tf_efficientnet_lite0" in refused(*verb)
    environment = {"LENS_CATALOGUE": str(other)}
    done = bentoml_serve(**environment)
    assert (done.returncode, "was made with tf_efficientnet_lite0" in done.stderr) == (1, True)


def bentoml_serve(**environment: str) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "bentoml", "serve", "service:ImageSearch"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def test_the_server_refuses_to_start_in_one_line(tmp_path: Path) -> None:
    for environment, message in (
        ({"LENS_CATALOGUE": str(tmp_path)}, "is not a catalogue"),
        ({"LENS_MAX_K": "0"}, "LENS_MAX_K='0' cannot be used"),
        ({"BENTOML_HOME": str(tmp_path / "home")}, "no catalogue to serve: set LENS_CATALOGUE=DIR"),
    ):
        done = bentoml_serve(**environment)
        assert done.returncode == 1
        assert message in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_serve_serves_and_a_taken_port_is_one_clear_line(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    with running(
        [sys.executable, str(ROOT / "cli.py"), "serve", str(catalogue)], tmp_path / "log", cwd=tmp_path
    ) as server:
        port = server.url.rsplit(":", 1)[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused("serve", catalogue, "--port", port)
        assert server.search(photos[0].read_bytes(), k=1).status_code == 200
    with socket.socket() as probe:  # and when it has ended, so has every process of it
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_the_commands_are_the_contracts() -> None:
    assert isinstance(cli, click.Group)
    changing = {"add", "remove", "update", "compact", "rollback", "migrate", "backup", "restore"}
    assert (
        set(cli.commands)
        == {"build", "search", "compare-images", "duplicates", "info", "pack", "serve", "verify"} | changing
    )
