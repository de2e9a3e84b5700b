"""Experiments whose answer is known."""

from __future__ import annotations

from causalrec.abtest import Superiority, welch_test
from causalrec.results import ExperimentResult


def effect(metric, lift, *, arm="B", sd=2.0, n=5_000, hypothesis=None):
    """A relative lift over a control mean of 10."""
    return welch_test(10.0, sd**2, n, 10.0 * (1 + lift), sd**2, n, metric=metric, control="A", treatment=arm,
                      hypothesis=hypothesis or Superiority())  # fmt: skip


def experiment(*effects):
    arms = {e.treatment: e.n_treatment for e in effects}
    return ExperimentResult(effects[0].n_control + sum(arms.values()), 0.95, effects)
