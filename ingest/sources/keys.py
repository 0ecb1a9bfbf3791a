"""The keys of items: made of paths, in one spelling, and each there once."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize


def as_key(name: str) -> str:
    """Return a name in NFC, which macOS does not write; what is not UTF-8, and control characters, are escaped."""
    text = normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
    return "".join(one if one >= " " else one.encode("unicode_escape").decode() for one in text)


def key_of(path: Path) -> str:
    """Return the key of what goes by a path."""
    return as_key(path.as_posix())


def new_key(name: str, keys: set[str]) -> str:
    """Return a key that no other file has: names that differ in their composition only are told apart by escapes."""
    plain, escaped = as_key(name), name.encode("ascii", "backslashreplace").decode()
    key = next(
        key
        for key in itertools.chain((plain, escaped), (f"{plain}~{n}" for n in itertools.count(2)))
        if key not in keys
    )
    keys.add(key)
    return key


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return for each path as many of its last parts as tell it from the others."""
    depths = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[1:][-depth:]) for path, depth in zip(paths, depths, strict=True)]
        same = {name for name, times in Counter(names).items() if times > 1}
        grown = [place for place, name in enumerate(names) if name in same and depths[place] < len(paths[place].parts)]
        if not grown:
            return names
        for place in grown:
            depths[place] += 1
