"""Pictures into a catalogue: where they come from, and the pipeline that embeds and writes them."""

from ingest.add import add_sources
from ingest.embed import BuildReport
from ingest.live import LiveIngest, NewPicture
from ingest.pipeline import build_catalogue
from ingest.sources import SourceFile, SourceNotFound, Sources, SourceSamples, find_sources

__all__ = [
    "BuildReport",
    "LiveIngest",
    "NewPicture",
    "SourceFile",
    "SourceNotFound",
    "SourceSamples",
    "Sources",
    "add_sources",
    "build_catalogue",
    "find_sources",
]
