"""The mapped reader answers as hnswlib does on the same file, and a damaged file is an error and never a crash."""

from __future__ import annotations

import contextlib
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hnswlib
import numpy as np
import pytest

from index import DamagedIndex, DimensionMismatch, MappedIndex, Metric, build_hnsw, open_index, recall, search_exact
from index.hnsw.file import HEADER
from index.hnsw.kernel.types import TAG

METRICS: tuple[Metric, ...] = ("cosine", "ip", "l2")
COUNT, DIM, EF, K = 3000, 48, 64, 10


def clusters(count: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, dim))
    return (centres[rng.integers(0, 40, count)] + 0.4 * rng.normal(size=(count, dim))).astype(np.float32)


def build(path: Path, vectors: np.ndarray, metric: Metric = "cosine") -> Path:
    labels = np.arange(len(vectors), dtype=np.int64) * 7 + 2**33  # labels that are neither rows nor 32 bits long
    build_hnsw(path, [(labels, vectors)], len(vectors), vectors.shape[1], metric)
    return path


def by_hnswlib(path: Path, metric: Metric, dim: int = DIM) -> hnswlib.Index:
    index = hnswlib.Index(space=metric, dim=dim)
    index.load_index(str(path))
    index.set_ef(EF)
    return index


def agreement(index: MappedIndex, judge: hnswlib.Index, queries: np.ndarray) -> float:
    expected, distances = judge.knn_query(queries, K)
    found = index.search(queries, K, EF)
    assert np.stack([one.distances for one in found]) == pytest.approx(distances, rel=1e-4, abs=1e-5)
    return float((np.stack([one.labels for one in found]) == expected.astype(np.int64)).mean())


@pytest.mark.parametrize("metric", METRICS)
def test_answers_equal_hnswlibs_on_the_same_file(metric: Metric, tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(COUNT, DIM), metric)
    assert agreement(open_index(path, DIM, metric), by_hnswlib(path, metric), clusters(400, DIM, 1)) >= 0.999


@pytest.mark.parametrize("metric", METRICS)
def test_answers_equal_hnswlibs_where_elements_are_deleted(metric: Metric, tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(COUNT, DIM), metric)
    judge = by_hnswlib(path, metric)
    gone = [int(row) * 7 + 2**33 for row in np.random.default_rng(2).choice(COUNT, COUNT // 3, replace=False)]
    for label in gone:
        judge.mark_deleted(label)
    judge.save_index(str(path))
    index = open_index(path, DIM, metric)
    assert agreement(index, judge, clusters(400, DIM, 1)) >= 0.999
    found = {int(label) for one in index.search(clusters(100, DIM, 1), K, EF) for label in one.labels}
    assert not found & set(gone)


def test_the_exact_search_judges_recall(tmp_path: Path) -> None:
    vectors, queries = clusters(COUNT, DIM), clusters(200, DIM, 1)
    index = open_index(build(tmp_path / "index", vectors), DIM, "cosine")
    truth = search_exact(index.vectors(), index.file.labels(), queries, K, "cosine")
    assert recall(index.search(queries, K, 200), truth) >= 0.99
    assert recall(index.search(queries, K, 10), truth) < 1.0  # the judge is no yes-man


@pytest.mark.parametrize("metric", METRICS)
def test_the_exact_search_equals_plain_arithmetic(metric: Metric) -> None:
    vectors, queries = clusters(50, 8), clusters(3, 8, 1)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(50, dtype=np.int64)
    for query, found in zip(queries, search_exact(vectors, labels, queries, 5, metric), strict=True):
        unit = query / np.linalg.norm(query)
        distances = {
            "cosine": [1 - float(row @ unit) for row in vectors],
            "ip": [1 - float(row @ query) for row in vectors],
            "l2": [float(((row - query) ** 2).sum()) for row in vectors],
        }[metric]
        assert found.labels.tolist() == sorted(range(50), key=lambda row: distances[row])[:5]
        assert found.distances == pytest.approx(sorted(distances)[:5], abs=1e-3)


def test_equal_distances_come_in_the_order_of_labels() -> None:
    found = search_exact(np.ones((4, 2), np.float32), np.array([9, 3, 7, 1]), np.ones((1, 2), np.float32), 4, "l2")
    assert found[0].labels.tolist() == [1, 3, 7, 9]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_k_beyond_the_count_gives_fewer_hits(count: int, tmp_path: Path) -> None:
    vectors = clusters(count, DIM)
    index = open_index(build(tmp_path / "index", vectors), DIM, "cosine")
    found = index.search(vectors, 100, 500)
    assert [len(one.labels) for one in found] == [count] * count
    assert [int(one.labels[0]) for one in found] == sorted(index.file.labels().tolist())


def test_an_empty_index_gives_no_hits(tmp_path: Path) -> None:
    judge = hnswlib.Index(space="cosine", dim=DIM)
    judge.init_index(max_elements=10)
    judge.save_index(str(tmp_path / "index"))
    index = open_index(tmp_path / "index", DIM, "cosine")
    assert len(index) == 0
    assert len(index.search(np.ones((1, DIM), np.float32), 5)[0].labels) == 0


def test_when_all_are_deleted_there_are_no_hits(tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(20, DIM))
    judge = by_hnswlib(path, "cosine")
    for row in range(20):
        judge.mark_deleted(row * 7 + 2**33)
    judge.save_index(str(path))
    assert len(open_index(path, DIM, "cosine").search(clusters(1, DIM), 5)[0].labels) == 0


def test_threads_share_an_index(tmp_path: Path) -> None:
    index = open_index(build(tmp_path / "index", clusters(COUNT, DIM)), DIM, "cosine")
    queries = clusters(300, DIM, 1)
    alone = [one.labels.tolist() for one in index.search(queries, K, EF)]
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: [one.labels.tolist() for one in index.search(queries, K, EF)], range(8)):
            assert together == alone


def test_the_visited_tag_survives_its_wrap(tmp_path: Path) -> None:
    index = open_index(build(tmp_path / "index", clusters(200, DIM)), DIM, "cosine")
    query = clusters(1, DIM, 1)
    first = index.search(query, K)[0].labels.tolist()
    scratch = index._scratch(EF)
    scratch.state[TAG] = 2**16 - 1
    scratch.visited.fill(1)  # what a query with the tag that comes next has left behind
    assert index.search(query, K)[0].labels.tolist() == first


def test_queries_of_another_length_are_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(50, DIM))
    with pytest.raises(DimensionMismatch, match="48-d vectors where 64-d ones"):
        open_index(path, 64, "cosine")
    with pytest.raises(DimensionMismatch, match=r"shape \(1, 64\)"):
        open_index(path, DIM, "cosine").search(np.ones((1, 64), np.float32), 1)
    with pytest.raises(ValueError, match="at least 1"):
        open_index(path, DIM, "cosine").search(np.ones((1, DIM), np.float32), 0)


@pytest.mark.parametrize("keep", [0, 10, 95, 96, 1000, -1, -4, -500])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(50, DIM))
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(DamagedIndex):
        open_index(path, DIM, "cosine")
    path.write_bytes(data + b"\0\0\0\0")
    with pytest.raises(DamagedIndex):
        open_index(path, DIM, "cosine")


FIELDS = (
    *("level0", "max_elements", "count", "record", "label_at", "vector_at"),
    *("max_level", "entry", "m_upper", "m_zero", "m"),
)


@pytest.mark.parametrize("field", FIELDS)
def test_each_header_field_is_checked(field: str, tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(50, DIM))
    data = path.read_bytes()
    for value in (3, 2**31 - 1):
        fields = list(HEADER.unpack_from(data))
        fields[FIELDS.index(field)] = value
        path.write_bytes(HEADER.pack(*fields) + data[HEADER.size :])
        if field in ("max_level", "entry") and value == 3:  # a possible entry point, on a level it may not reach
            with contextlib.suppress(DamagedIndex):
                open_index(path, DIM, "cosine").search(clusters(5, DIM), 5)
            continue
        if field == "max_elements" and value > 50:  # room for more elements is what it means
            assert len(open_index(path, DIM, "cosine")) == 50
            continue
        with pytest.raises((DamagedIndex, DimensionMismatch)):
            open_index(path, DIM, "cosine")


def test_links_that_lead_nowhere_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(300, DIM))
    data = bytearray(path.read_bytes())
    words = HEADER.unpack_from(data)[3] // 4
    for row in range(300):
        struct.pack_into("<I", data, HEADER.size + row * words * 4 + 4, 2**31)  # the first link of each element
    path.write_bytes(data)
    with pytest.raises(DamagedIndex, match="not there"):
        open_index(path, DIM, "cosine").search(clusters(1, DIM), 5)


def test_seeded_mutations_are_answered_or_refused_by_name(tmp_path: Path) -> None:
    path = build(tmp_path / "index", clusters(200, DIM))
    original = np.frombuffer(path.read_bytes(), np.uint8)
    rng, queries = np.random.default_rng(5), clusters(3, DIM, 1)
    outcomes = {"answered": 0, "refused": 0}
    for _ in range(300):
        data = original.copy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3, dtype=np.uint8)
        path.unlink()
        path.write_bytes(data.tobytes())
        try:
            for one in open_index(path, DIM, "cosine").search(queries, 5):
                assert len(one.labels) <= 5
            outcomes["answered"] += 1
        except (DamagedIndex, DimensionMismatch):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10, outcomes
