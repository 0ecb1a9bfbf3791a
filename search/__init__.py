"""The path of a query, free of HTTP: pictures to vectors to hits."""

from search.embedding_cache import CacheCounts
from search.engine import SearchEngine, open_catalogue_with_extractor
from search.errors import EmbedderUnavailable, ItemNotFound, SearchError
from search.query import (
    Admission,
    Admitted,
    Embedder,
    Embedding,
    EmbedResult,
    Found,
    ItemQuery,
    LocalEmbedder,
    QueryInput,
    SearchResult,
)

__all__ = [
    "Admission",
    "Admitted",
    "CacheCounts",
    "EmbedResult",
    "Embedder",
    "EmbedderUnavailable",
    "Embedding",
    "Found",
    "ItemNotFound",
    "ItemQuery",
    "LocalEmbedder",
    "QueryInput",
    "SearchEngine",
    "SearchError",
    "SearchResult",
    "open_catalogue_with_extractor",
]
