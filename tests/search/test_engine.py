"""The search engine without HTTP: errors in their places, admission before decoding, callbacks, and items."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Catalogue, InvalidFilter
from index.catalogue.snapshot import Snapshot
from model import Extractor, UnreadableImage, UnsupportedImage
from search import (
    Admitted,
    CacheCounts,
    EmbedderUnavailable,
    Embedding,
    Found,
    ItemNotFound,
    ItemQuery,
    LocalEmbedder,
    PictureQuery,
    QueryInput,
    SearchEngine,
    Shaping,
    open_catalogue_with_extractor,
)


@pytest.fixture(scope="module")
def opened(catalogue: Path) -> Iterator[Catalogue]:
    found, _ = open_catalogue_with_extractor(catalogue)
    yield found
    found.close()


def engine(opened: Catalogue, extractor: Extractor, **options: Any) -> SearchEngine:
    options.setdefault("embedder", LocalEmbedder(lambda: extractor.engine))
    return SearchEngine(opened, extractor.card, cache_size=10, **options)


class Recorder:
    """An admission that notes what it is asked, and refuses when it is closed."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self.closed = False

    @contextmanager
    def admit(self, count: int) -> Iterator[Admitted]:
        if self.closed:
            raise RuntimeError("no more")
        admitted = Admitted()
        try:
            yield admitted
        finally:
            self.seen.append((count, admitted.finished))

    def reset(self) -> None:
        self.seen.append(("reset",))


def test_each_input_has_its_result_in_its_place(opened: Catalogue, extractor: Extractor, photos: list[Path]) -> None:
    wrong = UnreadableImage("the file cannot be read")
    inputs: list[QueryInput] = [
        PictureQuery(photos[0].read_bytes()),
        ItemQuery(2),
        PictureQuery(b"text"),
        wrong,
        ItemQuery(10**30),
        PictureQuery(photos[1].read_bytes()),
    ]
    result = asyncio.run(engine(opened, extractor).search(inputs, Shaping(3)))
    first, item, text, given, missing, last = result.results
    assert isinstance(first, Found)
    assert isinstance(item, Found)
    assert isinstance(last, Found)
    assert (first.hits[0].item.id, last.hits[0].item.id) == (1, 2)
    assert (first.batch_size, item.batch_size) == (2, None)
    assert 2 not in [hit.item.id for hit in item.hits]
    assert isinstance(text, UnsupportedImage)
    assert given is wrong
    assert isinstance(missing, ItemNotFound)
    assert result.timings_ms.keys() == {"decode", "embed", "search"}


def test_nothing_to_search_is_no_trouble(opened: Catalogue, extractor: Extractor) -> None:
    assert asyncio.run(engine(opened, extractor).search([], Shaping(3))).results == []
    (only,) = asyncio.run(engine(opened, extractor).search([PictureQuery(b"text")], Shaping(3))).results
    assert isinstance(only, UnsupportedImage)


def test_a_wrong_filter_costs_no_work(opened: Catalogue, extractor: Extractor, photos: list[Path]) -> None:
    admission = Recorder()
    with pytest.raises(InvalidFilter):
        asyncio.run(
            engine(opened, extractor, admission=admission).search(
                [PictureQuery(photos[0].read_bytes())], Shaping(3), {"$x": 1}
            )
        )
    assert admission.seen == []


def test_admission_is_asked_for_pictures_that_are_not_cached(
    opened: Catalogue, extractor: Extractor, photos: list[Path]
) -> None:
    admission, lookups = Recorder(), Recorder()
    counts: list[CacheCounts] = []
    one = engine(opened, extractor, admission=admission, lookups=lookups, on_embed=counts.append)
    picture = photos[0].read_bytes()

    async def scenario() -> None:
        await one.search([PictureQuery(picture), PictureQuery(b"text"), ItemQuery(1), ItemQuery(999)], Shaping(3))
        await one.search([PictureQuery(picture)], Shaping(3))
        admission.closed = True
        await one.search([PictureQuery(picture), ItemQuery(1)], Shaping(3))  # which needs no embedding
        with pytest.raises(RuntimeError, match="no more"):
            await one.search([PictureQuery(photos[1].read_bytes())], Shaping(3))

    asyncio.run(scenario())
    assert admission.seen == [(2, 1)], "of two pictures one could be embedded"
    assert lookups.seen == [(2, 2), (0, 0), (1, 1), (0, 0)]
    assert counts == [CacheCounts(0, 0, 2), CacheCounts(1, 0, 0), CacheCounts(1, 0, 0)]


def test_an_embedder_that_fails_is_told_to_admission(
    opened: Catalogue, extractor: Extractor, photos: list[Path]
) -> None:
    class Away:
        async def embed(self, pixels: np.ndarray) -> list[Embedding]:
            raise EmbedderUnavailable("it is away")

    admission = Recorder()
    one = engine(opened, extractor, embedder=Away(), admission=admission)
    with pytest.raises(EmbedderUnavailable):
        asyncio.run(one.search([PictureQuery(photos[0].read_bytes())], Shaping(3)))
    assert admission.seen == [("reset",), (1, 0)]


def test_results_without_a_filter_are_reported(opened: Catalogue, extractor: Extractor, photos: list[Path]) -> None:
    reported: list[tuple[int, int, int | None]] = []
    one = engine(
        opened,
        extractor,
        on_result=lambda vector, scores, k, excluded: reported.append((len(scores), k, excluded)),
    )
    asyncio.run(one.search([PictureQuery(photos[0].read_bytes()), ItemQuery(3), PictureQuery(b"text")], Shaping(4)))
    asyncio.run(one.search([ItemQuery(3)], Shaping(4), {"width": {"$gt": 0}}))
    assert reported == [(4, 4, None), (4, 4, 3)]


def test_items_and_thumbnails_come_in_order(opened: Catalogue, extractor: Extractor) -> None:
    one = engine(opened, extractor)
    second, missing, first = asyncio.run(one.items(ids=[2, 999, 1]))
    assert isinstance(missing, ItemNotFound)
    assert [item.id for item in (second, first) if not isinstance(item, Exception)] == [2, 1]
    (by_key,) = asyncio.run(one.items(keys=[first.key]))  # type: ignore[union-attr]
    assert by_key == first
    jpeg, none = asyncio.run(one.thumbnails([1, 999]))
    assert (jpeg or b"").startswith(b"\xff\xd8")
    assert none is None


def test_a_search_is_never_narrower_than_what_is_asked_for(
    opened: Catalogue, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, widths = Snapshot.search, []

    def watched(self: Snapshot, vectors: Any, k: int, ef: int, *more: Any) -> Any:
        widths.append((k, ef))
        return search(self, vectors, k, ef, *more)

    monkeypatch.setattr(Snapshot, "search", watched)
    asyncio.run(engine(opened, extractor, ef=5).search([ItemQuery(1)], Shaping(20)))
    asyncio.run(engine(opened, extractor, ef=64).search([ItemQuery(1)], Shaping(20)))
    assert [k for k, _ in widths] == [21, 21]  # and the item itself
    assert [ef for _, ef in widths] == [21, 64]
