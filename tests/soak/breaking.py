"""Requests that are broken in seeded ways: pictures of each format, multipart and JSON bodies, headers, methods, paths."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BOUNDARY = b"bentolens"
MORE: dict[str, dict[str, Any]] = {"lossless": {"lossless": True}, "lzw": {"compression": "tiff_lzw"}}
AWKWARD_NUMBERS = (0, -1, 1.5, 2**31, 2**63, 2**64, 10**400, float("nan"), float("inf"), 1e308, -0.0)
AWKWARD_TEXTS = (
    "",
    "\0",
    "\ud800",
    "a" * 100_000,
    "../../etc/passwd",
    "%00",
    "{{7*7}}",
    "' OR 1=1 --",
    "http://127.0.0.1:1/",
)
AWKWARD: tuple[Any, ...] = (None, True, [], {}, [[]], *AWKWARD_NUMBERS, *AWKWARD_TEXTS)

Dice = np.random.Generator


@dataclass(slots=True)
class Broken:
    """A request that is broken, and what is broken about it."""

    kind: str
    path: str = "/search"
    method: str = "POST"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


def every_format(photo: Path) -> dict[str, bytes]:
    """One small picture in every format that is read, and in the modes that each has."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    small = Image.open(photo).convert("RGB").resize((160, 120))
    grey16 = Image.fromarray(np.asarray(small.convert("L"), np.uint16) * 257)
    made: dict[str, bytes] = {}
    for name, image, kind in (
        *(
            (kind.lower(), small, kind)
            for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000")
        ),
        *(("ppm", small, "PPM"), ("cmyk", small.convert("CMYK"), "JPEG"), ("palette", small.quantize(16), "PNG")),
        *(("alpha", small.convert("RGBA"), "PNG"), ("16 bits", grey16, "PNG"), ("tiff 16", grey16, "TIFF")),
        *(("lossless", small, "WEBP"), ("1 bit", small.convert("1"), "TIFF"), ("lzw", small, "TIFF")),
    ):
        buffer = BytesIO()
        image.save(buffer, kind, **MORE.get(name, {}))
        made[name] = buffer.getvalue()
    buffer = BytesIO()
    small.save(buffer, "GIF", save_all=True, append_images=[small.rotate(90), small.rotate(180)])
    return made | {"animated": buffer.getvalue()}


def mutated(data: bytes, dice: Dice) -> bytes:
    """Some bytes changed, cut, swapped, doubled, or replaced by awkward numbers, mostly near the beginning."""
    out = bytearray(data)
    for _ in range(int(dice.integers(1, 4))):
        if not out:
            break
        at = int(len(out) * dice.random() ** 3)
        match int(dice.integers(7)):
            case 0:
                out[at] ^= 1 << int(dice.integers(8))
            case 1:
                out = out[:at]
            case 2:
                out[at : at + 4] = int(dice.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16, 255])).to_bytes(4, "big")
            case 3:
                out[at : at + 4] = int(dice.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16, 255])).to_bytes(4, "little")
            case 4:
                del out[at : at + int(dice.integers(1, 64))]
            case 5:
                out[at:at] = dice.bytes(int(dice.integers(1, 64)))
            case _:
                end = min(len(out), at + int(dice.integers(1, 400)))
                out[at:end] = bytes(end - at) if dice.random() < 0.5 else out[at:end] * 2
    return bytes(out)


def multipart(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """A multipart body; a part without a file name is a text field."""
    lines = []
    for head, data in parts:
        lines.append(b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data)
    return b"\r\n".join([*lines, b"--" + BOUNDARY + b"--", b""])


FORM = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY.decode()}")
JSON = ("Content-Type", "application/json")
IMAGES = 'name="images"; filename="a.jpg"'


class Breaker:
    """Makes broken requests, one for each seed."""

    def __init__(self, photo: Path) -> None:
        self._pictures = list(every_format(photo).items())
        self._makers: tuple[Callable[[Dice], Broken], ...] = (
            *(self.picture, self.picture, self.picture, self.in_json),
            *(self.form, self.form, self.fields, self.json, self.json, self.text, self.head, self.way),
        )

    def __call__(self, seed: int) -> Broken:
        """The broken request of a seed."""
        return self._makers[seed % len(self._makers)](np.random.default_rng(seed))

    def _picture(self, dice: Dice) -> tuple[str, bytes]:
        name, data = self._pictures[int(dice.integers(len(self._pictures)))]
        return name, mutated(data, dice)

    def picture(self, dice: Dice) -> Broken:
        """Pictures that are broken, in a form that is sound."""
        some = [self._picture(dice) for _ in range(int(dice.integers(1, 4)))]
        path = "/embed" if dice.random() < 0.3 else "/search"
        return Broken(
            f"picture: {some[0][0]}", path, headers=[FORM], body=multipart([(IMAGES, data) for _, data in some])
        )

    def in_json(self, dice: Dice) -> Broken:
        """A broken picture in base64, which may be broken too."""
        name, data = self._picture(dice)
        text = base64.b64encode(data).decode()
        text = mutated(text.encode(), dice).decode("latin-1") if dice.random() < 0.3 else text
        body = json.dumps({"queries": [{"image": text}, {"id": 1}]}).encode()
        return Broken(f"picture in JSON: {name}", "/query", headers=[JSON], body=body)

    def form(self, dice: Dice) -> Broken:
        """A form whose bytes are broken: boundaries, heads of parts, ends."""
        body = multipart([(IMAGES, self._pictures[0][1][:200]), ('name="k"', b"3"), ('name="where"', b'{"width": 1}')])
        return Broken("form", headers=[FORM], body=mutated(body, dice))

    def fields(self, dice: Dice) -> Broken:
        """A form with fields that are not asked for, or are not what they should be."""
        names = ("images", "k", "where", "keys", "", "a" * 5000, "\u00fc", 'a"; filename="b', "k\0", "__class__")
        parts = [(IMAGES, self._pictures[0][1])] if dice.random() < 0.5 else []
        for _ in range(int(dice.integers(1, 30))):
            value = str(AWKWARD[int(dice.integers(len(AWKWARD)))]).encode("utf-8", "surrogatepass")
            file = '; filename="\\..\\a"' if dice.random() < 0.2 else ""
            parts.append((f'name="{names[int(dice.integers(len(names)))]}"{file}', value))
        return Broken("fields", headers=[FORM], body=multipart(parts))

    def json(self, dice: Dice) -> Broken:
        """A JSON body with something else in a place."""
        bodies: list[tuple[str, Any]] = [
            (
                "/query",
                {"queries": [{"id": 1}, {"image": "AAAA"}, {"url": "http://127.0.0.1/"}], "k": 3, "where": {"a": 1}},
            ),
            (
                "/query",
                {"queries": [{"id": 1}], "where": {"$and": [{"w": {"$gt": 1}}, {"$or": [{"a": {"$in": [1]}}]}]}},
            ),
            ("/items/get", {"ids": [1, 2], "thumbnail": False}),
            ("/items/get", {"keys": ["a", "b"], "thumbnail": True}),
        ]
        path, body = bodies[int(dice.integers(len(bodies)))]
        for _ in range(int(dice.integers(1, 4))):
            _replace_somewhere(body, dice)
        return Broken("JSON", path, headers=[JSON], body=json.dumps(body).encode("utf-8", "surrogatepass"))

    def text(self, dice: Dice) -> Broken:
        """A body that is no JSON, or nearly."""
        deep = int(dice.integers(1, 200_000))
        texts = (
            b"[" * deep,
            b'{"a":' * deep,
            b'{"queries": [{"id": 1}]}',
            b"\xff\xfe{}",
            b"",
            b"null",
            b'"',
            b"1e999999",
        )
        body = mutated(texts[int(dice.integers(len(texts)))], dice)
        return Broken("text", ("/query", "/items/get")[int(dice.integers(2))], headers=[JSON], body=body)

    def head(self, dice: Dice) -> Broken:
        """Headers that say what is not so."""
        values = (
            *(("Content-Type", "multipart/form-data"), ("Content-Type", "multipart/form-data; boundary="), FORM, JSON),
            *(("Content-Type", "multipart/form-data; boundary=" + "a" * 500), ("Content-Type", "image/jpeg")),
            *(
                ("Content-Type", "application/json; charset=utf-7"),
                ("Content-Type", "\u00fc"),
                ("Content-Encoding", "gzip"),
            ),
            *(
                ("X-Request-ID", "a b\t{}"),
                ("X-Request-ID", "a" * 5000),
                ("Authorization", "Basic !!!"),
                ("Cookie", "a=b;;=;"),
            ),
            *(
                ("Accept", "\x7f"),
                ("Host", ""),
                ("X-Forwarded-For", "127.0.0.1"),
                ("Range", "bytes=0-1"),
                ("Expect", "100-continue"),
            ),
            *(
                ("traceparent", "00-0-0-0"),
                ("Bentoml-Is-Task", "1"),
                ("x-bentoml-payload", "1"),
                ("Content-Length", "0"),
            ),
        )
        some = [values[int(dice.integers(len(values)))] for _ in range(int(dice.integers(1, 5)))]
        body = multipart([(IMAGES, self._pictures[0][1])])
        return Broken("headers", headers=some, body=mutated(body, dice) if dice.random() < 0.3 else body)

    def way(self, dice: Dice) -> Broken:
        """Methods and paths that do not exist."""
        methods = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "PROPFIND", "get")
        paths = (
            *(
                "/search/",
                "//search",
                "/SEARCH",
                "/../search",
                "/search?k=1",
                "/%2e%2e/etc/passwd",
                "/search%00",
                "/\u00fc",
            ),
            *("/demo/../search", "/docs.json", "/metrics", "/schema.json", "/items/add", "/items", "/" + "a" * 5000),
            *(
                "/static_content/a",
                "/assets/../a",
                "/fault",
                "/livez/x",
                "/%ff%fe",
                "/search#a",
                "*",
                "/readyz?" + "a=b&" * 2000,
            ),
            *("/demo/gradio_api/upload", "/demo/gradio_api/run/by_picture", "/demo/gradio_api/file=/etc/passwd"),
        )
        path = paths[int(dice.integers(len(paths)))].encode().decode("latin-1")
        body = dice.bytes(int(dice.integers(0, 200)))
        return Broken("method and path", path, methods[int(dice.integers(len(methods)))], [JSON], body)


def _replace_somewhere(body: Any, dice: Dice) -> None:
    """Put something awkward in place of something inside a JSON value, or add it."""
    while True:
        places = list(body) if isinstance(body, dict) else list(range(len(body)))
        if not places:
            return
        place = places[int(dice.integers(len(places)))]
        inside = body[place]
        if isinstance(inside, dict | list) and inside and dice.random() < 0.7:
            body = inside
            continue
        value = AWKWARD[int(dice.integers(len(AWKWARD)))]
        body[value if isinstance(body, dict) and isinstance(value, str) and dice.random() < 0.3 else place] = value
        return
