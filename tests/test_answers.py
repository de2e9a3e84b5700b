"""Answers in words claim what test and interval both carry; tables, texts and margins say what the results hold."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest import (
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Proportion,
    SampleRatio,
    Superiority,
    power_curve,
    solve_power,
    two_proportion_test,
    welch_test,
)
from causalrec.exceptions import CausalRecError
from causalrec.results import AAResult, ABResult, OutlierResult, SampleRatioResult, TrendResult
from causalrec.results.answers import answer_groups, answer_sentences, answer_words, margins
from causalrec.results.base import pvalue_text, written_interval

NAN, INF = math.nan, math.inf
HYPOTHESES = [
    *(Superiority(a) for a in ("two-sided", "greater", "less")),
    *(NonInferiority(0.3, relative=r, higher_is_better=h) for r in (False, True) for h in (False, True)),
    *(Equivalence(m, relative=r) for m, r in ((3.0, False), (0.3, True), (0.06, True))),
]


def shown_by_the_interval(effect: ABResult, hypothesis: object, control: float) -> bool:
    """The duality of tests and intervals, written down again: absolute, or by t - theta c for relative margins."""
    if isinstance(hypothesis, Superiority):
        return {"two-sided": not effect.ci_low <= 0 <= effect.ci_high, "greater": effect.ci_low > 0,
                "less": effect.ci_high < 0}[hypothesis.alternative]  # fmt: skip
    assert isinstance(hypothesis, NonInferiority | Equivalence)
    m = hypothesis.margin
    low, high = (effect.ci_low, effect.ci_high)
    if hypothesis.relative:  # in parts of |control|, so that more is up
        low, high = (effect.relative_ci_low, effect.relative_ci_high)
        low, high = (low, high) if control > 0 else (-high, -low)
    if isinstance(hypothesis, Equivalence):
        return -m < low and high < m
    return low > -m if hypothesis.higher_is_better else high < m


@pytest.mark.parametrize("hypothesis", HYPOTHESES, ids=str)
def test_the_answer_is_that_of_the_interval(hypothesis: Superiority | NonInferiority | Equivalence) -> None:
    found = set()
    for control, effect in itertools.product((10.0, -10.0), (-6.0, -2.9, -1.0, -0.05, 0.0, 0.05, 1.0, 2.9, 6.0)):
        result = welch_test(control, 9.0, 300, control + effect, 9.0, 300, hypothesis=hypothesis)
        words = answer_words(result)
        shown = not words.startswith(("no ", "not "))
        assert "unclear" not in words
        assert shown is shown_by_the_interval(result, hypothesis, control)
        assert words.startswith("lower") is (shown and effect < 0 and isinstance(hypothesis, Superiority))
        found.add(shown)
    assert found == {True, False}


def test_where_test_and_interval_disagree_neither_is_followed() -> None:
    """A pooled test with an unpooled interval: they part near the border."""
    found = [
        two_proportion_test(2, 30, x, 300, pooled=True) for x in range(1, 100)
    ]  # fmt: skip
    apart = [e for e in found if (e.pvalue < 0.05) is (e.ci_low <= 0 <= e.ci_high)]
    assert apart
    assert {answer_words(e) for e in apart} == {"unclear: p-value and interval disagree"}
    assert all("unclear" not in answer_words(e) for e in found if not any(e is other for other in apart))


def test_no_test_is_no_answer() -> None:
    effect = dataclasses.replace(welch_test(1.0, 1.0, 50, 1.1, 1.0, 50), pvalue=NAN, ci_low=NAN, ci_high=NAN)
    assert answer_words(effect) == "not tested"


def test_equivalence_says_its_level_and_that_it_is_not_shown() -> None:
    effect = two_proportion_test(1_000, 10_000, 1_300, 10_000, hypothesis=Equivalence(0.02))
    assert effect.interval_level == 0.9
    assert "90% CI" in str(effect)
    assert "95% CI" not in str(effect)
    assert "not shown to be within ±0.02 of control" in str(effect)
    close = two_proportion_test(10_000, 100_000, 10_010, 100_000, hypothesis=Equivalence(0.02))
    assert ", within ±0.02 of control," in str(close)


def test_sentences_and_groups() -> None:
    effects = [
        welch_test(10.0, 4.0, 900, 10.4, 4.0, 900, metric="up", control="A", treatment="B"),
        welch_test(10.0, 4.0, 900, 10.01, 4.0, 900, metric="same", control="A", treatment="B"),
        welch_test(10.0, 4.0, 900, 9.99, 4.0, 900, metric="ni", control="A", treatment="B",
                   hypothesis=NonInferiority(0.02, relative=True, higher_is_better=False)),
        welch_test(-1.0, 4.0, 900, -0.5, 4.0, 900, metric="debt", control="A", treatment="B"),
    ]  # fmt: skip
    lines = list(answer_sentences(effects))
    assert lines[0].startswith("up: +4.0% [")
    assert lines[0].endswith("], higher")
    assert lines[1].endswith("no difference shown")
    assert ", at most +" in lines[2]
    assert lines[2].endswith(f"less than 2% worse ({pvalue_text(effects[2].pvalue)})")
    assert lines[3].startswith("debt: 0.500 [")  # a share of a negative mean says little
    assert list(answer_groups(effects)) == [
        "higher: up, debt", "no difference shown: same", "less than 2% worse: ni",
    ]  # fmt: skip


def test_margins_on_the_other_scale() -> None:
    effect = welch_test(-10.0, 4.0, 900, -10.0, 4.0, 900, hypothesis=NonInferiority(0.1, relative=True))
    assert margins(effect, relative=True) == pytest.approx((NAN, 0.1), nan_ok=True)  # -11 is a tenth more, and worse
    assert margins(effect, relative=False) == pytest.approx((-1.0, NAN), nan_ok=True)
    effect = welch_test(20.0, 4.0, 900, 20.0, 4.0, 900, hypothesis=Equivalence(1.0))
    assert margins(effect, relative=True) == pytest.approx((-0.05, 0.05))
    assert margins(effect, relative=False) == (-1.0, 1.0)
    assert all(map(math.isnan, margins(welch_test(0.0, 4.0, 9, 1.0, 4.0, 9), relative=True)))


def test_numbers_in_sentences() -> None:
    assert written_interval(NAN, -INF, INF, percent=True) == "–"
    assert written_interval(NAN, NAN, NAN) == "–"
    assert written_interval(1.0, NAN, NAN) == "1.00"
    assert written_interval(0.0731, 0.0383, 0.109, percent=True) == "+7.3% [+3.8%, +10.9%]"
    assert written_interval(0.5, 0.25, INF, words=True) == "0.500, at least 0.250"
    assert pvalue_text(0.0) == "p < 1e-300"
    assert pvalue_text(0.01234) == "p = 0.0123"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 3_000
    return pd.DataFrame({
        "v": rng.choice(["A", "B"], n), "y": rng.normal(10, 2, n), "x": rng.normal(size=n), "d": rng.integers(0, 3, n),
        "b": rng.random(n) < 0.1,
    })  # fmt: skip


def test_every_part_is_a_table(frame: pd.DataFrame) -> None:
    metrics = {"y": Mean("y", covariates=["x"]), "b": Proportion("b"), "split": SampleRatio({"A": 0.5, "B": 0.5})}
    result = Experiment(metrics, variant="v", control="A", segments=["d"], day=None).analyze(frame)
    lead = ["metric", "control", "treatment", "segment"]
    assert result.to_frame().columns[:4].tolist() == lead
    segments = result.to_frame("segments").set_index(["metric", "segment"])
    assert len(segments) == 6
    assert segments.loc[("y", "d = 1"), "estimate"] == next(
        e.estimate for e in result.segments if (e.metric, e.segment) == ("y", "d = 1")
    )
    assert result.to_frame("interactions").columns[:4].tolist() == [*lead[:3], "dimension"]
    assert result.to_frame("segment_ratios").columns[0] == "dimension"
    assert len(result.to_frame("sample_ratio")) == len(result.to_frame("pre_period")) == 1
    assert result.to_frame("trends").empty
    with pytest.raises(CausalRecError, match=r"what is 'segmants'; expected one of .*Did you mean 'segments'"):
        result.to_frame("segmants")  # type: ignore[arg-type]


def test_a_broken_split_stands_above_the_table(frame: pd.DataFrame) -> None:
    metrics = {"y": Mean("y"), "split": SampleRatio({"A": 0.9, "B": 0.1})}
    result = Experiment(metrics, variant="v", control="A").analyze(frame)
    text = str(result)
    assert text.splitlines()[1].startswith("SAMPLE RATIO MISMATCH (p ")
    assert "<b>SAMPLE RATIO MISMATCH" in result._repr_html_()
    assert "corrected for their number" not in text  # there is one comparison
    sound = Experiment(metrics | {"split": SampleRatio({"A": 1, "B": 1})}, variant="v", control="A").analyze(frame)
    assert "MISMATCH" not in str(sound)
    assert ", as designed" in str(sound)


def test_an_experiment_of_its_split_alone_has_no_empty_table(frame: pd.DataFrame) -> None:
    result = Experiment({"split": SampleRatio()}, variant="v", control="A").analyze(frame)
    assert "lift" not in str(result)
    assert "sample ratio: A" in str(result)
    assert "<table>" not in result._repr_html_()


def test_triggered_units_are_counted_in_the_title(frame: pd.DataFrame) -> None:
    triggered = frame.assign(t=frame["d"] > 0)
    result = Experiment({"y": Mean("y")}, variant="v", control="A", trigger="t").analyze(triggered)
    assert str(result).startswith(f"Experiment: {triggered['t'].sum():,} triggered of 3,000 units")


def test_designs_print_what_they_say() -> None:
    design = solve_power(mean=10, std=20, effect=1, power=0.8)
    assert str(design).startswith("80.0% power for an effect of 1 (+10.00%) with 12,562 units: 6,281 in control, 6,281")
    assert "days" not in str(design)
    assert "; 13 days (" in str(dataclasses.replace(design, days=13.0))
    curve = power_curve(proportion=0.0179, effect=[0.0025, 0.005], n_obs=[10_000, 20_000, 40_000])
    lines = [line.split() for line in str(curve).splitlines()[1:]]
    assert lines[0] == ["effect", "10,000", "20,000", "40,000", "80%", "from"]
    assert lines[1] == ["0.0025", "15%", "25%", "45%", "not", "reached"]
    assert lines[2] == ["0.005", "42%", "71%", "94%", "40,000"]


def test_checks_print_what_they_say() -> None:
    aa = AAResult("y", 0.05, 0.051, 0.04, 0.07, 0.5, True, 1_000, 900, "two halves", np.array([0.5]))
    assert str(aa) == (
        "y: 5.1% [4.0%, 7.0%] of 1,000 splits by lot find an effect at alpha = 0.05, as it should be; "
        "uniformity p = 0.5, n = 900 (two halves)"
    )
    assert "NOT as it should be" in str(dataclasses.replace(aa, calibrated=False))
    outliers = OutlierResult("y", 1.0, INF, 0.2, "Fisher", ("A", "B"), (10, 20), (1, 3), (1.0, 1.0), (1.0, 1.0))
    assert str(outliers) == "y: below 1 are 1 of 10 (10.00%) in A, 3 of 20 (15.00%) in B; p = 0.2 (Fisher)"
    assert dataclasses.replace(outliers, high=2.0).threshold == "outside [1, 2]"
    assert str(SampleRatioResult(0.5, 0.1, 1, 10, 0.001, False, "chi-square")).startswith("SampleRatioResult")


def test_whole_days_are_whole() -> None:
    days, effect = np.array([0.0, 1.0, 2.0]), np.zeros(3)
    known = (0.0, 1.0, -1.0, 1.0, 0.5, 0.95, 9, "z", "slope", "y", "A", "B")
    assert TrendResult(*known, days, effect, effect, effect).to_frame()["day"].tolist() == [0, 1, 2]
    assert TrendResult(*known, days, effect, effect, effect).to_frame()["day"].dtype == np.int64
    assert TrendResult(*known, days + 0.5, effect, effect, effect).to_frame()["day"].tolist() == [0.5, 1.5, 2.5]
