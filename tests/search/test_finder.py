"""Shaped answers equal those of a plain loop over exact scores, also where items are unmerged, removed and updated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from index import Catalogue, Entry, LiveWriter, Metric, Snapshot, open_catalogue, start_catalogue
from search import Found, FoundHit, Shaping, Sorting
from search.combine import Query
from search.finder import Finder, Lookup

DIM, COUNT, QUERIES = 32, 3000, 40
EF = 512


def entry(n: int, vector: NDArray[np.float32]) -> Entry:
    metadata: dict[str, Any] = {
        "sku": n % 400,
        "colour": ["red", "green", "blue"][n % 3],
        "when": {"year": 1990 + n % 31},
    }
    if n % 7 == 0:
        del metadata["sku"]
    return Entry(f"{n}.jpg", vector, metadata, "0" * 64, b"\xff\xd8", 1, 1)


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Vectors around 60 centres, every fifth of which is nearly that before it."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(60, DIM))
    found = centres[rng.integers(0, 60, count)] + 0.5 * rng.normal(size=(count, DIM))
    found[5::5] = found[4:-1:5] + 0.01 * rng.normal(size=found[5::5].shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module", params=["cosine", "l2"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    metric: Metric = request.param
    folder = tmp_path_factory.mktemp("finder") / metric
    writer = start_catalogue(folder, model="m", fingerprint="f", dim=DIM, metric=metric)
    writer.add([entry(n, vector) for n, vector in enumerate(rows(COUNT, 1))])
    writer.build_index()
    writer.publish({})
    with closing(LiveWriter(folder)) as live:
        live.add([entry(COUNT + n, vector) for n, vector in enumerate(rows(200, 2))], "f")
        live.remove(list(range(1, 60, 2)))
        live.update([f"{n}.jpg" for n in range(100, 200)], [{"sku": 9000 + n % 3} for n in range(100, 200)])
    with closing(open_catalogue(folder)) as catalogue:
        yield catalogue


@dataclass
class Truth:
    """All items of a catalogue, their vectors, and how a query scores them, by a plain matrix product."""

    catalogue: Catalogue

    def __post_init__(self) -> None:
        self.items = self.catalogue.items(range(1, COUNT + 1000))
        self.ids = sorted(self.items)
        self.vectors = self.catalogue.snapshot().vectors(self.ids).astype(np.float64)
        self.euclidean = self.catalogue.info.metric == "l2"

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        if self.euclidean:
            return -np.linalg.norm(self.vectors - vector, axis=1)
        return np.asarray(self.vectors @ vector.astype(np.float64))

    def nearest(self, vector: NDArray[np.float32]) -> list[FoundHit]:
        scores = self.scores(vector)
        order = np.argsort(-scores, kind="stable").tolist()
        return [FoundHit(self.items[self.ids[place]], float(scores[place])) for place in order]

    def similarity(self, one: int, other: int) -> float:
        left, right = (self.vectors[self.ids.index(item)] for item in (one, other))
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.fixture(scope="module")
def truth(opened: Catalogue) -> Truth:
    return Truth(opened)


def queries() -> NDArray[np.float32]:
    return rows(QUERIES, 3)


def plain(vector: NDArray[np.float32], *more: NDArray[np.float32], without: Sequence[int] = ()) -> Query:
    against = np.stack(more) if more else np.empty((0, DIM), np.float32)
    return Query(vector[None], against, frozenset(without))


def find(catalogue: Catalogue, some: Sequence[Query], wanted: Shaping, where: object = None) -> list[Found]:
    allowed = None if where is None else catalogue.allow(where)

    def run(snapshot: Snapshot, lookup: Lookup) -> list[Found]:
        return Finder(snapshot, allowed, EF, lookup).find(some, wanted)

    return catalogue.in_one_state(run, allowed)[0]


def ids(hits: Sequence[FoundHit]) -> list[int]:
    return [hit.item.id for hit in hits]


def agreement(found: Sequence[Found], wanted: Sequence[Sequence[FoundHit]]) -> float:
    """The share of the hits wanted that were found at their places."""
    same = [
        a == b
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(ids(one.hits), ids(other), strict=False)
    ]
    assert [len(one.hits) for one in found] == [len(other) for other in wanted]
    return float(np.mean(same))


def grouped(hits: Sequence[FoundHit]) -> list[FoundHit]:
    seen: set[Any] = set()
    kept = []
    for hit in hits:
        sku = hit.item.metadata.get("sku")
        if sku is None or sku not in seen:
            kept.append(hit)
            seen.add(sku)
    return kept


def test_grouped_answers_equal_the_exact_ones(opened: Catalogue, truth: Truth) -> None:
    found = find(opened, [plain(one) for one in queries()], Shaping(40, group_by=("sku",)))
    assert agreement(found, [grouped(truth.nearest(one))[:40] for one in queries()]) >= 0.99
    sizes: dict[Any, int] = {}
    for item in truth.items.values():
        sizes[item.metadata.get("sku")] = sizes.get(item.metadata.get("sku"), 0) + 1
    for hit in found[0].hits:
        if hit.group is None:
            assert "sku" not in hit.item.metadata
        else:
            assert (hit.group.value, hit.group.size) == (hit.item.metadata["sku"], sizes[hit.group.value])


def test_groups_behind_many_items_of_another_are_found(opened: Catalogue, truth: Truth) -> None:
    """Three colours for thousands of items: the nearest hundred may all be of one."""
    where = {"colour": {"$exists": True}}
    for one, found in zip(
        queries(), find(opened, [plain(one) for one in queries()], Shaping(3, group_by=("colour",))), strict=True
    ):
        first: dict[str, int] = {}
        for hit in truth.nearest(one):
            if "colour" in hit.item.metadata:
                first.setdefault(hit.item.metadata["colour"], hit.item.id)
        with_colour = [hit.item.id for hit in found.hits if hit.group]
        assert set(with_colour) <= set(first.values())
    (found,) = find(opened, [plain(queries()[0])], Shaping(1000, group_by=("colour",)), where)
    assert len(found.hits) == 3
    assert sum(hit.group.size for hit in found.hits if hit.group) == len(opened.allow(where))


def test_folded_answers_equal_the_exact_ones(opened: Catalogue, truth: Truth) -> None:
    wanted = []
    for one in queries():
        kept: list[FoundHit] = []
        for hit in truth.nearest(one)[:60]:
            if not any(truth.similarity(hit.item.id, other.item.id) >= 0.98 for other in kept):
                kept.append(hit)
        wanted.append(kept[:20])
    found = find(opened, [plain(one) for one in queries()], Shaping(20, fold=0.98))
    assert agreement(found, wanted) >= 0.99
    folded = [(hit.item.id, other) for one in found for hit in one.hits for other in hit.folded or ()]
    assert len(folded) > QUERIES
    assert all(truth.similarity(one, other) >= 0.979 for one, other in folded)


def test_sorted_and_filtered_answers_equal_the_exact_ones(opened: Catalogue, truth: Truth) -> None:
    where = {"colour": "red"}
    found = find(opened, [plain(one) for one in queries()], Shaping(30, sort=Sorting(("when", "year"), True)), where)
    wanted = []
    for one in queries():
        red = [hit for hit in truth.nearest(one) if hit.item.metadata.get("colour") == "red"][:30]
        wanted.append(sorted(red, key=lambda hit: -hit.item.metadata["when"]["year"]))
    assert agreement(found, wanted) >= 0.99


def test_pages_are_parts_of_one_list(opened: Catalogue) -> None:
    query = plain(queries()[0])
    shapes: list[dict[str, Any]] = [
        {},
        {"fold": 0.98},
        {"group_by": ("sku",)},
        {"sort": Sorting("key")},
        {"diversity": 0.3},
    ]
    for more in shapes:
        (whole,) = find(opened, [query], Shaping(1000, **more))
        limit = 50 if more else 10
        pages = [
            found
            for at in range(0, 1000, limit)
            for found in find(opened, [query], Shaping(1000, offset=at, limit=limit, **more))
        ]
        assert [one for page in pages for one in ids(page.hits)] == ids(whole.hits), more
        assert {page.total for page in pages} == {len(whole.hits)}
        assert len(set(ids(whole.hits))) == len(whole.hits)
        if "group_by" not in more:
            assert len(whole.hits) == 1000


def test_no_hit_is_below_the_least_score(opened: Catalogue, truth: Truth) -> None:
    for one in queries()[:10]:
        nearest = truth.nearest(one)
        least = (nearest[24].score + nearest[25].score) / 2
        (found,) = find(opened, [plain(one)], Shaping(100, min_score=least))
        assert ids(found.hits) == ids(nearest[:25])


def test_best_is_by_the_nearest_example_and_never_nearer_to_a_negative_one(opened: Catalogue, truth: Truth) -> None:
    vectors = queries()
    for at in range(0, QUERIES, 4):
        one, other, unlike = vectors[at], vectors[at + 1], vectors[at + 2]
        best = np.maximum(truth.scores(one), truth.scores(other))
        allowed = best > truth.scores(unlike)
        order = [place for place in np.argsort(-best, kind="stable").tolist() if allowed[place]][:50]
        query = Query(np.stack([one, other]), unlike[None])
        (found,) = find(opened, [query], Shaping(50))
        right = len(set(ids(found.hits)) & {truth.ids[place] for place in order})
        assert right / 50 >= 0.98
        assert [hit.score for hit in found.hits] == pytest.approx(
            sorted((hit.score for hit in found.hits), reverse=True)
        )


def test_excluded_items_are_no_hits_and_others_take_their_places(opened: Catalogue, truth: Truth) -> None:
    nearest = truth.nearest(queries()[0])
    without = ids(nearest[:3])
    (found,) = find(opened, [plain(queries()[0], without=without)], Shaping(5))
    assert ids(found.hits) == ids(nearest[3:8])


def test_diverse_answers_are_less_alike_and_begin_with_the_nearest(opened: Catalogue, truth: Truth) -> None:
    def alike(hits: Sequence[FoundHit]) -> float:
        pairs = [(one, other) for place, one in enumerate(hits) for other in hits[:place]]
        return float(np.mean([truth.similarity(one.item.id, other.item.id) for one, other in pairs]))

    plainly = find(opened, [plain(one) for one in queries()], Shaping(10))
    spread = find(opened, [plain(one) for one in queries()], Shaping(10, diversity=0.5))
    assert np.mean([alike(one.hits) for one in spread]) < np.mean([alike(one.hits) for one in plainly]) - 0.05
    assert [one.hits[0].item.id for one in spread] == [one.hits[0].item.id for one in plainly]


def test_facets_and_votes_are_of_all_pages(opened: Catalogue) -> None:
    wanted = Shaping(200, limit=5, facets=(("colour",), ("when", "year")), classify=("colour",))
    (found,) = find(opened, [plain(queries()[0])], wanted)
    (whole,) = find(opened, [plain(queries()[0])], Shaping(200))
    colours = [hit.item.metadata.get("colour") for hit in whole.hits]
    assert found.facets
    assert dict(found.facets[0].values) == {one: colours.count(one) for one in set(colours) - {None}}
    assert len(found.hits) == 5
    assert found.classify
    assert sum(vote.confidence for vote in found.classify) == pytest.approx(1)
    assert {vote.value: vote.count for vote in found.classify} == dict(found.facets[0].values)


def test_what_is_removed_meanwhile_makes_room_for_others(opened: Catalogue) -> None:
    """The lookup finds an item gone once, as when another process has just removed it: the search is done again."""
    calls = []

    def run(snapshot: Snapshot, lookup: Lookup) -> list[Found]:
        calls.append(1)
        found = Finder(snapshot, None, EF, lookup).find([plain(queries()[0])], Shaping(5, group_by=("sku",)))
        if len(calls) == 1:
            lookup([10**6])
        return found

    (found,), _ = opened.in_one_state(run)
    assert len(calls) == 2
    assert len(found.hits) == 5
