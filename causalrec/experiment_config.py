"""The YAML of an A/B test: an :class:`~causalrec.abtest.Experiment` whose keys are those of the Python class.

A metric's keys are the parameters of its class, ``kind`` says which; so are a hypothesis's. Unknown keys are refused at
every depth and the nearest known key is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from causalrec._schema import Section, built, suggest, validated
from causalrec._yaml import find_yaml, has_keys
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.config import EXPERIMENT_KEYS, Arm, Fraction, Natural, RunConfig, RunSettings, read_config
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
SAMPLE_RATIO = "sample_ratio"


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


class ChecksConfig(Section):
    """Further looks at the data, each of which reads it again.

    ``aa_simulations``: random splits on which no effect should be found, none by default. ``outlier_quantile``: who is
    beyond it, of metrics that do not say where they are winsorised; null for no report. ``distributions``: quantiles
    of every arm, for the boxplots.
    """

    aa_simulations: Natural = 0
    outlier_quantile: Fraction | None = 0.99
    distributions: bool = True


class ExperimentConfig(RunSettings):
    """An experiment, its table, and how it is analysed; see :class:`causalrec.abtest.Experiment`.

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
    checks: ChecksConfig = ChecksConfig()

    def _plain(self) -> dict[str, Any]:
        pool = None if self.pool is None else {arm: list(arms) for arm, arms in self.pool.items()}
        # As keys JSON knows only text, but an arm may be a number.
        return {**super()._plain(), "weights": self.weights, "pool": pool}

    @model_validator(mode="after")
    def _is_an_experiment(self) -> ExperimentConfig:
        if self.weights is not None and SAMPLE_RATIO in self.metrics:
            raise ValueError(f"a metric is called {SAMPLE_RATIO!r}, the name of the check of `weights`; rename it")
        self.experiment()
        return self

    def experiment(self) -> Experiment:
        """The experiment that is described."""
        metrics: dict[str, Metric | SampleRatio] = {name: _metric(each) for name, each in self.metrics.items()}
        if self.weights is not None:
            metrics[SAMPLE_RATIO] = SampleRatio(dict(self.weights), self.srm_threshold)
        same = ("variant", "control", "unit", "cluster", "strata", "segments", "day", "exposed_at", "trigger", "pool",
                "where", "on_conflict", "on_duplicate", "confidence_level", "relative")  # fmt: skip
        return Experiment(
            metrics, hypothesis=_of_kind(HYPOTHESES, self.hypothesis), **{name: getattr(self, name) for name in same}
        )


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
    of_a_run = [key for key in raw if key in _ONLY_OF_RUNS]
    if of_a_run and not any(key in raw for key in EXPERIMENT_KEYS):
        raise ConfigError(
            f"{file} describes a run of the pipeline (it has the key {of_a_run[0]!r}), expected an A/B test with "
            f"{' and '.join(map(repr, EXPERIMENT_KEYS))}; run it with: causalrec train --config {path}"
        )
    return parse_experiment(raw, where=str(file))


def parse_experiment(raw: Mapping[str, Any], *, where: str = "config") -> ExperimentConfig:
    """Validate a mapping; see :func:`load_experiment`."""
    return validated(ExperimentConfig, raw, where=where)
