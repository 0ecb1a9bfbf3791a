"""Vectors in, neighbours out: the catalogue folder, the mapped hnswlib index and the exact search that judges it."""

from index.catalogue.reader import Catalogue, CatalogueInfo, Hit, Item, open_catalogue
from index.catalogue.verify import verify_catalogue
from index.catalogue.writer import CatalogueWriter, Entry, check_place, start_catalogue
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
from index.filters import parse_filter, refuse_repeats
from index.hnsw.build import build_hnsw
from index.hnsw.codes import build_codes
from index.hnsw.file import Metric, open_hnsw_file
from index.hnsw.kernel.loader import load_kernel_later
from index.hnsw.mapped_index import DEFAULT_EF, MappedIndex, Neighbours, open_index
from index.hnsw.planner import Allowed, allow_rows
from index.hnsw.warmup import warm_every_kernel, warm_kernels

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
