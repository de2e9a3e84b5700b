"""Quitting smoking: the columns by hand, and the printed estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.nhefs.data import Smokers, read_smokers
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
    assert {p.name for p in tmp_path.glob("*.png")} == {"effects.png", "balance.png", "overlap.png"}
