"""A column: one metadata field of all rows, as codes into the sorted distinct values of the field.

Codes stand in the order of their values: 0 is a missing value, then the KINDS that have no value of their own, then numbers
in ascending order, then texts by code point. So every comparison is a range of codes, whatever the type of a value, and a
filter compares small integers.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Kind = Literal["null", "false", "true", "number", "text"]
MISSING = 0
KINDS = {"null": 1, "false": 2, "true": 3, "list": 4, "object": 5}
FIRST = 6  # the code of the first number, or of the first text where there is none


class Scalar(NamedTuple):
    """A JSON value that is neither a list nor an object; ``value`` is that of a number or a text, in NFC."""

    kind: Kind
    value: Any = 0  # str, int or float


class Codes(NamedTuple):
    """Codes of a column: from ``first`` up to, not including, ``end``, or else those in ``flags``, bool [codes]."""

    first: int
    end: int
    flags: NDArray[np.bool_] | None = None


NONE = Codes(0, 0)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in order: their UTF-8 one after the other, uint8, and where each begins and the last ends, int64 [n + 1]."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, place: int) -> bytes:
        return self.data[self.starts[place] : self.starts[place + 1]].tobytes()

    def place(self, text: str) -> tuple[int, int]:
        """Return where a text's equals begin and end; the same place where there is none."""
        wanted = text.encode()
        first = bisect_left(range(len(self)), wanted, key=self.__getitem__)
        return first, first + int(first < len(self) and self[first] == wanted)

    def beginning_with(self, text: str) -> tuple[int, int]:
        """Return where the texts that begin with a text begin and end."""
        wanted = text.encode()
        first = bisect_left(range(len(self)), wanted, key=self.__getitem__)
        end = bisect_right(range(first, len(self)), wanted, key=lambda place: self[place][: len(wanted)])
        return first, first + end

    def containing(self, text: str) -> NDArray[np.int64]:
        """Return the places of the texts that have a text in them, int64 [n] in order."""
        wanted = np.frombuffer(text.encode(), np.uint8)
        if not len(wanted):
            return np.arange(len(self))
        if len(self.data) < len(wanted):
            return np.empty(0, np.int64)
        spots = np.flatnonzero(self.data[: len(self.data) - len(wanted) + 1] == wanted[0])
        for n, byte in enumerate(wanted[1:], 1):
            spots = spots[self.data[spots + n] == byte]
        places = np.searchsorted(self.starts, spots, "right") - 1
        return np.unique(places[spots + len(wanted) <= self.starts[places + 1]])


@dataclass(frozen=True, slots=True)
class Values:
    """The distinct values of a column. ``numbers``: int64 or float64 [n], ascending; ``instants``: seconds since 1970 of
    each text, float64 [texts], NaN where it is no date, or None where none is."""

    numbers: NDArray[np.int64] | NDArray[np.float64]
    texts: Texts
    instants: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Return how many codes there are, those of missing values and kinds included."""
        return self._first_text + len(self.texts)

    @property
    def _first_text(self) -> int:
        return FIRST + len(self.numbers)

    def scalar(self, code: int) -> Any:
        """Return the value of a number's or a text's code, or of true, false and null, as JSON has it."""
        if code >= self._first_text:
            return self.texts[code - self._first_text].decode()
        if code >= FIRST:
            return self.numbers[code - FIRST].item()
        return {1: None, 2: False, 3: True}[code]

    def there(self) -> Codes:
        """Return the codes of whatever is not missing."""
        return Codes(1, len(self))

    def kind(self, code: int) -> str:
        """Return which kind of value a code stands for."""
        names = {value: name for name, value in KINDS.items()}
        return names.get(code) or ("number" if code < self._first_text else "text")

    def equal(self, scalar: Scalar) -> Codes:
        """Return the code of a value."""
        if scalar.kind == "text":
            first, end = self.texts.place(str(scalar.value))
            return Codes(self._first_text + first, self._first_text + end)
        if scalar.kind == "number":
            first, end = (self._number_place(scalar.value, side) for side in ("left", "right"))
            return Codes(FIRST + first, FIRST + end)
        return Codes(KINDS[scalar.kind], KINDS[scalar.kind] + 1)

    def any_of(self, scalars: Iterable[Scalar]) -> Codes:
        """Return the codes of several values."""
        some = list(scalars)
        if len(some) == 1:
            return self.equal(some[0])
        wanted = [one.value for one in some if one.kind == "number"]
        if self.numbers.dtype == np.int64:
            wanted = [int(one) for one in wanted if -(2**63) <= one < 2**63 and one == math.floor(one)]
        numbers = np.flatnonzero(np.isin(self.numbers, np.array(wanted, self.numbers.dtype)))
        others = [self.equal(one) for one in some if one.kind != "number"]
        return self._flagged(
            np.array([*(FIRST + numbers), *(one.first for one in others if one.first < one.end)], np.int64)
        )

    def compare(self, operator: str, scalar: Scalar) -> Codes:
        """Return the codes of the values of the same kind that are ``>``, ``>=``, ``<`` or ``<=`` a number or a text."""
        if scalar.kind == "text":
            at, (first, end), (before, after) = (
                self._first_text,
                (0, len(self.texts)),
                self.texts.place(str(scalar.value)),
            )
        else:
            at, (first, end) = FIRST, (0, len(self.numbers))
            before, after = (self._number_place(scalar.value, side) for side in ("left", "right"))
        if operator.startswith(">"):
            first = before if operator == ">=" else after
        else:
            end = after if operator == "<=" else before
        return Codes(at + first, at + end)

    def beginning_with(self, text: str) -> Codes:
        """Return the codes of the texts that begin with a text."""
        first, end = self.texts.beginning_with(text)
        return Codes(self._first_text + first, self._first_text + end)

    def containing(self, text: str) -> Codes:
        """Return the codes of the texts that have a text in them."""
        return self._flagged(self._first_text + self.texts.containing(text))

    def during(self, first: float, end: float) -> Codes:
        """Return the codes of the dates from ``first`` up to, not including, ``end``, in seconds since 1970."""
        if self.instants is None:
            return NONE
        within = (self.instants >= first) & (self.instants < end)
        return self._flagged(self._first_text + np.flatnonzero(within))

    def as_numbers(self) -> NDArray[np.float64]:
        """Return the number of each code, float64 [codes], NaN where it is none."""
        found = np.full(len(self), np.nan)
        found[FIRST : self._first_text] = self.numbers
        return found

    def _flagged(self, codes: NDArray[np.int64]) -> Codes:
        flags = np.zeros(len(self), bool)
        flags[codes] = True
        return Codes(0, len(self), flags)

    def _number_place(self, value: Any, side: Literal["left", "right"]) -> int:
        if self.numbers.dtype == np.int64:
            if value != math.floor(value):
                value, side = math.floor(value), "right"
            if not -(2**63) <= value < 2**63:
                return 0 if value < 0 else len(self.numbers)
            value = int(value)
        return int(np.searchsorted(self.numbers, value, side))


@dataclass(frozen=True, slots=True)
class Column:
    """One field of ``count`` rows: ``codes``, uint8, uint16 or uint32, one for each row, or one for each of ``rows``, uint32.

    The elements of lists are a column too, in which a row may be several times.
    """

    values: Values
    codes: NDArray[Any]
    rows: NDArray[np.uint32] | None
    count: int

    def equals(self, other: Column) -> bool:
        """Return whether another column has the same values in the same rows."""
        mine, its = self.values, other.values
        pairs = (
            (self.codes, other.codes),
            (self.rows, other.rows),
            (mine.numbers, its.numbers),
            (mine.texts.data, its.texts.data),
            (mine.texts.starts, its.texts.starts),
        )
        return all(
            (one is None) == (two is None) and (one is None or two is None or np.array_equal(one, two))
            for one, two in pairs
        )

    def mask(self, wanted: Codes) -> NDArray[np.bool_]:
        """Return which rows have one of some codes, bool [count]."""
        if wanted.flags is not None:
            found = wanted.flags[self.codes]
        elif wanted.end - wanted.first == 1:
            found = self.codes == wanted.first
        elif wanted.end <= wanted.first:
            return np.zeros(self.count, bool)
        else:
            found = self.codes >= wanted.first
            if wanted.end < len(self.values):
                found &= self.codes < wanted.end
        if self.rows is None:
            return found
        spread = np.zeros(self.count, bool)
        spread[self.rows[found]] = True
        return spread

    def numbers(self) -> NDArray[np.float64]:
        """Return the number in each row, float64 [count], NaN where there is none."""
        found = self.values.as_numbers()[self.codes]
        if self.rows is None:
            return found
        spread = np.full(self.count, np.nan)
        spread[self.rows] = found
        return spread


class Table(Protocol):
    """The columns of ``count`` rows, by the names on the way to a field."""

    @property
    def count(self) -> int:
        """How many rows there are."""
        ...

    def column(self, path: Sequence[str]) -> Column | None:
        """Return the column of a field, or None where no row has it."""
        ...

    def elements(self, path: Sequence[str]) -> Column | None:
        """Return the column of the elements of a field's lists, or None where no row has any."""
        ...
