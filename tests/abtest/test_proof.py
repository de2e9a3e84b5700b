"""Every estimate, interval and decision against the plain second way of ``oracle.py``, on many generated tables."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.abtest import (
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Proportion,
    Quantile,
    Ratio,
    Retention,
    SampleRatio,
    Superiority,
)
from causalrec.exceptions import CausalRecError, ColumnError, EmptyTableError, OutcomeError, TreatmentError

from . import oracle
from .oracle import experiment_table, units_of

AB = ("a", "b")
SEEDS = range(6)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def analyze(frame, metrics, **design):
    """The experiment's answer; other metrics' covariates are balanced by chance, so their warnings do not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Experiment(metrics, **{"variant": "variant", "control": "a", **design}).analyze(frame)


def same(result, found):
    """Estimates, errors, p-value and intervals, taking the result's own degrees of freedom."""
    np.testing.assert_allclose((result.control_mean, result.treatment_mean), found.values, **CLOSE)
    np.testing.assert_allclose((result.estimate, result.std_error), (found.effect, found.se), **CLOSE)
    assert (result.n_control, result.n_treatment, result.n_obs) == (*found.n, sum(found.n))
    found = oracle.with_df(found, result.df)
    np.testing.assert_allclose(result.pvalue, oracle.pvalue(found), rtol=1e-7)
    np.testing.assert_allclose((result.ci_low, result.ci_high), oracle.interval(found), **CLOSE)
    np.testing.assert_allclose(result.relative_effect, found.values[1] / found.values[0] - 1, **CLOSE)
    np.testing.assert_allclose((result.relative_ci_low, result.relative_ci_high), oracle.fieller(found), rtol=1e-7)


def agree(result, found, *, df=None):
    """As ``same``, and the degrees of freedom."""
    same(result, found)
    np.testing.assert_allclose(result.df, found.df if df is None else df, rtol=1e-9)


# --- Estimates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_means_and_ratios(seed):
    frame = experiment_table(seed, shares=(0.8, 0.2) if seed % 2 else None)
    result = analyze(
        frame, {"revenue": Mean("revenue"), "z": Mean("revenue", method="z"), "ctr": Ratio("clicks", "views")}
    )
    mean = oracle.ratio_estimate(units_of(frame, "revenue", arms=AB))
    agree(result["revenue"], mean)
    agree(result["z"], mean, df=math.inf)
    agree(result["ctr"], oracle.ratio_estimate(units_of(frame, "clicks", den="views", arms=AB)))
    arms = [frame.loc[frame["variant"] == arm, "revenue"] for arm in AB]
    welch = stats.ttest_ind(arms[1], arms[0], equal_var=False)
    np.testing.assert_allclose((result["revenue"].pvalue, result["revenue"].df), (welch.pvalue, welch.df), rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_proportions(seed):
    frame = experiment_table(seed)
    result = analyze(frame, {"pooled": Proportion("bought"), "unpooled": Proportion("bought", pooled=False)})
    n = frame.groupby("variant")["bought"].agg(["sum", "count", "mean"])
    p, m = n["mean"].to_numpy(), n["count"].to_numpy()
    effect, wald = p[1] - p[0], math.sqrt((p * (1 - p) / m).sum())
    share = n["sum"].sum() / m.sum()
    null = math.sqrt(share * (1 - share) * (1 / m).sum())
    for name, se in (("pooled", null), ("unpooled", wald)):
        np.testing.assert_allclose(result[name].estimate, effect, rtol=1e-12)
        np.testing.assert_allclose(result[name].pvalue, 2 * stats.norm.sf(abs(effect) / se), rtol=1e-9)
        np.testing.assert_allclose(result[name].ci_low, effect - stats.norm.ppf(0.975) * wald, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("covariates", [("x1",), ("x1", "x2"), ("x1", "x2", "x3", "x4")])
def test_covariates(seed, covariates):
    frame = experiment_table(seed, shares=(0.85, 0.15) if seed % 2 else None)
    result = analyze(
        frame,
        {
            "revenue": Mean("revenue", covariates=covariates),
            "ctr": Ratio("clicks", "views", covariates=covariates),
        },
    )
    agree(result["revenue"], oracle.adjusted_estimate(units_of(frame, "revenue", arms=AB, covariates=covariates)))
    ratio = units_of(frame, "clicks", den="views", arms=AB, covariates=covariates)
    agree(result["ctr"], oracle.adjusted_estimate(ratio))


@pytest.mark.parametrize("seed", SEEDS)
def test_useless_covariates(seed):
    # A covariate that repeats another, or never changes, says nothing: the answer is the one without it.
    frame = experiment_table(seed)
    result = analyze(
        frame,
        {
            "one": Mean("revenue", covariates=["x1"]),
            "twice": Mean("revenue", covariates=["x1", "twin"]),
            "constant": Mean("revenue", covariates=["x1", "constant"]),
            "only constant": Mean("revenue", covariates=["constant"]),
            "none": Mean("revenue"),
        },
    )
    for name in ("twice", "constant"):
        np.testing.assert_allclose(result[name].estimate, result["one"].estimate, rtol=1e-9)
        np.testing.assert_allclose(result[name].std_error, result["one"].std_error, rtol=1e-9)
    np.testing.assert_allclose(result["only constant"].estimate, result["none"].estimate, rtol=1e-12)
    np.testing.assert_allclose(result["only constant"].std_error, result["none"].std_error, rtol=1e-9)


def test_covariates_are_least_squares():
    # Lin (2013): least squares with interactions, errors robust to unequal variances; the same to first order.
    frame = experiment_table(1, n=6000)
    columns = ["x1", "x2"]
    result = analyze(frame, {"revenue": Mean("revenue", covariates=columns)})["revenue"]
    data = frame.assign(t=(frame["variant"] == "b").astype(float), **{c: frame[c] - frame[c].mean() for c in columns})
    fit = smf.ols("revenue ~ t * (x1 + x2)", data).fit(cov_type="HC2")
    assert abs(result.estimate - fit.params["t"]) < 0.02 * fit.bse["t"]
    np.testing.assert_allclose(result.std_error, fit.bse["t"], rtol=2e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_clusters(seed):
    frame = experiment_table(seed)
    result = analyze(
        frame,
        {
            "revenue": Mean("revenue"),
            "adjusted": Mean("revenue", covariates=["x1", "x2"]),
            "bought": Proportion("bought"),
            "ctr": Ratio("clicks", "views"),
            "ctr adjusted": Ratio("clicks", "views", covariates=["x1"]),
        },
        cluster="house",
    )

    def units(column, den=None, covariates=()):
        return units_of(frame, column, arms=AB, den=den, covariates=covariates, cluster="house")

    agree(result["revenue"], oracle.ratio_estimate(units("revenue")))
    agree(result["ctr"], oracle.ratio_estimate(units("clicks", "views")))
    same(result["bought"], oracle.ratio_estimate(units("bought")))
    agree(result["adjusted"], oracle.adjusted_estimate(units("revenue", covariates=["x1", "x2"])))
    agree(result["ctr adjusted"], oracle.adjusted_estimate(units("clicks", "views", ["x1"])))


def test_clusters_as_in_statsmodels():
    frame = experiment_table(3, n=1000)
    result = analyze(frame, {"revenue": Mean("revenue")}, cluster="house")["revenue"]
    data = frame.assign(t=(frame["variant"] == "b").astype(float))
    fit = smf.ols("revenue ~ t", data).fit(cov_type="cluster", cov_kwds={"groups": data["house"], "use_correction": 0})
    # Ours has n / (n - 1) within each arm, statsmodels none of it here.
    found = oracle.ratio_estimate(units_of(frame, "revenue", arms=AB, cluster="house"))
    shrunk = sum(found.cov[a, a] * (found.n[a] - 1) / found.n[a] for a in (0, 1))
    np.testing.assert_allclose(fit.bse["t"], math.sqrt(shrunk), rtol=1e-9)
    np.testing.assert_allclose(result.std_error, found.se, rtol=1e-9)
    np.testing.assert_allclose(result.estimate, fit.params["t"], rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("strata", [("city",), ("city", "device")])
def test_strata(seed, strata):
    frame = experiment_table(seed, n=600)
    result = analyze(
        frame,
        {
            "revenue": Mean("revenue"),
            "ctr": Ratio("clicks", "views"),
            "adjusted": Mean("revenue", covariates=["x1", "x2"]),
        },
        strata=strata,
    )
    agree(result["revenue"], oracle.ratio_estimate(units_of(frame, "revenue", arms=AB, strata=strata)))
    ratio = units_of(frame, "clicks", arms=AB, den="views", strata=strata)
    agree(result["ctr"], oracle.ratio_estimate(ratio))
    adjusted = units_of(frame, "revenue", arms=AB, strata=strata, covariates=["x1", "x2"])
    agree(result["adjusted"], oracle.adjusted_estimate(adjusted))


@pytest.mark.parametrize("seed", SEEDS)
def test_strata_and_clusters(seed):
    frame = experiment_table(seed, n=800)
    result = analyze(frame, {"revenue": Mean("revenue"), "ctr": Ratio("clicks", "views")}, strata="city",
                     cluster="house")  # fmt: skip
    for name, column, den in (("revenue", "revenue", None), ("ctr", "clicks", "views")):
        units = units_of(frame, column, arms=AB, den=den, strata=["city"], cluster="house")
        found = oracle.ratio_estimate(units)
        agree(result[name], found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cluster", [None, "house"])
def test_trigger(seed, cluster):
    frame = experiment_table(seed, n=500)
    if cluster:  # a household is triggered as a whole
        frame["saw"] = frame["house"] % 5 < 3
    result = analyze(
        frame, {"revenue": Mean("revenue"), "ctr": Ratio("clicks", "views")}, trigger="saw", cluster=cluster
    )
    diluted = {e.metric: e for e in result.diluted}
    triggered = frame[frame["saw"]]
    for name, column, den in (("revenue", "revenue", None), ("ctr", "clicks", "views")):
        agree(result[name], oracle.ratio_estimate(units_of(triggered, column, arms=AB, den=den, cluster=cluster)))
        units = units_of(frame, column, arms=AB, den=den, cluster=cluster, strata=["saw"])
        found = oracle.diluted_estimate(units, units.cell == 1)
        each = diluted[name]
        np.testing.assert_allclose((each.control_mean, each.treatment_mean), found.values, **CLOSE)
        np.testing.assert_allclose((each.estimate, each.std_error), (found.effect, found.se), **CLOSE)
        law = oracle.with_df(found, each.df)
        np.testing.assert_allclose((each.relative_ci_low, each.relative_ci_high), oracle.fieller(law), rtol=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("winsorize", [0.9, (0.1, 0.95)])
def test_winsorized(seed, winsorize):
    frame = experiment_table(seed)
    result = analyze(
        frame,
        {
            "revenue": Mean("revenue", winsorize=winsorize),
            "ctr": Ratio("clicks", "views", winsorize=winsorize),
        },
    )
    low, high = (0.0, winsorize) if isinstance(winsorize, float) else winsorize
    clipped = frame.copy()
    for column in ("revenue", "clicks", "views"):
        clipped[column] = frame[column].clip(*frame[column].quantile([low, high]))
    agree(result["revenue"], oracle.ratio_estimate(units_of(clipped, "revenue", arms=AB)))
    agree(result["ctr"], oracle.ratio_estimate(units_of(clipped, "clicks", den="views", arms=AB)))


@pytest.mark.parametrize("seed", SEEDS)
def test_several_arms_each_against_control(seed):
    arms = ("a", "b", "c", "d")
    frame = experiment_table(seed, n=500, arms=arms)
    metrics = {"revenue": Mean("revenue", covariates=["x1"]), "ctr": Ratio("clicks", "views")}
    result = analyze(frame, metrics)
    for arm in arms[1:]:
        pair = analyze(frame[frame["variant"].isin(("a", arm))], metrics)
        for metric in metrics:
            got, alone = result[metric, arm], pair[metric]
            for name in ("estimate", "std_error", "pvalue", "ci_low", "relative_ci_high", "df", "control_mean"):
                np.testing.assert_allclose(getattr(got, name), getattr(alone, name), rtol=1e-9, err_msg=name)


def test_pooled_arms():
    frame = experiment_table(1, n=400, arms=("a", "b", "c", "d"))
    metrics = {"revenue": Mean("revenue", covariates=["x1"])}
    result = analyze(frame, metrics, pool={"new": ["b", "c"]})
    renamed = frame.assign(variant=frame["variant"].replace({"b": "new", "c": "new"}))
    found = oracle.adjusted_estimate(units_of(renamed, "revenue", arms=("a", "new"), covariates=["x1"]))
    same(result["revenue", "new"], found)
    assert {e.treatment for e in result.effects} == {"new", "d"}


def test_where_and_missing():
    frame = experiment_table(2)
    holes = frame["revenue"].where(frame["user"] % 7 != 0)
    result = analyze(
        frame.assign(revenue=holes),
        {
            "dropped": Mean("revenue", missing="drop"),
            "zero": Mean("revenue", missing="zero"),
            "some": Mean("views", where="device = 'phone' AND day > 1"),
        },
    )
    some = frame[(frame["device"] == "phone") & (frame["day"] > 1)]
    agree(result["dropped"], oracle.ratio_estimate(units_of(frame[holes.notna()], "revenue", arms=AB)))
    agree(result["zero"], oracle.ratio_estimate(units_of(frame.assign(revenue=holes.fillna(0)), "revenue", arms=AB)))
    agree(result["some"], oracle.ratio_estimate(units_of(some, "views", arms=AB)))


def test_experiment_where():
    frame = experiment_table(2)
    result = analyze(frame, {"revenue": Mean("revenue")}, where="device <> 'web'")
    agree(result["revenue"], oracle.ratio_estimate(units_of(frame[frame["device"] != "web"], "revenue", arms=AB)))
    assert result.n_obs == (frame["device"] != "web").sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_segments_and_interaction(seed):
    frame = experiment_table(seed, n=600)
    result = analyze(frame, {"revenue": Mean("revenue"), "ctr": Ratio("clicks", "views")}, segments="device")
    assert len(result.segments) == 6
    effects = {name: [] for name in ("revenue", "ctr")}
    for each in result.segments:
        rows = frame[frame["device"] == each.segment.split(" = ")[1]]
        column, den = ("revenue", None) if each.metric == "revenue" else ("clicks", "views")
        found = oracle.ratio_estimate(units_of(rows, column, arms=AB, den=den))
        agree(each, found)
        effects[each.metric].append((found.effect, found.se))
    for test in result.interactions:
        e, se = np.array(effects[test.metric]).T
        centre = np.average(e, weights=se**-2)
        statistic = (((e - centre) / se) ** 2).sum()
        np.testing.assert_allclose(test.statistic, statistic, rtol=1e-9)
        np.testing.assert_allclose(test.pvalue, stats.chi2.sf(statistic, 2), rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cluster", [None, "house"])
def test_trend(seed, cluster):
    frame = experiment_table(seed, n=600)
    result = analyze(frame, {"revenue": Mean("revenue")}, day="day", cluster=cluster)
    [trend] = result.trends
    found = oracle.slope_estimate(frame, "revenue", "day", AB, cluster)
    np.testing.assert_allclose((trend.estimate, trend.std_error), (found.effect, found.se), **CLOSE)
    by_day = frame.groupby(["day", "variant"])["revenue"].mean().unstack()
    np.testing.assert_allclose(trend.day, by_day.index)
    np.testing.assert_allclose(trend.effect, by_day["b"] - by_day["a"], rtol=1e-9)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantiles(q):
    frame = experiment_table(4, n=4000)
    result = analyze(frame, {"revenue": Quantile("revenue", q=q)})["revenue"]
    values = [np.quantile(frame.loc[frame["variant"] == arm, "revenue"], q) for arm in AB]
    np.testing.assert_allclose((result.control_mean, result.treatment_mean), values, rtol=1e-12)
    rng = np.random.default_rng(0)
    units = units_of(frame, "revenue", arms=AB)
    se = oracle.bootstrap_se(units, lambda u: [np.quantile(u.value[u.arm == a], q) for a in (0, 1)], rng, 800)
    assert 0.75 < result.std_error / se < 1.33


def test_clustered_quantile():
    frame = experiment_table(4, n=4000)
    result = analyze(frame, {"revenue": Quantile("revenue", q=0.5)}, cluster="house")["revenue"]
    groups = [[g["revenue"].to_numpy() for _, g in frame[frame["variant"] == arm].groupby("house")] for arm in AB]
    rng = np.random.default_rng(1)
    draws = [
        [np.median(np.concatenate([g[i] for i in rng.integers(0, len(g), len(g))])) for g in groups] for _ in range(600)
    ]
    se = np.std(np.diff(draws, axis=1), ddof=1)
    assert 0.75 < result.std_error / se < 1.33
    np.testing.assert_allclose(result.control_mean, frame.loc[frame["variant"] == "a", "revenue"].median())


# --- Retention -------------------------------------------------------------------------------------------------------


def _retention_frame(zone=None):
    rng = np.random.default_rng(8)
    n = 400
    exposed = pd.Timestamp("2026-03-20", tz=zone) + pd.to_timedelta(rng.integers(0, 20 * 86_400, n), unit="s")
    seen = exposed + pd.to_timedelta(rng.integers(0, 15 * 86_400, n), unit="s")
    end = exposed.max() + pd.Timedelta(hours=5)
    seen = pd.Series(seen).where(seen <= end).where(rng.random(n) > 0.2)
    return pd.DataFrame({"variant": rng.choice(AB, n), "exposed": exposed, "seen": seen})


def _check_retention(frame, result, as_of):
    days = (frame["seen"] - frame["exposed"]) / pd.Timedelta(days=1)
    mature = (as_of - frame["exposed"]) >= pd.Timedelta(days=7)
    kept = frame.assign(kept=(days >= 7).astype(float))[mature]
    expected = kept.groupby("variant")["kept"].agg(["mean", "count"])
    np.testing.assert_allclose((result.control_mean, result.treatment_mean), expected["mean"], rtol=1e-12)
    assert (result.n_control, result.n_treatment) == tuple(expected["count"])


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])  # with the change to summer time in between
def test_retention_in_times(zone):
    frame = _retention_frame(zone)
    result = analyze(frame, {"kept": Retention("seen", days=7)}, exposed_at="exposed")
    _check_retention(frame, result["kept"], frame["seen"].max())
    end = pd.Timestamp("2026-04-05 12:00", tz=zone)
    result = analyze(frame, {"kept": Retention("seen", days=7, exposed="exposed", as_of=end.to_pydatetime())})
    _check_retention(frame, result["kept"], end)


def test_retention_in_days():
    frame = experiment_table(5)
    result = analyze(frame, {"kept": Retention("last", days=7)})["kept"]
    expected = frame.assign(kept=frame["last"] >= 7).groupby("variant")["kept"].mean()
    np.testing.assert_allclose((result.control_mean, result.treatment_mean), expected, rtol=1e-12)
    _, counts = np.unique(frame["variant"], return_counts=True)
    assert (result.n_control, result.n_treatment) == tuple(counts)


# --- Inference -------------------------------------------------------------------------------------------------------

ESTIMATES = {
    "mean": ({"covariates": ()}, {}),
    "adjusted": ({"covariates": ("x1", "x2")}, {}),
    "clustered": ({"covariates": ("x1",)}, {"cluster": "house"}),
    "strata": ({"covariates": ()}, {"strata": "city"}),
}


def _found(frame, metric, design):
    units = units_of(
        frame, "revenue", arms=AB, covariates=metric["covariates"], cluster=design.get("cluster"),
        strata=[design["strata"]] if "strata" in design else (),
    )  # fmt: skip
    return oracle.adjusted_estimate(units) if metric["covariates"] else oracle.ratio_estimate(units)


@pytest.mark.parametrize("kind", ESTIMATES)
@pytest.mark.parametrize("relative", ["fieller", "delta", "log"])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_relative_intervals(kind, relative, level):
    metric, design = ESTIMATES[kind]
    frame = experiment_table(7, n=400)
    result = analyze(frame, {"m": Mean("revenue", **metric)}, relative=relative, confidence_level=level, **design)["m"]
    found = oracle.with_df(_found(frame, metric, design), result.df)
    expected = {"fieller": oracle.fieller, "delta": oracle.relative_delta, "log": oracle.relative_log}[relative]
    own = oracle.with_df(found, oracle.log_df(found)) if (kind, relative) == ("mean", "log") else found
    np.testing.assert_allclose((result.relative_ci_low, result.relative_ci_high), expected(own, level), rtol=1e-8)
    np.testing.assert_allclose((result.ci_low, result.ci_high), oracle.interval(found, level), rtol=1e-8)
    np.testing.assert_allclose(result.pvalue, oracle.pvalue(found), rtol=1e-8)  # the same null on both scales


@pytest.mark.parametrize("kind", ESTIMATES)
@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_one_sided(kind, alternative):
    metric, design = ESTIMATES[kind]
    frame = experiment_table(8, n=400)
    result = analyze(frame, {"m": Mean("revenue", **metric)}, hypothesis=Superiority(alternative), **design)["m"]
    found = oracle.with_df(_found(frame, metric, design), result.df)
    np.testing.assert_allclose(result.pvalue, oracle.pvalue(found, alternative), rtol=1e-8)
    low, high = oracle.interval(found, 0.9)
    rel_low, rel_high = oracle.fieller(found, 0.9)
    if alternative == "greater":
        assert result.ci_high == result.relative_ci_high == math.inf
        np.testing.assert_allclose((result.ci_low, result.relative_ci_low), (low, rel_low), rtol=1e-8)
    else:
        assert result.ci_low == result.relative_ci_low == -math.inf
        np.testing.assert_allclose((result.ci_high, result.relative_ci_high), (high, rel_high), rtol=1e-8)
    assert (result.pvalue < 0.05) == (not result.ci_low <= 0 <= result.ci_high)


@pytest.mark.parametrize("kind", ESTIMATES)
@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize(("margin", "relative"), [(0.3, False), (0.05, True)])
def test_noninferiority(kind, higher, margin, relative):
    metric, design = ESTIMATES[kind]
    frame = experiment_table(9, n=400)
    hypothesis = NonInferiority(margin, relative=relative, higher_is_better=higher)
    result = analyze(frame, {"m": Mean("revenue", hypothesis=hypothesis, **metric)}, **design)["m"]
    found = oracle.with_df(_found(frame, metric, design), result.df)
    expected = oracle.noninferiority_pvalue(found, margin, relative=relative, higher=higher)
    np.testing.assert_allclose(result.pvalue, expected, rtol=1e-8)
    assert result.hypothesis == "non-inferiority"
    low, high = oracle.interval(found, 0.9)
    expected = (low, math.inf) if higher else (-math.inf, high)
    np.testing.assert_allclose((result.ci_low, result.ci_high), expected, rtol=1e-8)


@pytest.mark.parametrize("kind", ESTIMATES)
@pytest.mark.parametrize(("margin", "relative"), [(0.9, False), (0.15, True)])
def test_equivalence(kind, margin, relative):
    metric, design = ESTIMATES[kind]
    frame = experiment_table(10, n=400)
    hypothesis = Equivalence(margin, relative=relative)
    result = analyze(frame, {"m": Mean("revenue", hypothesis=hypothesis, **metric)}, **design)["m"]
    found = oracle.with_df(_found(frame, metric, design), result.df)
    expected = oracle.equivalence_pvalue(found, margin, relative=relative)
    np.testing.assert_allclose(result.pvalue, expected, rtol=1e-8)
    np.testing.assert_allclose((result.ci_low, result.ci_high), oracle.interval(found, 0.9), rtol=1e-8)


@pytest.mark.parametrize("shift", [-4.5, -4.0, -20.0, -3.9])
def test_relative_near_zero_and_below(shift):
    # Means around zero and negative: Fieller's set where it is bounded, and the whole line where it is not.
    frame = experiment_table(11, n=300)
    frame["revenue"] += shift - 3
    result = analyze(frame, {"m": Mean("revenue")})["m"]
    found = oracle.with_df(oracle.ratio_estimate(units_of(frame, "revenue", arms=AB)), result.df)
    np.testing.assert_allclose((result.relative_ci_low, result.relative_ci_high), oracle.fieller(found), rtol=1e-7)
    log = analyze(frame, {"m": Mean("revenue")}, relative="log")["m"]
    if min(found.values) <= 0:
        assert math.isnan(log.relative_ci_low)
        assert "log" in log.method


def test_log_interval_of_means_near_zero():
    # Positive means that are tiny against their errors: the logarithm says nothing, and nothing overflows.
    rng = np.random.default_rng(3)
    y = rng.normal(size=400)
    y -= np.repeat([y[:200].mean(), y[200:].mean()], 200) - 1e-6
    frame = pd.DataFrame({"variant": np.repeat(AB, 200), "y": y})
    result = analyze(frame, {"m": Mean("y")}, relative="log")["m"]
    assert result.relative_ci_low == -1
    assert result.relative_ci_high == math.inf


# --- The split -------------------------------------------------------------------------------------------------------


def test_sample_ratio_of_experiment():
    frame = experiment_table(12, n=1500, shares=(0.6, 0.4))
    result = analyze(frame, {"srm": SampleRatio({"a": 3, "b": 2}), "m": Mean("revenue")})
    [ratio] = result.sample_ratio
    counts = frame["variant"].value_counts()
    expected = stats.chisquare([counts["a"], counts["b"]], [900, 600])
    np.testing.assert_allclose((ratio.statistic, ratio.pvalue), (expected.statistic, expected.pvalue), rtol=1e-9)


def test_sample_ratio_of_clusters():
    frame = experiment_table(12, n=4000)
    [ratio] = analyze(frame, {"srm": SampleRatio(), "m": Mean("revenue")}, cluster="house").sample_ratio
    counts = frame.groupby("variant")["house"].nunique()
    np.testing.assert_allclose(ratio.pvalue, stats.chisquare(counts).pvalue, rtol=1e-9)


# --- Kinds of tables -------------------------------------------------------------------------------------------------

METRICS = {
    "revenue": Mean("revenue", covariates=["x1"], winsorize=0.95),
    "ctr": Ratio("clicks", "views", covariates=["x2"]),
    "bought": Proportion("bought"),
    "kept": Retention("last", days=7),
    "median": Quantile("revenue", q=0.5),
    "srm": SampleRatio(),
}
DESIGNS = {
    "plain": {},
    "unit": {"unit": "user"},
    "clusters": {"cluster": "house"},
    "strata": {"strata": "city", "segments": "device"},
    "trigger": {"trigger": "saw"},
    "trend": {"day": "day"},
}
NUMBERS = (
    "estimate", "std_error", "pvalue", "ci_low", "ci_high", "relative_ci_low", "relative_ci_high", "df",
    "control_mean", "treatment_mean",
)  # fmt: skip


def _metrics_for(design):
    free = not {"strata", "trigger", "day"} & set(design)
    return METRICS if free else {k: v for k, v in METRICS.items() if k != "median"}


def _assert_equal_results(one, two, rtol=1e-10):
    for group in ("effects", "diluted", "segments", "trends"):
        first, second = getattr(one, group), getattr(two, group)
        assert len(first) == len(second)
        for e, f in zip(first, second, strict=True):
            assert (e.metric, e.control, e.treatment, e.method) == (f.metric, f.control, f.treatment, f.method)
            for name in NUMBERS:
                if hasattr(e, name):
                    mine, theirs = getattr(e, name), getattr(f, name)
                    np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12, err_msg=f"{e.metric} {name}")


def _as(kind, frame, request):
    if kind == "polars":
        return pytest.importorskip("polars").from_pandas(frame)
    if kind == "lazy":
        return pytest.importorskip("polars").from_pandas(frame).lazy()
    if kind == "arrow":
        return pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)
    if kind == "duckdb":
        return pytest.importorskip("duckdb").from_df(frame)
    if kind in ("parquet", "spark"):
        path = request.getfixturevalue("tmp_path") / "table.parquet"
        frame.to_parquet(path)
        return path if kind == "parquet" else request.getfixturevalue("spark_session").read.parquet(str(path))
    path = request.getfixturevalue("tmp_path") / "table.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    "kind",
    ["polars", "arrow", "parquet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("lazy", "duckdb", "csv")),
     pytest.param("spark", marks=[pytest.mark.spark, pytest.mark.slow])],
)  # fmt: skip
@pytest.mark.parametrize("design", DESIGNS)
def test_kinds_of_tables_agree(kind, design, request):
    frame = experiment_table(13, n=900)
    design = DESIGNS[design]
    metrics = _metrics_for(design)
    expected = analyze(frame, metrics, **design)
    _assert_equal_results(analyze(_as(kind, frame, request), metrics, **design), expected)


# --- Properties ------------------------------------------------------------------------------------------------------

PROPERTY = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@PROPERTY
@given(seed=st.integers(0, 10_000), design=st.sampled_from(sorted(DESIGNS)))
def test_row_order_keeps_every_bit(seed, design):
    frame = experiment_table(seed, n=300)
    design = DESIGNS[design]
    metrics = _metrics_for(design)
    one = analyze(frame, metrics, **design)
    two = analyze(frame.sample(frac=1, random_state=seed + 1), metrics, **design)
    for e, f in zip(one.effects, two.effects, strict=True):
        assert repr(e) == repr(f)


@PROPERTY
@given(seed=st.integers(0, 10_000), cuts=st.integers(2, 5))
def test_parts_merge_to_the_whole(seed, cuts):
    frame = experiment_table(seed, n=400)
    metrics = {"revenue": Mean("revenue", covariates=["x1"]), "ctr": Ratio("clicks", "views")}
    experiment = Experiment(metrics, variant="variant", control="a", segments="device", cluster="house")
    parts = [experiment.collect(frame[frame["house"] % cuts == i]) for i in range(cuts)]
    rng = np.random.default_rng(seed)
    merged = parts.pop(rng.integers(len(parts)))
    while parts:
        merged = merged.merge(parts.pop(rng.integers(len(parts))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, expected = experiment.analyze(merged), experiment.analyze(frame)
    for name in metrics:
        for number in NUMBERS:
            np.testing.assert_allclose(getattr(got[name], number), getattr(expected[name], number), rtol=1e-9)


@PROPERTY
@given(seed=st.integers(0, 10_000), design=st.sampled_from(["plain", "clusters", "strata", "trigger"]))
def test_swapped_arms_change_the_sign(seed, design):
    frame = experiment_table(seed, n=400)
    metrics = {
        "revenue": Mean("revenue", covariates=["x1"]),
        "ctr": Ratio("clicks", "views"),
        "bought": Proportion("bought"),
    }
    one = analyze(frame, metrics, **DESIGNS[design])
    two = analyze(frame, metrics, **{**DESIGNS[design], "control": "b"})
    for name in metrics:
        a, b = one[name], two[name]
        np.testing.assert_allclose((a.estimate, a.ci_low, a.ci_high), (-b.estimate, -b.ci_high, -b.ci_low), rtol=1e-8)
        np.testing.assert_allclose((a.std_error, a.pvalue, a.df), (b.std_error, b.pvalue, b.df), rtol=1e-8)
        # Ratios of the arms are each other's inverse, and so are Fieller's limits where they are bounded.
        if math.isfinite(a.relative_ci_low) and math.isfinite(b.relative_ci_low):
            got = (1 / (1 + a.relative_ci_high) - 1, 1 / (1 + a.relative_ci_low) - 1)
            np.testing.assert_allclose(got, (b.relative_ci_low, b.relative_ci_high), rtol=1e-6, atol=1e-10)


@PROPERTY
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e8, 1e8),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_affine_changes(seed, scale, shift, sign):
    frame = experiment_table(seed, n=300)
    changed = frame.assign(revenue=sign * scale * frame["revenue"], x1=frame["x1"] * scale + shift)
    metrics = {"m": Mean("revenue", covariates=["x1", "x2"])}
    one, two = analyze(frame, metrics)["m"], analyze(changed, metrics)["m"]
    # What the shift costs in digits is lost in the covariate's input already.
    rtol = max(1e-8, 1e-14 * abs(shift) / scale)
    if rtol > 1e-3:
        return
    np.testing.assert_allclose(two.estimate, sign * scale * one.estimate, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose((two.std_error, two.df), (scale * one.std_error, one.df), rtol=rtol)


@PROPERTY
@given(seed=st.integers(0, 10_000), design=st.sampled_from(["plain", "strata", "trigger"]))
def test_duplicated_tables(seed, design):
    frame = experiment_table(seed, n=500)
    metrics = {"revenue": Mean("revenue"), "ctr": Ratio("clicks", "views")}
    one = analyze(frame, metrics, **DESIGNS[design])
    two = analyze(pd.concat([frame, frame]), metrics, **DESIGNS[design])
    for e, f in zip((*one.effects, *one.diluted), (*two.effects, *two.diluted), strict=True):
        np.testing.assert_allclose(f.estimate, e.estimate, rtol=1e-9)
        np.testing.assert_allclose(f.std_error * math.sqrt(2), e.std_error, rtol=0.03)


def test_large_means_lose_nothing():
    frame = experiment_table(14, n=2000)
    metrics = {"m": Mean("revenue", covariates=["x1"])}
    frame["revenue"] = np.round(frame["revenue"] * 2**20) / 2**20  # exact after the shift too
    shifted = frame.assign(revenue=frame["revenue"] + 2.0**27)
    one, two = analyze(frame, metrics)["m"], analyze(shifted, metrics)["m"]
    np.testing.assert_allclose(two.std_error, one.std_error, rtol=1e-10)
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-7)  # a difference of two numbers near 1e8
    np.testing.assert_allclose(two.pvalue, one.pvalue, rtol=1e-6)


# --- Bad input -------------------------------------------------------------------------------------------------------


def _small():
    return experiment_table(15, n=200)


MEAN = {"m": Mean("revenue")}


@pytest.mark.parametrize(
    ("change", "design", "error", "words"),
    [
        (lambda f: f.assign(variant="a"), {}, TreatmentError, "a"),
        (lambda f: f, {"control": "A"}, TreatmentError, "A"),
        (lambda f: f.assign(variant=f["variant"].where(f["user"] > 3)), {}, TreatmentError, "4"),
        (lambda f: f.iloc[:0], {}, EmptyTableError, ""),
        (lambda f: f.iloc[:1].assign(variant="a"), {}, CausalRecError, ""),
        (lambda f: f[(f["variant"] == "a") | (f.groupby("variant").cumcount() == 0)], {}, OutcomeError, "b"),
        (lambda f: f.assign(revenue=f["revenue"].where(f["user"] != 5)), {}, OutcomeError, "revenue"),
        (lambda f: f.assign(revenue=f["revenue"].where(f["user"] != 5, np.inf)), {}, OutcomeError, "revenue"),
        (lambda f: f.drop(columns="revenue"), {}, ColumnError, "revenue"),
        (lambda f: f.rename(columns={"variant": "group"}), {}, ColumnError, "variant"),
        (lambda f: f.assign(revenue="much"), {}, CausalRecError, "revenue"),
        (lambda f: f, {"segments": "nowhere"}, ColumnError, "nowhere"),
        (lambda f: f, {"cluster": "nowhere"}, ColumnError, "nowhere"),
        (lambda f: f, {"trigger": "revenue"}, CausalRecError, "revenue"),
        (lambda f: f.assign(user=f["user"] // 2), {"unit": "user"}, CausalRecError, "user"),
        (lambda f: f, {"where": "no such thing"}, CausalRecError, ""),
        (lambda f: f, {"where": "revenue > 1e9"}, EmptyTableError, ""),
        (lambda f: f, {"pool": {"new": ["b", "zzz"]}}, CausalRecError, "zzz"),
    ],
)
def test_named_errors(change, design, error, words):
    with pytest.raises(error) as caught:
        analyze(change(_small()), MEAN, **design)
    assert words in str(caught.value)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize(
    ("metric", "change", "error"),
    [
        (Ratio("clicks", "views"), lambda f: f.assign(views=0), OutcomeError),
        (Ratio("clicks", "views"), lambda f: f.assign(views=np.where(f["variant"] == "b", 0, 1)), OutcomeError),
        (Proportion("revenue"), lambda f: f, OutcomeError),
        (Proportion("bought"), lambda f: f.assign(bought=f["bought"] * 2), OutcomeError),
        (Mean("revenue", covariates=["x1"]), lambda f: f.assign(x1=f["x1"].where(f["user"] > 9)), OutcomeError),
        (Mean("constant"), lambda f: f, OutcomeError),
        (Mean("revenue", where="variant = 'a'"), lambda f: f, CausalRecError),
        (Quantile("revenue", q=0.5), lambda f: f.assign(revenue=f["revenue"].where(f["user"] != 5)), OutcomeError),
    ],
)
def test_bad_metrics(metric, change, error):
    with pytest.raises(error):
        analyze(change(_small()), {"m": metric})


@pytest.mark.parametrize(
    ("role", "design"),
    [
        ("device", {"segments": "device"}),
        ("city", {"strata": "city"}),
        ("day", {"day": "day"}),
        ("saw", {"trigger": "saw"}),
        ("house", {"cluster": "house"}),
        ("user", {"unit": "user"}),
    ],
)
def test_missing_values_of_a_role(role, design):
    # Either a named error, or every unit counted: nothing is lost in silence.
    frame = experiment_table(15, n=400)
    frame[role] = frame[role].astype(object).where(frame["user"] % 5 != 0)
    frame[role] = frame[role].convert_dtypes()
    if role in ("house", "user", "day"):
        match = "80 rows.*where='day IS NOT NULL'" if role == "day" else role
        with pytest.raises(ColumnError if role == "day" else TreatmentError, match=match):
            analyze(frame, MEAN, **design)
        return
    result = analyze(frame, MEAN, **design)
    counted = sum(e.n_obs for e in result.segments) if role == "device" else result["m"].n_obs
    assert counted == (len(frame) if role != "saw" else int((frame["saw"] == True).fillna(False).sum()))  # noqa: E712


def test_more_arms_than_weights():
    frame = experiment_table(15, n=300, arms=("a", "b", "c"))
    with pytest.raises(TreatmentError, match="c"):
        analyze(frame, {**MEAN, "srm": SampleRatio({"a": 1, "b": 1})})


def test_more_weights_than_arms():
    result = analyze(_small(), {**MEAN, "srm": SampleRatio({"a": 1, "b": 1, "c": 1})})
    assert result.sample_ratio[0].mismatch


@pytest.mark.filterwarnings("always")
def test_covariate_that_knows_the_arm_warns():
    frame = _small()
    frame["x1"] += 3.0 * (frame["variant"] == "b")
    experiment = Experiment({"m": Mean("revenue", covariates=["x1"])}, variant="variant", control="a")
    with pytest.warns(UserWarning, match="x1"):
        result = experiment.analyze(frame)
    assert any("x1" in note for note in result.notes)
    assert min(e.pvalue for e in result.pre_period) < 1e-3


def test_covariate_that_is_the_arm():
    frame = _small().assign(x1=lambda f: (f["variant"] == "b").astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = analyze(frame, {"m": Mean("revenue", covariates=["x1"])})["m"]
        except CausalRecError:
            return
    plain = analyze(frame, MEAN)["m"]
    np.testing.assert_allclose((result.estimate, result.std_error), (plain.estimate, plain.std_error), rtol=1e-9)


def test_users_in_both_arms():
    frame = _small()
    both = pd.concat([frame, frame.iloc[:3].assign(variant=lambda f: f["variant"].map({"a": "b", "b": "a"}))])
    with pytest.raises(TreatmentError, match="3"):
        analyze(both, MEAN, unit="user")
    result = analyze(both, MEAN, unit="user", on_conflict="drop")
    agree(result["m"], oracle.ratio_estimate(units_of(frame.iloc[3:], "revenue", arms=AB)))
    assert any("3" in note for note in result.notes)


def test_clusters_in_both_arms():
    frame = _small()
    broken = frame.copy()
    house = frame["house"].value_counts().index[0]
    where = np.flatnonzero(frame["house"] == house)
    flipped = "b" if frame["variant"].iloc[where[0]] == "a" else "a"
    broken.loc[broken.index[where[0]], "variant"] = flipped
    with pytest.raises(TreatmentError):
        analyze(broken, MEAN, cluster="house")
    result = analyze(broken, MEAN, cluster="house", on_conflict="drop")
    rest = frame[frame["house"] != house]
    agree(result["m"], oracle.ratio_estimate(units_of(rest, "revenue", arms=AB, cluster="house")))


def test_exact_duplicates_can_be_dropped():
    frame = _small()
    result = analyze(pd.concat([frame, frame.iloc[:20]]), MEAN, unit="user", on_duplicate="drop")
    agree(result["m"], oracle.ratio_estimate(units_of(frame, "revenue", arms=AB)))
    assert any("20" in note for note in result.notes)


def test_tiny_pvalues():
    rng = np.random.default_rng(0)
    n = 2_000
    frame = pd.DataFrame({"variant": np.repeat(AB, n), "y": rng.normal(size=2 * n) + np.repeat([0, 1.16], n)})
    for metric in (Mean("y", method="z"), Mean("y")):
        result = analyze(frame, {"m": metric})["m"]
        assert 0 < result.pvalue < 1e-200
        assert "e-" in str(result)
    far = pd.DataFrame({"variant": np.repeat(AB, 10_000), "y": np.repeat([0, 1, 0, 1], [9_000, 1_000, 7_000, 3_000])})
    assert 0 < analyze(far, {"m": Proportion("y")})["m"].pvalue < 1e-250


def test_huge_values():
    frame = _small()
    frame["revenue"] = 1e300 * frame["revenue"]
    try:
        result = analyze(frame, MEAN)["m"]
    except CausalRecError:
        return
    assert math.isnan(result.pvalue) or math.isfinite(result.std_error)


# --- Labels, names and types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "control"),
    [((0, 1), 0), ((False, True), False), ((10, 20), 10), (("ctl ", "it's \"new\""), "ctl "), (("ä", "β"), "ä"),
     ((1.0, 2.0), 1.0)],
)  # fmt: skip
def test_labels(labels, control):
    frame = experiment_table(16)
    relabelled = frame.assign(variant=[labels[AB.index(v)] for v in frame["variant"]])
    got = analyze(relabelled, MEAN, control=control)["m"]
    agree(got, oracle.ratio_estimate(units_of(frame, "revenue", arms=AB)))
    assert got.control == str(control)


ODD = ["at", "user", "select", "Group By", 'a "quoted" one', "it's", "ä ö", "a.b", "x;y", "value", "den", "rows", "n",
       "arm", "unit", "group", "%s", "{x}", "1st"]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_column_names(name):
    frame = experiment_table(17)
    odd = frame.rename(columns={"revenue": name})
    found = oracle.ratio_estimate(units_of(frame, "revenue", arms=AB))
    odd = odd.drop(columns=[c for c in ("user",) if c == name]) if name != "user" else odd
    if name == "user":
        odd = frame.drop(columns="user").rename(columns={"revenue": "user"})
    agree(analyze(odd, {"m": Mean(name)})["m"], found)
    as_variant = frame.drop(columns="user").rename(columns={"variant": name})
    agree(analyze(as_variant, MEAN, variant=name)["m"], found)
    as_covariate = frame.drop(columns="user").rename(columns={"x1": name})
    adjusted = oracle.adjusted_estimate(units_of(frame, "revenue", arms=AB, covariates=["x1"]))
    agree(analyze(as_covariate, {"m": Mean("revenue", covariates=[name])})["m"], adjusted)
    clustered = oracle.ratio_estimate(units_of(frame, "revenue", arms=AB, cluster="house"))
    as_cluster = frame.drop(columns="user").rename(columns={"house": name})
    agree(analyze(as_cluster, MEAN, cluster=name)["m"], clustered)
    as_segment = frame.drop(columns="user").rename(columns={"device": name})
    assert len(analyze(as_segment, MEAN, segments=name).segments) == 3


def test_names_that_differ_in_case_only():
    frame = experiment_table(17)
    frame["Revenue"] = frame["revenue"] * 10
    try:
        result = analyze(frame, {"small": Mean("revenue"), "large": Mean("Revenue")})
    except ColumnError:  # an engine that does not tell them apart must say so
        return
    np.testing.assert_allclose(result["large"].estimate, 10 * result["small"].estimate, rtol=1e-9)


def _decimal(values):
    pa = pytest.importorskip("pyarrow")
    from decimal import Decimal

    return pd.Series([Decimal(f"{v:.4f}") for v in values], dtype=pd.ArrowDtype(pa.decimal128(18, 4)))


@pytest.mark.parametrize(
    ("column", "cast"),
    [
        ("revenue", lambda s: s.astype("Float64")),
        ("revenue", lambda s: s.astype("float32").astype("float32")),
        ("revenue", _decimal),
        ("views", lambda s: s.astype("Int64")),
        ("views", lambda s: s.astype("uint8")),
        ("views", lambda s: s.astype("int16")),
        ("bought", lambda s: s.astype(bool)),
        ("bought", lambda s: s.astype("boolean")),
        ("variant", lambda s: s.astype("category")),
        ("variant", lambda s: s.astype("string")),
        ("device", lambda s: s.astype("category")),
        ("house", lambda s: s.astype(str)),
        ("house", lambda s: s.astype("Int64")),
        ("house", lambda s: pd.to_datetime(s, unit="D")),
        ("device", lambda s: s.map({"phone": 1, "tablet": 2, "web": 3})),
        ("saw", lambda s: s.astype("boolean")),
    ],
)
def test_types(column, cast):
    frame = experiment_table(18, n=400).round({"revenue": 2})
    metrics = {"m": Mean("revenue"), "views": Mean("views"), "bought": Proportion("bought")}
    changed = frame.assign(**{column: cast(frame[column])})
    design = {"segments": "device", "cluster": None if column == "saw" else "house"}
    if column == "saw":
        design = {"trigger": "saw", "segments": "device"}
    one, two = analyze(frame, metrics, **design), analyze(changed, metrics, **design)
    rtol = 1e-6 if getattr(changed[column].dtype, "name", "") == "float32" else 1e-9
    for e, f in zip((*one.effects, *one.diluted), (*two.effects, *two.diluted), strict=True):
        np.testing.assert_allclose((f.estimate, f.std_error), (e.estimate, e.std_error), rtol=rtol)
    assert len(one.segments) == len(two.segments)


def test_a_result_prints_and_tabulates():
    frame = experiment_table(19, n=600, arms=("a", "b", "c"))
    result = analyze(frame, METRICS, segments="device", unit="user")
    text = str(result)
    assert max(map(len, text.splitlines())) <= 110
    table = result.to_frame()
    assert len(table) == 2 * (len(METRICS) - 1)
    assert {"metric", "treatment", "estimate", "pvalue"} <= set(table.columns)
