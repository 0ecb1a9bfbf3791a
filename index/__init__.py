"""Vectors in, neighbours out: the catalogue folder, the mapped hnswlib index and the exact search that judges it."""

from index.backend import DEFAULT_EF, Capability, Counts, IndexBackend, Neighbours
from index.catalogue.backup import backup_catalogue, restore_catalogue
from index.catalogue.facets import Facet, count_facets, count_facets_of, count_values
from index.catalogue.files import check_place, hash_file, original_file
from index.catalogue.generation import CatalogueInfo, Generation, current_extractor, slot_of
from index.catalogue.jobs import Job, JobItem, JobQueue, JobTaken, NewJobItem, finish_items
from index.catalogue.live import Added, Also, Answer, LiveWriter, check_entry
from index.catalogue.merge import merge_catalogue, rollback_catalogue
from index.catalogue.migration import (
    Migration,
    Overlap,
    StoredItem,
    needs_other_extractor,
    read_stored_items,
    start_going_back,
    start_migration,
)
from index.catalogue.reader import Catalogue, Hit, Item, open_catalogue
from index.catalogue.regions import Box
from index.catalogue.rows import Entry, Signature
from index.catalogue.signatures import SignatureTable, hashes_of, near_hashes, write_match_model
from index.catalogue.snapshot import Selection, Snapshot
from index.catalogue.usage import CatalogueUsage, read_usage
from index.catalogue.verify import verify_catalogue
from index.catalogue.writer import CatalogueWriter, start_catalogue
from index.correlation import correlations
from index.errors import (
    AnsweredAlready,
    CatalogueBusy,
    CatalogueExists,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    DimensionMismatch,
    DiskFull,
    EmptyCatalogue,
    InvalidEntry,
    InvalidFilter,
    KeyReused,
    NothingToRollBack,
    UnsupportedOperation,
    VectorIndexError,
)
from index.exact import ExactIndex, recall, search_exact, unit_rows
from index.filter_json import parse_filter, refuse_repeats
from index.filters import OPERATORS, Operator
from index.hamming import hash_distances
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
    "Added",
    "Allowed",
    "Also",
    "Answer",
    "AnsweredAlready",
    "Box",
    "Capability",
    "Catalogue",
    "CatalogueBusy",
    "CatalogueExists",
    "CatalogueInfo",
    "CatalogueMismatch",
    "CatalogueNotFound",
    "CatalogueUsage",
    "CatalogueWriter",
    "Counts",
    "DamagedIndex",
    "DimensionMismatch",
    "DiskFull",
    "EmptyCatalogue",
    "Entry",
    "ExactIndex",
    "Facet",
    "Generation",
    "Hit",
    "IndexBackend",
    "InvalidEntry",
    "InvalidFilter",
    "Item",
    "Job",
    "JobItem",
    "JobQueue",
    "JobTaken",
    "KeyReused",
    "LiveWriter",
    "MappedIndex",
    "Metric",
    "MetricSpec",
    "Migration",
    "Neighbours",
    "NewJobItem",
    "NothingToRollBack",
    "Operator",
    "Overlap",
    "Selection",
    "Signature",
    "SignatureTable",
    "Snapshot",
    "StoredItem",
    "UnsupportedOperation",
    "VectorIndexError",
    "allow_rows",
    "backup_catalogue",
    "build_codes",
    "build_hnsw",
    "check_entry",
    "check_place",
    "correlations",
    "count_facets",
    "count_facets_of",
    "count_values",
    "current_extractor",
    "finish_items",
    "hash_distances",
    "hash_file",
    "hashes_of",
    "load_kernel_later",
    "merge_catalogue",
    "near_hashes",
    "needs_other_extractor",
    "open_catalogue",
    "open_hnsw_file",
    "open_index",
    "original_file",
    "parse_filter",
    "read_stored_items",
    "read_usage",
    "recall",
    "refuse_repeats",
    "restore_catalogue",
    "rollback_catalogue",
    "search_exact",
    "slot_of",
    "start_catalogue",
    "start_going_back",
    "start_migration",
    "unit_rows",
    "verify_catalogue",
    "warm_every_kernel",
    "warm_kernels",
    "write_match_model",
]
