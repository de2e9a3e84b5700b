"""Tests in an order: families that guard others, fixed sequences, and graphs that pass significance on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError

_Key = TypeVar("_Key", bound=Hashable)
_ROUNDING = 1e-9


def gatekeeping(families: Sequence[Mapping[_Key, float]], method: str | Sequence[str] = "holm") -> dict[_Key, float]:
    """Serial gatekeeping: a family is tested only if all of the families before it were rejected in full.

    Each is tested at the full level by its own method, so the first family that holds a true null carries all the risk:
    a false rejection later needs one there (Westfall and Krishen 2001). An adjusted p-value is the largest of its own
    within the family and of all in the families before. Families of one test each are a fixed sequence.

    Parameters
    ----------
    families : sequence of mappings of name to p-value
        In their order, fixed before the data.
    method : str or sequence of str
        A family-wise method of :func:`adjust_pvalues`, for all or one for each.

    Returns
    -------
    dict of name to adjusted p-value

    Raises
    ------
    CausalRecError
        For an empty family, a name in two of them, a missing p-value, or a method that does not keep the family-wise
        rate.

    Examples
    --------
    >>> gatekeeping([{"revenue": 0.01, "orders": 0.02}, {"minutes": 0.001, "visits": 0.2}])
    {'revenue': 0.02, 'orders': 0.02, 'minutes': 0.02, 'visits': 0.2}
    """
    methods = [method] * len(families) if isinstance(method, str) else list(method)
    _check_families(families, methods)
    found: dict[_Key, float] = {}
    gate = 0.0
    for family, how in zip(families, methods, strict=True):
        own = {name: max(gate, p) for name, p in adjust_pvalues(family, how).items()}
        found |= own
        gate = max(own.values())
    return found


def _check_families(families: Sequence[Mapping[Any, float]], methods: Sequence[str]) -> None:
    if not families or not all(isinstance(f, Mapping) and f for f in families):
        raise CausalRecError(
            "families is empty, holds an empty one, or something that is no mapping; expected mappings of name to "
            "p-value in their order, such as [{'revenue': 0.01}, {'minutes': 0.2}]."
        )
    if len(methods) != len(families):
        raise CausalRecError(f"found {len(methods)} methods for {len(families)} families; give one, or one for each.")
    names = [name for family in families for name in family]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise CausalRecError(f"{list_some(twice)} is in more than one family; each test has one place.")
    absent = [name for family in families for name, p in family.items() if not p >= 0]
    if absent:
        raise CausalRecError(f"{list_some(absent)} has no p-value >= 0; what comes after it could never be tested.")
    weak = [m for m in methods if m in ("bh", "by", "fdr_bh", "fdr_by")]
    if weak:
        raise CausalRecError(
            f"method is {weak[0]!r}, which keeps the false-discovery rate; a gate must keep the family-wise rate: take "
            "'holm'."
        )


def graphical_test(
    pvalues: Mapping[_Key, float], weights: Mapping[_Key, float], transitions: Mapping[_Key, Mapping[_Key, float]]
) -> dict[_Key, float]:
    """Adjusted p-values of a Bonferroni-based graph (Bretz, Maurer, Brannath and Posch 2009, algorithms 1 and 2).

    The level is divided by ``weights``. When a hypothesis is rejected its share goes on along ``transitions``, and the
    graph is joined up without it. This is closed testing by weighted Bonferroni tests, so it keeps the family-wise rate
    under any dependence. Holm's method, fixed sequences, fallback and parallel gatekeeping are graphs.

    Parameters
    ----------
    pvalues : mapping of name to p-value
    weights : mapping of name to float
        >= 0, summing to at most 1; 0 for those left out.
    transitions : mapping of name to mapping of name to float
        The shares that are passed on, >= 0, of each summing to at most 1; none to itself.

    Returns
    -------
    dict of name to adjusted p-value

    Raises
    ------
    CausalRecError
        For unknown names, p-values outside [0, 1], or shares that are negative or sum to more than 1.

    Examples
    --------
    Two primaries that share the level, each of which passes it to its own secondary when it is rejected:

    >>> p = {"minutes": 0.01, "revenue": 0.02, "visits": 0.012, "orders": 0.5}
    >>> passing_on = {"minutes": {"visits": 1}, "revenue": {"orders": 1}}
    >>> graphical_test(p, {"minutes": 0.5, "revenue": 0.5}, passing_on)
    {'minutes': 0.02, 'revenue': 0.04, 'visits': 0.024, 'orders': 1.0}
    """
    names = list(pvalues)
    if not names:
        raise CausalRecError("pvalues is empty; expected a p-value for each hypothesis of the graph.")
    p, w, g = _checked_graph(names, pvalues, weights, transitions)
    adjusted = np.ones(len(names))
    left, worst = np.ones(len(names), dtype=bool), 0.0
    while (left & (w > 0)).any():
        ratio = np.full(len(names), np.inf)
        np.divide(p, w, out=ratio, where=left & (w > 0))
        j = int(np.argmin(ratio))
        worst = max(worst, min(float(ratio[j]), 1.0))
        adjusted[j], left[j] = worst, False
        w, g = _without(j, w, g)
    return dict(zip(names, adjusted.tolist(), strict=True))


def _without(j: int, w: FloatArray, g: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The graph without one hypothesis: its weight goes on, ways through it become direct."""
    w = w + w[j] * g[j]
    back = g[:, j] * g[j]  # from each l to j and back to l
    joined = g + np.outer(g[:, j], g[j])
    kept = np.where(back < 1 - _ROUNDING, 1 - back, np.inf)
    g = joined / kept[:, None]
    np.fill_diagonal(g, 0.0)
    g[j], g[:, j], w[j] = 0.0, 0.0, 0.0
    return w, g


def _checked_graph(
    names: Sequence[Any], pvalues: Mapping[Any, float], weights: Mapping[Any, float], transitions: Mapping[Any, Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    used = [*weights, *transitions, *(to for each in transitions.values() for to in each)]
    strange = [name for name in dict.fromkeys(used) if name not in pvalues]
    if strange:
        raise CausalRecError(f"the graph names {list_some(strange)}, which has no p-value; found {list_some(names)}.")
    p = np.array([pvalues[name] for name in names], dtype=np.float64)
    w = np.array([weights.get(name, 0.0) for name in names], dtype=np.float64)
    g = np.array([[transitions.get(a, {}).get(b, 0.0) for b in names] for a in names], dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise CausalRecError(f"pvalues are {list_some(p.tolist())}; expected numbers in [0, 1].")
    for what, shares in (("weights", w[None]), ("transitions", g)):
        sums = shares.sum(axis=1)
        if not (shares >= 0).all() or not (sums <= 1 + _ROUNDING).all():
            raise CausalRecError(
                f"{what} hold a share below 0, or sum to {sums.max():g}; expected shares >= 0 that sum to at most 1."
            )
    if np.diag(g).any():
        raise CausalRecError("transitions pass a share from a hypothesis to itself; pass it to others, or nowhere.")
    return p, w, g
