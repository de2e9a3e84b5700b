"""A policy tree: its nodes, and what following it is worth on rows that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import Result, format_level, pvalue_text, written_interval


@dataclass(frozen=True, eq=False)
class PolicyTreeResult(Result):
    """What a policy tree is worth, beside giving everybody one arm, and what it does in each of its leaves.

    All values are net: value times outcome, less what the arms cost.

    Attributes
    ----------
    value, std_error, ci_low, ci_high : float
        Mean per unit of the population under the tree.
    evaluated : str
        ``"held-out rows"``, ``"cross-validated"`` (trees of the same kind, each on rows that it did not learn from), or
        ``"training rows"``, whose numbers flatter.
    arm : array of shape (k,)
        Control first.
    arm_share : array of shape (k,)
        Share of the population that gets it.
    gain, gain_std_error, gain_ci_low, gain_ci_high, gain_pvalue : arrays of shape (k,)
        Value of the tree less that of giving everybody the arm, from the same rows (paired).
    node_parent : int array of shape (m,)
        Place of the node above; -1 for the root, which comes first. A parent stands before its children.
    node_side : array of shape (m,)
        ``"yes"`` or ``"no"``: the answer to the parent's rule.
    node_rule : array of shape (m,)
        Empty for a leaf.
    node_arm : array of shape (m,)
        What everybody in the node would get, were it a leaf.
    node_compared : array of shape (m,)
        The arm that ``node_gain`` is of: the node's, or, where it is control, the best of the others.
    node_n, node_share : arrays of shape (m,)
    node_gain, node_ci_low, node_ci_high : arrays of shape (m,)
        What the compared arm brings over control among the node's people; NaN ends where the rows taught the tree.
    """

    value: float
    std_error: float
    ci_low: float
    ci_high: float
    depth: int
    n_leaves: int
    confidence_level: float
    n_obs: int
    evaluated: str
    method: str
    arm: AnyArray = field(repr=False)
    arm_share: FloatArray = field(repr=False)
    gain: FloatArray = field(repr=False)
    gain_std_error: FloatArray = field(repr=False)
    gain_ci_low: FloatArray = field(repr=False)
    gain_ci_high: FloatArray = field(repr=False)
    gain_pvalue: FloatArray = field(repr=False)
    node_parent: IntArray = field(repr=False)
    node_side: AnyArray = field(repr=False)
    node_rule: AnyArray = field(repr=False)
    node_arm: AnyArray = field(repr=False)
    node_compared: AnyArray = field(repr=False)
    node_n: IntArray = field(repr=False)
    node_share: FloatArray = field(repr=False)
    node_gain: FloatArray = field(repr=False)
    node_ci_low: FloatArray = field(repr=False)
    node_ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per node."""
        names = ("parent", "side", "rule", "arm", "compared", "n", "share", "gain", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, f"node_{name}") for name in names})

    def comparisons(self) -> pd.DataFrame:
        """A row per arm: the tree against giving it to everybody."""
        columns = {"arm": self.arm, "share": self.arm_share, "gain": self.gain}
        return pd.DataFrame(
            columns | {name: getattr(self, f"gain_{name}") for name in ("std_error", "ci_low", "ci_high", "pvalue")}
        )

    def children(self, node: int) -> list[int]:
        """Places of the node's children, that of the answer yes first; none for a leaf."""
        found = np.flatnonzero(self.node_parent == node)
        return [int(k) for k in sorted(found, key=lambda k: self.node_side[k] != "yes")]

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        lines = [
            f"Policy tree, {self.n_leaves} {'leaf' if self.n_leaves == 1 else 'leaves'}: value "
            f"{written_interval(self.value, self.ci_low, self.ci_high)} ({level} CI, {self.evaluated}), "
            f"n = {self.n_obs:,} ({self.method})"
        ]
        for k, arm in enumerate(self.arm):
            gap = written_interval(self.gain[k], self.gain_ci_low[k], self.gain_ci_high[k])
            lines.append(
                f"  less {arm} for everybody: {gap}, {pvalue_text(self.gain_pvalue[k])}; gives {arm} to "
                f"{self.arm_share[k]:.1%}"
            )
        return "\n".join([*lines, *self._lines(0, 1)])

    def _lines(self, node: int, depth: int) -> list[str]:
        children, indent = self.children(node), "  " * depth
        if not children:
            gain = written_interval(self.node_gain[node], self.node_ci_low[node], self.node_ci_high[node])
            arm, compared = self.node_arm[node], self.node_compared[node]
            which = "brings" if arm == compared else f"{compared} would bring"
            return [
                f"{indent}{arm}: {self.node_share[node]:.1%} of the people (n = {self.node_n[node]:,}), {which} {gain}"
            ]
        lines = []
        for child in children:
            rule = self.node_rule[node]
            lines.append(f"{indent}{rule if self.node_side[child] == 'yes' else 'else'}:")
            lines += self._lines(child, depth + 1)
        return lines
