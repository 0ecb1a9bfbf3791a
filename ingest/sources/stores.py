"""Stores that fsspec reads: s3://, gs://, az://, and any other that a package adds to it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from ingest.sources.archives import Archive, archive_kind
from ingest.sources.content import Fetch, RemoteFile, remote_call
from ingest.sources.records import SourceNotFound

# What leads to a store's own servers. Others may lead anywhere: "zip://a.jpg::http://10.0.0.1/x.zip", ftp, webhdfs, sftp.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf", "file", "memory")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Return whether a source is written as a URL, of whatever scheme."""
    return SCHEME.match(source) is not None


def open_store(url: str, fetch: Fetch | None) -> tuple[Any, str]:
    """Return the store that a URL leads to, and the path in it. Raises SourceNotFound.

    It must be one of STORES unless private addresses may be fetched from: what else fsspec reads may lead there.
    """
    import fsspec

    if not (fetch and fetch.private) and ("::" in url or url.partition("://")[0].lower() not in STORES):
        raise SourceNotFound(
            f"{url} is not of a store ({', '.join(f'{one}://' for one in STORES[:5])} …), and might lead into your own "
            "network; --private-urls allows it"
        )

    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # which says what to install
        raise SourceNotFound(f"{url} needs a package that is not installed: {error}") from None
    except Exception as error:
        raise SourceNotFound(f"{url} cannot be opened ({str(error).splitlines()[0]})") from None
    return store, path


def list_store(url: str, fetch: Fetch | None) -> tuple[bool, Iterator[tuple[PurePosixPath, RemoteFile]]]:
    """Return whether a URL is that of a single file, and the files at or below it, by their paths below it.

    Raises SourceNotFound.
    """
    store, root = open_store(url, fetch)
    try:
        found = remote_call(lambda: store.find(root, detail=True), url)
    except OSError as error:
        raise SourceNotFound(f"{error}; check the URL and the credentials") from None
    if not found:
        raise SourceNotFound(f"there is nothing at {url}")
    single = list(found) == [root.rstrip("/")]
    start = PurePosixPath(root)

    def files() -> Iterator[tuple[PurePosixPath, RemoteFile]]:
        for path, facts in sorted(found.items()):
            below = PurePosixPath(PurePosixPath(path).name) if single else PurePosixPath(path).relative_to(start)
            yield below, RemoteFile(store, path, facts)

    return single, files()


def remote_archive(file: RemoteFile) -> Archive:
    """Return an archive in a store; it is fetched when it is read."""

    def fetch() -> IO[bytes]:
        target = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            remote_call(lambda: _copy(file, target), file.address)
        except BaseException:
            target.close()
            raise
        target.seek(0)
        return target

    kind = archive_kind(file.path)
    assert kind is not None
    return Archive(kind, file.address, file.stamp() or (0, 0), fetch)


def _copy(file: RemoteFile, target: IO[bytes]) -> None:
    with file.store.open(file.path, "rb") as stream:
        while chunk := stream.read(8 * 1024**2):
            target.write(chunk)
    target.flush()
