"""Graceful shutdown: the service answers what it has taken, whatever runs it (a container, a terminal, an orchestrator).

Left alone, four things lose requests when it stops. BentoML stops all services at once, so the Extractor is gone
while the HTTP service still has pictures to embed; and removes the Extractor's socket before that, so that no new connection
to it can be made. uvicorn closes a connection that is idle at that moment, though its next request may be on the way. And the
HTTP service's listening socket stays open until the end, in the process that started the workers and in all that inherited
it, so that whoever connects meanwhile waits in a queue that no process serves. tests/test_shutdown.py has the load that shows
it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from server.runtime.patches.bentoml import keep_worker_sockets
from server.runtime.patches.uvicorn import drain_before_shutdown
from server.runtime.process import argument

LEAD_SECONDS = 1.0  # what is cancelled is answered, with a 503, so long before the end
CANCEL_SECONDS = 1
IDLE_SECONDS = 1.0  # for which a connection that is kept alive may still bring a request
STREAM_SECONDS = 2.0  # for which the page's streams, which last as long as it is open, are waited for
TICK = 0.02

_waiting: set[asyncio.Timeout] = set()
_cancelled = False


def install_graceful_shutdown(http_service: str, seconds: int) -> None:
    """Have this process stop in order: the one that starts the others, a worker of ``http_service``, or of another service.

    ``seconds`` after the signal to stop, the HTTP service cancels what is not answered yet.
    """
    if (service := argument("--service-name")) is None:
        keep_worker_sockets()
        return
    _close_sockets_of_others()

    async def drain(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + LEAD_SECONDS):
                if service == http_service:
                    await _refuse_connections(server, sockets)
                    asyncio.get_running_loop().call_later(seconds, _cancel_waiting)
                    await _answer_all(server)
                else:
                    await _wait_for_service(http_service, server)

    drain_before_shutdown(drain, CANCEL_SECONDS)


@contextmanager
def cancel_on_shutdown(timeout: asyncio.Timeout) -> Iterator[None]:
    """Let a shutdown end what is done within a timeout before its time; it is a TimeoutError then as well."""
    _waiting.add(timeout)
    if _cancelled:  # it came on a connection that was still open
        _end(timeout)
    try:
        yield
    finally:
        _waiting.discard(timeout)


def is_cancelled() -> bool:
    """Return whether this process shuts down and has cancelled what was not answered yet."""
    return _cancelled


def _cancel_waiting() -> None:
    global _cancelled
    _cancelled = True
    for timeout in _waiting:
        _end(timeout)


def _end(timeout: asyncio.Timeout) -> None:
    timeout.reschedule(asyncio.get_running_loop().time())


def _close_sockets_of_others() -> None:
    """Close the listening sockets that this process has inherited and does not serve: every worker gets those of all."""
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):
            number = int(path.name)
            if path.name != argument("--fd") and stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as one:
                    listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens:
                    os.close(number)


async def _refuse_connections(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """Stop listening, but take those who have connected: once all who share the socket have closed it, others are refused."""
    listeners = [one.dup() for one in sockets]
    for running in server.servers:  # it closes the sockets that were duplicated, a little later
        running.close()
    await asyncio.sleep(TICK)
    connected = []
    for listener in listeners:
        listener.setblocking(False)
        with suppress(OSError):  # none is waiting any more
            while True:
                connected.append(listener.accept()[0])
        listener.close()
    config, loop = server.config, asyncio.get_running_loop()
    for one in connected:
        one.setblocking(False)
        await loop.connect_accepted_socket(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=server.server_state, app_state=server.lifespan.state
            ),
            one,
            ssl=config.ssl,
        )


async def _answer_all(server: uvicorn.Server) -> None:
    """Return when no connection has a request, or may still bring one; each answer says that its connection closes."""
    clock = asyncio.get_running_loop().time
    start = clock()
    idle_since: dict[Any, float] = {}
    waiting = True
    while waiting and not server.force_exit:
        waiting = False
        for connection in tuple(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                if clock() - idle_since.setdefault(connection, clock()) < IDLE_SECONDS:
                    waiting = True
                    continue
            else:
                idle_since.pop(connection, None)
                streams = cycle.response_started and "/demo/" in cycle.scope["path"]
                waiting |= not streams or clock() - start < STREAM_SECONDS
            connection.shutdown()  # closes it if it is idle, and else when its answer is sent
        await asyncio.sleep(TICK)


async def _wait_for_service(http_service: str, server: uvicorn.Server) -> None:
    """Return when none of this process's siblings is a worker of ``http_service`` any more."""
    starter = psutil.Process().parent()
    while starter and not server.force_exit:
        try:
            if not any(_is_worker(child, http_service) for child in starter.children()):
                return
        except psutil.Error:  # the starter is gone
            return
        await asyncio.sleep(5 * TICK)


def _is_worker(process: psutil.Process, service: str) -> bool:
    try:
        return process.name() == service or ("--service-name", service) in pairwise(process.cmdline())
    except psutil.Error:
        return False
