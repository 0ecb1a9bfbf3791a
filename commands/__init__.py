"""The command line: one verb a file, and what they share."""

from commands.build import build
from commands.inspect import info, verify
from commands.pack import pack
from commands.search import search
from commands.serve import serve

__all__ = ["build", "info", "pack", "search", "serve", "verify"]
