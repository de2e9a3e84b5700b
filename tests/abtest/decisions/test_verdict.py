"""Each branch of a verdict, with the numbers behind it against power formulas and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from causalrec.abtest import (
    ArmSummary,
    Bayesian,
    DecisionRule,
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Superiority,
    decide_experiment,
    posterior_of,
    sample_ratio_test,
    solve_power,
    welch_test,
)
from causalrec.abtest.decisions.horizon import _factor, wait_of
from causalrec.abtest.decisions.reading import critical, read_effects
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.inference import infer
from causalrec.abtest.inferences import as_inference
from causalrec.exceptions import CausalRecError
from causalrec.results import AAResult, ExperimentResult, dump_results, load_results
from tests.abtest.decisions.cases import effect, experiment

NO_WORSE = NonInferiority(0.02, relative=True)
NO_MORE = NonInferiority(0.02, relative=True, higher_is_better=False)
MDE = {"minutes": {"relative": 0.02}}


def test_ships_what_wins_without_harm():
    result = experiment(effect("minutes", 0.05), effect("revenue", 0.001, hypothesis=NO_WORSE, sd=0.5))
    verdict = decide_experiment(result, DecisionRule("minutes", guardrails="revenue"))
    assert (verdict.verdict, verdict.arm, verdict.headline) == ("ship", "B", "Ship B")
    assert [r.status for r in verdict.rows] == ["win", "no harm shown"]
    assert "minutes of B: +5.00%" in verdict.reasons[0]
    assert "higher than A" in verdict.reasons[0]
    assert "revenue" in verdict.reasons[1]
    assert verdict.to_frame()["role"].tolist() == ["primary", "guardrail"]


@pytest.mark.parametrize("hypothesis", [NO_WORSE, NonInferiority(0.2), Equivalence(0.02, relative=True)], ids=str)
def test_a_harmed_guardrail_stops_a_winner(hypothesis):
    result = experiment(effect("minutes", 0.05), effect("revenue", -0.06, hypothesis=hypothesis, sd=0.5))
    verdict = decide_experiment(result, DecisionRule("minutes", guardrails="revenue"))
    assert verdict.verdict == "don't ship"
    assert verdict.rows[1].status == "harm"
    assert verdict.reasons[0].startswith("revenue of B is harmed: -6.00% [-6.16%, -5.84%]")


def test_latency_that_rises_is_harm():
    result = experiment(effect("minutes", 0.05), effect("latency", 0.06, hypothesis=NO_MORE, sd=0.5))
    assert decide_experiment(result, DecisionRule("minutes", guardrails="latency")).rows[1].status == "harm"


def test_harm_is_the_same_test_in_the_other_direction():
    # The one-sided test of "at least the margin worse" at the same size, by the swapped null.
    for lift in np.linspace(-0.05, 0.01, 25):
        found = effect("revenue", lift, hypothesis=NO_WORSE, sd=1.0, n=400)
        [row] = read_effects(experiment(found), DecisionRule("x", guardrails="revenue"), ())
        v0, v1 = found.control_std_error**2, found.treatment_std_error**2
        z = (found.treatment_mean - 0.98 * found.control_mean) / math.sqrt(v1 + 0.98**2 * v0)
        assert (row.status == "harm") == (z < -critical(found))
        assert (row.status == "no harm shown") == (z > critical(found))


def test_an_open_guardrail_keeps_it_running_until_time_is_up():
    result = experiment(effect("minutes", 0.05), effect("revenue", 0.0, hypothesis=NO_WORSE, sd=8.0))
    rule = DecisionRule("minutes", guardrails="revenue", units_per_day=1000, max_days=60)
    verdict = decide_experiment(result, rule)
    assert verdict.verdict == "keep running"
    assert verdict.assumed == "no true effect"
    assert "minutes is higher" in verdict.reasons[0]
    up = decide_experiment(result, replace(rule, max_days=5))
    assert up.verdict == "don't ship"
    assert up.reasons[0].startswith("The time is up")
    assert any("revenue is not shown to be worse by less than 2%" in r for r in up.reasons)


def test_how_long_is_what_the_power_formula_says():
    n, sd, size = 2_000, 4.0, 0.02
    result = experiment(effect("minutes", 0.009, sd=sd, n=n))
    verdict = decide_experiment(result, DecisionRule("minutes", mde=MDE, units_per_day=500))
    assert verdict.assumed == "the smallest effect of interest"
    needed = solve_power(effect=size * 10, std=sd, power=0.8, alpha=0.05, method="normal").n_obs
    assert verdict.more_units == pytest.approx(needed - 2 * n, abs=12)  # t against the normal law
    assert verdict.more_days == math.ceil(verdict.more_units / 500)
    assert verdict.headline == f"Keep running: about {verdict.more_days:.0f} more days"


def test_without_a_smallest_effect_the_observed_one_is_assumed_and_said_to_be_optimistic():
    result = experiment(effect("minutes", 0.008, sd=4.0))
    verdict = decide_experiment(result, DecisionRule("minutes"))
    assert verdict.assumed == "the observed effect"
    assert any("optimistic" in r for r in verdict.reasons)
    assert any("fixed-horizon look" in r for r in verdict.reasons)
    factor = ((norm.isf(0.025) + norm.isf(0.2)) * result["minutes"].std_error / result["minutes"].estimate) ** 2
    assert verdict.more_units == pytest.approx(result.n_obs * (factor - 1), rel=2e-3)
    assert math.isnan(verdict.more_days)
    wrong = decide_experiment(experiment(effect("minutes", -0.005, sd=4.0)), DecisionRule("minutes"))
    assert wrong.verdict == "keep running"
    assert math.isnan(wrong.more_units)
    assert any("cannot be said" in r for r in wrong.reasons)


def test_an_effect_that_would_have_been_seen():
    result = experiment(effect("minutes", 0.001, sd=0.5))
    verdict = decide_experiment(result, DecisionRule("minutes", mde=MDE))
    assert (verdict.verdict, verdict.rows[0].status) == ("don't ship", "too small")
    assert "would have been seen" in verdict.reasons[0]
    absolute = DecisionRule("minutes", mde={"minutes": {"absolute": 0.2}})
    assert decide_experiment(result, absolute).rows[0].status == "too small"
    down = experiment(effect("churn", -0.001, sd=0.5))
    assert decide_experiment(
        down, DecisionRule("churn", lower_is_better="churn", mde={"churn": {"relative": 0.02}})
    ).rows[0].status == "too small"  # fmt: skip


def test_a_win_below_the_smallest_effect_ships_with_a_question():
    result = experiment(effect("minutes", 0.01, sd=0.5))
    verdict = decide_experiment(result, DecisionRule("minutes", mde=MDE))
    assert verdict.verdict == "ship"
    assert any("is it worth keeping?" in r for r in verdict.reasons)


def test_a_power_that_was_there_already_waits_for_the_width():
    result = experiment(effect("minutes", 0.0126, sd=2.0, n=1400))
    [reading] = read_effects(result, DecisionRule("minutes", mde=MDE), ())
    assert reading.status == "undecided"
    assert _factor(reading, 0.2, 0.6) < 1
    wait = wait_of([reading], DecisionRule("minutes", mde=MDE, power=0.6))
    e = result["minutes"]
    assert 2 * critical(e) * e.std_error / math.sqrt(wait.factor) == pytest.approx(0.2)


def test_a_loss_does_not_ship_though_another_primary_wins():
    result = experiment(effect("minutes", 0.05), effect("revenue", -0.05))
    verdict = decide_experiment(result, DecisionRule(["minutes", "revenue"]))
    assert verdict.verdict == "don't ship"
    assert [r.status for r in verdict.rows] == ["win", "loss"]
    assert any("revenue is worse than A" in r for r in verdict.reasons)


def test_any_corrects_and_all_does_not():
    pair = experiment(*(replace(effect(m, 0.05), pvalue=0.03) for m in ("minutes", "revenue")))
    any_of = decide_experiment(pair, DecisionRule(["minutes", "revenue"], correction="bonferroni"))
    assert [r.adjusted_pvalue for r in any_of.rows] == [0.06, 0.06]
    assert any_of.verdict == "keep running"
    both = decide_experiment(pair, DecisionRule(["minutes", "revenue"], need="all", correction="bonferroni"))
    assert (both.verdict, [r.adjusted_pvalue for r in both.rows]) == ("ship", [0.03, 0.03])
    plain = decide_experiment(pair, DecisionRule(["minutes", "revenue"], correction="none"))
    assert plain.verdict == "ship"


def test_variants_are_corrected_for_guardrails_too():
    arms = [effect(m, 0.05 if m == "minutes" else 0.0, arm=a, hypothesis=h)
            for a in "BC" for m, h in (("minutes", Superiority()), ("revenue", NO_WORSE))]  # fmt: skip
    result = experiment(*arms)
    rule = DecisionRule("minutes", guardrails="revenue", correction="bonferroni")
    rows = decide_experiment(result, rule).rows
    assert [r.adjusted_pvalue for r in rows] == [min(1, 2 * r.pvalue) for r in rows]
    alone = decide_experiment(result, replace(rule, over=()))
    assert [r.adjusted_pvalue for r in alone.rows] == [r.pvalue for r in alone.rows]


def test_the_best_of_several_arms_or_none():
    near = experiment(effect("minutes", 0.050, arm="B"), effect("minutes", 0.051, arm="C"))
    verdict = decide_experiment(near, DecisionRule("minutes"))
    assert (verdict.arm, verdict.tied, verdict.headline) == ("C", ("B",), "Ship C (or B)")
    assert any("cannot be told apart" in r for r in verdict.reasons)
    far = experiment(*(effect("minutes", lift, arm=arm) for arm, lift in (("B", 0.05), ("C", 0.15), ("D", -0.2))))
    verdict = decide_experiment(far, DecisionRule("minutes"))
    assert (verdict.arm, verdict.tied) == ("C", ())
    assert "C is better than B by minutes." in verdict.reasons
    assert "D does not pass." in verdict.reasons


def test_broken_before_all_else():
    ratio = sample_ratio_test({"A": 5000, "B": 4400}, {"A": 1, "B": 1})
    good = experiment(effect("minutes", 0.05))
    for result, options, word in (
        (replace(good, sample_ratio=(ratio,)), {}, "5,000"),
        (replace(good, pre_period=(effect("minutes_before", 0.05),)), {}, "before the experiment"),
        (good, {"aa": [AAResult("minutes", 0.05, 0.09, 0.07, 0.11, 0.0, False, 1000, 10, "", np.zeros(0))]}, "by lot"),
        (good, {"n_conflicting": 500}, "more than one arm"),
    ):
        verdict = decide_experiment(result, DecisionRule("minutes"), **options)
        assert verdict.verdict == "broken"
        assert verdict.headline == "Broken: do not trust the effects"
        assert word in verdict.reasons[0]
    fine = AAResult("minutes", 0.05, 0.06, 0.04, 0.08, 0.5, True, 1000, 10, "", np.zeros(0))
    assert decide_experiment(good, DecisionRule("minutes"), aa=[fine], n_conflicting=2).verdict == "ship"


def test_a_fixed_test_is_not_decided_before_its_end():
    result = experiment(effect("minutes", 0.05))
    rule = DecisionRule("minutes", n_planned=20_000, units_per_day=1000)
    verdict = decide_experiment(result, rule)
    assert (verdict.verdict, verdict.more_units, verdict.more_days) == ("keep running", 10_000, 10)
    assert "raises false alarms" in verdict.reasons[0]
    assert decide_experiment(result, replace(rule, n_planned=10_000)).verdict == "ship"
    flat = decide_experiment(experiment(effect("minutes", 0.001, sd=4)), replace(rule, n_planned=10_000))
    assert flat.verdict == "don't ship"
    assert flat.reasons[0].startswith("The planned end is reached (10,000 of 10,000 units)")
    harmed = experiment(effect("minutes", 0.05), effect("revenue", -0.1, hypothesis=NO_WORSE))
    assert any(
        "stop for safety" in r for r in decide_experiment(harmed, replace(rule, guardrails=("revenue",))).reasons
    )


@pytest.mark.parametrize("kind", ["always_valid", "group_sequential"])
def test_sequential_tests_may_stop_before_the_planned_end(kind):
    how = as_inference("always_valid") if kind == "always_valid" else _group()
    estimate = Estimate(10.0, 10.8, 0.01, 0.01, 0.0, math.inf, 5_000, 5_000, "z")
    found = infer(estimate, metric="minutes", control="A", treatment="B", inference=how)
    verdict = decide_experiment(experiment(found), DecisionRule("minutes", n_planned=20_000))
    assert verdict.verdict == "ship"
    assert "stop now" in verdict.reasons[-1]
    small = infer(replace(estimate, treatment=10.2), metric="minutes", control="A", treatment="B", inference=how)
    verdict = decide_experiment(experiment(small), DecisionRule("minutes", n_planned=20_000))
    assert verdict.verdict == "keep running"
    expected = ((critical(small) + norm.isf(0.2)) * small.std_error / 0.2) ** 2
    assert verdict.more_units == math.ceil(10_000 * (expected - 1))


def _group():
    from causalrec.abtest import GroupSequential

    return GroupSequential([0.5])


def test_engagement_up_and_revenue_flat():
    # What ships depends on what the arm was built for, which the rule says before the data.
    minutes, flat = effect("minutes", 0.03, sd=1.5), effect("revenue", 0.001, sd=0.6)
    for_revenue = DecisionRule("revenue", mde={"revenue": {"relative": 0.01}})
    verdict = decide_experiment(experiment(minutes, flat), for_revenue)
    assert verdict.verdict == "don't ship"
    assert "would have been seen" in verdict.reasons[0]
    assert verdict.reasons[-1].startswith("Also higher, though it does not decide: minutes (+3.00%")
    for_minutes = DecisionRule("minutes", guardrails="revenue")
    guarded = experiment(minutes, effect("revenue", 0.001, sd=0.6, hypothesis=NonInferiority(0.01, relative=True)))
    assert decide_experiment(guarded, for_minutes).verdict == "ship"


def test_it_survives_being_saved_and_reads_well():
    result = experiment(effect("minutes", 0.05), effect("revenue", 0.001, hypothesis=NO_WORSE, sd=0.5))
    verdict = decide_experiment(result, DecisionRule("minutes", guardrails="revenue"))
    again = load_results(dump_results({"verdict": verdict}))["verdict"]
    assert str(again) == str(verdict)
    assert str(verdict).splitlines()[0] == "Ship B"
    assert "<b>Ship B</b>" in verdict._repr_html_()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"primary": "minuts"}, ["'minuts'", "Did you mean 'minutes'?"]),
        ({"primary": "minutes", "guardrails": "revenue"}, ["'two-sided'", "NonInferiority(margin)"]),
        ({"primary": "minutes", "guardrails": "revenues"}, ["guardrails", "Did you mean 'revenue'?"]),
        ({"primary": "minutes", "secondary": ["minutes"]}, ["more than one role"]),
        ({"primary": []}, ["no primary"]),
        ({"primary": "minutes", "need": "most"}, ["'most'", "'any', 'all'"]),
        ({"primary": "minutes", "over": "variant"}, ["Did you mean 'variants'?"]),
        ({"primary": "minutes", "correction": "holms"}, ["Did you mean 'holm'?"]),
        ({"primary": "minutes", "mde": {"minutes": 0.02}}, ["{'relative': 0.02}"]),
        ({"primary": "minutes", "mde": {"minutes": {"relative": -0.02}}}, ["size > 0"]),
        ({"primary": "minutes", "mde": {"minute": {"relative": 0.02}}}, ["Did you mean 'minutes'?"]),
        ({"primary": "minutes", "mde": 0.02}, ["expected a mapping"]),
        ({"primary": "minutes", "n_planned": 0}, ["n_planned"]),
        ({"primary": "minutes", "units_per_day": [0, 0]}, ["units_per_day"]),
        ({"primary": "minutes", "power": 1.2}, ["power"]),
        ({"primary": "minutes", "threshold": 0}, ["threshold"]),
        ({"primary": "minutes", "lower_is_better": ["latency"]}, ["latency", "side of its own"]),
    ],
    ids=str,
)
def test_what_is_no_rule(options, words):
    result = experiment(effect("minutes", 0.05), effect("revenue", 0.0), effect("latency", 0.0, hypothesis=NO_MORE))
    with pytest.raises(CausalRecError) as caught:
        decide_experiment(result, DecisionRule(**options))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_effects_of_two_analyses_are_not_mixed():
    mixed = experiment(effect("minutes", 0.05), replace(effect("revenue", 0.0), inference="always valid"))
    with pytest.raises(CausalRecError, match="one analysis"):
        decide_experiment(mixed, DecisionRule("minutes"))


def test_from_a_table():
    rng = np.random.default_rng(3)
    n = 6_000
    variant = np.array(["A", "B"])[np.arange(n) % 2]
    table = {"variant": variant, "minutes": rng.normal(10 + 0.5 * (variant == "B"), 3), "skips": rng.normal(5, 1, n)}
    metrics = {"minutes": Mean("minutes"), "skips": Mean("skips", hypothesis=NO_MORE)}
    import pandas as pd

    result = Experiment(metrics, variant="variant", control="A").analyze(pd.DataFrame(table))
    assert decide_experiment(result, DecisionRule("minutes", guardrails="skips")).headline == "Ship B"


def test_false_ships_are_as_rare_as_the_level_says():
    # No arm of three has any effect on any of two primaries: some arm ships in at most 2.5% (up only) of experiments.
    rng = np.random.default_rng(11)
    reps, rule = 400, DecisionRule(["x", "y"], correction="holm")
    ships = 0
    for _ in range(reps):
        control, arms = rng.normal(0, 0.1, 2), rng.normal(0, 0.1, (3, 2))
        found = [
            infer(Estimate(10 + control[m], 10 + arms[a, m], 0.01, 0.01, 0.0, math.inf, 500, 500, "z"),
                  metric="xy"[m], control="A", treatment="BCD"[a])
            for a in range(3) for m in range(2)
        ]  # fmt: skip
        ships += decide_experiment(ExperimentResult(2000, 0.95, tuple(found)), rule).verdict == "ship"
    assert ships / reps < 0.025 + 4 * math.sqrt(0.025 * 0.975 / reps)


def test_a_proven_welch_effect_reads_the_same():
    found = welch_test(30.0, 400.0, 9_000, 31.2, 400.0, 9_000, metric="minutes")
    assert decide_experiment(experiment(found), DecisionRule("minutes")).rows[0].pvalue == found.pvalue


def believed(lift, *, threshold=None, hypothesis=None, sd=2.0):
    """An effect and the posterior of its arms, by beliefs."""
    how = Bayesian(loss_threshold=threshold)
    var = sd**2 / 5_000
    estimate = Estimate(10.0, 10 * (1 + lift), var, var, 0.0, math.inf, 5_000, 5_000, "z")
    found = how.infer(estimate, metric="minutes", control="A", treatment="B", hypothesis=hypothesis or Superiority(),
                      confidence_level=0.95, relative="fieller", segment="")  # fmt: skip
    arms = [ArmSummary("A", 10.0, math.sqrt(var)), ArmSummary("B", 10 * (1 + lift), math.sqrt(var))]
    return found, posterior_of("minutes", "mean", arms, how, 0.95)


@pytest.mark.parametrize(
    ("lift", "status", "verdict"),
    [(0.05, "win", "ship"), (-0.05, "loss", "don't ship"), (0.0, "undecided", "keep running")],
)
def test_beliefs_decide_by_their_interval_without_a_threshold(lift, status, verdict):
    effect_, posterior = believed(lift)
    found = decide_experiment(experiment(effect_), DecisionRule("minutes"), posteriors=[posterior])
    assert (found.rows[0].status, found.verdict) == (status, verdict)
    assert "Stopping early by beliefs" in found.method


def test_beliefs_decide_by_loss_where_a_threshold_is_given():
    # The interval holds zero, but choosing B is expected to cost less than one cares about.
    effect_, posterior = believed(0.005, threshold=0.02)
    assert effect_.ci_low < 0 < effect_.ci_high
    assert posterior.loss < 0.02
    assert decide_experiment(experiment(effect_), DecisionRule("minutes"), posteriors=[posterior]).verdict == "ship"
    worse, about_it = believed(-0.005, threshold=0.02)
    assert decide_experiment(experiment(worse), DecisionRule("minutes"), posteriors=[about_it]).verdict == "don't ship"
    unsure, about_it = believed(0.0, threshold=0.001)
    assert (
        decide_experiment(experiment(unsure), DecisionRule("minutes"), posteriors=[about_it]).verdict == "keep running"
    )
    with pytest.raises(CausalRecError, match="lower_is_better"):
        decide_experiment(
            experiment(effect_), DecisionRule("minutes", lower_is_better="minutes"), posteriors=[posterior]
        )


def test_a_guardrail_by_beliefs():
    for lift, status in ((0.0, "no harm shown"), (-0.06, "harm"), (-0.02, "undecided")):
        guard, _ = believed(lift, hypothesis=NO_WORSE)
        win = replace(believed(0.05)[0], metric="plays")
        rows = decide_experiment(experiment(win, guard), DecisionRule("plays", guardrails="minutes")).rows
        assert rows[1].status == status


@pytest.mark.parametrize("days", [math.nan, math.inf, -1.0])
def test_days_that_cannot_be(days):
    with pytest.raises(CausalRecError, match="days_run"):
        decide_experiment(experiment(effect("minutes", 0.0)), DecisionRule("minutes", max_days=5), days_run=days)
