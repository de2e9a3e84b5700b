"""One YAML per run, turned into a frozen and validated :class:`RunConfig`.

Unknown keys are refused at every depth and the nearest known key is named. ``--set a.b=value``
on the command line replaces single keys before validation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic takes that of typing only from Python 3.12 on

from causalrec._schema import (
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Section,
    Threads,
    check_options,
    suggest,
    validated,
)
from causalrec._yaml import Dumper, at_hand, find_yaml, has_keys, overridden, read_mapping
from causalrec.datasets import list_datasets, simulate_marketplace
from causalrec.engines import LocalEngine, SparkEngine
from causalrec.exceptions import ConfigError
from causalrec.features import Aggregation, CandidateSpec, parse_window
from causalrec.uplift_config import UpliftConfig

Handling = Literal["keep", "drop", "error"]
Operation = Literal["count", "sum", "mean", "min", "max", "first", "last", "n_unique", "recency", "std"]


def _window(text: str) -> str:
    parse_window(text)
    return text


def _arm(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("expected the name or the number of an arm; put words such as no and on, and dates, in quotes")
    return value


# What stands at the top of the files of other commands, and never of a run's.
EXPERIMENT_KEYS = ("metrics", "variant")
STUDY_KEYS = ("treatment", "outcome")

Window = Annotated[str, AfterValidator(_window)]
Arm = Annotated[str | int, BeforeValidator(_arm)]


class EngineConfig(Section):
    """Where tables are read and features computed."""

    name: Literal["local", "spark"] = "local"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_are_known(self) -> EngineConfig:
        engine = {"local": LocalEngine, "spark": SparkEngine}[self.name]
        check_options(self.options, inspect.signature(engine).parameters, key="engine.options")
        return self


class TrackingConfig(Section):
    """Where runs are recorded; the experiment is named after the config unless said otherwise."""

    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None


class DataConfig(Section):
    """The tables of a run: the simulated marketplace, a public data set by name, or the user's files."""

    source: str = "marketplace"
    path: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tables: dict[str, Path] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tables_belong_to_files(self) -> DataConfig:
        if bool(self.tables) != (self.source == "files"):
            raise ValueError("give data.tables (name: path) with data.source: files, and only then")
        return self

    @model_validator(mode="after")
    def _source_and_options_are_known(self) -> DataConfig:
        known = ["marketplace", "files", *list_datasets()]
        if self.source not in known:
            raise ValueError(f"there is no source {self.source!r}.{suggest(self.source, known)}")
        if self.source == "marketplace":
            check_options(self.options, inspect.signature(simulate_marketplace).parameters, key="data.options")
        if self.source == "files":
            check_options(self.options, (), key="data.options")
        return self


class EventsConfig(Section):
    """The event log and its columns."""

    table: str = "events"
    user: str = "user_id"
    item: str = "item_id"
    time: str = "event_time"
    event_type: str = "event_type"


class AggregationConfig(Section):
    """One windowed feature; see :class:`causalrec.features.Aggregation`."""

    op: Operation
    column: str | None = None
    window: Window | None = None
    where: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _can_be_computed(self) -> AggregationConfig:
        Aggregation(**self.model_dump())
        return self


class QualityConfig(Section):
    """What is checked in the event log, and what is done about it; see :func:`causalrec.journeys.clean`.

    By default it is counted and said, and nothing is changed.
    """

    enabled: bool = True
    nulls: Handling = "keep"
    skew: Handling = "keep"
    duplicates: Handling = "keep"
    several_variants: Handling = "keep"
    bots: Handling = "keep"
    variant: str | None = None
    arrival: str | None = None
    registered: str | None = None
    steps: tuple[str, ...] | None = None
    now: str | None = None
    per_day: Positive | None = None
    per_minute: Positive | None = None


class FeaturesConfig(Section):
    """Features by entity, all as of the time they are asked, and where they are kept."""

    directory: Path = Path("feature_store")
    user: tuple[AggregationConfig, ...] = ()
    item: tuple[AggregationConfig, ...] = ()
    user_item: tuple[AggregationConfig, ...] = ()


class OutcomeConfig(Section):
    """An outcome: a column of the table, or an aggregate of the events in ``[time, time + window)``.

    ``kind: proportion`` is a 0/1 outcome; of an aggregate it says whether it is above zero.
    """

    kind: Literal["proportion", "mean"]
    column: str | None = None
    op: Literal["count", "sum", "mean", "min", "max", "n_unique"] | None = None
    window: Window | None = None
    where: str | None = None
    truth: str | None = None

    @model_validator(mode="after")
    def _window_needs_op(self) -> OutcomeConfig:
        if (self.op is None) != (self.window is None):
            raise ValueError("an outcome from events needs both op and window; one from a column neither")
        if self.op is not None:
            Aggregation(self.op, self.column, self.window, self.where)
        elif self.where is not None:
            raise ValueError("where applies to an outcome from events; it needs op and window")
        return self


class DesignConfig(Section):
    """Units, who was treated, and what came of it: an experiment or a campaign."""

    table: str
    unit: str
    treatment: str
    control: Arm
    treated: Arm | None = None
    time: str | None = None
    join: str | None = None
    outcomes: dict[str, OutcomeConfig] = Field(min_length=1)
    covariates: tuple[str, ...] = ()
    use_features: bool = True
    randomised: bool
    expected_share: Fraction | None = None
    on_conflict: Literal["raise", "drop"] = "raise"

    @model_validator(mode="after")
    def _roles_differ(self) -> DesignConfig:
        if self.treated is not None and self.treated == self.control:
            raise ValueError(f"treated and control are both {self.control!r}; an effect needs two arms")
        columns = {outcome.column or name for name, outcome in self.outcomes.items() if outcome.op is None}
        for role, taken in (("unit", {self.unit}), ("treatment", {self.treatment}), ("outcome", columns)):
            both = sorted(taken.intersection(self.covariates))
            if both:
                raise ValueError(f"covariates hold {both[0]!r}, which is the {role}; covariates are what came before")
        return self


class SplitConfig(Section):
    """Shares of units by a hash of their id: held out from training, and, of the others, those that judge it."""

    test_share: Fraction = 0.3
    validation_share: Fraction = 0.3


@with_config(ConfigDict(extra="forbid"))
class RankerParams(TypedDict, total=False):
    """Settings of :class:`causalrec.ranking.Ranker`."""

    n_estimators: Positive
    max_depth: Natural
    learning_rate: Annotated[float, Field(gt=0)]
    min_child_weight: NonNegative
    early_stopping_rounds: Positive
    n_jobs: Threads


class RankerConfig(Section):
    """The ranker: candidates, time split and XGBoost settings."""

    enabled: bool = True
    k: Positive = 10
    horizon: Window = "7d"
    train_cutoffs: Positive = 3
    popularity_window: Window = "7d"
    target: Literal["any", "purchase"] = "any"
    candidates: dict[str, Any] = Field(default_factory=dict)
    params: RankerParams = Field(default_factory=RankerParams)

    @model_validator(mode="after")
    def _candidates_are_known(self) -> RankerConfig:
        known = set(CandidateSpec.__dataclass_fields__) - {"horizon"}  # ranker.horizon, which spaces the cutoffs too
        check_options(self.candidates, known, key="ranker.candidates")
        return self


_FORMER_METHODS = {"propensity_matching": "matching", "doubly_robust": "aipw"}  # names of runs before there were more


def _effect_method(name: object) -> object:
    return _FORMER_METHODS.get(name, name) if isinstance(name, str) else name


# The names of causalrec.observational.METHODS, whose import would slow down every command.
EffectMethod = Annotated[
    Literal[
        "difference_in_means", "ols", "lin", "standardisation", "matching", "full_matching", "subclassification",
        "ipw", "overlap_weights", "entropy_balancing", "aipw", "aipw_parametric", "g_estimation", "dml",
        "causal_forest",
    ],
    BeforeValidator(_effect_method),
]  # fmt: skip


class AverageEffectConfig(Section):
    """The average effect of the campaign, or of the experiment where there is no campaign.

    ``refuters``: those of :meth:`causalrec.observational.ObservationalStudy.refute`, by default all that apply;
    ``n_placebo``: simulations of each.
    """

    enabled: bool = True
    outcome: str | None = None
    estimand: Literal["ate", "att", "atc", "ato"] = "ate"
    method: EffectMethod | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    cross_check: bool = True
    compare: bool = True
    n_placebo: Annotated[int, Field(strict=True, ge=20)] = 100
    refuters: tuple[str, ...] | None = None


class ABTestConfig(Section):
    """The A/B test of the experiment."""

    enabled: bool = True
    metrics: tuple[str, ...] | None = None
    srm_threshold: Fraction = 0.001


class RunSettings(Section):
    """What every run has, whatever it does: a name, a seed, a level, and where it works and is kept."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    description: str = ""
    seed: Natural = 7
    confidence_level: Fraction = 0.95
    output_dir: Path = Path("runs")
    engine: EngineConfig = EngineConfig()
    tracking: TrackingConfig = TrackingConfig()

    def to_yaml(self) -> str:
        """The resolved config as YAML, every default written out; reading it back changes nothing."""
        return str(yaml.dump(self._plain(), Dumper=Dumper, sort_keys=False, allow_unicode=True))

    def _plain(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class RunConfig(RunSettings):
    """A whole run."""

    data: DataConfig = DataConfig()
    events: EventsConfig | None = None
    quality: QualityConfig = QualityConfig()
    features: FeaturesConfig = FeaturesConfig()
    experiment: DesignConfig | None = None
    campaign: DesignConfig | None = None
    split: SplitConfig = SplitConfig()
    ranker: RankerConfig = RankerConfig()
    uplift: UpliftConfig = UpliftConfig()
    average_effect: AverageEffectConfig = AverageEffectConfig()
    abtest: ABTestConfig = ABTestConfig()

    @property
    def uplift_design(self) -> DesignConfig | None:
        """The design that the uplift model learns from."""
        if self.uplift.design is not None:
            return self.experiment if self.uplift.design == "experiment" else self.campaign
        return self.experiment or self.campaign

    @model_validator(mode="after")
    def _outcomes_exist(self) -> RunConfig:
        if self.uplift.design is not None and getattr(self, self.uplift.design) is None:
            raise ValueError(f"uplift.design is {self.uplift.design}, but there is no `{self.uplift.design}:` section")
        for design, wanted, key in (
            (self.uplift_design, [self.uplift.outcome], "uplift.outcome"),
            (self.experiment, list(self.abtest.metrics or ()), "abtest.metrics"),
            (self.campaign or self.experiment, [self.average_effect.outcome], "average_effect.outcome"),
        ):
            unknown = [name for name in wanted if design is not None and name and name not in design.outcomes]
            if unknown and design is not None:
                raise ValueError(
                    f"{key} names {unknown[0]!r}, not an outcome of its table.{suggest(unknown[0], design.outcomes)}"
                )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, replace the keys given as ``a.b=value``, and validate.

    A bare name such as ``"hillstrom"`` that is no file stands for a config that comes with causalrec. Values of
    overrides are YAML: ``split.test_share=0.2``, ``abtest.metrics=[visit, spend]``, ``campaign=null``,
    ``experiment.control="no"``. A number picks an entry of a list: ``features.user.0.window=3d``.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, or describes an A/B test or a study, a key is unknown (with the nearest
        known one) or given twice, or a value is not allowed (with what is).
    """
    file = find_yaml(Path(path))
    raw = read_config(
        file,
        overrides,
        sections="`name:` and `data:`",
        wanted=lambda other: not any(has_keys(other, *keys) for keys in (EXPERIMENT_KEYS, STUDY_KEYS)),
    )
    refuse_other_kinds(raw, "a run of the pipeline", file=file, path=path)
    return parse_config(raw, where=str(file))


def refuse_other_kinds(raw: Mapping[str, Any], expected: str, *, file: Path, path: str | Path) -> None:
    """Raise :class:`ConfigError` for a file that describes something that another command analyses."""
    kinds = {"an A/B test": (EXPERIMENT_KEYS, "abtest"), "a study": (STUDY_KEYS, "ate")}
    for kind, (keys, command) in kinds.items():
        if kind != expected and all(key in raw for key in keys):
            raise ConfigError(
                f"{file} describes {kind} (it has the keys {' and '.join(map(repr, keys))}), expected {expected}; "
                f"analyse it with: causalrec {command} --config {path}"
            )


def read_config(
    file: Path, overrides: Sequence[str], *, sections: str, wanted: Callable[[Path], bool]
) -> dict[str, Any]:
    """The mapping in a config file with single keys replaced.

    Messages name its usual ``sections``, and the files of the ``wanted`` kind when this one is missing.
    """
    raw = read_mapping(file, what="config file", sections=sections, hint=lambda: at_hand(file, wanted=wanted))
    for override in overrides:
        raw = overridden(raw, override)
    return raw


def parse_config(raw: Mapping[str, Any], *, where: str = "config") -> RunConfig:
    """Validate a mapping; see :func:`load_config`."""
    return validated(RunConfig, raw, where=where)
