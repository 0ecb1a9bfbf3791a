"""Pictures into a catalogue: where they come from, and the pipeline that embeds and writes them."""

from ingest.pipeline import BuildReport, build_catalogue
from ingest.sources import SourceFile, SourceNotFound, Sources, SourceSamples, find_sources

__all__ = [
    "BuildReport",
    "SourceFile",
    "SourceNotFound",
    "SourceSamples",
    "Sources",
    "build_catalogue",
    "find_sources",
]
