"""Duplicates: pairs that are compared once, groups of each kind, which to keep, and plans that can be undone."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from copies import (
    KINDS,
    PAIRS,
    DuplicateFinder,
    Group,
    Pairs,
    PathRules,
    Picture,
    PlanError,
    Wanted,
    apply_plan,
    group_duplicates,
    make_plan,
    read_plan,
    undo_plan,
    write_plan,
)
from index import CatalogueBusy, Entry, LiveWriter, hash_file, open_catalogue


@pytest.fixture
def folder(catalogue: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm", "duplicates*"))
    )


SURE_COPIES = Wanted(match=0.98)  # two of the samples show one scene


def picture(item_id: int, key: str = "", **facts: object) -> Picture:
    metadata = {"width": 640, "height": 480} | {
        k: v for k, v in facts.items() if k in ("width", "height", "captured_at")
    }
    sha256, pixels = str(facts.get("sha256", item_id)), str(facts.get("pixels", item_id)).encode()
    size, kind = int(str(facts.get("bytes", 1000))), str(facts.get("format", "JPEG"))
    return Picture(item_id, key or f"{item_id}.jpg", sha256, pixels, size, kind, "2026-01-01T00:00:00+00:00", metadata)


def pairs(*some: tuple[int, int, float, float]) -> Pairs:
    rows = np.array(some, np.float64).reshape(-1, 4)
    return Pairs(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2], rows[:, 3])


def shapes(groups: list[Group]) -> list[tuple[int, list[tuple[int, str]]]]:
    return [(one.keep.id, [(member.picture.id, member.relation.kind) for member in one.members]) for one in groups]


def test_each_kind_is_told_apart_and_can_be_asked_for() -> None:
    moment = "2026-05-01T10:00:0"
    some = [
        *(picture(1, sha256="a", pixels="p"), picture(2, sha256="a", pixels="p"), picture(3, sha256="b", pixels="p")),
        *(picture(4), picture(5, captured_at=f"{moment}1"), picture(6, captured_at=f"{moment}4"), picture(7)),
    ]
    found = pairs((1, 4, 0.9, 0.95), (5, 6, 0.85, 0.1), (6, 7, 0.92, 0.1), (1, 7, 0.7, 0.2))
    expected = [(1, [(2, "identical"), (3, "same_pixels"), (4, "altered_copy")])]
    assert shapes(group_duplicates(some, found, Wanted())) == expected
    assert shapes(group_duplicates(some, found, Wanted(("identical",)))) == [(1, [(2, "identical")])]
    assert shapes(group_duplicates(some, found, Wanted(("same_moment",)))) == [(5, [(6, "same_moment")])]
    assert not group_duplicates(some, found, Wanted(("same_moment",), within=2))
    assert shapes(group_duplicates(some, found, Wanted(("alike",)))) == [(6, [(7, "alike")])]
    assert not group_duplicates(some, found, Wanted(("altered_copy",), match=0.96))
    every = group_duplicates(some, found, Wanted(KINDS))
    assert [group.kind for group in every] == ["altered_copy", "same_moment"]


def test_every_member_is_a_duplicate_of_the_one_that_is_kept() -> None:
    chain = pairs((1, 2, 0.95, 0.99), (2, 3, 0.95, 0.99), (3, 4, 0.95, 0.99))
    some = [picture(1, width=4000), picture(2, width=900), picture(3, width=800), picture(4, width=700)]
    assert shapes(group_duplicates(some, chain, Wanted())) == [
        (1, [(2, "altered_copy")]),
        (3, [(4, "altered_copy")]),
    ]
    # A pair with one of two equal pictures is a pair with both.
    twins = [picture(1, width=4000, pixels="p"), picture(2, width=4000, pixels="p"), picture(3)]
    assert shapes(group_duplicates(twins, pairs((2, 3, 0.9, 0.99)), Wanted())) == [
        (1, [(2, "same_pixels"), (3, "altered_copy")])
    ]


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"width": 1000}, {"bytes": 9999}, "most pixels, 1000 × 480"),
        ({"format": "PNG"}, {"bytes": 9999}, "its format, PNG"),
        ({"captured_at": "2020-01-01T00:00:00"}, {"bytes": 9999}, "what its camera wrote: time or place"),
        ({"bytes": 2000}, {}, "largest file, 2,000 bytes"),
        (
            {"captured_at": "2019-01-01T00:00:00"},
            {"captured_at": "2020-01-01T00:00:00"},
            "captured first, 2019-01-01T00:00:00",
        ),
    ],
)
def test_the_picture_to_keep_has_a_reason(better: dict[str, object], worse: dict[str, object], reason: str) -> None:
    some = [picture(1, "a.jpg", **worse), picture(2, "b.jpg", **better)]
    (group,) = group_duplicates(some, pairs((1, 2, 0.99, 1.0)), Wanted())
    assert (group.keep.id, group.reason) == (2, reason)


def test_path_rules_come_first() -> None:
    some = [picture(1, "backup/a.jpg", width=4000), picture(2, "photos/b.jpg")]
    for paths in (PathRules(prefer=("photos/*",)), PathRules(avoid=("backup/*",))):
        (group,) = group_duplicates(some, pairs((1, 2, 0.99, 1.0)), Wanted(paths=paths))
        assert (group.keep.id, group.reason) == (2, "its path, by the rules given")


def test_pictures_are_compared_once_and_later_ones_with_all(folder: Path, photos: list[Path]) -> None:
    compared: list[int] = []
    with closing(open_catalogue(folder)) as catalogue, closing(DuplicateFinder(catalogue)) as finder:
        assert finder.compared() == (0, 59)
        finder.update(lambda stage, done, total: compared.append(done))
        assert finder.groups(SURE_COPIES) == []
        vector = catalogue.vector(7)
        assert vector is not None
        (own,) = catalogue.items([7]).values()
        signature = catalogue.signatures.get([7])[7]
        with closing(LiveWriter(folder)) as writer:
            entry = Entry("again.jpg", vector, {}, own.sha256, b"\xff\xd8", 1, 1, signature=signature)
            (added,) = writer.add([entry], catalogue.info.fingerprint)
        assert finder.compared() == (59, 60)
        compared.clear()
        finder.update(lambda stage, done, total: compared.append(done))
        assert compared == [59, 60]
        (group,) = finder.groups(SURE_COPIES)
        assert {group.keep.id, group.members[0].picture.id} == {7, added.id}
        assert finder.groups(Wanted(("identical",))) == [group]
        assert finder.groups(Wanted(("alike",), alike=0.99)) == []  # it is surer than that
        with closing(LiveWriter(folder)) as writer:
            writer.remove([added.id])
        finder.update()
        assert finder.groups(SURE_COPIES) == []
        assert not finder.groups(Wanted(), {"width": {"$lt": 0}})


def test_pairs_of_another_catalogue_or_a_broken_file_are_made_anew(folder: Path) -> None:
    (folder / PAIRS).write_bytes(b"this is no database" * 100)
    with closing(open_catalogue(folder)) as catalogue:
        with closing(DuplicateFinder(catalogue)) as finder:
            finder.update()
            assert finder.compared() == (59, 59)
        with closing(sqlite3.connect(folder / PAIRS)) as connection, connection:
            connection.execute("UPDATE meta SET value = 'of another' WHERE name = 'of'")
        with closing(DuplicateFinder(catalogue)) as finder:
            assert finder.compared() == (0, 59)
            with closing(DuplicateFinder(catalogue)) as other, finder._store._lock(), pytest.raises(CatalogueBusy):
                other.update()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("keep.jpg", "one/dup.jpg", "two/dup.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        found[name] = path
    return found


@pytest.fixture
def plan(files: dict[str, Path], tmp_path: Path) -> Path:
    ids = dict(enumerate(files, 1))
    some = [picture(i, name, sha256=hash_file(files[name]), width=700 - i) for i, name in ids.items()]
    groups = group_duplicates(some, pairs((1, 2, 0.9, 0.99), (1, 3, 0.9, 0.99)), Wanted())
    steps, without = make_plan(groups, {i: str(files[name]) for i, name in ids.items()})
    assert (len(steps), without) == (2, 0)
    path = tmp_path / "plan.json"
    write_plan(path, steps)
    return path


@pytest.mark.parametrize("action", ["move", "link", "delete"])
def test_a_plan_is_applied_and_undone(action: str, files: dict[str, Path], plan: Path, tmp_path: Path) -> None:
    before = {name: path.read_bytes() for name, path in files.items()}
    assert [reason for _, reason in apply_plan(plan, action, tmp_path / "held")] == [None, None]  # type: ignore[arg-type]
    assert files["keep.jpg"].is_file()
    assert sorted(path.name for path in (tmp_path / "held").rglob("*.jpg")) == ["dup.jpg", "dup.jpg"]
    for name in ("one/dup.jpg", "two/dup.jpg"):
        if action == "link":
            assert files[name].samefile(files["keep.jpg"])
        else:
            assert not files[name].exists()
    assert [reason for _, reason in apply_plan(plan, action, tmp_path / "held")] == [None, None]  # type: ignore[arg-type]
    assert len(list((tmp_path / "held").rglob("*.jpg"))) == 2  # it was done
    assert [reason for _, reason in undo_plan(plan)] == [None, None]
    assert {name: path.read_bytes() for name, path in files.items()} == before
    with pytest.raises(PlanError, match="nothing was applied"):
        list(undo_plan(plan))


def test_a_plan_that_was_broken_off_is_gone_on_with(files: dict[str, Path], plan: Path, tmp_path: Path) -> None:
    next(apply_plan(plan, "link", tmp_path / "held"))
    with plan.with_name("plan.json.journal").open("a") as journal:
        journal.write('{"file": "cut o')
    files["one/dup.jpg"].unlink()  # as if it had stopped between its move and its link
    done = [step.key for step, _ in apply_plan(plan, "link", tmp_path / "held")]
    assert done == ["one/dup.jpg", "two/dup.jpg"]
    assert files["one/dup.jpg"].samefile(files["keep.jpg"])
    assert len(list(undo_plan(plan))) == 2
    assert files["one/dup.jpg"].read_bytes() == b"one/dup.jpg"


def test_files_that_have_changed_are_left_alone(files: dict[str, Path], plan: Path, tmp_path: Path) -> None:
    files["one/dup.jpg"].write_bytes(b"another picture")
    reasons = {step.key: reason for step, reason in apply_plan(plan, "delete", tmp_path / "held")}
    assert "has changed" in str(reasons["one/dup.jpg"])
    assert reasons["two/dup.jpg"] is None
    list(undo_plan(plan))
    files["keep.jpg"].unlink()
    reasons = {step.key: reason for step, reason in apply_plan(plan, "delete", tmp_path / "held")}
    assert "cannot be read" in str(reasons["two/dup.jpg"])
    assert files["two/dup.jpg"].is_file()


def test_what_is_no_plan_is_refused(tmp_path: Path, plan: Path) -> None:
    with pytest.raises(PlanError, match="is there already"):
        write_plan(plan, [])
    with pytest.raises(PlanError, match="there is no plan"):
        read_plan(tmp_path / "none.json")
    for text in ("{", "[]", '{"steps": [{}]}', json.dumps({"steps": 5})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(PlanError, match="not a plan"):
            read_plan(tmp_path / "bad.json")
