"""The command line: one verb a file, and what they share."""

from commands.backup import backup, restore
from commands.build import build
from commands.compact import compact, rollback
from commands.compare_images import compare_images
from commands.duplicates import duplicates
from commands.inspect import info, verify
from commands.items import add, remove, update
from commands.migrate import migrate
from commands.pack import pack
from commands.search import search
from commands.serve import serve

__all__ = [
    "add",
    "backup",
    "build",
    "compact",
    "compare_images",
    "duplicates",
    "info",
    "migrate",
    "pack",
    "remove",
    "restore",
    "rollback",
    "search",
    "serve",
    "update",
    "verify",
]
