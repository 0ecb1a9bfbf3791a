"""Jobs are held by a lease, and count only what ended without a word against their pictures."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from index import JobQueue, JobTaken, NewJobItem
from index.catalogue import jobs
from tests.soak import fuzz


def test_a_job_that_was_let_go_is_not_blamed_and_one_that_was_lost_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fuzz.make_catalogue(tmp_path / "catalogue")
    with closing(JobQueue(folder)) as queue:
        name = queue.create([NewJobItem("a", {}, b"x"), NewJobItem("b", {}, b"y")])
        for _ in range(3):
            assert queue.claim("one") == (name, 0)
            assert queue.claim("two") is None
            queue.release(name, "one")
        assert queue.claim("one") == (name, 0)
        queue.release(name, "one", blamed=True)
        monkeypatch.setattr(jobs, "LEASE_SECONDS", -1.0)
        assert queue.claim("one") == (name, 1)  # and it is never heard of again
        assert queue.claim("two") == (name, 2)
        with pytest.raises(JobTaken):
            queue.finish(name, "one", {0: "{}"})
        queue.finish(name, "two", {0: "{}"})
        assert queue.claim("three") == (name, 0)
        assert [one.place for one in queue.pending(name, 5)] == [1]
        queue.finish(name, "three", {1: "{}"})
        found = queue.get(name)
        assert found is not None
        assert (found.state, found.results) == ("done", ["{}", "{}"])
