"""Pictures into a catalogue: where they come from, and the pipeline that embeds and writes them."""

from ingest.add import add_sources
from ingest.embed import BuildReport
from ingest.live import LiveIngest, NewPicture
from ingest.migrate import CatalogueSamples, MigrationReport, UnreadablePictures, go_back, migrate_catalogue
from ingest.pipeline import build_catalogue
from ingest.sources.find import STDIN, find_sources
from ingest.sources.records import SourceFile, SourceNotFound, Sources
from ingest.sources.rows import TableFormat
from ingest.sources.samples import SourceSamples
from ingest.sources.stores import is_url

__all__ = [
    "STDIN",
    "BuildReport",
    "CatalogueSamples",
    "LiveIngest",
    "MigrationReport",
    "NewPicture",
    "SourceFile",
    "SourceNotFound",
    "SourceSamples",
    "Sources",
    "TableFormat",
    "UnreadablePictures",
    "add_sources",
    "build_catalogue",
    "find_sources",
    "go_back",
    "is_url",
    "migrate_catalogue",
]
