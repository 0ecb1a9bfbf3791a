"""How true an engine is to the reference: cosine and top-10 overlap at a build, golden pictures at every start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import GOLDEN_FILE, ExtractorCard, Fidelity, Precision
from model.engines.base import Engine, EngineName, open_engine
from model.errors import DamagedExtractor, FidelityError

TOP = 10
TIE = 1e-5  # similarities closer than this are as good as equal: float32 sums differ by as much
GOLDEN = 4
# How far golden pictures may be from where they were: another CPU rounds otherwise, and may lack bf16.
GOLDEN_COSINE: dict[Precision, float] = {"f32": 0.999, "bf16": 0.98, "int8": 0.95}


FLOORS: dict[Precision, Fidelity] = {
    "f32": Fidelity(0, mean=0.9999, minimum=0.9999, overlap=0.0),
    "bf16": Fidelity(0, mean=0.999, minimum=0.0, overlap=0.97),
    "int8": Fidelity(0, mean=0.98, minimum=0.0, overlap=0.93),
}


# What int8 has to reach to be taken without having been asked for, where a CPU computes in it thrice as fast as in float32.
UNASKED_INT8 = Fidelity(0, mean=0.995, minimum=0.98, overlap=0.97)


def shortfall(found: Fidelity, precision: Precision, floor: Fidelity | None = None) -> str | None:
    """Return what falls short of a precision's floor, or of another one, or None."""
    floor = floor or FLOORS[precision]
    for name in ("mean", "minimum", "overlap"):
        if not getattr(found, name) >= getattr(floor, name):  # also when it is not a number
            return f"{name} {getattr(found, name):.5f} is below {getattr(floor, name)}"
    return None


def compare(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> Fidelity:
    """Compare vectors, float32 [n, dim], with the reference's of the same pictures.

    Of two vectors 2·a·b / (|a|² + |b|²) is taken: their cosine where they have the same length, and less where not.
    """
    true, found = reference.astype(np.float64), vectors.astype(np.float64)
    cosines = 2 * (true * found).sum(axis=1) / ((true**2).sum(axis=1) + (found**2).sum(axis=1))
    return Fidelity(len(vectors), float(cosines.mean()), float(cosines.min()), _overlap(reference, vectors))


def _overlap(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    top = min(TOP, len(vectors) - 1)
    if top < 1:
        return 1.0
    lengths = (reference**2).sum(axis=1), (vectors**2).sum(axis=1)
    # Half the squared distance, negated, but for what is the same for a whole row: of unit vectors this is the cosine.
    true, found = reference @ reference.T - lengths[0] / 2, vectors @ vectors.T - lengths[1] / 2
    np.fill_diagonal(true, -np.inf)
    np.fill_diagonal(found, -np.inf)
    # Pictures that are alike to the last pixel may come in any order: what is as near as the tenth counts as found.
    tenth = np.partition(true, -top, axis=1)[:, [-top]]
    nearest = np.argpartition(found, -top, axis=1)[:, -top:]
    return float((np.take_along_axis(true, nearest, axis=1) >= tenth - TIE * lengths[0].mean()).mean())


def write_golden(folder: Path, pixels: NDArray[np.uint8], vectors: NDArray[np.float32]) -> None:
    """Keep a few pictures, uint8 [n, height, width, 3], with the reference's vectors of them, float32 [n, dim]."""
    np.savez_compressed(folder / GOLDEN_FILE, pixels=pixels, vectors=vectors)


def read_golden(folder: Path, card: ExtractorCard) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return golden pictures, uint8 [n, height, width, 3], and their vectors, float32 [n, dim]. Raises DamagedExtractor."""
    path = folder / GOLDEN_FILE
    try:
        with np.load(path, allow_pickle=False) as golden:
            pixels, vectors = golden["pixels"], golden["vectors"]
        wanted = (len(pixels), *card.preprocessing.size, 3)
        whole = len(pixels) > 0 and pixels.shape == wanted and pixels.dtype == np.uint8
        if not whole or vectors.shape != (len(pixels), card.dim):
            raise ValueError(f"pixels {pixels.shape} and vectors {vectors.shape} are not of this extractor")
    except Exception as error:  # what numpy and zipfile raise of damaged bytes has no end
        reason = str(error) if "not of this extractor" in str(error) else type(error).__name__
        raise DamagedExtractor(f"{path} cannot be read ({reason}); build the catalogue again") from None
    return pixels, vectors


def check_golden(engine: Engine, folder: Path) -> None:
    """Embed an extractor's golden pictures again. Raises FidelityError when they have drifted, or DamagedExtractor."""
    pixels, vectors = read_golden(folder, engine.card)
    found = compare(vectors, engine.embed(pixels))
    floor = GOLDEN_COSINE[engine.card.precision]
    if not found.minimum >= floor:
        raise FidelityError(
            f"the extractor no longer gives the vectors that its catalogue was built with: of {len(pixels)} golden pictures "
            f"one has cosine {found.minimum:.5f} to its own vector, below {floor}; restore {folder}, or build again"
        )


def open_verified_engine(folder: Path, name: EngineName = "openvino", threads: int | None = None) -> Engine:
    """Open an engine and have it embed the golden pictures, which also warms it. Raises as open_engine and check_golden."""
    engine = open_engine(folder, name, threads)
    check_golden(engine, folder)
    return engine
