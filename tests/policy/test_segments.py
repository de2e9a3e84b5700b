"""Segments by intervals: numbers against scipy, pandas and brute force, verdicts and intervals against the truth."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars
import pytest
from scipy import integrate, stats
from sklearn.linear_model import LinearRegression

from causalrec._ratios import fieller_interval
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances
from causalrec.policy import SegmentRule, describe_segments, learn_segments, segment_units
from causalrec.policy._groups import group_means, quantile_groups, simultaneous_critical
from causalrec.results import UpliftIntervalsResult, dump_results, load_results
from causalrec.uplift import group_average_effects

NAN = float("nan")


def trial(n: int, seed: int = 0, effect: float = 0.3) -> dict[str, np.ndarray]:
    """Uplift ``effect * x`` on a 0/1 outcome whose level without treatment is 0.35 or 0.55."""
    rng = np.random.default_rng(seed)
    x, b, t = rng.uniform(-1, 1, n), rng.integers(0, 2, n), rng.integers(0, 2, n)
    y = (rng.random(n) < 0.35 + 0.2 * b + effect * x * t).astype(float)
    return {"y": y, "uplift": effect * x, "treatment": t, "baseline": 0.35 + 0.2 * b}


def learn(data: dict[str, np.ndarray], **options):
    y, uplift, treatment = data["y"], data["uplift"], data["treatment"]
    return learn_segments(y, uplift, treatment, **({"baseline": data.get("baseline")} | options))


def test_effects_of_groups_and_segments_are_welchs():
    data = trial(6000)
    found = learn(data, propensity=0.5, n_groups=4)
    order = np.argsort(-data["uplift"])
    for k, rows in enumerate(np.array_split(order, 4)):
        y, t = data["y"][rows], data["treatment"][rows]
        test = stats.ttest_ind(y[t == 1], y[t == 0], equal_var=False)
        assert found.group_effect[k] == pytest.approx(y[t == 1].mean() - y[t == 0].mean(), rel=1e-12)
        alike = stats.ttest_ind(y[t == 1], y[t == 0])
        own, both = ((a.confidence_interval(0.95).high - found.group_effect[k]) / stats.t.isf(0.025, a.df)
                     for a in (test, alike))  # fmt: skip
        assert found.group_std_error[k] == pytest.approx(max(own, both), rel=1e-3)
        assert found.group_std_error[k] >= own * (1 - 1e-9)
        half = stats.norm.isf(0.8 * 0.05 / 2 / 4) * found.group_std_error[k]
        assert found.group_ci_low[k] == pytest.approx(found.group_effect[k] - half)
    labels = found.rule.assign(data["uplift"], data["baseline"])
    for k, name in enumerate(found.segment):
        y, t = data["y"][labels == name], data["treatment"][labels == name]
        assert found.n[k] == len(y)
        assert found.effect[k] == pytest.approx(y[t == 1].mean() - y[t == 0].mean(), rel=1e-12)
        assert found.outcome[k] == pytest.approx(y[t == 0].mean(), rel=1e-12)
        assert found.outcome_std_error[k] == pytest.approx(stats.sem(y[t == 0]), rel=1e-9)


def test_doubly_robust_groups_are_those_of_the_learners():
    data = trial(1500)
    X = np.column_stack([data["uplift"], data["baseline"]])
    nuisance = fit_nuisances(
        X, data["y"], treatment=data["treatment"], propensity=0.5, outcome_model=LinearRegression(),
        groups=np.arange(1500) // 2,
    )  # fmt: skip
    ours = learn(data | {"baseline": None}, nuisance=nuisance, n_groups=5)
    other = group_average_effects(nuisance, data["uplift"], n_groups=5, predictions="of one model")
    np.testing.assert_allclose(ours.group_effect, other.effect, rtol=1e-10)
    assert (ours.group_std_error >= other.std_error * (1 - 1e-9)).all()
    np.testing.assert_allclose(ours.group_std_error, other.std_error, rtol=0.02)
    scores, own = arm_scores(data["y"], data["treatment"], nuisance=nuisance), np.argsort(-data["uplift"])
    group = np.empty(1500, dtype=np.int64)
    group[own] = np.arange(1500) // 300
    np.testing.assert_allclose(group_means(scores, group, 5, 1).std_error, other.std_error, rtol=1e-10)
    assert ours.average == pytest.approx(other.average, rel=1e-10)
    assert ours.average_std_error == pytest.approx(other.average_std_error, rel=0.02)
    assert "clustered by 750" in ours.method
    assert ours.baseline_cut == pytest.approx(nuisance.scores[:, 0].mean())


@pytest.mark.parametrize("road", ["inverse probability", "doubly robust"])
def test_clusters_of_copies_give_the_errors_of_single_rows(road):
    data = trial(800)
    twice = {name: np.repeat(values, 2) for name, values in data.items()}
    groups = np.repeat(np.arange(800), 2)
    options = [{"propensity": 0.5}, {"propensity": 0.5, "clusters": groups}]
    if road == "doubly robust":
        X = data["uplift"][:, None]
        single = fit_nuisances(
            X, data["y"], treatment=data["treatment"], propensity=0.5, outcome_model=LinearRegression()
        )
        options = [{"nuisance": single}, {"nuisance": single.take(groups), "clusters": groups}]
    one, two = (learn(d, n_groups=3, **kept) for d, kept in zip((data, twice), options, strict=True))
    for name in ("group_effect", "group_std_error", "effect", "std_error", "lift_share", "lift_share_ci_low"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=2e-3)
    np.testing.assert_allclose(two.group_std_error, one.group_std_error, rtol=1e-9)


def test_weights_count_rows_and_zero_weights_leave_them_out():
    data = trial(900, seed=3)
    junk = {name: np.concatenate([values, values[:50]]) for name, values in data.items()}
    junk["uplift"][900:] = 9.0
    weight = np.r_[np.full(900, 3.0), np.zeros(50)]
    plain, weighted = learn(data, propensity=0.5), learn(junk, propensity=0.5, sample_weight=weight)
    for name in ("n", "share", "effect", "std_error", "ci_low", "lift_share", "lift_share_ci_high", "group_low"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(plain, name), rtol=1e-9)
    assert weighted.n_obs == 900


def test_row_order_plays_no_part():
    data = trial(500)
    data["uplift"] = data["uplift"].round(1)  # ties
    order = np.random.default_rng(1).permutation(500)
    one, two = learn(data, n_groups=3), learn({name: v[order] for name, v in data.items()}, n_groups=3)
    np.testing.assert_allclose(one.to_frame().drop(columns="segment"), two.to_frame().drop(columns="segment"))
    assert (one.rule.cuts, one.rule.verdicts) == (two.rule.cuts, two.rule.verdicts)
    assert one.baseline_cut == pytest.approx(two.baseline_cut, rel=1e-12)


def test_shares_of_the_lift_add_up_and_their_intervals_solve_fiellers_equation():
    found = learn(trial(4000, effect=0.2) | {}, propensity=0.5, n_groups=3)
    assert found.lift_share.sum() == pytest.approx(1.0)
    assert (found.lift_share * found.average) == pytest.approx(found.share * found.effect)
    low, high = fieller_interval(1.0, 2.0, 0.04, 0.09, 0.01, 1.96)
    for r in (low, high):
        assert (1.0 - 2.0 * r) ** 2 == pytest.approx(1.96**2 * (0.04 - 2 * r * 0.01 + r**2 * 0.09))
    assert low < 0.5 < high


def test_critical_values_of_unions_are_those_of_integration():
    assert simultaneous_critical(np.ones(1), None, 0.95) == pytest.approx(stats.norm.isf(0.025))
    c = simultaneous_critical(np.array([0.5, 0.5]), None, 0.95)
    root = np.sqrt(2) * c

    def inner(z):
        return stats.norm.pdf(z) * (stats.norm.cdf(min(c, root - z)) - stats.norm.cdf(max(-c, -root - z)))

    assert integrate.quad(inner, -c, c)[0] == pytest.approx(0.95, abs=0.004)
    sides = simultaneous_critical(np.array([0.5, 0.5]), np.array([0.3, 0.3]), 0.95)
    assert c < sides < stats.norm.isf(0.025 / 9)


def test_quantile_groups_keep_ties_together():
    np.testing.assert_array_equal(quantile_groups(np.array([1.0, 1.0, 1.0, 0.0]), np.ones(4), 2), [0, 0, 0, 1])
    np.testing.assert_array_equal(quantile_groups(np.ones(4), np.ones(4), 3), [0, 0, 0, 0])


def test_rule_of_four_segments_and_its_plain_form():
    found = learn(trial(20_000, seed=2), propensity=0.5, n_groups=5)
    rule = found.rule
    assert found.segment.tolist() == ["persuadables", "sure things", "lost causes", "sleeping dogs"]
    assert rule.verdicts == ("persuadables", "no effect shown", "sleeping dogs")
    assert rule.assign([0.25, 0.0, 0.0, -0.25], [0.1, 0.55, 0.35, 0.9]).tolist() == found.segment.tolist()
    assert rule.needs_baseline
    copy = SegmentRule.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert copy == rule
    assert hash(copy) == hash(rule)
    saved = load_results(dump_results({"segments": found}))["segments"]
    assert saved.rule == rule
    assert rule.cuts[0] == pytest.approx(0.06, abs=0.015)  # 0.3 (1 - 2 · 2/5)
    text = str(found)
    assert all(name in text for name in found.segment)
    assert "found no" not in text
    assert "sure things from an expected outcome" in str(rule)
    at_cut = SegmentRule("A", "B", (0.1,), ("persuadables", "sleeping dogs"))
    assert at_cut.assign([0.1, np.nextafter(0.1, 0)]).tolist() == ["persuadables", "sleeping dogs"]
    assert at_cut.assign([]).tolist() == []


def test_neighbouring_groups_of_one_verdict_are_one_range():
    found = learn(trial(30_000, effect=0.4), propensity=0.5, n_groups=6)
    assert found.group_verdict.tolist()[:2] == ["persuadables"] * 2
    assert len(found.rule.cuts) < 5
    np.testing.assert_array_equal(found.rule.cuts[0], found.group_low[found.group_verdict == "persuadables"].min())


def test_cost_and_margin_change_the_verdict():
    data = trial(20_000, effect=0.2)
    free, dear = (learn(data, propensity=0.5, n_groups=2, threshold=c) for c in (0.0, 0.12))
    assert free.group_verdict.tolist() == ["persuadables", "sleeping dogs"]
    assert dear.group_verdict.tolist() == ["no effect shown", "sleeping dogs"]
    none = trial(2000, effect=0.0)
    none["uplift"] = trial(2000)["uplift"]
    narrow, wide = (learn(none, propensity=0.5, n_groups=2, margin=m).group_verdict.tolist() for m in (0.01, 0.3))
    assert (narrow, wide) == (["undecided"] * 2, ["no effect shown"] * 2)


def test_without_a_baseline_those_without_an_effect_are_undecided():
    found = learn(trial(20_000) | {"baseline": None}, propensity=0.5, n_groups=3)
    assert found.segment.tolist() == ["persuadables", "sleeping dogs", "undecided"]
    assert not found.rule.needs_baseline
    assert found.rule.assign([0.0]).tolist() == ["undecided"]
    assert np.isnan(found.baseline_cut)
    assert not len(found.map_n)
    assert SegmentRule.from_dict(found.rule.to_dict()) == found.rule
    assert "found no sure things, no lost causes" in str(found)


def test_a_constant_score_is_one_group_with_the_average_effect():
    data = trial(600)
    data["uplift"] = np.zeros(600)
    found = learn(data | {"baseline": None}, propensity=0.5)
    assert found.n_segments == 1
    assert found.rule.cuts == ()
    assert found.effect[0] == pytest.approx(found.average)
    assert found.lift_share[0] == pytest.approx(1.0)


def test_segments_of_single_units():
    low, high = np.array([0.1, -0.2, -0.1, -0.4, 0.02]), np.array([0.3, 0.2, 0.1, -0.2, 0.3])
    baseline = [0.2, 0.7, 0.1, 0.9, 0.1]
    expected = ["persuadables", "sure things", "lost causes", "sleeping dogs", "persuadables"]
    assert segment_units((low, high), baseline).tolist() == expected
    assert segment_units((low, high), baseline, threshold=0.05).tolist() == [*expected[:4], "lost causes"]
    assert segment_units((low, high), baseline, baseline_cut=0.05).tolist()[2] == "sure things"
    assert segment_units((low, high), baseline, margin=0.1).tolist()[1:3] == ["undecided", "lost causes"]
    assert segment_units((low, high)).tolist()[1:3] == ["undecided"] * 2
    result = UpliftIntervalsResult("A", ("B",), 0.95, 5, "", "", low, low, low, high)
    assert segment_units(result, baseline).tolist() == expected
    table = np.column_stack([high - high, low]), np.column_stack([high, high])
    result = UpliftIntervalsResult("A", ("B", "C"), 0.95, 5, "", "", *[table[0]] * 3, table[1])
    assert segment_units(result, baseline, arm="C").tolist() == expected


def test_several_arms():
    data = trial(6000)
    rng = np.random.default_rng(0)
    arms = np.array(["none", "mail", "call"])[rng.integers(0, 3, 6000)]
    uplift = np.column_stack([np.zeros(6000), data["uplift"]])  # columns: call, mail
    keep = arms != "call"
    both = learn_segments(data["y"], uplift, arms, control="none", arm="mail", n_groups=3)
    y, t = data["y"][keep], arms[keep] == "mail"
    order = np.array_split(np.argsort(-data["uplift"]), 3)[0]
    first = np.isin(np.flatnonzero(keep), order)
    assert both.group_effect[0] == pytest.approx(y[first & t].mean() - y[first & ~t].mean())
    assert (both.control, both.treatment) == ("none", "mail")


def test_profile_is_that_of_pandas():
    data = trial(3000)
    rng = np.random.default_rng(5)
    X = pd.DataFrame(
        {
            "age": rng.normal(40, 10, 3000) + 20 * data["uplift"],
            "channel": pd.Categorical(rng.choice(["web", "phone"], 3000)),
            "club": rng.random(3000) < 0.3,
            "constant": 1.0,
            "city": rng.choice(["A", "B", "C"], 3000),
        }
    )
    X.loc[:99, "age"] = NAN
    found = learn(data, X=X, propensity=0.5)
    labels = found.rule.assign(data["uplift"], data["baseline"])
    profile = found.profile()
    for name in found.segment:
        part = profile[profile["segment"] == name].set_index("covariate")
        inside = labels == name
        assert part.loc["age", "mean"] == pytest.approx(X.loc[inside, "age"].mean())
        assert part.loc["age", "rest"] == pytest.approx(X.loc[~inside, "age"].mean())
        gap = part.loc["age", "mean"] - part.loc["age", "rest"]
        assert part.loc["age", "difference"] == pytest.approx(gap / X["age"].std(ddof=0))
        assert part.loc["channel=web", "mean"] == pytest.approx((X.loc[inside, "channel"] == "web").mean())
        assert part.loc["club", "mean"] == pytest.approx(X.loc[inside, "club"].mean())
        assert part["difference"].abs().is_monotonic_decreasing
        assert "constant" not in part.index
        assert {"city=A", "city=B", "city=C"} <= set(part.index)
    assert found.map_n.sum() == 3000
    with pytest.raises(ColumnError, match="datetime"):
        learn(data, X=pd.DataFrame({"day": pd.to_datetime(["2020-01-01"] * 3000)}), propensity=0.5)


def test_describing_given_segments():
    data = trial(2000)
    labels = np.where(data["uplift"] > 0, "persuadables", "sleeping dogs")
    found = describe_segments(labels, data["y"], data["treatment"], propensity=0.5)
    y, t, inside = data["y"], data["treatment"], labels == "persuadables"
    assert found.effect[0] == pytest.approx(y[inside & (t == 1)].mean() - y[inside & (t == 0)].mean())
    assert found.ci_high[0] - found.effect[0] == pytest.approx(stats.norm.isf(0.0125) * found.std_error[0])
    with pytest.raises(CausalRecError, match="learn_segments"):
        _ = found.rule
    lacking = np.where(np.arange(2000) == np.flatnonzero(t == 1)[0], "lost causes", labels)
    one = describe_segments(lacking, data["y"], data["treatment"], propensity=0.5)
    assert np.isnan(one.effect[1])
    assert np.isnan(one.lift_share).tolist() == [False, True, False]
    assert np.isnan(one.ci_low).tolist() == [False, True, False]
    assert one.average == pytest.approx(y[t == 1].mean() - y[t == 0].mean())


@pytest.mark.parametrize("road", ["inverse probability", "doubly robust"])
def test_outcomes_that_do_not_vary_are_no_certainty(road):
    data = trial(800)
    high = data["uplift"] > np.quantile(data["uplift"], 0.5)
    data["y"] = np.where(high, data["y"], 0.0)  # nobody of the lower half converted
    options = {"propensity": 0.5}
    if road == "doubly robust":
        model = LinearRegression()
        X = data["uplift"][:, None]
        options = {"nuisance": fit_nuisances(X, data["y"], treatment=data["treatment"], propensity=0.5,
                                             outcome_model=model)}  # fmt: skip
    found = learn(data, n_groups=2, margin=0.5, **options)
    assert np.isnan(found.group_ci_low).tolist() == [False, True]
    assert found.group_verdict[1] == "undecided"
    assert np.isfinite(found.average_ci_low)
    assert str(found)
    silent = learn(data | {"y": np.zeros(800)}, n_groups=2, propensity=0.5)
    assert silent.segment.tolist() == ["undecided"]
    assert np.isnan(silent.average_ci_low)
    assert "undecided" in str(silent)
    redeemed = learn(data | {"y": trial(800)["y"] * data["treatment"]}, n_groups=2, propensity=0.5)
    assert redeemed.group_verdict.tolist() == ["persuadables"] * 2  # control never can
    assert np.isfinite(redeemed.group_ci_low).all()


def test_columns_of_a_frame_go_by_the_arms_names():
    data = trial(3000)
    arms = np.array(["none", "mail", "call"])[np.random.default_rng(0).integers(0, 3, 3000)]
    named = {"mail": data["uplift"], "call": -data["uplift"]}
    expected = learn_segments(data["y"], data["uplift"], arms, control="none", arm="mail", n_groups=3)
    for uplift in (named, pd.DataFrame(named), polars.DataFrame(named), pd.DataFrame({"uplift": data["uplift"]})):
        found = learn_segments(data["y"], uplift, arms, control="none", arm="mail", n_groups=3)
        np.testing.assert_array_equal(found.group_effect, expected.group_effect)
    with pytest.raises(TreatmentError, match="Name the columns"):
        learn_segments(
            data["y"], pd.DataFrame({"a": data["uplift"], "b": data["uplift"]}), arms, control="none", arm="mail"
        )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"uplift": np.full(400, NAN)}, OutcomeError, "uplift"),
        ({"uplift": np.zeros((400, 3))}, CausalRecError, "a column for each"),
        ({"n_groups": 11}, CausalRecError, "from 1 to 10"),
        ({"n_groups": True}, CausalRecError, "n_groups is True"),
        ({"n_groups": 10, "uplift": np.r_[np.ones(12), np.zeros(388)]}, TreatmentError, "fewer groups"),
        ({"threshold": -1}, CausalRecError, "threshold"),
        ({"threshold": "a"}, CausalRecError, "threshold is 'a'"),
        ({"margin": NAN}, CausalRecError, "margin"),
        ({"baseline": None, "baseline_cut": 0.2}, CausalRecError, "pass baseline"),
        ({"baseline_cut": np.inf}, CausalRecError, "baseline_cut is inf"),
        ({"baseline": np.zeros(3)}, CausalRecError, "baseline has 3 values"),
        ({"confidence_level": 1.0}, CausalRecError, "confidence_level"),
    ],
)
def test_bad_input(change, error, words):
    data = trial(400)
    options = {k: v for k, v in change.items() if k not in data}
    with pytest.raises(error, match=words):
        learn(data | {k: v for k, v in change.items() if k in data}, **options)


def test_bad_intervals_rules_and_labels():
    with pytest.raises(CausalRecError, match="1 intervals end below"):
        segment_units(([0.2], [0.1]))
    with pytest.raises(CausalRecError, match="pair"):
        segment_units(0.3)
    table = np.zeros((2, 2))
    with pytest.raises(TreatmentError, match="B, C"):
        segment_units(UpliftIntervalsResult("A", ("B", "C"), 0.95, 5, "", "", *[table] * 4))
    rule = SegmentRule("A", "B", (0.1,), ("persuadables", "no effect shown"), 0.5)
    with pytest.raises(CausalRecError, match="baseline is missing"):
        rule.assign([0.1])
    with pytest.raises(CausalRecError, match="unknown entries: cuts"):
        SegmentRule.from_dict({k: v for k, v in rule.to_dict().items() if k != "cuts"})
    with pytest.raises(CausalRecError, match="falling"):
        SegmentRule.from_dict(rule.to_dict() | {"verdicts": ["persuadables"]})
    with pytest.raises(CausalRecError, match="'treat'"):
        describe_segments(["treat", "persuadables"], [0, 1], [0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("nuisance", [False, True])
def test_few_events_in_a_small_arm_are_no_sleeping_dogs(nuisance):
    wrong, reps, n = 0, 100, 12_000
    for seed in range(reps):
        rng = np.random.default_rng(seed)
        t, x = (rng.random(n) < 0.15).astype(int), rng.normal(size=n)
        y = (rng.random(n) < 0.02).astype(float)
        options = {"propensity": 0.15}
        if nuisance:
            model = LinearRegression()
            options = {"nuisance": fit_nuisances(x[:, None], y, treatment=t, propensity=0.15, outcome_model=model)}
        found = learn_segments(y, x, t, n_groups=4, **options)
        wrong += bool({"persuadables", "sleeping dogs"} & set(found.group_verdict.tolist()))
    assert wrong <= stats.binom.ppf(0.999, reps, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.06, 0.12])
@pytest.mark.parametrize("clusters", [False, True])
@pytest.mark.parametrize("nuisance", [False, True])
def test_all_claims_hold_at_once(effect, clusters, nuisance):
    reps = 150
    kept = _kept(reps, 1500, effect, clusters=clusters, nuisance=nuisance)
    assert kept >= stats.binom.ppf(0.001, reps, 0.95) / reps


def _kept(reps: int, n: int, effect: float, *, clusters: bool, nuisance: bool = False) -> float:
    """Share of simulations without a wrong verdict and with every segment's true effect inside its interval."""
    right = 0
    for seed in range(reps):
        rng = np.random.default_rng(seed)
        units = np.repeat(np.arange(n // 3), 3) if clusters else np.arange(n)
        x = rng.uniform(-1, 1, n)
        t = rng.integers(0, 2, int(units.max()) + 1)[units]
        tau = effect * (1 + 0.6 * x)
        baseline = rng.random(n)
        y = baseline + tau * t + rng.normal(0, 0.5, n) + 0.3 * rng.normal(size=int(units.max()) + 1)[units]
        options = {"propensity": 0.5, "clusters": units if clusters else None}
        if nuisance:
            fitted = fit_nuisances(
                np.column_stack([x, baseline]), y, treatment=t, propensity=0.5, outcome_model=LinearRegression(),
                groups=units if clusters else None,
            )  # fmt: skip
            options = {"nuisance": fitted}
        found = learn_segments(y, x, t, baseline=baseline, **options)
        labels = found.rule.assign(x, baseline)
        truth = np.array([tau[labels == name].mean() for name in found.segment])
        inside = bool(((found.ci_low <= truth) & (truth <= found.ci_high)).all())
        group = np.searchsorted(-found.group_low[:-1], -x)
        true = np.bincount(group, weights=tau) / np.bincount(group)
        wrong = (found.group_verdict == "persuadables") & (true <= 0)
        wrong |= (found.group_verdict == "sleeping dogs") & (true >= 0)
        right += inside and not wrong.any()
    return right / reps
