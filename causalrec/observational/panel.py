"""Difference-in-differences for panels: units that are seen before and after some of them are treated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import (
    check_confidence_level,
    list_some,
    nearest,
)
from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.nuisance.scores import effect_result
from causalrec.observational._panel_cells import (
    NEVER,
    Cells,
    Design,
    controls,
    group_time_effects,
    mean_effect,
    two_way_fixed_effects,
    weighted_effect,
)
from causalrec.observational._panel_table import Names, Table, panel_table
from causalrec.results import PanelEffectResult

CONTROL_GROUPS = ("never_treated", "not_yet_treated")
AGGREGATIONS = ("group", "simple", "event", "calendar")
_BASES, _METHODS, _UNBALANCED = ("universal", "varying"), ("doubly_robust", "regression"), ("error", "drop")
_DRAWS = 50_000
_WORDS = {
    "group": "mean over the units that were ever treated of their mean effect since treatment",
    "simple": "mean over all treated units and periods",
    "event": "mean over the periods since treatment",
    "calendar": "mean over the periods with treated units",
}


def difference_in_differences(
    frame: Any,
    *,
    unit: str,
    time: str,
    outcome: str,
    treatment: str | None = None,
    first_treated: str | None = None,
    covariates: Sequence[str] = (),
    control_group: str = "never_treated",
    base_period: str = "universal",
    anticipation: int = 0,
    aggregation: str = "group",
    method: str = "doubly_robust",
    clusters: str | None = None,
    unbalanced: str = "error",
    control: object = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> PanelEffectResult:
    """Average effect on the treated units of a panel, from their change beyond that of untreated units.

    Units that are treated at different times are compared group by group with untreated ones alone, and these
    effects are averaged (Callaway and Sant'Anna 2021): a regression with unit and period effects also compares
    with units treated before, and can give effects negative weights. With two periods both are the same.

    Parameters
    ----------
    frame : DataFrame
        A row per unit and period. It is not changed.
    unit, time, outcome : str
        Columns. Times are numbers or dates; they count in the order in which they occur, whatever lies between.
    treatment : str, optional
        0/1 column (or two labels with ``control``) that turns on and stays on.
    first_treated : str, optional
        Instead: the time of first treatment, the same in all rows of a unit; missing for units never treated.
    covariates : sequence of str
        Columns measured before treatment, constant within a unit: trends need then be parallel only given these.
    control_group : {"never_treated", "not_yet_treated"}
        The second also compares with units treated later.
    base_period : {"universal", "varying"}
        What effects before treatment compare with: the last period before treatment (and anticipation), so that the
        event study is one line; or the period before each. Effects after treatment are the same.
    anticipation : int
        Periods before treatment in which units may already react; they are neither effect nor trend.
    aggregation : {"group", "simple", "event", "calendar"}
        Which overall effect is ``estimate``; all four are in the result.
    method : {"doubly_robust", "regression"}
        With covariates: Sant'Anna and Zhao 2020, logistic score and linear regression, right where one is; or the
        regression alone.
    clusters : str, optional
        Column, constant within a unit, whose values may depend on one another (regions, say). Else units.
    unbalanced : {"error", "drop"}
        What happens to units that lack a period; those dropped are counted.
    random_state : int
        For the critical value of the simultaneous band.

    Returns
    -------
    PanelEffectResult
        ``to_frame()`` is the event study, ``cells()`` the effects by group and period.

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        For repeated rows of a unit and period, treatment that turns off, units treated from the start, covariates or
        clusters that change within a unit, units without all periods, no group to compare with, and what values miss.

    Notes
    -----
    Errors come from influence functions, summed over clusters, and count the estimation of covariate models and of
    the groups' shares in averages. They are large-sample errors without a degrees-of-freedom factor for units (as in
    the R package did), with G / (G - 1) for clusters. Few treated units or clusters make intervals too narrow: with
    5, 10 and 20 treated regions of twice as many, 95% intervals covered 89%, 93% and 94% in simulations. A group, or
    its controls, of a single unit or cluster has no honest error: NaN.

    The interval is right only where trends would have been parallel. The test of the trends before treatment cannot
    show that they would have stayed so, and misses small differences (Roth 2022, AER: Insights 4).

    Examples
    --------
    >>> frame = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3, 4, 4], "week": [1, 2] * 4, "mailed": [0, 1, 0, 1, 0, 0, 0, 0],
    ...                       "spend": [5.0, 9.0, 6.0, 11.0, 1.0, 2.0, 2.0, 4.0]})
    >>> effect = difference_in_differences(frame, unit="user", time="week", outcome="spend", treatment="mailed")
    >>> effect.estimate, round(effect.std_error, 4)
    (3.0, 0.5)
    """
    design = _design(control_group, base_period, anticipation, method)
    _choice(aggregation, AGGREGATIONS, "aggregation")
    level = check_confidence_level(confidence_level)
    if isinstance(covariates, str):
        raise ColumnError(
            f"covariates is the text {covariates!r}; expected a list of columns, such as [{covariates!r}]."
        )
    names = Names(unit, time, outcome, treatment, first_treated, tuple(covariates), clusters)
    table = panel_table(frame, names, control, _choice(unbalanced, _UNBALANCED, "unbalanced"))
    if not design.not_yet_treated and not (table.panel.group == NEVER).any():
        raise TreatmentError(
            "every unit is treated in the end, so that none is never treated. Use control_group='not_yet_treated'."
        )
    cells = group_time_effects(table.panel, design)
    return _result(table, cells, names, design, aggregation, method, level, random_state)


def _choice(value: str, known: Sequence[str], name: str) -> str:
    if value not in known:
        raise CausalRecError(f"{name} is {value!r}; expected one of {list_some(known)}.{nearest(str(value), known)}")
    return value


def _design(control_group: str, base_period: str, anticipation: int, method: str) -> Design:
    _choice(control_group, CONTROL_GROUPS, "control_group")
    _choice(base_period, _BASES, "base_period")
    _choice(method, _METHODS, "method")
    if isinstance(anticipation, bool) or int(anticipation) != anticipation or anticipation < 0:
        raise CausalRecError(f"anticipation is {anticipation}; expected a number of periods, 0 or more.")
    return Design(
        control_group == "not_yet_treated", base_period == "universal", int(anticipation), method == "regression"
    )


# --- from cells to a result -----------------------------------------------------------------------------------------


class _Errors(NamedTuple):
    """Covariances of sums over clusters."""

    clusters: IntArray | None

    def sums(self, influence: FloatArray) -> FloatArray:
        """Influences (units, k) by cluster, scaled so that their squares add up to a variance."""
        if self.clusters is None:
            return influence
        n = int(self.clusters.max()) + 1
        by = np.column_stack([np.bincount(self.clusters, weights=column, minlength=n) for column in influence.T])
        return np.asarray(by * math.sqrt(n / (n - 1)) if n > 1 else np.full_like(by, np.nan))

    def covariance(self, influence: FloatArray) -> FloatArray:
        sums = self.sums(influence)
        return np.asarray(sums.T @ sums)

    def count(self, chosen: AnyArray) -> int:
        """Clusters of some units."""
        return int(chosen.sum() if self.clusters is None else len(np.unique(self.clusters[chosen])))


def _result(
    table: Table,
    cells: Cells,
    names: Names,
    design: Design,
    aggregation: str,
    method: str,
    level: float,
    random_state: int,
) -> PanelEffectResult:
    group, errors = table.panel.group, _Errors(table.clusters)
    honest = _honest(cells, group, design, errors)
    post = cells.time >= cells.group
    if not post.any():
        raise CausalRecError(
            "no treated period has units to compare with: every unit is treated by then. Use never treated controls, "
            "or periods before the last group is treated."
        )
    groups = np.unique(cells.group[post])
    of_groups = [weighted_effect(cells, post & (cells.group == g), group) for g in groups]
    overall = {
        "simple": weighted_effect(cells, post, group),
        "group": _over_groups(of_groups, groups, group),
        "event": mean_effect([weighted_effect(cells, post & (cells.time - cells.group == e), group)
                              for e in np.unique((cells.time - cells.group)[post])]),
        "calendar": mean_effect([weighted_effect(cells, post & (cells.time == t), group)
                                 for t in np.unique(cells.time[post])]),
    }  # fmt: skip
    sure = bool(honest[post].all())
    found = {name: (part[0], _error(part[1], errors, sure)) for name, part in overall.items()}
    z = float(stats.norm.isf((1 - level) / 2))
    twfe, twfe_influence, negative = two_way_fixed_effects(table.panel.y, group)
    base = effect_result(*found[aggregation], confidence_level=level, n_obs=table.panel.y.size,
                         method=_described(design, aggregation, method, names), estimand="att")  # fmt: skip
    by_group = [_error(part[1], errors, bool(honest[post & (cells.group == g)].all()))
                for g, part in zip(groups, of_groups, strict=True)]  # fmt: skip
    labels = _labels(table.times)
    return PanelEffectResult(
        **vars(base), outcome=names.outcome,
        control_group="not_yet_treated" if design.not_yet_treated else "never_treated",
        base_period="universal" if design.universal else "varying", aggregation=aggregation,
        anticipation=design.anticipation, n_units=len(group), n_treated=int((group < NEVER).sum()),
        n_control=int((group == NEVER).sum()), n_periods=len(table.times),
        n_groups=len(np.unique(group[group < NEVER])),
        n_clusters=errors.count(group >= 0), n_dropped=table.n_dropped, n_without_control=cells.n_without_control,
        simple=found["simple"][0], simple_error=found["simple"][1], by_group=found["group"][0],
        by_group_error=found["group"][1], by_event=found["event"][0], by_event_error=found["event"][1],
        by_calendar=found["calendar"][0], by_calendar_error=found["calendar"][1],
        **_pretrend(cells, design, honest, errors, errors.count(group >= 0)), twfe_estimate=twfe,
        twfe_error=_error(twfe_influence, errors, sure), twfe_negative=negative, group=labels[groups],
        group_n=np.array([(group == g).sum() for g in groups], dtype=np.int64),
        group_estimate=np.array([part[0] for part in of_groups]), group_error=np.array(by_group),
        **_event_study(cells, group, honest, errors, z, level, random_state), cell_group=labels[cells.group],
        cell_time=labels[cells.time], cell_estimate=cells.estimate,
        cell_error=np.where(honest, np.sqrt((errors.sums(cells.influence) ** 2).sum(axis=0)), np.nan),
    )  # fmt: skip


def _described(design: Design, aggregation: str, method: str, names: Names) -> str:
    adjusted = f", {method.replace('_', ' ')} for {len(names.covariates)} covariates" if names.covariates else ""
    against = "units not yet treated" if design.not_yet_treated else "units never treated"
    by = names.clusters or names.unit
    return f"difference-in-differences, {_WORDS[aggregation]}; against {against}{adjusted}; errors clustered by {by}"


def _over_groups(parts: list[tuple[float, FloatArray]], groups: IntArray, group: IntArray) -> tuple[float, FloatArray]:
    """Mean of the groups' effects, weighted by their units; the shares are estimated."""
    sizes = np.array([(group == g).sum() for g in groups], dtype=np.float64)
    share = sizes / sizes.sum()
    estimate = float(sum(s * p[0] for s, p in zip(share, parts, strict=True)))
    influence = np.zeros(len(group))
    for g, s, part in zip(groups, share, parts, strict=True):
        influence += s * part[1] + (group == g) * ((part[0] - estimate) / sizes.sum())
    return estimate, influence


def _honest(cells: Cells, group: IntArray, design: Design, errors: _Errors) -> AnyArray:
    """Cells whose treated and control units come from two clusters at least: one alone shows no spread."""

    def enough(g: int, latest: int, reference: bool) -> bool:
        others = reference or errors.count(controls(group, g, latest, design)) > 1
        return others and errors.count(group == g) > 1

    keys = list(zip(cells.group.tolist(), cells.latest.tolist(), cells.reference.tolist(), strict=True))
    known = {key: enough(*key) for key in set(keys)}
    return np.array([known[key] for key in keys])


def _error(influence: FloatArray, errors: _Errors, sure: bool) -> float:
    return math.sqrt(float(errors.covariance(influence[:, None])[0, 0])) if sure else float("nan")


def _pretrend(cells: Cells, design: Design, honest: AnyArray, errors: _Errors, n_clusters: int) -> dict[str, Any]:
    """Wald test that all effects before treatment and anticipation are zero."""
    chosen = (cells.time < cells.group - design.anticipation) & ~cells.reference
    df = int(chosen.sum())
    statistic = float("nan")
    if 0 < df < n_clusters and honest[chosen].all():
        V = errors.covariance(cells.influence[:, chosen])
        scale = np.sqrt(np.diag(V))
        if (scale > 0).all():
            values, vectors = np.linalg.eigh(V / np.outer(scale, scale))
            if values[0] > 1e-9 * values[-1]:
                statistic = float((((cells.estimate[chosen] / scale) @ vectors) ** 2 / values).sum())
    return {
        "pretrend_statistic": statistic, "pretrend_df": df,
        "pretrend_pvalue": float(stats.chi2.sf(statistic, df)) if df else float("nan"),
    }  # fmt: skip


def _event_study(
    cells: Cells, group: IntArray, honest: AnyArray, errors: _Errors, z: float, level: float, random_state: int
) -> dict[str, Any]:
    """Effects by time since treatment, each with its interval, and the band that holds for all at once."""
    since = cells.time - cells.group
    events = np.unique(since)
    parts = [weighted_effect(cells, since == e, group) for e in events]
    estimate, influence = np.array([p[0] for p in parts]), np.column_stack([p[1] for p in parts])
    reference = np.array([cells.reference[since == e].all() for e in events])
    sure = np.array([honest[since == e].all() for e in events])
    V = errors.covariance(influence)
    error = np.where(sure, np.sqrt(np.diag(V)), np.nan)
    error[reference] = 0.0
    critical = _critical(V[np.ix_(sure & ~reference, sure & ~reference)], level, random_state)
    return {
        "event": events.astype(np.int64), "event_estimate": estimate, "event_error": error,
        "event_low": estimate - z * error, "event_high": estimate + z * error,
        "event_band_low": estimate - critical * error, "event_band_high": estimate + critical * error,
        "critical_value": critical,
    }  # fmt: skip


def _critical(V: FloatArray, level: float, random_state: int) -> float:
    """Quantile of the largest of correlated normal variables, by simulation: the sup-t band of Callaway and Sant'Anna.

    Montiel Olea and Plagborg-Møller 2019, Journal of Applied Econometrics 34, algorithm 1.
    """
    scale = np.sqrt(np.diag(V))
    if not len(scale) or not np.isfinite(V).all() or not (scale > 0).all():
        return float("nan")
    values, vectors = np.linalg.eigh(V / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = np.random.default_rng(random_state).standard_normal((_DRAWS, len(scale))) @ root.T
    return float(np.quantile(np.abs(draws).max(axis=1), level))


def _labels(times: AnyArray) -> AnyArray:
    """Numbers as they are, dates as text."""
    if np.issubdtype(times.dtype, np.datetime64):
        return np.array([str(pd.Timestamp(t).date() if pd.Timestamp(t) == pd.Timestamp(t).normalize()
                             else pd.Timestamp(t)) for t in times], dtype=object)  # fmt: skip
    return times
