"""Look through sources: folders, files, archives, tables, stores and URLs."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from index import EmptyCatalogue, InvalidEntry, check_entry
from ingest.sources.archives import Archive, ArchiveMember, Member, archive_kind
from ingest.sources.content import URL_SCHEMES, Content, LocalFile, UrlFile, remote_call
from ingest.sources.folders import FolderWalk
from ingest.sources.keys import distinct_names, key_of, new_key
from ingest.sources.records import SourceFile, SourceNotFound, Sources, skip
from ingest.sources.rows import TableFolder, TableFormat, add_rows, describing_rows
from ingest.sources.sidecars import SIDECARS, read_sidecars
from ingest.sources.stores import is_url, list_store, remote_archive
from ingest.sources.tables import TableError, is_table, read_json_lines, read_table
from model import has_picture_suffix, looks_like_a_picture

STDIN = "-"
DESCRIPTIONS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of Hugging Face's layout "imagefolder"


def find_sources(
    sources: Sequence[Path | str],
    exclude: Sequence[str] = (),
    form: TableFormat = TableFormat(),
    lines: Iterable[str] = (),
) -> Sources:
    """Look through folders (with all below them, hidden ones and system junk left out), single files, zip and tar files,
    tables (CSV, TSV, JSON lines, Parquet), URLs of stores that fsspec reads, http URLs, and ``-``: the paths, URLs or JSON
    objects of ``lines``.

    A file's key is its name, a file's in the only folder, archive or store its path below it; of several these begin with
    their names. Where names are the same, as much of the paths above them is added as tells them apart. What a table names
    goes by its column ``key``, else as the table writes it. A file or folder that is given twice, or is within another,
    counts once. ``exclude`` has patterns of names or paths below a source to leave out. ``metadata.csv`` or ``.jsonl`` next
    to pictures, with a column file_name, describes them; in archives so do files of the same stem (.json, .txt, .cls).

    Raises SourceNotFound for a source that is not there or cannot be read at all, EmptyCatalogue when no file looks like a
    picture.
    """
    finder = _Finder(exclude, form)
    given: dict[str, Path | str] = {}
    for source in sources:
        given.setdefault(_identity(source), source)
    names = [Path(name) for name in distinct_names([_path_of(one) for one in given])]
    pairs = list(zip(given.values(), names, strict=True))
    finder.single = {Path(one) for one, source in given.items() if isinstance(source, Path) and not source.is_dir()}
    for source, name in pairs:
        if not (isinstance(source, Path) and source.is_dir()):
            finder.take_single(source, name, Path() if len(given) == 1 else name, lines)
    for source, name in pairs:
        if isinstance(source, Path) and source.is_dir():
            finder.take_folder(source, name if len(given) > 1 else Path())
    found = finder.finish()
    if not found.files:
        raise EmptyCatalogue(_nothing_in(sources, found))
    return found


class _Finder:
    """What is found on the way through sources; ``single`` are the files that were given by themselves."""

    def __init__(self, exclude: Sequence[str], form: TableFormat) -> None:
        self.single: Container[Path] = ()
        self._found = Sources()
        self._walk = FolderWalk(exclude)
        self._form = form
        self._keys: set[str] = set()
        self._by_name: dict[str, int] = {}
        self._descriptions: list[tuple[Path, Callable[[], IO[bytes]]]] = []

    def take_single(self, source: Path | str, name: Path, start: Path, lines: Iterable[str]) -> None:
        """Take what is no folder; ``name`` is what its key is made of, ``start`` what the keys of files in it begin with."""
        if isinstance(source, Path):
            self._take_file(source, name, start)
        elif source == STDIN:
            self._take_lines(lines)
        elif source.lower().startswith(URL_SCHEMES):
            self._add(name, UrlFile(source, self._form.fetch, self._form.refetch))
        else:
            self._take_store(source, name, start)

    def take_folder(self, folder: Path, start: Path) -> None:
        """Take all files below a folder. Raises SourceNotFound when it cannot be listed."""
        self._take_files(self._walk.files(folder, start))
        if self._walk.unreadable and self._walk.unreadable[-1][0] == start:
            raise SourceNotFound(f"{folder}: {self._walk.unreadable[-1][1]}")

    def finish(self) -> Sources:
        """Follow what was put off, and return all that was found."""
        self._take_files(self._walk.follow_links())
        for name, opened in self._descriptions:
            self._describe(name, opened)
        found = self._found
        found.left_out = [key_of(path) for path in self._walk.left_out]
        found.skipped += [skip(f"{key_of(path)}/", reason) for path, reason in self._walk.unreadable]
        return found

    def _take_file(self, path: Path, name: Path, start: Path) -> None:
        if self._walk.leaves_out(name):
            return
        if kind := archive_kind(path.name):
            facts = path.stat()
            stamp = (facts.st_size, facts.st_mtime_ns)
            self._take_archive(Archive(kind, str(path.absolute()), stamp, lambda: path.open("rb")), str(path), start)
        elif is_table(path.name):
            self._take_table(str(path), lambda: path.open("rb"), TableFolder(path.parent))
        else:
            self._add(name, LocalFile(path), path.parent.name)

    def _take_files(self, files: Iterable[tuple[Path, Path]]) -> None:
        for path, name in files:
            if self.single and path.parent.resolve() / path.name in self.single:
                continue  # it was given itself
            if path.name.lower() in DESCRIPTIONS:
                self._descriptions.append((name, lambda path=path: path.open("rb")))  # type: ignore[misc]
            elif looks_like_a_picture(path):
                self._add(name, LocalFile(path), path.parent.name)
            else:
                self._found.others.append(key_of(name))

    def _take_archive(self, archive: Archive, shown: str, start: Path) -> None:
        sidecars: dict[str, list[Member]] = {}
        pictures: list[tuple[Path, Member]] = []
        try:
            for member in archive.members():
                name = start / member.name
                if not self._walk.enters(Path(member.name)) or self._walk.leaves_out(name):
                    continue
                suffix = PurePosixPath(member.name).suffix.lower()
                if name.name.lower() in DESCRIPTIONS:
                    self._descriptions.append((name, lambda member=member: BytesIO(archive.read(member))))  # type: ignore[misc]
                elif has_picture_suffix(member.name):
                    pictures.append((name, member))
                elif suffix in SIDECARS:
                    sidecars.setdefault(member.name[: -len(suffix)], []).append(member)
                else:
                    self._found.others.append(key_of(name))
        except OSError as error:
            self._found.skipped.append(skip(shown, str(error)))
        for name, member in pictures:
            companions = sidecars.pop(member.name.rpartition(".")[0], [])
            metadata, faults = read_sidecars(archive, companions)
            self._found.skipped += [skip(key_of(start / one), reason, shown) for one, reason in faults]
            self._add(name, ArchiveMember(archive, member), place=shown, metadata=metadata)
        self._found.others += [key_of(start / one.name) for some in sidecars.values() for one in some]

    def _take_store(self, url: str, name: Path, start: Path) -> None:
        single, files = list_store(url, self._form.fetch)
        for below, file in files:
            opened = lambda file=file: BytesIO(remote_call(lambda: file.store.cat_file(file.path), file.address))  # noqa: E731
            at = name if single else start / below
            if not self._walk.enters(Path(below)) or self._walk.leaves_out(at):
                continue
            if single and archive_kind(below.name):
                self._take_archive(remote_archive(file), url, start)
            elif single and is_table(below.name):
                self._take_table(url, opened, TableFolder(Path(file.path).parent, file.store))
            elif below.name.lower() in DESCRIPTIONS:
                self._descriptions.append((at, opened))
            elif has_picture_suffix(below.name):
                self._add(at, file)
            else:
                self._found.others.append(key_of(at))

    def _take_table(self, shown: str, opened: Callable[[], IO[bytes]], folder: TableFolder) -> None:
        try:
            with opened() as file:
                add_rows(read_table(shown, file), shown, folder, self._form, self._found, self._keys)
        except (TableError, OSError) as error:
            raise SourceNotFound(f"{shown}: {error}") from None

    def _take_lines(self, lines: Iterable[str]) -> None:
        texts = [line.strip("\r\n") for line in lines]
        objects = [text if text.lstrip().startswith("{") else "" for text in texts]
        try:
            add_rows(read_json_lines(objects), "stdin", TableFolder(), self._form, self._found, self._keys)
        except TableError as error:
            raise SourceNotFound(f"stdin: {error}") from None
        seen = set[str]()
        for number, (text, as_object) in enumerate(zip(texts, objects, strict=True), 1):
            if text and not as_object and text not in seen:
                seen.add(text)
                place = f"stdin, row {number}"
                try:
                    self._add(Path(text), TableFolder().content(text, self._form), key=text, place=place)
                except SourceNotFound as error:
                    self._found.skipped.append(skip(text, str(error), place))

    def _describe(self, name: Path, opened: Callable[[], IO[bytes]]) -> None:
        """Give the files next to a table what it says of them."""
        shown = key_of(name)
        try:
            with opened() as file:
                for text, metadata, place in describing_rows(read_table(name.name, file), shown, self._found):
                    key = key_of(name.parent / text)
                    if key not in self._by_name:
                        self._found.skipped.append(skip(key, "there is no such picture", place))
                        continue
                    check_entry(key, metadata)
                    old = self._found.files[self._by_name[key]]
                    self._found.files[self._by_name[key]] = replace(
                        old, metadata={**old.metadata, **metadata}, place=old.place or place
                    )
        except (TableError, InvalidEntry, OSError) as error:
            self._found.skipped.append(skip(shown, str(error)))

    def _add(
        self,
        name: Path,
        content: Content,
        label: str | None = None,
        *,
        key: str | None = None,
        place: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        key = new_key(name.as_posix() if key is None else key, self._keys)
        try:
            check_entry(key, metadata or {})
        except InvalidEntry as error:
            self._found.skipped.append(skip(key, str(error), place))
            return
        self._by_name.setdefault(key_of(name), len(self._found.files))
        label = name.parent.name if label is None else label
        self._found.files.append(SourceFile(key, content, label, metadata or {}, place))


def _identity(source: Path | str) -> str:
    """Return what two ways to name one source have in common. Raises SourceNotFound."""
    if isinstance(source, str) and (source == STDIN or is_url(source)):
        return source
    path = Path(source)
    if not path.exists():
        raise SourceNotFound(f"there is no file or folder at {source}")
    return str(path.resolve() if path.is_dir() else path.parent.resolve() / path.name)


def _path_of(identity: str) -> Path:
    return Path("/") / identity.partition("://")[2].partition("?")[0] if is_url(identity) else Path(identity)


def _nothing_in(sources: Sequence[Path | str], found: Sources) -> str:
    also = [
        f"{len(some)} {what}"
        for some, what in (
            (found.others, "other files are there"),
            (found.left_out, "left out as junk or by --exclude"),
            (found.skipped, "could not be read"),
        )
        if some
    ]
    first = f"; the first, {found.skipped[0]['key']}: {found.skipped[0]['reason']}" if found.skipped else ""
    return f"no picture is in {', '.join(map(str, sources))}" + (f" ({', '.join(also)})" if also else "") + first
