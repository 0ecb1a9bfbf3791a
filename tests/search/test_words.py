"""Searching labelled pictures by words, and by examples: Debian's stamps, whose folders and names say what they show."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

from index import Catalogue, VectorIndexError
from model import UnknownWords, WordsUnavailable
from search import (
    CombinedQuery,
    Example,
    Found,
    ItemQuery,
    LocalEmbedder,
    QueryInput,
    SearchEngine,
    Shaping,
    TextQuery,
    open_catalogue_with_extractor,
)

# Written down before anything was measured: words that are classes, and occur among the files' names.
CLASSES = (
    *(
        "zebra",
        "lion",
        "gorilla",
        "koala",
        "ostrich",
        "peacock",
        "pelican",
        "flamingo",
        "hippopotamus",
        "bison",
        "badger",
    ),
    *(
        "grasshopper",
        "lionfish",
        "banana",
        "lemon",
        "pineapple",
        "strawberry",
        "pomegranate",
        "broccoli",
        "violin",
        "cello",
    ),
    *("hammer", "teapot", "bee", "umbrella"),
)
BROADER = {  # and words that several classes are, with the paths of what they mean here
    "animal": r"^animals/|easter/(bluebird|bunny|butterfly|chick)|halloween/(bat|blackcat|spider)|reindeer",
    "bird": r"^animals/birds|easter/(bluebird|chick)",
    "fruit": r"^food/fruit|rambutan",
    "vegetable": r"^food/vegetables|plants/eggplant|lettuce",
    "vehicle": r"^vehicles/|military/vehicles|space/(rocket|toyrocket)",
    "flower": r"plants/flowers|daffodil|lavender",
    "musical instrument": r"hobbies/music",
    "insect": r"animals/insects/(?!.*(snail|slug|spider|Woodlouse))|easter/butterfly",
    "fish": r"animals/fish/(?!.*(lobster|shrimp))",
    "dog": r"mammals/dogs/(dog|dingo)",
    "hat": r"hats/|cap|[a-z-]hat",
    "tool": r"household/tools/(?!cementmixer)|scissors|leafrake",
    "mammal": r"animals/(mammals|marsupials)|bunny|blackcat|/bat_|reindeer",
}
# Folders whose pictures are alike in kind: what examples are taken from.
KINDS = (
    *("animals/birds", "animals/fish", "animals/insects", "animals/mammals", "food/fruit", "food/vegetables"),
    *("plants/flowers", "household/tools", "vehicles/locomotive", "hobbies/music", "space/planets", "town/houses"),
    "town/roadsigns",
)


@pytest.fixture(scope="module")
def engine(stamps: Catalogue) -> SearchEngine:
    _, card = open_catalogue_with_extractor(stamps.folder)

    def no_network() -> None:
        raise VectorIndexError("words and items need no network")

    return SearchEngine(stamps, card, LocalEmbedder(no_network))  # type: ignore[arg-type]


def keys(engine: SearchEngine, queries: list[QueryInput], k: int = 5) -> list[list[str]]:
    results = asyncio.run(engine.search(queries, Shaping(k))).results
    found = []
    for one in results:
        assert isinstance(one, Found), one
        found.append([hit.item.key for hit in one.hits])
    return found


def test_words_for_classes_find_them(engine: SearchEngine, stamps: Catalogue) -> None:
    assert len(CLASSES) == 25
    first, among = [], []
    for word, found in zip(CLASSES, keys(engine, [TextQuery(word) for word in CLASSES]), strict=True):
        right = [bool(re.search(rf"(?i)[/_]{word}s?([-_\d].*)?\.png$", key)) for key in found]
        if not right[0]:
            print(word, found)
        first.append(right[0])
        among.append(any(right))
    print(f"class words: P@1 {np.mean(first):.3f}, hit@5 {np.mean(among):.3f}")
    assert np.mean(first) >= 0.84
    assert np.mean(among) >= 0.92


def test_broader_words_find_what_is_below(engine: SearchEngine, stamps: Catalogue) -> None:
    everything = [item.key for item in stamps.items(range(1, len(stamps) + 1)).values()]
    first, five = [], []
    for path, found in zip(BROADER.values(), keys(engine, [TextQuery(word) for word in BROADER]), strict=True):
        right = [bool(re.search(path, key)) for key in found]
        there = sum(bool(re.search(path, key)) for key in everything)
        first.append(right[0])
        five.append(sum(right) / min(5, there))
    print(f"broader words: P@1 {np.mean(first):.3f}, P@5 {np.mean(five):.3f}")
    assert np.mean(first) >= 0.92
    assert np.mean(five) >= 0.85


def test_two_positive_examples_and_a_negative_one_beat_either_alone(engine: SearchEngine, stamps: Catalogue) -> None:
    """The negative example is the nearest wrong hit of the two others, as a person would mark it."""
    items = stamps.items(range(1, len(stamps) + 1))
    kind = {one: next((kind for kind in KINDS if item.key.startswith(kind)), item.key) for one, item in items.items()}
    rng = np.random.default_rng(1)
    scores: list[list[float]] = []
    for _ in range(300):
        chosen = KINDS[rng.integers(len(KINDS))]
        one, other = rng.choice([item for item in kind if kind[item] == chosen], 2, replace=False).tolist()
        both = CombinedQuery((Example(ItemQuery(one)), Example(ItemQuery(other))))
        wrong = [hit for hit in ids(engine, both, 20) if kind[hit] != chosen]
        if wrong:
            with_negative, all_the_way = (
                CombinedQuery(both.positive, (Example(ItemQuery(wrong[0]), weight),)) for weight in (1.0, 4.0)
            )
            examples = {one, other, wrong[0]}
            found = [
                [hit for hit in ids(engine, asked, 8) if hit not in examples][:5]
                for asked in (with_negative, all_the_way, both, ItemQuery(one), ItemQuery(other))
            ]
            scores.append([sum(kind[hit] == chosen for hit in hits) / 5 for hits in found])
    combined, far, without, *single = np.mean(scores, axis=0)
    print(
        f"P@5 by two positive and one negative {combined:.3f}, with weight 4 {far:.3f}, without it {without:.3f}, "
        f"by one positive {single[0]:.3f} and {single[1]:.3f}"
    )
    assert combined > max(single) + 0.05
    assert combined >= without - 0.01
    assert combined > far


def ids(engine: SearchEngine, query: QueryInput, k: int) -> list[int]:
    (found,) = asyncio.run(engine.search([query], Shaping(k))).results
    assert isinstance(found, Found)
    return [hit.item.id for hit in found.hits]


def test_unknown_words_are_errors_in_their_places(engine: SearchEngine) -> None:
    texts: list[QueryInput] = [TextQuery("zebar"), TextQuery("zebra"), TextQuery("the")]
    wrong, found, nothing = asyncio.run(engine.search(texts, Shaping(1))).results
    assert isinstance(wrong, UnknownWords)
    assert "zebra" in str(wrong)
    assert isinstance(found, Found)
    assert isinstance(nothing, UnknownWords)


def test_words_and_pictures_go_together(engine: SearchEngine, stamps: Catalogue) -> None:
    """A red apple and the word lemon: what is found is like both."""
    apple = stamps.items_by_key(["food/fruit/apple_red.png"])["food/fruit/apple_red.png"].id
    mixed = CombinedQuery((Example(ItemQuery(apple)), Example(TextQuery("lemon"), 1.5)))
    found = keys(engine, [mixed, ItemQuery(apple)], 8)
    lemons = [sum("lemon" in key for key in some) for some in found]
    assert lemons[0] > lemons[1]
    assert sum("apple" in key for key in found[0]) >= 1


def test_a_model_without_words_says_so_and_names_one_that_has(stamps: Catalogue, tmp_path: Path) -> None:
    catalogue, card = open_catalogue_with_extractor(stamps.folder)
    words = stamps.extractor_folder / "words.json"
    kept = words.rename(tmp_path / "words.json")
    try:
        engine = SearchEngine(catalogue, card, LocalEmbedder(lambda: None))  # type: ignore[arg-type,return-value]
    finally:
        kept.rename(words)
    (found,) = asyncio.run(engine.search([TextQuery("zebra")], Shaping(1))).results
    assert isinstance(found, WordsUnavailable)
    assert "tf_efficientnet_lite0" in str(found)
    catalogue.close()
