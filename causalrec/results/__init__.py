"""Results: frozen, flat, and the only thing that plots, tracking and reports see.

Scalar fields map one to one onto MLflow metrics and table columns (:meth:`Result.to_dict`). Results that are tables by
nature (a curve, a balance table) keep their columns as arrays and give them with :meth:`Result.to_frame`; a result that
holds others gives a row for each. An estimate without an honest standard error holds NaN there, and ``method`` says
why.
"""

from causalrec.results.abtest import (
    ABResult,
    ExperimentResult,
    HeterogeneityResult,
    ResamplingResult,
    TrendResult,
)
from causalrec.results.attribution import NO_CHANNEL, AttributionResult, CreditResult
from causalrec.results.balance import BalanceResult, WeightSpreadResult
from causalrec.results.base import (
    NAN,
    Result,
    format_interval,
    format_level,
    format_metric,
    format_number,
    format_percent,
    format_pvalue,
)
from causalrec.results.bayes import BayesStoppingResult, PosteriorResult, PriorResult
from causalrec.results.boosting import BoostingCurveResult, ImportanceResult
from causalrec.results.bootstrap import MetricBootstrapResult
from causalrec.results.calibration import UpliftCalibrationResult
from causalrec.results.champion import ChampionResult
from causalrec.results.checks import (
    AAResult,
    DistributionResult,
    OutlierResult,
    SampleRatioResult,
    SegmentRatioResult,
)
from causalrec.results.decisions import (
    ConditionalResult,
    ImpactResult,
    MultiplicityResult,
    RoleResult,
    ShrinkageResult,
    VerdictResult,
)
from causalrec.results.design import PowerCurveResult, PowerResult
from causalrec.results.effects import (
    EffectResult,
    OverlapResult,
    RankingResult,
)
from causalrec.results.group_sequential import GroupBoundsResult, GroupDesignResult, StagewiseResult
from causalrec.results.heterogeneity import (
    CalibrationResult,
    GroupEffectsResult,
    LearnerComparisonResult,
    ProjectionResult,
)
from causalrec.results.identification import IdentificationResult
from causalrec.results.importance import PermutationImportanceResult, ShapImportanceResult
from causalrec.results.mechanisms import (
    CannibalisationResult,
    FunnelResult,
    ProxyAcrossResult,
    ProxyResult,
    SegmentScanResult,
)
from causalrec.results.monitor import MonitorResult, TimeSavedResult
from causalrec.results.observational import (
    AdjustedEffect,
    EffectComparisonResult,
    InstrumentEffect,
    MatchResult,
    PropensityResult,
    Recipe,
    WeightsResult,
)
from causalrec.results.panel import PanelEffectResult
from causalrec.results.policy import (
    AllocationResult,
    CostCurveComparisonResult,
    CostCurveResult,
    PolicyRegretResult,
    PolicyValueResult,
    ProfitCurveResult,
)
from causalrec.results.policy_tree import PolicyTreeResult
from causalrec.results.quality import CleaningResult, QualityResult
from causalrec.results.refutation import RefutationResult, RefutationsResult
from causalrec.results.reports import (
    CohortRetentionResult,
    ConversionFunnelResult,
    DailyUsersResult,
    RevenueResult,
)
from causalrec.results.saving import dump_results, load_results
from causalrec.results.scorers import ScorerComparisonResult
from causalrec.results.segments import SegmentRule, SegmentsResult
from causalrec.results.sensitivity import (
    ConfounderStrengthResult,
    EValueResult,
    OmittedBiasResult,
    PartialR2Result,
    RosenbaumResult,
    TippingResult,
)
from causalrec.results.sequential import PeekingResult
from causalrec.results.simulated import SimulatedConfounderResult
from causalrec.results.study import SensitivityResult, StudyReport
from causalrec.results.survival import (
    ChurnResult,
    CoxResult,
    HazardRatioResult,
    LogrankResult,
    RestrictedMeanResult,
    RetentionResult,
    SurvivalCurveResult,
    SurvivalResult,
)
from causalrec.results.uplift import CurveResult, UpliftBinsResult, UpliftIntervalsResult

__all__ = [
    "NAN",
    "NO_CHANNEL",
    "AAResult",
    "ABResult",
    "AdjustedEffect",
    "AllocationResult",
    "AttributionResult",
    "BalanceResult",
    "BayesStoppingResult",
    "BoostingCurveResult",
    "CalibrationResult",
    "CannibalisationResult",
    "ChampionResult",
    "ChurnResult",
    "CleaningResult",
    "CohortRetentionResult",
    "ConditionalResult",
    "ConfounderStrengthResult",
    "ConversionFunnelResult",
    "CostCurveComparisonResult",
    "CostCurveResult",
    "CoxResult",
    "CreditResult",
    "CurveResult",
    "DailyUsersResult",
    "DistributionResult",
    "EValueResult",
    "EffectComparisonResult",
    "EffectResult",
    "ExperimentResult",
    "FunnelResult",
    "GroupBoundsResult",
    "GroupDesignResult",
    "GroupEffectsResult",
    "HazardRatioResult",
    "HeterogeneityResult",
    "IdentificationResult",
    "ImpactResult",
    "ImportanceResult",
    "InstrumentEffect",
    "LearnerComparisonResult",
    "LogrankResult",
    "MatchResult",
    "MetricBootstrapResult",
    "MonitorResult",
    "MultiplicityResult",
    "OmittedBiasResult",
    "OutlierResult",
    "OverlapResult",
    "PanelEffectResult",
    "PartialR2Result",
    "PeekingResult",
    "PermutationImportanceResult",
    "PolicyRegretResult",
    "PolicyTreeResult",
    "PolicyValueResult",
    "PosteriorResult",
    "PowerCurveResult",
    "PowerResult",
    "PriorResult",
    "ProfitCurveResult",
    "ProjectionResult",
    "PropensityResult",
    "ProxyAcrossResult",
    "ProxyResult",
    "QualityResult",
    "RankingResult",
    "Recipe",
    "RefutationResult",
    "RefutationsResult",
    "ResamplingResult",
    "RestrictedMeanResult",
    "Result",
    "RetentionResult",
    "RevenueResult",
    "RoleResult",
    "RosenbaumResult",
    "SampleRatioResult",
    "ScorerComparisonResult",
    "SegmentRatioResult",
    "SegmentRule",
    "SegmentScanResult",
    "SegmentsResult",
    "SensitivityResult",
    "ShapImportanceResult",
    "ShrinkageResult",
    "SimulatedConfounderResult",
    "StagewiseResult",
    "StoppingResult",
    "StudyReport",
    "SurvivalCurveResult",
    "SurvivalResult",
    "TimeSavedResult",
    "TippingResult",
    "TrendResult",
    "UpliftBinsResult",
    "UpliftCalibrationResult",
    "UpliftIntervalsResult",
    "VerdictResult",
    "WeightSpreadResult",
    "WeightsResult",
    "dump_results",
    "format_interval",
    "format_level",
    "format_metric",
    "format_number",
    "format_percent",
    "format_pvalue",
    "load_results",
]
