"""The trainees against surveys: samples by hand, the rule of the report, and the numbers of the study's README."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalrec.results import AdjustedEffect
from experiments.lalonde.data import (
    BEFORE_PLACEBO,
    COVARIATES,
    LALONDE,
    PLACEBO,
    SQUARES,
    SURVEYS,
    TREATMENT,
    read_against,
    read_experiment,
)
from experiments.lalonde.doubts import REFUTERS, doubts_about, doubts_table
from experiments.lalonde.estimates import CHOSEN, NAIVE, Report, after_trimming, experimental_effects, study_of
from experiments.lalonde.run import Training, main

pytestmark = pytest.mark.data


def effect(estimate: float, error: float, controls: float) -> AdjustedEffect:
    return AdjustedEffect(
        estimate=estimate, std_error=error, ci_low=estimate - 2 * error, ci_high=estimate + 2 * error, pvalue=0.5,
        confidence_level=0.95, n_obs=300, method="by hand", estimand="att", n_treated=100, n_control=200,
        ess_control=controls,
    )  # fmt: skip


def test_samples(data_dir: Path) -> None:
    """Dehejia and Wahba 1999: 185 trainees, 15,992 and 2,490 controls, 429 in CPS-3; 71% without work in 1974."""
    sizes = {survey: len(read_against(survey, data_dir=data_dir)) - 185 for survey in SURVEYS}
    assert sizes == {"CPS": 15_992, "PSID": 2_490, "CPS-3": 429}
    frame = read_against("CPS-3", data_dir=data_dir)
    trainees = frame[frame[TREATMENT] == 1]
    assert trainees["none74"].mean() == pytest.approx(0.708, abs=5e-4)
    assert {*COVARIATES, *SQUARES} <= set(frame.columns)
    assert not frame.isna().any(axis=None)
    assert "re74" not in read_experiment(LALONDE, data_dir)


def test_experiments_by_hand(data_dir: Path) -> None:
    for sample, found in experimental_effects(data_dir).items():
        frame = read_experiment(sample, data_dir)
        arms = [frame.loc[frame[TREATMENT] == t, "re78"] for t in (1, 0)]
        assert found.estimate == pytest.approx(arms[0].mean() - arms[1].mean(), rel=1e-12)
        assert found.std_error == pytest.approx(np.sqrt(sum(y.var() / len(y) for y in arms)), rel=1e-9)


def test_rule_of_the_report() -> None:
    """Nothing on few controls; as it is where the placebo finds nothing; else wider by what the placebo finds."""
    few = Report("a", effect(1000, 100, 20), effect(0, 100, 20))
    assert not few.comparable
    assert np.isnan(few.interval).all()
    clean = Report("b", effect(1000, 100, 80), effect(150, 100, 80))
    assert clean.interval == (800, 1200)
    biased = Report("c", effect(1000, 100, 80), effect(-500, 100, 80))
    assert (biased.allowance, biased.interval) == (500, (300, 1700))


def test_trimming_keeps_who_is_in_range(data_dir: Path) -> None:
    frame = read_against("CPS-3", data_dir=data_dir)
    table = after_trimming(frame).set_index("kept")
    assert table.loc["all", ["trainees", "controls"]].tolist() == [185, 429]
    assert (table[["trainees", "controls"]] <= [185, 429]).all(axis=None)
    assert (table.loc[["common support", "best trimming"], "trainees"] < 185).all()


def test_earnings_before_are_a_control_that_the_estimate_adjusts_for(data_dir: Path) -> None:
    """By hand: entropy balancing of earnings of 1975 on what came before is the study's placebo, which passes here."""
    found = doubts_about("CPS-3", data_dir, n_simulations=20)
    before = study_of(read_against("CPS-3", data_dir=data_dir), BEFORE_PLACEBO, PLACEBO)
    by_hand = before.estimate(CHOSEN, estimand="att")
    assert found.before.new_effect == pytest.approx(by_hand.estimate, rel=1e-9)
    assert found.before.pvalue == pytest.approx(by_hand.pvalue, rel=1e-9)
    assert set(found.report.refutations.names) == set(REFUTERS)
    table = doubts_table({"CPS-3": found}, effect(1794, 670, 185))
    assert table[""].iloc[-1] == "off the experiment's, $"
    assert table["CPS-3"].iloc[-1] == "−861"


@pytest.fixture(scope="module")
def told(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, str]:
    output = tmp_path_factory.mktemp("lalonde")
    found = main(["--output", str(output), "--data-dir", str(data_dir)])
    assert len(list(output.glob("*.png"))) == 12
    return found, (output / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_published_estimates(told: tuple[Training, str]) -> None:
    """−8,498 and −15,205 unadjusted; entropy balancing 1,406 and 2,425; least squares 1,066."""
    cps, psid = (told[0].comparisons[s].effects for s in ("CPS", "PSID"))
    assert [cps[NAIVE].estimate, psid[NAIVE].estimate] == pytest.approx([-8497.516, -15204.777], abs=1e-3)
    assert [cps[CHOSEN].estimate, psid[CHOSEN].estimate] == pytest.approx([1406.30, 2424.66], abs=6e-3)
    assert cps["ols"].estimate == pytest.approx(1066.376, abs=1e-3)


@pytest.mark.slow
def test_placebo_and_reports(told: tuple[Training, str]) -> None:
    """Against the CPS no method passes the placebo; two reports, both of which hold the experiment's answer."""
    found, page = told
    cps = found.comparisons["CPS"]
    assert not any(e.ci_low <= 0 <= e.ci_high for e in cps.placebo.effects)
    reports = {s: c.report for s, c in found.comparisons.items()}
    assert {s: r.comparable for s, r in reports.items()} == {"CPS": True, "PSID": False, "CPS-3": True}
    for survey in ("CPS", "CPS-3"):
        low, high = reports[survey].interval
        assert low < found.truth.estimate < high
    assert reports["CPS"].allowance == pytest.approx(1227, abs=1)
    for words in ("draw lots", "PSID: no estimate", "its sign is open"):
        assert words in page


@pytest.mark.slow
def test_one_year_of_earnings_misses_by_as_much_as_the_placebo(told: tuple[Training, str]) -> None:
    found = told[0]
    cps = found.comparisons["CPS"]
    missed = cps.without_1974[CHOSEN].estimate - found.experiments[LALONDE].estimate
    assert missed == pytest.approx(-1453, abs=1)
    assert cps.placebo[CHOSEN].estimate == pytest.approx(-1227, abs=1)
    assert isinstance(found.specifications["CPS"], pd.DataFrame)


@pytest.mark.slow
def test_what_an_analyst_would_have_known(told: tuple[Training, str]) -> None:
    """Simulated refutations pass everywhere; earnings before fail against CPS and PSID; no sign is established."""
    found, page = told
    assert all(d.report.refutations.passed for d in found.doubts.values())
    assert {s: d.before.passed for s, d in found.doubts.items()} == {"CPS": False, "PSID": False, "CPS-3": True}
    for survey, d in found.doubts.items():
        placebo = found.comparisons[survey].placebo[CHOSEN]
        assert d.before.new_effect == pytest.approx(placebo.estimate, rel=1e-9)
        assert d.report.sensitivity.robustness_value_alpha == 0
        assert d.report.effect.estimate == pytest.approx(found.comparisons[survey].effects[CHOSEN].estimate, rel=1e-9)
    assert found.doubts["PSID"].report.sensitivity.gamma == 1
    assert 1.1 < found.doubts["CPS"].report.sensitivity.gamma < 1.25
    assert {found.doubts[s].report.verdict for s in ("CPS", "PSID")} == {"doubtful"}
    assert "no survey establishes the sign" in page
