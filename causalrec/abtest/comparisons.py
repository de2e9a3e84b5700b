"""One metric, two arms: which estimate and which test a metric means, from its cells."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from causalrec.abtest.aggregates import Cell, Key, covariate_name
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.estimation.estimates import (
    Estimate,
    check_shares,
    count_successes,
    difference,
    quantile_difference,
)
from causalrec.abtest.estimation.scores import DENOMINATOR, ROWS, VALUE, Names, Stratum, is_clustered
from causalrec.abtest.hypotheses import Hypothesis, Superiority
from causalrec.abtest.inference import FixedHorizon, Inference, infer
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention
from causalrec.abtest.proportions import two_proportion_test
from causalrec.abtest.relative import Relative
from causalrec.exceptions import OutcomeError
from causalrec.moments import Moments
from causalrec.results import ABResult

CellPair: TypeAlias = tuple[Hashable, Cell, Cell]  # stratum, control, treatment


@dataclass(frozen=True)
class Question:
    """How results are asked for: of all metrics of an experiment, unless a metric has its own hypothesis."""

    hypothesis: Hypothesis = Superiority()  # noqa: RUF009 - frozen
    confidence_level: float = 0.95
    relative: Relative = "fieller"
    inference: Inference | Bayesian = FixedHorizon()  # noqa: RUF009 - frozen

    def of(self, metric: Metric) -> Question:
        """The same with the metric's own hypothesis, if it has one."""
        return self if metric.hypothesis is None else replace(self, hypothesis=metric.hypothesis)

    def infer(self, estimate: Estimate, names: Names, *, segment: str = "") -> ABResult:
        """The result of an estimate."""
        asked: dict[str, Any] = {
            "metric": names.metric, "control": names.control, "treatment": names.treatment,
            "hypothesis": self.hypothesis, "confidence_level": self.confidence_level, "relative": self.relative,
            "segment": segment,
        }  # fmt: skip
        if isinstance(self.inference, Bayesian):
            return self.inference.infer(estimate, **asked)
        return infer(estimate, **asked, inference=self.inference)


def covariates_of(metric: Metric) -> tuple[str, ...]:
    """The columns that a metric is adjusted for."""
    return tuple(metric.covariates) if isinstance(metric, Mean | Ratio | Proportion) else ()


def moment_names(metric: Metric, *, clustered: bool) -> tuple[str, ...]:
    """The columns of a metric's moments, as of :class:`Cell`.

    Examples
    --------
    >>> moment_names(Ratio("clicks", "views", covariates=["views_before"]), clustered=True)
    ('value', 'den', 'rows', 'views_before')
    """
    outcome = (VALUE, DENOMINATOR) if isinstance(metric, Ratio) else (VALUE,)
    return (*outcome, *[ROWS] * clustered, *map(covariate_name, covariates_of(metric)))


def pair_cells(groups: Mapping[Key, Cell], control: Hashable, treatment: Hashable, metric: str) -> list[CellPair]:
    """The cells of two arms, stratum by stratum.

    Raises
    ------
    OutcomeError
        For a stratum that only one of them has.
    """
    strata = list(dict.fromkeys(group for arm, group in groups if arm in (control, treatment)))
    for arm in (control, treatment):
        absent = [group for group in strata if (arm, group) not in groups]
        if absent:
            raise OutcomeError(
                f"{metric}: arm {arm!r} has no units in stratum {absent[0]!r}, so there is nothing to compare there. "
                "Join the stratum to another, or drop it (where=)."
            )
    return [(group, groups[control, group], groups[treatment, group]) for group in strata]


def compare(
    metric: Metric,
    names: Names,
    cells: Sequence[CellPair],
    question: Question,
    *,
    untouched: Moments | None = None,
    segment: str = "",
) -> ABResult:
    """Compare two arms on a metric.

    Parameters
    ----------
    metric : Metric
    names : Names
    cells : sequence of (stratum, control, treatment)
    question : Question
        Its hypothesis gives way to the metric's own.
    untouched : Moments, optional
        Units of both arms that neither could affect, which dilute the effect.
    segment : str

    Raises
    ------
    OutcomeError
        For too few units, no variance, a zero denominator, or a proportion that is not 0/1.
    """
    question = question.of(metric)
    for _, control, treatment in cells:
        for arm, cell in ((names.control, control), (names.treatment, treatment)):
            if cell.n == 0:
                raise OutcomeError(f"{names.metric}: arm {arm!r} has no units here; a comparison needs at least two.")
    if isinstance(metric, Quantile):
        [(_, control, treatment)] = cells
        estimate = quantile_difference(control.quantiles[names.metric], treatment.quantiles[names.metric], names)
        return question.infer(estimate, names, segment=segment)
    strata = [Stratum(group, c.moments[names.metric], t.moments[names.metric]) for group, c, t in cells]
    if isinstance(metric, Proportion | Retention):
        return replace(_compare_shares(metric, names, strata, question, untouched), segment=segment)
    return question.infer(_adjusted(metric, names, strata, untouched), names, segment=segment)


def _compare_shares(
    metric: Proportion | Retention,
    names: Names,
    strata: Sequence[Stratum],
    question: Question,
    untouched: Moments | None,
) -> ABResult:
    arms = [
        each for stratum in strata for each in ((names.control, stratum.control), (names.treatment, stratum.treatment))
    ]
    clustered = is_clustered(strata[0].control, len(covariates_of(metric)))
    if clustered:
        for arm, moments in arms:
            check_shares(moments, names, arm)
    else:
        counts = [(count_successes(moments, names, arm), moments.n) for arm, moments in arms]
    plain = not (clustered or len(strata) > 1 or untouched is not None or covariates_of(metric))
    if not (plain and isinstance(question.inference, FixedHorizon)):  # tests of counts are for one look
        return question.infer(_adjusted(metric, names, strata, untouched), names)
    return two_proportion_test(
        *counts[0], *counts[1], **_test_of(metric), hypothesis=question.hypothesis,
        confidence_level=question.confidence_level, relative=question.relative, metric=names.metric,
        control=names.control, treatment=names.treatment,
    )  # fmt: skip


def _test_of(metric: Proportion | Retention) -> dict[str, Any]:
    if isinstance(metric, Retention):
        return {}
    return {"method": metric.method, "pooled": metric.pooled, "correction": metric.correction}


def _adjusted(metric: Metric, names: Names, strata: Sequence[Stratum], untouched: Moments | None) -> Estimate:
    if untouched is not None:
        strata = [*strata, Stratum(None, untouched, untouched, shared=True)]
    law = metric.method if isinstance(metric, Mean | Ratio) else "z"
    return difference(strata, names, covariates=covariates_of(metric), law=law)


def covariate_cells(cells: Iterable[CellPair], names: Names, metric: Metric, covariate: str) -> list[CellPair]:
    """A metric's covariate in the place of its value, to compare the arms as they were before the experiment."""
    covariates = covariates_of(metric)
    place = covariates.index(covariate) - len(covariates)

    def moved(cell: Cell) -> Cell:
        moments = cell.moments[names.metric]
        clustered = is_clustered(moments, len(covariates))
        kept = [place, moments.names.index(ROWS)] if clustered else [place]
        return Cell(cell.n, {covariate: moments.take(kept, [VALUE, ROWS][: len(kept)])})

    return [(group, moved(control), moved(treatment)) for group, control, treatment in cells]
