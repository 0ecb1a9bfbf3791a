"""Addresses of contents, as items keep them, back into contents."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ingest.sources.archives import Archive, ArchiveMember, Member, archive_kind
from ingest.sources.content import URL_SCHEMES, Content, Fetch, LocalFile, Missing, RemoteFile, UrlFile
from ingest.sources.records import SourceNotFound
from ingest.sources.stores import is_url, open_store, remote_archive

MEMBER = re.compile(r"(zip|tar)://(.+?)::(.+)", re.DOTALL)
LISTED = 8  # archives whose members are kept


def open_address(address: str, fetch: Fetch | None) -> Content:
    """Return what is at an address; what cannot be there says so when it is read."""
    if not address:
        return Missing(address, "it was sent to the service, and its file was not kept")
    try:
        if found := MEMBER.fullmatch(address):
            archive, members = _listed(found[3], fetch)
            if found[2] not in members:
                return Missing(address, "the archive has it no more")
            return ArchiveMember(archive, members[found[2]])
        if address.lower().startswith(URL_SCHEMES):
            return UrlFile(address, fetch)
        return RemoteFile(*open_store(address, fetch)) if is_url(address) else LocalFile(Path(address))
    except (SourceNotFound, OSError) as error:
        return Missing(address, str(error))


@functools.lru_cache(LISTED)
def _listed(address: str, fetch: Fetch | None) -> tuple[Archive, dict[str, Member]]:
    if is_url(address):
        archive = remote_archive(RemoteFile(*open_store(address, fetch)))
    else:
        kind, path = archive_kind(address), Path(address)
        facts = path.stat()
        archive = Archive(kind or "zip", address, (facts.st_size, facts.st_mtime_ns), lambda: path.open("rb"))
    return archive, {member.name: member for member in archive.members()}
