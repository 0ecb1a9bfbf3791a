"""Texts as vectors: by the model's own text network, where it has one, else by the words of its classifier."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import Snapshot
from model import (
    ExtractorCard,
    TextEngine,
    UnknownWords,
    WordsUnavailable,
    open_text_engine,
    read_text_card,
    read_vocabulary,
)
from search.words import WordSearch

KEPT = 1024  # texts whose vectors are kept
Vector = NDArray[np.float32]


class TextEmbedder(Protocol):
    """Embeds texts next to pictures: in this process, or in another."""

    async def embed_texts(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of texts, float32 [n, dim], of unit length. Raises EmbedderUnavailable."""
        ...


class LocalTexts:
    """Embeds texts in this process, on a thread, by the extractor in ``folder``."""

    def __init__(self, folder: Path, card: ExtractorCard, threads: int | None) -> None:
        @functools.cache
        def open_once() -> TextEngine:
            return open_text_engine(folder, card, threads)

        self._open = open_once

    async def embed_texts(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of texts, float32 [n, dim]. Raises DamagedExtractor, FidelityError."""
        return await asyncio.to_thread(lambda: self._open().embed(texts))


class TextSearch:
    """Makes the vectors that texts are searched by; ``embedder`` is for an extractor in ``folder`` with a text network.

    Raises DamagedExtractor when what it has of texts cannot be read.
    """

    def __init__(self, folder: Path, card: ExtractorCard, embedder: TextEmbedder | None) -> None:
        self._card = card
        self._embedder = embedder if read_text_card(folder, card.dim) else None
        self._words = WordSearch(read_vocabulary(folder, card.dim), card.model)
        self._kept: OrderedDict[str, Vector] = OrderedDict()

    async def vectors(self, texts: Sequence[str], snapshot: Snapshot) -> list[Vector | Exception]:
        """Return the vector of each text, float32 [dim], or UnknownWords or WordsUnavailable in its place.

        Raises EmbedderUnavailable.
        """
        if self._embedder is None:
            return await asyncio.to_thread(lambda: [self._by_words(text, snapshot) for text in texts])
        if snapshot.metric != "cosine":
            return [WordsUnavailable(f"a catalogue of the metric {snapshot.metric} cannot be searched by words")] * len(
                texts
            )
        fresh = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = dict(zip(fresh, await self._embedder.embed_texts(fresh), strict=True)) if fresh else {}
        vectors = [found[text] if text in found else self._kept[text] for text in texts]
        for text, vector in zip(texts, vectors, strict=True):
            self._kept[text] = vector
            self._kept.move_to_end(text)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return list(vectors)

    def _by_words(self, text: str, snapshot: Snapshot) -> Vector | Exception:
        try:
            return self._words.vector(text, snapshot)
        except (UnknownWords, WordsUnavailable) as error:
            return error
