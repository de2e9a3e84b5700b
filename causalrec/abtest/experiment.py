"""An experiment: what is measured, who was assigned to what, and everything that can be asked of the table."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from causalrec._resampling import Progress
from causalrec._typing import FloatArray, RandomState
from causalrec._validation import check_columns, check_confidence_level, list_some
from causalrec.abtest.aggregates import ALL, Aggregates, Cell, Key, covariate_name
from causalrec.abtest.analysis import analyze
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.checks import outlier_report
from causalrec.abtest.collection.collect import collect, unit_values
from causalrec.abtest.comparisons import Question, compare
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.estimation.scores import DENOMINATOR, ROWS, VALUE, Names
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority, hypothesis_name
from causalrec.abtest.inference import FixedHorizon, Inference
from causalrec.abtest.inferences import as_inference
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, SampleRatio
from causalrec.abtest.power import planning
from causalrec.abtest.relative import Relative
from causalrec.abtest.resampling.simulation import simulate_aa
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.moments import Moments
from causalrec.results import AAResult, DistributionResult, ExperimentResult, OutlierResult, PowerResult

_FROM_ROWS = ("cluster", "strata", "segments", "day", "trigger", "pool", "where")


@dataclass(frozen=True)
class Experiment:
    """An experiment and its metrics. One scan of a table answers them all.

    Parameters
    ----------
    metrics : mapping of name to metric
        :class:`Mean`, :class:`Proportion`, :class:`Ratio`, :class:`Quantile`, :class:`Retention`, and
        :class:`SampleRatio`, which checks the sizes of the arms.
    variant : str
        The column of the arm.
    control : label
        The arm that the others are compared with.
    unit : str, optional
        The column of who was assigned. Without it each row is taken as a unit.
    cluster : str, optional
        The column of who was assigned where a row is less than that, such as a view of a user: standard errors are of
        independent clusters, and a mean is one of rows.
    strata : str or sequence of str
        Columns known before assignment, by whose groups effects are post-stratified.
    segments : str or sequence of str
        Columns within whose groups effects are shown and tested for a difference.
    day : str, optional
        Column of whole days since exposure: effects by day, and their slope.
    exposed_at : str, optional
        Column of the time of exposure, for :class:`Retention`.
    trigger : str, optional
        A boolean column: whether the change could have affected the unit. Effects are then among those, and diluted to
        all.
    pool : mapping of new arm to arms, optional
        Arms to be taken as one.
    where : str, optional
        An SQL condition: other rows are left out.
    on_conflict, on_duplicate : {"raise", "drop"}
        For units in several arms (needs ``unit`` or ``cluster``), and rows that repeat another (needs ``unit``).
    confidence_level : float
    hypothesis : Superiority, NonInferiority or Equivalence
        Of metrics that have none of their own.
    relative : {"fieller", "delta", "log"}
        See :func:`infer`.
    inference : Inference, Bayesian or str
        :class:`FixedHorizon` (``"fixed"``): one look, at a planned end. :class:`AlwaysValid` (``"always_valid"``): as
        many looks as one likes. :class:`GroupSequential`: some looks, the units of the last one planned.
        :class:`Bayesian` (``"bayesian"``): credible intervals, and which arm is best.
    decision : DecisionRule, optional
        What is decided how; the result then has a verdict.

    Raises
    ------
    CausalRecError
        For metrics that do not go together with the design.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({
    ...     "variant": ["A", "B"] * 500, "views": range(10, 1010), "clicks": [v % 7 for v in range(1000)],
    ... })
    >>> experiment = Experiment({"ctr": Ratio("clicks", "views"), "clicks": Mean("clicks")}, variant="variant",
    ...                         control="A")
    >>> result = experiment.analyze(frame)
    >>> print(f"{result['clicks'].estimate:.3f}")
    0.006
    """

    metrics: Mapping[str, Metric | SampleRatio]
    variant: str
    control: Hashable
    unit: str | None = None
    cluster: str | None = None
    strata: Sequence[str] = ()
    segments: Sequence[str] = ()
    day: str | None = None
    exposed_at: str | None = None
    trigger: str | None = None
    pool: Mapping[Any, Sequence[Any]] | None = None
    where: str | None = None
    on_conflict: Literal["raise", "drop"] = "raise"
    on_duplicate: Literal["raise", "drop"] = "raise"
    confidence_level: float = 0.95
    hypothesis: Hypothesis = Superiority()  # noqa: RUF009 - frozen
    relative: Relative = "fieller"
    inference: Inference | Bayesian | str = FixedHorizon()  # noqa: RUF009 - frozen
    decision: DecisionRule | None = None

    def __post_init__(self) -> None:
        for name in ("strata", "segments"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        _check_names(self.metrics)
        object.__setattr__(self, "metrics", dict(self.metrics))
        object.__setattr__(self, "inference", as_inference(self.inference))
        _check_design(self)
        for name, metric in self.metrics.items():
            _check_metric(self, name, metric)
        if self.decision is not None:
            asked = {n: m.hypothesis or self.hypothesis for n, m in self.metrics.items() if isinstance(m, Metric)}
            try:
                self.decision.check({name: hypothesis_name(each) for name, each in asked.items()})
            except CausalRecError as error:
                raise CausalRecError(f"decision: {error}") from error

    def collect(self, table: Any) -> Aggregates:
        """Everything that :meth:`analyze` needs of a table, small and mergeable; see :func:`collect`."""
        return collect(self, table)

    def analyze(self, data: Any, inference: Inference | Bayesian | str | None = None) -> ExperimentResult:
        """Compare every arm with control on every metric.

        Parameters
        ----------
        data : table, Aggregates, or mapping of arm to Moments
            A table as of :func:`collect`; what that collected; or moments of the metrics' columns by name, a row per
            unit, collected elsewhere (:func:`causalrec.engines.collect_moments`).
        inference : Inference, Bayesian or str, optional
            In place of the experiment's own.

        Raises
        ------
        CausalRecError
            A child of it for everything that keeps a metric from being compared; see :func:`collect`.

        Warns
        -----
        BalanceWarning
            If a covariate differs between arms (p < .001), as it cannot if assignment was random.
        """
        asked = self if inference is None else replace(self, inference=inference)
        return analyze(asked, asked._aggregates(data))

    def _aggregates(self, data: Any) -> Aggregates:
        if isinstance(data, Aggregates):
            return data
        if isinstance(data, Mapping) and all(isinstance(m, Moments) for m in data.values()):
            return _from_moments(self, data)
        return self.collect(data)

    def solve_power(self, data: Any, *, metrics: Sequence[str] | None = None, **wanted: Any) -> tuple[PowerResult, ...]:
        """Design the next experiment on each metric from what this one's control shows.

        Parameters
        ----------
        data : table, Aggregates, or mapping of arm to Moments
        metrics : sequence of str, optional
            Some of them; all by default.
        **wanted
            Two of ``effect`` (or ``relative_effect``), ``n_obs`` and ``power``, and any parameter of :class:`Design`.
            By default the arms have the sizes that a :class:`SampleRatio` designs (else equal ones), ``alpha`` is 1 -
            confidence_level, covariates take away as much variance as they do in control, and the hypothesis is the
            metric's. Units are clusters where there are any.
        """
        chosen = self.metrics if metrics is None else metrics
        check_columns(self.metrics, chosen, where="the metrics")
        part = replace(self, metrics={name: self.metrics[name] for name in chosen}, decision=None)
        return planning.solve_power_of(part, self._aggregates(data), self._designed_shares(), wanted)

    def _designed_shares(self) -> Mapping[Any, float]:
        """Shares of the arms by the first design that has some; empty if there is none."""
        designs = (m.weights for m in self.metrics.values() if isinstance(m, SampleRatio) and m.weights)
        return next(designs, {})

    def simulate_aa(
        self,
        table: Any,
        n_simulations: int = 1_000,
        rng: RandomState = None,
        progress: Progress | None = None,
        *,
        weights: tuple[float, float] | None = None,
    ) -> tuple[AAResult, ...]:
        """Split the table's units by lot again and again: how often does each metric's test find an effect?

        Each test is the metric's own for two sides, without strata. Quantiles have no values per unit and are left out.
        See :func:`simulate_aa`.

        Parameters
        ----------
        table : table
            Of the experiment, or of a time before it: where the shares are known it needs no two arms, and no column of
            them.
        n_simulations : int
        rng : int or Generator, optional
        progress : callable, optional
            Called with the simulations done and those asked for, metric by metric.
        weights : pair of floats, optional
            Shares of control and treatment, in any scale. By default those of control and the largest other arm as a
            :class:`SampleRatio` designs them, else as observed.
        """
        generator = np.random.default_rng(rng)
        weights = weights or self._designed_pair()
        found = []
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric) or isinstance(metric, Quantile):
                continue
            alone = replace(self, metrics={name: metric}, decision=None, strata=(), segments=(), day=None)
            units = unit_values(alone, table, name, need_arms=weights is None)
            found.append(
                simulate_aa(
                    units.values, units.names, _pvalue_of(name, replace(metric, hypothesis=None)),
                    weights=weights or self._observed_pair(units.arms), n_simulations=n_simulations, metric=name,
                    alpha=1 - self.confidence_level, rng=generator, progress=progress,
                )
            )  # fmt: skip
        return tuple(found)

    def _designed_pair(self) -> tuple[float, float] | None:
        designed = self._designed_shares()
        if not designed.get(self.control, 0) > 0 or len(designed) < 2:
            return None
        return float(designed[self.control]), max(float(w) for arm, w in designed.items() if arm != self.control)

    def _observed_pair(self, arms: Any) -> tuple[float, float]:
        labels, counts = np.unique(np.array([str(arm) for arm in arms]), return_counts=True)
        control = labels == str(self.control)
        return float(counts[control].sum()), float(counts[~control].max())

    def outliers(self, table: Any, q: float = 0.99) -> tuple[OutlierResult, ...]:
        """Who is beyond a metric's winsorising quantiles (else above the quantile ``q`` of all arms together)?

        Of means, and of the numerators of ratios, per unit (of a cluster, per row in it). See :func:`outlier_report`.
        """
        found = []
        for name, metric in self.metrics.items():
            if not isinstance(metric, Mean | Ratio):
                continue
            low, high = metric.winsorize or (0.0, q)  # type: ignore[misc]
            values, arms = self._raw_values(table, name, metric)
            limits = (
                -np.inf if low == 0 else float(np.quantile(values, low)),
                np.inf if high == 1 else float(np.quantile(values, high)),
            )
            by_arm = self._by_arm(values, arms)
            inside = {arm: v[(v >= limits[0]) & (v <= limits[1])] for arm, v in by_arm.items()}
            report = outlier_report(
                name, low=limits[0], high=limits[1], n={arm: len(v) for arm, v in by_arm.items()},
                n_outside={arm: len(v) - len(inside[arm]) for arm, v in by_arm.items()},
                mean={arm: float(v.mean()) for arm, v in by_arm.items()},
                mean_inside={arm: float(v.mean()) if len(v) else np.nan for arm, v in inside.items()},
            )  # fmt: skip
            found.append(replace(report, column=_column_shown(metric)))
        return tuple(found)

    def distributions(
        self, table: Any, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    ) -> tuple[DistributionResult, ...]:
        """Quantiles and mean of each arm, per unit: of means, numerators of ratios, and columns of quantiles."""
        found = []
        for name, metric in self.metrics.items():
            column = _column_shown(metric)
            if isinstance(metric, Quantile):
                metric = Mean(metric.column, where=metric.where, missing=metric.missing)
            if not isinstance(metric, Mean | Ratio):
                continue
            values, arms = self._raw_values(table, name, metric)
            by_arm = self._by_arm(values, arms)
            found.append(
                DistributionResult(
                    metric=name, n_obs=len(values), arms=tuple(map(str, by_arm)),
                    quantile=np.asarray(quantiles, dtype=np.float64),
                    value=np.array([np.quantile(v, quantiles) for v in by_arm.values()]),
                    mean=np.array([v.mean() for v in by_arm.values()]), column=column,
                )
            )  # fmt: skip
        return tuple(found)

    def _raw_values(self, table: Any, name: str, metric: Mean | Ratio) -> tuple[FloatArray, Any]:
        """A metric's value of each unit before winsorising (of a cluster, per row), and its arm."""
        bare = replace(metric, winsorize=None, covariates=())
        units = unit_values(replace(self, metrics={name: bare}, decision=None), table, name)
        values = units.values[:, units.names.index(VALUE)]
        return values / units.values[:, units.names.index(ROWS)] if ROWS in units.names else values, units.arms

    def _by_arm(self, values: FloatArray, arms: Any) -> dict[Hashable, FloatArray]:
        """Control first, the others as they come."""
        labels = sorted(dict.fromkeys(arms), key=lambda arm: arm != self.control)
        return {arm: values[arms == arm] for arm in labels}


def _column_shown(metric: object) -> str:
    """What a look at a metric's values shows where it is not the metric itself."""
    if isinstance(metric, Ratio):
        return metric.numerator
    return metric.column if isinstance(metric, Quantile) else ""


def _pvalue_of(name: str, metric: Metric) -> Any:
    """A metric's test of two arms, as the A/A simulation wants it."""
    names = Names(name, "control", "treatment")

    def pvalue(control: Moments, treatment: Moments) -> float:
        cells = [(None, Cell(control.n, {name: control}), Cell(treatment.n, {name: treatment}))]
        return compare(metric, names, cells, Question()).pvalue

    return pvalue


def _check_names(metrics: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise CausalRecError(
            f"metrics is {metrics!r}; expected a mapping of names to metrics, such as {{'revenue': Mean('revenue')}}."
        )


def _check_design(experiment: Experiment) -> None:
    if not experiment.metrics:
        raise CausalRecError("metrics is empty; give at least one, such as {'revenue': Mean('revenue')}.")
    check_confidence_level(experiment.confidence_level)
    if not isinstance(experiment.hypothesis, Superiority | NonInferiority | Equivalence):
        raise CausalRecError(
            f"hypothesis is {experiment.hypothesis!r}; expected Superiority, NonInferiority or Equivalence."
        )
    for name in ("on_conflict", "on_duplicate"):
        if getattr(experiment, name) not in ("raise", "drop"):
            raise CausalRecError(f"{name} is {getattr(experiment, name)!r}; expected 'raise' or 'drop'.")
    if experiment.on_duplicate == "drop" and experiment.unit is None:
        raise CausalRecError("on_duplicate='drop' needs unit=, the column that says which rows repeat each other.")
    if experiment.on_conflict == "drop" and experiment.unit is None and experiment.cluster is None:
        raise CausalRecError("on_conflict='drop' needs unit= or cluster=, the column of who was assigned.")
    _check_pool(experiment.pool or {})
    roles = [experiment.variant, experiment.unit, experiment.cluster, experiment.trigger, experiment.day]
    once = [role for role in roles if role is not None] + list(experiment.strata)
    doubled = {column for column in once if once.count(column) > 1}
    if len(set(experiment.segments)) < len(experiment.segments):
        doubled |= {c for c in experiment.segments if experiment.segments.count(c) > 1}
    if doubled - {experiment.unit if experiment.unit == experiment.cluster else None}:
        raise ColumnError(
            f"{list_some(sorted(doubled))} has several roles in the experiment; give each column one role, and each "
            "role another column."
        )


def _check_pool(pool: Mapping[Any, Sequence[Any]]) -> None:
    for name, arms in pool.items():
        if isinstance(arms, str):
            raise CausalRecError(f"pool[{name!r}] is {arms!r}; expected a list of arms, such as [{arms!r}].")
    listed = [arm for arms in pool.values() for arm in arms]
    twice = [arm for arm in listed if listed.count(arm) > 1]
    if twice:
        raise CausalRecError(f"pool names the arm {twice[0]!r} more than once; each arm can be part of one new arm.")


def _check_metric(experiment: Experiment, name: str, metric: object) -> None:
    if isinstance(metric, SampleRatio):
        return
    if not isinstance(metric, Metric):
        raise CausalRecError(f"metric {name!r} is {metric!r}; expected a metric, such as Mean('revenue').")
    if isinstance(metric, Quantile) and experiment.strata:
        raise CausalRecError(f"{name}: quantiles cannot be post-stratified; drop the strata, or that metric.")
    exact = isinstance(metric, Proportion) and metric.method != "wald"
    if exact and (experiment.strata or experiment.cluster):
        raise CausalRecError(
            f"{name}: method {metric.method!r} is for independent units without strata; take 'wald', or drop "  # type: ignore[attr-defined]
            "strata= and cluster=."
        )


def _from_moments(experiment: Experiment, moments: Mapping[Any, Moments]) -> Aggregates:
    """Aggregates from moments of plain columns, a row per unit."""
    given = [name for name in _FROM_ROWS if getattr(experiment, name)]
    if given:
        raise CausalRecError(
            f"the experiment has {list_some(given)}, which moments by arm do not show. Pass the table, or Aggregates."
        )
    metrics = {name: m for name, m in experiment.metrics.items() if isinstance(m, Metric)}
    cells: dict[Key, Cell] = {
        (arm, None): Cell(m.n, {name: _columns_of(metric, name, m) for name, metric in metrics.items()})
        for arm, m in moments.items()
    }
    return Aggregates({ALL: cells}, n_rows=sum(m.n for m in moments.values()))


def _columns_of(metric: Metric, name: str, moments: Moments) -> Moments:
    if not isinstance(metric, Mean | Ratio | Proportion) or metric.where or getattr(metric, "winsorize", None):
        raise CausalRecError(
            f"{name}: {type(metric).__name__} with these options needs the table, not moments of columns. "
            "Means, ratios and proportions can, without where= and winsorize=."
        )
    outcome = [VALUE, DENOMINATOR] if isinstance(metric, Ratio) else [VALUE]
    return moments.select(metric.columns, [*outcome, *map(covariate_name, metric.covariates)])
