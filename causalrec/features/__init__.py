"""Features as of a time: one declaration, one SQL text, any engine."""

from causalrec.features.attributes import AttributeFeatures
from causalrec.features.calendar import CalendarFeatures
from causalrec.features.candidates import Candidates, CandidateSpec, build_candidates
from causalrec.features.declaration import FeatureDeclarations, Source, read_features
from causalrec.features.diff import FeatureDiff
from causalrec.features.grid import daily_grid
from causalrec.features.materialize import Materialized
from causalrec.features.spec import Aggregation, FeatureSet, parse_window
from causalrec.features.store import FeatureStore

__all__ = [
    "Aggregation",
    "AttributeFeatures",
    "CalendarFeatures",
    "CandidateSpec",
    "Candidates",
    "FeatureDeclarations",
    "FeatureDiff",
    "FeatureSet",
    "FeatureStore",
    "Materialized",
    "Source",
    "build_candidates",
    "daily_grid",
    "parse_window",
    "read_features",
]
