"""Balance of covariates on a Spark DataFrame: means, variances and distribution functions by arm, from one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.spark_tasks import running, summed
from causalrec.observational._spark_rows import Coding, Rows, number
from causalrec.observational.balance import DENOMINATORS
from causalrec.results import BalanceResult

_CUTS = 1_000  # of each covariate, at which distribution functions are compared


@dataclass(frozen=True)
class _Table:
    """How a batch becomes sums by arm and covariate, all levels of text among them."""

    coding: Coding
    mean: FloatArray  # of each column, roughly: squares are taken about it
    cuts: tuple[FloatArray, ...]  # of each numeric covariate
    adjusted: bool

    def __call__(self, batch: Any) -> dict[str, Any]:
        table = self.coding.pack(batch)
        X, t, w = self.columns(table), table[:, 0] == 1, table[:, 2]
        kinds = {"before": w, **({"after": table[:, 3]} if self.adjusted else {})}
        last, gap = kinds.get("after", w), X - self.mean
        found: dict[str, Any] = {
            "max_other": ((X != 0) & (X != 1)).any(axis=0).astype(float), "max_size": np.abs(X).max(axis=0),
            "plain": gap.sum(axis=0), "plain2": (gap**2).sum(axis=0), "bad": np.count_nonzero(~np.isfinite(last)),
            "negative": -np.minimum(last, 0.0).sum(), "absolute": np.abs(last).sum(),
        }  # fmt: skip
        for when, weight in kinds.items():
            for code, arm in ((0, ~t), (1, t)):
                found |= self._arm(f"{when}{code}", X[arm], weight[arm])
        return found

    def _arm(self, name: str, X: FloatArray, w: FloatArray) -> dict[str, Any]:
        gap = X - self.mean
        found = {f"{name}_w": w.sum(), f"{name}_ww": w @ w, f"{name}_x": w @ gap, f"{name}_xx": w @ gap**2}
        for j, cuts in enumerate(self.cuts):
            place = np.searchsorted(cuts, X[:, j], side="left")
            found[f"{name}_f{j}"] = np.bincount(place, weights=w, minlength=len(cuts) + 1)
        return found

    def columns(self, table: FloatArray) -> FloatArray:
        """Numbers, and a column for every level of text."""
        matrix, place = self.coding.matrix(table), len(self.coding.numbers)
        parts = [matrix[:, :place]]
        for levels in self.coding.levels:
            rest = matrix[:, place : place + len(levels) - 1]
            parts += [1 - rest.sum(axis=1, keepdims=True), rest]
            place += len(levels) - 1
        return np.concatenate(parts, axis=1)


def balance(rows: Rows, *, adjusted: bool, estimand: str, basis: str, threshold: float, method: str) -> BalanceResult:
    """See :func:`causalrec.observational.balance_table`; ``adjusted``: the rows' ``e`` are weights."""
    coding = rows.coding
    names = [*coding.numbers, *(f"{c}_{v}" for c, vs in zip(coding.texts, coding.levels, strict=True) for v in vs)]
    n = len(coding.numbers)
    mean = np.concatenate([coding.mean[:n], np.full(len(names) - n, 0.5)])
    with running(rows.frame.sparkSession, "the pass over the frame failed"):
        table = _Table(coding, mean, _cuts(rows), adjusted)
        sums = summed(rows.frame, table)
    if sums["bad"]:
        raise CausalRecError(
            f"weights: {int(sums['bad'])} of {rows.n} values are missing or infinite; give every row a weight, if zero."
        )
    binary = sums["max_other"] == 0
    arms = {when: [_moments(sums, f"{when}{code}", mean, binary, code) for code in (0, 1)]
            for when in (["before", "after"] if adjusted else ["before"])}  # fmt: skip
    scale = _scale(sums, arms["before"], mean, binary, basis, rows.n)
    found: dict[str, FloatArray] = {}
    for when in ("before", "after"):
        (m0, v0), (m1, v1) = arms[when if adjusted else "before"]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(binary | ~(v0 > 0), np.nan, v1 / v0)
        found |= {
            f"mean_control_{when}": m0, f"mean_treated_{when}": m1, f"smd_{when}": (m1 - m0) / scale,
            f"variance_ratio_{when}": ratio,
            f"ks_{when}": _distances(sums, when if adjusted else "before", binary, np.abs(m1 - m0), n),
        }  # fmt: skip
    return _result(rows, sums, found, np.array(names, dtype=object), adjusted, estimand, basis, threshold, method)


def _cuts(rows: Rows) -> tuple[FloatArray, ...]:
    """About a thousand values of each numeric covariate, at even shares of the rows."""
    n = len(rows.coding.numbers)
    if not n:
        return ()
    levels = ", ".join(number(level) for level in np.linspace(0, 1, _CUTS + 1))
    columns = [f"percentile_approx(x{i}, array({levels}), {10 * _CUTS}) AS c{i}" for i in range(n)]
    row = rows.frame.selectExpr(*columns).toArrow().to_pylist()[0]
    return tuple(np.unique(row[f"c{i}"]) for i in range(n))


def _moments(
    sums: dict[str, AnyArray], name: str, mean: FloatArray, binary: AnyArray, code: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted means and variances of an arm."""
    total = float(sums[f"{name}_w"])
    if not total > 0:
        arm = ("control", "treated")[code]
        raise CausalRecError(f"weights: all {arm} units have weight 0, so there is nothing to compare. Trim less.")
    gap = sums[f"{name}_x"] / total
    one = float(sums[f"{name}_ww"]) / total**2
    variance = np.maximum(sums[f"{name}_xx"] / total - gap**2, 0.0)
    variance = variance / (1 - one) if one < 1 - 1e-12 else np.zeros(len(gap))
    m = mean + gap
    return m, np.where(binary, m * (1 - m), variance)


def _scale(sums: dict[str, AnyArray], arms: Any, mean: FloatArray, binary: AnyArray, basis: str, n: int) -> FloatArray:
    """The standard deviation to divide by; that over all units where it is zero, 1 where nothing varies."""
    v0, v1 = arms[0][1], arms[1][1]
    chosen = {"pooled": (v0 + v1) / 2, "treated": v1, "control": v0}[basis]
    gap = sums["plain"] / n
    whole = np.maximum(sums["plain2"] / n - gap**2, 0.0) * n / max(n - 1, 1)
    share = mean + gap
    whole = np.where(binary, share * (1 - share), whole)
    tiny = (1e-13 * sums["max_size"]) ** 2
    return np.sqrt(np.where(chosen > tiny, chosen, np.where(whole > tiny, whole, 1.0)))


def _distances(sums: dict[str, AnyArray], when: str, binary: AnyArray, gap: FloatArray, n_numbers: int) -> FloatArray:
    found = gap.copy()  # what it is for 0/1 covariates
    for j in range(n_numbers):
        if not binary[j]:
            curves = [np.cumsum(sums[f"{when}{code}_f{j}"]) / sums[f"{when}{code}_w"] for code in (0, 1)]
            found[j] = np.abs(curves[1] - curves[0])[:-1].max(initial=0.0)
    return found


def _result(
    rows: Rows, sums: dict[str, AnyArray], found: dict[str, FloatArray], names: AnyArray, adjusted: bool,
    estimand: str, basis: str, threshold: float, method: str,
) -> BalanceResult:  # fmt: skip
    last = "after" if adjusted else "before"
    effective = [float(sums[f"{last}{code}_w"]) ** 2 / float(sums[f"{last}{code}_ww"]) for code in (0, 1)]
    size, ratio = np.abs(found["smd_after"]), found["variance_ratio_after"]
    worst = int(np.argmax(size))
    return BalanceResult(
        n_obs=sum(rows.n_all), n_treated=rows.n_all[1], n_control=rows.n_all[0], ess_treated=effective[1],
        ess_control=effective[0], estimand=estimand, denominator=f"standard deviation of {DENOMINATORS[basis]}",
        method=method or ("" if adjusted else "no adjustment"), adjusted=adjusted,
        negative_share=float(sums["negative"] / sums["absolute"]), threshold=float(threshold),
        balanced=bool((size <= threshold).all()), n_covariates=len(names), n_beyond=int((size > threshold).sum()),
        n_variance_beyond=int(((ratio < 0.5) | (ratio > 2)).sum()), worst=str(names[worst]),
        max_abs_smd_before=float(np.abs(found["smd_before"]).max()), max_abs_smd_after=float(size[worst]),
        max_ks_before=float(found["ks_before"].max()), max_ks_after=float(found["ks_after"].max()), covariate=names,
        **found,
    )  # fmt: skip
