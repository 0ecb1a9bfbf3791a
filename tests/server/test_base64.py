"""Base64 is decoded piece by piece, and is what it would be at once."""

from __future__ import annotations

import base64
import random

import pytest

from server.api.requests import PIECE, decode_base64

AROUND_A_PIECE = [PIECE * 3 // 4 + n for n in range(-2, 3)]


@pytest.mark.parametrize("size", [*range(9), *AROUND_A_PIECE, 2 * PIECE + 5])
def test_every_form_of_base64_is_decoded(size: int) -> None:
    data = random.Random(size).randbytes(size)
    usual, lines = base64.b64encode(data).decode(), base64.encodebytes(data).decode()
    forms = [usual, usual.rstrip("="), base64.urlsafe_b64encode(data).decode(), lines, lines.replace("\n", "\r\n")]
    for text in forms:
        assert decode_base64(text) == data
        assert decode_base64(text + "\n\r\n") == data


@pytest.mark.parametrize(
    "text", ["Q", "QQ==QQ==", "QQ=\n=Q", "QQQQQ", "é", "Q" * PIECE + "==" + "Q" * PIECE, "Q" * PIECE + "!"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"padding|codec|[Bb]ase64|data"):
        decode_base64(text)
