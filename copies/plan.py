"""What is to become of duplicates' files: a plan that is written first, then applied, and can be undone.

A plan is a JSON file. Applying it writes a journal next to it, ``PLAN.journal``, line by line and ahead of each step, so that
whatever stops it can be undone, or gone on with. No file is deleted: what makes room is moved to a folder first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from copies.groups import Group
from index import hash_file

VERSION = 1
Action = Literal["move", "link", "delete"]


class PlanError(Exception):
    """A plan that cannot be read or applied; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """A duplicate that is to make room for the picture that is kept: their files, with the SHA-256 that they had."""

    id: int
    key: str
    file: str
    sha256: str
    kind: str
    match: float
    keep_file: str
    keep_sha256: str


@dataclass(frozen=True, slots=True)
class Done:
    """A step of the journal: the file, where it went, and what stands in its place, a link or nothing."""

    file: str
    held: str
    linked: bool


def make_plan(groups: Sequence[Group], sources: dict[int, str]) -> tuple[list[Step], int]:
    """Return a step for each duplicate whose file and whose kept picture's file are known, and how many have none."""
    steps, without = [], 0
    for group in groups:
        for member in group.members:
            file, kept = sources.get(member.picture.id, ""), sources.get(group.keep.id, "")
            if not (Path(file).is_file() and Path(kept).is_file()) or Path(file).resolve() == Path(kept).resolve():
                without += 1
                continue
            one, relation = member.picture, member.relation
            facts = (one.id, one.key, str(Path(file).resolve()), one.sha256, relation.kind, relation.match)
            steps.append(Step(*facts, str(Path(kept).resolve()), group.keep.sha256))
    return steps, without


def write_plan(path: Path, steps: Sequence[Step]) -> None:
    """Write a plan. Raises PlanError where there is a file already, OSError."""
    text = json.dumps({"version": VERSION, "steps": [asdict(one) for one in steps]}, indent=1, ensure_ascii=False)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise PlanError(f"{path} is there already; apply it, undo it, or choose another --plan") from None


def read_plan(path: Path) -> list[Step]:
    """Read a plan. Raises PlanError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Step(**one) for one in found["steps"]]
    except FileNotFoundError:
        raise PlanError(
            f"there is no plan {path}; write one first, look at it, and apply it then: --plan {path}"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PlanError(f"{path} is not a plan of duplicates ({error})") from None


def apply_plan(path: Path, action: Action, to: Path) -> Iterator[tuple[Step, str | None]]:
    """Apply a plan, and yield each step with why it was not done, or None, as for one that was done before.

    ``to`` is the folder that duplicates go to. ``move`` leaves nothing in their place, ``delete`` likewise, and ``link`` a
    hard link to the picture that is kept, or a copy where that cannot be.
    """
    steps = read_plan(path)
    journal = _journal(path)
    done = {one.file: one for one in _read_journal(journal) if Path(one.held).exists()}
    root = _common_folder(steps)
    with journal.open("a", encoding="utf-8") as file:
        file.write("\n")  # a line that was cut off ends here
        for step in steps:
            if step.file in done:
                if done[step.file].linked and not Path(step.file).exists():  # it was broken off just there
                    _link(Path(step.keep_file), Path(step.file))
                yield step, None
                continue
            reason = _why_not(step)
            if reason is None:
                held = _free_place(to / Path(step.file).relative_to(root))
                file.write(json.dumps(asdict(Done(step.file, str(held), action == "link"))) + "\n")
                file.flush()
                os.fsync(file.fileno())
                held.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(step.file, held)
                if action == "link":
                    _link(Path(step.keep_file), Path(step.file))
            yield step, reason


def undo_plan(path: Path) -> Iterator[tuple[Done, str | None]]:
    """Put back what a plan has moved, the last first, and yield each with why it was not put back, or None."""
    journal = _journal(path)
    remaining = _read_journal(journal)
    if not journal.is_file():
        raise PlanError(f"nothing was applied of {path}")
    for one in reversed(remaining):
        held, file = Path(one.held), Path(one.file)
        reason = None
        if held.is_file():
            if file.exists() and not one.linked:
                reason = f"another file is at {file}"
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(held, file)
        elif not file.is_file():
            reason = f"{held} is gone"
        yield one, reason
    journal.unlink()


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def _read_journal(path: Path) -> list[Done]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(Done(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # a line that was cut off is of a step that was not begun
    return found


def _why_not(step: Step) -> str | None:
    """Return why a step cannot be done: both files must be what they were when the plan was made."""
    for name, digest in ((step.file, step.sha256), (step.keep_file, step.keep_sha256)):
        try:
            if hash_file(Path(name)) != digest:
                return f"{name} has changed since it was added"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _common_folder(steps: Sequence[Step]) -> Path:
    return Path(os.path.commonpath([Path(one.file).parent for one in steps])) if steps else Path()


def _free_place(path: Path) -> Path:
    """Return a place where no file is: the one wanted, or one with a number."""
    for number in range(1, 10_000):
        place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not place.exists():
            return place
    raise PlanError(f"there is no free name for {path}")


def _link(kept: Path, place: Path) -> None:
    try:
        os.link(kept, place)
    except OSError:  # on another disk, or one without links
        shutil.copy2(kept, place)
