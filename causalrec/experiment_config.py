"""The YAML of an A/B test: an :class:`~causalrec.abtest.Experiment` whose keys are those of the Python class.

A metric's keys are the parameters of its class, ``kind`` says which; so are those of a hypothesis and of an inference.
Unknown keys are refused at every depth and the nearest known key is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from causalrec._schema import Fraction, Natural, Section, built, suggest, validated
from causalrec._yaml import find_yaml, has_keys
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority
from causalrec.abtest.inferences import INFERENCES
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.abtest.sequential.spending import CustomSpending, HwangShihDeCani, ObrienFleming, Pocock, PowerFamily
from causalrec.config import EXPERIMENT_KEYS, Arm, RunConfig, RunSettings, read_config, refuse_other_kinds
from causalrec.exceptions import ConfigError

METRICS: Mapping[str, type[Metric]] = {
    "mean": Mean,
    "proportion": Proportion,
    "ratio": Ratio,
    "quantile": Quantile,
    "retention": Retention,
}
HYPOTHESES: Mapping[str, type[Hypothesis]] = {
    "superiority": Superiority,
    "non_inferiority": NonInferiority,
    "equivalence": Equivalence,
}
SEQUENTIAL = ("always_valid", "group_sequential")
SPENDING: Mapping[str, type[Any]] = {
    "obrien-fleming": ObrienFleming,
    "pocock": Pocock,
    "hwang-shih-decani": HwangShihDeCani,
    "power": PowerFamily,
    "custom": CustomSpending,
}
SAMPLE_RATIO = "sample_ratio"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _of_kind(kinds: Mapping[str, type[Any]], section: Mapping[str, Any]) -> Any:
    """What a section with a ``kind`` describes."""
    options = dict(section)
    kind = options.pop("kind", None)
    if kind not in kinds:
        found = "has no `kind`" if kind is None else f"has the kind {kind!r}"
        raise ValueError(f"{found}.{suggest(str(kind), kinds)}")
    return built(kinds[kind], options)


def _hypothesis(section: Mapping[str, Any]) -> Hypothesis:
    try:
        found: Hypothesis = _of_kind(HYPOTHESES, section)
    except ValueError as error:
        raise ValueError(f"hypothesis: {error}") from error
    return found


def _metric(section: Mapping[str, Any]) -> Metric:
    options = dict(section)
    if isinstance(options.get("hypothesis"), Mapping):
        options["hypothesis"] = _hypothesis(options["hypothesis"])
    found: Metric = _of_kind(METRICS, options)
    return found


def _checked_metric(section: dict[str, Any]) -> dict[str, Any]:
    _metric(section)
    return section


def _checked_hypothesis(section: dict[str, Any]) -> dict[str, Any]:
    _of_kind(HYPOTHESES, section)
    return section


def inference_of(section: Mapping[str, Any]) -> Any:
    """The inference that a section describes.

    Spending of error is a name, or a family with its number: ``{kind: hwang-shih-decani, gamma: -4}``.
    """
    options = dict(section)
    for key in ("spending", "futility"):
        if isinstance(options.get(key), Mapping):
            try:
                options[key] = _of_kind(SPENDING, options[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
    return _of_kind(INFERENCES, options)


def _checked_inference(section: dict[str, Any]) -> dict[str, Any]:
    inference_of(section)
    return section


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


class ChecksConfig(Section):
    """Further looks at the data, each of which reads it again.

    ``aa_simulations``: random splits on which no effect should be found, none by default. ``outlier_quantile``: who is
    beyond it, of metrics that do not say where they are winsorised; null for no report. ``distributions``: quantiles
    of every arm, for the boxplots.
    """

    aa_simulations: Natural = 0
    outlier_quantile: Fraction | None = 0.99
    distributions: bool = True


def _checked_decision(section: dict[str, Any]) -> dict[str, Any]:
    built(DecisionRule, section)
    return section


class BaselineConfig(Section):
    """What is known of a metric in control before the test: ``mean`` and ``std`` of a unit, or a ``proportion``.

    ``variance_reduction`` is what covariates take from the variance, ``design_effect`` what clusters put on it; see
    :class:`causalrec.abtest.Design`.
    """

    mean: Finite | None = None
    std: Positive | None = None
    proportion: Annotated[float, Field(gt=0, lt=1)] | None = None
    variance_reduction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    design_effect: Positive = 1.0

    @model_validator(mode="after")
    def _is_one_of_them(self) -> BaselineConfig:
        if (self.proportion is None) == (self.std is None) or (self.proportion is not None and self.mean is not None):
            raise ValueError(
                "expected either `mean` and `std` of a unit in control, or its `proportion`; give the one that the "
                "metric is"
            )
        return self

    def options(self) -> dict[str, float]:
        """As parameters of a design."""
        return self.model_dump(exclude_none=True)


class EffectConfig(Section):
    """The smallest effect that matters: ``relative`` to control (0.02 is 2%), or ``absolute`` in the metric's unit."""

    relative: Finite | None = None
    absolute: Finite | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> EffectConfig:
        given = [value for value in (self.relative, self.absolute) if value is not None]
        if len(given) != 1 or given[0] == 0:
            raise ValueError("expected one effect that is not 0, such as {relative: 0.02} or {absolute: 0.5}")
        return self


class PlanConfig(Section):
    """What the design document is computed from: ``causalrec design``.

    ``mde`` and ``units_per_day`` are those of ``decision`` where they are not given here.
    ``data``: a past period of the same table, with or without arms. ``baselines``: numbers in its place, by metric.
    ``mde``: the smallest effect that matters, by metric. ``units_per_day``: new units in all arms, a number or one for
    each of the first days. ``looks``: how often a sequential test is looked at until its end.
    """

    data: Path | None = None
    baselines: dict[str, BaselineConfig] = Field(default_factory=dict)
    mde: dict[str, EffectConfig] = Field(default_factory=dict)
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    units_per_day: Annotated[tuple[NotNegative, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    looks: Annotated[int, Field(ge=1, le=50)] = 5


class ExperimentConfig(RunSettings):
    """An experiment, its table, and how it is analysed; see :class:`causalrec.abtest.Experiment`.

    ``decision`` has the parameters of :class:`causalrec.abtest.DecisionRule`: with it there is a verdict.

    ``weights`` are the designed shares of the arms: with them the sample ratio is tested, against ``srm_threshold``.
    """

    data: Path | None = None
    metrics: dict[str, Annotated[dict[str, Any], AfterValidator(_checked_metric)]] = Field(min_length=1)
    variant: str
    control: Arm
    weights: dict[Arm, Annotated[float, Field(ge=0)]] | None = None
    srm_threshold: Fraction = 0.001
    unit: str | None = None
    cluster: str | None = None
    strata: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    day: str | None = None
    exposed_at: str | None = None
    trigger: str | None = None
    pool: dict[Arm, tuple[Arm, ...]] | None = None
    where: str | None = None
    on_conflict: Literal["raise", "drop"] = "raise"
    on_duplicate: Literal["raise", "drop"] = "raise"
    hypothesis: Annotated[dict[str, Any], AfterValidator(_checked_hypothesis)] = Field(
        default_factory=lambda: {"kind": "superiority"}
    )
    relative: Literal["fieller", "delta", "log"] = "fieller"
    inference: Annotated[dict[str, Any], AfterValidator(_checked_inference)] = Field(
        default_factory=lambda: {"kind": "fixed"}
    )
    decision: Annotated[dict[str, Any], AfterValidator(_checked_decision)] | None = None
    checks: ChecksConfig = ChecksConfig()
    design: PlanConfig = PlanConfig()

    def _plain(self) -> dict[str, Any]:
        pool = None if self.pool is None else {arm: list(arms) for arm, arms in self.pool.items()}
        # As keys JSON knows only text, but an arm may be a number.
        return {**super()._plain(), "weights": self.weights, "pool": pool}

    @model_validator(mode="after")
    def _is_an_experiment(self) -> ExperimentConfig:
        if self.weights is not None and SAMPLE_RATIO in self.metrics:
            raise ValueError(f"a metric is called {SAMPLE_RATIO!r}, the name of the check of `weights`; rename it")
        for key, section in (("design.baselines", self.design.baselines), ("design.mde", self.design.mde)):
            for name in section:
                if name not in self.metrics:
                    raise ValueError(f"{key} names {name!r}, which is no metric.{suggest(name, self.metrics)}")
        self.experiment()
        return self

    def rule(self) -> DecisionRule | None:
        """What will be decided how; None where the config does not say."""
        return None if self.decision is None else built(DecisionRule, self.decision)

    def roles(self) -> dict[str, str]:
        """The role of each metric in the decision; empty without one."""
        rule = self.rule()
        return {} if rule is None else {name: rule.role(name) for name in self.metrics}

    def experiment(self) -> Experiment:
        """The experiment that is described."""
        metrics: dict[str, Metric | SampleRatio] = {name: _metric(each) for name, each in self.metrics.items()}
        if self.weights is not None:
            metrics[SAMPLE_RATIO] = SampleRatio(dict(self.weights), self.srm_threshold)
        same = ("variant", "control", "unit", "cluster", "strata", "segments", "day", "exposed_at", "trigger", "pool",
                "where", "on_conflict", "on_duplicate", "confidence_level", "relative")  # fmt: skip
        hypothesis: Hypothesis = _of_kind(HYPOTHESES, self.hypothesis)
        return Experiment(
            metrics, hypothesis=hypothesis, inference=inference_of(self.inference), decision=self.rule(),
            **{name: getattr(self, name) for name in same},
        )  # fmt: skip


_ONLY_OF_RUNS = set(RunConfig.model_fields) - set(ExperimentConfig.model_fields)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment from YAML, replace the keys given as ``a.b=value``, and validate.

    A bare name such as ``"abtest"`` that is no file stands for a config that comes with causalrec. Values of overrides
    are YAML, as of :func:`causalrec.config.load_config`.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, or describes a run of the pipeline, a key is unknown (with the nearest
        known one) or given twice, or a value is not allowed (with what is).
    """
    file = find_yaml(Path(path))
    raw = read_config(
        file, overrides, sections="`metrics:` and `variant:`", wanted=lambda other: has_keys(other, *EXPERIMENT_KEYS)
    )
    refuse_other_kinds(raw, "an A/B test", file=file, path=path)
    of_a_run = [key for key in raw if key in _ONLY_OF_RUNS]
    if of_a_run and not any(key in raw for key in EXPERIMENT_KEYS):
        raise ConfigError(
            f"{file} describes a run of the pipeline (it has the key {of_a_run[0]!r}), expected an A/B test with "
            f"{' and '.join(map(repr, EXPERIMENT_KEYS))}; run it with: causalrec train --config {path}"
        )
    return parse_experiment(raw, where=str(file))


def inferred(config: ExperimentConfig, kind: str | None, *, sequential: bool = False) -> ExperimentConfig:
    """The same experiment under another inference, unless its own is of the kind asked for already.

    Raises
    ------
    ConfigError
        For an unknown kind, or one that needs numbers which only the config can give.
    """
    own = config.inference["kind"]
    if kind is None and sequential and own not in SEQUENTIAL:
        kind = SEQUENTIAL[0]
    if kind is None or kind == own:
        return config
    return parse_experiment({**config._plain(), "inference": {"kind": kind}}, where="--inference")


def parse_experiment(raw: Mapping[str, Any], *, where: str = "config") -> ExperimentConfig:
    """Validate a mapping; see :func:`load_experiment`."""
    return validated(ExperimentConfig, raw, where=where)
