"""Build an index file with hnswlib and put it on disk so that it is either whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.mapped_file import forget_pages
from index.metrics import Metric

M = 16  # links for each element; 16 to 32 is what hnswlib's own guide gives for image features
EF_CONSTRUCTION = 200


def build_hnsw(
    path: Path,
    chunks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    count: int,
    dim: int,
    metric: Metric,
    *,
    m: int = M,
    ef_construction: int = EF_CONSTRUCTION,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Index ``count`` vectors, given as chunks of labels int64 [n] and vectors float32 [n, dim].

    Written next to ``path``, flushed and renamed. ``progress`` gets the size of each chunk once it is in. Raises
    OSError when the file cannot be opened; a full disk shows only when the file is read.
    """
    import hnswlib  # needed to build and not to serve: a served image goes without it and without a compiler

    index = hnswlib.Index(space=metric, dim=dim)
    index.init_index(max_elements=count, ef_construction=ef_construction, M=m)
    for labels, vectors in chunks:
        index.add_items(vectors, labels)
        progress(len(labels))
    unfinished = path.with_name(path.name + ".new")
    index.save_index(str(unfinished))
    with unfinished.open("rb+") as file:
        forget_pages(file)
    unfinished.replace(path)
