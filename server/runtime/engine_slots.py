"""The engines of a process that runs the network: one, and while a catalogue changes its model, the next one besides.

A migration gives its extractor the slot that the one in use has not. So both answer, each by its own API of the Extractor
service, and no batch has pictures for both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from index import VectorIndexError, current_extractor, slot_of
from model import Engine, MapEngine, ModelError, TextEngine, open_map_engine, open_text_engine

LOOK_SECONDS = 1.0  # between looks at which extractor the catalogue has


class EngineSlots:
    """The engines of the catalogue in ``folder``, by slot; ``first`` is that of the extractor it had at the start.

    ``threads`` are those that a feature map is computed with.
    """

    def __init__(
        self,
        folder: Path,
        open_engine: Callable[[Path], Engine],
        first: Future[tuple[str, Engine]],
        threads: int | None = None,
    ) -> None:
        self._folder = folder
        self._open_engine = open_engine
        self._engines: dict[int, tuple[str, Engine]] = {}
        self._maps: dict[tuple[str, int], MapEngine] = {}
        self._texts: tuple[str, TextEngine] | None = None
        self._threads = threads
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        name, engine = first.result()
        self._engines[slot_of(name)] = name, engine

    def get(self, slot: int) -> Engine:
        """Return the engine of a slot, that of the catalogue's extractor where this is its slot.

        Raises ModelError when it cannot be opened, KeyError when the slot has none.
        """
        if slot not in self._engines or time.monotonic() - self._looked > LOOK_SECONDS:
            self.prepare()
        return self._engines[slot][1]

    def get_map(self, slot: int, scale: int) -> MapEngine:
        """Return what computes feature maps by the extractor of a slot, opened when it is first asked for.

        Raises MapUnavailable, ModelError or KeyError.
        """
        card = self.get(slot).card
        with self._lock:
            name = self._engines[slot][0]
            if (name, scale) not in self._maps:
                self._maps = {kept: one for kept, one in self._maps.items() if kept[0] == name}
                self._maps[name, scale] = open_map_engine(self._folder / name, card, self._threads, scale)
            return self._maps[name, scale]

    def get_texts(self, slot: int) -> TextEngine:
        """Return what embeds texts by the extractor of a slot, opened when it is first asked for.

        Raises ModelError or KeyError.
        """
        card = self.get(slot).card
        with self._lock:
            name = self._engines[slot][0]
            if self._texts is None or self._texts[0] != name:
                self._texts = name, open_text_engine(self._folder / name, card, self._threads)
            return self._texts[1]

    def prepare(self) -> None:
        """Open the engine of the extractor that the catalogue has now, unless it is open. Raises ModelError."""
        with self._lock:
            self._looked = time.monotonic()
            try:
                name = current_extractor(self._folder)
            except (VectorIndexError, OSError):
                return  # the HTTP service tells what is wrong with it
            if self._engines.get(slot_of(name), ("", None))[0] != name:
                self._engines[slot_of(name)] = name, self._open_engine(self._folder / name)


def open_current(folder: Path, open_engine: Callable[[Path], Engine]) -> tuple[str, Engine]:
    """Open the engine of the extractor that the catalogue has. Raises ModelError."""
    try:
        name = current_extractor(folder)
    except VectorIndexError as error:
        raise ModelError(str(error)) from None
    return name, open_engine(folder / name)
