"""Some of the sources' pictures, to measure an extractor on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import EmptyCatalogue
from ingest.sources.records import SourceFile, Sources
from model import ExtractorCard, ImageError, Limits, read_picture


@dataclass(frozen=True, slots=True)
class SourceSamples:
    """Pixels of some of the sources' pictures, spread over all of them, for an extractor to be measured on."""

    sources: Sources
    limits: Limits

    def __call__(self, card: ExtractorCard, count: int) -> NDArray[np.uint8]:
        """Return at most ``count`` pictures, uint8 [n, height, width, 3]. Raises EmptyCatalogue when no file can be read."""
        return read_samples(self.sources.files, card, count, self.limits)


def read_samples(files: Sequence[SourceFile], card: ExtractorCard, count: int, limits: Limits) -> NDArray[np.uint8]:
    """Return the pixels of at most ``count`` of the files, uint8 [n, height, width, 3]. Raises EmptyCatalogue for none."""
    found, reason = list[NDArray[np.uint8]](), ""
    # Every file once: first those a step apart, then the ones between, until enough could be read.
    step = max(1, len(files) // count)
    for file in (files[place] for first in range(step) for place in range(first, len(files), step)):
        try:
            picture = read_picture(file.content.read(limits)[0], limits, card.preprocessing.enough)
            found.append(card.preprocessing.to_pixels(picture.image))
        except (ImageError, OSError) as fault:
            reason = reason or f"{file.key}: {fault}"
        if len(found) == count:
            break
    if not found:
        raise EmptyCatalogue(f"none of {len(files)} files could be read; the first, {reason}")
    return np.stack(found)
