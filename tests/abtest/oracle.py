"""A second, slow and plain way to every number of an experiment.

An estimator is written once as a smooth function of the weights of the units. Its influence values are derivatives
by complex step (exact to rounding: Squire and Trapp 1998), and the covariance of the two arms' estimates is the sum
of their squares (infinitesimal jackknife: Efron 1982). No formula of the package is used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

Estimator = Callable[[np.ndarray], np.ndarray]  # weights of the units -> (control, treatment)
_STEP = 1e-200


@dataclass(frozen=True)
class Units:
    """Sums per unit of two arms: columns of shape (n,), ``arm`` 0 or 1, ``cell`` the stratum."""

    arm: np.ndarray
    value: np.ndarray
    den: np.ndarray
    covariates: np.ndarray
    size: np.ndarray
    cell: np.ndarray

    @property
    def n(self) -> tuple[int, int]:
        return int((self.arm == 0).sum()), int((self.arm == 1).sum())


@dataclass(frozen=True)
class Found:
    """Estimates in both arms, their covariance, degrees of freedom and the units behind them."""

    values: np.ndarray
    cov: np.ndarray
    df: float
    n: tuple[int, int]
    influence: np.ndarray = field(repr=False)

    @property
    def effect(self) -> float:
        return float(self.values[1] - self.values[0])

    @property
    def se(self) -> float:
        return math.sqrt(self.cov[0, 0] + self.cov[1, 1] - 2 * self.cov[0, 1])


def units_of(
    frame: pd.DataFrame,
    value: str,
    *,
    arms: tuple[object, object],
    variant: str = "variant",
    den: str | None = None,
    covariates: Sequence[str] = (),
    cluster: str | None = None,
    strata: Sequence[str] = (),
) -> Units:
    """Rows, or sums of a cluster's rows, of two arms."""
    rows = frame[frame[variant].isin(arms)].reset_index(drop=True)
    table = pd.DataFrame({"arm": (rows[variant] == arms[1]).astype(int), "value": rows[value].astype(float)})
    table["size"] = 1.0
    table["den"] = rows[den].astype(float) if den else 1.0
    for j, name in enumerate(covariates):
        table[f"x{j}"] = rows[name].astype(float)
    table["cell"] = rows.groupby(list(strata)).ngroup() if strata else 0
    if cluster:
        table["unit"] = rows[cluster]
        table = table.groupby(["arm", "unit", "cell"], as_index=False).sum()
    x = table[[f"x{j}" for j in range(len(covariates))]].to_numpy(float)
    return Units(
        table["arm"].to_numpy(int), table["value"].to_numpy(float), table["den"].to_numpy(float), x,
        table["size"].to_numpy(float), table["cell"].to_numpy(int),
    )  # fmt: skip


def influence(estimator: Estimator, n: int) -> np.ndarray:
    """Derivatives of the estimates by the weight of each unit at weights 1, of shape (n, 2)."""
    result = np.empty((n, 2))
    for i in range(n):
        weights = np.ones(n, complex)
        weights[i] += _STEP * 1j
        result[i] = estimator(weights).imag / _STEP
    return result


def covariance(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Sum of squared influences; within a cell with Bessel's n / (n - 1), so that a mean gets s^2 / n."""
    total = np.zeros((values.shape[1], values.shape[1]))
    for cell in np.unique(cells):
        here = values[cells == cell]
        n, mean = len(here), here.mean(axis=0)
        total += (here - mean).T @ (here - mean) * (n / (n - 1)) + n * np.outer(mean, mean)
    return total


def stratified_ratio(units: Units, numerator: np.ndarray, denominator: np.ndarray) -> Estimator:
    """Both arms' ratios, numerator and denominator weighted over strata by the strata's shares of both arms."""

    def estimate(w: np.ndarray) -> np.ndarray:
        top, bottom = np.zeros(2, complex), np.zeros(2, complex)
        for cell in np.unique(units.cell):
            inside = units.cell == cell
            share = w[inside].sum() / w.sum()
            for arm in (0, 1):
                here = inside & (units.arm == arm)
                top[arm] += share * (w[here] * numerator[here]).sum() / w[here].sum()
                bottom[arm] += share * (w[here] * denominator[here]).sum() / w[here].sum()
        return top / bottom

    return estimate


def ratio_estimate(units: Units) -> Found:
    """Mean (denominator 1), clustered mean (sizes) or ratio, plain or over strata."""
    estimator = stratified_ratio(units, units.value, units.den)
    values = influence(estimator, len(units.arm))
    return _finish(units, estimator, values)


def adjusted_estimate(units: Units) -> Found:
    """Adjusted by covariates: those coefficients for which the variance of the difference within cells is least.

    Both arms refer to the covariates' mean over both arms of their stratum. The influence values hold the
    coefficients where they are; what their estimation costs is added as in least squares: a cell of m units has as many
    degrees of freedom as the hat matrix of the fit leaves it of its m - 1, its residual part is scaled up to that, and
    the error of the coefficients, which are linear in the outcome, counts for the gap between the arms' covariates.
    """
    n, cells = len(units.arm), cells_of(units)
    outcome = stratified_ratio(units, units.value, units.den)
    y = _own(units, influence(outcome, n))
    columns = [_covariate_means(units, x) for x in units.covariates.T]
    x = np.column_stack([_own(units, influence(column, n)) for column in columns])
    bessel = np.sqrt([(cells == c).sum() / ((cells == c).sum() - 1) for c in cells])
    scaled = x * bessel[:, None]
    scale = np.sqrt((scaled**2).sum(axis=0))
    kept = scale > 1e-12 * np.abs(units.covariates).max()
    scaled, scale = scaled[:, kept] / scale[kept], scale[kept]
    hat = scaled @ np.linalg.pinv(scaled, rcond=1e-6)
    size = np.array([(cells == c).sum() for c in cells])
    left = size - 1 - np.array([np.diag(hat)[cells == c].sum() for c in cells])
    inflation = (size - 1) / left
    linear = np.zeros((len(kept), n))  # coefficients = linear @ outcome
    linear[kept] = np.linalg.pinv(scaled, rcond=1e-6) * bessel / scale[:, None]
    theta = linear @ y
    residual = y - x @ theta
    treated = {c: units.arm[units.cell == c].mean() for c in np.unique(units.cell)}

    def moves(w: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        result = np.zeros(2, complex)
        for c, p in treated.items():
            inside = units.cell == c
            means = np.array([[_weighted(units, w, inside & (units.arm == a), x) for x in units.covariates.T]
                              for a in (0, 1)])  # fmt: skip
            result += w[inside].sum() / w.sum() * (coefficients @ (means[1] - means[0])) * np.array([p, p - 1])
        return result

    def estimate(w: np.ndarray) -> np.ndarray:
        return outcome(w) + moves(w, theta)

    values = influence(estimate, n)
    own = np.where(units.arm[:, None] == [0, 1], residual[:, None], 0.0)
    cov = covariance(values, cells) + covariance(own * np.sqrt(inflation - 1)[:, None], cells)
    noise = np.array([((residual[cells == c] * bessel[cells == c]) ** 2).sum() / (cells == c).sum() for c in cells])
    lever = np.column_stack([moves(np.ones(n, complex), e).real for e in np.eye(len(kept))])
    steering = lever @ linear * np.sqrt(noise * inflation)  # of each unit's residual, by way of the coefficients
    cov += steering @ steering.T
    return replace(_finish(units, estimate, values, left, (steering[1] - steering[0]) ** 2), cov=cov)


def _weighted(units: Units, w: np.ndarray, here: np.ndarray, x: np.ndarray) -> complex:
    """Mean of rows: sums over sizes."""
    return (w[here] * x[here]).sum() / (w[here] * units.size[here]).sum()


def _covariate_means(units: Units, x: np.ndarray) -> Estimator:
    """Both arms' means of a covariate, each stratum by its share of units."""

    def estimate(w: np.ndarray) -> np.ndarray:
        result = np.zeros(2, complex)
        for c in np.unique(units.cell):
            inside = units.cell == c
            means = [_weighted(units, w, inside & (units.arm == arm), x) for arm in (0, 1)]
            result += w[inside].sum() / w.sum() * np.array(means)
        return result

    return estimate


def cells_of(units: Units) -> np.ndarray:
    return units.arm * 1_000_003 + units.cell


def _own(units: Units, values: np.ndarray) -> np.ndarray:
    """The influence of each unit on its own arm, apart from that on the strata's shares."""
    own, cells = values[np.arange(len(values)), units.arm], cells_of(units)
    return own - pd.Series(own).groupby(cells).transform("mean").to_numpy()


def _finish(units: Units, estimator: Estimator, values: np.ndarray, left: np.ndarray | None = None,
            more: np.ndarray | None = None) -> Found:  # fmt: skip
    """Welch and Satterthwaite's degrees of freedom: a part for each cell, and one for the shares of strata.

    ``left`` says for each unit how many its cell has, where that is not its size - 1, ``more`` what else each adds.
    """
    cells = cells_of(units)
    difference = (values[:, 1] - values[:, 0])[:, None]
    parts, between = [], 0.0
    for c in np.unique(cells):
        here = difference[cells == c]
        m = len(here)
        free = m - 1 if left is None else left[cells == c][0]
        extra = 0.0 if more is None else float(more[cells == c].sum())
        parts.append((float(((here - here.mean()) ** 2).sum()) * m / free + extra, free))
        between += m * float(here.mean()) ** 2
    if len(np.unique(units.cell)) > 1:
        parts.append((between, len(units.arm) - 1))
    squares = sum(v**2 / df for v, df in parts)
    df = sum(v for v, _ in parts) ** 2 / squares if squares > 0 else math.nan
    return Found(estimator(np.ones(len(units.arm), complex)).real, covariance(values, cells), df, units.n, values)


def diluted_estimate(units: Units, triggered: np.ndarray) -> Found:
    """The effect on everybody, when units that were not triggered have none by construction."""

    def estimate(w: np.ndarray) -> np.ndarray:
        p = w[triggered].sum() / w.sum()
        away = w[~triggered]
        result = np.zeros(2, complex)
        for arm in (0, 1):
            here = triggered & (units.arm == arm)
            top, bottom = ((w[here] * v[here]).sum() / w[here].sum() for v in (units.value, units.den))
            top_u, bottom_u = ((away * v[~triggered]).sum() / away.sum() for v in (units.value, units.den))
            result[arm] = (p * top + (1 - p) * top_u) / (p * bottom + (1 - p) * bottom_u)
        return result

    cells = np.where(triggered, units.arm, 2)
    values = influence(estimate, len(units.arm))
    cov = covariance(values, cells)
    return Found(estimate(np.ones(len(units.arm), complex)).real, cov, math.nan, units.n, values)


def slope_estimate(rows: pd.DataFrame, value: str, day: str, arms: tuple[object, object], unit: str | None) -> Found:
    """Least-squares slope over days within each arm, rows of a unit weighted together."""
    rows = rows[rows["variant"].isin(arms)].reset_index(drop=True)
    who = rows.groupby(["variant", unit]).ngroup().to_numpy() if unit else np.arange(len(rows))
    arm = (rows["variant"] == arms[1]).to_numpy().astype(int)
    y, x = rows[value].to_numpy(float), rows[day].to_numpy(float)

    def estimate(w: np.ndarray) -> np.ndarray:
        result = np.zeros(2, complex)
        for a in (0, 1):
            here = arm == a
            v, xs, ys = w[who[here]], x[here], y[here]
            x_mean, y_mean = (v * xs).sum() / v.sum(), (v * ys).sum() / v.sum()
            result[a] = (v * (xs - x_mean) * (ys - y_mean)).sum() / (v * (xs - x_mean) ** 2).sum()
        return result

    n = int(who.max()) + 1
    owner = np.zeros(n, int)
    owner[who] = arm
    values = influence(estimate, n)
    counts = (int((owner == 0).sum()), int((owner == 1).sum()))
    return Found(estimate(np.ones(n, complex)).real, covariance(values, owner), math.nan, counts, values)


def with_df(found: Found, df: float) -> Found:
    return replace(found, df=df)


def quantile_of_law(df: float, tail: float) -> float:
    return float(stats.norm.isf(tail) if math.isinf(df) else stats.t.isf(tail, df))


def tail_of_law(df: float, statistic: float) -> float:
    return float(stats.norm.sf(statistic) if math.isinf(df) else stats.t.sf(statistic, df))


def pvalue(found: Found, alternative: str = "two-sided") -> float:
    z = found.effect / found.se
    if alternative == "two-sided":
        return 2 * tail_of_law(found.df, abs(z))
    return tail_of_law(found.df, z if alternative == "greater" else -z)


def interval(found: Found, level: float = 0.95) -> tuple[float, float]:
    half = quantile_of_law(found.df, (1 - level) / 2) * found.se
    return found.effect - half, found.effect + half


def fieller(found: Found, level: float = 0.95) -> tuple[float, float]:
    """The relative effects that are not rejected, by root finding; unbounded where zero control is not rejected."""
    (c, t), cov, q = found.values, found.cov, quantile_of_law(found.df, (1 - level) / 2)

    def beyond(r: float) -> float:
        return (t - r * c) ** 2 - q**2 * (cov[1, 1] - 2 * r * cov[0, 1] + r * r * cov[0, 0])

    if c * c <= q * q * cov[0, 0]:
        return -math.inf, math.inf
    centre, step = t / c, 1e-3 * (1 + abs(t / c))
    ends = []
    for sign in (-1, 1):
        far = step
        while beyond(centre + sign * far) <= 0:
            far *= 2
        ends.append(optimize.brentq(beyond, centre, centre + sign * far, xtol=1e-15, rtol=1e-14) - 1)
    return min(ends), max(ends)


def relative_delta(found: Found, level: float = 0.95) -> tuple[float, float]:
    c, t = found.values
    gradient = np.array([-t / c**2, 1 / c])
    half = quantile_of_law(found.df, (1 - level) / 2) * math.sqrt(gradient @ found.cov @ gradient)
    return t / c - 1 - half, t / c - 1 + half


def relative_log(found: Found, level: float = 0.95) -> tuple[float, float]:
    c, t = found.values
    gradient = np.array([-1 / c, 1 / t])
    half = quantile_of_law(found.df, (1 - level) / 2) * math.sqrt(gradient @ found.cov @ gradient)
    return math.exp(math.log(t / c) - half) - 1, math.exp(math.log(t / c) + half) - 1


def log_df(found: Found) -> float:
    """Welch and Satterthwaite's degrees of freedom on the scale of logarithms, of independent arms."""
    parts = np.diag(found.cov) / found.values**2
    return float(parts.sum() ** 2 / (parts**2 / (np.array(found.n) - 1)).sum())


def noninferiority_pvalue(found: Found, margin: float, *, relative: bool = False, higher: bool = True) -> float:
    sign = 1.0 if higher else -1.0
    return _margin_pvalue(found, -sign * margin, relative, sign)


def equivalence_pvalue(found: Found, margin: float, *, relative: bool = False) -> float:
    return max(_margin_pvalue(found, -margin, relative, 1.0), _margin_pvalue(found, margin, relative, -1.0))


def _margin_pvalue(found: Found, bound: float, relative: bool, sign: float) -> float:
    """One-sided: is the effect above (sign 1) or below (-1) the bound?"""
    a = np.array([-(1 + bound), 1.0]) if relative else np.array([-1.0, 1.0])
    gap = a @ found.values - (0.0 if relative else bound)
    return tail_of_law(found.df, sign * gap / math.sqrt(a @ found.cov @ a))


def bootstrap_se(units: Units, statistic: Callable[[Units], np.ndarray], rng: np.random.Generator, b: int) -> float:
    """Spread of the difference over resamples of units within arms."""
    arms = [np.flatnonzero(units.arm == a) for a in (0, 1)]
    draws = []
    for _ in range(b):
        pick = np.concatenate([rng.choice(a, len(a)) for a in arms])
        values = statistic(take(units, pick))
        draws.append(values[1] - values[0])
    return float(np.std(draws, ddof=1))


def take(units: Units, pick: np.ndarray) -> Units:
    names = ("arm", "value", "den", "covariates", "size", "cell")
    return Units(*(getattr(units, name)[pick] for name in names))


def experiment_table(seed: int, n: int = 240, arms: Sequence[object] = ("a", "b"), shares=None) -> pd.DataFrame:
    """Rows of an experiment: skewed, correlated, households of 1 to 6 rows that share an arm, several segments."""
    rng = np.random.default_rng(seed)
    house = np.sort(rng.choice(n // 2, n, p=rng.dirichlet(np.full(n // 2, 2.0))))
    arm_of_house = rng.choice(len(arms), n // 2, p=shares)
    arm_of_house[house[0]], arm_of_house[house[-1]] = 0, 1
    arm = arm_of_house[house]
    x = rng.normal(size=(n, 4)) @ (np.eye(4) + 0.3) + rng.normal(size=n // 2)[house][:, None]
    views = 1 + rng.poisson(6 + 2 * (arm == 1), n)
    shared = rng.normal(size=n // 2)[house]
    frame = pd.DataFrame(
        {
            "user": np.arange(n),
            "variant": np.array(arms, dtype=object)[arm],
            "revenue": rng.lognormal(1, 0.8, n) + x[:, 0] - 0.5 * x[:, 1] + shared + 0.4 * (arm == 1) + 3,
            "views": views,
            "clicks": rng.binomial(views, 0.2 + 0.1 * (x[:, 0] > 0)),
            "bought": (rng.random(n) < 0.3 + 0.1 * (arm == 1) + 0.2 * (x[:, 0] > 0)).astype(int),
            **{f"x{j + 1}": x[:, j] for j in range(4)},
            "twin": 2 * x[:, 0] + 1,
            "constant": 7.0,
            "house": house,
            "city": rng.choice(["Bonn", "Kiel", "Ulm"], n // 2, p=[0.5, 0.3, 0.2])[house],
            "device": rng.choice(["phone", "tablet", "web"], n),
            "saw": rng.random(n) < 0.6,
            "day": rng.integers(0, 7, n),
            "last": np.round(rng.exponential(9, n), 3),
        }
    )
    return frame.sample(frac=1, random_state=seed, ignore_index=True)


def binomial_bounds(p: float, n: int, miss: float = 1e-4) -> tuple[int, int]:
    """Counts that a true rate p gives with probability at least 1 - miss."""
    return int(stats.binom.ppf(miss / 2, n, p)), int(stats.binom.isf(miss / 2, n, p))
