"""The live recall: some queries are answered again by comparing with every vector, and what was missed is counted."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from model import LOWEST, lower_priority
from server.telemetry.metrics import RECALL, RECALL_QUERIES

log = logging.getLogger("bentoml.bentolens")

DUTY = 0.01  # share of the time that is spent on it at most: the exact search of a large catalogue takes seconds
LAST = 100  # queries over which the mean is taken
EQUAL = 1e-5  # share of a score: items as near as the last of the nearest are as good an answer

SearchExactly = Callable[[NDArray[np.float32], int], list[list[tuple[int, float]]]]


class RecallMonitor:
    """Answers a ``share`` of the queries it is offered again, by ``search_exactly``, one at a time on a thread of its own.

    ``search_exactly`` gives for each query, float32 [n, dim], its k nearest: pairs of item id and score.
    """

    def __init__(self, search_exactly: SearchExactly, share: float) -> None:
        self._search_exactly = search_exactly
        self._share = share
        self._last: deque[float] = deque(maxlen=LAST)
        self._free_from = 0.0
        self._busy = False
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="recall", initializer=lower_priority, initargs=(LOWEST,)
        )

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
        """Return the recall@k of one answer: the share of the k nearest that it has, or others as near."""
        (truth,) = self._search_exactly(vector[None], k + int(without is not None))
        true = [score for item_id, score in truth if item_id != without][:k]
        if not true:
            return 1.0
        least = true[-1] - EQUAL * max(1.0, abs(true[-1]))
        return min(1.0, sum(score >= least for score in scores) / len(true))
