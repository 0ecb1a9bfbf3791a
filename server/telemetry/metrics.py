"""What is told of requests: the metrics at /metrics, the lines of the log, and the request that a line belongs to.

A metric's labels take few values, all of them ours: a path or a name that a caller made up would be a new series each time.
No picture is ever in a log line. docs/operations.md explains each metric.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram

STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS = Counter("bentolens_requests", "Requests answered, by route and status", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "bentolens_request_seconds", "Seconds from a request's headers to its answer's end", ["route"], buckets=STEPS
)
ASKED = Counter("bentolens_asked", "Pictures, queries, ids and keys asked for", ["route"])
ERRORS = Counter("bentolens_errors", "Errors told, whole answers and pictures in their places, by code", ["code"])
PICTURES = Counter(
    "bentolens_pictures",
    "Pictures asked for, by how their embedding was had: computed, shared with a request in flight, or remembered",
    ["embedding"],
)
IN_FLIGHT = Gauge(
    "bentolens_pictures_in_flight",
    "Pictures being decoded, waiting for the network or in it",
    multiprocess_mode="livesum",
)
HELD_BYTES = Gauge("bentolens_held_bytes", "Bytes of request bodies in memory", multiprocess_mode="livesum")
STEP_SECONDS = Histogram(
    "bentolens_step_seconds",
    "Seconds of a request's steps: filter, fetch, decode, embed (in it wait and network), search",
    ["step"],
    buckets=STEPS,
)
BATCH_PICTURES = Histogram(
    "bentolens_batch_pictures", "For each picture, how many shared the network with it", buckets=BATCHES
)
GENERATION = Gauge("bentolens_generation", "The catalogue's generation", multiprocess_mode="max")
ITEMS = Gauge("bentolens_items", "Items in the catalogue", multiprocess_mode="max")
RECALL = Gauge(
    "bentolens_recall_at_k",
    "Share of the true nearest that were found, over the last hundred queries answered again exactly",
    multiprocess_mode="mostrecent",
)
RECALL_QUERIES = Counter("bentolens_recall_queries", "Queries answered again exactly")


@dataclass(slots=True)
class Visit:
    """One request: its id, its route, the name of the key it came with, and how many things it asked for."""

    request_id: str = "-"
    route: str = "-"
    key: str | None = None
    asked: int = 0
    code: str | None = None
    held: int = 0  # bytes of its body
    charge: Callable[[int], None] = field(default=lambda count: None)

    def asks_for(self, count: int) -> None:
        """Note how many pictures, queries, ids or keys are asked for, and charge them to the key."""
        self.asked += count
        self.charge(count)


_VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def begin(visit: Visit) -> None:
    """Make this the visit of what runs in this task from now on."""
    _VISIT.set(visit)


def this_visit() -> Visit:
    """The request that is being answered here; one that nobody looks at, outside of any."""
    return _VISIT.get() or Visit()


EXTRA = ("route", "status", "milliseconds", "asked", "key", "code")


class AsJson(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := this_visit().request_id) != "-":
            line["request_id"] = request_id
        if (span := trace.get_current_span().get_span_context()).is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= {name: value for name in EXTRA if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as(form: str) -> None:
    """Have all handlers that BentoML has set up in this process write ``text``, as it is, or ``json``."""
    if form == "json":
        for name in ("", *logging.root.manager.loggerDict):
            for handler in logging.getLogger(name).handlers:
                handler.setFormatter(AsJson())
