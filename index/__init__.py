"""Vectors in, neighbours out: the catalogue folder, the mapped hnswlib index and the exact search that judges it."""

from index.build import build_hnsw
from index.catalogue import Catalogue, CatalogueInfo, Hit, Item, open_catalogue
from index.errors import (
    CatalogueExists,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    DimensionMismatch,
    EmptyCatalogue,
    IndexFault,
)
from index.exact import recall, search_exact
from index.reader import DEFAULT_EF, MappedIndex, Metric, Neighbours, open_index
from index.writer import CatalogueWriter, Entry, check_place, start_catalogue

__all__ = [
    "DEFAULT_EF",
    "Catalogue",
    "CatalogueExists",
    "CatalogueInfo",
    "CatalogueMismatch",
    "CatalogueNotFound",
    "CatalogueWriter",
    "DamagedIndex",
    "DimensionMismatch",
    "EmptyCatalogue",
    "Entry",
    "Hit",
    "IndexFault",
    "Item",
    "MappedIndex",
    "Metric",
    "Neighbours",
    "build_hnsw",
    "check_place",
    "open_catalogue",
    "open_index",
    "recall",
    "search_exact",
    "start_catalogue",
]
