"""What the studies of average effects share: names for readers, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping

from causalrec.results import AdjustedEffect, EffectComparisonResult

OWN: Mapping[str, str] = {
    "difference_in_means": "no adjustment",
    "ols": "regression",
    "lin": "regression by arm",
    "standardisation": "standardisation",
    "matching": "matching",
    "full_matching": "full matching",
    "subclassification": "subclasses of the score",
    "ipw": "weighting by the score",
    "overlap_weights": "overlap weights",
    "entropy_balancing": "entropy balancing",
    "aipw": "doubly robust, trees",
    "aipw_parametric": "doubly robust, parametric",
    "g_estimation": "g-estimation",
}
LABELS: Mapping[str, str] = {**OWN, "dml": "double machine learning", "causal_forest": "causal forest"}  # by EconML


def labelled(found: EffectComparisonResult) -> dict[str, AdjustedEffect]:
    """The effects of a comparison by the methods' names for readers."""
    return {LABELS.get(n, n): e for n, e in zip(found.names, found.effects, strict=True)}


def number(value: float, digits: int = 2) -> str:
    """With thousands apart, a fixed number of digits and a true minus."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "" if float(text.replace(",", "")) == 0 else "−")


def between(low: float, high: float, digits: int = 2) -> str:
    """An interval."""
    return f"[{number(low, digits)}, {number(high, digits)}]"
