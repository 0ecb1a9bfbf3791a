"""Jobs: pictures that are to be added later, kept in catalogue.sqlite until each of them is an item or has an error.

Any worker takes a job, with a lease that it renews. What became of its pictures is written in the transaction that adds
them, so that a job goes on after any crash, and no picture of it is added twice.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from index.catalogue.database import begin, open_database
from index.catalogue.rows import now
from index.errors import VectorIndexError

LEASE_SECONDS = 15.0
KEPT_HOURS = 24  # for which a finished job can be asked for
BATCH_BYTES = 64 * 1024**2  # of the pictures that are taken at once

State = Literal["waiting", "running", "done"]


class JobTaken(VectorIndexError):
    """Another worker has the job: this one's lease ran out."""


@dataclass(frozen=True, slots=True)
class NewJobItem:
    """A picture that is to be added: its bytes or its URL, or the JSON of why neither is to be had."""

    key: str
    metadata: Mapping[str, Any]
    data: bytes | None = None
    url: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class JobItem:
    """A picture of a job that is not done; ``place`` is its number in the job."""

    place: int
    key: str
    metadata: dict[str, Any]
    data: bytes | None
    url: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job: the JSON of what became of each of its pictures, in order; None for one that is still to be added."""

    id: str
    state: State
    created_at: str
    finished_at: str | None
    results: list[str | None]


class JobQueue:
    """The jobs of the catalogue in ``folder``; safe to use from many threads at once.

    Every method raises CatalogueBusy, DiskFull or DamagedIndex as LiveWriter's do.
    """

    def __init__(self, folder: Path) -> None:
        self._connection = open_database(folder, writable=True)
        self._lock = threading.Lock()

    def create(self, items: Sequence[NewJobItem], also: Callable[[sqlite3.Connection, Any], None] | None = None) -> str:
        """Keep a job durably, and return its id. ``also`` belongs to the transaction, and is given the id."""
        job = uuid.uuid4().hex
        with self._transaction() as connection:
            old = (datetime.now(UTC) - timedelta(hours=KEPT_HOURS)).isoformat(timespec="seconds")
            connection.execute("DELETE FROM jobs WHERE finished_at < ?", (old,))
            connection.execute("INSERT INTO jobs (id, created_at) VALUES (?, ?)", (job, now()))
            connection.executemany(
                "INSERT INTO job_items (job, place, key, metadata, data, url, result) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (job, place, one.key, json.dumps(dict(one.metadata)), one.data, one.url, one.result)
                    for place, one in enumerate(items)
                ),
            )
            _finish(connection, job)
            if also:
                also(connection, job)
        return job

    def get(self, job: str) -> Job | None:
        """Return a job by its id, or None when there is none."""
        with self._lock:
            found = self._connection.execute(
                "SELECT created_at, finished_at, lease FROM jobs WHERE id = ?", (job,)
            ).fetchone()
            if found is None:
                return None
            rows = self._connection.execute("SELECT result FROM job_items WHERE job = ? ORDER BY place", (job,))
            results = [result for (result,) in rows]
        created, finished, lease = found
        state: State = "done" if finished else "running" if lease > time.time() else "waiting"
        return Job(job, state, created, finished, results)

    def claim(self, owner: str) -> tuple[str, int] | None:
        """Take the oldest job that no worker holds: its id, and how often it was taken since a picture of it was done."""
        sql = "SELECT id, attempts FROM jobs WHERE finished_at IS NULL AND lease < ? ORDER BY created_at, rowid LIMIT 1"
        with self._lock:
            if self._connection.execute(sql, (time.time(),)).fetchone() is None:
                return None  # without a write, as nearly always
        with self._transaction() as connection:
            found = connection.execute(sql, (time.time(),)).fetchone()
            if found is None:
                return None
            job, attempts = found
            connection.execute(
                "UPDATE jobs SET owner = ?, lease = ?, attempts = attempts + 1 WHERE id = ?",
                (owner, time.time() + LEASE_SECONDS, job),
            )
        return job, attempts

    def renew(self, job: str, owner: str) -> None:
        """Keep a job for longer. Raises JobTaken."""
        with self._transaction() as connection:
            _hold(connection, job, owner)

    def release(self, job: str, owner: str, *, blamed: bool = False) -> None:
        """Let others take a job at once; ``blamed``: its pictures may be why, which counts as an attempt."""
        with self._transaction() as connection:
            attempts = "attempts" if blamed else "0"
            connection.execute(
                f"UPDATE jobs SET lease = 0, attempts = {attempts} WHERE id = ? AND owner = ?", (job, owner)
            )

    def pending(self, job: str, count: int) -> list[JobItem]:
        """Return up to ``count`` pictures of a job that are still to be added, and not many bytes of them."""
        found: list[JobItem] = []
        size = 0
        with self._lock:
            rows = self._connection.execute(
                "SELECT place, key, metadata, data, url FROM job_items WHERE job = ? AND result IS NULL "
                "ORDER BY place LIMIT ?",
                (job, count),
            )
            for place, key, metadata, data, url in rows:
                found.append(JobItem(place, key, json.loads(metadata), data, url))
                size += len(data or b"")
                if size > BATCH_BYTES:
                    break
        return found

    def finish(self, job: str, owner: str, results: Mapping[int, str]) -> None:
        """Write what became of pictures that were not added, by their places. Raises JobTaken."""
        with self._transaction() as connection:
            finish_items(connection, job, owner, results)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, begin(self._connection):
            yield self._connection


def finish_items(connection: sqlite3.Connection, job: str, owner: str, results: Mapping[int, str]) -> None:
    """Write what became of a job's pictures, by their places, within a transaction. Raises JobTaken."""
    _hold(connection, job, owner)
    connection.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job,))
    connection.executemany(
        "UPDATE job_items SET result = ?, data = NULL WHERE job = ? AND place = ?",
        [(result, job, place) for place, result in results.items()],
    )
    _finish(connection, job)


def _hold(connection: sqlite3.Connection, job: str, owner: str) -> None:
    held = connection.execute(
        "UPDATE jobs SET lease = ? WHERE id = ? AND owner = ? AND finished_at IS NULL",
        (time.time() + LEASE_SECONDS, job, owner),
    )
    if not held.rowcount:
        raise JobTaken(f"another worker has the job {job}")


def _finish(connection: sqlite3.Connection, job: str) -> None:
    connection.execute(
        "UPDATE jobs SET finished_at = ? WHERE id = ? "
        "AND NOT EXISTS (SELECT 1 FROM job_items WHERE job = jobs.id AND result IS NULL)",
        (now(), job),
    )
