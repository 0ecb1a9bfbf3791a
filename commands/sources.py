"""The sources of the verbs build and add: their options, and the fetching of URLs."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from commands.console import UserPath, stderr
from ingest import STDIN, Sources, TableFormat, find_sources, is_url
from model import ImageError
from settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


class SourceArgument(UserPath):
    """A source as users write it: a path, a URL, or - for stdin."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == STDIN or is_url(value) else super().convert(value, param, ctx)


private_urls_option = click.option(
    "--private-urls",
    is_flag=True,
    help="Fetch also from addresses in your own network, and by any protocol that fsspec reads.",
)
_OPTIONS = (
    click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=SourceArgument()),
    click.option("--labels-from-folders", is_flag=True, help="Keep the name of each picture's folder as its label."),
    click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="Leave out files and folders whose name or key matches; may be given several times.",
    ),
    click.option("--picture-column", metavar="NAME", help="The column of tables with a picture's path or URL."),
    click.option("--key-column", metavar="NAME", help="The column with the items' keys; else key, or the path or URL."),
    click.option("--refetch", is_flag=True, help="Fetch URLs again that the catalogue has already."),
    private_urls_option,
)


def source_options(command: Command) -> Command:
    """Give a verb the argument SOURCE and its options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def look_through(
    settings: Settings,
    *,
    sources: Sequence[Path | str],
    exclude: Sequence[str],
    picture_column: str | None,
    key_column: str | None,
    refetch: bool,
    private_urls: bool,
) -> Sources:
    """Look through what ``source_options`` has been given. Raises SourceNotFound, EmptyCatalogue."""
    form = TableFormat(picture_column, key_column, UrlReader(settings, private=private_urls), refetch)
    with stderr.status("looking through the sources"):
        return find_sources(sources, exclude, form, sys.stdin)


class UrlReader:
    """Fetches URLs as the service does, from any host unless LENS_URL_HOSTS names some; usable from many threads."""

    def __init__(self, settings: Settings, *, private: bool) -> None:
        self._settings = settings
        self.private = private
        self._lock = threading.Lock()
        self._started: tuple[Any, asyncio.AbstractEventLoop] | None = None

    def __call__(self, url: str) -> bytes:
        from server.api.errors import RequestError

        fetcher, loop = self._start()
        try:
            data: bytes = asyncio.run_coroutine_threadsafe(fetcher.fetch(url), loop).result()
        except ImageError:
            raise
        except RequestError as error:
            raise OSError(str(error)) from None
        return data

    def _start(self) -> tuple[Any, asyncio.AbstractEventLoop]:
        with self._lock:
            if self._started is None:
                from server.gateway.url_fetcher import UrlFetcher  # which takes a moment to import

                settings = self._settings
                hosts = settings.url_hosts or ("*:*" if self.private else "*")
                fetcher = UrlFetcher(hosts, settings.url_seconds, settings.max_bytes, private=self.private)
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="urls", daemon=True).start()
                self._started = fetcher, loop
            return self._started
