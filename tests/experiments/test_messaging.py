"""The messaging study: its cleaning on both engines, published figures, and each number by another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.messaging.cleaning import clean
from experiments.messaging.run import (
    GROUP,
    OUTCOME,
    USER,
    Messaging,
    analyse_sample,
    conversion,
    every_method,
    expand_counts,
    main,
    sample_sizes,
)

COUNTS = (420, 23_524, 14_423, 564_577)


@pytest.fixture(scope="module")
def found(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Messaging, Path]:
    output = tmp_path_factory.mktemp("messaging")
    return main(["--engine", "local", "--output", str(output), "--data-dir", str(data_dir)]), output


# --- cleaning -------------------------------------------------------------------------------------------------------


def test_each_step_of_the_cleaning_removes_what_it_should(engine) -> None:
    rows = [
        (1, "ad", True, 0), (2, "psa", False, 1), (3, "ad", False, 2), (3, "ad", True, 3),  # 3: the first one is kept
        (4, "ad", True, 4), (4, "psa", True, 5),  # in both groups
        (None, "ad", True, 6), (5, None, True, 7), (6, "psa", None, 8),  # no key
        (7, "psa", True, 9), (7, None, False, 10),  # the row without a group goes, the other stays
        (2, "psa", True, 11),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=[USER, GROUP, OUTCOME, "row"])
    frame = frame.astype({USER: "Int64", OUTCOME: "boolean"}).assign(**{"total ads": 3})
    engine.register("raw", frame.sample(frac=1, random_state=1))
    cleaned = clean(engine)
    assert cleaned.steps["removed"].tolist() == [0, 4, 2, 2]
    assert cleaned.steps["remaining"].tolist() == [12, 8, 6, 4]
    kept = engine.collect("SELECT * FROM clean_rows").sort_values(USER)
    assert kept[USER].tolist() == [1, 2, 3, 7]
    assert kept[OUTCOME].tolist() == [1, 0, 0, 1]
    assert kept[GROUP].tolist() == ["ad", "psa", "ad", "psa"]
    assert kept["total ads"].tolist() == [3] * 4
    assert "row" not in kept
    assert cleaned.rates[["users", "converted", "rate"]].to_numpy().tolist() == [[2, 1, 0.5], [2, 1, 0.5]]


@pytest.mark.data
def test_the_sample_is_clean_and_has_its_known_rates(found: tuple[Messaging, Path]) -> None:
    cleaned = found[0].cleaned
    assert cleaned.steps["removed"].tolist() == [0, 0, 0, 0]
    assert cleaned.steps["remaining"].unique().tolist() == [46_188]
    assert cleaned.rates[[GROUP, "users", "converted"]].to_numpy().tolist() == [
        ["ad", 44_324, 1_120],
        ["psa", 1_864, 33],
    ]


@pytest.mark.data
@pytest.mark.spark
@pytest.mark.slow
def test_spark_says_the_same_of_the_sample(data_dir: Path, spark_session, found: tuple[Messaging, Path]) -> None:
    cleaned, result = analyse_sample(data_dir, "spark")
    assert not isinstance(cleaned.table, pd.DataFrame)
    pd.testing.assert_frame_equal(cleaned.steps, found[0].cleaned.steps)
    pd.testing.assert_frame_equal(cleaned.rates, found[0].cleaned.rates, check_dtype=False, rtol=1e-12)
    local = found[0].sample["converted"].to_dict()
    spark = result["converted"].to_dict()
    for name, value in local.items():
        assert spark[name] == (pytest.approx(value, rel=1e-10, nan_ok=True) if isinstance(value, float) else value)


# --- all users ------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_published_lift(found: tuple[Messaging, Path]) -> None:
    """stalcup-dev/marketing-ab-experiment: +.769 points, 95% interval (.595, .943), z 7.370, p 1.7e-13, +43.1%."""
    e = found[0].overall
    assert [e.n_control, e.n_treatment] == [COUNTS[1], COUNTS[3]]
    assert [round(100 * v, 3) for v in (e.estimate, e.ci_low, e.ci_high)] == [0.769, 0.595, 0.943]
    assert round(e.statistic, 3) == 7.370
    assert e.pvalue == pytest.approx(1.7e-13, rel=0.01)
    assert round(100 * e.relative_effect, 1) == 43.1


@pytest.mark.data
def test_published_lift_stratified_by_day(found: tuple[Messaging, Path]) -> None:
    """The same source: .78 points [.60, .95]."""
    e = found[0].by_day["converted"]
    assert [round(100 * v, 2) for v in (e.estimate, e.ci_low, e.ci_high)] == [0.78, 0.60, 0.95]


@pytest.mark.data
def test_stratified_lift_and_its_heterogeneity_by_hand(found: tuple[Messaging, Path], data_dir: Path) -> None:
    table = pd.read_csv(data_dir / "marketing_ab" / "full_counts_by_day_and_group.csv")
    wide = table.pivot(index="most ads day", columns="test group", values=["n_users", "n_converted"])
    n, rate = wide["n_users"], wide["n_converted"] / wide["n_users"]
    share = n.sum(axis=1) / n.to_numpy().sum()
    lift, variance = rate["ad"] - rate["psa"], (rate * (1 - rate) / (n - 1)).sum(axis=1)
    e = found[0].by_day["converted"]
    assert e.estimate == pytest.approx(share @ lift, rel=1e-12)
    assert e.std_error == pytest.approx(np.sqrt(share**2 @ variance), rel=1e-4)
    weight = 1 / variance
    q = weight @ (lift - weight @ lift / weight.sum()) ** 2
    [test] = found[0].by_day.interactions
    assert test.statistic == pytest.approx(q, rel=1e-3)
    assert test.pvalue == pytest.approx(stats.chi2.sf(q, 6), rel=1e-2)
    assert test.pvalue < 0.001  # so the page must not say that days are alike


@pytest.mark.data
def test_known_figures_by_messages_seen(found: tuple[Messaging, Path]) -> None:
    rates = {e.segment: (e.control_mean, e.treatment_mean) for e in found[0].by_ads.segments}
    known = {"low (1-4)": (0.198, 0.236), "medium (5-30)": (0.948, 0.906), "high (>30)": (5.755, 9.075)}
    for bucket, (psa, ad) in known.items():
        assert rates[f"total ads bucket = {bucket}"] == pytest.approx((psa / 100, ad / 100), abs=1e-5)


def test_methods_agree_with_other_libraries() -> None:
    found, refused = every_method(COUNTS)
    assert set(refused) == {"barnard", "boschloo"}
    x0, n0, x1, n1 = COUNTS
    fisher = stats.fisher_exact([[x1, n1 - x1], [x0, n0 - x0]])
    assert found["fisher"].pvalue == pytest.approx(fisher.pvalue, rel=1e-6)
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    z, p = proportion.proportions_ztest([x1, x0], [n1, n0])
    assert (found["wald, pooled"].statistic, found["wald, pooled"].pvalue) == pytest.approx((z, p), rel=1e-9)
    for ours, theirs in (("newcombe", "newcomb"), ("agresti-caffo", "agresti-caffo"), ("wald, pooled", "wald"),
                         ("miettinen-nurminen", "score")):  # fmt: skip
        limits = proportion.confint_proportions_2indep(x1, n1, x0, n0, method=theirs, compare="diff")
        assert (found[ours].ci_low, found[ours].ci_high) == pytest.approx(limits, abs=2e-7)


@pytest.mark.data
def test_the_split_is_ninety_six_to_four_to_the_user(found: tuple[Messaging, Path]) -> None:
    [split] = found[0].by_day.sample_ratio
    assert [round(e) for e in split.expected] == list(split.counts)


def test_counts_become_users() -> None:
    counts = pd.DataFrame(
        {"day": ["a", "a", "b"], GROUP: ["ad", "psa", "ad"], "n_users": [3, 2, 4], "n_converted": [1, 0, 4]}
    )
    rows = expand_counts(counts, "day")
    assert rows.groupby(["day", GROUP])[OUTCOME].agg(["size", "sum"]).to_numpy().tolist() == [[3, 1], [2, 0], [4, 4]]
    with pytest.raises(Exception, match="most ads day"):
        conversion(strata="most ads day").analyze(rows)


# --- the next test --------------------------------------------------------------------------------------------------


def test_published_sample_size_and_its_convention() -> None:
    """9,847.35 users a group by Cohen's h, one-sided; 9,848 whole ones reach 80%."""
    designs = [*sample_sizes(420 / 23_524).values()]
    base, more = 0.0179, 0.0229
    h = 2 * (np.arcsin(np.sqrt(more)) - np.arcsin(np.sqrt(base)))
    exact = 2 * ((stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) / h) ** 2
    assert int(exact) == 9_847
    assert [designs[0].n_control, designs[0].n_treatment] == [9_848, 9_848]
    assert designs[0].power >= 0.8
    assert designs[2].n_control > 1.25 * designs[0].n_control
    assert designs[3].n_obs > 6 * designs[2].n_obs


# --- the page -------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_page_and_figures(found: tuple[Messaging, Path], capsys: pytest.CaptureFixture[str]) -> None:
    output = found[1]
    assert {p.name for p in output.iterdir()} == {"index.html", "rates.png", "intervals.png", "power.png"}
    page = (output / "index.html").read_text(encoding="utf-8")
    for words in ("+0.77 points [0.60, 0.94]", "9,847", "measured after assignment", "4,343 [3,360, 5,326]"):
        assert words in page
