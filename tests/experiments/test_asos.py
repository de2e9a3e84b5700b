"""The ASOS study: its tests by scipy, its first alarms by hand, and its page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest import AlwaysValid, Estimate, infer
from experiments.asos.run import GROUP, KEYS, PEEKING, TIME, VALID, Asos, count_answers, main, spaced

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def found(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Asos, str]:
    output = tmp_path_factory.mktemp("asos")
    results = main(["--output", str(output), "--data-dir", str(data_dir)])
    assert {p.name for p in output.iterdir()} == {"index.html", "stops.png", "saved.png", "example.png"}
    return results, (output / "index.html").read_text(encoding="utf-8")


def test_fixed_tests_by_scipy(found: tuple[Asos, str]) -> None:
    looks = found[0].looks.sample(300, random_state=1)
    expected = stats.ttest_ind_from_stats(
        looks["mean_t"], np.sqrt(looks["variance_t"]), looks["count_t"], looks["mean_c"], np.sqrt(looks["variance_c"]),
        looks["count_c"], equal_var=False,
    )  # fmt: skip
    assert looks["z"].to_numpy() == pytest.approx(expected.statistic, rel=1e-9)
    assert looks["p"].to_numpy() == pytest.approx(expected.pvalue, rel=1e-6)


def test_always_valid_is_that_of_the_library(found: tuple[Asos, str]) -> None:
    looks = found[0].looks
    ends = looks.groupby(KEYS)["n"].transform("last")
    for row in looks.assign(end=ends).sample(200, random_state=2).to_dict("records"):
        half = row["std_error"] ** 2 / 2
        estimate = Estimate(0.0, row["effect"], half, half, 0.0, math.inf, row["n"] // 2, row["n"] - row["n"] // 2, "z")
        result = infer(estimate, metric="x", control="c", treatment="t", inference=AlwaysValid(row["end"]))
        assert row[VALID] == result.significant


def test_group_sequential_by_spending(found: tuple[Asos, str]) -> None:
    """Who is rejected at the first look taken is beyond what is spent there; nobody is rejected below z = 1.96."""
    looks = found[0].looks
    rejected = looks[looks[GROUP]]
    assert (rejected["z"].abs() > 1.9599).all()
    for _, rows in list(looks.groupby(KEYS))[:40]:
        first = rows[spaced(rows["n"])].iloc[0]
        spent = 4 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(first["n"] / rows["n"].iloc[-1]))
        assert first[GROUP] == (2 * stats.norm.sf(abs(first["z"])) < spent)


def test_first_answers_and_counts(found: tuple[Asos, str]) -> None:
    comparisons, looks = found[0].comparisons, found[0].looks
    assert len(comparisons) == 381
    key = comparisons[comparisons[f"{PEEKING}: day"].notna()].iloc[7]
    rows = looks[(looks[KEYS] == key[KEYS].to_list()).all(axis=1)]
    assert key[f"{PEEKING}: day"] == rows.loc[rows["p"] < 0.05, TIME].min()
    assert key["days"] == rows[TIME].max()
    counts = count_answers(comparisons).set_index("metric")
    numbers = counts.loc["all", ["fixed, at the end", "fixed, at some look", "always valid", "group sequential"]]
    assert numbers.tolist() == [106, 223, 102, 141]
    assert (counts.drop("all").sum() == counts.loc["all"]).all()
    saved = found[0].saved.to_frame().set_index("method")
    assert saved["answers"].tolist() == [223, 102, 141]
    early = comparisons["days"] - comparisons[f"{VALID}: day"]
    assert saved.loc[VALID, "median_saved"] == early[early > 0].median()


def test_the_page_says_it(found: tuple[Asos, str]) -> None:
    assert "announces 223 of 381 comparisons" in found[1]
    assert "117 are not significant at the end" in found[1]
    valid, group = found[0].example
    assert (valid.state.tolist(), group.state.tolist()) == (["open"], ["not shown"])
    assert isinstance(valid.history(), pd.DataFrame)
