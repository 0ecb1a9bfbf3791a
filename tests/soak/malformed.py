"""Send a served process requests that are broken in seeded ways, and count what became of them.

    python -m tests.soak.malformed CATALOGUE PHOTO --count 12000

Whatever is sent, no answer may be a 5xx, none may tell of the service's insides, and no process may be lost.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from tests.serving import ROOT, Server, serving
from tests.soak.breaking import Breaker, Broken

THREADS = 8
SECRETS = (b"Traceback", str(ROOT).encode(), b"site-packages", b'File "')


def send(connection: http.client.HTTPConnection, broken: Broken) -> tuple[int, bytes]:
    """The status and body of the answer; status 0 when the connection was closed without one."""
    try:
        connection.putrequest(broken.method, broken.path, skip_accept_encoding=True, skip_host=False)
        for name, value in broken.headers:
            connection.putheader(name, value.encode("utf-8", "surrogatepass"))
        if not any(name == "Content-Length" for name, _ in broken.headers):
            connection.putheader("Content-Length", str(len(broken.body)))
        connection.endheaders(broken.body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException, ValueError):
        connection.close()
        return 0, b""


def attack(server: Server, photo: Path, count: int, first: int = 0) -> Counter[str]:
    """Send the broken requests of ``count`` seeds; counts by kind and status, and of what must not be under "fault: "."""
    breaker, tally, lock = Breaker(photo), Counter[str](), threading.Lock()
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    # Lenient towards what is sent: it is meant to be wrong.
    http.client.HTTPConnection._validate_path = lambda self, url: None  # type: ignore[attr-defined]
    http.client.HTTPConnection._encode_request = lambda self, text: text.encode("latin-1")  # type: ignore[attr-defined]

    def work(number: int) -> None:
        connection = http.client.HTTPConnection(str(host), port, timeout=90)
        for seed in range(first + number, first + count, THREADS):
            broken = breaker(seed)
            status, body = send(connection, broken)
            connection.close() if broken.kind in ("headers", "method and path") else None
            told = [f"{broken.kind.partition(':')[0]}: {status}", "sent"]
            if status >= 500:
                told.append(f"fault: {status} (seed {seed}, {broken.kind}, {broken.path[:60]})")
            if any(secret in body for secret in SECRETS):
                told.append(f"fault: it tells of its insides (seed {seed}, {broken.kind})")
            if status == 0 and broken.kind not in ("headers", "method and path"):
                told.append(f"fault: no answer (seed {seed}, {broken.kind})")
            with lock:
                tally.update(told)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(options.catalogue, Path(folder) / "log") as server:
        before = {process.pid for process in server.main.children(recursive=True)}
        tally = attack(server, options.photo, options.count, options.first)
        lost = before - {process.pid for process in server.main.children(recursive=True)}
        sound = server.search(options.photo.read_bytes(), k=1).status_code
    for name, count in sorted(tally.items()):
        print(f"{count:>6}  {name}")
    print(f"processes lost: {len(lost)}; a sound request afterwards: {sound}")
    sys.exit(bool(lost) or sound != 200 or any(name.startswith("fault") for name in tally))


if __name__ == "__main__":
    main()
