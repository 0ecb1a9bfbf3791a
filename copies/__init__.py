"""Copies: whether a picture is one of another, which of a catalogue's pictures are, and which to keep."""

from copies.alterations import ALTERATIONS, alter
from copies.finder import LIKELY, CopyFinder, Match, Subject, as_luma
from copies.fit import fit_match_model, has_drifted, refit_match_model
from copies.match import BUILT_IN, MatchModel, match_model_of

__all__ = [
    "ALTERATIONS",
    "BUILT_IN",
    "LIKELY",
    "CopyFinder",
    "Match",
    "MatchModel",
    "Subject",
    "alter",
    "as_luma",
    "fit_match_model",
    "has_drifted",
    "match_model_of",
    "refit_match_model",
]
