"""The request that is being answered: its id, route and key, and what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestContext:
    """One request; ``items`` counts the pictures, queries, ids and keys that it asks for.

    ``code`` is that of the error it was answered with, ``error`` what was wrong with it, which a reader of the
    body may have hidden. ``body_bytes`` are held in memory for it. ``charge`` charges its key for items.
    """

    request_id: str = "-"
    route: str = "-"
    key: str | None = None
    items: int = 0
    code: str | None = None
    error: Exception | None = None
    body_bytes: int = 0
    charge: Callable[[int], None] = field(default=lambda count: None)

    def count_items(self, count: int) -> None:
        """Note how many pictures, queries, ids or keys are asked for, and charge them to the key."""
        self.items += count
        self.charge(count)


_CURRENT: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin_request(context: RequestContext) -> None:
    """Make this the request of what runs in this task from now on."""
    _CURRENT.set(context)


def current_request() -> RequestContext:
    """Return the request that is being answered; an empty one outside of any."""
    return _CURRENT.get() or RequestContext()
