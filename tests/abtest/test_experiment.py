"""An experiment from declaration to scorecard: designs by hand, and every kind of bad input by name."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest import (
    DecisionRule,
    Experiment,
    GroupSequential,
    Mean,
    NonInferiority,
    Proportion,
    Quantile,
    Ratio,
    Retention,
    SampleRatio,
    heterogeneity_test,
    two_proportion_test,
    welch_test,
)
from causalrec.exceptions import BalanceWarning, CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import dump_results, format_pvalue, load_results

N = 4_000
ARMS = ("generic", "warm", "bold")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    variant = rng.choice(ARMS, N, p=[0.5, 0.3, 0.2])
    before = rng.lognormal(3, 0.6, N)
    views = 1 + rng.poisson(6, N)
    device = rng.choice(["phone", "web"], N, p=[0.7, 0.3])
    saw = rng.random(N) < 0.6
    lift = (variant == "warm") * saw * np.where(device == "web", 4.0, 1.0)
    return pd.DataFrame(
        {
            "user": np.arange(N), "variant": variant, "revenue_pre": before,
            "revenue": before + rng.normal(20, 5, N) + lift, "views": views, "clicks": rng.binomial(views, 0.2),
            "bought": (rng.random(N) < 0.1 + 0.05 * (variant == "bold")).astype(int), "device": device, "saw": saw,
            "last_seen": rng.exponential(9, N), "day": rng.integers(0, 5, N),
        }
    )  # fmt: skip


METRICS = {
    "ctr": Ratio("clicks", "views"),
    "revenue": Mean("revenue", covariates=["revenue_pre"]),
    "retained": Retention("last_seen", days=7),
}


def experiment(metrics, **design):
    return Experiment(metrics, **{"variant": "variant", "control": "generic", **design})


def welch(frame, column, arm, **options):
    a, b = (frame.loc[frame["variant"] == v, column] for v in ("generic", arm))
    return welch_test(a.mean(), a.var(), len(a), b.mean(), b.var(), len(b), **options)


def test_what_a_user_writes(frame):
    exp = Experiment(
        {
            "ctr": Ratio("clicks", "views"),
            "revenue": Mean("revenue", covariates=["revenue_pre"]),
            "retained": Retention("last_seen", days=7),
        },
        variant="variant", control="generic", cluster=None,
    )  # fmt: skip
    result = exp.analyze(frame)
    assert [(e.metric, e.treatment) for e in result.effects] == [
        (m, t) for m in ("ctr", "revenue", "retained") for t in ("bold", "warm")
    ]
    kept = frame["last_seen"] >= 7
    counts = [
        x for arm in ("generic", "warm") for x in (kept[frame["variant"] == arm].sum(), sum(frame["variant"] == arm))
    ]
    expected = two_proportion_test(*counts)
    assert result["retained", "warm"].pvalue == pytest.approx(expected.pvalue, rel=1e-12)
    assert result["revenue", "warm"].std_error < 0.6 * welch(frame, "revenue", "warm").std_error
    table = result.to_frame()
    assert len(table) == 6
    assert table["pvalue"].tolist() == [e.pvalue for e in result.effects]
    assert "the sizes of the arms are not checked" in str(result)
    with pytest.raises(KeyError, match="ambiguous"):
        result["ctr"]
    with pytest.raises(KeyError, match="unknown"):
        result["nothing"]


def test_moments_collected_elsewhere_agree_with_the_frame(frame):
    columns = ["clicks", "views", "revenue", "revenue_pre", "bought"]
    moments = {
        arm: Moments.from_array(rows[columns].to_numpy(float), columns) for arm, rows in frame.groupby("variant")
    }
    exp = experiment({"ctr": METRICS["ctr"], "revenue": METRICS["revenue"], "bought": Proportion("bought")})
    theirs = {(e.metric, e.treatment): e for e in exp.analyze(moments).effects}
    for e in exp.analyze(frame).effects:
        other = theirs[e.metric, e.treatment]
        for name in ("estimate", "std_error", "pvalue", "ci_low", "relative_ci_high", "df", "n_obs"):
            assert getattr(e, name) == pytest.approx(getattr(other, name), rel=1e-9), name
    collected = exp.collect(frame)
    assert exp.analyze(collected).to_frame().equals(exp.analyze(frame).to_frame())
    halves = exp.collect(frame[: N // 2]).merge(exp.collect(frame[N // 2 :]))
    np.testing.assert_allclose(
        exp.analyze(halves).to_frame()["pvalue"], exp.analyze(frame).to_frame()["pvalue"], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("metric", "design", "words"),
    [
        (Retention("last_seen"), {}, "Retention .* needs the table"),
        (Quantile("revenue"), {}, "Quantile .* needs the table"),
        (Mean("revenue", winsorize=0.9), {}, "without where= and winsorize="),
        (Mean("revenue"), {"segments": "device"}, "'segments'.*moments by arm do not show"),
    ],
)
def test_what_moments_cannot_tell(frame, metric, design, words):
    moments = {a: Moments.from_array(np.eye(3)[:, :1], ["revenue"]) for a in ("generic", "warm")}
    with pytest.raises(CausalRecError, match=words):
        experiment({"m": metric}, **design).analyze(moments)


def test_pooled_arms_are_one(frame):
    pooled = experiment({"r": Mean("revenue")}, pool={"new": ["warm", "bold"]}).analyze(frame)["r"]
    renamed = frame.assign(variant=frame["variant"].where(frame["variant"] == "generic", "new"))
    assert pooled.pvalue == pytest.approx(welch(renamed, "revenue", "new").pvalue, rel=1e-9)
    with pytest.raises(TreatmentError, match=r"'wram'.*Did you mean 'warm'"):
        experiment({"r": Mean("revenue")}, pool={"new": ["wram"]}).analyze(frame)


def test_post_stratification_by_hand(frame):
    found = experiment({"r": Mean("revenue")}, strata="device").analyze(frame)["r", "warm"]
    rows = frame[frame["variant"].isin(["generic", "warm"])]
    share = rows["device"].value_counts(normalize=True)
    cells = rows.groupby(["device", "variant"])["revenue"].agg(["mean", "var", "count"])
    gaps = cells["mean"].xs("warm", level=1) - cells["mean"].xs("generic", level=1)
    effect = (share * gaps).sum()
    within = (share**2 * (cells["var"] / cells["count"]).groupby("device").sum()).sum()
    between = (share * (gaps - effect) ** 2).sum() / len(rows)  # the shares are estimated too
    assert found.estimate == pytest.approx(effect, rel=1e-12)
    assert found.std_error == pytest.approx(math.sqrt(within + between), rel=1e-9)
    assert "2 strata" in found.method


def test_triggered_and_diluted(frame):
    result = experiment({"r": Mean("revenue")}, trigger="saw").analyze(frame)
    inside = welch(frame[frame["saw"]], "revenue", "warm")
    assert result["r", "warm"].pvalue == pytest.approx(inside.pvalue, rel=1e-9)
    diluted = next(e for e in result.diluted if e.treatment == "warm")
    rows = frame[frame["variant"].isin(["generic", "warm"])]
    p, n = rows["saw"].mean(), len(rows)
    assert diluted.estimate == pytest.approx(p * inside.estimate, rel=1e-9)
    # Delta method: the share of triggered units is estimated too.
    expected = math.sqrt(p**2 * inside.std_error**2 + inside.estimate**2 * p * (1 - p) / n)
    assert diluted.std_error == pytest.approx(expected, rel=1e-9)
    assert diluted.n_obs == n
    assert diluted.std_error < welch(frame, "revenue", "warm").std_error
    assert "on all units, triggered or not" in str(result)


def test_trend_is_the_slope_of_least_squares(frame):
    result = experiment({"r": Mean("revenue")}, day="day").analyze(frame)
    trend = next(t for t in result.trends if t.treatment == "warm")
    fits = [
        stats.linregress(rows["day"], rows["revenue"])
        for rows in (frame[frame["variant"] == arm] for arm in ("generic", "warm"))
    ]
    assert trend.estimate == pytest.approx(fits[1].slope - fits[0].slope, rel=1e-9)
    assert trend.std_error == pytest.approx(math.hypot(fits[0].stderr, fits[1].stderr), rel=0.05)  # ours is robust
    np.testing.assert_array_equal(trend.day, np.arange(5))
    third = welch(frame[frame["day"] == 2], "revenue", "warm")
    assert (trend.effect[2], trend.effect_low[2]) == pytest.approx((third.estimate, third.ci_low), rel=1e-9)


def test_pre_period_compares_the_covariates(frame):
    result = experiment(METRICS).analyze(frame)
    balance = {e.treatment: e for e in result.pre_period}
    for arm in ("warm", "bold"):
        assert balance[arm].metric == "revenue_pre"
        assert balance[arm].pvalue == pytest.approx(welch(frame, "revenue_pre", arm).pvalue, rel=1e-9)
    assert "before the experiment: of 2 comparisons revenue_pre of " in str(result)


def test_aa_halves_have_the_designed_shares(frame, monkeypatch):
    seen = []
    module = "causalrec.abtest.experiment.simulate_aa"
    monkeypatch.setattr(module, lambda *args, weights, **options: seen.append(weights))
    experiment({"r": Mean("revenue"), "split": SampleRatio({"generic": 90, "warm": 7, "bold": 3})}).simulate_aa(frame)
    experiment({"r": Mean("revenue")}).simulate_aa(frame)
    counts = frame["variant"].value_counts()
    assert seen == [(90.0, 7.0), (counts["generic"], counts["warm"])]


def test_segments_and_their_interaction(frame):
    result = experiment({"r": Mean("revenue"), "b": Proportion("bought")}, segments=["device"]).analyze(frame)
    assert len(result.segments) == 2 * 2 * 2
    web = next(e for e in result.segments if (e.metric, e.treatment, e.segment) == ("r", "warm", "device = web"))
    assert web.pvalue == pytest.approx(welch(frame[frame["device"] == "web"], "revenue", "warm").pvalue, rel=1e-9)
    test = next(t for t in result.interactions if (t.metric, t.treatment) == ("r", "warm"))
    both = [welch(frame[frame["device"] == d], "revenue", "warm") for d in ("phone", "web")]
    z = (both[1].estimate - both[0].estimate) / math.hypot(both[0].std_error, both[1].std_error)
    assert test.statistic == pytest.approx(z**2, rel=1e-9)
    assert test.pvalue == pytest.approx(stats.chi2.sf(z**2, 1), rel=1e-9)
    assert test.pvalue == pytest.approx(heterogeneity_test(both, dimension="device").pvalue, rel=1e-9)
    adjusted = experiment({"r": METRICS["revenue"]}, segments=["device"]).analyze(frame)
    assert {t.treatment: t.pvalue < 0.001 for t in adjusted.interactions} == {"warm": True, "bold": False}  # planted


class TestBadInput:
    mean = {"m": Mean("revenue")}  # noqa: RUF012

    def test_one_arm(self, frame):
        with pytest.raises(TreatmentError, match=r"found only 'generic'.*two arms"):
            experiment(self.mean).analyze(frame[frame["variant"] == "generic"])

    def test_an_arm_with_one_unit(self, frame):
        rows = pd.concat([frame[frame["variant"] == "generic"], frame[frame["variant"] == "warm"][:1]])
        for metric in (Mean("revenue"), Ratio("clicks", "views"), Proportion("bought"), Quantile("revenue")):
            with pytest.raises(OutcomeError, match=r"'warm' has 1 units.*at least two"):
                experiment({"m": metric}).analyze(rows)

    def test_zero_variance(self, frame):
        for metric, value in ((Mean("revenue"), 3.0), (Proportion("revenue"), 1.0)):
            with pytest.raises(OutcomeError, match="m: every value is the same within each arm"):
                experiment({"m": metric}).analyze(frame.assign(revenue=value))

    def test_zero_variance_in_a_segment_is_a_note(self, frame):
        rows = frame.assign(revenue=frame["revenue"].where(frame["device"] == "web", 1.0))
        result = experiment(self.mean, segments="device").analyze(rows)
        assert {e.segment for e in result.segments} == {"device = web"}
        assert any("device = phone" in note and "want of units or variance" in note for note in result.notes)

    def test_zero_denominators(self, frame):
        with pytest.raises(OutcomeError, match=r"mean of the denominator is 0.*where="):
            experiment({"ctr": Ratio("clicks", "views")}).analyze(frame.assign(views=0))
        some = frame.assign(views=frame["views"].where(frame["user"] % 3 != 0, 0), clicks=0)
        some.loc[some["views"] > 0, "clicks"] = 1
        found = experiment({"ctr": Ratio("clicks", "views")}).analyze(some)["ctr", "warm"]
        totals = some.groupby("variant")[["clicks", "views"]].sum()
        assert found.treatment_mean == pytest.approx(totals.loc["warm", "clicks"] / totals.loc["warm", "views"])

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_values_that_are_none(self, frame, bad):
        rows = frame.assign(revenue=frame["revenue"].where(frame["user"] != 7, bad))
        with pytest.raises(OutcomeError, match=r"column 'revenue': 1 of .* missing, infinite.*missing='drop'"):
            experiment(self.mean).analyze(rows)

    def test_a_covariate_that_assignment_depends_on(self, frame):
        shifted = frame.assign(revenue_pre=frame["revenue_pre"] + 5 * (frame["variant"] == "warm"))
        with pytest.warns(BalanceWarning, match="revenue_pre differs between generic and warm before the experiment"):
            result = experiment(METRICS).analyze(shifted)
        assert sum("assignment was not random" in note for note in result.notes) == 1

    def test_unknown_control(self, frame):
        with pytest.raises(TreatmentError, match=r"'generc'.*Did you mean 'generic'"):
            experiment(self.mean, control="generc").analyze(frame)

    def test_more_arms_than_weights(self, frame):
        with pytest.raises(TreatmentError, match="'bold' has no weight"):
            experiment({**self.mean, "split": SampleRatio({"generic": 1, "warm": 1})}).analyze(frame)

    def test_a_designed_arm_that_nobody_has(self, frame):
        split = SampleRatio({"generic": 5, "warm": 3, "bold": 2, "new": 1})
        result = experiment({**self.mean, "split": split}).analyze(frame)
        assert result.sample_ratio[0].mismatch
        assert "sample ratio mismatch" in result.notes[0]

    def test_arms_named_alike(self, frame):
        rows = frame[frame["variant"] != "bold"].assign(
            variant=lambda f: f["variant"].map({"generic": "A", "warm": "A "})
        )
        result = experiment(self.mean, control="A").analyze(rows)
        assert result["m"].treatment == "A "
        moments = {1: Moments.from_array(np.eye(3)[:, :1], ["revenue"])}
        with pytest.raises(CausalRecError, match="written alike"):
            experiment(self.mean, control=1).analyze(moments | {"1": moments[1]})

    @pytest.mark.parametrize(
        ("metrics", "design", "error", "words"),
        [
            ({}, {}, CausalRecError, "metrics is empty"),
            ({"m": "revenue"}, {}, CausalRecError, "expected a metric"),
            ({"m": Mean("revenu")}, {}, ColumnError, "Did you mean 'revenue'"),
            ({"m": Mean("device")}, {}, ColumnError, "device"),
            ({"m": Mean("revenue")}, {"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
            ({"m": Mean("revenue")}, {"hypothesis": "greater"}, CausalRecError, "hypothesis is 'greater'"),
            ({"m": Mean("revenue")}, {"relative": "log2"}, CausalRecError, "relative is 'log2'"),
            ({"m": Mean("revenue")}, {"on_conflict": "keep"}, CausalRecError, "on_conflict is 'keep'"),
            ({"m": Mean("revenue")}, {"strata": ["device", "device"]}, ColumnError, "several roles"),
            ({"m": Mean("revenue")}, {"strata": "variant"}, ColumnError, "several roles"),
            ({"m": Quantile("revenue")}, {"strata": "device"}, CausalRecError, "cannot be post-stratified"),
            ({"m": Proportion("bought", method="fisher")}, {"cluster": "user"}, CausalRecError, "independent units"),
        ],
    )
    def test_a_design_that_cannot_be(self, frame, metrics, design, error, words):
        with pytest.raises(error, match=words):
            experiment(metrics, **design).analyze(frame)

    @pytest.mark.parametrize("covariates", [["x", "x"], ["revenue"]])
    def test_covariates_twice_or_the_outcome_itself(self, covariates):
        for metric in (
            lambda: Mean("revenue", covariates=covariates),
            lambda: Ratio("revenue", "v", covariates=covariates),
        ):
            with pytest.raises(ColumnError, match="expected other columns, each once"):
                metric()

    def test_parts_that_were_clipped_differently_are_not_merged(self, frame):
        exp = experiment({"m": Mean("revenue", winsorize=0.9)})
        with pytest.raises(CausalRecError, match="cannot merge: one was clipped"):
            exp.collect(frame[: N // 2]).merge(exp.collect(frame[N // 2 :]))


class TestNumbers:
    def test_a_pvalue_of_1e_300_prints_as_such(self):
        n = 1_000_000
        z = float(stats.norm.isf(0.5e-300))
        moments = {
            arm: Moments.from_covariance(n, ["y"], np.array([mean]), np.array([[1.0]]))
            for arm, mean in (("a", 10.0), ("b", 10.0 + z * math.sqrt(2 / n)))
        }
        result = Experiment({"y": Mean("y", method="z")}, variant="v", control="a").analyze(moments)
        assert result["y"].pvalue == pytest.approx(1e-300, rel=1e-9)
        assert "1.00e-300" in str(result)
        assert "1.00e-300" in str(result["y"])
        assert "1.00e-300" in result._repr_html_()
        assert load_results(dump_results({"x": result}))["x"]["y"].pvalue == result["y"].pvalue
        assert format_pvalue(0.0) == "<1e-300"

    def test_a_mean_of_1e8_loses_nothing(self, frame):
        rng = np.random.default_rng(1)
        small = np.round(rng.normal(0, 1, N) * 2**20) / 2**20  # exact after the shift too
        rows = frame.assign(small=small, large=small + 1e8)
        result = experiment({"small": Mean("small"), "large": Mean("large")}).analyze(rows)
        for arm in ("warm", "bold"):
            one, two = result["small", arm], result["large", arm]
            assert two.std_error == pytest.approx(one.std_error, rel=1e-10)
            assert two.estimate == pytest.approx(one.estimate, abs=3e-8)  # a mean of 1e8 has eps 1.5e-8


class TestScorecard:
    def result(self, frame):
        exp = experiment(
            {
                **METRICS, "share that bought within the session": Proportion("bought"),
                "p90 of revenue": Quantile("revenue", 0.9),
                "spend, not worse": Mean("revenue", hypothesis=NonInferiority(0.01, relative=True)),
                "split": SampleRatio({"generic": 5, "warm": 3, "bold": 2}),
            },
            segments=["device"], trigger="saw", day="day", unit="user",
        )  # fmt: skip
        return exp.analyze(frame)

    def test_text_is_readable(self, frame):
        text = str(self.result(frame))
        assert max(map(len, text.splitlines())) <= 110
        for words in ("p", "lift", "difference", "on triggered units", "sample ratio: generic", "by device", "by day",
                      "before the experiment", "of non-inferiority, margin -"):  # fmt: skip
            assert words in text, words
        n = {arm: int((frame["saw"] & (frame["variant"] == arm)).sum()) for arm in ARMS}
        assert f"n: generic {n['generic']:,}, bold {n['bold']:,}, warm {n['warm']:,}" in text

    def test_long_names_stay_distinct(self, frame):
        arms = {"warm": "treatment of the first kind, a", "bold": "treatment of the first kind, b"}
        rows = frame.assign(variant=frame["variant"].replace(arms))
        lines = str(experiment({"a long name of a metric": Mean("revenue")}).analyze(rows)).splitlines()
        shown = [line for line in lines if "treatm" in line and "[" in line]
        assert len({line[:45] for line in shown}) == 2

    def test_html_has_it_all_and_is_safe(self, frame):
        rows = frame.assign(variant=frame["variant"].replace({"warm": "<b>warm</b>"}))
        html = experiment({"<i>r</i>": Mean("revenue")}, trigger="saw").analyze(rows)._repr_html_()
        assert "<b>" not in html
        assert "<i>" not in html
        assert html.count("<table>") == 2
        assert "n: generic" in html

    def test_it_is_saved_and_read_back(self, frame):
        result = self.result(frame)
        copy = load_results(dump_results({"x": result}))["x"]
        assert str(copy) == str(result)
        assert copy.to_frame().equals(result.to_frame())


def test_no_warning_without_cause(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        experiment(METRICS, segments="device", strata=(), trigger="saw").analyze(frame)


class TestTiedQuantiles:
    """A quantile of whole numbers moves in steps: the normal law would find effects where there are none."""

    @pytest.mark.parametrize("q", [0.5, 0.9])
    def test_many_units_at_the_quantile_have_no_test(self, q):
        rng = np.random.default_rng(3)
        rows = pd.DataFrame({"variant": np.repeat(["generic", "warm"], 3_000), "y": rng.poisson(16, 6_000)})
        result = experiment({"m": Quantile("y", q)}).analyze(rows)
        found = result["m"]
        assert found.control_mean == np.quantile(rows["y"][:3_000], q)
        assert np.isnan([found.pvalue, found.std_error, found.ci_low, found.relative_ci_high]).all()
        assert not found.significant
        assert "permutation_test or bootstrap_diff" in found.method
        assert any("moves in steps" in note for note in result.notes)
        assert str(result)

    def test_rounding_to_cents_does_not_matter(self):
        rng = np.random.default_rng(4)
        y = rng.lognormal(3, 1, 4_000)
        rows = pd.DataFrame({"variant": np.tile(["generic", "warm"], 2_000), "y": y, "cents": np.round(y, 2)})
        result = experiment({"y": Quantile("y"), "cents": Quantile("cents")}).analyze(rows)
        assert result["cents"].pvalue == pytest.approx(result["y"].pvalue, abs=0.02)


def test_rows_without_a_named_unit_are_said_to_be_units(frame):
    metrics = {"revenue": Mean("revenue")}
    said = Experiment(metrics, variant="variant", control="generic").analyze(frame).notes
    assert sum("each row is taken as an independent unit" in note for note in said) == 1
    for design in ({"unit": "user"}, {"cluster": "user"}):
        notes = Experiment(metrics, variant="variant", control="generic", **design).analyze(frame).notes
        assert not any("independent unit" in note for note in notes)


def test_units_without_a_segment_are_a_group_called_missing(frame):
    holes = frame.assign(device=frame["device"].where(frame.index % 3 > 0))
    metrics = {"revenue": Mean("revenue"), "split": SampleRatio()}
    result = Experiment(metrics, variant="variant", control="generic", unit="user", segments="device").analyze(holes)
    assert "missing" in result.segment_ratios[0].segment.tolist()
    assert any(e.segment == "device = missing" for e in result.segments)
    assert "None" not in str(result)


# --- ways of inference, and verdicts --------------------------------------------------------------------------------


def _three_arms(seed: int = 5, n: int = 3_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    before = rng.normal(10, 3, n)
    arm = rng.choice(["A", "B", "C"], n)
    spend = before + rng.normal(0, 2, n) + 0.5 * (arm == "B") + 0.1 * (arm == "C")
    clicks = rng.binomial(20, 0.2, n)
    return pd.DataFrame({"arm": arm, "before": before, "spend": spend, "clicks": clicks, "views": 20})


_WAYS = {
    "spend": Mean("spend", covariates=["before"]),
    "ctr": Ratio("clicks", "views", hypothesis=NonInferiority(0.05, relative=True)),
}


@pytest.mark.parametrize("cluster", [None, "house"])
def test_every_way_of_inference_goes_with_every_estimate(cluster: str | None) -> None:
    frame = _three_arms().assign(house=lambda f: f["arm"] + (f.index // 3).astype(str))
    experiment = Experiment(_WAYS, variant="arm", control="A", cluster=cluster)
    fixed, always = experiment.analyze(frame), experiment.analyze(frame, "always_valid")
    group = experiment.analyze(frame, GroupSequential([0.5, 1.0]))
    assert {e.inference for e in always.effects} == {"always valid"}
    for once, often, last in zip(fixed.effects, always.effects, group.effects, strict=True):
        assert once.estimate == often.estimate == last.estimate
        assert once.std_error == often.std_error == last.std_error
        assert often.ci_low < last.ci_low < once.ci_low
        assert often.pvalue >= last.pvalue >= once.pvalue
        for e in (often, last):  # the interval and the test agree
            bound = e.relative_ci_low if e.hypothesis == "non-inferiority" else max(e.ci_low, -e.ci_high)
            assert (bound > (-0.05 if e.hypothesis == "non-inferiority" else 0)) == (e.pvalue < 0.05)


def test_beliefs_are_those_of_the_effects() -> None:
    """With a flat prior P(treatment is better) is the normal law's of effect / standard error (a textbook identity)."""
    frame = _three_arms()
    experiment = Experiment(_WAYS, variant="arm", control="A")
    fixed, believed = experiment.analyze(frame), experiment.analyze(frame, "bayesian")
    assert all(math.isnan(e.pvalue) for e in believed.effects)
    for posterior in believed.posteriors:
        assert posterior.arms == ("A", "B", "C")
        for arm, p in zip(posterior.arms[1:], posterior.prob_beats_control[1:], strict=True):
            e = fixed[posterior.metric, arm]
            assert p == pytest.approx(stats.norm.cdf(e.estimate / e.std_error), rel=1e-7)
    assert "not tested" not in str(believed)


def test_a_decision_rule_gives_a_verdict() -> None:
    frame = _three_arms()
    rule = DecisionRule("spend", guardrails=["ctr"], mde={"spend": {"absolute": 0.3}})
    result = Experiment(_WAYS, variant="arm", control="A", decision=rule).analyze(frame)
    assert result.verdict is not None
    assert (result.verdict.verdict, result.verdict.arm) == ("ship", "B")
    assert str(result).splitlines()[1] == "SHIP B"
    assert Experiment(_WAYS, variant="arm", control="A").analyze(frame).verdict is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (DecisionRule("spent"), "'spent', which is not among the metrics 'spend', 'ctr'.* Did you mean 'spend'?"),
        (DecisionRule("ctr", guardrails=["spend"]), "guardrail 'spend' has the hypothesis 'two-sided'"),
    ],
)
def test_rules_that_do_not_go_with_the_metrics_are_refused(rule: DecisionRule, words: str) -> None:
    with pytest.raises(CausalRecError, match=words):
        Experiment(_WAYS, variant="arm", control="A", decision=rule)
