"""Copies: whether a picture is one of another, which of a catalogue's pictures are, and which to keep."""

from copies.alterations import ALTERATIONS, alter
from copies.duplicates import DuplicateFinder, read_pictures
from copies.finder import LIKELY, CopyFinder, Match, Subject, as_luma
from copies.fit import fit_match_model, has_drifted, refit_match_model
from copies.groups import KINDS, LEAST_MATCH, SURE, Group, Kind, Member, Wanted, group_duplicates
from copies.keep import PathRules, Picture
from copies.match import BUILT_IN, MatchModel, match_model_of
from copies.pairs import PAIRS, Compared, Pairs, PairStore
from copies.plan import Action, PlanError, Step, apply_plan, make_plan, read_plan, undo_plan, write_plan

__all__ = [
    "ALTERATIONS",
    "BUILT_IN",
    "KINDS",
    "LEAST_MATCH",
    "LIKELY",
    "PAIRS",
    "SURE",
    "Action",
    "Compared",
    "CopyFinder",
    "DuplicateFinder",
    "Group",
    "Kind",
    "Match",
    "MatchModel",
    "Member",
    "PairStore",
    "Pairs",
    "PathRules",
    "Picture",
    "PlanError",
    "Step",
    "Subject",
    "Wanted",
    "alter",
    "apply_plan",
    "as_luma",
    "fit_match_model",
    "group_duplicates",
    "has_drifted",
    "make_plan",
    "match_model_of",
    "read_pictures",
    "read_plan",
    "refit_match_model",
    "undo_plan",
    "write_plan",
]
