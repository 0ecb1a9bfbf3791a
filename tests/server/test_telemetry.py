"""What operators see: metrics that add up, a live recall, log lines as JSON with request ids, traces."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.telemetry import RecallMonitor, RequestContext, begin_request
from server.telemetry.logs import JsonFormatter
from tests.serving import APART, ROOT, Server, eventually, serving


def scraped(server: Server) -> dict[str, float]:
    """Every sample of /metrics by its name and labels."""
    text = httpx.get(f"{server.url}/metrics").text
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_add_up_whichever_worker_answers(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    pictures = [photo.read_bytes() for photo in photos[:6]]
    with serving(catalogue, tmp_path / "log", LENS_WORKERS="2", LENS_RECALL_SHARE="1") as server:
        for _ in range(4):
            assert server.search(*pictures, b"text").status_code == 200
        assert server.json("query", {"queries": [{"id": 1}, {"id": 2}]}).status_code == 200
        assert server.search(b"text").status_code == 415
        assert httpx.get(f"{server.url}/made-up").status_code == 404
        answered = {"/search": 5, "/query": 1, "none": 1}

        def seconds_of(route: str) -> float:
            return scraped(server).get(f"bentolens_request_seconds_count route={route}", 0)

        # A request is counted when its answer is out.
        eventually(lambda: {route: seconds_of(route) for route in answered} == answered, "they are not all counted")
        found = scraped(server)
        assert found["bentolens_requests_total route=/search status=200"] == 4
        assert found["bentolens_requests_total route=/search status=415"] == 1
        assert found["bentolens_requests_total route=none status=404"] == 1
        assert found["bentolens_request_items_total route=/search"] == 4 * 7 + 1
        assert found["bentolens_request_items_total route=/query"] == 2
        assert found["bentolens_errors_total code=unsupported_image"] == 5
        assert found["bentolens_errors_total code=no_such_route"] == 1
        embedded = {how: found[f"bentolens_pictures_total embedding={how}"] for how in ("computed", "cached")}
        assert sum(embedded.values()) == 4 * 7 + 1
        # Each worker has a cache of its own, and keeps no bad picture.
        assert found["bentolens_batch_pictures_count"] == embedded["computed"] - 5
        assert found["bentolens_batch_pictures_sum"] >= found["bentolens_batch_pictures_count"]
        for step in ("decode", "wait", "network", "search"):
            assert found[f"bentolens_step_seconds_count step={step}"] > 0, step
        assert found["bentolens_request_seconds_count route=/search"] == 5
        assert (found["bentolens_items"], found["bentolens_generation"]) == (59, 1)
        assert (found["bentolens_pictures_in_flight"], found["bentolens_request_body_bytes"]) == (0, 0)
        eventually(lambda: scraped(server)["bentolens_recall_queries_total"] > 0, "no query was answered again")
        assert scraped(server)["bentolens_recall_at_k"] == 1  # of 59 items an ef of 128 finds all


def test_what_a_caller_makes_up_becomes_no_series(server: Server) -> None:
    for number in range(20):
        httpx.get(f"{server.url}/made-up-{number}")
        httpx.request(f"MADEUP{number}", f"{server.url}/search")
        httpx.get(f"{server.url}/demo/made-up-{number}")
    assert "made-up" not in httpx.get(f"{server.url}/metrics").text
    assert "MADEUP" not in httpx.get(f"{server.url}/metrics").text


def test_two_servers_of_one_user_count_apart(server: Server, catalogue: Path, tmp_path: Path) -> None:
    made_up = "bentolens_requests_total route=none status=404"
    httpx.get(f"{server.url}/made-up")
    eventually(lambda: made_up in scraped(server), "the request is not counted")
    before = scraped(server)[made_up]
    with serving(catalogue, tmp_path / "log") as other:
        assert made_up not in scraped(other)
    assert scraped(server)[made_up] == before


def test_log_lines_are_json_with_the_requests_id_and_no_picture(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    picture = base64.b64encode(photos[0].read_bytes()).decode()
    with serving(catalogue, log, LENS_LOG="json") as server:
        answer = httpx.post(
            f"{server.url}/search", files={"images": photos[0].read_bytes()}, headers={"x-request-id": "mine-1"}
        )
        assert answer.headers["x-request-id"] == "mine-1"
        assert server.json("query", {"queries": [{"image": picture}]}).status_code == 200
        odd = httpx.get(f"{server.url}/made-up", headers={"x-request-id": 'a"}\\n{"forged": 1'})
        assert re.fullmatch("[0-9a-f]{32}", odd.headers["x-request-id"])
        given = server.json("query", {"queries": [{"id": 99_999}]}).headers["x-request-id"]
        eventually(lambda: given in log.read_text(), "the last request is not in the log")  # its answer comes first
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        told = {line["request_id"]: line for line in lines if "request_id" in line}
        assert told["mine-1"].keys() >= {
            "time",
            "level",
            "message",
            "route",
            "status",
            "milliseconds",
            "items",
        }
        assert (told["mine-1"]["route"], told["mine-1"]["status"], told["mine-1"]["items"]) == ("/search", 200, 1)
        assert told[given]["code"] == "item_not_found"
        # Gradio would print what it cannot read, and what stands in it.
        events = httpx.get(f"{server.url}/demo/config", timeout=60).json()["dependencies"]
        marks = ["data:image/jpeg;base64,MARK", 'a\n{"message": "forged"}\n', {"path": "MARK"}]
        for event in events:
            for mark in marks:
                body = {"data": [mark], "fn_index": event["id"], "session_hash": "MARK"}
                answer = httpx.post(f"{server.url}/demo/gradio_api/run/predict", json=body, timeout=60)
                assert answer.status_code < 500
    text = log.read_text()
    assert "MARK" not in text
    assert "forged" not in text
    assert picture[:60] not in text
    assert photos[0].name not in text


def test_a_line_has_what_is_known_of_the_request() -> None:
    begin_request(RequestContext(request_id="abc"))
    record = logging.LogRecord("bentoml.access", logging.INFO, "", 0, "said \n %s", ("this",), None)
    record.route, record.status = "/search", 200
    line = json.loads(JsonFormatter().format(record))
    assert (line["request_id"], line["message"], line["status"]) == ("abc", "said \n this", 200)


def recall_of(truth: list[tuple[int, float]], scores: list[float], k: int, without: int | None = None) -> float:
    return RecallMonitor(lambda vectors, count: [truth[:count]], 1).recall(np.zeros(2, np.float32), scores, k, without)


def test_recall_counts_what_was_missed_and_takes_equals_for_equal() -> None:
    truth = [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.7), (5, 0.1)]
    assert recall_of(truth, [0.9, 0.8, 0.7], 3) == 1
    assert recall_of(truth, [0.9, 0.7, 0.1], 3) == pytest.approx(2 / 3)
    assert recall_of(truth, [], 3) == 0
    assert recall_of(truth, [0.8, 0.7, 0.7], 3, without=1) == 1
    assert recall_of(truth, [0.8, 0.7], 2, without=1) == 1  # the item itself is no neighbour that was missed
    assert recall_of(truth, [0.9, 0.8, 0.7, 0.7, 0.1], 50) == 1


def test_the_dashboard_asks_only_for_metrics_that_there_are(server: Server, photos: list[Path]) -> None:
    server.search(photos[0].read_bytes())
    server.search(b"text")  # a metric is there once it has counted something
    there = {family.name for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)}
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    asked: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            asked.update(
                re.findall(r"\b(bento\w+?)(?:_total|_bucket|_sum|_count)?\b(?=[{\[) ]|$)", value.get("expr", ""))
            )
            for inside in value.values():
                look(inside)
        elif isinstance(value, list):
            for inside in value:
                look(inside)

    look(dashboard)
    assert asked <= there, asked - there
    ours = {name for name in there if name.startswith("bentolens_")}
    assert ours - asked <= {"bentolens_request_body_bytes", "bentolens_recall_queries"}  # the others are all shown


def test_traces_go_where_bentoml_is_told_to_send_them(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    """One trace for a request, with the call to the Extractor in it, in the trace that the caller began."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with (
        collecting() as (endpoint, spans),
        serving(
            catalogue, tmp_path / "log", LENS_TRACES=endpoint, LENS_TRACE_SHARE="0", LENS_LOG="json", **APART
        ) as server,
    ):
        parent = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
        files = {"images": photos[0].read_bytes()}
        assert httpx.post(f"{server.url}/search", files=files, headers=parent, timeout=60).status_code == 200
        wanted = {("ImageSearch", "POST /search"), ("Extractor", "POST /embed")}
        eventually(lambda: wanted <= {(who, name) for who, name, trace in spans if trace == trace_id}, f"{spans}")
        assert f'"trace_id": "{trace_id}"' in (tmp_path / "log").read_text()


@contextmanager
def collecting() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A collector of traces: where it listens, and the service, name and trace of each span that it was sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[tuple[str, str, str]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            data = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for sent in ExportTraceServiceRequest.FromString(data).resource_spans:
                who = {one.key: one.value.string_value for one in sent.resource.attributes}.get("service.name", "")
                for scope in sent.scope_spans:
                    spans.extend((who, span.name, span.trace_id.hex()) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
