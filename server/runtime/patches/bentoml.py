"""Changes made to BentoML 1.4.39, each with its reason; tests/test_patches.py fails when one is no longer needed."""

from __future__ import annotations

import atexit
import importlib
import math
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

KEEP_ALIVE_SECONDS = 2.0  # for which a client keeps an idle connection; BentoML's servers close theirs after 5
CHECK_SECONDS = 0.2  # between looks at the workers; each costs some tens of microseconds


def disable_batch_wait() -> None:
    """Start a batch as soon as the network is free; what arrives meanwhile is the next batch.

    BentoML's batcher holds a request back for as long as requests lately waited on average: a minute of heavy load makes a
    lone request wait for seconds afterwards, with the network idle (docs/decisions/0007-no-corking.md).
    For bentoml 1.4.39; upstream: no issue filed.
    """
    from bentoml._internal.marshal.dispatcher import Optimizer

    Optimizer.wait = property(lambda self: 0.0, lambda self, value: None)  # type: ignore[assignment]


def keep_client_sessions(client: Any) -> None:
    """Keep a service's client from calling on connections that are being closed.

    It closes its shared session every 100 calls and every 300 s while other calls are in flight, which fails 5 to 10 % of
    them under load. And it keeps idle connections for 15 s where the server closes them after 5, so that a call which comes
    5 s after the last one may go to a connection that is gone. A client in the same process has no session.
    For bentoml 1.4.39; upstream: https://github.com/bentoml/BentoML/issues/5540
    """
    if (sessions := getattr(client, "_session_manager", None)) is not None:
        sessions.max_requests = math.inf
        sessions.max_age = math.inf
        make_session = sessions._make_client

        def make_session_that_closes_first() -> Any:
            session = make_session()
            session.connector._keepalive_timeout = KEEP_ALIVE_SECONDS
            return session

        sessions._make_client = make_session_that_closes_first


def restart_dead_workers() -> None:
    """Restart a worker that has died at once, in a container too: in the process that starts the workers.

    BentoML looks after its workers every ten seconds; in a container not at all, and it ends once there are none.
    For bentoml 1.4.39; upstream: no issue filed.
    """
    import bentoml.serving
    from bentoml._internal.utils.circus import Arbiter

    start = Arbiter.__init__

    def start_with_check_delay(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options | {"check_delay": CHECK_SECONDS})

    Arbiter.__init__ = start_with_check_delay  # type: ignore[method-assign]
    # What decides whether a worker is started again.
    bentoml.serving.running_inside_container = lambda: False  # type: ignore[assignment]


def separate_metrics_folder(folder: Callable[[], Path]) -> None:
    """Keep the workers' metrics in the folder that ``folder`` names: in the process that starts the workers.

    BentoML keeps the metrics of all servers of a user in one folder, which each empties when it starts.
    For bentoml 1.4.39; upstream: no issue filed.
    """
    import bentoml.serving

    def make_folder() -> str:
        (made := folder()).mkdir(exist_ok=True)
        return str(made)

    bentoml.serving.ensure_prometheus_dir = make_folder  # type: ignore[assignment]


def disable_bentoml_timeout() -> None:
    """Leave out BentoML's timeout, whose timer keeps five kilobytes of each request for as long as it runs: in a worker.

    The routes have a timeout of their own, with a 503 where BentoML has a 504, and wait no longer for the Extractor.
    For bentoml 1.4.39; upstream: no issue filed.
    """
    from bentoml._internal.server.http.traffic import TimeoutMiddleware

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    TimeoutMiddleware.__call__ = call  # type: ignore[method-assign]


def import_proxy_later() -> None:
    """Import BentoML's proxy for services that are another program only where one is served: in a worker.

    It imports pyparsing, by mistake, and aiohttp.
    For bentoml 1.4.39; upstream: no issue filed.
    """
    name = "_bentoml_impl.server.proxy"
    if name in sys.modules:
        return
    late = ModuleType(name)

    def create_proxy_app(service: Any) -> Any:
        del sys.modules[name]
        return importlib.import_module(name).create_proxy_app(service)

    late.create_proxy_app = create_proxy_app  # type: ignore[attr-defined]
    sys.modules[name] = late


def keep_worker_sockets() -> None:
    """Close the HTTP socket when the parent process stops, and remove the other sockets at the very end.

    BentoML removes the Extractor's socket before its workers have stopped, so that none of them can connect to it any more,
    and leaves the HTTP socket open, where clients then wait in a queue that no process serves.
    For bentoml 1.4.39; upstream: no issue filed.
    """
    from bentoml._internal.utils.circus import Arbiter
    from circus.arbiter import Arbiter as CircusArbiter

    def stop(self: Any) -> Any:
        for one in self.sockets.values():
            if one.family != socket.AF_UNIX:
                one.close()
        atexit.register(self.exit_stack.close)  # it removes the folder of the sockets
        return CircusArbiter.stop(self)

    Arbiter.stop = stop  # type: ignore[method-assign]
