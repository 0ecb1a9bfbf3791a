"""Each change made to Gradio is still needed, and is for the version that is installed."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gradio
import gradio.processing_utils
import pytest

from demo import gradio_patches
from tests.serving import ROOT

ALL: dict[str, Callable[..., Any]] = {
    name: one
    for name, one in vars(gradio_patches).items()
    if inspect.isfunction(one) and one.__module__ == gradio_patches.__name__
}


@pytest.mark.parametrize("name", ALL)
def test_each_patch_names_its_version_and_issue_and_has_a_test(name: str) -> None:
    stated = re.search(r"For gradio (\S+); upstream: .+", ALL[name].__doc__ or "")
    assert stated, f"{name} does not say for which version it is, and which issue upstream has"
    assert stated[1] == importlib.metadata.version("gradio"), "another version: see whether the patch is still needed"
    assert f"test_{name}_is_still_needed" in globals()


def unpatched(code: str) -> str:
    """What code prints on stderr in a process of its own, where nothing is patched but by itself."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return done.stderr


@pytest.mark.soak
def test_disable_downloads_is_still_needed() -> None:
    for name in (*gradio_patches.DOWNLOADS, "async_ssrf_protected_download"):
        assert callable(getattr(gradio.processing_utils, name)), f"{name} is gone: what fetches URLs now?"
    source = inspect.getsource(gradio.processing_utils)
    assert "ssrf_protected_download(" in source.replace("def ", ""), "no URL of an event is fetched any more"
    patched = """
from demo.gradio_patches import DOWNLOADS, disable_downloads
disable_downloads()
import gradio.processing_utils, sys
for name in DOWNLOADS:
    try:
        getattr(gradio.processing_utils, name)("http://127.0.0.1/", "/tmp")
    except ValueError as error:
        print(error, file=sys.stderr)
"""
    assert unpatched(patched).count("this page fetches nothing") == len(gradio_patches.DOWNLOADS)


@pytest.mark.soak
def test_disable_tracebacks_is_still_needed() -> None:
    import gradio.queueing
    import gradio.routes

    assert "traceback.print_exc()" in inspect.getsource(gradio.queueing)
    assert "traceback.print_exc()" in inspect.getsource(gradio.routes)
    failing = """
import gradio.routes
try:
    raise ValueError("MARK")
except ValueError:
    gradio.routes.traceback.print_exc()
"""
    assert "MARK" in unpatched(failing)
    patch = "from demo.gradio_patches import disable_tracebacks; disable_tracebacks()\n"
    told = unpatched(patch + failing)
    assert "MARK" not in told
    assert "an event of the page ended in ValueError" in told


def test_accept_uploads_only_is_still_needed() -> None:
    with gradio.Blocks() as page:
        gradio.Markdown("")
    assert not page.has_launched, "a page that is mounted counts as launched by now"
    assert "has_launched" in inspect.getsource(gradio.processing_utils) + inspect.getsource(gradio.blocks)
    gradio_patches.accept_uploads_only(page)
    assert page.has_launched


@pytest.mark.soak
def test_use_root_path_is_still_needed() -> None:
    code = """
import fastapi, gradio.route_utils, sys
request = fastapi.Request({
    "type": "http", "method": "GET", "scheme": "http", "server": ("h", 80), "query_string": b"",
    "headers": [(b"host", b"h"), (b"x-forwarded-prefix", b"/lens")], "path": "/lens/demo/x", "root_path": "/lens/demo",
})
sys.stderr.write(gradio.route_utils.get_root_url(request, "/x", "/demo"))
"""
    assert unpatched(code) == "http://h/demo"
    patch = "from demo.gradio_patches import use_root_path; use_root_path()\n"
    assert unpatched(patch + code) == "http://h/lens/demo"


def test_start_no_queue_is_still_needed() -> None:
    from gradio.queueing import Queue

    with gradio.Blocks() as page:
        gradio.Markdown("")
    assert page._queue.sleep_when_free < 0.1
    assert "sleep(self.sleep_when_free)" in inspect.getsource(Queue.start_processing)
    gradio_patches.start_no_queue(page)
    page._queue.start()  # and no loop is needed
