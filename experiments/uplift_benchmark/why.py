"""Why a learner loses: the base learner or the rest, told apart by giving each the other's base."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.uplift_benchmark.columns import OURS
from experiments.uplift_benchmark.tables import paired, short

_REASONS = {
    ("ihdp", "S"): (
        "Its effects are nearly the same for all: in 32 of 50 replications their standard deviation is below a quarter "
        "of the truth's, as its regression has the treatment as one covariate of 26 and its trees seldom split on it."
    ),
}


def explain(errors: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The losses with what was measured about them."""
    rows = []
    for loss in found.to_dict("records"):
        part = errors[errors["set"] == loss["set"]]
        low, high = (np.exp(loss["log"] + z * loss["standard error"]) for z in (-1.96, 1.96))
        rows.append({
            "set": loss["set"], "learner": loss["learner"], "to": loss["to"],
            "error, of the peer's": f"{short(float(np.exp(loss['log'])))} [{short(float(low))}, {short(float(high))}]",
            "why": _why(part, loss["learner"], loss["to"]) + _REASONS.get((loss["set"], loss["learner"]), ""),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _why(part: pd.DataFrame, learner: str, peer: str) -> str:
    """Ratios of errors with the base learners exchanged."""
    told = []
    package, _, base = peer.partition(", ")
    same = _ratio(part, f"{OURS}, {base}", peer, learner)
    if np.isfinite(same):
        told.append(f"with {base}'s defaults as base it has {short(same)} times the peer's error")
    swapped = _ratio(part, OURS, f"{package}, causalrec's base", learner)
    if np.isfinite(swapped):
        told.append(f"with causalrec's base in both, {short(swapped)} times")
    return "; ".join(told) + ". " if told else ""


def _ratio(part: pd.DataFrame, one: str, other: str, learner: str) -> float:
    return float(np.exp(paired(part, one, other, learner)[0]))
