"""How good predicted effects are on rows that their model has not seen: metrics, curves, groups, and the truth."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from causalrec._typing import FloatArray
from causalrec.config import RunConfig
from causalrec.evaluation import (
    auuc_score,
    lift_share,
    qini_curve,
    qini_score,
    rate,
    toc_curve,
    uplift_at_k,
    uplift_by_bin,
    uplift_calibration,
    uplift_curve,
)
from causalrec.exceptions import TreatmentError
from causalrec.nuisance import Nuisances
from causalrec.pipelines.inputs import Truth
from causalrec.results import Result

QINI_CURVE, UPLIFT_CURVE, TOC_CURVE, BINS, CALIBRATION = (
    "qini_curve",
    "uplift_curve",
    "toc_curve",
    "uplift_bins",
    "uplift_calibration",
)
# Beginnings of the names of results that come from rows held out, and are found anew on other such rows.
JUDGED = ("qini", "auuc", "autoc", "uplift_at_", "lift_share_at_", UPLIFT_CURVE, TOC_CURVE, BINS, CALIBRATION)


def score_uplift(
    y: FloatArray,
    uplift: FloatArray,
    treatment: FloatArray,
    config: RunConfig,
    *,
    label: str,
    arms: tuple[str, str],
    nuisance: Nuisances | None = None,
) -> dict[str, Result]:
    """Scores, curves, deciles and calibration of predicted effects, with intervals.

    With ``nuisance`` they rest on doubly robust scores; without, the rows are taken as randomised.

    Parameters
    ----------
    y, uplift, treatment : arrays of shape (n,)
    label : str
        Name of the learner, for figures.
    arms : pair of str
        Names of control and treatment.
    """
    k = config.uplift.top_share
    weighing: dict[str, Any] = {"confidence_level": config.confidence_level, "nuisance": nuisance}
    rows = (y, uplift, treatment)
    results: dict[str, Result] = {
        "qini": qini_score(*rows, **weighing),
        "auuc": auuc_score(*rows, **weighing),
        "autoc": rate(*rows, **weighing),
        QINI_CURVE: qini_curve(*rows, label=label, **weighing),
        TOC_CURVE: toc_curve(*rows, label=label, **weighing),
        lift_name(config): lift_share(*rows, share=k, **weighing),
        BINS: uplift_by_bin(*rows, **weighing),
    }
    # Few units, or many of equal score, may leave one arm out of a group: then there is no effect in it to report.
    with contextlib.suppress(TreatmentError):
        results[UPLIFT_CURVE] = uplift_curve(*rows, label=label, **weighing)
    with contextlib.suppress(TreatmentError):
        results[top_name(config)] = uplift_at_k(*rows, k=k, **weighing)
    with contextlib.suppress(TreatmentError):
        calibration = uplift_calibration(*rows, **weighing)
        results[CALIBRATION] = replace(calibration, control=arms[0], treatment=arms[1])
    return results


def true_scores(
    scored: pd.DataFrame, unit: str, column: str | None, truth: Truth | None, config: RunConfig
) -> dict[str, float]:
    """What the metrics of these predictions would be if every unit's true effect were known; empty where it is not.

    The integrals of :mod:`causalrec.evaluation` with the true effect in place of the score of each unit.
    """
    if truth is None or column is None:
        return {}
    tau = truth.units.set_index(truth.unit)[column].reindex(pd.Index(scored[unit])).to_numpy(np.float64)
    uplift, share = scored["uplift"].to_numpy(), config.uplift.top_share
    # Shares of the population, best first; equal predictions share the middle of their ranks, and their mean effect.
    rank = (rankdata(-uplift) - 0.5) / len(scored)
    level = np.unique(-uplift, return_inverse=True)[1]
    tau = (np.bincount(level, weights=tau) / np.bincount(level))[level]
    gain = np.cumsum(tau[np.argsort(level, kind="stable")]) / len(tau)
    treated = np.arange(1, len(tau) + 1) / len(tau)
    found = {
        "qini": float(np.mean((0.5 - rank) * tau)),
        "auuc": float(np.mean((1.0 - rank) * tau)),
        "autoc": float(np.mean(gain / treated) - gain[-1]) if level.any() else 0.0,
        top_name(config): float(tau[rank <= max(share, rank.min())].mean()),
    }
    if gain[-1] != 0:
        found[lift_name(config)] = float(np.interp(share, np.r_[0.0, treated], np.r_[0.0, gain]) / gain[-1])
    return found


def top_name(config: RunConfig) -> str:
    """``uplift_at_10pct`` for a top share of 0.1."""
    return f"uplift_at_{config.uplift.top_share * 100:g}pct"


def lift_name(config: RunConfig) -> str:
    """``lift_share_at_10pct`` for a top share of 0.1."""
    return f"lift_share_at_{config.uplift.top_share * 100:g}pct"
