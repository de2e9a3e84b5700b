"""Small results of the later ways of inference, decisions and survival, made by the functions that make them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from causalrec.abtest import (
    AlwaysValid,
    ArmSummary,
    Estimate,
    Experiment,
    FixedHorizon,
    Mean,
    Monitor,
    design_group_sequential,
    posterior_of,
    project_impact,
    scan_segments,
    shrink_winners,
    simulate_peeking,
    welch_test,
)
from causalrec.abtest import funnel as counted
from causalrec.moments import Moments
from causalrec.results import ExperimentResult, TimeSavedResult
from causalrec.survival import churn_hazards, kaplan_meier, retention

ARMS = ("old", "new")


@cache
def status() -> Any:
    """Three looks of a monitor."""
    monitor = Monitor(Experiment({"minutes": Mean("minutes")}, variant="arm", control="old"), AlwaysValid(2_000))
    for day in (1, 2, 3):
        monitor.update(
            {a: Moments.from_covariance(300 + day, ["minutes"], np.array([10 + k]), np.eye(1)) for k, a in
             enumerate(ARMS)}, label=day,
        )  # fmt: skip
    return monitor.status


@cache
def design() -> Any:
    """Of a group-sequential test."""
    return design_group_sequential(n_looks=3, futility="pocock")


@cache
def peeking() -> Any:
    """What looking early costs."""
    values = np.random.default_rng(2).normal(size=(400, 1))

    def compare(control: Moments, treatment: Moments) -> Estimate:
        (m0, m1), (v0, v1) = (
            [float(m.mean[0]) for m in (control, treatment)],
            [float(m.products[0, 0]) / (m.n - 1) / m.n for m in (control, treatment)],
        )
        return Estimate(m0, m1, v0, v1, 0.0, np.inf, control.n, treatment.n, "z")

    ways = [FixedHorizon(), AlwaysValid(400)]
    return simulate_peeking(values, ["value"], compare, ways, looks=[100, 200, 400], n_simulations=40, rng=1)


def saved() -> TimeSavedResult:
    """Of four experiments."""
    days = np.array([10.0, 20.0, 20.0, 40.0])
    return TimeSavedResult(("always valid",), "days", 4, days, np.array([[1.0, 20.0, 5.0, np.nan]]))


@cache
def posterior() -> Any:
    """Of two shares."""
    arms = [ArmSummary("old", 0.4, 0.05, 42, 104), ArmSummary("new", 0.5, 0.016, 500, 1009)]
    return posterior_of("visit", "proportion", arms)


def _effect(n: int, gain: float, segment: str = "") -> Any:
    from dataclasses import replace

    return replace(welch_test(10.0, 4.0, n, 10.0 + gain, 4.0, n, metric="minutes", control="old", treatment="new"),
                   segment=segment)  # fmt: skip


@cache
def scan() -> Any:
    """Of four segments."""
    within = tuple(_effect(500, 0.1 * k, f"country = {c}") for k, c in enumerate("ABCD"))
    return scan_segments(ExperimentResult(4_000, 0.95, (_effect(2_000, 0.15),), segments=within), "minutes")


def impact() -> Any:
    """Of a million users a year."""
    return project_impact(_effect(500, 0.3), units_per_year=1e6)


def shrinkage() -> Any:
    """Of four effects."""
    return shrink_winners([0.5, 0.1, -0.2, 0.3], [0.2, 0.1, 0.2, 0.1])


def funnel() -> Any:
    """Three steps of two arms."""
    return counted({"old": [1_000, 400, 50], "new": [1_000, 450, 70]}, ["seen", "clicked", "bought"], control="old")


def _lives() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    arm = np.repeat(ARMS, 200)
    life, end = rng.exponential(np.where(arm == "old", 12.0, 18.0)), rng.uniform(5, 30, 400)
    return {"durations": np.minimum(life, end), "event_observed": life < end, "treatment": arm, "control": "old"}


@cache
def curves() -> Any:
    """Kaplan and Meier's."""
    return kaplan_meier(**_lives())


@cache
def churn() -> Any:
    """By week."""
    return churn_hazards(**_lives(), period=7)


@cache
def kept() -> Any:
    """After one and two weeks."""
    return retention(**_lives(), days=[7, 14])
