"""How a worker stops: what it has taken is answered first, whatever serves it (a container, a terminal, an orchestrator).

Left alone, three things lose requests when the service is told to stop. BentoML tells all services at once, so the
Extractor is gone while the door still has pictures to embed. uvicorn closes a connection that is idle at that moment,
though its next request may be on the way. And the process that started the workers keeps the listening socket open until
the end, so that whoever connects meanwhile waits in a queue that nobody serves. All of it is mended here and nowhere else;
tests/test_draining.py has the load that shows it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import psutil
import uvicorn

DOOR_SECONDS = 6.5  # then what is still not answered is given up: with the two below, a stop takes no more than 10 s
EXTRACTOR_SECONDS = 8.0
CANCEL_SECONDS = 1
IDLE_SECONDS = 1.0  # for which a connection that is kept alive may still bring a request
STREAM_SECONDS = 2.0  # for which the page's streams, which last as long as it is open, are waited for
TICK = 0.02


def answer_before_stopping(*, door: bool) -> None:
    """Have this process's server stop in order: the door when all it took is answered, others when no door is left."""
    stop = uvicorn.Server.shutdown

    async def stop_in_order(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        server.config.timeout_graceful_shutdown = CANCEL_SECONDS
        with suppress(TimeoutError):
            if door:
                async with asyncio.timeout(DOOR_SECONDS):
                    await _refuse_connections(server, sockets or [])
                    await _answer_all(server)
            else:
                async with asyncio.timeout(EXTRACTOR_SECONDS):
                    await _outlive_the_doors(server)
        await stop(server, sockets)

    uvicorn.Server.shutdown = stop_in_order  # type: ignore[method-assign, assignment]


async def _refuse_connections(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """Stop listening, in the process that shares the socket too: a client that connects from now on is refused at once."""
    listeners = [one.dup() for one in sockets]
    for running in server.servers:  # it closes the sockets that were duplicated
        running.close()
    connected = []
    for listener in listeners:
        listener.setblocking(False)
        with suppress(OSError):  # nobody waits any more, or another worker has stopped it
            while True:
                connected.append(listener.accept()[0])
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
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


async def _outlive_the_doors(server: uvicorn.Server) -> None:
    """Return when none of the processes that were started beside this one takes requests any more."""
    with suppress(psutil.Error):
        starter = psutil.Process().parent()
        while starter and not server.force_exit and any(map(_is_door, starter.children())):
            await asyncio.sleep(TICK)


def _is_door(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "ImageSearch" in process.cmdline()
    except psutil.NoSuchProcess:
        return False
