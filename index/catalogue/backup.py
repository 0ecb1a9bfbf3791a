"""Back up a catalogue while it is used, and restore it: a backup is a catalogue like any other."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from index.catalogue.database import Reading, open_database, read_meta
from index.catalogue.files import BASE, DATABASE, check_place, flush_folder, hash_file, original_file, write_original
from index.catalogue.generation import Generation, read_generation
from index.catalogue.verify import verify_catalogue
from index.errors import CatalogueExists, DamagedIndex

TRIES = 3  # where merges take files away that are being copied
STAGING = ".backup"  # the folder in a backup where its next database is made
Progress = Callable[[str, int, int], None]  # stage, done, total


def backup_catalogue(
    folder: Path, target: Path, progress: Progress = lambda *_: None, *, overwrite: bool = False
) -> Generation:
    """Write a consistent copy of the catalogue in ``folder`` to ``target``, and return the generation that it has.

    It may be written to meanwhile. A backup that is at ``target`` already becomes this one: files that it has are not copied
    again. Each file is checked by its SHA-256. Interrupted, it leaves an older backup whole. ``progress``: "copy" (bytes).
    ``overwrite``: also where another catalogue is at ``target``.

    Raises CatalogueNotFound, CatalogueMismatch, CatalogueExists (``target`` is something else), DamagedIndex or OSError.
    """
    _check_apart(folder, target)
    if target.exists() and any(target.iterdir()):
        if not any((target / name).exists() for name in (DATABASE, STAGING)):
            raise CatalogueExists(
                f"{target} is there already and is no backup, so it is left alone; choose another folder"
            )
        if not overwrite and not _is_backup_of(folder, target):
            raise CatalogueExists(
                f"{target} is another catalogue, or has items that {folder} never had, so it is left alone; choose another "
                "folder, or replace it with --overwrite"
            )
    for remaining in reversed(range(TRIES)):
        staging = target / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        with closing(Reading(open_database(folder))) as database:
            read_generation(database, folder)
            database.copy_to(staging / DATABASE)
        with closing(Reading(open_database(staging))) as copy:
            _, generation = read_generation(copy, folder)
        try:
            _copy_files(folder, target, generation, progress)
            _copy_originals(folder, target, staging)
        except FileNotFoundError:
            if not remaining:
                raise
            continue
        _put_in_place(staging, target, generation)
        return generation
    raise AssertionError("the last try returns or raises")


def restore_catalogue(
    backup: Path, folder: Path, *, overwrite: bool, progress: Progress = lambda *_: None
) -> Generation:
    """Make the catalogue ``folder`` of a backup, once all of that has been checked.

    Raises CatalogueNotFound, CatalogueMismatch, DamagedIndex (the backup's first fault), CatalogueExists or OSError.
    """
    check_place(folder, overwrite=overwrite)
    _check_apart(backup, folder)
    for fault in verify_catalogue(backup, progress):
        raise DamagedIndex(f"the backup {backup} is damaged: {fault}")
    partial = folder.with_name(f"{folder.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)
    generation = backup_catalogue(backup, partial, progress)
    if folder.exists():
        aside = folder.with_name(f"{folder.name}.replaced")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        partial.rename(folder)
        shutil.rmtree(aside)
    else:
        partial.rename(folder)
    flush_folder(folder.parent)
    return generation


def _check_apart(source: Path, target: Path) -> None:
    """Raise CatalogueExists where one folder is the other, or lies in it."""
    one, other = source.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise CatalogueExists(f"{target} is {source} itself, or lies in it, or around it; choose another folder")


def _is_backup_of(folder: Path, target: Path) -> bool:
    """Return whether ``target`` has an earlier state of the catalogue in ``folder``, or the beginning of a backup."""
    if not (target / DATABASE).is_file():
        return True
    with closing(Reading(open_database(folder))) as one, closing(Reading(open_database(target))) as other:
        ours, theirs = (_identity(database, place) for database, place in ((one, folder), (other, target)))
    return ours[0] == theirs[0] and all(there <= here for here, there in zip(ours[1:], theirs[1:], strict=True))


def _identity(database: Reading, folder: Path) -> tuple[Any, int, int]:
    """Return what tells a catalogue from others, and how many items and changes it has ever had."""
    meta = read_meta(database, folder)
    counts = dict(database.query("SELECT name, seq FROM sqlite_sequence"))
    return [meta.get("id"), meta.get("created_at")], int(counts.get("items", 0)), int(counts.get("changes", 0))


def _copy_files(folder: Path, target: Path, generation: Generation, progress: Progress) -> None:
    total = sum((folder / name).stat().st_size for name in generation.files)
    done = 0
    for name, digest in generation.files.items():
        source, copy = folder / name, target / name
        size = source.stat().st_size
        if not (copy.is_file() and copy.stat().st_size == size and hash_file(copy) == digest):
            copy.parent.mkdir(parents=True, exist_ok=True)
            unfinished = copy.with_name(f"{copy.name}.new")
            shutil.copyfile(source, unfinished)
            if (found := hash_file(unfinished)) != digest:
                unfinished.unlink()
                raise DamagedIndex(f"{source} has changed since it was made (SHA-256 {found[:12]}, not {digest[:12]})")
            unfinished.replace(copy)
        done += size
        progress("copy", done, total)


def _copy_originals(folder: Path, target: Path, staging: Path) -> None:
    """Copy the pictures' own files, where the catalogue keeps them; a name is the SHA-256 of what it has."""
    with closing(Reading(open_database(staging))) as copy:
        for (sha256,) in copy.rows("SELECT DISTINCT sha256 FROM items"):
            source, there = original_file(folder, sha256), original_file(target, sha256)
            if source.is_file() and not (there.is_file() and there.stat().st_size == source.stat().st_size):
                data = source.read_bytes()
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise DamagedIndex(f"{source} has changed since it was added")
                write_original(target, sha256, data)


def _put_in_place(staging: Path, target: Path, generation: Generation) -> None:
    for suffix in ("-wal", "-shm"):  # of whoever looked at an older backup
        (target / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    (staging / DATABASE).replace(target / DATABASE)
    shutil.rmtree(staging)
    flush_folder(target)
    for path in target.glob(f"{BASE}*"):
        if path.name not in generation.files:
            with suppress(OSError):
                path.unlink()
