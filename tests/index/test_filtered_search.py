"""A filtered search finds what an exact search of the allowed rows finds, whichever way it goes, and never fewer."""

from __future__ import annotations

from pathlib import Path

import hnswlib
import numpy as np
import pytest

from index import (
    DamagedIndex,
    MappedIndex,
    Metric,
    Neighbours,
    allow_rows,
    build_codes,
    open_hnsw_file,
    open_index,
    recall,
    search_exact,
)
from index.hnsw.file import HEADER
from index.hnsw.kernel.types import SPENT
from index.hnsw.planner import UNBOUNDED, plan
from tests.index.test_mapped_index import DIM, K, build, clusters

COUNT = 5000
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)


def opened(path: Path, metric: Metric, *, codes: bool) -> MappedIndex:
    if codes:
        build_codes(path.with_suffix(".codes"), open_hnsw_file(path, DIM), metric)
    return open_index(path, DIM, metric, path.with_suffix(".codes") if codes else None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("index") / "index.hnsw", clusters(COUNT, DIM))


@pytest.fixture(scope="module", params=[True, False], ids=["codes", "vectors"])
def index(request: pytest.FixtureRequest, file: Path) -> MappedIndex:
    return opened(file, "cosine", codes=request.param)


def some_rows(share: float, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).choice(COUNT, int(COUNT * share), replace=False)


def exactly(index: MappedIndex, rows: np.ndarray, queries: np.ndarray, k: int) -> list[Neighbours]:
    return search_exact(index.vectors()[rows], index.file.labels()[rows], queries, k, index.metric)


@pytest.mark.parametrize("share", SHARES)
def test_recall_is_high_at_each_selectivity(index: MappedIndex, share: float) -> None:
    rows, queries = some_rows(share), clusters(200, DIM, 1)
    found = index.search(queries, K, 128, allowed=allow_rows(rows, COUNT))
    truth = exactly(index, rows, queries, K)
    assert recall(found, truth) >= 0.99
    assert [len(one.labels) for one in found] == [min(K, len(rows))] * len(queries)
    assert np.isin(np.concatenate([one.labels for one in found]), index.file.labels()[rows]).all()


def test_an_ef_below_k_takes_less_work_and_finds_k_all_the_same(file: Path) -> None:
    index, queries = opened(file, "cosine", codes=True), clusters(200, DIM, 1)
    truth, work = exactly(index, np.arange(COUNT), queries, 100), []
    for ef, least in ((100, 0.95), (50, 0.85)):
        spent = []
        for query in queries:
            (found,) = index.search(query[None], 100, ef)
            assert len(found.labels) == 100
            spent.append(index._scratch(100).state[SPENT])
        assert recall(index.search(queries, 100, ef), truth) >= least
        work.append(np.mean(spent))
    assert work[1] < 0.9 * work[0]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_the_graph_by_itself_finds_what_is_allowed_and_nothing_else(
    index: MappedIndex, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_budget", lambda *_: UNBOUNDED)
    monkeypatch.setattr(index, "_complete", lambda *_: pytest.fail("the graph leads to all of them"))
    rows, queries = some_rows(share), clusters(200, DIM, 1)
    found = index.search(queries, K, 128, allowed=allow_rows(rows, COUNT))
    assert recall(found, exactly(index, rows, queries, K)) >= 0.99
    assert np.isin(np.concatenate([one.labels for one in found]), index.file.labels()[rows]).all()


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_codes_find_what_vectors_find_at_true_distances(metric: Metric, tmp_path: Path) -> None:
    path = build(tmp_path / "index.hnsw", clusters(COUNT, DIM), metric)
    queries = clusters(200, DIM, 1)
    coded, plain = opened(path, metric, codes=True), opened(path, metric, codes=False)
    truth = exactly(plain, np.arange(COUNT), queries, K)
    found = coded.search(queries, K, 128)
    assert recall(found, truth) >= recall(plain.search(queries, K, 128), truth) - 0.005
    for one, other in zip(found, truth, strict=True):
        common = np.isin(one.labels, other.labels)
        assert one.distances[common] == pytest.approx(other.distances[np.isin(other.labels, one.labels)], abs=1e-3)
        assert (np.diff(one.distances) >= 0).all()


def test_all_rows_but_one_far_from_the_query_are_still_found(index: MappedIndex) -> None:
    # The graph leads to where nothing is allowed: the walk is cut off, and the rows themselves are compared.
    query = index.vectors()[:1].copy()
    far = np.argsort(index.vectors() @ query[0])[: COUNT // 2]
    found = index.search(query, 50, allowed=allow_rows(far, COUNT))[0]
    (truth,) = exactly(index, far, query, 50)
    assert found.labels.tolist() == truth.labels.tolist()


@pytest.mark.parametrize("codes", [True, False])
def test_what_the_graph_does_not_lead_to_is_found_all_the_same(codes: bool, tmp_path: Path) -> None:
    path = build(tmp_path / "index.hnsw", clusters(COUNT, DIM))
    data = bytearray(path.read_bytes())
    record = HEADER.unpack_from(data)[3]
    for row in range(COUNT):  # no links at all: the entry point is alone
        data[HEADER.size + row * record : HEADER.size + row * record + 2] = b"\0\0"
    path.write_bytes(data)
    index = opened(path, "cosine", codes=codes)
    queries = clusters(3, DIM, 1)
    (first, *_) = index.search(queries, K)
    assert first.labels.tolist() == exactly(index, np.arange(COUNT), queries, K)[0].labels.tolist()
    half = some_rows(0.5)
    found = index.search(queries, K, allowed=allow_rows(half, COUNT))
    assert recall(found, exactly(index, half, queries, K)) == 1


@pytest.mark.parametrize("codes", [True, False])
def test_deleted_elements_are_not_found_whatever_is_allowed(codes: bool, tmp_path: Path) -> None:
    path = build(tmp_path / "index.hnsw", clusters(COUNT, DIM))
    judge = hnswlib.Index(space="cosine", dim=DIM)
    judge.load_index(str(path))
    labels = open_hnsw_file(path, DIM).labels()
    gone = some_rows(0.5)
    for row in gone:
        judge.mark_deleted(labels[row])
    judge.save_index(str(path))
    index = opened(path, "cosine", codes=codes)
    left = np.setdiff1d(np.arange(COUNT), gone)
    queries = clusters(50, DIM, 1)
    assert recall(index.search(queries, K), exactly(index, left, queries, K)) >= 0.99
    for rows in (some_rows(0.5, 9), some_rows(0.01, 9)):
        found = index.search(queries, K, allowed=allow_rows(rows, COUNT))
        assert recall(found, exactly(index, np.intersect1d(rows, left), queries, K)) >= 0.99
    everything = index.search(queries[:1], COUNT)[0].labels
    assert sorted(everything.tolist()) == sorted(labels[left].tolist())


def test_nothing_allowed_is_nothing_found_and_nothing_asked_nothing_answered(index: MappedIndex) -> None:
    assert index.search(np.empty((0, DIM), np.float32), K) == []
    (found,) = index.search(clusters(1, DIM, 1), K, allowed=allow_rows([], COUNT))
    assert len(found.labels) == 0


def test_a_batch_over_threads_gives_what_one_thread_gives(index: MappedIndex) -> None:
    queries, allowed = clusters(500, DIM, 1), allow_rows(some_rows(0.3), COUNT)
    for filtered in (None, allowed):
        alone = index.search(queries, K, allowed=filtered)
        together = index.search(queries, K, allowed=filtered, threads=4)
        assert [one.labels.tolist() for one in alone] == [one.labels.tolist() for one in together]


def test_the_planner_takes_the_cheaper_way() -> None:
    assert plan(100, 100_000, 700, 512, codes=True) == 0
    assert plan(50_000, 100_000, 700, 512, codes=True) > 10_000
    # As measured, with the distances that an unfiltered walk takes there; see benchmarks.filters.
    for count, usual, dim, least, too_few in (
        (20_000, 1750, 2048, 0.5, 0.3),
        (50_000, 1000, 1280, 0.2, 0.1),
        (100_000, 855, 512, 0.2, 0.15),
        (100_000, 900, 128, 0.3, 0.2),
    ):
        assert plan(int(least * count), count, usual, dim, codes=True) > usual
        assert plan(int(too_few * count), count, usual, dim, codes=True) == 0
    assert plan(100_000, 100_000, 700, 128, codes=False) < UNBOUNDED


def test_many_rows_are_kept_as_bits_alone() -> None:
    for rows in (np.arange(0, 200_001, 2), np.array([7, 3, 199_999, 3]), np.arange(0)):
        allowed = allow_rows(rows, 200_001)
        assert allowed.rows().tolist() == np.unique(rows).tolist()
        assert (allowed.few is None) == (len(rows) > 2**16)
        assert len(allowed) == len(np.unique(rows))


def test_rows_that_are_not_there_are_refused() -> None:
    for wrong in ([5], [-1, 2]):
        with pytest.raises(DamagedIndex, match="of an index of 5; restore or rebuild"):
            allow_rows(wrong, 5)


def test_readonly_queries_do_not_compile_the_kernel_anew(index: MappedIndex) -> None:
    from index.hnsw.kernel.search import search_codes, search_vectors

    queries = clusters(2, DIM, 1)
    index.search(queries, K)
    before = len(search_codes.signatures), len(search_vectors.signatures)
    queries.flags.writeable = False
    for odd in (queries, queries[:, ::-1], queries.astype(np.float64), np.asfortranarray(queries)):
        index.search(odd, K)  # type: ignore[arg-type]
    assert (len(search_codes.signatures), len(search_vectors.signatures)) == before
