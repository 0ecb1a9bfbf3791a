"""Log lines as text or JSON, with what is known of the request. No picture is ever in a line."""

from __future__ import annotations

import json
import logging
import time

from opentelemetry import trace

from server.telemetry.context import current_request

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
