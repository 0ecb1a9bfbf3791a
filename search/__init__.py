"""The path of a query, free of HTTP: pictures to vectors to hits."""

from search.comparison import Comparison, compare
from search.embedding_cache import CacheCounts
from search.engine import SearchEngine, open_catalogue_with_extractor
from search.errors import EmbedderUnavailable, InvalidQuery, ItemNotFound, SearchError
from search.explain import contrast_of, parts_of
from search.query import (
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
from search.words import mean_of

__all__ = [
    "Admission",
    "Admitted",
    "CacheCounts",
    "CombinedQuery",
    "Comparison",
    "EmbedResult",
    "Embedder",
    "EmbedderUnavailable",
    "Embedding",
    "Example",
    "Found",
    "FoundHit",
    "Group",
    "InvalidQuery",
    "ItemNotFound",
    "ItemQuery",
    "LocalEmbedder",
    "PictureQuery",
    "QueryInput",
    "SearchEngine",
    "SearchError",
    "SearchResult",
    "Shaping",
    "Sorting",
    "Term",
    "TextQuery",
    "Vote",
    "compare",
    "contrast_of",
    "mean_of",
    "open_catalogue_with_extractor",
    "parts_of",
]
