"""Log lines as text or JSON, with what is known of the request. No picture is ever in a line."""

from __future__ import annotations

import json
import logging
import math
import resource
import time

from opentelemetry import trace

from server.telemetry.context import current_request

log = logging.getLogger("bentoml.bentolens")
REFUSAL_SECONDS = 5.0
EXTRA = ("route", "status", "milliseconds", "items", "key", "code")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := current_request().request_id) != "-":
            line["request_id"] = request_id
        if (span := trace.get_current_span().get_span_context()).is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= {name: value for name in EXTRA if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(form: str) -> None:
    """Have all handlers that BentoML has set up in this process write ``text``, as it is, or ``json``."""
    if form == "json":
        for name in ("", *logging.root.manager.loggerDict):
            for handler in logging.getLogger(name).handlers:
                handler.setFormatter(JsonFormatter())


class RefusalLog:
    """Says that connections were closed or refused for want of open files: how many, in one line for some seconds."""

    def __init__(self) -> None:
        self._count = 0
        self._said = -math.inf

    def count(self) -> None:
        """Count one, and say how many there were since the last line, where that is some seconds ago."""
        self._count += 1
        if (now := time.monotonic()) - self._said >= REFUSAL_SECONDS:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            told = "%d connections closed (idle ones first) or refused: this process may open %d files; raise ulimit -n"
            log.warning(told, self._count, files)
            self._count, self._said = 0, now
