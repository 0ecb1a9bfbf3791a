"""The page for trying queries by hand; it knows nothing of models or indexes and is handed what it calls."""

from demo.app import LazyPage
from demo.interface import PageAnswer, PageHit, PageParts, PageRefusal
from demo.login import sign_in_page

__all__ = ["LazyPage", "PageAnswer", "PageHit", "PageParts", "PageRefusal", "sign_in_page"]
