"""What a row stands for in a search: itself where it may be a hit, and the members of the group that it leads."""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.types import DAMAGED, GROUP_RADIUS, GROUP_SIZE, LEADS


@inner()
def allowed(graph, allow, node):  # type: ignore[no-untyped-def]
    """Return whether a row may be a hit: it is not deleted (hnswlib's flag), and its bit is set where there is a filter."""
    if graph.deletions and (graph.links[node, 0] >> 16) & 1:
        return False
    return allow.shape[0] == 0 or (allow[node >> 3] >> (node & 7)) & 1 == 1


@inner()
def members_of(graph, node):  # type: ignore[no-untyped-def]
    """Return the first row and the end of the group that a row leads: 0 and 0 without one, DAMAGED where it is not there."""
    if not graph.groups or not graph.links[node, 0] & LEADS:
        return np.int64(0), np.int64(0)
    first = np.int64(graph.links[node, graph.max_links0])
    if first >= graph.links.shape[0]:
        return np.int64(DAMAGED), np.int64(DAMAGED)
    end = first + np.int64(graph.links[first, GROUP_SIZE])
    if end > graph.links.shape[0]:
        return np.int64(DAMAGED), np.int64(DAMAGED)
    return first, end


@inner()
def any_allowed(graph, allow, node):  # type: ignore[no-untyped-def]
    """Return whether a row may be a hit, or one of the copies that it leads."""
    if allowed(graph, allow, node):
        return True
    first, end = members_of(graph, node)
    if end > first and graph.links[first, GROUP_RADIUS] != 0:
        return False  # no copies, and hits by themselves
    for copy in range(first, end):  # noqa: SIM110  (numba compiles a loop better than a generator)
        if allowed(graph, allow, copy):
            return True
    return False


@inner()
def counts(graph, allow, node):  # type: ignore[no-untyped-def]
    """Return whether a row, or any that it leads, may be a hit."""
    if allowed(graph, allow, node):
        return True
    if graph.groups:
        first, end = members_of(graph, node)
        for member in range(first, end):
            if any_allowed(graph, allow, member):
                return True
    return False
