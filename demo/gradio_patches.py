"""Changes made to Gradio 6.31.0, each with its reason; tests/demo/test_gradio_patches.py fails when one is not needed."""

from __future__ import annotations

import logging
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import gradio
import gradio.processing_utils
import gradio.queueing
import gradio.route_utils
import gradio.routes
import gradio.utils

log = logging.getLogger("bentoml.bentolens")
DOWNLOADS = ("ssrf_protected_download", "save_url_to_cache", "unsafe_download")


def disable_downloads() -> None:
    """Keep Gradio from fetching URLs that an event names: only uploads are queries.

    For gradio 6.31.0; upstream: no setting for it, no issue filed.
    """

    def refuse(url: str, cache_dir: str) -> str:
        raise ValueError("this page fetches nothing")

    async def refuse_later(url: str, cache_dir: str) -> str:
        return refuse(url, cache_dir)

    for name in DOWNLOADS:
        setattr(gradio.processing_utils, name, refuse)
    gradio.processing_utils.async_ssrf_protected_download = refuse_later


def disable_tracebacks() -> None:
    """Log where an event failed, in place of Gradio's printed traceback, which quotes what the event has in it.

    A caller could write lines of its own into the log.
    For gradio 6.31.0; upstream: no setting for it, no issue filed.
    """

    def print_exc(*_: Any, **__: Any) -> None:
        kind, _error, trace = sys.exc_info()
        where = "".join(traceback.format_tb(trace)) if trace else ""  # the lines of code, not the error's own text
        log.warning("an event of the page ended in %s", kind.__name__ if kind else "nothing", extra={"trace": where})

    quiet = SimpleNamespace(**vars(traceback) | {"print_exc": print_exc})
    for module in (gradio.queueing, gradio.route_utils, gradio.routes, gradio.utils):
        if hasattr(module, "traceback"):
            module.traceback = quiet


def use_root_path() -> None:
    """Have the page link to itself by the request's own path: a proxy may serve it under a prefix.

    Gradio links by a root_path that is stated once for all requests.
    For gradio 6.31.0; upstream: no issue filed.
    """
    get_root_url = gradio.route_utils.get_root_url

    def get_root_url_of(request: Any, route_path: str, root_path: str | None) -> str:
        return get_root_url(request, route_path, request.scope.get("root_path") or root_path)

    gradio.route_utils.get_root_url = get_root_url_of


def accept_uploads_only(page: gradio.Blocks) -> None:
    """Have Gradio check that a file named by a request was uploaded, as it does for a page that ``launch()`` serves.

    A page that is mounted counts as never launched, and any path of this machine would be taken for an upload.
    For gradio 6.31.0; upstream: no issue filed.
    """
    page.has_launched = True


def start_no_queue(page: gradio.Blocks) -> None:
    """Leave out the tasks of Gradio's queue, which look for events a thousand times a second: the page queues none.

    For gradio 6.31.0; upstream: no setting for it, no issue filed.
    """
    page._queue.start = lambda: None
