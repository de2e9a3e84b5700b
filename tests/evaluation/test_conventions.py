"""Numbers of other packages: equal to what the packages themselves report, with errors that hold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from causalrec.evaluation import (
    auuc_score,
    compare_scorers,
    cumulative_gain_curve,
    qini_curve,
    qini_score,
    rate,
    toc_curve,
    uplift_at_k,
    uplift_curve,
)
from causalrec.evaluation._peer_curves import gain, qini
from causalrec.evaluation._peer_rows import Peer, two_arms
from causalrec.evaluation._peer_scores import _best
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation.conventions import _CURVES, _SCORES, check_convention, conventional, conventional_curve
from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances

PEERS = json.loads(Path(__file__).with_name("peer_numbers.json").read_text())
SCORES = [(example, key) for example, numbers in PEERS["scores"].items() for key in numbers]
CURVES = [(example, key) for example, numbers in PEERS["curves"].items() for key in numbers]
Z = float(stats.norm.isf(0.025))


def made(example):
    """Outcome, score and treatment; the first ``late`` units are all treated (odd) or all control (even)."""
    return draw(**PEERS["examples"][example])


def draw(seed, n, levels=None, share=0.5, binary=True, late=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    t = (rng.uniform(size=n) < share).astype(int)
    if late:
        t[np.argsort(-u, kind="stable")[:late]] = late % 2
    if not binary:
        return rng.normal(size=n) + t * u, u, t
    return (rng.uniform(size=n) < 0.3 + 0.2 * t * (u > np.median(u)) - 0.1 * t * (u < 0)).astype(float), u, t


def ranked(y, u, t, **options):
    arm = options.pop("arm", None)
    return rank_units(arm_scores(y, t, **options), u, arm=arm)


def public(metric, convention, rows, k=None, strategy=None, **options):
    if metric == "uplift_at_k":
        return uplift_at_k(*rows, k=k, strategy=strategy, convention=convention, **options)
    if metric in ("autoc", "rate_qini"):
        target = "autoc" if metric == "autoc" else "qini"
        return rate(*rows, target=target, convention=convention, **options)
    return {"qini": qini_score, "auuc": auuc_score}[metric](*rows, convention=convention, **options)


def parsed(key):
    metric, convention, *rest = key.split()
    return metric, convention, ({"k": float(rest[0]), "strategy": rest[1]} if rest else {})


class TestSameNumber:
    @pytest.mark.parametrize(("example", "key"), SCORES)
    def test_scores(self, example, key):
        metric, convention, options = parsed(key)
        expected = PEERS["scores"][example][key]
        if expected is None:
            with pytest.raises((OutcomeError, TreatmentError)):
                public(metric, convention, made(example), **options)
        else:
            found = public(metric, convention, made(example), **options)
            assert found.estimate == pytest.approx(expected, rel=1e-12)
            few = (example, options.get("k"), options.get("strategy")) == ("rare", 0.1, "overall")  # one treated unit
            assert math.isnan(found.std_error) == ((metric, convention) == ("autoc", "causalml") or few)

    @pytest.mark.parametrize(("example", "key"), CURVES)
    def test_curves(self, example, key):
        kind, convention, _ = parsed(key)
        y, u, t = made(example)
        at, value = map(np.array, PEERS["curves"][example][key])
        find = {"qini": qini_curve, "uplift": uplift_curve, "cumulative_gain": cumulative_gain_curve, "toc": toc_curve}
        curve = find[kind](y, u, t, convention=convention)
        if convention in ("sklift", "causalml") and kind != "toc":
            at = at / len(y)
        if key == "uplift pylift":  # pylift begins it at the first bin
            at, value = np.r_[0.0, at], np.r_[0.0, value]
        np.testing.assert_allclose(curve.fraction, at, atol=1e-12)
        np.testing.assert_allclose(curve.value, value, atol=1e-12)

    def test_every_number_is_compared(self):
        there = {key.rsplit(" ", 2)[0] if key.startswith("uplift_at_k") else key for _, key in SCORES}
        assert there == {" ".join(key) for key in _SCORES} | {"uplift_at_k sklift"}
        assert {key for _, key in CURVES} == {" ".join(key) for key in _CURVES}

    def test_sklift_own_tests(self):
        # scikit-uplift, tests/test_metrics.py.
        first, second = ([0, 1], [0.1, 0.3], [1, 0]), ([1, 0], [0.1, 0.3], [0, 1])
        assert [float(f(*first, convention="sklift")) for f in (auuc_score, qini_score)] == [0.0, 1.0]
        assert [float(f(*second, convention="sklift")) for f in (auuc_score, qini_score)] == [1.0, 1.0]

    def test_sklift_own_tests_of_curves(self):
        # scikit-uplift, tests/test_metrics.py: all tied.
        rows = ([0, 1, 0], [0.1, 0.1, 0.1], [0, 1, 1])
        assert uplift_curve(*rows, convention="sklift").value.tolist() == [0.0, 1.5]
        assert qini_curve(*rows, convention="sklift").value.tolist() == [0.0, 1.0]
        units, _ = two_arms(ranked(*rows), Peer("scikit-uplift", groups_ties=True))
        # Perfect curves at every unit: 0, 1, 2, 1.5 and 0, 1, 1 (at 0, 1, 3 units); cells without a unit stand still.
        uplift = gain(np.cumsum(_best(units, np.array([2.0, 0.0, 1.0, 3.0]))[0].steps(), axis=1))
        assert dict(zip(uplift.x, uplift.value, strict=True)) == {1.0: 1.0, 2.0: 2.0, 3.0: 1.5}
        best = qini(np.cumsum(_best(units, np.array([0.0, -1.0, 0.0, 1.0]))[0].steps(), axis=1))
        assert dict(zip(best.x, best.value, strict=True)) == {1.0: 1.0, 3.0: 1.0}

    def test_sklift_standard_deviation_of_one_bin(self):
        # weighted_average_uplift and uplift_by_percentile with bins=1: .5 and .353553, of which ours is the n - 1 form.
        rows = ranked([0, 1, 0, 0], [0.1] * 4, [0, 1, 1, 0])
        estimate, influence = conventional("uplift_at_k", "sklift", rows, k=1.0)
        assert estimate == 0.5
        assert math.sqrt(influence @ influence) / 4 == pytest.approx(0.353553, abs=1e-6)

    def test_pylift_own_tests(self):
        # pylift, tests/eval_test.py (its methods of one name hide one another, so these do not run there).
        rows = ([1, 0, 0, 1], [1, 0.5, 0.25, 0], [1, 0, 1, 0])
        assert float(auuc_score(*rows, propensity=0.5, convention="pylift")) == pytest.approx(0.28125, abs=1e-15)
        assert float(qini_score(*rows, propensity=0.5, convention="pylift_aqini")) == pytest.approx(0.375, abs=1e-15)
        assert float(qini_score(*rows, propensity=0.5, convention="pylift")) == pytest.approx(0.375, abs=1e-15)

    def test_pylift_with_a_propensity_that_varies(self):
        # The second set of tests/eval_test.py, through pylift 0.1.5's get_scores.
        rows = ([1, 1, 1, 0, 0], [1, 0.9, 0.8, 0.5, 0.6], [1, 1, 0, 1, 0])
        known = {"propensity": [0.75, 0.5, 0.75, 0.75, 0.5]}
        q = float(qini_score(*rows, **known, convention="pylift"))
        assert q == pytest.approx(0.18601190, abs=1e-8)
        assert float(qini_score(*rows, **known, convention="pylift_aqini")) == pytest.approx(0.21279762, abs=1e-8)
        assert float(auuc_score(*rows, **known, convention="pylift")) == pytest.approx(0.11737351, abs=1e-8)
        assert q / float(qini_score(*rows, **known, convention="pylift_q1")) == pytest.approx(0.39527530, abs=1e-8)
        assert q / float(qini_score(*rows, **known, convention="pylift_q2")) == pytest.approx(0.24943311, abs=1e-8)

    @pytest.mark.parametrize(("levels", "weighted"), [(None, False), (5, False), (None, True), (5, True)])
    def test_grf(self, levels, weighted):
        # grf 2, estimate_rate in r-package/grf/R/rank_average_treatment.R.
        y, u, t = draw(9, 80, levels, binary=False)
        w = np.random.default_rng(9).uniform(0.2, 3, 80) if weighted else np.ones(80)
        units = ranked(y, u, t, propensity=0.5, sample_weight=w)
        gamma = np.empty(80)
        gamma[units.order] = units.gamma
        gamma = np.array([np.average(gamma[u == v], weights=w[u == v]) for v in u])
        order = np.argsort(-u, kind="stable")
        w, gamma = w[order], gamma[order]
        toc = np.cumsum(w * gamma) / np.cumsum(w) - np.average(gamma, weights=w)
        options = {"propensity": 0.5, "sample_weight": w[np.argsort(order)], "convention": "grf"}
        assert float(rate(y, u, t, **options)) == pytest.approx(np.average(toc, weights=w), rel=1e-12)
        share = np.cumsum(w) / w.sum()
        expected = np.average(share * toc, weights=w)
        for found in (rate(y, u, t, target="qini", **options), qini_score(y, u, t, **options)):
            assert float(found) == pytest.approx(expected, rel=1e-12)
        if not weighted:
            assert float(qini_score(y, u, t, propensity=0.5)) == pytest.approx(expected, rel=1e-12)

    def test_causalml_breaks_ties_by_row_order(self):
        # causalml's own order among ties is that of an unstable sort; scikit-uplift and the default take no notice.
        y, u, t = made("ties")
        turned = (y[::-1], u[::-1], t[::-1])
        assert float(qini_score(y, u, t, convention="causalml")) != float(qini_score(*turned, convention="causalml"))
        for convention in ("sklift", "grf", "causalrec"):
            assert float(qini_score(y, u, t, convention=convention)) == pytest.approx(
                float(qini_score(*turned, convention=convention)), rel=1e-12
            )

    def test_other_arms_are_left_out(self):
        y, u, t = made("plain")
        three = np.r_[t, np.full(50, 2)]
        more = (np.r_[y, np.ones(50)], np.column_stack([np.r_[u, np.zeros(50)], np.arange(250)]), three)
        for metric, convention in _SCORES:
            if (metric, convention) != ("qini", "sklift_no_negative"):
                alone = public(metric, convention, (y, u, t))
                found = public(metric, convention, more, control=0, arm=1)
                assert float(found) == pytest.approx(float(alone), rel=1e-12)
                # n counts all rows, and n / (n - 1) is all that this changes.
                assert found.std_error == pytest.approx(alone.std_error * math.sqrt(250 / 249 * 199 / 200), nan_ok=True)


@pytest.mark.parametrize("example", ["plain", "ties", "late_treated", "late_control"])
@pytest.mark.parametrize("propensity", [None, 0.4])
def test_influence_is_the_derivative(example, propensity):
    y, u, t = made(example)
    n = len(y)
    weight = np.random.default_rng(1).uniform(0.5, 2, n)
    weight /= weight.mean()
    rows = [0, n // 3, n // 2, n - 2]
    options = {} if propensity is None else {"propensity": propensity}
    if example == "plain":
        t = 1 - t  # so that the whole effect is positive, as one of the numbers needs
    for metric, convention in _SCORES:
        peer = _SCORES[metric, convention][0]
        if (propensity and not peer.inverse_propensity) or (metric, convention) == ("autoc", "causalml"):
            continue
        try:
            units = ranked(y, u, t, sample_weight=weight, **options)
            _, influence = conventional(metric, convention, units)
        except OutcomeError:
            assert convention == "sklift_no_negative"
            continue
        influence = units.by_row(influence)
        assert abs(influence.sum()) < 1e-9 * np.abs(influence).sum()
        for i in rows:
            step = 1e-5 * np.eye(n)[i]
            up, down = (
                conventional(metric, convention, ranked(y, u, t, sample_weight=w, **options))[0]
                for w in (weight + step, weight - step)
            )
            expected = (up - down) / 2e-5 * n * weight[i]
            assert influence[i] == pytest.approx(expected, abs=1e-6 * np.abs(influence).max())


class TestManners:
    def test_weights_are_copies_of_rows(self):
        # A row of weight three is three rows in one group of ties: exact for scikit-uplift, which groups ties.
        y, u, t = made("rare")
        copies = np.random.default_rng(0).integers(0, 4, len(y))
        many = tuple(np.repeat(part, copies) for part in (y, u, t))
        for metric in ("qini", "auuc"):
            weighted = public(metric, "sklift", (y, u, t), sample_weight=copies)
            assert float(weighted) == pytest.approx(float(public(metric, "sklift", many)), rel=1e-12)

    def test_scaling_of_weights_changes_nothing(self):
        y, u, t = made("plain")
        for metric, convention in _SCORES:
            if convention != "sklift_no_negative":
                plain, scaled = (
                    public(metric, convention, (y, u, t), sample_weight=np.full(200, w)) for w in (1.0, 7.0)
                )
                assert scaled.estimate == pytest.approx(plain.estimate, rel=1e-12)
                assert scaled.std_error == pytest.approx(plain.std_error, rel=1e-9, nan_ok=True)

    def test_pairs_and_clusters(self):
        y, u, t = made("plain")
        other = np.random.default_rng(3).normal(size=200)
        twice = [np.r_[part, part] for part in (y, u, t, other)]
        users = np.r_[np.arange(200), np.arange(200)]
        once = compare_scorers(y, {"a": u, "b": other}, t, metric="qini", convention="sklift")
        found = compare_scorers(
            twice[0], {"a": twice[1], "b": twice[3]}, twice[2], metric="qini", convention="sklift", clusters=users
        )
        # Everything twice, by user, is everything once.
        for name in ("estimate", "std_error", "difference", "difference_std_error"):
            np.testing.assert_allclose(getattr(found, name), getattr(once, name), rtol=1e-9)

    def test_constant_scores(self):
        y, _, t = made("plain")
        for convention in ("sklift", "grf"):
            found = qini_score(y, np.zeros(200), t, convention=convention)
            assert float(found) == pytest.approx(0.0, abs=1e-12)

    def test_method_says_whose(self):
        found = qini_score(*made("plain"), convention="sklift")
        assert found.method.startswith("scikit-uplift's qini_auc_score; infinitesimal-jackknife standard error")
        assert "no standard error" in rate(*made("plain"), convention="causalml").method

    def test_random_order(self):
        y, u, t = made("plain")
        for kind, convention in _CURVES:
            curve = conventional_curve(kind, convention, ranked(y, u, t))
            assert curve.random[-1] == curve.value[-1]
            level = kind in ("uplift", "toc") and convention != "sklift"
            assert curve.random[0] == (curve.value[-1] if level else 0.0)


class TestBands:
    def test_the_whole_effect_by_hand(self):
        y, u, t = made("plain")
        a, b = y[t == 1], y[t == 0]
        error = math.sqrt((a.var() / len(a) + b.var() / len(b)) * 200 / 199)
        for kind, convention, unit in (
            ("uplift", "causalml", 1),
            ("uplift", "sklift", 200),
            ("qini", "causalml", len(a)),
        ):
            curve = conventional_curve(kind, convention, ranked(y, u, t))
            # That of the Qini counts units: what varies is the mean of control, and the treated's sum.
            expected = unit * error
            if kind == "qini":
                share = len(a) / 200
                by_row = np.where(t == 1, y - y[t == 0].mean() - (a.mean() - b.mean()) * share, 0.0)
                by_row = by_row - np.where(
                    t == 0, (y - b.mean()) * len(a) / len(b) + (a.mean() - b.mean()) * share, 0.0
                )
                expected = math.sqrt((by_row @ by_row) * 200 / 199)
            assert curve.std_error[-1] == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("key", _CURVES)
    def test_everything_twice_by_user_is_everything_once(self, key):
        y, u, t = made("ties")
        once = conventional_curve(*key, ranked(y, u, t, clusters=np.arange(200)))
        plain = conventional_curve(*key, ranked(y, u, t))
        np.testing.assert_allclose(once.std_error, plain.std_error, rtol=1e-9)
        if key[1] == "sklift":
            users = np.r_[np.arange(200), np.arange(200)]
            twice = conventional_curve(*key, ranked(*(np.r_[part, part] for part in (y, u, t)), clusters=users))
            np.testing.assert_allclose(twice.std_error, 2 * once.std_error, rtol=1e-9)

    def test_errors_do_not_depend_on_the_number_of_points(self):
        units = ranked(*made("rare"), propensity=0.3)
        for key in _CURVES:
            every, few = (conventional_curve(*key, units, max_points=m) for m in (1000, 20))
            at = np.flatnonzero(np.isin(every.fraction, few.fraction))
            np.testing.assert_allclose(every.std_error[at], few.std_error, rtol=1e-9)

    def test_no_error_where_a_package_interpolates(self):
        curve = conventional_curve("cumulative_gain", "causalml", ranked(*made("late_treated")), max_points=100)
        assert np.isnan(curve.std_error[1:9]).all()
        assert not np.isnan(curve.std_error[10:]).any()


class TestErrors:
    @pytest.mark.parametrize("convention", ["sklearn", "causal-ml", "Sklift"])
    def test_unknown_convention(self, convention):
        with pytest.raises(CausalRecError, match=r"has no metric 'auuc'. Expected one of 'causalrec', 'causalml'"):
            auuc_score(*made("plain"), convention=convention)

    def test_what_a_package_lacks(self):
        with pytest.raises(CausalRecError, match="Expected one of 'causalrec', 'causalml', 'grf'"):
            rate(*made("plain"), convention="sklift")
        with pytest.raises(CausalRecError, match="Expected one of 'causalrec', 'sklift'"):
            uplift_at_k(*made("plain"), convention="causalml")
        with pytest.raises(CausalRecError, match=r"has no curve 'toc'. Expected one of 'causalrec', 'causalml', 'grf'"):
            toc_curve(*made("plain"), convention="sklift")
        with pytest.raises(CausalRecError, match="lift_share"):
            check_convention("lift_share", "pylift")

    @pytest.mark.parametrize("convention", ["sklift", "pylift"])
    def test_outcomes_that_the_package_does_not_take(self, convention):
        with pytest.raises(OutcomeError, match="outcomes of 0 and 1 only"):
            qini_score(*made("continuous"), convention=convention)

    def test_propensity_that_the_package_does_not_take(self):
        e = np.linspace(0.3, 0.6, 200)
        with pytest.raises(OverlapError, match="takes the share treated as the same for all"):
            qini_score(*made("plain"), propensity=e, convention="causalml")
        assert float(qini_score(*made("plain"), propensity=0.5, convention="causalml")) == float(
            qini_score(*made("plain"), convention="causalml")
        )

    def test_nuisances(self):
        from sklearn.linear_model import LinearRegression

        y, u, t = made("continuous")
        nuisance = fit_nuisances(u[:, None], y, treatment=t, outcome_model=LinearRegression(), propensity=0.5)
        with pytest.raises(CausalRecError, match="takes outcomes, not scores of nuisances"):
            qini_score(y, u, t, nuisance=nuisance, convention="causalml")
        assert float(qini_score(y, u, t, nuisance=nuisance, convention="grf")) == pytest.approx(
            float(qini_score(y, u, t, nuisance=nuisance))
        )

    def test_no_room_above_the_diagonal(self):
        with pytest.raises(OutcomeError, match="best curve without negative effects needs one above zero"):
            qini_score([1, 0, 0, 1], [4, 3, 2, 1], [0, 1, 1, 0], convention="sklift_no_negative")
        # 7 of 14 treated and 9 of 18 others respond, so the whole gain is zero, or what rounding leaves of it.
        y, t = np.r_[np.ones(7), np.zeros(7), np.ones(9), np.zeros(9)], np.r_[np.ones(14), np.zeros(18)]
        for seed in range(5):
            u = np.random.default_rng(seed).normal(size=32)
            with pytest.raises(OutcomeError, match="needs one above zero"):
                qini_score(y, u, t, convention="sklift_no_negative")
            with pytest.raises(OutcomeError, match="effect of treating everyone is zero"):
                qini_score(y, u, t, convention="causalml")
        with pytest.raises(OutcomeError, match="effect of treating everyone is zero"):
            auuc_score([1, 0, 0, 1], [4, 3, 2, 1], [1, 1, 0, 0], convention="causalml")


def simulated(rng, n):
    """A test whose effect grows with the score, two rows a user."""
    x = np.repeat(rng.uniform(size=n // 2), 2)
    t = np.repeat((rng.uniform(size=n // 2) < 0.4).astype(int), 2)
    p = 0.2 + 0.15 * t + 0.25 * t * x**2
    return (rng.uniform(size=n) < p).astype(float), x, t


@pytest.mark.slow
def test_intervals_cover():
    """Each number of a large sample is covered, single, clustered, and as a difference of two scorers.

    Two rows of a user are ties, which packages that go row by row break by row order; here users are in random order.
    """
    rng = np.random.default_rng(0)
    y, x, t = simulated(rng, 2_000_000)
    blurred = x + np.repeat(rng.normal(scale=0.3, size=len(x) // 2), 2)
    big = [ranked(y, u, t) for u in (x, blurred)]
    keys = [key for key in _SCORES if "unnormalized" not in key[1] and key != ("autoc", "causalml")]
    truth = {key: [conventional(*key, units)[0] for units in big] for key in keys}
    n_runs, n = 400, 3000
    covered = dict.fromkeys([(key, kind) for key in keys for kind in ("single", "paired")], 0)
    for run in range(n_runs):
        rng = np.random.default_rng([1, run])
        y, x, t = simulated(rng, n)
        users = np.repeat(np.arange(n // 2), 2)
        both = [ranked(y, u, t, clusters=users) for u in (x, x + np.repeat(rng.normal(scale=0.3, size=n // 2), 2))]
        for key in keys:
            (a, by_a), (b, by_b) = (conventional(*key, units) for units in both)
            error = both[0].error(by_a)
            covered[key, "single"] += abs(a - truth[key][0]) <= Z * error
            difference = both[0].scores.error(both[0].by_row(by_a) - both[1].by_row(by_b))
            covered[key, "paired"] += abs(a - b - truth[key][0] + truth[key][1]) <= Z * difference
    # Two-sided 99.9% bounds of a binomial of .95; the numbers that divide by the whole gain are skewed: from .93.
    low, high = stats.binom.ppf(0.0005, n_runs, 0.95), stats.binom.ppf(0.9995, n_runs, 0.95)
    for (key, kind), hits in covered.items():
        divided = key[1] in ("causalml", "sklift_no_negative") and key[0] != "rate_qini"
        assert (stats.binom.ppf(0.0005, n_runs, 0.93) if divided else low) <= hits <= high, (key, kind, hits / n_runs)


@pytest.mark.slow
def test_bands_of_curves_cover():
    rng = np.random.default_rng(2)
    n_true = 500_000
    big = ranked(*simulated(rng, n_true))
    truth = {key: conventional_curve(*key, big, max_points=101) for key in _CURVES}
    n_runs, n, shares = 300, 2000, np.array([0.1, 0.4, 0.8])
    covered = {key: np.zeros(3) for key in _CURVES}
    for run in range(n_runs):
        units = ranked(*simulated(np.random.default_rng([3, run]), n), clusters=np.repeat(np.arange(n // 2), 2))
        for key, true in truth.items():
            curve = conventional_curve(*key, units, max_points=41)
            unit = n / n_true if true.value.max() > 1 else 1.0  # counts grow with the rows
            at = [int(np.argmin(np.abs(curve.fraction - q))) for q in shares]
            gap = curve.value[at] - unit * np.interp(curve.fraction[at], true.fraction, true.value)
            covered[key] += np.abs(gap) <= Z * curve.std_error[at]
    low, high = stats.binom.ppf(0.0002, n_runs, 0.95), stats.binom.ppf(0.9998, n_runs, 0.95)
    for key, hits in covered.items():
        assert ((hits >= low) & (hits <= high)).all(), (key, hits / n_runs)


@pytest.mark.slow
def test_causalml_autoc_does_not_settle():
    # Why it has no standard error: from 500 to 32,000 rows that of a mean falls to an eighth.
    spread = []
    for n in (500, 32_000):
        found = [
            conventional("autoc", "causalml", ranked(*simulated(np.random.default_rng([n, run]), n)))[0]
            for run in range(150)
        ]
        spread.append(np.std(found))
    assert spread[1] > 0.5 * spread[0]
