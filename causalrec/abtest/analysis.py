"""From aggregates to the whole answer of an experiment: effects, their checks, segments, dilution, trends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from causalrec.abtest import notes
from causalrec.abtest.aggregates import ALL, TREND, UNTRIGGERED, Aggregates, Cell
from causalrec.abtest.bayes.arms import arms_of_comparisons, arms_of_counts, rises, text_arms
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.bayes.posterior import ArmSummary, posterior_of
from causalrec.abtest.checks import heterogeneity_test
from causalrec.abtest.collected import check_collected, checked_arms
from causalrec.abtest.comparisons import (
    CellPair,
    Question,
    compare,
    covariate_cells,
    covariates_of,
    pair_cells,
)
from causalrec.abtest.decisions.verdict import decide_experiment
from causalrec.abtest.estimation.estimates import slope_difference
from causalrec.abtest.estimation.scores import Names
from causalrec.abtest.inference import FixedHorizon
from causalrec.abtest.inferences import as_inference
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.abtest.proportions import two_proportion_test
from causalrec.abtest.sample_ratio import sample_ratio_by, sample_ratio_test
from causalrec.exceptions import BalanceWarning, OutcomeError
from causalrec.results import (
    NAN,
    ABResult,
    ExperimentResult,
    HeterogeneityResult,
    PosteriorResult,
    SampleRatioResult,
    SegmentRatioResult,
    TrendResult,
)

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment

_EMPTY = Cell(0)
_MISSING = "missing"  # the group of units without a value
_Check: TypeAlias = tuple[int, int, str]  # units of control, of treatment, the statistic
_SUSPICIOUS = 0.001  # a check with a smaller p-value is said aloud, as of a sample ratio


def analyze(experiment: Experiment, aggregates: Aggregates) -> ExperimentResult:
    """Answer all that an experiment asks of its aggregates.

    Raises
    ------
    TreatmentError
        For an unknown control, or one arm only.
    OutcomeError
        For a metric that cannot be compared in all units; in segments that is a note.
    CausalRecError
        For aggregates that lack what the experiment asks for, or were collected for another one.
    """
    check_collected(experiment, aggregates)
    analysis = _Analysis(experiment, aggregates)
    ratios, segment_ratios = analysis.sample_ratios(), analysis.segment_ratios()
    effects = tuple(
        compare(metric, names, analysis.cells(ALL, names), analysis.question)
        for metric, names in analysis.comparisons()
    )
    analysis.notes += [
        notes.untested_note(e) for e in effects if math.isnan(e.std_error if analysis.bayesian else e.pvalue)
    ]
    pre_period, diluted, segments = analysis.pre_period(), analysis.diluted(), analysis.segments()
    result = ExperimentResult(
        n_obs=analysis.n_units, confidence_level=experiment.confidence_level, effects=effects, sample_ratio=ratios,
        segment_ratios=segment_ratios, diluted=diluted,
        segments=tuple(effect for within in segments.values() for effect in within),
        interactions=analysis.interactions(segments), trends=analysis.trends(), pre_period=pre_period,
        posteriors=analysis.posteriors(),
        notes=(*analysis.notes, *_of_rows(experiment), *notes.collection_notes(aggregates, analysis.metrics)),
    )  # fmt: skip
    if experiment.decision is None:
        return result
    verdict = decide_experiment(result, experiment.decision, n_conflicting=aggregates.n_conflicting)
    return replace(result, verdict=verdict)


def _of_rows(experiment: Experiment) -> tuple[str, ...]:
    return () if experiment.unit or experiment.cluster else (notes.ROWS_ARE_UNITS,)


class _Analysis:
    """One analysis: each method gives results of one kind and notes what must be said of them."""

    def __init__(self, experiment: Experiment, aggregates: Aggregates) -> None:
        self.experiment, self.aggregates = experiment, aggregates
        self.metrics = {name: m for name, m in experiment.metrics.items() if isinstance(m, Metric)}
        self.question = Question(
            experiment.hypothesis, experiment.confidence_level, experiment.relative, as_inference(experiment.inference)
        )
        self.notes: list[str] = []
        # Arms by how they are written; results hold text.
        self._labels: dict[str, Hashable] = {str(arm): arm for arm in checked_arms(experiment, aggregates)}

    @property
    def bayesian(self) -> Bayesian | None:
        """How beliefs are formed, if they are asked for."""
        return self.question.inference if isinstance(self.question.inference, Bayesian) else None

    @property
    def n_units(self) -> int:
        """Units of all arms, those that did not trigger included."""
        return sum(self._units().values())

    def comparisons(self) -> Iterator[tuple[Metric, Names]]:
        """Each metric, each arm against control."""
        control, *treatments = self._labels
        for name, metric in self.metrics.items():
            for treatment in treatments:
                yield metric, Names(name, control, treatment)

    def cells(self, dimension: str, names: Names) -> list[CellPair]:
        """The cells of both arms, a pair for each group."""
        control, treatment = self._labels[names.control], self._labels[names.treatment]
        return pair_cells(self.aggregates.cells[dimension], control, treatment, names.metric)

    def _units(self) -> dict[Hashable, int]:
        """Units by arm."""
        counts = dict.fromkeys(self._labels.values(), 0)
        for dimension in (ALL, UNTRIGGERED):
            for (arm, _), cell in self.aggregates.cells.get(dimension, {}).items():
                counts[arm] += cell.n
        return counts

    def _designs(self) -> list[SampleRatio]:
        return [m for m in self.experiment.metrics.values() if isinstance(m, SampleRatio)]

    def sample_ratios(self) -> tuple[SampleRatioResult, ...]:
        """The sizes of all arms against each design."""
        found = tuple(
            sample_ratio_test(self._units(), design.weights, threshold=design.threshold) for design in self._designs()
        )
        self.notes += [notes.sample_ratio_note(ratio) for ratio in found if ratio.mismatch]
        if not found:
            self.notes.append("the sizes of the arms are not checked; add SampleRatio(weights) to the metrics")
        return found

    def segment_ratios(self) -> tuple[SegmentRatioResult, ...]:
        """The sizes of the arms within each segment and day."""
        days = [self.experiment.day] if self.experiment.day else []
        found = []
        for design in self._designs()[:1]:
            for dimension in (*self.experiment.segments, *days):
                cells = self.aggregates.cells[dimension].items()
                counts = {(arm, _MISSING if group is None else group): cell.n for (arm, group), cell in cells}
                ratio = sample_ratio_by(counts, design.weights, threshold=design.threshold)
                found.append(replace(ratio, dimension=dimension))
        self.notes += [notes.segment_ratio_note(ratio) for ratio in found if ratio.mismatch]
        return tuple(found)

    def pre_period(self) -> tuple[ABResult, ...]:
        """Covariates compared as if they were metrics: nothing should differ before the experiment.

        Each in the rows of its metric; metrics with the same rows share a check.
        """
        question = Question(confidence_level=self.experiment.confidence_level, relative=self.experiment.relative)
        found: dict[tuple[str, str], dict[_Check, ABResult]] = {}
        for metric, names in self.comparisons():
            for covariate in covariates_of(metric):
                cells = covariate_cells(self.cells(ALL, names), names, metric, covariate)
                with suppress(OutcomeError):  # constant: it adjusts nothing, and the effect says so
                    balance = compare(Mean(covariate), names._replace(metric=covariate), cells, question)
                    check = (balance.n_control, balance.n_treatment, f"{balance.statistic:.6g}")
                    alike = found.setdefault((covariate, names.treatment), {})
                    alike.setdefault(check, replace(balance, segment=f"rows of {names.metric}"))
        checks = [
            balance if len(alike) > 1 else replace(balance, segment="")
            for alike in found.values()
            for balance in alike.values()
        ]
        for balance in checks:
            if balance.pvalue < _SUSPICIOUS:
                self.notes.append(notes.balance_note(balance))
                warnings.warn(notes.balance_note(balance), BalanceWarning, stacklevel=4)
        return tuple(checks)

    def posteriors(self) -> tuple[PosteriorResult, ...]:
        """What is believed of each metric in all arms."""
        if self.bayesian is None:
            return ()
        found = []
        for name, metric in self.metrics.items():
            hypothesis = self.question.of(metric).hypothesis
            try:
                kind, arms = self._arms(name, metric)
                found.append(
                    posterior_of(name, kind, arms, self.bayesian, self.experiment.confidence_level,
                                 higher_is_better=rises(hypothesis))
                )  # fmt: skip
            except OutcomeError as error:
                self.notes.append(f"{name}: no posterior of the arms: {error}")
        return tuple(found)

    def _arms(self, name: str, metric: Metric) -> tuple[str, list[ArmSummary]]:
        plain = not (self.aggregates.clustered or self.experiment.strata or covariates_of(metric))
        if isinstance(metric, Proportion | Retention) and plain:
            return "proportion", arms_of_counts(text_arms(self.aggregates.cells[ALL], self._labels), name)
        question = replace(self.question, inference=FixedHorizon())
        effects = [
            compare(metric, names, self.cells(ALL, names), question)
            for each, names in self.comparisons()
            if each is metric and names.metric == name
        ]
        return "mean", arms_of_comparisons(effects)

    def diluted(self) -> tuple[ABResult, ...]:
        """The effect on everybody, where only triggered units could be affected."""
        if self.experiment.trigger is None:
            return ()
        self._compare_triggers()
        return tuple(self._diluted(m, names) for m, names in self.comparisons() if not isinstance(m, Quantile))

    def _diluted(self, metric: Metric, names: Names) -> ABResult:
        cells = self.cells(ALL, names)
        groups = self.aggregates.cells[UNTRIGGERED]
        others = [
            groups[key].moments[names.metric]
            for key in ((self._labels[arm], None) for arm in (names.control, names.treatment))
            if key in groups
        ]
        untouched = others[0].merge(others[1]) if len(others) > 1 else next(iter(others), None)
        if untouched is None or untouched.n < 2:  # all triggered: there is nothing to dilute
            return compare(metric, names, cells, self.question)
        result = compare(metric, names, cells, self.question, untouched=untouched)
        units = self._units()
        n_control, n_treatment = units[self._labels[names.control]], units[self._labels[names.treatment]]
        return replace(result, n_control=n_control, n_treatment=n_treatment, n_obs=n_control + n_treatment)

    def _compare_triggers(self) -> None:
        units = self._units()
        triggered = dict.fromkeys(units, 0)
        for (arm, _), cell in self.aggregates.cells[ALL].items():
            triggered[arm] += cell.n
        control, *treatments = self._labels
        for treatment in treatments:
            c, t = self._labels[control], self._labels[treatment]
            if triggered[c] == units[c] and triggered[t] == units[t]:
                continue
            shares = two_proportion_test(
                triggered[c], units[c], triggered[t], units[t], metric="triggered", control=control,
                treatment=treatment,
            )  # fmt: skip
            if shares.pvalue < _SUSPICIOUS:
                self.notes.append(notes.trigger_note(shares))

    def segments(self) -> dict[str, list[ABResult]]:
        """Effects within the segments of each dimension; strata do not count there."""
        by_dimension: dict[str, list[ABResult]] = {}
        for dimension in self.experiment.segments:
            found, skipped = by_dimension.setdefault(dimension, []), []
            for metric, names in self.comparisons():
                for group, control, treatment in self._groups(dimension, names):
                    segment = f"{dimension} = {_MISSING if group is None else group}"
                    try:
                        cells = [(None, control, treatment)]
                        found.append(compare(metric, names, cells, self.question, segment=segment))
                    except OutcomeError:
                        skipped.append(f"{names.metric} of {names.treatment} where {segment}")
            if skipped:
                self.notes.append(notes.skipped_note(dimension, skipped))
        return by_dimension

    def _groups(self, dimension: str, names: Names) -> list[CellPair]:
        """The groups that either arm has; an absent cell is empty."""
        cells = self.aggregates.cells[dimension]
        control, treatment = self._labels[names.control], self._labels[names.treatment]
        groups = dict.fromkeys(group for arm, group in cells if arm in (control, treatment))
        return [(g, cells.get((control, g), _EMPTY), cells.get((treatment, g), _EMPTY)) for g in groups]

    def interactions(self, segments: Mapping[str, Sequence[ABResult]]) -> tuple[HeterogeneityResult, ...]:
        """Whether effects differ between the groups of each dimension."""
        found = []
        for dimension, within in segments.items():
            if not self.aggregates.nested.get(dimension, True):
                self.notes.append(
                    f"{dimension}: effects are not tested for a difference, as clusters lie in several of its groups"
                )
                continue
            for _, names in self.comparisons():
                effects = [e for e in within if (e.metric, e.treatment) == (names.metric, names.treatment)]
                if len(effects) > 1:
                    found.append(heterogeneity_test(effects, dimension=dimension))
        return tuple(found)

    def trends(self) -> tuple[TrendResult, ...]:
        """Effects by day since exposure, and their change per day."""
        if self.experiment.day is None:
            return ()
        return tuple(self._trend(m, names) for m, names in self.comparisons() if not isinstance(m, Quantile))

    def _trend(self, metric: Metric, names: Names) -> TrendResult:
        question = Question(confidence_level=self.question.confidence_level, relative=self.question.relative)
        slope = self._slope(metric, names, question)
        days, effects = self._effects_by_day(replace(metric, hypothesis=question.hypothesis), names, question)
        return TrendResult(
            estimate=slope.estimate, std_error=slope.std_error, ci_low=slope.ci_low, ci_high=slope.ci_high,
            pvalue=slope.pvalue, confidence_level=slope.confidence_level, n_obs=slope.n_obs, method=slope.method,
            estimand=slope.estimand, metric=names.metric, control=names.control, treatment=names.treatment,
            day=np.array(days), effect=np.array([e.estimate for e in effects]),
            effect_low=np.array([e.ci_low for e in effects]), effect_high=np.array([e.ci_high for e in effects]),
        )  # fmt: skip

    def _slope(self, metric: Metric, names: Names, question: Question) -> ABResult:
        """The change of the effect per day; NaN, with the reason as its method, where the days show none."""
        [(_, control, treatment)] = self.cells(TREND, names)
        law = metric.method if isinstance(metric, Mean | Ratio) else "z"
        c, t = control.moments[names.metric], treatment.moments[names.metric]
        try:
            estimate = slope_difference(c, t, names, law=law)
            return replace(question.infer(estimate, names), method=estimate.method)
        except OutcomeError as error:
            self.notes.append(notes.no_slope_note(names, str(error)))
            return ABResult(
                estimate=NAN, std_error=NAN, ci_low=NAN, ci_high=NAN, pvalue=NAN, df=NAN, statistic=NAN,
                confidence_level=question.confidence_level, n_obs=c.n + t.n, n_control=c.n, n_treatment=t.n,
                method=f"no slope: {error}", estimand="difference of changes per day", metric=names.metric,
                control=names.control, treatment=names.treatment, control_mean=NAN, treatment_mean=NAN,
                relative_effect=NAN, relative_ci_low=NAN, relative_ci_high=NAN,
            )  # fmt: skip

    def _effects_by_day(self, metric: Metric, names: Names, question: Question) -> tuple[list[float], list[ABResult]]:
        found: dict[float, ABResult] = {}
        for day, control, treatment in self._groups(str(self.experiment.day), names):
            with suppress(OutcomeError):  # a day on which too few came
                found[float(day)] = compare(metric, names, [(None, control, treatment)], question)  # type: ignore[arg-type]
        return sorted(found), [found[day] for day in sorted(found)]
