"""Progress bars for long work at the shell."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

NAMES = {
    "embed": "reading and embedding",
    "index": "building the index",
    "match": "learning what a copy is",
    "compare": "comparing pictures",
    "copy": "copying files",
    "hash": "checking files",
    "vectors": "checking vectors",
}

EVERY = 10.0  # seconds between the lines of a log


class Bars:
    """A progress bar for each stage, with rate and time left; where the console cannot draw one, a line now and then."""

    def __init__(self, console: Console) -> None:
        self._log = None if console.is_interactive else console
        self._said = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<21}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_interactive,
        )
        self._tasks: dict[str, tuple[TaskID, int, float]] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._progress.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._progress.start()  # not before there is something to show
            task = self._progress.add_task(NAMES[stage], total=total, rate="")
            self._tasks[stage] = (task, done, time.perf_counter())
        task, first, begun = self._tasks[stage]
        finished = self._progress.tasks[task].finished
        seconds = time.perf_counter() - begun
        rate = f"{(done - first) / seconds:,.0f}/s" if seconds > 0 and done > first else ""
        self._progress.update(task, completed=done, total=total, rate=rate)
        due = done >= total or time.monotonic() > self._said + EVERY
        if self._log and due and not finished:
            self._said = time.monotonic()
            self._log.print(f"{NAMES[stage]}: {done:,}/{total:,} {rate}".rstrip())
