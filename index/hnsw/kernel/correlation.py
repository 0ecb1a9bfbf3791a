"""How well one signature lies in another: normalised cross-correlation (Lewis, "Fast Normalized Cross-Correlation", 1995).

A signature is 32 × 32 grey levels of a whole picture. It is laid over the other turned by quarters and mirrored; and each is
reduced to a few edges and looked for everywhere in the other, mirrored or not, as a crop lies in its original and a picture
in one with a border. Reduced ones stand in rows of 32 with zeros after them, so that a product with a window is one loop.
"""

from __future__ import annotations

import math

import numpy as np

from index.hnsw.kernel.jit import compiled, inner

SIDE = 32
PIXELS = SIDE * SIDE
EDGES = (29, 26, 23, 20, 18, 16)
STEP = 2  # from one place that is looked at to the next
FLAT = 3.0  # grey levels: what varies less than this correlates with nothing
# Where in a signature's floats its pixels of unit length and its templates begin; a window may reach beyond the last row.
IMAGE, WHOLE = PIXELS + SIDE, 2 * PIXELS + SIDE
FLOATS = WHOLE + len(EDGES) * PIXELS
STRETCHED = 2 * (SIDE + 1) * (SIDE + 1)  # where the table of sums stands at the columns of what is reduced
SUMS = 3 * (SIDE + 1) * (SIDE + 1)  # float64: of all pixels above and left of a place, of their squares, and those
_EDGES = np.array(EDGES, np.int64)
_SUM = {"reassoc", "contract"}


@inner()
def _prepare(luma, floats, sums):  # type: ignore[no-untyped-def]
    """Lay out what a signature is compared by: its pixels, these of unit length, it reduced, and its summed-area tables."""
    total = 0.0
    for i in range(PIXELS):
        total += luma[i]
    mean = total / PIXELS
    squares = 0.0
    for i in range(PIXELS):
        value = luma[i] - mean
        squares += value * value
        floats[i] = value
    length = max(math.sqrt(squares), FLAT * SIDE)
    for i in range(PIXELS):
        floats[IMAGE + i] = (luma[i] - mean) / length
    _sum_areas(floats, sums)
    for place in range(len(EDGES)):
        _reduce(floats, sums, _EDGES[place], WHOLE + place * PIXELS)


@inner()
def _sum_areas(floats, sums):  # type: ignore[no-untyped-def]
    width = SIDE + 1
    for row in range(SIDE):
        line = squares = 0.0
        for column in range(SIDE):
            value = floats[row * SIDE + column]
            line += value
            squares += value * value
            at = (row + 1) * width + column + 1
            sums[at] = sums[at - width] + line
            sums[at + width * width] = sums[at + width * width - width] + squares


@inner()
def _reduce(floats, sums, edge, start):  # type: ignore[no-untyped-def]
    """Write a signature reduced to an edge, of unit length about its mean, in rows of SIDE.

    Each of its pixels is a box of the signature, whose corners lie between pixels: tables of sums are linear there.
    """
    width, step = SIDE + 1, SIDE / edge
    for column in range(edge + 1):
        left = min(int(column * step), SIDE - 1)
        across = column * step - left
        for row in range(width):
            at = row * width + left
            sums[STRETCHED + row * width + column] = sums[at] * (1 - across) + sums[at + 1] * across
    total = squares = 0.0
    for row in range(edge):
        top, bottom = min(int(row * step), SIDE - 1), min(int((row + 1) * step), SIDE - 1)
        along, further = row * step - top, (row + 1) * step - bottom
        upper, lower = STRETCHED + top * width, STRETCHED + bottom * width
        before = 0.0
        for column in range(1, edge + 1):
            above = sums[upper + column] * (1 - along) + sums[upper + width + column] * along
            below = sums[lower + column] * (1 - further) + sums[lower + width + column] * further
            value = below - above - before
            before = below - above
            floats[start + row * SIDE + column - 1] = value
            total += value
            squares += value * value
    mean = total / (edge * edge)
    length = math.sqrt(max(squares - total * mean, 1e-12))
    for row in range(edge):
        for column in range(edge):
            at = start + row * SIDE + column
            floats[at] = (floats[at] - mean) / length
        for column in range(edge, SIDE):
            floats[start + row * SIDE + column] = 0


@inner(fastmath=_SUM)
def _dot(template, start, edge, image, at):  # type: ignore[no-untyped-def]
    """Return the inner product of a template of ``edge`` rows and an image from a place on."""
    one, other = template[start : start + edge * SIDE], image[at : at + edge * SIDE]
    total = np.float32(0)
    for i in range(one.shape[0]):
        total += one[i] * other[i]
    return total


@inner()
def _at(template, start, edge, image, sums, top, left):  # type: ignore[no-untyped-def]
    """Return the correlation of a template with the window at a place."""
    width = SIDE + 1
    at = top * width + left
    end = at + edge * width
    total = sums[end + edge] - sums[end] - sums[at + edge] + sums[at]
    at, end = at + width * width, end + width * width
    squares = sums[end + edge] - sums[end] - sums[at + edge] + sums[at]
    deviation = math.sqrt(max(squares - total * total / (edge * edge), (FLAT * edge) * (FLAT * edge)))
    return _dot(template, start, edge, image, top * SIDE + left) / deviation


@inner()
def _best_in(template, image, sums):  # type: ignore[no-untyped-def]
    """Return the best correlation of a signature's reduced forms with a window of the other's pixels.

    Of each edge every second place is looked at, and then those around the best.
    """
    best = -1.0
    for place in range(len(EDGES)):
        edge, start, here, row, column = _EDGES[place], WHOLE + place * PIXELS, -1.0, 0, 0
        last = SIDE - edge
        for top in range(0, last + 1, STEP):
            for left in range(0, last + 1, STEP):
                found = _at(template, start, edge, image, sums, top, left)
                if found > here:
                    here, row, column = found, top, left
        for top in range(max(0, row - 1), min(last, row + 1) + 1):
            for left in range(max(0, column - 1), min(last, column + 1) + 1):
                here = max(here, _at(template, start, edge, image, sums, top, left))
        best = max(best, here)
    return best


@inner()
def _best_turned(own, other):  # type: ignore[no-untyped-def]
    """Return the best correlation of two whole signatures, one turned by quarters and mirrored."""
    best = -1.0
    for turn in range(8):
        total = np.float32(0)
        for row in range(SIDE):
            for column in range(SIDE):
                i, j = (column, row) if turn & 4 else (row, column)
                i = SIDE - 1 - i if turn & 1 else i
                j = SIDE - 1 - j if turn & 2 else j
                total += own[IMAGE + i * SIDE + j] * other[IMAGE + row * SIDE + column]
        best = max(best, float(total))
    return best


@inner()
def _equal(one, other):  # type: ignore[no-untyped-def]
    differing = np.uint8(0)
    for i in range(PIXELS):
        differing |= one[i] ^ other[i]
    return differing == 0


@inner()
def _mirror(luma, mirrored):  # type: ignore[no-untyped-def]
    for row in range(SIDE):
        for column in range(SIDE):
            mirrored[row * SIDE + column] = luma[row * SIDE + SIDE - 1 - column]


@compiled
def correlate(lumas, others, floats, sums, mirrored, found):  # type: ignore[no-untyped-def]
    """Fill ``found``, float64 [n], with how well ``lumas`` and ``others``, uint8 [n, 1024], lie in each other, pair by pair.

    Scratch: ``floats`` float32 [3, FLOATS], ``sums`` float64 [3, SUMS], both zeros, and ``mirrored`` uint8 [1024].
    """
    for n in range(others.shape[0]):
        if n == 0 or not _equal(lumas[n], lumas[n - 1]):  # pairs of one picture mostly follow each other
            _prepare(lumas[n], floats[0], sums[0])
            _mirror(lumas[n], mirrored)
            _prepare(mirrored, floats[1], sums[1])
        _prepare(others[n], floats[2], sums[2])
        best = _best_turned(floats[0], floats[2])
        for own in range(2):
            best = max(best, _best_in(floats[own], floats[2], sums[2]))
            best = max(best, _best_in(floats[2], floats[own], sums[own]))
        found[n] = best
