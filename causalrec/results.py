"""Results: frozen, flat, and the only thing that plots, tracking and reports see.

Scalar fields map one to one onto MLflow metrics and table columns
(:meth:`Result.to_dict`). Results that are tables by nature (a curve, a balance
table) keep their columns as arrays and give them with :meth:`Result.to_frame`.
An estimate without an honest standard error holds NaN there, and ``method`` says why.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray, Scalar
from causalrec.exceptions import CausalRecError

NAN = float("nan")


def format_number(value: object) -> str:
    """Write a number for a person: four significant digits, NaN as a dash, tiny p-values kept."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if number == 0 or 1e-3 <= abs(number) < 1e4:
        return f"{number:.4g}"
    return f"{number:,.0f}" if 1e4 <= abs(number) < 1e12 else f"{number:.2e}"


def format_pvalue(pvalue: float) -> str:
    """Write a p-value; one too small for a double is not zero."""
    return "<1e-300" if pvalue == 0 else format_number(pvalue)


def format_metric(estimand: str) -> str:
    """Write the name of a ranking metric: ``ndcg_at_10`` as NDCG@10, recall_at_5 as recall@5.

    Examples
    --------
    >>> format_metric("ndcg_at_10"), format_metric("recall_at_5")
    ('NDCG@10', 'recall@5')
    """
    name, at, k = estimand.partition("_at_")
    return f"{name.upper() if name in ('ndcg', 'map') else name}@{k}" if at else estimand


def format_percent(value: float) -> str:
    """Write a share as a signed percentage, NaN as a dash."""
    return "–" if math.isnan(value) else f"{value:+.2%}"


def format_level(confidence_level: float) -> str:
    """Write a confidence level as ``95%`` or ``99.5%``, never rounded up to 100%."""
    return f"{100 * confidence_level:.10g}%"


def format_interval(low: float, high: float) -> str:
    """Write an interval as ``[low, high]``, or a dash where there is none."""
    if math.isnan(low) and math.isnan(high):
        return "–"
    return f"[{format_number(low)}, {format_number(high)}]"


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results."""

    def to_dict(self) -> dict[str, Scalar]:
        """The scalar fields by name; arrays are left to :meth:`to_frame`."""
        return {
            f.name: value.item() if isinstance(value, np.generic) else value
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), str | int | float | bool | np.generic)
        }

    def to_frame(self) -> pd.DataFrame:
        """One row, a column per scalar field; tables by nature give their own rows."""
        return pd.DataFrame([self.to_dict()])

    def __str__(self) -> str:
        rows = {name: format_number(value) for name, value in self.to_dict().items()}
        width = max(map(len, rows))
        body = "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
        return f"{type(self).__name__}\n{body}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(format_number(value))}</td></tr>"
            for name, value in self.to_dict().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"


@dataclass(frozen=True, eq=False)
class EffectResult(Result):
    """An estimate with its uncertainty.

    Attributes
    ----------
    estimate, std_error, ci_low, ci_high : float
        In the outcome's unit.
    pvalue : float
        Of the null that the estimand is zero; two-sided unless ``method`` says otherwise.
    confidence_level : float
    n_obs : int
        Rows (or units) used.
    method, estimand : str
        How it was computed, and what of: ``"ate"``, ``"att"``, ``"qini"``, ``"ndcg_at_10"``, …
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    pvalue: float
    confidence_level: float
    n_obs: int
    method: str
    estimand: str

    def __float__(self) -> float:
        return float(self.estimate)

    def __str__(self) -> str:
        return (
            f"{self.estimand} = {format_number(self.estimate)} "
            f"{format_level(self.confidence_level)} CI {format_interval(self.ci_low, self.ci_high)}, "
            f"p = {format_pvalue(self.pvalue)}, n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class ABResult(EffectResult):
    """The effect of one arm of an experiment against control on one metric: treatment - control."""

    metric: str
    control: str
    treatment: str
    control_mean: float
    treatment_mean: float
    n_control: int
    n_treatment: int
    statistic: float
    df: float
    relative_effect: float
    relative_ci_low: float
    relative_ci_high: float

    def __str__(self) -> str:
        return (
            f"{self.metric}: {self.treatment} − {self.control} = {format_number(self.estimate)} "
            f"{format_level(self.confidence_level)} CI {format_interval(self.ci_low, self.ci_high)}, relative "
            f"{format_percent(self.relative_effect)} "
            f"[{format_percent(self.relative_ci_low)}, {format_percent(self.relative_ci_high)}], "
            f"p = {format_pvalue(self.pvalue)}, n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class SampleRatioResult(Result):
    """Whether the arms have the sizes that the design asked for."""

    pvalue: float
    statistic: float
    df: int
    n_obs: int
    threshold: float
    mismatch: bool
    method: str
    arms: tuple[str, ...] = field(default=())
    counts: tuple[int, ...] = field(default=())
    expected: tuple[float, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """A row per arm: observed and expected counts."""
        return pd.DataFrame({"arm": self.arms, "count": self.counts, "expected": self.expected})


@dataclass(frozen=True, eq=False)
class RankingResult(EffectResult):
    """A ranking metric averaged over queries that have at least one positive."""

    model: str
    k: int
    n_without_positives: int


@dataclass(frozen=True, eq=False)
class RefutationResult(Result):
    """What an estimator finds where there is nothing to find.

    Attributes
    ----------
    kind : str
        ``"placebo_treatment"``, …
    estimate : float
        The effect that was to be refuted.
    placebo_effect, placebo_std : float
        Mean and standard deviation of the effects under the placebo.
    ci_low, ci_high : float
        Central quantiles of the placebo effects.
    pvalue : float
        Two-sided Monte-Carlo p-value of the null that the placebo effects centre on zero.
        A small one means that the estimator finds effects where there are none.
    estimate_pvalue : float
        Share of placebo effects at least as far from zero as the estimate, ``(1 + #) / (1 + n)``.
    draws : array of shape (n_simulations,)
    """

    kind: str
    estimate: float
    placebo_effect: float
    placebo_std: float
    ci_low: float
    ci_high: float
    pvalue: float
    estimate_pvalue: float
    confidence_level: float
    n_simulations: int
    method: str
    draws: FloatArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class CurveResult(Result):
    """A curve over the share of units targeted, best scores first.

    Attributes
    ----------
    kind : str
        ``"qini"`` or ``"uplift"``.
    fraction : array of shape (m,)
        Share of units targeted, from 0 to 1.
    value, ci_low, ci_high : arrays of shape (m,)
        Gain per unit of the whole population, pointwise interval (NaN where none).
    random : array of shape (m,)
        The same for a random order.
    label : str
        Name of the scorer.
    """

    kind: str
    label: str
    confidence_level: float
    n_obs: int
    fraction: FloatArray = field(repr=False)
    value: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    random: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per point of the curve."""
        names = ("fraction", "value", "ci_low", "ci_high", "random")
        return pd.DataFrame({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class UpliftBinsResult(Result):
    """Predicted and observed effect in equal groups of units, best scores first."""

    confidence_level: float
    n_obs: int
    bin: IntArray = field(repr=False)
    n: IntArray = field(repr=False)
    predicted: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per group."""
        names = ("bin", "n", "predicted", "effect", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class BalanceResult(Result):
    """Covariate balance between treated and control units, before and after adjustment.

    Standardised mean differences divide by the standard deviation that ``denominator`` names,
    computed before adjustment in both columns, so that the two can be compared.
    """

    n_obs: int
    max_abs_smd_before: float
    max_abs_smd_after: float
    threshold: float
    balanced: bool
    denominator: str
    method: str
    covariate: AnyArray = field(repr=False)
    smd_before: FloatArray = field(repr=False)
    smd_after: FloatArray = field(repr=False)
    variance_ratio_before: FloatArray = field(repr=False)
    variance_ratio_after: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate (a row per level of a categorical one)."""
        names = ("covariate", "smd_before", "smd_after", "variance_ratio_before", "variance_ratio_after")
        return pd.DataFrame({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class OverlapResult(Result):
    """How far the propensities of treated and control units lie over each other."""

    n_obs: int
    min_propensity: float
    max_propensity: float
    share_outside_common_support: float
    method: str
    edges: FloatArray = field(repr=False)
    treated: FloatArray = field(repr=False)
    control: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per histogram bin: its limits and the share of each arm in it."""
        return pd.DataFrame(
            {"low": self.edges[:-1], "high": self.edges[1:], "treated": self.treated, "control": self.control}
        )


@dataclass(frozen=True, eq=False)
class IdentificationResult(Result):
    """What must be held fixed for the effect to be causal, in DoWhy's terms and in words."""

    estimand: str
    treatment: str
    outcome: str
    backdoor_variables: tuple[str, ...]
    assumptions: tuple[str, ...]
    expression: str

    def __str__(self) -> str:
        adjust = ", ".join(self.backdoor_variables) or "nothing (randomised)"
        lines = [f"Effect of {self.treatment} on {self.outcome} ({self.estimand}); adjust for: {adjust}."]
        return "\n".join([*lines, *(f"  assumes {text}" for text in self.assumptions)])


def dump_results(results: Mapping[str, Result | Sequence[Result]]) -> str:
    """Write named results as JSON that :func:`load_results` reads back unchanged (floats to the bit).

    Examples
    --------
    >>> effect = EffectResult(0.5, 0.1, 0.3, 0.7, 1e-9, 0.95, 100, "Welch", "ate")
    >>> print(load_results(dump_results({"effect": effect}))["effect"])
    ate = 0.5 95% CI [0.3, 0.7], p = 1.00e-09, n = 100 (Welch)
    """

    def encode(result: Result) -> dict[str, Any]:
        values = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        plain = {k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in values.items()}
        return {"result": type(result).__name__, **plain}

    coded = {k: encode(v) if isinstance(v, Result) else [encode(r) for r in v] for k, v in results.items()}
    return json.dumps(coded, indent=1, ensure_ascii=False)


def load_results(text: str) -> dict[str, Any]:
    """Read results written by :func:`dump_results`: a result, or a list of results, per name.

    Raises
    ------
    CausalRecError
        For text that is not JSON, or results that this version does not know or that have other fields.
    """
    try:
        coded = json.loads(text)
    except json.JSONDecodeError as error:
        raise CausalRecError(f"the results are not JSON ({error}); expected the text of dump_results.") from error
    return {k: _decode(v) if isinstance(v, dict) else [_decode(item) for item in v] for k, v in coded.items()}


def _decode(item: Mapping[str, Any]) -> Result:
    known = {cls.__name__: cls for cls in _subclasses(Result)}
    name = item.get("result")
    if name not in known:
        raise CausalRecError(f"found a result of kind {name!r}; expected one of {', '.join(sorted(known))}.")
    cls = known[name]
    names = {f.name for f in dataclasses.fields(cls)}
    if set(item) - {"result"} != names:
        odd = sorted(names.symmetric_difference(set(item) - {"result"}))
        raise CausalRecError(
            f"{name}: the fields {', '.join(odd)} are missing or unknown. Another version of causalrec wrote this; "
            "run the stage again."
        )
    hints = typing.get_type_hints(cls)
    return cls(**{field_name: _typed(item[field_name], hints[field_name]) for field_name in names})


def _typed(value: Any, hint: Any) -> Any:
    """A JSON value as what the field declares: an empty array keeps its type, a tuple is not a list."""
    if not isinstance(value, list):
        return value
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    return np.asarray(value, dtype={FloatArray: np.float64, IntArray: np.int64}.get(hint))


def _subclasses(cls: type[Result]) -> list[type[Result]]:
    direct = cls.__subclasses__()
    return direct + [below for child in direct for below in _subclasses(child)]
