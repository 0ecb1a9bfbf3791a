"""Zip and tar files as sources: their members, what describes them, and archives that are broken."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from index import EmptyCatalogue, open_catalogue
from ingest import Sources, build_catalogue, find_sources
from model import Extractor, Limits, UnreadableImage

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode: Any = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def contents(found: Sources) -> dict[str, bytes]:
    return {file.key: file.content.read(Limits())[0] for file in found.files}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_members_are_read_where_they_stand_in_any_order(suffix: str, tmp_path: Path) -> None:
    files = {f"shop/{number}.jpg": bytes([number]) * (1000 + number) for number in range(20)}
    path = pack(
        tmp_path / f"photos{suffix}", {**files, ".hidden/a.jpg": b"1", "__MACOSX/b.jpg": b"2", "notes.md": b"3"}
    )
    found = find_sources([path])
    assert contents(found) == files
    assert {file.key: found.files[-1].content.read(Limits())[0] for file in found.files[::-1][:1]} == {
        "shop/19.jpg": files["shop/19.jpg"]
    }
    assert (found.others, found.left_out) == (["notes.md"], ["__MACOSX/b.jpg"])
    assert {file.label for file in found.files} == {"shop"}
    kind = "zip" if suffix == ".zip" else "tar"
    assert found.files[0].content.address == f"{kind}://shop/0.jpg::{path}"


def test_of_several_sources_keys_begin_with_the_archives_name(tmp_path: Path) -> None:
    one, two = (pack(tmp_path / name, {"../../a.jpg": name.encode()}) for name in ("one.zip", "two.tar"))
    assert contents(find_sources([one, two])) == {"one.zip/a.jpg": b"one.zip", "two.tar/a.jpg": b"two.tar"}
    assert contents(find_sources([one], ["b*"])) == {"a.jpg": b"one.zip"}
    with pytest.raises(EmptyCatalogue, match=r"1 left out"):
        find_sources([one], ["a*"])


def test_what_stands_next_to_a_picture_describes_it(tmp_path: Path) -> None:
    described = {
        "000.jpg": b"picture",
        "000.json": json.dumps({"price": 12, "gone": None}).encode(),
        "000.txt": b" a red chair\n",
        "000.cls": b"7",
        "001.png": b"picture",
        "001.json": b"[broken",
        "002.txt": b"of no picture",
    }
    found = find_sources([pack(tmp_path / "shard.tar", described)])
    assert [dict(file.metadata) for file in found.files] == [{"price": 12, "caption": "a red chair", "label": 7}, {}]
    assert [one["key"] for one in found.skipped] == ["001.json"]
    assert found.others == ["002.txt"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_what_stands_before_the_damage_is_read(suffix: str, photos: list[Path], tmp_path: Path) -> None:
    path = pack(tmp_path / f"cut{suffix}", {f"{place}.jpg": photos[place].read_bytes() for place in range(6)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = find_sources([path])
    assert 1 <= len(found.files) < 6
    assert [one["key"] for one in found.skipped] == [str(path)]
    assert "damaged or cut off" in found.skipped[0]["reason"]
    assert found.files[0].content.read(Limits())[0] == photos[0].read_bytes()
    with pytest.raises(UnreadableImage, match="cut off in the middle of it"):
        found.files[-1].content.read(Limits())


@pytest.mark.parametrize("name", ["no.zip", "no.tar", "no.tar.gz"])
def test_what_is_no_archive_is_told_with_its_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no archive at all" * 100)
    with pytest.raises(EmptyCatalogue, match=rf"1 could not be read\); the first, .*{name}: the archive is damaged"):
        find_sources([tmp_path / name])


def test_a_broken_member_is_skipped_with_its_place_and_the_rest_goes_on(
    photos: list[Path], tmp_path: Path, extractor: Extractor
) -> None:
    data = {f"{place}.jpg": photos[place].read_bytes() for place in range(3)}
    path = pack(tmp_path / "photos.zip", {**data, "text.jpg": b"no picture"})
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("1.jpg").header_offset
        raw[archive.getinfo("2.jpg").header_offset + 6] |= 1  # encrypted, as the member itself says
    raw[at + 200 : at + 260] = bytes(60)
    central = raw.rindex(b"2.jpg") - 46
    raw[central + 8] |= 1
    path.write_bytes(raw)
    report = build_catalogue(find_sources([path]), tmp_path / "out", extractor)
    reasons = {one["key"]: (one["reason"], one["place"]) for one in report.skipped}
    assert report.added == 1
    assert reasons["1.jpg"][0].startswith("it cannot be unpacked from the archive (")
    assert reasons["2.jpg"][0] == "it is encrypted in the archive"
    assert reasons["text.jpg"][0].startswith("the bytes are not a picture")
    assert {place for _, place in reasons.values()} == {str(path)}


def test_a_member_that_has_not_changed_is_reused(photos: list[Path], tmp_path: Path, extractor: Extractor) -> None:
    data = {f"{place}.jpg": photos[place].read_bytes() for place in range(3)}
    path, out = tmp_path / "photos.zip", tmp_path / "out"
    build_catalogue(find_sources([pack(path, data)]), out, extractor)
    data["1.jpg"] = photos[9].read_bytes()
    report = build_catalogue(find_sources([pack(path, data)]), out, extractor, overwrite=True)
    assert (report.added, report.reused) == (1, 2)
    assert len(open_catalogue(out)) == 3
