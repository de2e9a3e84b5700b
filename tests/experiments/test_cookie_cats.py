"""The Cookie Cats study: its known figures, and what it adds to them by another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.cookie_cats.run import CookieCats, load_players, lost_players, main

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def players(data_dir: Path) -> pd.DataFrame:
    return load_players(data_dir)


@pytest.fixture(scope="module")
def found(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CookieCats, str]:
    output = tmp_path_factory.mktemp("cookie_cats")
    results = main(["--output", str(output), "--data-dir", str(data_dir)])
    figures = {"retention_7.png", "effects.png", "bootstrap.png", "rounds.png"}
    assert {p.name for p in output.iterdir()} == {"index.html", *figures}
    return results, (output / "index.html").read_text(encoding="utf-8")


def test_the_suspicious_split_is_found(found: tuple[CookieCats, str]) -> None:
    """44,700 against 45,489 players: chi-square 6.90, p .0086, between the thresholds .001 and .01."""
    split = found[0].split
    assert split.counts == (44_700, 45_489)
    assert round(split.statistic, 2) == 6.90
    assert split.pvalue == pytest.approx(stats.chisquare([44_700, 45_489]).pvalue, rel=1e-9)
    assert round(split.pvalue, 4) == 0.0086
    assert (split.mismatch, split.threshold) == (False, 0.001)
    assert "alarm at the threshold .001" in found[1]
    assert "one at .01" in found[1]


def test_the_split_fails_where_no_gate_can_act(found: tuple[CookieCats, str], players: pd.DataFrame) -> None:
    few = players["sum_gamerounds"] < 30
    p = stats.chisquare(players[few]["version"].value_counts()).pvalue
    assert found[0].split_of_others.pvalue == pytest.approx(p, rel=1e-9)
    assert found[0].split_of_others.mismatch
    assert stats.chisquare(players[~few]["version"].value_counts()).pvalue > 0.8
    [within] = found[0].by_reached.segment_ratios
    assert (within.most_suspicious, within.mismatch) == ("False", True)


def test_known_retention(found: tuple[CookieCats, str]) -> None:
    """44.82% and 44.23% after a day, 19.02% and 18.20% after seven: -.82 points, z 3.16."""
    everyone = found[0].everyone
    one, seven = everyone["retention_1"], everyone["retention_7"]
    assert [round(100 * v, 2) for v in (one.control_mean, one.treatment_mean)] == [44.82, 44.23]
    assert [round(100 * v, 2) for v in (seven.control_mean, seven.treatment_mean)] == [19.02, 18.20]
    assert (round(100 * seven.estimate, 2), round(abs(seven.statistic), 2)) == (-0.82, 3.16)
    assert all(0.0015 < r.pvalue < 0.0016 for r in found[0].retention.values())


def test_effect_of_those_who_could_meet_a_gate_by_hand(found: tuple[CookieCats, str], players: pd.DataFrame) -> None:
    reached = players[players["sum_gamerounds"] >= 30]
    table = reached.groupby("version")["retention_7"].agg(["size", "mean", "sum"])
    control, treatment = table.loc["gate_30"], table.loc["gate_40"]
    estimate = treatment["mean"] - control["mean"]
    error = np.sqrt(sum(t["mean"] * (1 - t["mean"]) / t["size"] for t in (control, treatment)))
    clean = found[0].triggered["retention_7"]
    assert (clean.estimate, clean.std_error) == pytest.approx((estimate, error), rel=1e-9)
    assert clean.pvalue > 0.1
    [diluted] = [e for e in found[0].triggered.diluted if e.metric == "retention_7"]
    assert diluted.estimate == pytest.approx(estimate * len(reached) / len(players), rel=1e-6)
    assert (round(100 * diluted.estimate, 2), round(100 * diluted.ci_high, 2)) == (-0.32, 0.07)


def test_the_usual_difference_is_the_sum_of_its_parts(found: tuple[CookieCats, str], players: pd.DataFrame) -> None:
    """-.32 and -.21 by own differences, -.29 by shares: each with the other quantity held at the mean of the arms."""
    parts = found[0].parts.set_index("part")
    assert parts["difference"].sum() == pytest.approx(found[0].everyone["retention_7"].estimate, rel=1e-12)
    assert [round(100 * d, 2) for d in parts["difference"]] == [-0.32, -0.21, -0.29]
    reached = players["sum_gamerounds"] >= 30
    n = pd.crosstab(players["version"], reached)
    back = pd.crosstab(players["version"], reached, players["retention_7"], aggfunc="mean")
    share = n.div(n.sum(axis=1), axis=0)
    own = share.mean() * (back.loc["gate_40"] - back.loc["gate_30"])
    shares = (share.loc["gate_40"] - share.loc["gate_30"]) * back.mean()
    assert parts["difference"].tolist() == pytest.approx([own[True], own[False], shares.sum()], rel=1e-12)
    assert "61%" not in found[1]
    assert "No gate can have made the last two" in found[1]


def test_errors_of_the_parts_by_bootstrap(found: tuple[CookieCats, str], players: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    table = players.groupby(["version", players["sum_gamerounds"] >= 30, "retention_7"]).size().unstack([1, 2])
    counts = table.loc[["gate_30", "gate_40"], [(True, True), (True, False), (False, True), (False, False)]].to_numpy()
    drawn = np.stack([rng.multinomial(row.sum(), row / row.sum(), 20_000) for row in counts], axis=1)
    yes, no = drawn[..., :2].sum(axis=-1), drawn[..., 2:].sum(axis=-1)
    back_yes, back_no, share = drawn[..., 0] / yes, drawn[..., 2] / no, yes / (yes + no)
    by_bootstrap = [
        share.mean(axis=1) * np.diff(back_yes)[:, 0],
        (1 - share.mean(axis=1)) * np.diff(back_no)[:, 0],
        np.diff(share)[:, 0] * (back_yes - back_no).mean(axis=1),
    ]
    parts = found[0].parts
    errors = (parts["high"] - parts["low"]) / 2 / stats.norm.ppf(0.975)
    assert errors.tolist() == pytest.approx([p.std() for p in by_bootstrap], rel=0.02)


def test_rounds(found: tuple[CookieCats, str], players: pd.DataFrame) -> None:
    """Means 52.46 and 51.30, medians 17 and 16; one player has 49,854 rounds."""
    raw = found[0].rounds["mean, Welch"]
    by_arm = [players.loc[players["version"] == v, "sum_gamerounds"].to_numpy() for v in ("gate_30", "gate_40")]
    welch = stats.ttest_ind(by_arm[1], by_arm[0], equal_var=False)
    assert (raw.estimate, raw.pvalue) == pytest.approx((by_arm[1].mean() - by_arm[0].mean(), welch.pvalue), rel=1e-9)
    assert players["sum_gamerounds"].max() == 49_854
    high = np.quantile(players["sum_gamerounds"], 0.999)
    clipped = stats.ttest_ind(*(np.minimum(v, high) for v in by_arm[::-1]), equal_var=False)
    assert found[0].rounds["mean, clipped at 99.9%"].pvalue == pytest.approx(clipped.pvalue, rel=1e-9)
    assert all(r.pvalue > 0.1 for r in found[0].rounds.values())
    assert found[0].rounds["median, permutation"].estimate == -1
    # Bootstrap intervals of the mean lean the way of the outlier, which Welch's cannot.
    bca = found[0].rounds["mean, bca bootstrap"]
    assert bca.estimate - bca.ci_low > 2 * (bca.ci_high - bca.estimate)


def test_worst_case_of_lost_players() -> None:
    """Control's 789 missing players added to it, none of whom came back."""
    found = lost_players((8_502, 44_700, 8_279, 45_489))
    assert (found.n_control, found.n_treatment) == (45_489, 45_489)
    assert found.estimate == pytest.approx((8_279 - 8_502) / 45_489)
    assert 0.05 < found.pvalue < 0.06


def test_the_page_gives_a_verdict(found: tuple[CookieCats, str]) -> None:
    assert "Leave the gate at level 30" in found[1]
    assert "Do not quote the" in found[1]
