"""Metrics, logs, request context and the live recall."""

from server.telemetry import metrics
from server.telemetry.context import RequestContext, begin_request, current_request
from server.telemetry.log_queue import queue_output
from server.telemetry.logs import RefusalLog, configure_logging
from server.telemetry.recall_monitor import RecallMonitor

__all__ = [
    "RecallMonitor",
    "RefusalLog",
    "RequestContext",
    "begin_request",
    "configure_logging",
    "current_request",
    "metrics",
    "queue_output",
]
