"""The live recall: some queries are answered again by comparing with every vector, and what was missed is counted."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from index import Neighbours
from server.telemetry.metrics import RECALL, RECALL_QUERIES

log = logging.getLogger("bentoml.bentolens")

DUTY = 0.01  # share of the time that is spent on it at most: the exact search of a large catalogue takes seconds
LAST = 100  # queries over which the mean is taken
EQUAL = 1e-5  # cosine: pictures as near as the last of the nearest are as good an answer


def _give_way() -> None:
    """Have this thread run only when no other wants to, where threads have a priority of their own (Linux)."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


class RecallWatch:
    """Answers a ``share`` of the queries it is offered again, by ``search_exactly``, one at a time on a thread of its own."""

    def __init__(self, search_exactly: Callable[[NDArray[np.float32], int], list[Neighbours]], share: float) -> None:
        self._search_exactly = search_exactly
        self._share = share
        self._last: deque[float] = deque(maxlen=LAST)
        self._free_from = 0.0
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recall", initializer=_give_way)

    def offer(self, vector: NDArray[np.float32], scores: Sequence[float], k: int, without: int | None = None) -> None:
        """Perhaps answer a query, float32 [dim], again, in the background; returns at once.

        ``scores`` are those of its hits, nearest first; ``k`` were asked for, among all items but ``without``.
        """
        if random.random() < self._share and not self._busy and time.monotonic() >= self._free_from:
            self._busy = True
            self._thread.submit(self._judge, vector, scores, k, without)

    def _judge(self, vector: NDArray[np.float32], scores: Sequence[float], k: int, without: int | None) -> None:
        begun = time.monotonic()
        try:
            self._last.append(self.recall(vector, scores, k, without))
            RECALL.set(sum(self._last) / len(self._last))
            RECALL_QUERIES.inc()
        except Exception:
            log.exception("a query could not be answered again exactly")
        finally:
            now = time.monotonic()
            self._free_from = now + (now - begun) * (1 / DUTY - 1)
            self._busy = False

    def recall(self, vector: NDArray[np.float32], scores: Sequence[float], k: int, without: int | None) -> float:
        """Recall@k of one answer: the share of the k nearest that it has, or others just as near in their place."""
        (truth,) = self._search_exactly(vector[None], k + int(without is not None))
        pairs = zip(truth.labels.tolist(), truth.distances.tolist(), strict=True)
        true = [1.0 - distance for label, distance in pairs if label != without][:k]
        if not true:
            return 1.0
        return min(1.0, sum(score >= true[-1] - EQUAL for score in scores) / len(true))
