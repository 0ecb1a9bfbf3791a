"""A reverse proxy under a path prefix, as nginx's ``location /lens/ { proxy_pass http://backend/; }``."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PREFIX = "/lens"
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where its prefix is, and what it was asked for outside of that."""

    url: str
    missed: list[str] = field(default_factory=list)


@contextmanager
def proxied(backend: str, *, tell: bool = True, strip: bool = True) -> Iterator[Proxy]:
    """Proxy a server under PREFIX; ``tell`` sends X-Forwarded-Prefix, ``strip`` takes the prefix away."""
    missed: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if not self.path.startswith(PREFIX + "/"):
                if self.path != "/favicon.ico":  # which a browser asks for of its own accord
                    missed.append(self.path)
                self.send_error(404)
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            headers |= {"X-Forwarded-Host": self.headers["host"], "X-Forwarded-Proto": "http"}
            if tell:
                headers["X-Forwarded-Prefix"] = PREFIX
            connection = http.client.HTTPConnection(urlsplit(backend).netloc, timeout=60)
            connection.request(self.command, self.path[len(PREFIX) if strip else 0 :], body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_POST = do_HEAD = do_OPTIONS = pass_on

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Proxy(f"http://127.0.0.1:{server.server_port}{PREFIX}", missed)
    finally:
        server.shutdown()
        server.server_close()
