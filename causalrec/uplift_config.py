"""The uplift model's part of a run's YAML: the learner, its base models and their settings, and the nuisances."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic takes that of typing only from Python 3.12 on

from causalrec._schema import Fraction, Natural, NonNegative, Positive, Section, Threads, check_options


def _or_auto(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    return value if value == "auto" else check(value)


@with_config(ConfigDict(extra="forbid"))
class BoostedParams(TypedDict, total=False):
    """Settings of :class:`causalrec.nuisance.BoostedRegressor`; ``auto`` lets the data choose."""

    n_estimators: Annotated[Positive, WrapValidator(_or_auto)]
    max_depth: Annotated[Positive, WrapValidator(_or_auto)]
    learning_rate: Annotated[float, Field(gt=0), WrapValidator(_or_auto)]
    min_child_weight: Annotated[NonNegative, WrapValidator(_or_auto)]
    reg_lambda: NonNegative
    max_bin: Annotated[int, Field(strict=True, ge=2), WrapValidator(_or_auto)]
    linear_start: bool
    early_stopping: bool
    patience: Positive
    n_folds: Annotated[int, Field(strict=True, ge=2)]
    small: Natural
    validation_fraction: Fraction
    device: str
    n_jobs: Threads


@with_config(ConfigDict(extra="forbid"))
class LinearParams(TypedDict, total=False):
    """Settings of the linear base: ridge, or logistic for 0/1 outcomes, on standardised covariates."""

    alpha: Annotated[float, Field(gt=0)]


@with_config(ConfigDict(extra="forbid"))
class ForestParams(TypedDict, total=False):
    """Settings of scikit-learn's random forests."""

    n_estimators: Positive
    max_depth: Positive
    min_samples_leaf: Positive
    max_features: Fraction
    n_jobs: Threads


@with_config(ConfigDict(extra="forbid"))
class CausalForestParams(TypedDict, total=False):
    """Settings of EconML's ``CausalForestDML``."""

    n_estimators: Annotated[int, Field(strict=True, ge=4, multiple_of=4)]
    max_depth: Positive
    min_samples_leaf: Positive
    max_samples: Annotated[float, Field(gt=0, le=0.5)]
    n_jobs: Threads


Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Learner = Literal["s", "t", "x", "r", "dr", "class_transformation", "stacked", "causal_forest"]
_BASES = {"boosted": BoostedParams, "linear": LinearParams, "forest": ForestParams}


class TargetingConfig(Section):
    """Whom to treat: what a unit of the outcome is worth, what treating a unit costs, and how much may be spent.

    ``value`` and ``cost`` are in one currency. ``budget`` is for a whole batch of ``causalrec infer``; without it
    everybody is treated whose predicted gain, value times uplift, is above the cost.
    """

    value: Amount
    cost: Amount
    budget: Amount | None = None


class UpliftConfig(Section):
    """The uplift model: of which design and outcome, which learner, on which base models, and how nuisances are fitted.

    ``design`` is the experiment where there is one, else the campaign. A randomised design has a known propensity;
    otherwise it is cross-fitted, with ``calibration`` and ``clip`` as in :func:`causalrec.nuisance.fit_nuisances`.
    Without ``learner`` it is the X-learner where the treatment was randomised, else the DR-learner, which is right if
    either the outcome models or the propensity are. ``params`` are those of the base; for ``learner: causal_forest``,
    which has a base of its own, those of the forest. ``members`` are the learners that ``learner: stacked`` weighs.
    ``champion_metric`` is what a new model must be shown to be better by; ``top_share`` is the share of effects at the
    top, of the lift share and of ``champion_metric: uplift_at_k``. With ``targeting`` the report has the profit by
    share treated, and ``causalrec infer`` recommends by cost and budget. ``policy_tree_depth`` is how many questions
    the report's policy tree asks of a unit; 0 for none.
    """

    enabled: bool = True
    design: Literal["experiment", "campaign"] | None = None
    outcome: str | None = None
    top_share: Fraction = 0.1
    learner: Learner | None = None
    members: tuple[Literal["s", "t", "x", "r", "dr"], ...] = ("t", "x", "r", "dr")
    base: Literal["boosted", "linear", "forest"] = "boosted"
    params: dict[str, Any] = Field(default_factory=dict)
    n_folds: Annotated[int, Field(strict=True, ge=2, le=50)] = 5
    calibration: Literal["sigmoid", "isotonic"] | None = None
    clip: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    champion_metric: Literal["qini", "auuc", "autoc", "uplift_at_k"] = "qini"
    targeting: TargetingConfig | None = None
    policy_tree_depth: Annotated[int, Field(strict=True, ge=0, le=3)] = 2

    @field_validator("params", mode="after")
    @classmethod
    def _params_are_those_of_the_base(cls, params: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        forest = info.data.get("learner") == "causal_forest"
        known: Any = CausalForestParams if forest else _BASES.get(info.data.get("base", ""))
        if known is None:  # the base itself is refused
            return params
        check_options(params, known.__annotations__, key="uplift.params")
        return dict(TypeAdapter(known).validate_python(params))  # whose errors name the key below this one

    @model_validator(mode="after")
    def _settings_fit_the_learner(self) -> UpliftConfig:
        if self.learner == "causal_forest" and "base" in self.model_fields_set and self.base != "boosted":
            raise ValueError(
                f"learner is causal_forest, which has no base, but base is {self.base!r}; leave base out and give the "
                "forest's own settings as params"
            )
        if self.learner == "stacked" and len(set(self.members)) < 2:
            raise ValueError(f"members is {list(self.members)}; stacking weighs at least two different learners")
        return self
