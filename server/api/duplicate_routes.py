"""The routes of duplicates."""

from __future__ import annotations

from server.api.duplicate_schemas import (
    CheckAnswer,
    CheckFields,
    CheckForm,
    CheckPictures,
    DuplicatesAnswer,
    DuplicatesFields,
    DuplicatesForm,
)
from server.api.route import Route

PICTURE = {
    **{"id": 1, "key": "beach/IMG_0042.jpg", "bytes": 3_145_728, "format": "JPEG"},
    "metadata": {"width": 4032, "height": 3024},
}
DUPLICATES = Route(
    *(
        "/duplicates",
        "POST",
        "read",
        "Give groups of duplicates, the largest first, and which picture of each to keep.",
    ),
    takes='JSON: `{"kinds", "min_match", "within", "alike", "where", "prefer", "avoid", "offset", "limit"}`',
    gives='`{"groups": [{"kind", "keep": {…, "reason"}, "duplicates": [{…, "kind", "match", "score"}]}], "total", '
    '"compared", "items", "complete"}`; pictures are compared in the background, from the first call on',
    form=DuplicatesForm,
    fields=DuplicatesFields,
    answer=DuplicatesAnswer,
    request_example={"kinds": ["identical", "same_pixels", "altered_copy"], "limit": 20},
    answer_example={
        "groups": [
            {
                **{"kind": "altered_copy", "keep": {**PICTURE, "reason": "most pixels, 4032 × 3024"}},
                "duplicates": [
                    {
                        **PICTURE,
                        "id": 7,
                        "key": "small/IMG_0042.jpg",
                        "kind": "altered_copy",
                        "match": 0.998,
                        "score": 0.97,
                    }
                ],
            }
        ],
        **{"total": 1, "compared": 59, "items": 59, "complete": True},
    },
)
CHECK = Route(
    *("/duplicates/check", "POST", "read", "Say whether pictures are in the catalogue already, altered or not."),
    takes='multipart: `images`, `min_match`; or JSON: `{"pictures": [{"image": base64} or {"url": …}], "min_match"}`',
    gives='`{"results": [{"duplicate", "matches": [{"id", "key", "kind", "match"}]}], "timings_ms"}`, in order',
    form=CheckForm,
    fields=CheckFields,
    alternative=CheckPictures,
    answer=CheckAnswer,
    request_example={"pictures": [{"url": "https://example.com/a.jpg"}], "min_match": 0.9},
    answer_example={
        "results": [
            {
                "duplicate": True,
                "matches": [{"id": 1, "key": "beach/IMG_0042.jpg", "kind": "altered_copy", "match": 0.998}],
            }
        ],
        "timings_ms": {"decode": 6.1, "embed": 24.8, "find": 0.9},
    },
)
