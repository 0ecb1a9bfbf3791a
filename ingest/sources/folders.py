"""Walk through folders: what is in them, what is left out, and which cannot be read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from unicodedata import normalize

from ingest.sources.keys import key_of

# Folders that systems make beside pictures: thumbnails of a NAS, what was thrown away, what an archive of macOS holds.
JUNK = (
    *("@eaDir", "@tmp", "#recycle", "#snapshot", "@sharebin"),  # Synology
    *("@Recycle", "@Recently-Snapshot", "@__thumb", "~snapshot"),  # QNAP, NetApp
    *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "FOUND.000"),  # Windows
    *("__MACOSX", "Network Trash Folder", "Temporary Items"),  # macOS
)
_JUNK = frozenset(name.lower() for name in JUNK)


@dataclass(slots=True)
class FolderWalk:
    """A look through folders. Each is read once, however many links and sources lead to it; hidden ones are passed over.

    Files and folders go by the path that their keys are made of. ``left_out`` has JUNK folders and what ``exclude`` matches:
    shell patterns of a name or of such a path. ``unreadable`` has the folders that cannot be listed, with the reason.
    """

    exclude: Sequence[str] = ()
    left_out: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    _visited: set[tuple[int, int]] = field(default_factory=set)
    _links: deque[tuple[Path, Path]] = field(default_factory=deque)

    def files(self, folder: Path, name: Path) -> Iterator[tuple[Path, Path]]:
        """Yield the files below a folder that goes by ``name``: each file's path, and what it goes by.

        Links to folders are put off until follow_links.
        """
        yield from self._walk(folder, name)

    def follow_links(self) -> Iterator[tuple[Path, Path]]:
        """Yield the files of folders that links lead to, where they were not read by their own names. Call it last."""
        while self._links:
            yield from self._walk(*self._links.popleft())

    def leaves_out(self, path: Path) -> bool:
        """Return whether ``exclude`` matches what a file or folder goes by, and note it if so."""
        names = (key_of(Path(path.name)), key_of(path))
        if out := any(fnmatch(name, normalize("NFC", one.rstrip("/"))) for one in self.exclude for name in names):
            self.left_out.append(path)
        return out

    def enters(self, path: Path) -> bool:
        """Return whether what has such a path in an archive or a store is looked at: it is neither hidden nor junk."""
        if any(part.lower() in _JUNK for part in path.parts[:-1]):
            self.left_out.append(path)
            return False
        return not any(part.startswith(".") for part in path.parts)

    def _walk(self, folder: Path, name: Path) -> Iterator[tuple[Path, Path]]:
        def note(error: OSError) -> None:
            there = name / Path(error.filename).relative_to(folder)
            self.unreadable.append((there, f"the folder cannot be read ({error.strerror})"))

        for root, folders, files in os.walk(folder, onerror=note):
            at = name / Path(root).relative_to(folder)
            try:
                status = Path(root).stat()
            except OSError as error:  # gone since it was listed
                note(error)
                folders.clear()
                continue
            if (identity := (status.st_dev, status.st_ino)) in self._visited:
                folders.clear()
                continue
            self._visited.add(identity)
            folders[:] = list(self._to_enter(folders, Path(root), at))
            for file in sorted(files):
                if not (file.startswith(".") or self.leaves_out(at / file)):
                    yield Path(root, file), at / file

    def _to_enter(self, folders: list[str], root: Path, at: Path) -> Iterator[str]:
        """Yield the folders to go into now; links to folders are put off."""
        for folder in sorted(folders):
            if folder.startswith(".") or self.leaves_out(at / folder):
                continue
            linked = (root / folder).is_symlink()
            named = (
                (folder, (root / folder).resolve().name) if linked else (folder,)
            )  # no link leads around what is left out
            if any(name.lower() in _JUNK or name.startswith(".") for name in named):
                self.left_out.append(at / folder)
            elif linked:
                self._links.append((root / folder, at / folder))
            else:
                yield folder
