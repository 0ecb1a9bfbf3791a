"""Whether a picture that is to be added is in the catalogue already."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from copies import LEAST_MATCH, CopyFinder, Kind, Subject, as_luma, match_model_of
from index import Entry, open_catalogue


class DuplicateGate:
    """Looks entries up in the catalogue in ``folder``, as it is at each look; close it afterwards."""

    def __init__(self, folder: Path) -> None:
        self._catalogue = open_catalogue(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._catalogue.close()

    def duplicate_of(self, entry: Entry) -> dict[str, str | float] | None:
        """Return the key of the item that an entry is a duplicate of, the kind and the match, or None. Raises DamagedIndex.

        An item under the entry's own key, which it is to replace, is none.
        """
        signatures, own = self._catalogue.signatures, self._catalogue.items_by_key([entry.key])
        without = frozenset(one.id for one in own.values())
        digest = entry.signature.pixels if entry.signature else b""
        equal: dict[Kind, list[int]] = {
            "identical": signatures.ids_by_sha256(entry.sha256),
            "same_pixels": signatures.ids_by_pixels(digest),
        }
        for kind, ids in equal.items():
            if others := [one for one in ids if one not in without]:
                return self._told(others[0], kind, 1.0)
        finder = CopyFinder(self._catalogue.snapshot(), signatures, match_model_of(self._catalogue))
        subject = Subject(entry.vector, as_luma(entry.signature.luma) if entry.signature else None)
        found = finder.find(subject, LEAST_MATCH, without=without)
        return self._told(found[0].id, "altered_copy", found[0].match) if found else None

    def _told(self, item_id: int, kind: Kind, match: float) -> dict[str, str | float]:
        item = self._catalogue.items([item_id]).get(item_id)
        return {"of": item.key if item else "", "kind": kind, "match": match}
