r"""The numbers of other packages, exactly, with standard errors: what ``convention=`` means.

The same words name different numbers in different packages. By default this package reports gains per unit of the
population, in the outcome's unit (:mod:`causalrec.evaluation.uplift`). To compare with what another package reported,
name it:

============================= ==================== ================== ============= ================
``convention``                ``qini_score``       ``auuc_score``     ``rate``      ``uplift_at_k``
============================= ==================== ================== ============= ================
``"sklift"``                  ``qini_auc_score``   uplift_auc_score   --            ``uplift_at_k``
``"sklift_no_negative"``      the same, with       --                 --            --
                              negative_effect off
``"causalml"``                ``qini_score``       ``auuc_score``     rate_score    --
``"causalml_unnormalized"``   both with            normalize off      --            --
``"pylift"``                  ``Q_qini``           ``Q_cgains``       --            --
``"pylift_q1"``               ``q1_qini``          ``q1_cgains``      --            --
``"pylift_q2"``               ``q2_qini``          ``q2_cgains``      --            --
``"pylift_aqini"``            ``Q_aqini``          --                 --            --
``"pylift_aqini_q1"``         ``q1_aqini``         --                 --            --
``"pylift_aqini_q2"``         ``q2_aqini``         --                 --            --
``"grf"``                     QINI                 --                 AUTOC, QINI   --
============================= ==================== ================== ============= ================

============================= ================ ================ ========================== ==============
``convention``                ``qini_curve``   ``uplift_curve`` ``cumulative_gain_curve``  ``toc_curve``
============================= ================ ================ ========================== ==============
``"sklift"``                  qini_curve       uplift_curve     --                         --
``"causalml"``                get_qini         get_cumlift      get_cumgain                get_toc
``"pylift"``                  qini             cuplift          cgains                     --
``"pylift_aqini"``            aqini            --               --                         --
``"grf"``                     --               --               --                         TOC
============================= ================ ================ ========================== ==============

Packages: scikit-uplift 0.5.1 (``sklift.metrics``), causalml 0.18 (``causalml.metrics``), pylift 0.1.5 (``eval.py``),
grf 2 (``rank_average_treatment_effect``). With weights, which only grf has, every count becomes a sum of weights. The
default ``qini_score`` and ``rate`` are grf's where weights are equal, and differ by O(1/n) where they are not.

Equal predictions: scikit-uplift and grf take them as one step. causalml and pylift go row by row, so their numbers
depend on the order of the rows: here it is the given order, as in pylift; causalml leaves it to numpy's unstable sort,
which differs between machines, so with ties its number agrees only where that sort keeps the order. scikit-uplift's
``uplift_at_k`` cuts through ties, the last row first.

Standard errors are those of the infinitesimal jackknife (Efron, 1982): the number is a smooth function of the rows'
weights, and its derivatives are the influence function. They hold for a large sample; a number that is divided by the
gain of treating everyone (causalml's, "sklift_no_negative") also needs that gain well away from zero. None is given for
causalml's "autoc" rate: weights 1/q let the first few rows decide it (from 500 to 32,000 rows of a simulation its
standard deviation fell by a quarter, that of a mean would fall to an eighth), so no normal interval is honest.

Examples
--------
>>> from causalrec.evaluation import qini_score
>>> y, uplift, treatment = [1, 0, 0, 1, 1, 0], [0.9, 0.8, 0.1, 0.2, 0.4, 0.3], [1, 0, 1, 0, 1, 0]
>>> [round(float(qini_score(y, uplift, treatment, convention=c)), 4) for c in ("causalrec", "sklift", "causalml")]
[0.2222, 0.7436, 0.619]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from causalrec._typing import FloatArray
from causalrec.evaluation import _peer_curves as curves
from causalrec.evaluation import _peer_scores as scores
from causalrec.evaluation._areas import area_score, toc_mean
from causalrec.evaluation._peer_bands import std_errors
from causalrec.evaluation._peer_curves import N_C, N_T, Maker, Rows, X
from causalrec.evaluation._peer_rows import Peer, centred, order_of_rows, two_arms, with_estimated_share
from causalrec.evaluation._ranked import Ranked
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import NAN

DEFAULT = "causalrec"

# What of each package is computed by the default formulas, so not in the tables below.
_OURS = {"grf": ("toc",)}

_Score = Callable[[Rows], scores.Derived]


_SKLIFT = Peer("scikit-uplift", groups_ties=True, binary=True)
_CAUSALML = Peer("causalml")
_PYLIFT = Peer("pylift", binary=True, inverse_propensity=True)


def _causalml(maker: Maker, above_diagonal: bool, normalized: bool) -> _Score:
    return partial(scores.causalml_score, maker=maker, above_diagonal=above_diagonal, normalized=normalized)


def _pylift(maker: Maker, maximum: str | None) -> _Score:
    return partial(scores.pylift_score, maker=maker, maximum=maximum)


# (metric, convention): the package, the name of the number there, and its function.
_SCORES: dict[tuple[str, str], tuple[Peer, str, _Score]] = {
    ("qini", "sklift"): (_SKLIFT, "qini_auc_score", scores.sklift_qini),
    ("auuc", "sklift"): (_SKLIFT, "uplift_auc_score", scores.sklift_uplift),
    ("qini", "sklift_no_negative"): (
        _SKLIFT, "qini_auc_score without negative effects", scores.sklift_kinked_score
    ),
    ("qini", "causalml"): (_CAUSALML, "qini_score", _causalml(curves.interpolated_qini, True, True)),
    ("auuc", "causalml"): (_CAUSALML, "auuc_score", _causalml(curves.interpolated_gain, False, True)),
    ("qini", "causalml_unnormalized"): (
        _CAUSALML, "qini_score, not normalized", _causalml(curves.interpolated_qini, True, False)
    ),
    ("auuc", "causalml_unnormalized"): (
        _CAUSALML, "auuc_score, not normalized", _causalml(curves.interpolated_gain, False, False)
    ),
    ("autoc", "causalml"): (_CAUSALML, "rate_score, autoc", partial(scores.causalml_rate, target="autoc")),
    ("rate_qini", "causalml"): (_CAUSALML, "rate_score, qini", partial(scores.causalml_rate, target="qini")),
    ("qini", "pylift"): (_PYLIFT, "Q_qini", _pylift(curves.pylift_qini, None)),
    ("auuc", "pylift"): (_PYLIFT, "Q_cgains", _pylift(curves.pylift_cgains, None)),
    ("qini", "pylift_q1"): (_PYLIFT, "q1_qini", _pylift(curves.pylift_qini, "theoretical")),
    ("auuc", "pylift_q1"): (_PYLIFT, "q1_cgains", _pylift(curves.pylift_cgains, "theoretical")),
    ("qini", "pylift_q2"): (_PYLIFT, "q2_qini", _pylift(curves.pylift_qini, "practical")),
    ("auuc", "pylift_q2"): (_PYLIFT, "q2_cgains", _pylift(curves.pylift_cgains, "practical")),
    ("qini", "pylift_aqini"): (_PYLIFT, "Q_aqini", _pylift(curves.pylift_aqini, None)),
    ("qini", "pylift_aqini_q1"): (_PYLIFT, "q1_aqini", _pylift(curves.pylift_aqini, "theoretical")),
    ("qini", "pylift_aqini_q2"): (_PYLIFT, "q2_aqini", _pylift(curves.pylift_aqini, "practical")),
}  # fmt: skip

# (kind, convention): the package, the name of the curve there, and its function.
_CURVES: dict[tuple[str, str], tuple[Peer, str, Maker]] = {
    ("qini", "sklift"): (_SKLIFT, "qini_curve", curves.qini),
    ("uplift", "sklift"): (_SKLIFT, "uplift_curve", curves.gain),
    ("qini", "causalml"): (_CAUSALML, "get_qini", curves.interpolated_qini),
    ("uplift", "causalml"): (_CAUSALML, "get_cumlift", curves.interpolated_lift),
    ("cumulative_gain", "causalml"): (_CAUSALML, "get_cumgain", curves.interpolated_gain),
    ("toc", "causalml"): (_CAUSALML, "get_toc", curves.toc),
    ("qini", "pylift"): (_PYLIFT, "qini", curves.pylift_qini),
    ("uplift", "pylift"): (_PYLIFT, "cuplift", curves.difference),
    ("cumulative_gain", "pylift"): (_PYLIFT, "cgains", curves.pylift_cgains),
    ("qini", "pylift_aqini"): (_PYLIFT, "aqini", curves.pylift_aqini),
}


_ALL_SCORES = {*_SCORES, ("uplift_at_k", "sklift"), *((metric, "grf") for metric in ("qini", "rate_qini", "autoc"))}


def check_convention(metric: str, convention: str) -> bool:
    """Whether the number is another package's, and not one of the default formulas.

    Parameters
    ----------
    metric : str
        ``"qini"``, ``"auuc"``, ``"autoc"``, ``"rate_qini"``, ``"uplift_at_k"``, ``"lift_share"``; or a curve,
        ``"qini"``, ``"uplift"``, ``"cumulative_gain"``, ``"toc"``.
    convention : str

    Raises
    ------
    CausalRecError
        For a convention that is unknown or lacks the metric; the message lists what there is.
    """
    return _check(metric, convention, _ALL_SCORES, "metric")


def check_curve_convention(kind: str, convention: str) -> bool:
    """:func:`check_convention` for curves."""
    return _check(kind, convention, set(_CURVES), "curve")


def _check(name: str, convention: str, there: set[tuple[str, str]], what: str) -> bool:
    if convention == DEFAULT or name in _OURS.get(convention, ()):
        return False
    if (name, convention) in there:
        return True
    known = [DEFAULT, *(c for n, c in sorted(there) if n == name), *(c for c, names in _OURS.items() if name in names)]
    raise CausalRecError(
        f"convention is {convention!r}, which has no {what} {name!r}. Expected one of {', '.join(map(repr, known))}; "
        "what each stands for is in causalrec.evaluation.conventions."
    )


def describe(metric: str, convention: str) -> str:
    """The number's name in its package and where its error comes from, for ``method``."""
    if metric == "uplift_at_k":
        return "scikit-uplift's uplift_at_k; infinitesimal-jackknife standard error"
    if convention == "grf":
        return f"grf's {'AUTOC' if metric == 'autoc' else 'QINI'}; influence-function standard error"
    peer, name, _ = _SCORES[metric, convention]
    if (metric, convention) == ("autoc", "causalml"):
        return f"{peer.name}'s {name}; no standard error, as weights 1/q let the first few rows decide it"
    return f"{peer.name}'s {name}; infinitesimal-jackknife standard error"


def conventional(
    metric: str, convention: str, ranked: Ranked, *, k: float | None = None, strategy: str = "overall"
) -> tuple[float, FloatArray]:
    """The number that another package reports, and its influence function.

    Parameters
    ----------
    metric, convention : str
        As for :func:`check_convention`, which says that it is another package's.
    ranked : Ranked
    k : float, optional
        Share of the units, for "uplift_at_k".
    strategy : "overall" or "by_group"
        Whether "uplift_at_k" cuts the pooled ranking, or that of each arm.

    Returns
    -------
    estimate : float
    influence : array of shape (n,)
        In the order of ``ranked``; NaN where no standard error is honest.

    Raises
    ------
    CausalRecError
        For an unknown convention, or nuisances (these packages take outcomes, not scores).
    OutcomeError
        For an outcome other than 0/1 where the package takes no other, or a score that divides by zero.
    OverlapError
        For a propensity that varies where the package takes the share treated as constant.
    TreatmentError
        For an arm without units in the top.
    """
    if not check_convention(metric, convention):
        raise CausalRecError(f"metric {metric!r} in convention {convention!r} is the default formula.")
    if convention == "grf":
        return _grf(ranked, metric)
    if metric == "uplift_at_k":
        rows, at = two_arms(ranked, _SKLIFT, last_first=True)
        estimate, by_weight = _uplift_at_k(rows, 0.3 if k is None else k, strategy)
    else:
        peer, _, score = _SCORES[metric, convention]
        rows, at = two_arms(ranked, peer)
        estimate, parts = score(rows)
        if peer.inverse_propensity and ranked.scores.shares_estimated:
            parts = with_estimated_share(rows, parts)
        by_weight = parts.sum(axis=0)
    influence = np.zeros(ranked.n)
    influence[at] = centred(rows.weight, by_weight) * ranked.n
    return estimate, np.full(ranked.n, NAN) if (metric, convention) == ("autoc", "causalml") else influence


def _grf(ranked: Ranked, metric: str) -> tuple[float, FloatArray]:
    """The rate_average_treatment_effect of grf from the scores of ``ranked``, and the default's influence function.

    TOC at every row, scores of ties averaged, and its mean by weight ("AUTOC") or by weight and share so far ("QINI").
    It differs from the default by O(1/n), and only where weights do.
    """
    at = order_of_rows(ranked, np.arange(ranked.n))
    w = ranked.weight[at]
    share = np.cumsum(w) / w.sum()
    ends = ranked.group_end
    gain = np.interp(share, np.r_[0.0, share[ends]], np.r_[0.0, np.cumsum(w * ranked.gamma[at])[ends] / w.sum()])
    toc = gain / share - gain[-1]
    if metric == "autoc":
        return float(w @ toc) / float(w.sum()), toc_mean(ranked)[1]
    return float((w * share) @ toc) / float(w.sum()), area_score(ranked, 0.5)[1]


@dataclass(frozen=True, eq=False)
class ConventionalCurve:
    """A curve as another package draws it: the origin and points of (m,) arrays.

    Attributes
    ----------
    fraction : array
        Share of the units; pylift's, of their inverse-propensity weights. scikit-uplift's and causalml's horizontal
        axis is this times the number of units.
    value : array
        In the package's unit: scikit-uplift's and causalml's Qini and gains are counts.
    std_error : array
        For the best share of the population; NaN where the package interpolates.
    random : array
        Straight to the last value; for differences (uplift, TOC) constant.
    """

    fraction: FloatArray
    value: FloatArray
    std_error: FloatArray
    random: FloatArray


def conventional_curve(kind: str, convention: str, ranked: Ranked, *, max_points: int = 200) -> ConventionalCurve:
    """The curve that another package draws, at no more than ``max_points`` of its points and the origin.

    Raises
    ------
    CausalRecError
        As for :func:`conventional`.
    """
    if not check_curve_convention(kind, convention):
        raise CausalRecError(f"curve {kind!r} in convention {convention!r} is the default formula.")
    peer, _, maker = _CURVES[kind, convention]
    rows, at = two_arms(ranked, peer)
    steps = rows.steps()
    sums = np.cumsum(steps, axis=1)
    curve, m = maker(sums), sums.shape[1]
    points = np.arange(m)
    if m > max_points:
        points = np.unique(np.linspace(0, m - 1, max_points).round().astype(int))
    size = sums[N_T] + sums[N_C] if peer.inverse_propensity else sums[X]
    share, value = np.r_[0.0, (size / size[-1])[points]], np.r_[0.0, curve.value[points]]
    clusters = ranked.clusters
    error = std_errors(
        rows, sums, curve, points, by_weights=peer.inverse_propensity, shares_estimated=ranked.scores.shares_estimated,
        clusters=None if clusters is None else clusters[at],
        n_units=ranked.n if clusters is None else len(np.unique(clusters)),
    )  # fmt: skip
    straight = np.ones_like(share) if maker in _FLAT else share
    return ConventionalCurve(share, value, np.r_[0.0, error], curve.value[-1] * straight)


# Curves of averages, not of sums: a random order gives the same everywhere.
_FLAT = (curves.difference, curves.interpolated_lift, curves.toc)


def _uplift_at_k(rows: Rows, k: float, strategy: str) -> tuple[float, FloatArray]:
    if strategy not in ("overall", "by_group"):
        raise CausalRecError(f'strategy is {strategy!r}; expected "overall" or "by_group".')
    everyone, estimate, by_weight = np.ones(len(rows.y), dtype=bool), 0.0, np.zeros(len(rows.y))
    for arm, sign in ((rows.treated == 1, 1.0), (rows.treated == 0, -1.0)):
        pool = everyone if strategy == "overall" else arm
        top = scores.best_share(rows.weight, pool, k)
        count = int(np.count_nonzero(top & arm))
        if count == 0:
            raise TreatmentError(
                f"the top {100 * k:g}% holds no {'treated' if sign > 0 else 'control'} unit. Take a larger k."
            )
        mean, moved = scores.top_mean(rows, arm, pool, top)
        estimate += sign * mean
        by_weight += sign * moved if count > 1 else NAN
    return estimate, by_weight
