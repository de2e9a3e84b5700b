"""The A/B test of a design against scipy and statsmodels on the raw frame, and the check of its split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest

from causalrec.config import OutcomeConfig, parse_config
from causalrec.engines import Engine, LocalEngine
from causalrec.pipelines.designs import Design
from causalrec.pipelines.experiment import ABOutput, analyse_experiment


def design_of(n: int = 2000, share: float = 0.5, expected_share: float | None = 0.5) -> Design:
    rng = np.random.default_rng(4)
    t = (np.arange(n) < share * n).astype(np.int64)
    frame = pd.DataFrame({
        "user_id": np.arange(n), "t": t, "bought": (rng.random(n) < 0.2 + 0.05 * t).astype(float),
        "spend": rng.exponential(10, n) * (1 + 0.2 * t), "age": rng.integers(18, 80, n),
    })  # fmt: skip
    return Design(
        name="experiment", frame=frame, unit="user_id", treatment="t", control="old", treated="new",
        outcomes={"bought": OutcomeConfig(kind="proportion"), "spend": OutcomeConfig(kind="mean")},
        covariates=("age",), randomised=True, expected_share=expected_share,
    )  # fmt: skip


def analyse(design: Design, *, level: float = 0.95, engine: Engine | None = None, **abtest: Any) -> ABOutput:
    config = parse_config({"name": "test", "confidence_level": level, "abtest": abtest})
    if engine is not None:
        return analyse_experiment(design, config, engine)
    with LocalEngine(threads=1) as local:
        return analyse_experiment(design, config, local)


def arms_of(design: Design, metric: str) -> tuple[pd.Series, pd.Series]:
    frame = design.frame
    return frame.loc[frame["t"] == 0, metric], frame.loc[frame["t"] == 1, metric]


@pytest.mark.parametrize("level", [0.95, 0.9])
def test_means_are_compared_as_scipy_does(level: float) -> None:
    design = design_of(share=0.3)
    found = next(r for r in analyse(design, level=level).metrics if r.metric == "spend")
    control, treated = arms_of(design, "spend")
    welch = stats.ttest_ind(treated, control, equal_var=False)
    interval = welch.confidence_interval(level)
    expected = [
        treated.mean() - control.mean(), welch.statistic, welch.df, welch.pvalue, interval.low, interval.high,
        control.mean(), treated.mean(), treated.mean() / control.mean() - 1,
    ]  # fmt: skip
    got = [found.estimate, found.statistic, found.df, found.pvalue, found.ci_low, found.ci_high,
           found.control_mean, found.treatment_mean, found.relative_effect]  # fmt: skip
    assert got == pytest.approx(expected, rel=1e-9)
    assert (found.control, found.treatment) == ("old", "new")
    assert (found.n_control, found.n_treatment, found.n_obs) == (len(control), len(treated), 2000)


def test_proportions_are_compared_as_statsmodels_does() -> None:
    design = design_of(share=0.3)
    found = next(r for r in analyse(design).metrics if r.metric == "bought")
    control, treated = arms_of(design, "bought")
    z, pvalue = proportions_ztest([treated.sum(), control.sum()], [len(treated), len(control)])
    assert [found.statistic, found.pvalue] == pytest.approx([z, pvalue], rel=1e-9)
    assert found.estimate == pytest.approx(treated.mean() - control.mean(), rel=1e-12)


def test_the_metrics_are_those_asked_for_in_their_order() -> None:
    assert [r.metric for r in analyse(design_of()).metrics] == ["bought", "spend"]
    assert [r.metric for r in analyse(design_of(), metrics=["spend"]).metrics] == ["spend"]
    assert [r.metric for r in analyse(design_of(), metrics=["spend", "bought"]).metrics] == ["spend", "bought"]


def test_without_a_designed_share_the_split_is_not_judged() -> None:
    found = analyse(design_of(share=0.8, expected_share=None))
    assert found.ratio is None
    assert found.notes == ("A/B test: the split is not checked; give experiment.expected_share",)
    assert len(found.metrics) == 2


@pytest.mark.parametrize(("n", "share", "expected_share"), [(2000, 0.5, 0.5), (2000, 0.2, 0.2), (500, 0.52, 0.5)])
def test_a_split_as_designed_is_not_noted(n: int, share: float, expected_share: float) -> None:
    found = analyse(design_of(n, share, expected_share))
    assert found.notes == ()
    assert found.ratio is not None
    treated = round(n * share)
    counts, expected = [n - treated, treated], [n * (1 - expected_share), n * expected_share]
    exact = stats.binomtest(counts[0], n, 1 - expected_share).pvalue
    assert found.ratio.pvalue == pytest.approx(
        stats.chisquare(counts, expected).pvalue if n >= 1000 else exact, rel=1e-9
    )


@pytest.mark.parametrize(
    ("share", "threshold", "broken"), [(0.56, 0.001, True), (0.53, 0.001, False), (0.53, 0.05, True)]
)
def test_a_broken_split_is_noted_and_the_numbers_are_there(share: float, threshold: float, broken: bool) -> None:
    design = design_of(share=share)
    found = analyse(design, srm_threshold=threshold)
    assert found.ratio is not None
    treated = round(2000 * share)
    pvalue = stats.chisquare([2000 - treated, treated]).pvalue
    assert found.ratio.pvalue == pytest.approx(pvalue, rel=1e-9)
    assert found.ratio.mismatch == broken == (pvalue < threshold)
    assert len(found.notes) == broken
    for note in found.notes:
        counts = f"old {2000 - treated:,}, new {treated:,}"
        assert note.startswith(f"sample ratio mismatch: {counts} (p = {pvalue:.3g})")
    control, treated_values = arms_of(design, "spend")
    assert found.metrics[1].estimate == pytest.approx(treated_values.mean() - control.mean(), rel=1e-9)


def test_swapped_arms_swap_the_sign() -> None:
    design = design_of(share=0.3)
    swapped = Design(**{**vars(design), "frame": design.frame.assign(t=1 - design.frame["t"]),
                        "control": "new", "treated": "old"})  # fmt: skip
    for first, second in zip(analyse(design).metrics, analyse(swapped).metrics, strict=True):
        assert second.estimate == pytest.approx(-first.estimate, rel=1e-12)
        assert second.pvalue == pytest.approx(first.pvalue, rel=1e-9)


def test_both_engines_give_the_same(engine: Engine) -> None:
    for first, second in zip(analyse(design_of()).metrics, analyse(design_of(), engine=engine).metrics, strict=True):
        assert second.estimate == pytest.approx(first.estimate, rel=1e-9)
        assert second.pvalue == pytest.approx(first.pvalue, rel=1e-9)
