"""Groups of duplicates: each is a picture to keep and those that are its duplicates, of whatever kind.

Every member is a duplicate of the one that is kept, and not only of another member: what is removed has its like in what
stays. Pictures with equal pixels count as one. The best picture of all leads the first group, and takes every picture that is
its duplicate; the best of the others leads the next.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from copies.compare import ALIKE_FLOOR
from copies.keep import PathRules, Picture, rank, reason_to_keep, rules
from copies.pairs import Pairs

Kind = Literal["identical", "same_pixels", "altered_copy", "same_moment", "alike"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SURE: tuple[Kind, ...] = ("identical", "same_pixels", "altered_copy")
MOMENT_SECONDS = 10.0
LEAST_MATCH = 0.9
ALIKE = 0.9  # the cosine from which pictures are alike


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pictures count as duplicates.

    ``kinds`` of them; copies of a ``match`` that is at least so large, pictures captured ``within`` so many seconds that are
    alike by ALIKE_FLOOR, and pictures whose cosine is at least ``alike``. ``paths``: rules for which to keep.
    """

    kinds: tuple[Kind, ...] = SURE
    match: float = LEAST_MATCH
    within: float = MOMENT_SECONDS
    alike: float = ALIKE
    paths: PathRules = field(default_factory=PathRules)

    def least(self) -> tuple[float, float]:
        """Return the match from which a pair may be wanted, and the cosine from which it may, whatever its match."""
        alike = [floor for kind, floor in (("same_moment", ALIKE_FLOOR), ("alike", self.alike)) if kind in self.kinds]
        return self.match, min(alike, default=math.inf)


@dataclass(frozen=True, slots=True)
class Relation:
    """What a picture is to another: the surest kind of duplicate, the cosine of their embeddings, and their match."""

    kind: Kind
    cosine: float
    match: float


@dataclass(frozen=True, slots=True)
class Member:
    """A picture of a group, and what it is to the one that is kept."""

    picture: Picture
    relation: Relation


@dataclass(frozen=True, slots=True)
class Group:
    """A picture to keep, the reason, and its duplicates, the surest first."""

    keep: Picture
    reason: str
    members: tuple[Member, ...]

    @property
    def kind(self) -> Kind:
        """The least sure kind of its members."""
        return max((one.relation.kind for one in self.members), key=KINDS.index)


EQUAL = Relation("identical", 1.0, 1.0)


def group_duplicates(pictures: Sequence[Picture], pairs: Pairs, wanted: Wanted) -> list[Group]:
    """Group pictures that are duplicates of each other, by pairs of them; the largest groups come first."""
    order = rules(wanted.paths)
    by_id = {one.id: one for one in pictures}
    ranked = sorted(pictures, key=lambda one: rank(one, order), reverse=True)
    related = _relations(by_id, pairs, wanted)
    twins = _twins(pictures, wanted)
    taken: set[int] = set()
    groups = []
    for lead in ranked:
        if lead.id in taken:
            continue
        found: dict[int, Relation] = {}
        for own in twins[lead.id]:
            for other, relation in related[own].items():
                for twin in twins[other]:
                    found[twin] = _surer(found.get(twin), relation)
        for twin in twins[lead.id]:
            found[twin] = _equality(lead, by_id[twin])
        members = [
            Member(by_id[one], relation) for one, relation in found.items() if one != lead.id and one not in taken
        ]
        if members:
            members.sort(key=_surest_first)
            taken |= {lead.id, *(one.picture.id for one in members)}
            groups.append(Group(lead, reason_to_keep(lead, [one.picture for one in members], order), tuple(members)))
    return sorted(groups, key=lambda one: (-len(one.members), one.keep.id))


def _surest_first(one: Member) -> tuple[float, ...]:
    return (KINDS.index(one.relation.kind), -one.relation.match, -one.relation.cosine, one.picture.id)


def _twins(pictures: Iterable[Picture], wanted: Wanted) -> dict[int, list[int]]:
    """Return for each picture those of equal bytes or pixels, itself included, where such duplicates are wanted."""
    same: dict[object, list[int]] = defaultdict(list)
    for one in pictures:
        pixels = one.pixels or one.sha256.encode()
        name: object = (
            pixels if "same_pixels" in wanted.kinds else one.sha256 if "identical" in wanted.kinds else one.id
        )
        same[name].append(one.id)
    return {one: some for some in same.values() for one in some}


def _equality(one: Picture, other: Picture) -> Relation:
    return EQUAL if one.sha256 == other.sha256 else Relation("same_pixels", 1.0, 1.0)


def _relations(by_id: dict[int, Picture], pairs: Pairs, wanted: Wanted) -> dict[int, dict[int, Relation]]:
    related: dict[int, dict[int, Relation]] = defaultdict(dict)
    rows = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist(), pairs.match.tolist(), strict=True)
    for first, second, cosine, match in rows:
        if first in by_id and second in by_id:
            kind = _kind(by_id[first], by_id[second], cosine, match, wanted)
            if kind is not None:
                related[first][second] = related[second][first] = Relation(kind, round(cosine, 4), match)
    return related


def _kind(one: Picture, other: Picture, cosine: float, match: float, wanted: Wanted) -> Kind | None:
    """Return the surest kind of duplicate that two pictures are, if it is wanted."""
    is_kind: dict[Kind, bool] = {
        "identical": one.sha256 == other.sha256,
        "same_pixels": bool(one.pixels) and one.pixels == other.pixels,
        "altered_copy": match >= wanted.match,
        "same_moment": cosine >= ALIKE_FLOOR and _seconds_between(one, other) <= wanted.within,
        "alike": cosine >= wanted.alike,
    }
    surest = next((kind for kind in KINDS if is_kind[kind]), None)
    return surest if surest in wanted.kinds else None


def _seconds_between(one: Picture, other: Picture) -> float:
    try:
        moments = [datetime.fromisoformat(picture.captured_at).replace(tzinfo=None) for picture in (one, other)]
    except ValueError:
        return float("inf")
    return abs((moments[0] - moments[1]).total_seconds())


def _surer(known: Relation | None, other: Relation) -> Relation:
    return other if known is None or KINDS.index(other.kind) < KINDS.index(known.kind) else known
