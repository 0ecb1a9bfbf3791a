"""A load that goes on while a server shuts down, and counts what became of each request."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

BOUNDARY = "bentolens"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="photo.jpg"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def hammer(url: str, pictures: list[bytes], clients: int, stop: Callable[[], None], seconds: float) -> Counter[str]:
    """Search from many clients at once, half of them on kept connections; ``stop`` the server after some seconds, wait for
    its end, and count: "200" and other statuses, "late" of those answered after the stop, "refused" connections, and
    "lost": requests that were sent on a connection and got no answer."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    counts: Counter[str] = Counter()
    stopped = threading.Event()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(str(host), port, timeout=60)
        turn = number
        while True:
            turn += 1
            # Bytes after a picture's end change nothing but its hash: none is cached from before.
            body = HEAD + pictures[turn % len(pictures)] + os.urandom(8) + TAIL
            try:
                if number % 2:
                    connection.close()
                if connection.sock is None:
                    connection.connect()
            except OSError:
                counts["refused"] += 1
                return
            try:
                connection.request("POST", "/search", body, FORM)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                counts["lost"] += 1
                connection.close()
            else:
                counts[str(answer.status)] += 1
                counts["late"] += stopped.is_set()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stopped.set()
    stop()
    for thread in threads:
        thread.join()
    return counts
