"""Results of Spark metrics from estimates and their covariance; as :mod:`causalrec.evaluation._results`."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from causalrec._ratios import fieller_interval
from causalrec._typing import FloatArray
from causalrec.evaluation._metrics import Choice
from causalrec.evaluation._results import SILENT_TOP, interval_result
from causalrec.evaluation._spark_areas import area_columns, area_estimates, toc_columns
from causalrec.evaluation._spark_rows import Rows
from causalrec.evaluation._spark_tops import lift_sums, top_estimates
from causalrec.results import NAN, EffectResult

_ROUNDING = 1e-13  # relative to the largest outcome
_SAME = 1e-6  # of a standard error: a difference with less than that of its own is none


def ranking_results(rows: Rows, choice: Choice, n_scorers: int, level: float) -> tuple[list[EffectResult], FloatArray]:
    """The result of every scorer, and the covariance of the estimates."""
    if choice.metric == "lift_share":
        return _lift_results(rows, choice, n_scorers, level)
    used, silent = np.full(n_scorers, rows.n), np.zeros(n_scorers, dtype=bool)
    if choice.metric == "uplift_at_k":
        estimates, variance, used, silent = top_estimates(rows, choice.k, n_scorers)
    else:
        columns = toc_columns if choice.metric == "autoc" else area_columns(0.5 if choice.metric == "qini" else 0.0)
        estimates, variance = area_estimates(rows, n_scorers, columns, centred=choice.metric != "auuc")
    results = []
    for s in range(n_scorers):
        how, name, n = words(choice, rows), choice.estimand, int(used[s])
        if rows.constant(s) and choice.metric in ("qini", "autoc"):
            how += "; all predictions are equal, so the score is zero by definition"
            results.append(EffectResult(0.0, 0.0, 0.0, 0.0, NAN, level, n, how, name))
            continue
        error = _honest_error(variance[s, s], rows)
        if silent[s]:
            how += f"; none here: {SILENT_TOP}"
        elif np.isnan(error):
            how += "; none here: the outcome does not vary within the arms, or there is one cluster"
        results.append(interval_result(float(estimates[s]), error, level, n, how, name))
    return results, variance


def _lift_results(rows: Rows, choice: Choice, n_scorers: int, level: float) -> tuple[list[EffectResult], FloatArray]:
    """Ratios with Fieller's intervals, and the test of a random order; see ``evaluation._results``."""
    share, name = choice.k, choice.estimand
    found = lift_sums(rows, share, n_scorers)
    ratio = found.gain / found.total if found.total else np.full(n_scorers, NAN)
    slopes = np.column_stack([np.eye(n_scorers), -ratio]) / (found.total or NAN)
    results = []
    for s in range(n_scorers):
        how = f"{words(choice, rows)}, Fieller's interval; p-value of a share of {share:g}, that of a random order"
        if rows.constant(s) or share == 1:
            how += "; here the share is that by definition"
            results.append(EffectResult(share, 0.0, share, share, NAN, level, rows.n, how, name))
            slopes[s] = 0.0
            continue
        var_gain, var_total, both = found.covariance[s, s], found.covariance[-1, -1], found.covariance[s, -1]
        low, high = fieller_interval(
            found.gain[s], found.total, var_gain, var_total, both, float(stats.norm.isf((1 - level) / 2))
        )
        if np.isinf(low):
            how += "; the whole effect cannot be told from zero, so the share has no bounds"
        error = _honest_error(var_gain + share**2 * var_total - 2 * share * both, rows)
        test = interval_result(found.gain[s] - share * found.total, error, level, rows.n, how, name)
        std_error = _root(float(slopes[s] @ found.covariance @ slopes[s]))
        results.append(EffectResult(float(ratio[s]), std_error, low, high, test.pvalue, level, rows.n, how, name))
    return results, slopes @ found.covariance @ slopes.T


def words(choice: Choice, rows: Rows) -> str:
    """How a metric and its standard error are computed."""
    how = rows.method
    if choice.metric == "uplift_at_k":
        how = "difference of the arms' means" + (", known propensity" if rows.n_terms == 0 else "")
    return f"{how}; influence-function standard error" + (", clustered" if rows.clustered else "")


def _root(variance: float) -> float:
    return float(np.sqrt(max(variance, 0.0))) if not np.isnan(variance) else NAN


def _honest_error(variance: float, rows: Rows) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    return float(not_rounding(_root(variance), rows))


def not_rounding(error: Any, rows: Rows) -> Any:
    """Errors, with NaN for those that are rounding beside the largest outcome."""
    return np.where(np.asarray(error) > _ROUNDING * rows.largest, error, NAN)


def error_of_difference(variance: FloatArray, i: int, j: int) -> float:
    """Standard error of the difference of two estimates from their covariance; zero where it is rounding."""
    found = _root(variance[i, i] + variance[j, j] - 2 * variance[i, j])
    return 0.0 if found <= _SAME * _root(max(variance[i, i], variance[j, j])) else found
