"""The Prometheus metrics at /metrics.

A label takes few values, all of them ours: a path or a name that a caller made up would be a new series each time.
docs/operations.md explains each metric.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from search import CacheCounts

STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS = Counter("bentolens_requests", "Requests answered, by route and status", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "bentolens_request_seconds", "Seconds from a request's headers to its answer's end", ["route"], buckets=STEPS
)
REQUEST_ITEMS = Counter("bentolens_request_items", "Pictures, queries, ids and keys in requests", ["route"])
ERRORS = Counter("bentolens_errors", "Errors in answers, whole answers and single pictures, by code", ["code"])
PICTURES = Counter(
    "bentolens_pictures",
    "Pictures asked for, by how their embedding was had: computed, shared with a request in flight, or cached",
    ["embedding"],
)
IN_FLIGHT = Gauge(
    "bentolens_pictures_in_flight",
    "Pictures being decoded, waiting for the network or in it",
    multiprocess_mode="livesum",
)
REQUEST_BODY_BYTES = Gauge(
    "bentolens_request_body_bytes", "Bytes of request bodies in memory", multiprocess_mode="livesum"
)
STEP_SECONDS = Histogram(
    "bentolens_step_seconds",
    "Seconds of a request's steps: filter, fetch, decode, embed (in it wait and network), search",
    ["step"],
    buckets=STEPS,
)
BATCH_PICTURES = Histogram(
    "bentolens_batch_pictures", "For each picture, how many shared the network with it", buckets=BATCHES
)
GENERATION = Gauge("bentolens_generation", "The catalogue's generation", multiprocess_mode="mostrecent")
ITEMS = Gauge("bentolens_items", "Items in the catalogue", multiprocess_mode="mostrecent")
RECALL = Gauge(
    "bentolens_recall_at_k",
    "Share of the true nearest that were found, over the last hundred queries answered again exactly",
    multiprocess_mode="mostrecent",
)
RECALL_QUERIES = Counter("bentolens_recall_queries", "Queries answered again exactly")


def count_embeddings(counts: CacheCounts) -> None:
    """Count how the embeddings of a request's pictures were had."""
    for how, count in counts._asdict().items():
        PICTURES.labels(how).inc(count)
