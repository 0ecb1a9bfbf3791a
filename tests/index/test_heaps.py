"""The kernel's heaps of packed keys and rows hold what Python's own do, in any order of operations."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from index.hnsw.kernel.primitives import farthest, keep_packed, key_of, nearer_half, packed, pop_packed, push_packed

ROUNDS = 20


def test_packed_values_are_in_the_order_of_their_keys_and_then_of_their_rows() -> None:
    keys = np.array([-np.inf, -3.5, -1e-30, 0.0, 1e-30, 0.25, 7e8, np.inf], np.float32)
    values = [packed(key, row) for key in keys for row in (0, 1, 2**32 - 1)]
    assert values == sorted(values)
    assert [key_of(value) for value in values[::3]] == keys.tolist()


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_heap_gives_the_smallest_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heap, size = np.empty(300, np.int64), 0
    judge: list[int] = []
    for value in rng.permutation(1000)[:300].tolist():
        push_packed(heap, size, value)
        heapq.heappush(judge, value)
        size += 1
        while size and rng.random() < 0.45:
            assert heap[0] == heapq.heappop(judge)
            pop_packed(heap, size)
            size -= 1
    while size:
        assert heap[0] == heapq.heappop(judge)
        pop_packed(heap, size)
        size -= 1


@pytest.mark.parametrize("most", [1, 2, 3, 10, 100])
def test_the_smallest_are_kept_and_the_farthest_of_them_is_known(most: int) -> None:
    rng = np.random.default_rng(most)
    keys = rng.permutation(500).astype(np.float32) - 250
    heap, size = np.empty(most + 1, np.int64), 0
    for count, key in enumerate(keys.tolist(), 1):
        size = keep_packed(heap, size, most, packed(key, count))
        kept = sorted(keys[:count].tolist())[:most]
        assert sorted(key_of(~value) for value in heap[:size]) == kept
        assert farthest(heap, size, most) == (kept[-1] if count >= most else np.inf)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 511])
def test_of_a_full_list_the_nearer_half_is_kept(size: int) -> None:
    keys = np.random.default_rng(size).permutation(size).astype(np.float32)
    kept = np.array([~packed(key, 7) for key in keys], np.int64)
    left = nearer_half(kept, size)
    assert sorted(key_of(~value) for value in kept[:left]) == list(range(size // 2))
