"""What following a policy tree is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_weights
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.nuisance.folds import check_groups
from causalrec.policy._groups import group_means
from causalrec.policy._tree_nodes import Nodes
from causalrec.results import NAN, PolicyTreeResult


def as_arm_scores(scores: Any, sample_weight: Any, clusters: Any) -> ArmScores:
    """Scores of arms from nuisances, or from a table of shape (n, k), control first; a frame's columns name the arms.

    Raises
    ------
    CausalRecError
        For another shape, missing values, or weights and clusters besides scores that bring theirs.
    """
    if isinstance(scores, ArmScores | Nuisances):
        if sample_weight is not None or clusters is not None:
            raise CausalRecError(
                "sample_weight and clusters go with a table of scores; arm_scores and nuisances bring theirs. Pass "
                "them there."
            )
        if isinstance(scores, ArmScores):
            return scores
        arms = np.empty(len(scores.labels), dtype=object)
        arms[:] = scores.labels
        return arm_scores(scores.y, arms[scores.codes], nuisance=scores)
    if not isinstance(scores, pd.DataFrame) and hasattr(scores, "to_pandas"):
        scores = scores.to_pandas()  # Polars
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise CausalRecError(
            f"scores has shape {table.shape}; expected (n, k): a column for each arm, control first, such as "
            "arm_scores(...).table() or nuisance.scores."
        )
    n, k = table.shape
    bad = int((~np.isfinite(table)).any(axis=1).sum())
    if bad:
        raise CausalRecError(f"scores are missing or infinite in {bad} of {n} rows; every row needs those of all arms.")
    weight = check_weights(sample_weight, n_rows=n)
    labels: tuple[Any, ...] = tuple(scores.columns) if isinstance(scores, pd.DataFrame) else tuple(range(k))
    return ArmScores(
        y=np.zeros(n), codes=np.full(n, -1), labels=labels,
        weight=weight * (np.count_nonzero(weight) / weight.sum()), propensity=np.ones((n, k)), outcomes=table,
        clusters=check_groups(clusters, n_rows=n, name="clusters", least=1), means=table.mean(axis=0),
        shares_estimated=False, method="scores as given",
    )  # fmt: skip


def net_value(scores: ArmScores, shares: FloatArray, worth: float, costs: FloatArray) -> tuple[float, FloatArray]:
    """Mean of worth times outcome less costs under shares of arms of shape (n, k), and its influence, shape (n,)."""
    outcome, influence = scores.average(shares)
    spent = shares @ costs
    mean = float(scores.weight @ spent) / scores.n_obs
    return worth * outcome - mean, worth * influence - scores.weight * (spent - mean)


def tree_result(
    nodes: Nodes,
    scores: ArmScores,
    codes: IntArray,
    place: IntArray,
    *,
    worth: float,
    costs: FloatArray,
    level: float,
    evaluated: str,
    raised: float,
    method: str,
) -> PolicyTreeResult:
    """The value of giving rows the arms ``codes``, with errors times ``raised``, and what the tree does in its leaves.

    ``place`` is each row's leaf; ``codes`` may be the arms of other trees.
    """
    z = float(stats.norm.isf((1 - level) / 2))
    k, flatters = len(scores.labels), evaluated == "training rows"
    arms = np.eye(k)
    value, influence = net_value(scores, arms[codes], worth, costs)
    gain, errors = np.empty(k), np.empty(k)
    for code in range(k):
        other, of_other = net_value(scores, np.broadcast_to(arms[code], (len(codes), k)), worth, costs)
        gain[code] = value - other
        errors[code] = NAN if flatters else raised * scores.error(influence - of_other)
    error = NAN if flatters else raised * scores.error(influence)
    with np.errstate(divide="ignore", invalid="ignore"):
        pvalue = np.where(errors > 0, 2 * stats.norm.sf(np.abs(gain) / errors), NAN)
    return PolicyTreeResult(
        value=value, std_error=error, ci_low=value - z * error, ci_high=value + z * error, depth=nodes.depth,
        n_leaves=nodes.n_leaves, confidence_level=level, n_obs=scores.n_obs, evaluated=evaluated, method=method,
        arm=np.array([str(label) for label in scores.labels]),
        arm_share=np.bincount(codes, weights=scores.weight, minlength=k) / scores.weight.sum(), gain=gain,
        gain_std_error=errors, gain_ci_low=gain - z * errors, gain_ci_high=gain + z * errors, gain_pvalue=pvalue,
        **_of_nodes(nodes, scores, place, z if evaluated == "held-out rows" else NAN, worth, costs),
    )  # fmt: skip


def _of_nodes(
    nodes: Nodes, scores: ArmScores, place: IntArray, z: float, worth: float, costs: FloatArray
) -> dict[str, Any]:
    """Rules, sizes and gains of all nodes, as fields of a result."""
    m, k = len(nodes), len(scores.labels)
    rows, share = np.zeros(m, dtype=np.int64), np.zeros(m)
    gain, half, compared = np.full(m, NAN), np.full(m, NAN), nodes.arms
    for node in range(m):
        inside = np.isin(place, nodes.below(node)).astype(np.int64)
        found = [group_means(scores, inside, 2, code) for code in range(1, k)]
        net = np.array([worth * of.effect[1] - costs[code] for code, of in enumerate(found, start=1)])
        if not compared[node]:
            compared[node] = 1 + int(np.argmax(np.nan_to_num(net, nan=-np.inf)))
        chosen = compared[node] - 1
        rows[node], share[node] = found[0].n[1], found[0].share[1]
        gain[node], half[node] = net[chosen], z * worth * found[chosen].std_error[1]
    names = np.array([str(label) for label in scores.labels])
    return {
        "node_parent": nodes.parents, "node_side": np.array([each.side for each in nodes.placed]),
        "node_rule": np.array([nodes.rule(node) for node in range(m)]), "node_arm": names[nodes.arms],
        "node_compared": names[compared], "node_n": rows, "node_share": share, "node_gain": gain,
        "node_ci_low": gain - half, "node_ci_high": gain + half,
    }  # fmt: skip
