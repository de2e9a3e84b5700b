"""Standard errors of a whole curve at the price of a few running sums, by cluster too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._ranked import Ranked, effect_at_cut


def prefix_moments(
    ends: IntArray, prefix: Sequence[FloatArray], total: Sequence[FloatArray], clusters: IntArray | None
) -> FloatArray:
    """Sums over clusters of the products of running sums up to each end, and of sums over all rows.

    A curve's influence function at a cut is a combination of a few arrays, some of which count above the cut only.
    The sum of its squares over clusters is a quadratic form in the moments returned here, and when a row is added
    to its cluster's sums u and v, the sum of the products u v grows by u dv + v du + du dv: one pass gives all cuts.

    Parameters
    ----------
    ends : int array of shape (m,)
        Index of the last row above each cut.
    prefix, total : sequences of arrays of shape (n,)
    clusters : int array of shape (n,), or None
        None where every row is its own.

    Returns
    -------
    array of shape (m, p, p), first those of ``prefix``, then those of ``total``

    Examples
    --------
    >>> prefix_moments(np.array([0, 2]), [np.array([1.0, 2.0, 4.0])], [], np.array([0, 1, 0])).ravel().tolist()
    [1.0, 29.0]
    """
    n_prefix = len(prefix)
    p = n_prefix + len(total)
    moments = np.empty((len(ends), p, p))
    before = _sums_before(prefix, clusters)
    whole = [v if clusters is None else np.bincount(clusters, weights=v)[clusters] for v in total]
    for i in range(p):
        for j in range(i, p):
            if i >= n_prefix:
                found = np.asarray(whole[i - n_prefix] @ total[j - n_prefix])
            elif j >= n_prefix:
                found = np.cumsum(prefix[i] * whole[j - n_prefix])[ends]
            elif clusters is None:
                found = np.cumsum(prefix[i] * prefix[j])[ends]
            else:
                found = np.cumsum(before[i] * prefix[j] + before[j] * prefix[i] + prefix[i] * prefix[j])[ends]
            moments[:, i, j] = moments[:, j, i] = found
    return moments


def _sums_before(prefix: Sequence[FloatArray], clusters: IntArray | None) -> list[FloatArray]:
    """For every row the sum of its cluster's rows above it."""
    if clusters is None:
        return []
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    size = np.diff(np.append(starts, len(order)))
    found = []
    for values in prefix:
        running = np.cumsum(values[order]) - values[order]
        sums = np.empty_like(running)
        sums[order] = running - np.repeat(running[starts], size)
        found.append(sums)
    return found


def curve_errors(coefficients: FloatArray, moments: FloatArray, n: int, units: int) -> FloatArray:
    """Standard errors of a curve's points from the coefficients of its influence functions, shape (m,).

    ``units`` are the clusters, or the n rows where each is its own.
    """
    squares = np.einsum("mi,mij,mj->m", coefficients, moments, coefficients)
    if units < 2:
        return np.full(len(squares), np.nan)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0) * units / (units - 1)) / n)


def gain_coefficients(q: FloatArray, gain: FloatArray, tau: FloatArray, slopes: FloatArray) -> FloatArray:
    """Of the influence function of C(q): of w gamma and w above the cut, of w, and of each estimated share's.

    C(q) is the gain of treating the best share q of the *population*, so the cut itself is estimated: a unit above it
    counts with gamma - tau(q), where tau(q), the effect at the cut, is the slope of the curve in a window around it.

    Parameters
    ----------
    q, gain, tau : arrays of shape (m,)
    slopes : array of shape (m, s)
        Mean over all rows of those of the s estimated shares above the cut.
    """
    return np.column_stack([np.ones(len(q)), -tau, q * tau - gain, -slopes])


def toc_coefficients(
    q: FloatArray, gain: FloatArray, tau: FloatArray, slopes: FloatArray, overall: float, overall_slopes: FloatArray
) -> FloatArray:
    """Of that of C(q) / q - C(1): of w gamma and w above the cut, and of w, w gamma and the shares over all rows."""
    columns = [1 / q, -tau / q, tau - gain / q + overall, np.full(len(q), -1.0)]
    return np.column_stack([*columns, overall_slopes - slopes / q[:, None]])


def top_coefficients(
    q: FloatArray, tau: FloatArray, gap: float, residual: FloatArray, size: FloatArray, count: FloatArray, n: int,
    *, clustered: bool,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """The effect among the best share q, and of its influence function the coefficients.

    They are of residuals and weights, both over the propensity, of the arm and then of control, and of w, above the
    cut; and of w.

    Parameters
    ----------
    q, tau : arrays of shape (m,)
    gap : float
        Difference of the arms' means.
    residual, size, count : arrays of shape (2, m)
        Sums of residuals and weights, both over the propensity, above the cut, and units: of the arm, of control.
    """
    effect, columns = np.full(len(q), gap), []
    for i, sign in enumerate((1.0, -1.0)):
        own = residual[i] / size[i]
        effect += sign * own
        # With equal weights and no clusters the error is then exactly Welch's, with denominators m - 1.
        welch = 1.0 if clustered else np.sqrt(count[i] / (count[i] - 1) * (n - 1) / n)
        factor = sign * n * welch / size[i]
        columns += [factor, -factor * own]
    push = (effect - tau) / q
    return effect, np.column_stack([*columns, push, -push * q])


def gain_curve(ranked: Ranked, ends: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share treated q, gain C(q) and its standard error where the first ``end + 1`` units are treated."""
    w, value = ranked.weight, ranked.weight * ranked.gamma
    q, gain = ranked.cumulative_weight[ends] / ranked.n, np.cumsum(value)[ends] / ranked.n
    slopes = _running_slopes(ranked)[ends]
    coefficients = gain_coefficients(q, gain, effect_at_cut(ranked, q), slopes)
    shares = [share for _, share in ranked.share_terms]
    moments = prefix_moments(ends, [value, w], [w, *shares], ranked.clusters)
    return q, gain, curve_errors(coefficients, moments, ranked.n, _units(ranked))


def toc_points(ranked: Ranked, ends: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share treated q, TOC(q) = C(q) / q - C(1) and its standard error, as for :func:`gain_curve`."""
    w, value = ranked.weight, ranked.weight * ranked.gamma
    q, gain = ranked.cumulative_weight[ends] / ranked.n, np.cumsum(value)[ends] / ranked.n
    overall, slopes = float(value.sum()) / ranked.n, _running_slopes(ranked)
    coefficients = toc_coefficients(q, gain, effect_at_cut(ranked, q), slopes[ends], overall, slopes[-1])
    shares = [share for _, share in ranked.share_terms]
    moments = prefix_moments(ends, [value, w], [w, value, *shares], ranked.clusters)
    error = curve_errors(coefficients, moments, ranked.n, _units(ranked))
    toc = gain / q - overall
    last = ends == ranked.n - 1
    toc[last] = error[last] = 0.0
    return q, toc, error


def top_effects(ranked: Ranked, ends: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share q, the average effect among the first ``end + 1`` units and its standard error.

    :func:`causalrec.evaluation._tops.top_effect` at every cut, from running sums.
    """
    if ranked.doubly_robust:
        q, gain, error = gain_curve(ranked, ends)
        return q, gain / q, error / q
    w = ranked.weight
    q = ranked.cumulative_weight[ends] / ranked.n
    prefix, sums = [], []
    for arm in (1, 0):
        own = ranked.arm == arm
        weight = w * own / ranked.propensity(arm)
        residual = weight * (ranked.y - ranked.mean(arm))
        prefix += [residual, weight]
        sums.append([np.cumsum(v)[ends] for v in (residual, weight, own)])
    residuals, sizes, counts = (np.array(v) for v in zip(*sums, strict=True))
    effect, coefficients = top_coefficients(
        q, effect_at_cut(ranked, q), ranked.mean(1) - ranked.mean(0), residuals, sizes, counts, ranked.n,
        clustered=ranked.clusters is not None,
    )  # fmt: skip
    moments = prefix_moments(ends, [*prefix, w], [w], ranked.clusters)
    return q, effect, curve_errors(coefficients, moments, ranked.n, _units(ranked))


def _running_slopes(ranked: Ranked) -> FloatArray:
    """Running means over all rows of the slopes of the estimated shares, shape (n, s)."""
    terms = [np.cumsum(ranked.weight * slope) / ranked.n for slope, _ in ranked.share_terms]
    return np.column_stack(terms) if terms else np.zeros((ranked.n, 0))


def _units(ranked: Ranked) -> int:
    return ranked.n if ranked.clusters is None else int(np.count_nonzero(np.bincount(ranked.clusters)))
