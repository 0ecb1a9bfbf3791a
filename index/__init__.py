"""Vectors in, neighbours out: the catalogue folder, the mapped hnswlib index and the exact search that judges it."""

from index.backend import DEFAULT_EF, Capability, Counts, IndexBackend, Neighbours
from index.catalogue.files import check_place
from index.catalogue.reader import Catalogue, CatalogueInfo, Hit, Item, open_catalogue
from index.catalogue.verify import verify_catalogue
from index.catalogue.writer import CatalogueWriter, Entry, start_catalogue
from index.errors import (
    CatalogueExists,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    DimensionMismatch,
    EmptyCatalogue,
    InvalidFilter,
    UnsupportedOperation,
    VectorIndexError,
)
from index.exact import ExactIndex, recall, search_exact
from index.filter_json import parse_filter, refuse_repeats
from index.filters import OPERATORS, Operator
from index.hnsw.build import build_hnsw
from index.hnsw.codes import build_codes
from index.hnsw.file import open_hnsw_file
from index.hnsw.mapped_index import MappedIndex, open_index
from index.hnsw.warmup import load_kernel_later, warm_every_kernel, warm_kernels
from index.metrics import METRICS, Metric, MetricSpec
from index.row_mask import Allowed, allow_rows

__all__ = [
    "DEFAULT_EF",
    "METRICS",
    "OPERATORS",
    "Allowed",
    "Capability",
    "Catalogue",
    "CatalogueExists",
    "CatalogueInfo",
    "CatalogueMismatch",
    "CatalogueNotFound",
    "CatalogueWriter",
    "Counts",
    "DamagedIndex",
    "DimensionMismatch",
    "EmptyCatalogue",
    "Entry",
    "ExactIndex",
    "Hit",
    "IndexBackend",
    "InvalidFilter",
    "Item",
    "MappedIndex",
    "Metric",
    "MetricSpec",
    "Neighbours",
    "Operator",
    "UnsupportedOperation",
    "VectorIndexError",
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
