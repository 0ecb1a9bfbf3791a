"""The search in numpy, a query at a time: what answers while the compiled kernel is being loaded.

The walk is hnswlib's, over the vectors themselves. It takes milliseconds where the kernel takes a tenth of one.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex
from index.hnsw.kernel.types import GROUP_SIZE, LEADS, SQUARED_L2, Graph, Vectors
from index.row_mask import Allowed

CHUNK = 4096  # rows that are compared at once
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # labels and distances, nearest first


def search_with_numpy(
    vectors: Vectors, graph: Graph, queries: NDArray[np.float32], k: int, ef: int, allowed: Allowed | None
) -> list[Found]:
    """Find up to ``k`` neighbours of each query, float32 [n, dim]; those that a filter allows by comparing with each.

    Raises DamagedIndex when a link leads nowhere.
    """
    return [_Query(vectors, graph, query).answer(k, max(ef, k), allowed) for query in queries]


class _Query:
    def __init__(self, vectors: Vectors, graph: Graph, query: NDArray[np.float32]) -> None:
        self._vectors, self._graph = vectors, graph
        self._query = query / max(np.linalg.norm(query), np.float32(1e-30)) if vectors.unit else query

    def answer(self, k: int, ef: int, allowed: Allowed | None) -> Found:
        found = self._with_members(self._walk(ef)) if allowed is None else self._scan(allowed.rows())
        if len(found) < k and allowed is None:  # there are no more, or the graph does not lead to them
            found = self._scan(np.flatnonzero((self._vectors.words[:, 0] >> 16) & 1 == 0))
        found = sorted(found)[:k]
        rows = [row for _, row in found]
        words, at = self._vectors.words[rows], self._vectors.label_at
        labels = words[:, at].astype(np.int64) | words[:, at + 1].astype(np.int64) << 32
        return labels, np.array([distance for distance, _ in found], np.float32)

    def _distances(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self._vectors.rows):
            raise DamagedIndex("the index file holds a link to an element that is not there; restore or rebuild it")
        some = self._vectors.rows[rows, self._vectors.at : self._vectors.at + self._vectors.dim]
        if self._vectors.space == SQUARED_L2:
            return np.square(some - self._query).sum(axis=1)
        return np.float32(1) - some @ self._query

    def _scan(self, rows: NDArray[np.int64]) -> list[tuple[float, int]]:
        parts = [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]
        return [pair for part in parts for pair in zip(self._distances(part).tolist(), part.tolist(), strict=True)]

    def _with_members(self, found: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Add the members of the groups that rows lead, and the copies that members lead."""
        leaders = [row for _, row in found]
        while leaders := [row for row in leaders if self._graph.groups and int(self._graph.links[row, 0]) & LEADS]:
            firsts = [int(self._graph.links[row, self._graph.max_links0]) for row in leaders]
            if max(firsts) >= len(self._graph.links):
                raise DamagedIndex("the index file names a group that is not there; restore or rebuild it")
            groups = [np.arange(first, first + int(self._graph.links[first, GROUP_SIZE])) for first in firsts]
            members = [row for row in np.concatenate(groups).tolist() if row < len(self._graph.links)]
            found = found + self._scan(np.array(members, np.int64))
            leaders = [row for row in members if row not in leaders]
        return found

    def _walk(self, ef: int) -> list[tuple[float, int]]:
        """Return the ``ef`` nearest rows by the graph, with their distances, in no order."""
        distance, row = self._descend()
        near, seen = [(distance, row)], {row}
        found = [(-distance, row)] if self._is_live(row) else []
        while near:
            distance, row = heapq.heappop(near)
            if len(found) >= ef and distance > -found[0][0]:
                break
            links = self._graph.links[row]
            fresh = [one for one in self._linked(links[0], links[1:], self._graph.max_links0) if one not in seen]
            seen.update(fresh)
            for distance, row in zip(self._distances(np.array(fresh, np.int64)).tolist(), fresh, strict=True):
                if len(found) < ef or distance < -found[0][0]:
                    heapq.heappush(near, (distance, row))
                    if self._is_live(row):
                        (heapq.heappushpop if len(found) >= ef else heapq.heappush)(found, (-distance, row))
        return [(-distance, row) for distance, row in found]

    def _descend(self) -> tuple[float, int]:
        graph, row = self._graph, self._graph.entry
        distance = float(self._distances(np.array([row]))[0])
        for level in range(graph.max_level, 0, -1):
            moved = True
            while moved:
                start = int(graph.upper_at[row]) + (level - 1) * (1 + graph.max_links)
                block = graph.upper[start : start + 1 + graph.max_links]
                if not graph.upper_at[row] or len(block) < 1 + graph.max_links:
                    raise DamagedIndex("the index file's upper links break off; restore or rebuild it")
                linked = np.array(self._linked(block[0], block[1:], graph.max_links), np.int64)
                distances = self._distances(linked)
                moved = bool(len(linked)) and float(distances.min()) < distance
                if moved:
                    distance, row = float(distances.min()), int(linked[distances.argmin()])
        return distance, row

    def _linked(self, head: np.uint32, links: NDArray[np.uint32], most: int) -> list[int]:
        degree = int(head) & 0xFFFF
        if degree > most:
            raise DamagedIndex(
                "the index file holds an element with more links than there can be; restore or rebuild it"
            )
        rows: list[int] = links[:degree].tolist()
        return rows

    def _is_live(self, row: int) -> bool:
        return not (int(self._vectors.words[row, 0]) >> 16) & 1
