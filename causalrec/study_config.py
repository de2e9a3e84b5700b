"""The YAML of an observational study: the columns of one table, a graph if there is one, and what is to be refuted.

The keys are those of :class:`causalrec.observational.ObservationalStudy`. Unknown keys are refused at every depth and
the nearest known key is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from causalrec._schema import Section, Threads, validated
from causalrec._yaml import find_yaml, has_keys
from causalrec.config import STUDY_KEYS, Arm, RunConfig, RunSettings, read_config, refuse_other_kinds
from causalrec.exceptions import ConfigError


class RefutationConfig(Section):
    """What the effect must survive; see :meth:`causalrec.observational.ObservationalStudy.refute`.

    ``refuters``: their names, by default all that apply. ``negative_outcomes``: columns that the treatment cannot have
    changed, such as what was measured before it. ``negative_treatments``: columns that cannot have changed the outcome.
    """

    refuters: tuple[str, ...] | None = None
    n_simulations: Annotated[int, Field(strict=True, ge=20)] = 100
    negative_outcomes: tuple[str, ...] = ()
    negative_treatments: tuple[str, ...] = ()
    n_jobs: Threads = 1


class StudyConfig(RunSettings):
    """A study, its table, and how it is analysed; see :class:`causalrec.observational.ObservationalStudy`.

    ``graph``: DOT or GML text, or a file of either, in place of ``covariates``. ``where``: an SQL condition on rows.
    ``method``, ``estimand`` and ``options``: of the headline; ``methods``: those beside it, by default all.
    """

    data: Path | None = None
    treatment: str
    outcome: str
    covariates: tuple[str, ...] = ()
    graph: str | None = None
    control: Arm | None = None
    clusters: str | None = None
    sample_weight: str | None = None
    propensity: str | Annotated[float, Field(gt=0, lt=1)] | None = None
    propensity_model: Literal["logistic", "probit", "boosted"] = "logistic"
    missing: Literal["error", "drop", "indicator", "impute"] = "error"
    where: str | None = None
    method: str | None = None
    estimand: Literal["ate", "att", "atc", "ato"] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    methods: tuple[str, ...] | None = None
    refutation: RefutationConfig = RefutationConfig()

    @model_validator(mode="after")
    def _adjusts_by_one_of_them(self) -> StudyConfig:
        if self.graph is not None and self.covariates:
            raise ValueError("give `covariates` or a `graph`, not both: the graph says what to adjust for")
        if self.options and self.method is None:
            raise ValueError("`options` are those of a `method`, which is not named")
        return self

    def columns(self) -> list[str]:
        """The columns that the config names, each once; a graph may need more of the table."""
        named = [
            self.treatment, self.outcome, *self.covariates, self.clusters, self.sample_weight,
            *self.refutation.negative_outcomes, *self.refutation.negative_treatments,
        ]  # fmt: skip
        if isinstance(self.propensity, str):
            named.append(self.propensity)
        return list(dict.fromkeys(column for column in named if column is not None))


_ONLY_OF_RUNS = set(RunConfig.model_fields) - set(StudyConfig.model_fields)


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from YAML, replace the keys given as ``a.b=value``, and validate.

    A bare name such as ``"ate"`` that is no file stands for a config that comes with causalrec. A ``graph`` that names
    a file is looked for beside the config as well.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, or describes something else, a key is unknown (with the nearest known
        one) or given twice, or a value is not allowed (with what is).
    """
    file = find_yaml(Path(path))
    raw = read_config(
        file, overrides, sections="`treatment:` and `outcome:`", wanted=lambda other: has_keys(other, *STUDY_KEYS)
    )
    refuse_other_kinds(raw, "a study", file=file, path=path)
    of_a_run = [key for key in raw if key in _ONLY_OF_RUNS]
    if of_a_run and not any(key in raw for key in STUDY_KEYS):
        raise ConfigError(
            f"{file} describes a run of the pipeline (it has the key {of_a_run[0]!r}), expected a study with "
            f"{' and '.join(map(repr, STUDY_KEYS))}; run it with: causalrec train --config {path}"
        )
    graph = raw.get("graph")
    if isinstance(graph, str) and "{" not in graph and "[" not in graph and (file.parent / graph).is_file():
        raw = {**raw, "graph": str(file.parent / graph)}
    return parse_study(raw, where=str(file))


def parse_study(raw: Mapping[str, Any], *, where: str = "config") -> StudyConfig:
    """Validate a mapping; see :func:`load_study`."""
    return validated(StudyConfig, raw, where=where)
