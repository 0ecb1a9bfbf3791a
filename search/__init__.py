"""The path of a query, free of HTTP: pictures to vectors to hits."""

from search.comparison import Comparison, compare
from search.duplicates import CheckResult, Copy, DuplicateChecker
from search.embedding_cache import CacheCounts
from search.engine import SearchEngine, open_catalogue_with_extractor
from search.errors import EmbedderUnavailable, InvalidQuery, ItemNotFound, RegionsUnavailable, SearchError
from search.explain import Explanation, Shares, contrast_of, parts_of
from search.explainer import Explainer, LocalMaps
from search.parts import BoxEmbedder, MapMaker
from search.query import (
    MOST_WEIGHT,
    Admission,
    Admitted,
    CombinedQuery,
    Embedder,
    Embedding,
    EmbedResult,
    Example,
    Found,
    FoundHit,
    Group,
    ItemQuery,
    LocalEmbedder,
    PictureQuery,
    QueryInput,
    SearchResult,
    Term,
    TextQuery,
    Vote,
)
from search.shaping import Shaping, Sorting
from search.texts import LocalTexts, TextEmbedder
from search.words import mean_of

__all__ = [
    "MOST_WEIGHT",
    "Admission",
    "Admitted",
    "BoxEmbedder",
    "CacheCounts",
    "CheckResult",
    "CombinedQuery",
    "Comparison",
    "Copy",
    "DuplicateChecker",
    "EmbedResult",
    "Embedder",
    "EmbedderUnavailable",
    "Embedding",
    "Example",
    "Explainer",
    "Explanation",
    "Found",
    "FoundHit",
    "Group",
    "InvalidQuery",
    "ItemNotFound",
    "ItemQuery",
    "LocalEmbedder",
    "LocalMaps",
    "LocalTexts",
    "MapMaker",
    "PictureQuery",
    "QueryInput",
    "RegionsUnavailable",
    "SearchEngine",
    "SearchError",
    "SearchResult",
    "Shaping",
    "Shares",
    "Sorting",
    "Term",
    "TextEmbedder",
    "TextQuery",
    "Vote",
    "compare",
    "contrast_of",
    "mean_of",
    "open_catalogue_with_extractor",
    "parts_of",
]
