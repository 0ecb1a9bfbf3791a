"""Groups: vectors that are nearly or quite the same share one element of the graph, which leads them.

Thousands of pictures that are alike (a shop's "no image") fill each other's link lists in an HNSW graph and cut the rest of
it off. So a vector that lies within NEAR of one in the graph becomes a member of its group: a record after all others in
the index file, with its own vector and label and without links. A search that finds the leader compares the members too.

A leader's word 0 has the flag LEADS, and its last link slot the row of its first member; members stand row by row after
that one, whose first two slots hold how many they are, and the largest distance of any to the leader, as float32. A member
has the flag MEMBER. A group of radius 0 is one of copies: their distance to a query is their leader's. A member of a larger
group may lead copies of its own; nothing goes deeper. Of copies the one with the smallest label leads, and the others
follow by label, so that equal distances come in the order of labels. hnswlib passes over flags, slots and members.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.hnsw.file import HEADER, HnswFile, Layout, open_hnsw_file, resize_header
from index.hnsw.kernel.types import GROUP_RADIUS, GROUP_SIZE, LEADS, MEMBER

NEAR = 0.15  # of the leader's length: a cosine of 0.989


class Member(NamedTuple):
    """A member of a group that is being built: its label and its vector, float32 [dim]."""

    label: int
    vector: NDArray[np.float32]


def near_leaders(
    labels: NDArray[np.int64],
    rows: NDArray[np.float32],
    there: NDArray[np.int64],
    known: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Return the label of each row's leader, int64 [n]: its own where the row goes into the graph.

    ``there`` and ``known`` are the label and vector, int64 [n] and float32 [n, dim], of each row's nearest in the graph, or
    empty. Rows of the batch itself come one after the other: the first of those near each other leads.
    """
    leaders = labels.copy()
    if len(there):
        near = np.linalg.norm(rows - known, axis=1) <= NEAR * np.linalg.norm(known, axis=1)
        leaders[near] = there[near]
    fresh = np.flatnonzero(leaders == labels)
    some = rows[fresh]
    squares = np.square(some).sum(axis=1)
    gaps = squares[:, None] + squares[None, :] - 2 * some @ some.T
    alike = np.triu(gaps <= NEAR**2 * squares[:, None], 1)
    for place in np.flatnonzero(alike.any(axis=1)):
        if leaders[fresh[place]] == labels[fresh[place]]:  # a member leads none
            followers = fresh[alike[place]]
            leaders[followers[leaders[followers] == labels[followers]]] = labels[fresh[place]]
    return leaders


def append_groups(path: Path, dim: int, members: dict[int, list[Member]]) -> None:
    """Append the members of groups, by their leader's label, to a finished index file of leaders, in place."""
    if not members:
        return
    file = open_hnsw_file(path, dim)
    layout, upper = file.layout, file.upper.copy()
    rows = {int(label): row for row, label in enumerate(file.labels())}
    leaders = np.memmap(path, np.uint32, "r+", HEADER.size, (layout.count, layout.record_words))
    added: list[_Added] = []
    for label in sorted(members, key=rows.__getitem__):
        words = leaders[rows[label]]
        vector = words[layout.vector_word : layout.label_word].view(np.float32).copy()
        (head, *copies), *others = _equal_ones([Member(label, vector), *members[label]])
        words[layout.label_word :] = _two_words(head.label)
        words[0] = min(int(words[0]), layout.max_links0 - 1) | LEADS
        words[layout.max_links0] = layout.count + len(added)
        radius = max((float(np.linalg.norm(one.vector - vector)) for one, *_ in others), default=0.0)
        heads = [copies, *others] if others and copies else others or [[one] for one in copies]
        _add_group(added, heads, radius, layout)
    leaders.flush()
    del leaders
    with path.open("rb+") as out:
        header = resize_header(out.read(HEADER.size), layout.count + len(added))
        out.seek(0)
        out.write(header)
        out.seek(HEADER.size + layout.count * layout.record_words * 4)
        for one in added:
            out.write(one.record(layout))
        out.write(upper.tobytes())
        out.write(bytes(4 * len(added)))  # no links above level 0


@dataclass(slots=True)
class _Added:
    """A record to add, and the words of its link slots that are used."""

    member: Member
    word: int = MEMBER
    slots: dict[int, int] = field(default_factory=dict)

    def record(self, layout: Layout) -> bytes:
        words = np.zeros(layout.record_words, np.uint32)
        words[0] = self.word
        for slot, word in self.slots.items():
            words[slot] = word
        words[layout.vector_word : layout.label_word] = self.member.vector.view(np.uint32)
        words[layout.label_word :] = _two_words(self.member.label)
        return words.tobytes()


def _equal_ones(members: list[Member]) -> list[list[Member]]:
    """Put those with equal vectors together, each by label: first those equal to the first member, then by label."""
    equal: dict[bytes, list[Member]] = {}
    for member in members:
        equal.setdefault(member.vector.tobytes(), []).append(member)
    first, *others = (sorted(some, key=lambda one: one.label) for some in equal.values())
    return [first, *sorted(others, key=lambda some: some[0].label)]


def _add_group(added: list[_Added], heads: list[list[Member]], radius: float, layout: Layout) -> None:
    """Add one group: of each list the first is a member of it, and leads the others as a group of copies."""
    first = [_Added(some[0]) for some in heads]
    first[0].slots |= {GROUP_SIZE: len(first), GROUP_RADIUS: int(np.float32(radius).view(np.uint32))}
    added += first
    for head, (_, *copies) in zip(first, heads, strict=True):
        if copies:
            head.word |= LEADS
            head.slots[layout.max_links0] = layout.count + len(added)
            _add_group(added, [[one] for one in copies], 0.0, layout)


def _two_words(label: int) -> NDArray[np.uint32]:
    return np.array([label], np.int64).view(np.uint32)


def check_groups(file: HnswFile) -> Iterator[str]:
    """Yield the faults of a file's groups: each member follows exactly one leader, within its radius."""
    words, vectors, last = file.links[:, 0], file.row_vectors(), file.layout.max_links0
    led = np.zeros(len(words), np.int64)
    for row in np.flatnonzero(words & LEADS).tolist():
        first = int(file.links[row, last])
        size = int(file.links[first, GROUP_SIZE]) if first < len(words) else 0
        group = slice(first, first + size)
        if not (row < first and 0 < size <= len(words) - first and (words[group] & MEMBER).all()):
            yield f"the group of element {row} is not one of members"
            continue
        led[group] += 1
        radius = file.vectors[first, GROUP_RADIUS] * (1 + 1e-5)
        with np.errstate(all="ignore"):
            near = np.square(vectors[group] - vectors[row]).sum(axis=1) <= np.square(radius)
        if not near.all():
            yield f"the group of element {row} holds vectors that are farther from it than its radius of {radius:.6f}"
    if len(bad := np.flatnonzero(led != (words & MEMBER > 0))):
        yield f"element {bad[0]} is a member of {led[bad[0]]} groups"
