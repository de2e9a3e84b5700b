"""The social pressure study: published turnouts, and errors of households by a plain second way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.social_pressure.run import (
    LETTERS,
    PAST_VOTES,
    PUBLISHED,
    SocialPressure,
    effect,
    error_ratio,
    load_voters,
    main,
    naive_false_alarms,
    turnout,
)

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def voters(data_dir: Path) -> pd.DataFrame:
    return load_voters(data_dir)


@pytest.fixture(scope="module")
def found(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SocialPressure, str]:
    output = tmp_path_factory.mktemp("social_pressure")
    results = main(["--output", str(output), "--data-dir", str(data_dir)], n_simulations=300)
    assert {p.name for p in output.iterdir()} == {"index.html", "turnout.png", "effects.png", "aa.png"}
    return results, (output / "index.html").read_text(encoding="utf-8")


def cluster_robust(x: np.ndarray, y: np.ndarray, clusters: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with the sandwich of sums over clusters (Liang and Zeger 1986), without corrections."""
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    scores = pd.DataFrame(x * (y - x @ beta)[:, None]).groupby(clusters.to_numpy()).sum().to_numpy()
    bread = np.linalg.inv(x.T @ x)
    return beta, np.sqrt(np.diag(bread @ scores.T @ scores @ bread))


def two_arms(voters: pd.DataFrame, letter: str) -> tuple[pd.DataFrame, np.ndarray]:
    part = voters[voters["treatment"].isin(["Control", letter])]
    treated = (part["treatment"] == letter).to_numpy(float)
    return part, np.column_stack([np.ones(len(part)), treated])


def test_published_effects(found: tuple[SocialPressure, str]) -> None:
    """Gerber, Green and Larimer 2008: turnouts of 29.7% and 31.5, 32.2, 34.5, 37.8%; Neighbors about 8.1 points."""
    turnouts = [effect(found[0].clustered, letter) for letter in LETTERS]
    assert [round(100 * e.treatment_mean, 1) for e in turnouts] == [31.5, 32.2, 34.5, 37.8]
    assert round(100 * turnouts[0].control_mean, 1) == 29.7
    for e in turnouts:
        assert e.estimate == pytest.approx(PUBLISHED[e.treatment], abs=6e-4)
        assert e.n_control + e.n_treatment == e.n_obs
    assert round(100 * turnouts[-1].estimate, 1) == 8.1


@pytest.mark.parametrize("letter", ["Civic Duty", "Neighbors"])
def test_errors_of_households_by_hand(found: tuple[SocialPressure, str], voters: pd.DataFrame, letter: str) -> None:
    part, x = two_arms(voters, letter)
    beta, errors = cluster_robust(x, part["voted"].to_numpy(float), part["hh_id"])
    e = effect(found[0].clustered, letter)
    assert e.estimate == pytest.approx(beta[1], rel=1e-9)
    assert e.std_error == pytest.approx(errors[1], rel=1e-4)  # of 1 / (households - 1)


@pytest.mark.parametrize("letter", ["Self", "Neighbors"])
def test_adjusted_effects_by_hand(found: tuple[SocialPressure, str], voters: pd.DataFrame, letter: str) -> None:
    """As regression on the earlier votes gives them; its coefficients weigh the voters a little differently."""
    part, x = two_arms(voters, letter)
    x = np.column_stack([x, part[list(PAST_VOTES)].to_numpy(float)])
    beta, errors = cluster_robust(x, part["voted"].to_numpy(float), part["hh_id"])
    e = effect(found[0].adjusted, letter)
    assert e.estimate == pytest.approx(beta[1], abs=0.1 * errors[1])
    assert e.std_error == pytest.approx(errors[1], rel=0.005)


def test_ratios_of_errors(found: tuple[SocialPressure, str]) -> None:
    """Clustering makes errors a quarter larger, earlier votes make them 4% smaller."""
    for letter in LETTERS:
        assert error_ratio(found[0].clustered, found[0].naive, letter) == pytest.approx(1.25, abs=0.005)
        assert error_ratio(found[0].adjusted, found[0].clustered, letter) == pytest.approx(0.96, abs=0.005)


def test_the_split_of_households_is_as_designed(found: tuple[SocialPressure, str]) -> None:
    [split] = found[0].clustered.sample_ratio
    assert (sum(split.counts), dict(zip(split.arms, split.counts, strict=True))["Control"]) == (180_002, 99_999)
    assert split.pvalue > 0.9
    assert min(e.pvalue for e in found[0].adjusted.pre_period) > 0.05


def test_false_alarms(found: tuple[SocialPressure, str]) -> None:
    """The test of voters has the size that the ratio of errors makes it have; the test of households its own."""
    ratio = error_ratio(found[0].clustered, found[0].naive, "Neighbors")
    size = 2 * stats.norm.sf(stats.norm.ppf(0.975) / ratio)
    low, high = stats.binom.ppf([0.0005, 0.9995], found[0].aa.n_simulations, size) / found[0].aa.n_simulations
    assert low <= found[0].false_alarms_naive <= high
    assert found[0].aa.calibrated
    assert found[0].aa.uniformity_pvalue > 0.001


def test_false_alarms_of_voters_who_live_alone_are_as_said(voters: pd.DataFrame) -> None:
    alone = voters[voters["hh_size"] == 1]
    low, high = stats.binom.ppf([0.0005, 0.9995], 200, 0.05) / 200
    assert low <= naive_false_alarms(alone, 200) <= high


def test_pressure_by_pressure(found: tuple[SocialPressure, str]) -> None:
    hawthorne, own, neighbours = found[0].steps.values()
    assert hawthorne.pvalue > 0.05
    assert max(own.pvalue, neighbours.pvalue) < 1e-7
    assert neighbours.estimate == pytest.approx(0.378 - 0.345, abs=0.002)


def test_the_page_gives_advice(found: tuple[SocialPressure, str]) -> None:
    assert "show the household its own record" in found[1]
    assert "Always analyse by the unit that was assigned" in found[1]


@pytest.mark.slow
def test_blocks_as_strata_change_little(found: tuple[SocialPressure, str], voters: pd.DataFrame) -> None:
    """What the page says of the 10,000 blocks."""
    stratified = turnout(clustered=True, strata="cluster").analyze(voters)
    for letter in LETTERS:
        assert effect(stratified, letter).estimate == pytest.approx(
            effect(found[0].clustered, letter).estimate, abs=1e-3
        )
        assert error_ratio(stratified, found[0].clustered, letter) == pytest.approx(1, abs=0.005)
