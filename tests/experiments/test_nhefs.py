"""Quitting smoking: the columns by hand, and the printed estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalrec.observational import ObservationalStudy
from experiments.nhefs.data import BEFORE, CONFOUNDERS, COVARIATES, TREATMENT, Smokers, read_smokers
from experiments.nhefs.doubts import CHOSEN, doubts_about, identified
from experiments.nhefs.estimates import by_price, published
from experiments.nhefs.run import main, published_table

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def smokers(data_dir: Path) -> Smokers:
    return read_smokers(data_dir)


def test_who_was_weighed(smokers: Smokers) -> None:
    """What If, chapter 12: 1,629 smokers, 1,566 weighed in 1982, of whom 403 had quit."""
    assert (len(smokers.everybody), len(smokers.weighed), smokers.n_lost) == (1629, 1566, 63)
    assert smokers.weighed["qsmk"].sum() == 403
    assert len(smokers.censoring) == len(smokers.score_of_all) == len(smokers.tenth) == 1566
    # The book's stabilised weights for censoring run to 7.58, for somebody who is lost; these are of the weighed.
    assert smokers.censoring.min() > 1
    assert smokers.censoring.max() == pytest.approx(1.8246, abs=5e-5)


def test_every_printed_estimate(smokers: Smokers) -> None:
    """To the digits that are printed, and within the bootstrap's luck (or a test's inversion) of printed intervals."""
    found = published(smokers)
    assert len(found) == 11
    for p in found:
        digits = len(p.value.partition(".")[2])
        assert abs(p.difference) <= 0.51 * 10.0**-digits, p.what
        low, high = (float(end.replace("−", "-")) for end in p.interval.split(" to "))
        assert (p.ours.ci_low, p.ours.ci_high) == pytest.approx((low, high), abs=0.15), p.what
    table = published_table(found)
    assert table["ours"].tolist() == table["printed"].tolist()


def test_the_price_is_a_weak_instrument(smokers: Smokers) -> None:
    assert by_price(smokers).first_stage_f < 10


@pytest.mark.slow
def test_the_graph_asks_for_the_nine(smokers: Smokers) -> None:
    """DoWhy's criterion: the confounders of the book; not the price, an instrument, nor what came afterwards."""
    graph, with_after = identified(smokers)
    assert set(graph.backdoor_variables) == set(CONFOUNDERS)
    assert graph.strategy == "backdoor"
    assert graph.instruments == ("price82",)
    assert dict(graph.bad_controls)["sbp"].startswith("collider")
    assert with_after.given_valid is False


def test_controls_are_of_1971(smokers: Smokers) -> None:
    """Known before quitting, not adjusted for, and in the published data as they are."""
    assert not set(BEFORE) & set(COVARIATES)
    assert smokers.everybody["drank"].isna().sum() == 5
    assert set(smokers.everybody["drank"].dropna()) == {0, 1}
    assert smokers.weighed[list(BEFORE)].isna().any(axis=1).sum() == 1566 - 1487


@pytest.mark.slow
def test_controls_by_hand(smokers: Smokers) -> None:
    """The effect on height is that of a study whose outcome is height."""
    found = doubts_about(smokers, n_simulations=20)
    known = smokers.weighed.dropna(subset=list(BEFORE))
    study = ObservationalStudy(known, treatment=TREATMENT, outcome="ht", covariates=list(COVARIATES))
    by_hand = study.estimate(CHOSEN)
    assert found.controls["negative_control_outcome: ht"].new_effect == pytest.approx(by_hand.estimate, rel=1e-9)
    assert found.same.n_obs == found.more.n_obs == len(known)


@pytest.mark.slow
def test_the_page_says_what_was_found(data_dir: Path, tmp_path: Path) -> None:
    found = main(["--output", str(tmp_path), "--data-dir", str(data_dir)])
    least, most = found.range
    assert (round(least, 1), round(most, 1)) == (3.3, 3.5)
    assert min(e.ci_low for e in found.effects.effects) > 1.5
    assert not found.effects.failures
    naive = found.effects["difference_in_means"]
    assert naive.estimate == pytest.approx(2.5406, abs=5e-5)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for words in ("All 11 estimates of the book", "matters little here", "63 people were not weighed"):
        assert words in page
    assert "do not suffice any more" in page
    figures = ("effects", "balance", "overlap", "graph", "refutations", "confounding", "gamma")
    assert {p.stem for p in tmp_path.glob("*.png")} == set(figures)
    assert found.doubts.report.refutations.passed
    assert found.doubts.controls.passed
    assert found.doubts.report.verdict == "plausible"
    assert found.doubts.report.effect.estimate == pytest.approx(found.effects["aipw_parametric"].estimate, rel=1e-9)
