"""Several processes write to one catalogue while others read and merge it."""

from __future__ import annotations

import subprocess
import sys
import threading

from index import Catalogue, merge_catalogue, verify_catalogue
from tests.index.test_live import entry, first_hit, folder, opened
from tests.serving import ROOT

__all__ = ["folder", "opened"]  # fixtures

WRITE = """
import sys
from contextlib import closing
from pathlib import Path
from index import LiveWriter
from tests.index.test_live import PRINT, entry
with closing(LiveWriter(Path(sys.argv[1]))) as writer:
    for n in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
        writer.add([entry(n)], PRINT)
        print(n, flush=True)
"""


def test_several_processes_write_while_others_read_and_merge(opened: Catalogue) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, opened.folder, str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for first in (1000, 2000, 3000)
    ]
    missed: list[int] = []

    def follow(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        missed.extend(int(line) for line in process.stdout if first_hit(opened, entry(int(line))) is None)

    threads = [threading.Thread(target=follow, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        merge_catalogue(opened.folder)
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert missed == []
    assert len(opened) == 320
    assert opened.info.generation > 1
    assert list(verify_catalogue(opened.folder)) == []
