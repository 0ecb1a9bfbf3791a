"""What filters compare with: scalars, periods of time and places, checked."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.columns.column import Column, Scalar
from index.errors import InvalidFilter

EARTH = 6371.0088  # kilometres, the mean radius of the IUGG
DEGREE = math.pi / 180
KM_OF_DEGREE = EARTH * DEGREE  # of latitude
HALF = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?)?")
PERIOD = 'a period such as "2024-05", "2024-05-01" or "2024-05-01/2024-06-15"'


def as_scalar(value: Any, place: str) -> Scalar:
    """Return a value with its kind. Raises InvalidFilter for a list, an object, or a number that is none."""
    if value is None or isinstance(value, bool):
        return Scalar("null" if value is None else "true" if value else "false")
    if isinstance(value, str):
        return Scalar("text", as_text(value, place))
    if isinstance(value, int | float):
        return Scalar("number", as_number(value, place))
    raise InvalidFilter(f"{place}: give a text, a number, true, false or null, not {named(value)}")


def as_number(value: Any, place: str) -> int | float:
    """Return a number as columns hold it. Raises InvalidFilter for one that is too large, or is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidFilter(f"{place}: give a number, not {named(value)}")
    try:
        if isinstance(value, float) or not -(2**63) <= value < 2**63:
            value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InvalidFilter(f"{place}: the number is too large, or is none")
    return value


def as_text(value: str, place: str) -> str:
    """Return a text in NFC, as the catalogue has its texts. Raises InvalidFilter for what no catalogue can hold."""
    if "\0" in value:
        raise InvalidFilter(f"{place}: a text cannot hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        place = place.encode("utf-8", "backslashreplace").decode()
        raise InvalidFilter(f"{place}: half a surrogate pair is no text") from None
    return unicodedata.normalize("NFC", value)


def as_period(value: Any, place: str) -> tuple[float, float]:
    """Return where an ISO 8601 period begins and ends, in seconds since 1970. Raises InvalidFilter."""
    if not isinstance(value, str):
        raise InvalidFilter(f"{place}: give {PERIOD}, not {named(value)}")
    first, slash, last = value.partition("/")
    try:
        begin, end = _moments(first)
        if slash:
            end = _moments(last)[1]
    except (ValueError, OverflowError):
        raise InvalidFilter(f"{place}: {as_text(value, place)[:60]!r} is not {PERIOD}") from None
    if end <= begin:
        raise InvalidFilter(f"{place}: the period ends before it begins")
    return begin, end


def _moments(text: str) -> tuple[float, float]:
    """Return where a year, a month, a day, a minute, a second or a moment begins and ends."""
    found = HALF.fullmatch(text)
    if not found:
        raise ValueError("no date")
    year, month, day, hour, _, second, fraction, _ = found.groups()
    if hour is None:
        begin = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        if day:
            end = begin + timedelta(days=1)
        else:
            years, months = (1, 0) if not month else divmod(int(month), 12)
            end = begin.replace(year=begin.year + years, month=months + 1)
        return begin.timestamp(), end.timestamp()
    moment = datetime.fromisoformat(text)
    begin = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    length = timedelta(microseconds=1) if fraction else timedelta(seconds=1) if second else timedelta(minutes=1)
    return begin.timestamp(), (begin + length).timestamp()


@dataclass(frozen=True, slots=True)
class Near:
    """The places within ``km`` kilometres of one, in degrees of WGS 84."""

    latitude: float
    longitude: float
    km: float

    def rows(self, latitude: Column | None, longitude: Column | None, count: int) -> NDArray[np.bool_]:
        """Return which rows are within, bool [count], by the great circle (haversine formula)."""
        found = np.zeros(count, bool)
        if latitude is None or longitude is None:
            return found
        # Most are ruled out by their latitude, a range of codes.
        within = self.km / KM_OF_DEGREE * 1.001 + 1e-6
        low, high = Scalar("number", self.latitude - within), Scalar("number", self.latitude + within)
        known = latitude.values
        rows = np.flatnonzero(latitude.mask(known.compare(">=", low)) & latitude.mask(known.compare("<=", high)))
        if not len(rows):
            return found
        at, across = latitude.numbers()[rows] * DEGREE, longitude.numbers()[rows] * DEGREE
        with np.errstate(invalid="ignore"):
            half = np.square(np.sin((at - self.latitude * DEGREE) / 2))
            half += (
                np.cos(at)
                * math.cos(self.latitude * DEGREE)
                * np.square(np.sin((across - self.longitude * DEGREE) / 2))
            )
            found[rows] = 2 * EARTH * np.arcsin(np.sqrt(np.minimum(half, 1))) <= self.km
        return found


def as_near(value: Any, place: str) -> Near:
    """Return a place and a distance. Raises InvalidFilter."""
    names = ("latitude", "longitude", "km")
    if not isinstance(value, dict) or set(value) != set(names):
        raise InvalidFilter(f'{place}: give an object such as {{"latitude": 52.5, "longitude": 13.4, "km": 10}}')
    near = Near(*(float(as_number(value[name], f"{place}.{name}")) for name in names))
    if not (abs(near.latitude) <= 90 and abs(near.longitude) <= 180 and near.km >= 0):
        raise InvalidFilter(f"{place}: latitude is from -90 to 90, longitude from -180 to 180, km 0 or more")
    return near


def named(value: object) -> str:
    """Return what to call a value in a sentence."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
