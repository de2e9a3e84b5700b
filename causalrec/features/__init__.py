"""Features as of a time: one declaration, one SQL text, any engine."""

from causalrec.features.candidates import Candidates, CandidateSpec, build_candidates
from causalrec.features.spec import Aggregation, FeatureSet, parse_window
from causalrec.features.store import FeatureStore, Materialized

__all__ = [
    "Aggregation",
    "CandidateSpec",
    "Candidates",
    "FeatureSet",
    "FeatureStore",
    "Materialized",
    "build_candidates",
    "parse_window",
]
