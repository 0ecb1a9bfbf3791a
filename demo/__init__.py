"""The page for trying queries by hand; it knows nothing of models or indexes and is handed what it calls."""

from demo.lazy import LazyPage
from demo.parts import PageAnswer, PageHit, PageParts, PageRefusal
from demo.signing_in import sign_in_page

__all__ = ["LazyPage", "PageAnswer", "PageHit", "PageParts", "PageRefusal", "sign_in_page"]
