"""While the kernel is being loaded, searches are answered in numpy, and as well."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from index import (
    DamagedIndex,
    MappedIndex,
    allow_rows,
    build_codes,
    build_hnsw,
    load_kernel_later,
    open_hnsw_file,
    open_index,
)
from index.hnsw.kernel import loader

COUNT, DIM = 3000, 24


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def path(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "index"
    build_hnsw(path, iter([(np.arange(COUNT) + 100, vectors)]), COUNT, DIM, "cosine")
    build_codes(path.with_suffix(".codes"), open_hnsw_file(path, DIM), "cosine")
    return path


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is not there yet, and whoever asks for it all the same fails."""
    monkeypatch.setattr(loader, "_there", threading.Event())
    monkeypatch.setattr("index.hnsw.mapped_index.kernel", None)


def opened(path: Path) -> MappedIndex:
    return open_index(path, DIM, "cosine", path.with_suffix(".codes"))


def test_it_finds_what_the_exact_search_finds(path: Path, vectors: np.ndarray, plainly: None) -> None:
    queries = 3 * vectors[:50] + np.random.default_rng(1).normal(0, 0.1, (50, DIM)).astype(np.float32)
    true = np.argsort(-(queries @ vectors.T), axis=1)[:, :10] + 100
    found = opened(path).search(queries, 10)
    assert np.mean([len(set(one.labels) & set(want)) / 10 for one, want in zip(found, true, strict=True)]) > 0.98
    for query, one in zip(queries, found, strict=True):
        expected = 1 - vectors[one.labels - 100] @ (query / np.linalg.norm(query))
        assert one.distances == pytest.approx(expected, abs=1e-5)
        assert (np.diff(one.distances) >= 0).all()


def test_filters_hold_and_nothing_that_is_there_is_left_out(path: Path, vectors: np.ndarray, plainly: None) -> None:
    allowed = allow_rows(list(range(0, COUNT, 100)), COUNT)
    (found,) = opened(path).search(vectors[:1], 50, allowed=allowed)
    assert len(set(found.labels)) == 30
    (every,) = opened(path).search(vectors[:1], COUNT)
    assert sorted(every.labels) == list(range(100, 100 + COUNT))


def test_what_the_graph_does_not_lead_to_is_found_all_the_same(path: Path, vectors: np.ndarray, plainly: None) -> None:
    index = opened(path)
    index._graph = index._graph._replace(links=np.zeros_like(index._graph.links))
    (found,) = index.search(vectors[7:8], 10)
    assert len(found.labels) == 10
    assert found.labels[0] == 107


def test_a_damaged_link_is_an_error(path: Path, vectors: np.ndarray, tmp_path: Path, plainly: None) -> None:
    data = bytearray(path.read_bytes())
    layout = open_hnsw_file(path, DIM).layout
    for record in range(COUNT):
        at = 96 + record * layout.record_words * 4 + 4
        data[at : at + 4 * layout.max_links0] = b"\xf0" * (4 * layout.max_links0)
    broken = tmp_path / "index"
    broken.write_bytes(data)
    broken.with_suffix(".codes").write_bytes(path.with_suffix(".codes").read_bytes())
    index = opened(path)
    index._graph = index._graph._replace(links=open_hnsw_file(broken, DIM).links)
    with pytest.raises(DamagedIndex, match="that is not there"):
        index.search(vectors[:1], 10)


def test_the_kernel_takes_over_once_it_is_loaded(path: Path, vectors: np.ndarray) -> None:
    index = opened(path)
    load_kernel_later(1.0)
    assert not loader.kernel_is_there()
    before = index.search(vectors[:5], 10)
    assert loader._there.wait(60)
    after = index.search(vectors[:5], 10)
    assert [one.labels.tolist() for one in before] == [one.labels.tolist() for one in after]
