"""The page for trying queries by hand; it knows nothing of models or indexes and is handed what it calls."""

from demo.lazy import LazyPage
from demo.parts import PageAnswer, PageHit, PageParts, PageRefusal

__all__ = ["LazyPage", "PageAnswer", "PageHit", "PageParts", "PageRefusal"]
