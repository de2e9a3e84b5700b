"""What a person reads: never more than the intervals carry, and what to doubt first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from causalrec.pipelines.summary import findings, summarise
from causalrec.results import (
    NAN,
    ABResult,
    BalanceResult,
    EffectResult,
    IdentificationResult,
    RankingResult,
    RefutationResult,
    RefutationsResult,
    Result,
    SampleRatioResult,
)

UP, DOWN, UNCLEAR = (0.5, 0.2, 0.8, 0.001), (-0.5, -0.8, -0.2, 0.001), (0.1, -0.2, 0.4, 0.5)


def effect_of(numbers: tuple[float, float, float, float], estimand: str = "ate") -> EffectResult:
    estimate, low, high, pvalue = numbers
    return EffectResult(estimate, 0.15, low, high, pvalue, 0.95, 1234, "some method", estimand)


def ab_of(numbers: tuple[float, float, float, float], metric: str = "spend", relative: float = 0.05) -> ABResult:
    return ABResult(
        **vars(effect_of(numbers)), metric=metric, control="old", treatment="new", control_mean=10.0,
        treatment_mean=10.0 + numbers[0], n_control=617, n_treatment=617, statistic=1.0, df=1232.0,
        relative_effect=relative, relative_ci_low=relative - 0.03, relative_ci_high=relative + 0.03,
    )  # fmt: skip


def ranking_of(model: str, estimate: float, metric: str = "ndcg_at_10") -> RankingResult:
    numbers = (estimate, estimate - 0.01, estimate + 0.01, NAN)
    return RankingResult(**vars(effect_of(numbers, metric)), model=model, k=10, n_without_positives=3)


def placebo_of(pvalue: float = 0.7) -> RefutationResult:
    return RefutationResult(
        "placebo_treatment", 0.5, 0.1, 0.0, 0.03, 0.1, -0.2, 0.2, pvalue, 0.01, 0.95, 100, "permuted", "Little.",
        np.zeros(100),
    )  # fmt: skip


def refutations_of(pvalue: float) -> RefutationsResult:
    result = placebo_of(pvalue)
    return RefutationsResult(
        "x", "y", "ate", "matching", 0.5, 0.1, ("placebo_treatment",), (result,), np.array([pvalue])
    )


def balance_of(worst: float) -> BalanceResult:
    table = np.array([worst])
    return BalanceResult(
        100, 50, 50, 50.0, 50.0, "ate", "pooled", "matching", 0.0, True, 0.1, worst < 0.1, 1, int(worst >= 0.1), 0, "x",
        0.4, worst, 0.3, 0.1, np.array(["x"]), *[table] * 10,
    )  # fmt: skip


def ratio_of(pvalue: float) -> SampleRatioResult:
    return SampleRatioResult(
        pvalue, 20.0, 1, 1234, 0.001, pvalue < 0.001, "chi-square", ("old", "new"), (700, 534), (617.0, 617.0)
    )


def ranked(gain: tuple[float, float, float, float]) -> dict[str, Result]:
    """A ranker, three baselines of which the second is the best, and the differences to them."""
    baselines = {"random": 0.05, "recent_top_sellers": 0.4, "last_seen_items": 0.2}
    found: dict[str, Result] = {"ndcg_at_10": ranking_of("ranker", 0.31)}
    for slug, estimate in baselines.items():
        found[f"ndcg_at_10_{slug}"] = ranking_of(slug.replace("_", " "), estimate)
        numbers = gain if slug == "recent_top_sellers" else (0.9, 0.8, 0.99, 0.0)
        found[f"ndcg_at_10_over_{slug}"] = effect_of(numbers, "ndcg_at_10_difference")
        found[f"map_at_10_{slug}"] = ranking_of(slug.replace("_", " "), 0.9, "map_at_10")
    return found


ASKED = IdentificationResult("att", "emailed", "spend", ("x",), (), "")


def said(results: dict[str, Result], word: str) -> str:
    (found,) = [sentence for sentence in findings(results) if word in sentence]
    return found


# --- findings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (UP, "ranks people by their effect better than chance (Qini 0.5 [0.2, 0.8])"),
        (DOWN, "ranks people by their effect worse than chance: do not target by it (Qini -0.5 [-0.8, -0.2])"),
        (UNCLEAR, "is not shown to rank people by their effect: do not target by it yet (Qini 0.1 [-0.2, 0.4])"),
    ],
)
def test_the_uplift_model_is_praised_only_above_zero(numbers: tuple[float, ...], words: str) -> None:
    assert findings({"qini": effect_of(numbers, "qini")}) == (f"The uplift model {words}.",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (UP, "0.5 [0.2, 0.8], an increase."),
        (DOWN, "-0.5 [-0.8, -0.2], a decrease."),
        (UNCLEAR, "0.1 [-0.2, 0.4], not distinguishable from zero."),
    ],
)
def test_the_average_effect_says_what_was_asked(numbers: tuple[float, float, float, float], words: str) -> None:
    found = effect_of(numbers)
    assert findings({"average_effect": found}) == (f"Average effect of the treatment: {words}",)
    assert findings({"average_effect": found, "identification": ASKED}) == (
        f"Average effect of emailed on spend (att): {words}",
    )


@pytest.mark.parametrize(
    ("numbers", "verb", "means"),
    [
        (UP, "raises", "10 to 10.5"),
        (DOWN, "lowers", "10 to 9.5"),
        (UNCLEAR, "does not measurably change", "10 to 10.1"),
    ],
)
def test_the_ab_test_says_what_changes(numbers: tuple[float, float, float, float], verb: str, means: str) -> None:
    (sentence,) = findings({"ab_spend": ab_of(numbers)})
    assert sentence == f"new {verb} spend: {means}, +5.0% [+2.0%, +8.0%], p = {numbers[3]:.3g}."


def test_a_p_value_of_zero_is_never_written_as_zero() -> None:
    zero = (5.0, 4.9, 5.1, 0.0)
    assert "p = <1e-300." in said({"ab_spend": ab_of(zero)}, "spend")
    assert "(p = <1e-300)" in said({"sample_ratio": ratio_of(0.0)}, "Careful")
    (row,) = summarise({"ab_spend": ab_of(zero)}, {})
    assert "<1e-300" in row.cells()


def test_no_relative_effect_is_said_so() -> None:
    assert ", no bounded relative effect, p" in said({"ab_spend": ab_of(UP, relative=NAN)}, "spend")


@given(low=st.floats(-5, 5), width=st.floats(0, 5))
def test_nothing_is_claimed_where_the_interval_covers_zero(low: float, width: float) -> None:
    numbers = (low + width / 2, low, low + width, 0.5)
    results: dict[str, Result] = {
        "qini": effect_of(numbers),
        "average_effect": effect_of(numbers),
        "ab_a": ab_of(numbers),
    }
    claims = {
        "better than chance": 1,
        "worse than chance": -1,
        "an increase": 1,
        "a decrease": -1,
        "raises": 1,
        "lowers": -1,
    }
    text = " ".join(findings(results))
    side = 1 if low > 0 else -1 if low + width < 0 else 0
    for words, sign in claims.items():
        assert (words in text) == (side == sign), words


@pytest.mark.parametrize("numbers", [(0.5, NAN, NAN, NAN), (0.0, 0.0, 0.0, NAN)])
def test_nothing_is_claimed_without_an_interval(numbers: tuple[float, float, float, float]) -> None:
    text = " ".join(
        findings({"qini": effect_of(numbers), "average_effect": effect_of(numbers), "ab_a": ab_of(numbers)})
    )
    assert "is not shown to rank people" in text
    assert "not distinguishable from zero" in text
    assert "does not measurably change" in text


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (UP, "above recent top sellers, the best baseline: 0.5 [0.2, 0.8]."),
        (DOWN, "below recent top sellers, the best baseline: -0.5 [-0.8, -0.2]."),
        (UNCLEAR, "not measurably different from recent top sellers, the best baseline: 0.1 [-0.2, 0.4]."),
    ],
)
def test_the_ranker_is_compared_with_the_best_baseline(gain: tuple[float, float, float, float], words: str) -> None:
    results = ranked(gain)
    assert findings(results) == (f"The ranker reaches NDCG@10 0.31, {words}",)
    (row,) = [row for row in summarise(results, {}) if "paired" in row.what]
    assert row.what == "ranker − recent top sellers, paired"
    assert (row.estimate, row.ci_low, row.ci_high, row.pvalue, row.n) == (*gain, 1234)


def test_a_ranker_alone_is_compared_with_nothing() -> None:
    results: dict[str, Result] = {"ndcg_at_10": ranking_of("ranker", 0.31)}
    assert findings(results) == ()
    assert [row.what for row in summarise(results, {})] == ["NDCG@10, ranker"]


@pytest.mark.parametrize(
    ("name", "fine", "bad", "words"),
    [
        ("sample_ratio", ratio_of(0.2), ratio_of(1e-5), "experiment is not the designed one (p = 1.00e-05)"),
        ("balance", balance_of(0.05), balance_of(0.25), "treated and control units differ by 0.25 standard deviations"),
        (
            "refutations", refutations_of(0.2), refutations_of(0.0005),
            "the refutation placebo failed; the estimator finds 0.03 where 0 is expected (permuted)",
        ),
    ],
)  # fmt: skip
def test_what_speaks_against_the_numbers_comes_first(name: str, fine: Result, bad: Result, words: str) -> None:
    rest: dict[str, Result] = {"average_effect": effect_of(UP), "ab_spend": ab_of(UP)}
    assert findings({**rest, name: fine}) == findings(rest)
    first, *others = findings({**rest, name: bad})
    assert first.startswith("Careful: ")
    assert words in first
    assert tuple(others) == findings(rest)


def test_nothing_found_nothing_said() -> None:
    assert findings({}) == ()
    assert summarise({}, {}) == ()


# --- the table --------------------------------------------------------------------------------------------------


def everything() -> dict[str, Result]:
    return {
        "ab_spend": ab_of(UP), "sample_ratio": ratio_of(0.3), "placebo": placebo_of(), "identification": ASKED,
        "average_effect_doubly_robust": effect_of(UNCLEAR), "average_effect": effect_of(UP),
        "uplift_at_12.5pct": effect_of(DOWN), "auuc": effect_of(UP), "qini": effect_of(UP), **ranked(DOWN),
    }  # fmt: skip


def test_the_rows_come_in_the_order_of_the_stages() -> None:
    rows = summarise(everything(), {})
    assert [(row.stage, row.what) for row in rows] == [
        ("ranker", "NDCG@10, ranker"),
        ("ranker", "NDCG@10, random"),
        ("ranker", "NDCG@10, recent top sellers"),
        ("ranker", "NDCG@10, last seen items"),
        ("ranker", "ranker − recent top sellers, paired"),
        ("uplift", "Qini: gain over a random order"),
        ("uplift", "AUUC: area under the gain curve"),
        ("uplift", "effect in the top 100% by predicted uplift"),
        ("average effect", "emailed on spend (att)"),
        ("average effect", "the same, doubly robust"),
        ("placebo", "treatment permuted: mean effect"),
        ("A/B test", "spend, +5.0% [+2.0%, +8.0%]"),
    ]


def test_every_row_holds_the_numbers_of_its_result() -> None:
    results = everything()
    rows = {row.what: row for row in summarise(results, {})}
    effect = results["average_effect"]
    assert isinstance(effect, EffectResult)
    row = rows["emailed on spend (att)"]
    assert (row.estimate, row.ci_low, row.ci_high, row.pvalue, row.n) == (*UP, 1234)
    placebo = rows["treatment permuted: mean effect"]
    assert (placebo.estimate, placebo.pvalue, placebo.truth, placebo.n) == (0.03, 0.7, 0.0, 100)
    refutation = results["placebo"]
    assert isinstance(refutation, RefutationResult)
    mean = stats.t(99, loc=0.03, scale=refutation.new_std / 10)  # the interval of the mean, not of the draws
    assert (placebo.ci_low, placebo.ci_high) == pytest.approx(mean.interval(0.95), rel=1e-9)
    assert np.isnan(rows["AUUC: area under the gain curve"].pvalue)  # it tests the average effect, not the order
    assert rows["Qini: gain over a random order"].pvalue == UP[3]


def test_the_truth_stands_only_where_it_is_known() -> None:
    known = {"qini": 0.4, "ab_spend": 0.6, "average_effect_doubly_robust": 0.0}
    truths = {row.what: row.truth for row in summarise(everything(), known)}
    assert truths.pop("Qini: gain over a random order") == 0.4
    assert truths.pop("spend, +5.0% [+2.0%, +8.0%]") == 0.6
    assert truths.pop("the same, doubly robust") == 0.0
    assert truths.pop("treatment permuted: mean effect") == 0.0  # by construction
    assert np.isnan(list(truths.values())).all()


@pytest.mark.parametrize("field", ["estimate", "pvalue", "truth"])
def test_what_is_not_known_is_a_dash(field: str) -> None:
    (row,) = summarise({"qini": effect_of(UP)}, {"qini": 0.4})
    assert "–" not in row.cells()
    assert replace(row, **{field: NAN}).cells().count("–") == 1
