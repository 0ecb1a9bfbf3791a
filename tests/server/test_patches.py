"""Each change made to BentoML and uvicorn is still needed, is for the version that is installed, and does what it says.

A test here turns red when upstream has changed: then see whether the patch can go.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import math
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import uvicorn
from _bentoml_impl.client.proxy2 import AsyncClient, SessionManager
from bentoml._internal.marshal.dispatcher import Optimizer
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.runtime.patches import bentoml as bentoml_patches
from server.runtime.patches import circus as circus_patches
from server.runtime.patches import prometheus as prometheus_patches
from server.runtime.patches import uvicorn as uvicorn_patches
from tests.serving import ROOT


def patches(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The public functions of a module of patches."""
    found = vars(module).items()
    return {
        name: one
        for name, one in found
        if inspect.isfunction(one) and one.__module__ == module.__name__ and name[0] != "_"
    }


ALL = [
    (package, name, function)
    for package, module in (
        ("bentoml", bentoml_patches),
        ("kantoku", circus_patches),
        ("prometheus_client", prometheus_patches),
        ("uvicorn", uvicorn_patches),
    )
    for name, function in patches(module).items()
]


@pytest.mark.parametrize(("package", "name", "function"), ALL, ids=[name for _, name, _ in ALL])
def test_each_patch_names_its_version_and_issue_and_has_a_test(package: str, name: str, function: Any) -> None:
    stated = re.search(rf"For {package} (\S+); upstream: .+", function.__doc__ or "")
    assert stated, f"{name} does not say for which version it is, and which issue upstream has"
    assert stated[1] == importlib.metadata.version(package), "another version: see whether the patch is still needed"
    assert f"test_{name}_is_still_needed" in globals()


def unpatched(code: str) -> str:
    """What code prints in a process of its own, where nothing is patched."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_disable_batch_wait_is_still_needed() -> None:
    busy = """
from bentoml._internal.marshal.dispatcher import Optimizer
optimizer = Optimizer(60)
for _ in range(20):
    optimizer.log_outbound(n=32, wait=8.0, duration=0.5)
optimizer.trigger_refresh()
print(optimizer.wait > 1)
"""
    assert unpatched(busy) == "True"
    bentoml_patches.disable_batch_wait()
    optimizer = Optimizer(60)
    for _ in range(20):
        optimizer.log_outbound(n=32, wait=8.0, duration=0.5)
    optimizer.trigger_refresh()  # type: ignore[no-untyped-call]
    assert optimizer.wait == 0


def test_keep_client_sessions_is_still_needed() -> None:
    source = inspect.getsource(SessionManager.get_session)
    assert "await self._session.close()" in source  # whether or not a call is in flight: issue 5540
    parameters = inspect.signature(SessionManager.__init__).parameters
    assert (parameters["max_requests"].default, parameters["max_age"].default) == (100, 300.0)

    async def keepalive(patched: bool) -> float:
        client = AsyncClient("http://127.0.0.1:1", server_ready_timeout=0)
        if patched:
            bentoml_patches.keep_client_sessions(client)
            assert (client._session_manager.max_requests, client._session_manager.max_age) == (math.inf, math.inf)
        session = await client._session_manager.get_session()
        seconds = float(session.connector._keepalive_timeout)
        await session.close()
        return seconds

    server_closes = uvicorn.Config(lambda: None).timeout_keep_alive
    assert asyncio.run(keepalive(False)) > server_closes, "the client closes idle connections first by now"
    assert asyncio.run(keepalive(True)) < server_closes


def test_restart_dead_workers_is_still_needed() -> None:
    import bentoml.serving

    looked = """
from bentoml._internal.utils.circus import create_standalone_arbiter
arbiter = create_standalone_arbiter([])
print(arbiter.check_delay)
"""
    assert unpatched(looked) == "10"
    assert "running_inside_container()" in inspect.getsource(bentoml.serving)
    patch = """
from server.runtime.patches.bentoml import restart_dead_workers
restart_dead_workers()
import bentoml.serving
assert bentoml.serving.running_inside_container() is False
"""
    assert unpatched(patch + looked) == "0.2"


def test_separate_metrics_folder_is_still_needed(tmp_path: Any) -> None:
    shared = """
import bentoml.serving
print(bentoml.serving.ensure_prometheus_dir())
"""
    assert unpatched(shared) == unpatched(shared), "each server has a folder of its own by now"
    own = f"""
from pathlib import Path
from server.runtime.patches.bentoml import separate_metrics_folder
separate_metrics_folder(lambda: Path({str(tmp_path)!r}) / "metrics")
import bentoml.serving
print(bentoml.serving.ensure_prometheus_dir())
"""
    assert unpatched(own) == str(tmp_path / "metrics")


def test_disable_bentoml_timeout_is_still_needed() -> None:
    ours = """
import asyncio
from bentoml._internal.server.http.traffic import TimeoutMiddleware
async def app(scope, receive, send):
    await send({})
async def send(message):
    pass
async def count():
    middleware = TimeoutMiddleware(app, timeout=60)
    for _ in range(5):
        await middleware({"type": "http"}, None, send)
    loop = asyncio.get_running_loop()
    return len([one for one in loop._scheduled])
"""
    kept = unpatched(ours + "\nprint(asyncio.run(count()))")
    assert int(kept) >= 5, "no timer is left behind by a request any more"
    patch = "\nfrom server.runtime.patches.bentoml import disable_bentoml_timeout\ndisable_bentoml_timeout()\n"
    assert unpatched(ours + patch + "print(asyncio.run(count()))") == "0"


def test_keep_worker_sockets_is_still_needed() -> None:
    from bentoml._internal.utils.circus import Arbiter

    source = inspect.getsource(Arbiter.stop)
    assert source.index("exit_stack") < source.index("super().stop()"), "the sockets are removed after the workers"


def test_limit_request_heads_is_still_needed() -> None:
    # tests/server/test_connections.py has what the patch does; here, that uvicorn bounds neither bytes nor seconds.
    source = inspect.getsource(HttpToolsProtocol)
    assert "timeout_keep_alive" in source
    assert not re.search(r"header_timeout|h11_max_incomplete|max_header|431", source)


def test_ignore_upgrades_is_still_needed() -> None:
    # tests/server/test_connections.py has what the patch does; here, that a body after an upgrade's head is not one.
    code = """
import httptools
class Heard:
    def on_body(self, body):
        print("a body")
parser = httptools.HttpRequestParser(Heard())
try:
    parser.feed_data(b"POST / HTTP/1.1\\r\\nConnection: Upgrade\\r\\nUpgrade: h2c\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
except httptools.HttpParserUpgrade:
    print("an upgrade")
"""
    assert unpatched(code) == "an upgrade"


def test_set_keep_alive_is_still_needed() -> None:
    from _bentoml_impl.server.serving import create_dependency_watcher

    assert "timeout_keep_alive" not in inspect.signature(create_dependency_watcher).parameters
    assert uvicorn.Config(lambda: None).timeout_keep_alive == 5


def test_limit_connections_is_still_needed() -> None:
    # tests/server/test_processes.py has what the patch does; here, that uvicorn makes no room for a new connection.
    source = inspect.getsource(HttpToolsProtocol.connection_made)
    assert "limit_concurrency" not in source
    assert "close()" not in source


def test_drain_before_shutdown_is_still_needed() -> None:
    source = inspect.getsource(uvicorn.Server.shutdown)
    assert "connection.shutdown()" in source, "idle connections are no longer closed at once"
    calls: list[str] = []

    async def drain(server: uvicorn.Server, sockets: list[Any]) -> None:
        calls.append("drained")

    before = uvicorn.Server.shutdown
    try:

        async def shutdown(server: uvicorn.Server, sockets: Any = None) -> None:
            calls.append("shut down")

        uvicorn.Server.shutdown = shutdown  # type: ignore[method-assign, assignment]
        uvicorn_patches.drain_before_shutdown(drain, 1)
        server = uvicorn.Server(uvicorn.Config(lambda: None))
        asyncio.run(server.shutdown())
    finally:
        uvicorn.Server.shutdown = before  # type: ignore[method-assign]
    assert (calls, server.config.timeout_graceful_shutdown) == (["drained", "shut down"], 1)


def test_limit_stop_is_still_needed() -> None:
    import bentoml.serving

    assert "graceful_timeout=86400" in inspect.getsource(bentoml.serving.create_watcher)


def test_stop_on_hangup_is_still_needed() -> None:
    from circus.sighandler import SysHandler

    assert "self.reload()" in inspect.getsource(SysHandler.handle_hup)


def test_keep_stop_signals_is_still_needed() -> None:
    from circus.arbiter import Arbiter
    from circus.controller import Controller
    from circus.util import synchronized

    assert "raise ConflictError" in inspect.getsource(synchronized)
    assert '@synchronized("arbiter_stop")' in inspect.getsource(Arbiter.stop)
    assert "except ConflictError" in inspect.getsource(Controller.dispatch)


def test_call_on_death_is_still_needed() -> None:
    from circus.watcher import Watcher

    source = inspect.getsource(Watcher)
    assert 'self.notify_event("reap", msg)' in source
    assert "not_before" not in source
    assert "backoff" not in source


def test_adopt_workers_is_still_needed() -> None:
    from circus import process

    assert "self._worker = Popen(args" in inspect.getsource(process.Process.spawn)


def test_import_proxy_later_is_still_needed() -> None:
    import _bentoml_impl.server.app as app
    import _bentoml_impl.server.proxy as proxy

    assert "from _bentoml_impl.server.proxy import create_proxy_app" in inspect.getsource(app)
    assert "from pyparsing import cast" in inspect.getsource(proxy)


def test_allocate_metrics_files_is_still_needed() -> None:
    from prometheus_client.mmap_dict import MmapedDict

    source = inspect.getsource(MmapedDict)
    assert "truncate" in source
    assert "fallocate" not in source
