"""What a posterior needs to know of each arm, from an experiment's comparisons and counts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from causalrec.abtest.aggregates import Cell
from causalrec.abtest.bayes.posterior import ArmSummary
from causalrec.abtest.hypotheses import Hypothesis, NonInferiority, Superiority
from causalrec.results import ABResult


def arms_of_comparisons(effects: Sequence[ABResult]) -> list[ArmSummary]:
    """Control and every treatment as independent arms whose differences from control have the errors that they have.

    What the two estimates of a comparison share, such as the mean of a covariate over both arms, cancels in every
    question about which arm is better, so it is taken out of both variances: exactly so for two arms, and for every
    comparison with control.
    """
    first = effects[0]
    shared = min((e.control_std_error**2 + e.treatment_std_error**2 - e.std_error**2) / 2 for e in effects)
    own = first.control_std_error**2 - shared
    if not 0 < own < min(e.std_error**2 for e in effects):
        own = min(min(e.std_error**2 for e in effects) / 2, first.control_std_error**2)
    arms = [ArmSummary(first.control, first.control_mean, own**0.5)]
    for e in effects:  # each may be adjusted by itself: the differences from control are what counts
        arms.append(ArmSummary(e.treatment, first.control_mean + e.estimate, (e.std_error**2 - own) ** 0.5))
    return arms


def arms_of_counts(cells: Mapping[str, Cell], metric: str) -> list[ArmSummary]:
    """Arms of 0/1 values, control first."""
    found = []
    for arm, cell in cells.items():
        moments = cell.moments[metric]
        share, n = float(moments.mean[0]), moments.n
        error = (share * (1 - share) / n) ** 0.5
        found.append(ArmSummary(arm, share, error, float(round(share * n)), n))
    return found


def rises(hypothesis: Hypothesis) -> bool:
    """Whether the arm with more of the metric is the better one, as its hypothesis says."""
    if isinstance(hypothesis, NonInferiority):
        return hypothesis.higher_is_better
    return not (isinstance(hypothesis, Superiority) and hypothesis.alternative == "less")


def text_arms(groups: Mapping[tuple[Hashable, Hashable], Cell], labels: Mapping[str, Hashable]) -> dict[str, Cell]:
    """The cells of all arms, without groups within them, by how the arms are written."""
    return {text: groups[arm, None] for text, arm in labels.items()}
