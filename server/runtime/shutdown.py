"""How the service stops: what it has taken is answered first, whatever runs it (a container, a terminal, an orchestrator).

Left alone, four things lose requests when it is told to stop. BentoML tells all services at once, so the Extractor is gone
while the door still has pictures to embed; and removes the Extractor's socket before that, so that no new connection to it
can be made. uvicorn closes a connection that is idle at that moment, though its next request may be on the way. And the
door's listening socket stays open until the end, in the process that started the workers and in all that inherited it, so
that whoever connects meanwhile waits in a queue that nobody serves. All of it is mended here and nowhere else;
tests/test_draining.py has the load that shows it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import uvicorn

LEAD_SECONDS = 1.0  # what is given up is answered, with a 503, so long before the end
CANCEL_SECONDS = 1
IDLE_SECONDS = 1.0  # for which a connection that is kept alive may still bring a request
STREAM_SECONDS = 2.0  # for which the page's streams, which last as long as it is open, are waited for
TICK = 0.02

_waiting: set[asyncio.Timeout] = set()
_given_up = False


def argument(name: str) -> str | None:
    """The value of an argument of this process, or None: BentoML tells its workers what they are by their arguments."""
    return dict(pairwise(sys.argv)).get(name)


def answer_before_stopping(door: str, seconds: int) -> None:
    """Have this process stop in order: the one that starts the others, a worker of the service ``door``, or of another.

    ``seconds`` after it is told to stop, a door gives up what is not answered yet.
    """
    if (service := argument("--service-name")) is None:
        _keep_what_workers_need()
        return
    _close_sockets_of_others()
    stop = uvicorn.Server.shutdown

    async def stop_in_order(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        server.config.timeout_graceful_shutdown = CANCEL_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + LEAD_SECONDS):
                if service == door:
                    await _refuse_connections(server, sockets or [])
                    asyncio.get_running_loop().call_later(seconds, _give_up)
                    await _answer_all(server)
                else:
                    await _outlive(door, server)
        await stop(server, sockets)

    uvicorn.Server.shutdown = stop_in_order  # type: ignore[method-assign, assignment]


@contextmanager
def may_be_given_up(timeout: asyncio.Timeout) -> Iterator[None]:
    """Let a stop end what is done within a timeout before its time; it is a TimeoutError then as well."""
    _waiting.add(timeout)
    if _given_up:  # it came on a connection that was still open
        _end(timeout)
    try:
        yield
    finally:
        _waiting.discard(timeout)


def given_up() -> bool:
    """Whether this process stops and has given up what was not answered yet."""
    return _given_up


def _give_up() -> None:
    global _given_up
    _given_up = True
    for timeout in _waiting:
        _end(timeout)


def _end(timeout: asyncio.Timeout) -> None:
    timeout.reschedule(asyncio.get_running_loop().time())


def _keep_what_workers_need() -> None:
    """In the process that starts the workers: let the door's socket go, and keep the others', when it is told to stop."""
    from bentoml._internal.utils.circus import Arbiter
    from circus.arbiter import Arbiter as Stopping

    def stop(self: Any) -> Any:
        for one in self.sockets.values():
            if one.family != socket.AF_UNIX:
                one.close()
        atexit.register(self.exit_stack.close)  # it removes the folder of the sockets
        return Stopping.stop(self)

    Arbiter.stop = stop  # type: ignore[method-assign]


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
        with suppress(OSError):  # nobody waits any more
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
                streams = cycle.response_started and cycle.scope["path"].startswith("/demo/")
                waiting |= not streams or clock() - start < STREAM_SECONDS
            connection.shutdown()  # closes it if it is idle, and else when its answer is sent
        await asyncio.sleep(TICK)


async def _outlive(door: str, server: uvicorn.Server) -> None:
    """Return when none of the processes that were started beside this one is a worker of the service ``door`` any more."""
    starter = psutil.Process().parent()
    while starter and not server.force_exit:
        try:
            if not any(_is_worker(child, door) for child in starter.children()):
                return
        except psutil.Error:  # the starter is gone
            return
        await asyncio.sleep(5 * TICK)


def _is_worker(process: psutil.Process, service: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return ("--service-name", service) in pairwise(words)
