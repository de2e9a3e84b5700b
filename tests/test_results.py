"""Results: frozen, flat, printable, and written and read back without losing a bit."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec import results as module
from causalrec.exceptions import CausalRecError
from causalrec.results import (
    AAResult,
    ABResult,
    AdjustedEffect,
    AllocationResult,
    AttributionResult,
    BalanceResult,
    BayesStoppingResult,
    BoostingCurveResult,
    CalibrationResult,
    CannibalisationResult,
    ChampionResult,
    ChurnResult,
    CleaningResult,
    CohortRetentionResult,
    ConditionalResult,
    ConfounderStrengthResult,
    ConversionFunnelResult,
    CostCurveComparisonResult,
    CostCurveResult,
    CoxResult,
    CreditResult,
    CurveResult,
    DailyUsersResult,
    DistributionResult,
    EffectComparisonResult,
    EffectResult,
    EValueResult,
    ExperimentResult,
    FunnelResult,
    GroupBoundsResult,
    GroupDesignResult,
    GroupEffectsResult,
    HazardRatioResult,
    HeterogeneityResult,
    IdentificationResult,
    ImpactResult,
    ImportanceResult,
    InstrumentEffect,
    LearnerComparisonResult,
    LogrankResult,
    MatchResult,
    MetricBootstrapResult,
    MonitorResult,
    MultiplicityResult,
    OmittedBiasResult,
    OutlierResult,
    OverlapResult,
    PanelEffectResult,
    PartialR2Result,
    PeekingResult,
    PermutationImportanceResult,
    PolicyRegretResult,
    PolicyTreeResult,
    PolicyValueResult,
    PosteriorResult,
    PowerCurveResult,
    PowerResult,
    PriorResult,
    ProfitCurveResult,
    ProjectionResult,
    PropensityResult,
    ProxyAcrossResult,
    ProxyResult,
    QualityResult,
    RankingResult,
    RefutationResult,
    RefutationsResult,
    ResamplingResult,
    RestrictedMeanResult,
    Result,
    RetentionResult,
    RevenueResult,
    RoleResult,
    RosenbaumResult,
    SampleRatioResult,
    ScorerComparisonResult,
    SegmentRatioResult,
    SegmentScanResult,
    SegmentsResult,
    SensitivityResult,
    ShapImportanceResult,
    ShrinkageResult,
    SimulatedConfounderResult,
    StagewiseResult,
    StudyReport,
    SurvivalCurveResult,
    SurvivalResult,
    TimeSavedResult,
    TippingResult,
    TrendResult,
    UpliftBinsResult,
    UpliftCalibrationResult,
    UpliftIntervalsResult,
    VerdictResult,
    WeightSpreadResult,
    WeightsResult,
    dump_results,
    format_interval,
    format_level,
    format_number,
    format_percent,
    load_results,
)

NAN, INF = math.nan, math.inf
EFFECT = (0.1 + 0.2, 1 / 3, -INF, NAN, 1e-300, 0.95, 7, "Welch <t>", "ate")
F = np.array([0.1, NAN, INF, -0.0])
I = np.array([1, 2**53 + 1, 3, 4])  # noqa: E741
EMPTY_F, EMPTY_I = np.array([], dtype=np.float64), np.array([], dtype=np.int64)

AB = ABResult(*EFFECT, "spend", "A", "B", 1.0, 1.3, 3, 4, 2.5, INF, NAN, NAN, INF)
RATIO = SampleRatioResult(0.0086, 6.9, 1, 3, 0.001, False, "chi-square", ("A", "B"), (1, 2), (1.5, 1.5))
SEGMENTS = SegmentRatioResult(
    "web", 1e-300, 0.001, True, 2, "Holm", np.array(["web", "ü"]), I[:2], F[:2], F[2:], F[:2], "device"
)
DIFFERENCE = HeterogeneityResult("spend", "A", "B", "device", 7.5, 1, 0.006, 2, "Cochran's Q")
TREND = TrendResult(*EFFECT, "spend", "A", "B", F, F, F, F)
BOUNDS = (4, 0.05, "two-sided", "Pocock", "none", False, NAN, NAN, F, F, F, F, F, F)
ROLE = RoleResult("spend", "primary", "B", "win", "two-sided", 0.1, -INF, NAN, 0.1 + 0.2, NAN, INF, 1e-300, NAN)
MONITORED = MonitorResult(
    "continue", "2 of <3>", 2, "ü", 7, NAN, NAN, "always valid", "all", 0.95, NAN, False, "A", (AB,), (), ("a <note>",),
    ("1", "ü"), I[:2], np.array(["spend", "ü"]), np.array(["B", "B"]), np.array([True, False]), F[:2], F[:2], F[:2],
    np.array(["open", "rejected"]), np.array(["no answer yet", "higher"]), np.array([0, 1]), I * 0, I * 0 + 1, *[F] * 9,
)  # fmt: skip
POSTERIOR = PosteriorResult(
    "spend",
    "A",
    "B",
    0.9,
    1e-300,
    NAN,
    False,
    NAN,
    0.95,
    True,
    "normal",
    "flat",
    "<t>",
    NAN,
    INF,
    ("A", "B"),
    *[F[:2]] * 14,
    *[np.array([[0.1, NAN], [INF, -0.0]])] * 2,
)
VERDICT = VerdictResult(
    "ship", "B", 7, 0.95, "always valid", "holm", NAN, INF, "", "<t>", ("C",), ("a <note>", "ü"), (ROLE, ROLE)
)
CURVE = SurvivalCurveResult("A", 4, 2, 9.5, 3.0, NAN, INF, 0.95, "KM <t>", F, F, F, F, F, F, F, EMPTY_F)
SEGMENTED = SegmentsResult(
    "A", "B", 0.1, NAN, 0.3, 0.1 + 0.2, NAN, -INF, INF, 0.95, 7, 2, "<t>", np.array(["persuadables", "sure things"]),
    I[:2], *[F[:2]] * 13, I[:2], *[F[:2]] * 5, np.array(["persuadables", "no effect shown"]),
    np.array(["persuadables", "persuadables", "sure things"]), np.array(["a <t>", "b=ü", "c"]), *[F[:3]] * 3,
    np.array(["persuadables"]), F[:1], F[:1], I[:1],
)  # fmt: skip
HAZARD = HazardRatioResult(*EFFECT, "A", "B", 1.35, 0.0, INF, 4, NAN, NAN)
SQUARE = np.array([[0.1, NAN], [INF, -0.0]])
SCORE = PropensityResult(4, "logistic <t>", False, False, 0.0, F, SQUARE, F, SQUARE, F)
ADJUSTED = AdjustedEffect(*EFFECT, 4, 3, 1, 2.5, NAN, 0.1, F, F)
NAMES = np.array(["A", "B=ü", "", "a <note>"])
PLACEBO = RefutationResult(
    "placebo_treatment", 0.1, 0.2, 0.0, 0.0, 0.1, -0.1, 0.1, 0.5, 0.01, 0.95, 4, "shuffled", "Little.", F
)
REFUTATIONS = RefutationsResult(
    "mail", "visit", "att", "matching <1:1>", 0.1, NAN, ("placebo_treatment", "ü"), (PLACEBO, PLACEBO), F[:2],
    ("bootstrap: is not valid",),
)  # fmt: skip
IDENTIFIED = IdentificationResult(
    "ate", "mail", "visit", ("age",), ("no hidden causes",), "E[...]", "backdoor", (("age",), ()), ("coin",), (), (),
    (("opened", "a mediator: lies on the way"),), ("mood",), (("age", "mail"), ("mail", "visit")),
)  # fmt: skip
SENSITIVITY = SensitivityResult(
    "mail", "visit", "att", "matching", 0.1, -0.1, 0.3, 0.95, 1.3, 2.0, 1.0, 0.1, 0.0, "age", None, None, None, None,
    None, ("no pairs",),
)  # fmt: skip
REPORT = StudyReport(
    "mail", "visit", "att", 4, IDENTIFIED, ADJUSTED, None, None, None, REFUTATIONS, SENSITIVITY, ("a doubt",),
    "It <b>works</b>.",
)  # fmt: skip
EXAMPLES = [
    EffectResult(*EFFECT),
    AB,
    RATIO,
    SampleRatioResult(0.0086, 6.9, 1, 3, 0.001, False, "chi-square"),
    RankingResult(*EFFECT, "ranker", 10, 2),
    PLACEBO,
    CurveResult("qini", "T-learner", 0.95, 4, F, F, F, F, F),
    UpliftBinsResult(0.95, 4, I, I, F, F, F, F),
    UpliftBinsResult(0.95, 0, EMPTY_I, EMPTY_I, EMPTY_F, EMPTY_F, EMPTY_F, EMPTY_F),
    BalanceResult(
        4,
        2,
        2,
        1.5,
        2.0,
        "att",
        "treated",
        "weights",
        0.1,
        True,
        0.1,
        True,
        2,
        0,
        0,
        "a",
        0.2,
        0.1,
        0.3,
        0.1 + 0.2,
        np.array(["a", "b=ü"]),
        *[F[:2]] * 10,
    ),
    OverlapResult(4, 0.1, 0.9, 0.0, "histogram", np.array([0.0, 0.5, 1.0]), F[:2], F[:2]),
    IdentificationResult("ate", "mail", "visit", ("age",), ("no hidden causes",), "E[...]"),
    IdentificationResult("ate", "mail", "visit", (), (), "E[...]", "randomised"),
    SEGMENTS,
    DIFFERENCE,
    TREND,
    ExperimentResult(
        7, 0.95, (AB, AB), (RATIO,), (SEGMENTS,), (AB,), (AB,), (DIFFERENCE,), (TREND,), (AB,), ("a <note>", "ü")
    ),
    ExperimentResult(7, 0.95, (AB,)),
    ExperimentResult(7, 0.95, (AB,), posteriors=(POSTERIOR,), verdict=VERDICT),
    ResamplingResult(*EFFECT, "bootstrap", "mean", 1.0, 1.3, 4, F),
    PowerResult("spend", 1.0, NAN, 0.1, NAN, 0.8, 0.05, "two-sided", 10, 5, 5, 2, NAN, "t"),
    PowerCurveResult("spend", 1.0, 0.05, "t", I[:2], F[:2], np.array([[0.1, 0.5], [NAN, 1.0]])),
    AAResult("spend", 0.05, 0.04, 0.03, 0.06, 0.5, True, 4, 100, "two halves", F),
    OutlierResult("spend", -INF, 9.5, NAN, "no test", ("A", "B"), (1, 2), (0, 0), (1.0, NAN), (1.0, 2.0)),
    DistributionResult("spend", 3, ("A", "B"), F[:2], np.array([[0.1, NAN], [INF, -0.0]]), F[:2]),
    ProxyResult("minutes", "spend", "A", "B", *[0.1 * k for k in range(23)], NAN, INF, 0.95, 7, "delta <t>"),
    ProxyAcrossResult("minutes", "spend", 4, *[0.1 * k for k in range(14)], 0.95, "REML <t>", F, F, F, F, F),
    CannibalisationResult("own", "others", "A", "B", *[0.1 * k for k in range(16)], -INF, INF, 0.95, 7, "Welch <t>"),
    SegmentScanResult(
        "spend",
        "A",
        "B",
        0.1,
        -INF,
        NAN,
        4,
        3,
        1,
        1,
        2,
        0.3,
        "holm",
        0.95,
        "<t>",
        np.array(["a <t>", "ü", "c", "d"]),
        I,
        *[F] * 10,
    ),
    FunnelResult(
        ("A", "B"), ("seen", "bought"), 0.95, 7, "Wilson <t>", np.array([[9, 4], [8, 5]]), *[F.reshape(2, 2)] * 15
    ),
    PeekingResult("spend", 0.05, "two-sided", 4, 100, 9, 0.95, ("fixed", "ü"), I, *([np.array([F, F])] * 3)),
    GroupBoundsResult(*BOUNDS),
    GroupDesignResult(*BOUNDS, 0.8, 1.1, 0.7, 0.6, NAN, NAN, NAN, NAN, "normal", EMPTY_I, F, F, F, F),
    MONITORED,
    TimeSavedResult(("a <t>", "ü"), "days", 4, F[::-1].copy(), np.array([F, F])),
    StagewiseResult(*EFFECT, 2, 0.5, 3.1, 2.8, True, 0.4, 0.1, -INF, INF, 1e-300, "greater", "spend", "A", "B"),
    POSTERIOR,
    PriorResult("normal", "relative", 0.1, -INF, INF, 0.2, 0.0, NAN, 0.95, NAN, NAN, 7, -1.5, "likelihood <t>"),
    ROLE,
    VERDICT,
    VerdictResult("keep running", "", 7, 0.95, "fixed horizon", "none", 1e300, 3.0, "observed", "<t>"),
    MultiplicityResult("holm", 2, 1, 1, 0, 0.95, "<t>", *[np.array(["a <t>", "ü"])] * 4, *[F[:2]] * 5),
    ImpactResult(*EFFECT, "spend", "A", "B", 1e-300, 0.1, "absolute", 7.0, 1.0, 0.5, INF, 1.0, "EUR", ("a <note>",)),
    ShrinkageResult(0.1, 0.0, 2, 0, NAN, 0.95, "<t>", np.array(["a <t>", "ü"]), *[F[:2]] * 6),
    ConditionalResult(*EFFECT, 0.4, 0.05, "greater"),
    BayesStoppingResult(
        10,
        4,
        100,
        0.95,
        NAN,
        0.05,
        0.1,
        "<t>",
        ("fixed", "P(best)"),
        *[F[:2]] * 7,
        F,
        *[np.array([[0.1, NAN, 0.0, 1.0], [INF, -0.0, 1.0, 1.0]])] * 2,
    ),
    CURVE,
    SurvivalResult(4, 2, 0.95, "KM <t>", (CURVE, CURVE)),
    LogrankResult(1e-300, 1, 0.5, 4, 2, 1, "log-rank <t>", NAMES, F, F, F),
    RestrictedMeanResult(28.0, 7, 0.95, "<t>", (AB,), NAMES, F, F, F, F),
    HAZARD,
    CoxResult(7, 4, 7, 1, -1e300, 0.5, 0.95, "Cox <t>", "not tested", (HAZARD,), NAMES, *[F] * 7),
    ChurnResult(7.0, 2, 7, 0.95, "A", "<t>", NAMES, *[F] * 11),
    RetentionResult(7, 0.95, "A", "<t>", (AB,), NAMES, F, F, F, F, F, F, NAMES),
    UpliftIntervalsResult("A", ("B",), 0.95, 7, "bootstrap <t>", "the ü", F, F, F, F),
    UpliftIntervalsResult("A", ("B", "ü"), 0.95, 7, "forest <t>", "the ü", *[F.reshape(2, 2)] * 4),
    GroupEffectsResult(
        "A",
        "B",
        0.1 + 0.2,
        NAN,
        -INF,
        INF,
        1e-300,
        3.5,
        NAN,
        True,
        0.4,
        0.1,
        NAN,
        0.0,
        0.2,
        0.95,
        7,
        4,
        "<t>",
        NAMES,
        I,
        *[F] * 7,
    ),
    ProjectionResult("A", "B", 3.5, 1e-300, INF, 0.95, 7, "HC3 <t>", NAMES, *[F] * 6),
    CalibrationResult("A", "B", 0.9, 0.1, 0.7, 1.1, 1e-300, NAN, NAN, NAN, NAN, NAN, 0.95, 7, "HC3 <t>"),
    LearnerComparisonResult("A", 2, 4, 7, 0.95, "paired <t>", (EffectResult(*EFFECT),), NAMES, *[F] * 12),
    MetricBootstrapResult(
        "qini", 0.0, 1, 4, 7, 0.95, "<t>", np.array(["a <t>"]), *[F[:1]] * 5, np.array([[0.1], [NAN], [INF], [-0.0]])
    ),
    UpliftCalibrationResult(*EFFECT, "A", "B", -0.1, NAN, 0.0, INF, 0.3, 1.5, 2, INF, 4, I, I, *[F] * 10),
    BoostingCurveResult(
        "T <t>", 4, 1.5, 2, NAMES, NAMES, NAMES, np.array([0, 1, 2, 3]), I * 0, F, F, F, I * 0, I, F, F
    ),
    ChampionResult(*EFFECT, "shop_uplift", "3", "1", "qini", 0.3, NAN, "cannot tell", False, True, "<t>"),
    SEGMENTED,
    PermutationImportanceResult("T <t>", 0.1 + 0.2, NAN, 4, 10, 7, 0.95, "<t>", NAMES, *[F] * 5),
    ShapImportanceResult("T <t>", 0.1 + 0.2, 4, 7, "<t>", NAMES, F, F, F),
    PolicyTreeResult(
        0.1 + 0.2,
        NAN,
        -INF,
        INF,
        1,
        2,
        0.95,
        7,
        "held-out rows",
        "<t>",
        np.array(["A", "B"]),
        *[F[:2]] * 6,
        np.array([-1, 0, 0]),
        np.array(["", "yes", "no"]),
        np.array(["a ≤ 1", "", ""]),
        *[np.array(["A", "B", "A"])] * 2,
        I[:3],
        *[F[:3]] * 4,
    ),
    ImportanceResult("T <t>", "effect", "gain", 4, 1, NAMES, np.array([0.7, 0.3, 0.0, NAN])),
    ScorerComparisonResult("qini", True, "A", "ü", 0.95, 7, 4, 4, "<t>", NAMES, *[F] * 5, NAMES, NAMES, *[F] * 6),
    PolicyValueResult(*EFFECT, "all A", 0.2, 0.1, NAN, -INF, INF, 1e-300, 0.5, NAMES, F),
    PolicyRegretResult("A", 4, 0.95, 7, "paired <t>", NAMES, *[F] * 7, I * 0 + 1),
    AllocationResult(4, NAN, NAN, 0.5, 0.1 + 0.2, NAN, 0.0, 0.5, 2, "ü", 0.25, "<t>", NAMES, F, F, F, I * 0),
    CostCurveResult("T <t>", "none", ("A", "ü"), 1.5, 0.95, 7, "<t>", *[F] * 6),
    CostCurveComparisonResult("A", "ü", 1.5, 0.1, NAN, -INF, INF, 1e-300, 0.95, 7, "<t>", *[F] * 5),
    ProfitCurveResult("T <t>", *[0.1 + 0.2] * 10, NAN, NAN, -INF, INF, 1e-300, 0.0, 0.95, 7, "<t>", *[F] * 8, I),
    InstrumentEffect(*EFFECT, 4, 3, 0, NAN, NAN, 0.1, None, None, 1, 0.8, -INF, INF),
    PanelEffectResult(
        *EFFECT,
        "y",
        "never_treated",
        "universal",
        "group",
        1,
        7,
        4,
        3,
        5,
        2,
        7,
        0,
        1,
        *[0.1 + 0.2, NAN] * 4,
        3.5,
        2,
        1e-300,
        INF,
        0.1,
        NAN,
        -0.5,
        NAMES,
        I,
        F,
        F,
        I,
        *[F] * 6,
        NAMES,
        NAMES,
        F,
        F,
    ),
    WeightSpreadResult(4, 2, 2, 0, 1, 1.5, NAN, 1.2, INF, 0.5, 0.1 + 0.2, "ipw <t>", F, F[:3], F[:3]),
    SCORE,
    PropensityResult(4, "known <t>", True, False, 0.0, F),
    WeightsResult(4, 2, 2, 0, "att", "entropy <t>", 1.5, NAN, 0.5, F, 0.0, 0.1, INF, F, F, SQUARE, F, F, SQUARE),
    WeightsResult(4, 2, 2, 0, "ate", "known <t>", 1.5, NAN, 0.5, F),
    MatchResult(4, 2, 2, 2, 0, "att", "1:1 <t>", "logit", 1, True, INF, 2.0, 1.5, F, I, I, I + 1, I, F, F, I, SCORE, I),
    MatchResult(4, 2, 2, 2, 0, "att", "1:1 <t>", "logit", 1, False, INF, 2.0, 1.5, F, I, I, I + 1, EMPTY_I, EMPTY_F),
    ADJUSTED,
    InstrumentEffect(*EFFECT, 4, 3, 0, NAN, NAN, 0.0, None, None, 2, 0.82, -INF, INF),
    OverlapResult(
        4, 0.1, 0.9, 0.2, "<t>", F[:3], F[:2], F[:2], 3, 1, 0.3, 0.4, 0.0, 1.0, 0.1, INF, NAN, 0.5, "att", F[:2], F[:2]
    ),
    EffectComparisonResult("mail", "spend ü", "att", 7, ("aipw", "ü"), (ADJUSTED, ADJUSTED), F[:2], ("dml: <t>",)),
    RosenbaumResult(4, 3, "signed rank <t>", "two-sided", 9.0, 0.1 + 0.2, 0.95, INF, NAN, *[F] * 7),
    RosenbaumResult(4, 3, "McNemar", "greater", 9.0, 0.2, 0.95, 1.0, NAN, *[F[:0]] * 7),
    EValueResult("or", 0.1 + 0.2, NAN, 0.9, 1.0, "√OR <t>", 0.5, NAN, 0.9, 3.4, NAN, 0.9),
    PartialR2Result("mail <t>", 0.1 + 0.2, 0.1, 3.0, 90, 100, 1.0, 0.95, 0.1, 0.2, 0.0, 1.99,
                    np.array(["a", "b=ü"]), *[F[:2]] * 9, F, SQUARE, SQUARE),
    OmittedBiasResult("ate", "aipw <t>", 9, 0.1 + 0.2, 0.1, 0.03, 0.04, 1.0, 0.0, *[0.1] * 4, -INF, INF, 0.1, 0.0, 2.0,
                      4.0, 0.95),
    ConfounderStrengthResult("age <t>", 0.1 + 0.2, 0.4, 0.01, 0.0, -0.5),
    TippingResult("ratio", "binary <t>", 0.1 + 0.2, NAN, 3.0, 1.0, NAN, *[F] * 4),
    REFUTATIONS,
    IDENTIFIED,
    SENSITIVITY,
    REPORT,
    DailyUsersResult(2, 4, 1, 1.5, 2, "2025-01-01", ("2025-01-01", "2025-01-02"), ("A", "<ü>"), I.reshape(2, 2),
                     I.reshape(2, 2)),
    CohortRetentionResult("week", 4, 1, "2025-03-01", 0.95, "Wilson <t>", ("2025-01-06", "2025-01-13"), I[:2], I[:2],
                          SQUARE, SQUARE, I[:2], I[:2], F[:2], F[:2], F[2:]),
    RevenueResult("land <t>", 4, 1, 2, NAN, ("FR", "ü"), I[:2], I[:2], I[:2], *[F[:2]] * 4),
    QualityResult(4, 2, "", "", 1, 2, 3, 4, 5, 6, 7, 500, 120, "now <t>", ("no user", "copies"), ("nulls", ""),
                  ("events", "users"), I[:2], I[:2], F[:2], ("ü", "")),
    CleaningResult(4, 2, ("nulls", "bots"), I[:2]),
    ConversionFunnelResult(("A", "<ü>"), ("view", "buy"), 0.95, 4, "Wilson <t>", I.reshape(2, 2), *[SQUARE] * 15),
    CreditResult(4, 2, 7, 1, 0, "30d", "7d", NAN, ("e-mail ü", "(none)"), ("linear", "<t>"), SQUARE, SQUARE),
    CreditResult(4, 0, 7, 0, 0, "all time", "7d", 0.1 + 0.2, ("<ü>", "(none)"), ("linear", "last_touch"), SQUARE),
    AttributionResult("conversions <t>", "2025-01-01", "2025-01-08", "2025-01-22", 9, 0.1 + 0.2, "aipw <t>", 0.95, NAN,
                      ("e-mail ü", "<search>"), ("linear", "last_touch"), I[:2], *[F[:2]] * 5, SQUARE, (ADJUSTED,),
                      ("<search>: one arm",), ("past", "ü"), F[:2]),
    AttributionResult("value", "2025-01-01", "2025-01-08", "2025-01-22", 9, 0.1 + 0.2, "aipw <t>", 0.95, NAN,
                      ("e-mail ü", "<search>"), ("linear", "last_touch"), I[:2], *[F[:2]] * 5, SQUARE, (), (), ()),
    SimulatedConfounderResult(
        "mail", "visit", "att", "matching <1:1>", 0.1, NAN, NAN, 5, F[:2], SQUARE, SQUARE, np.array(["A", "ü"]),
        *[F[:2]] * 3,
    ),
]  # fmt: skip
by_class = pytest.mark.parametrize("result", EXAMPLES, ids=lambda r: type(r).__name__)


def same(a, b):
    if isinstance(a, Result):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        exact = a.tobytes() == b.tobytes() if a.dtype.kind in "fi" else a.tolist() == b.tolist()
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and exact
    return type(a) is type(b) and (a == b or (a != a and b != b))


def test_every_result_class_is_in_these_tests():
    classes = {c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Result)} - {Result}
    assert {type(r) for r in EXAMPLES} == classes


@by_class
def test_written_and_read_back_to_the_bit(result):
    loaded = load_results(dump_results({"one": result, "many": [result, result]}))
    assert [len(loaded["many"]), type(loaded["one"])] == [2, type(result)]
    for copy in (loaded["one"], *loaded["many"]):
        for f in dataclasses.fields(result):
            assert same(getattr(result, f.name), getattr(copy, f.name)), f.name


@by_class
def test_dict_frame_text_and_html(result):
    flat = result.to_dict()
    assert flat
    assert all(type(value) in (str, int, float, bool) for value in flat.values())
    whole = np.ndarray | tuple | Result | None
    scalars = {f.name for f in dataclasses.fields(result) if not isinstance(getattr(result, f.name), whole)}
    assert set(flat) == scalars
    if type(result).to_frame is Result.to_frame:
        assert result.to_frame().columns.tolist() == list(flat)
        assert len(result.to_frame()) == 1
    assert str(result)
    html = result._repr_html_()
    if not isinstance(result, ExperimentResult | StudyReport):  # pages of their own
        assert html.count("<tr>") == len(flat)
    assert "<t>" not in html
    assert "<note>" not in html


@by_class
def test_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, dataclasses.fields(result)[0].name, 1)


def test_tables_give_their_rows():
    curve, bins, ratio, overlap = EXAMPLES[6], EXAMPLES[7], EXAMPLES[2], EXAMPLES[10]
    assert curve.to_frame().columns.tolist() == ["fraction", "value", "ci_low", "ci_high", "random"]
    np.testing.assert_array_equal(curve.to_frame()["value"], F)
    assert bins.to_frame()["n"].tolist() == I.tolist()
    assert ratio.to_frame().to_dict("list") == {"arm": ["A", "B"], "count": [1, 2], "expected": [1.5, 1.5]}
    assert overlap.to_frame()[["low", "high"]].to_numpy().tolist() == [[0.0, 0.5], [0.5, 1.0]]


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(), max_size=5), whole=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_any_floats_and_integers_survive(values, whole):
    bins = UpliftBinsResult(0.9, 1, np.array(whole, dtype=np.int64), EMPTY_I, np.array(values), F, F, F)
    copy = load_results(dump_results({"x": bins}))["x"]
    np.testing.assert_array_equal(copy.predicted, bins.predicted)
    np.testing.assert_array_equal(np.signbit(copy.predicted), np.signbit(bins.predicted) & ~np.isnan(bins.predicted))
    assert same(copy.bin, bins.bin)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NAN, "–"), (INF, "inf"), (0.0, "0"), (0.123456, "0.1235"), (1e-300, "1.00e-300"), (12345.6, "12,346"),
        (1e13, "1.00e+13"), (1234567, "1,234,567"), (np.int64(1000), "1,000"), (True, "True"), ("text", "text"),
        (-0.5, "-0.5"), (1234.5, "1234"), (0.001, "0.001"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, text):
    assert format_number(value) == text


def test_intervals_percentages_and_levels():
    assert format_interval(NAN, NAN) == "–"
    assert format_interval(-INF, 0.5) == "[-inf, 0.5]"
    assert [format_percent(v) for v in (0.4312, NAN, -INF)] == ["+43.12%", "–", "-inf%"]
    assert [format_level(v) for v in (0.95, 0.995, 0.9999, 0.57)] == ["95%", "99.5%", "99.99%", "57%"]


def test_texts():
    assert str(EXAMPLES[0]) == "ate = 0.3 95% CI [-inf, –], p = 1.00e-300, n = 7 (Welch <t>)"
    assert str(EXAMPLES[1]) == ("spend: B − A = 0.3 95% CI [-inf, –], relative –, p = 1.00e-300, n = 7 (Welch <t>)")
    assert float(EXAMPLES[0]) == 0.1 + 0.2
    assert "adjust for: nothing (randomised)." in str(EXAMPLES[12])
    assert "  mismatch   False" in str(EXAMPLES[2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not JSON", "dump_results"]),
        (json.dumps({"x": {"result": "Strange"}}), ["'Strange'", "EffectResult"]),
        (
            json.dumps({"x": {"result": "EffectResult", "estimate": 1.0, "new": 2}}),
            ["new", "std_error", "run the stage"],
        ),
    ],
)
def test_what_cannot_be_read_says_why(text, words):
    with pytest.raises(CausalRecError) as caught:
        load_results(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
