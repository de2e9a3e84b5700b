"""``causalrec design``: how many units an experiment takes, from its YAML, before it starts.

What control looks like comes from the config's numbers, else from a past period; the sizes from
:func:`causalrec.abtest.solve_power`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from causalrec.abtest.aggregates import ALL, Aggregates
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority
from causalrec.abtest.metrics import Metric, SampleRatio
from causalrec.abtest.power.design import Design
from causalrec.abtest.power.planning import baseline_of
from causalrec.abtest.power.power import power_curve, runtime_days, solve_power
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, ConfigError, DatasetError
from causalrec.experiment_config import EffectConfig, ExperimentConfig, inference_of
from causalrec.pipelines.abtest_looks import LooksPlan, plan_looks
from causalrec.pipelines.session import opened_engine
from causalrec.results import PowerCurveResult, PowerResult, Result

PRIMARY, GUARDRAIL, SECONDARY = "primary", "guardrail", "secondary"
_TABLE = "past"
_ARMS = "past_as_control"


@dataclass(frozen=True)
class MetricPlan:
    """What is planned for a metric.

    Attributes
    ----------
    role : {"primary", "guardrail", "secondary"}
    design : Design or None
        None where nothing is known of control.
    needed : PowerResult or None
        The units for the effect that matters (of a guardrail: to show its margin where the change does nothing); None
        for secondary metrics, which do not set the size.
    seen : PowerResult or None
        The smallest effect that the planned size shows.
    """

    name: str
    role: str
    hypothesis: Hypothesis
    design: Design | None = field(default=None, repr=False)
    needed: PowerResult | None = None
    seen: PowerResult | None = None


@dataclass(frozen=True)
class ExperimentPlan:
    """The plan of an experiment: metrics by role, units in all arms, days (NaN without traffic), the curve of the
    metric that sets the size.
    """

    metrics: tuple[MetricPlan, ...]
    n_obs: int
    days: float
    alpha: float
    n_comparisons: int
    arms: tuple[str, ...]
    shares: tuple[float, ...]
    largest: MetricPlan
    curve: PowerCurveResult = field(repr=False)
    source: str = ""
    looks: LooksPlan | None = field(default=None, repr=False)

    @property
    def most_units(self) -> int:
        """Units in all arms at the end, whatever is seen before."""
        return self.n_obs if self.looks is None else self.looks.n_obs[-1]

    def of(self, role: str) -> tuple[MetricPlan, ...]:
        """The metrics of a role."""
        return tuple(m for m in self.metrics if m.role == role)


def plan_experiment(config: ExperimentConfig, data: Path | None = None) -> ExperimentPlan:
    """How many units an experiment takes, from the config and, where it has no numbers of its own, a past period.

    Parameters
    ----------
    config : ExperimentConfig
    data : Path, optional
        A past period: a Parquet or CSV file, or a directory of them; ``design.data`` by default.

    Raises
    ------
    ConfigError
        Where the config does not say the effect that matters of a primary metric, or what control looks like.
    CausalRecError
        For a table that cannot be read, or a size that cannot be found, by metric.
    """
    experiment = config.experiment()
    metrics = {name: m for name, m in experiment.metrics.items() if isinstance(m, Metric)}
    roles = metric_roles(config)
    options = dict(_baselines(config, experiment, metrics, data or config.design.data))
    arms, shares = _arms(config)
    n_comparisons = _comparisons(config, sum(role == PRIMARY for role in roles.values()), len(arms) - 1)
    common: dict[str, Any] = {"weights": shares, "daily_units": daily_units(config)}
    level: dict[str, Any] = {"alpha": round(1 - config.confidence_level, 12)}
    corrected: dict[str, Any] = {"alpha": level["alpha"] / n_comparisons}
    plans = []
    for name, metric in metrics.items():
        hypothesis = metric.hypothesis or experiment.hypothesis
        alpha = corrected if roles[name] == PRIMARY else level
        own = options.get(name)
        design = None if own is None else Design(**common, **alpha, **own, metric=name, hypothesis=hypothesis)
        plans.append(_needed(config, MetricPlan(name, roles[name], hypothesis, design)))
    return _sized(config, plans, arms, shares, n_comparisons, _source(config, data))


def metric_roles(config: ExperimentConfig) -> dict[str, str]:
    """The role of each metric; without a decision those whose effect that matters is given are primary.

    Metrics with a margin are guardrails then; if no effect is given, all others are primary.
    """
    experiment = config.experiment()
    metrics = {name: m for name, m in experiment.metrics.items() if isinstance(m, Metric)}
    if config.decision is not None:
        return {name: role or SECONDARY for name, role in config.roles().items()}
    rest = [n for n, m in metrics.items() if isinstance(m.hypothesis or experiment.hypothesis, Superiority)]
    primary = [name for name in rest if name in config.design.mde] or rest or list(metrics)
    guardrails = [n for n in metrics if n not in rest and n not in primary]
    return {n: PRIMARY if n in primary else GUARDRAIL if n in guardrails else SECONDARY for n in metrics}


def _comparisons(config: ExperimentConfig, n_primary: int, n_treatments: int) -> int:
    """How many primary comparisons the false alarms are shared among, at the first step of a correction."""
    rule = config.rule()
    if rule is None:
        return n_primary * n_treatments
    if rule.correction == "none":
        return 1
    metrics = n_primary if "metrics" in rule.over and rule.need == "any" else 1
    return metrics * (n_treatments if "variants" in rule.over else 1)


def _needed(config: ExperimentConfig, plan: MetricPlan) -> MetricPlan:
    """With the units that the metric's own question takes."""
    if plan.role == SECONDARY:
        return plan
    if plan.design is None:
        raise ConfigError(
            f"{config.name}: nothing is known of {plan.name!r} in control, which is {plan.role}. Give "
            f"design.baselines.{plan.name} (mean and std, or proportion), or --data with a past period."
        )
    effect = _effect(config, plan)
    try:
        found = solve_power(plan.design, **effect, power=config.design.power)
    except CausalRecError as error:
        raise CausalRecError(f"{plan.name}: {error}") from error
    return _with(plan, needed=found)


def _effect(config: ExperimentConfig, plan: MetricPlan) -> dict[str, Any]:
    rule = config.rule()
    given = config.design.mde.get(plan.name)
    if given is None and rule is not None and plan.name in rule.mde:
        given = EffectConfig(**rule.mde[plan.name])
        if plan.name in rule.lower_is_better or plan.hypothesis == Superiority("less"):
            given = EffectConfig(**{scale: -size for scale, size in rule.mde[plan.name].items()})
    if given is None:
        if isinstance(plan.hypothesis, NonInferiority | Equivalence):
            return {"effect": 0.0}
        raise ConfigError(
            f"{config.name}: the smallest effect on {plan.name!r} that matters is not given; add "
            f"design.mde.{plan.name}, such as {{relative: 0.02}}."
        )
    return {"relative_effect": given.relative} if given.relative is not None else {"effect": given.absolute or 0.0}


def _sized(
    config: ExperimentConfig, plans: list[MetricPlan], arms: tuple[str, ...], shares: tuple[float, ...],
    n_comparisons: int, source: str,
) -> ExperimentPlan:  # fmt: skip
    """The largest size that a primary metric or a guardrail needs, and what each metric shows with it."""
    sizing = [p for p in plans if p.needed is not None]
    largest = max(sizing, key=lambda p: p.needed.n_obs if p.needed else 0)
    if largest.needed is None or largest.design is None:
        raise ConfigError(f"{config.name}: no metric sets the size of the experiment.")
    n_obs = largest.needed.n_obs
    looks = plan_looks(
        inference_of(config.inference), largest.needed, largest.hypothesis, shares, alpha=largest.design.alpha,
        power=config.design.power, n_looks=config.design.looks,
    )  # fmt: skip
    shown = [_with(p, seen=_seen(p.design, n_obs, config.design.power)) for p in plans]
    return ExperimentPlan(
        tuple(shown), n_obs, days_until(config, n_obs if looks is None else looks.n_obs[-1]),
        round(1 - config.confidence_level, 12), n_comparisons, arms, shares, largest,
        power_curve(largest.design, effect=largest.needed.effect), source, looks,
    )  # fmt: skip


def daily_units(config: ExperimentConfig) -> tuple[float, ...] | None:
    """New units a day: the design's, else the decision's."""
    rule = config.rule()
    if config.design.units_per_day is not None or rule is None or rule.units_per_day is None:
        return config.design.units_per_day
    found = rule.units_per_day
    return (float(found),) if isinstance(found, int | float) else tuple(map(float, found))


def days_until(config: ExperimentConfig, n_obs: float) -> float:
    """Whole days until so many units have come; NaN where the traffic is not given."""
    daily = daily_units(config)
    return math.nan if daily is None else runtime_days(n_obs, daily)


def _seen(design: Design | None, n_obs: int, power: float) -> PowerResult | None:
    """The smallest effect that is seen; None where no effect is."""
    if design is None:
        return None
    try:
        return solve_power(design, n_obs=n_obs, power=power)
    except CausalRecError:
        return None


def _with(plan: MetricPlan, **changes: Any) -> MetricPlan:
    return MetricPlan(**({name: getattr(plan, name) for name in plan.__dataclass_fields__} | changes))


def _arms(config: ExperimentConfig) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and shares of the arms, control first; without weights a treatment of the same size."""
    if config.weights is None:
        return (str(config.control), "treatment"), (0.5, 0.5)
    total = sum(config.weights.values())
    shares = {str(arm): share / total for arm, share in config.weights.items() if share > 0}
    control = str(config.control)
    if control not in shares or len(shares) < 2:
        raise ConfigError(f"{config.name}: weights give control {control!r} or the other arms no share; add it.")
    others = {arm: share for arm, share in shares.items() if arm != control}
    return (control, *others), (shares[control], *others.values())


def _baselines(
    config: ExperimentConfig, experiment: Experiment, metrics: Mapping[str, Metric], data: Path | None
) -> Mapping[str, dict[str, Any]]:
    """What a design needs to know of control, by metric: numbers that are given, else those of the past period."""
    given: dict[str, dict[str, Any]] = {n: dict(b.options()) for n, b in config.design.baselines.items()}
    rest = {name: metric for name, metric in metrics.items() if name not in given}
    if data is None or not rest:
        return given
    if not data.exists():
        raise DatasetError(
            f"data: {data} does not exist; expected a Parquet or CSV file or directory of a past period."
        )
    with opened_engine(config) as engine:
        aggregates = _past(engine, experiment, rest, data)
    cells = [cell for (arm, _), cell in aggregates.cells[ALL].items() if arm == experiment.control]
    return given | {name: baseline_of(name, metric, cells) for name, metric in rest.items()}


def _past(engine: Engine, experiment: Experiment, metrics: Mapping[str, Metric], data: Path) -> Aggregates:
    """The aggregates of a past period; all of it is control where the table has no column of arms."""
    named: dict[str, Metric | SampleRatio] = dict(metrics)
    own = {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}
    asked = Experiment(**(own | {"metrics": named, "segments": (), "day": None}))
    engine.register(_TABLE, data)
    if experiment.variant in engine.columns(_TABLE):
        return asked.collect((engine, _TABLE))
    engine.create_view(_ARMS, _as_control(engine, experiment))
    return asked.collect((engine, _ARMS))


def _as_control(engine: Engine, experiment: Experiment) -> str:
    """The table with all units in control but one, since an experiment's table has two arms or more."""
    q = engine.dialect.quote
    own = experiment.unit or experiment.cluster
    if own is None:
        rows = f"SELECT *, row_number() OVER (ORDER BY 1) AS row__ FROM {q(_TABLE)}"
        apart, source = "row__ = 1", f"({rows}) x"
    else:
        apart, source = f"{q(own)} = (SELECT min({q(own)}) FROM {q(_TABLE)})", q(_TABLE)
    control = experiment.control
    label = engine.dialect.literal(control) if isinstance(control, str) else str(control)
    other = engine.dialect.literal("set apart") if isinstance(control, str) else str(int(str(control)) + 1)
    return f"SELECT *, CASE WHEN {apart} THEN {other} ELSE {label} END AS {q(experiment.variant)} FROM {source}"


def _source(config: ExperimentConfig, data: Path | None) -> str:
    path = data or config.design.data
    known = list(config.design.baselines)
    if path is None:
        return "the numbers in the config"
    return f"control in {path}" + (f"; {', '.join(known)} as in the config" if known else "")


def results_of(plan: ExperimentPlan) -> dict[str, Result]:
    """The sizes by metric, and the power curve."""
    found: dict[str, Result] = {m.name: m.needed for m in plan.metrics if m.needed is not None}
    return found | {"power_curve": plan.curve}
