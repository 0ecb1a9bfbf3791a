"""Vectors in, neighbours out: the catalogue folder, the mapped hnswlib index and the exact search that judges it."""

from index.build import build_hnsw
from index.catalogue import Catalogue, CatalogueInfo, Hit, Item, open_catalogue
from index.codes import build_codes
from index.errors import (
    CatalogueExists,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    DimensionMismatch,
    EmptyCatalogue,
    IndexFault,
    WrongFilter,
)
from index.exact import recall, search_exact
from index.hnsw_file import Metric, open_hnsw_file
from index.loading import load_kernel_later
from index.planner import Allowed, allow_rows
from index.reader import DEFAULT_EF, MappedIndex, Neighbours, open_index
from index.verify import verify_catalogue
from index.warm import warm_every_kernel, warm_kernels
from index.where import parse_filter, refuse_repeats
from index.writer import CatalogueWriter, Entry, check_place, start_catalogue

__all__ = [
    "DEFAULT_EF",
    "Allowed",
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
    "WrongFilter",
    "allow_rows",
    "build_codes",
    "build_hnsw",
    "check_place",
    "load_kernel_later",
    "open_catalogue",
    "open_hnsw_file",
    "open_index",
    "parse_filter",
    "recall",
    "refuse_repeats",
    "search_exact",
    "start_catalogue",
    "verify_catalogue",
    "warm_every_kernel",
    "warm_kernels",
]
