"""What algebra gives for changed data is what the methods themselves give, to the last digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.observational import ObservationalStudy
from causalrec.observational._changes import Change
from causalrec.observational._fast_refits import fast_refits
from causalrec.observational._refits import again, streams
from causalrec.observational.refutation import SIMULATED, Settings, draw_of

KNOWN, WEIGHTED, CLUSTERED = {"propensity": "chance"}, {"sample_weight": "w"}, {"clusters": "shop"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("difference_in_means", {}, WEIGHTED),
    ("ols", {"error": "HC3"}, {}),
    ("ols", {}, {**WEIGHTED, **CLUSTERED}),
    ("lin", {}, {}),
    ("lin", {"estimand": "att", "population": False}, WEIGHTED),
    ("standardisation", {"estimand": "atc"}, {}),
    ("aipw_parametric", {}, {}),
    ("aipw_parametric", {"estimand": "att"}, WEIGHTED),
    ("aipw_parametric", {"estimand": "atc"}, KNOWN),
    ("ipw", {}, WEIGHTED),
    ("ipw", {"estimand": "att"}, {}),
    ("overlap_weights", {}, {}),
    ("overlap_weights", {"estimand": "atm"}, WEIGHTED),
    ("matching", {}, {}),
    ("matching", {"estimand": "att", "distance": "logit", "ratio": 2, "caliper": 0.2}, {}),
    ("matching", {"caliper": 0.05, "caliper_scale": "raw"}, KNOWN),
]


def make_frame(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 2))
    chance = 1 / (1 + np.exp(-x[:, 0]))
    t = (rng.random(n) < chance).astype(np.int64)
    return pd.DataFrame({
        "x0": x[:, 0], "x1": x[:, 1], "plan": rng.choice(["free", "paid", "gift"], n), "t": t, "chance": chance,
        "y": 50 + x[:, 0] + t + rng.normal(size=n), "w": rng.uniform(0.5, 2.0, n), "shop": np.arange(n) // 4,
    })  # fmt: skip


def study_of(frame: pd.DataFrame, **change: Any) -> ObservationalStudy:
    columns = {"treatment": "t", "outcome": "y", "covariates": ["x0", "x1", "plan"]}
    return ObservationalStudy(frame, **{**columns, **change})


def changes_of(kind: str, study: ObservationalStudy, effect: Any, n: int) -> list[Change]:
    draw, _ = draw_of(kind, study._data, effect.recipe, Settings())
    return [draw(rng) for rng in streams(kind, 0, n)]


@pytest.mark.parametrize(("method", "options", "change"), CASES)
def test_fast_estimates_equal_full_ones(method: str, options: dict[str, Any], change: dict[str, Any]) -> None:
    study = study_of(make_frame(), **change)
    effect = study.estimate(method, **options)
    for kind in SIMULATED[: 4 if method == "matching" else 5]:
        changes = changes_of(kind, study, effect, 2)
        fast = fast_refits(study._data, effect, effect.recipe, kind)
        assert fast is not None
        found = fast(changes)
        full = [again(study._data, effect.recipe, c) for c in changes]
        np.testing.assert_allclose(found, full, rtol=0, atol=2e-9 if method in ("ipw", "overlap_weights") else 2e-10)


def test_the_number_of_treatments_at_once_changes_nothing() -> None:
    study = study_of(make_frame())
    effect = study.estimate("ols")
    fast = fast_refits(study._data, effect, effect.recipe, "placebo_treatment")
    changes = changes_of("placebo_treatment", study, effect, 8)
    assert fast is not None
    np.testing.assert_allclose(fast(changes), [fast([c])[0] for c in changes], rtol=1e-12)


def test_equal_covariates_stay_ties() -> None:
    """Few values of the covariates: every match is of many, and a tie that rounding breaks would change estimates."""
    frame = make_frame().assign(x0=lambda f: f["x0"].round(), x1=lambda f: (f["x1"] > 0).astype(int))
    study = study_of(frame)
    effect = study.estimate("matching")
    for kind in ("placebo_treatment", "data_subset"):
        changes = changes_of(kind, study, effect, 5)
        fast = fast_refits(study._data, effect, effect.recipe, kind)
        assert fast is not None
        full = [again(study._data, effect.recipe, c) for c in changes]
        np.testing.assert_allclose(fast(changes), full, rtol=0, atol=1e-10)


def test_collinear_columns_and_levels_that_a_subset_lacks_fall_back() -> None:
    frame = make_frame().assign(twice=lambda f: 2 * f["x0"] + 1, rare=np.r_[1.0, np.zeros(399)])
    study = study_of(frame, covariates=["x0", "twice", "rare", "x1"])
    effect = study.estimate("ols")
    fast = fast_refits(study._data, effect, effect.recipe, "data_subset")
    assert fast is not None
    without = Change(rows=np.arange(1, 400))
    assert np.isnan(fast([without])[0])
    found = study.refute(effect, ["data_subset"], n_simulations=19)  # the method itself leaves the column out
    assert found["data_subset"].n_simulations == 19


def test_what_has_no_fast_way() -> None:
    study = study_of(make_frame())
    for method, options in (
        ("matching", {"replace": False, "estimand": "att"}),
        ("matching", {"bias_adjustment": True}),
        ("matching", {"distance": "mahalanobis"}),
        ("ipw", {"clip": 0.05}),
        ("aipw_parametric", {"outcome_model": "poisson"}),
        ("subclassification", {}),
    ):
        frame = make_frame().assign(y=lambda f: f["y"].abs())
        own = study_of(frame) if "outcome_model" in options else study
        effect = own.estimate(method, **options)
        assert fast_refits(own._data, effect, effect.recipe, "placebo_treatment") is None
    effect = study.estimate("matching", bias_adjustment=True)  # weights that do not make the estimate
    assert fast_refits(study._data, effect, effect.recipe, "dummy_outcome") is None
    probit = study_of(make_frame(), propensity_model="probit")
    effect = probit.estimate("ipw")
    assert fast_refits(probit._data, effect, effect.recipe, "data_subset") is None


def test_a_score_without_a_maximum_falls_back_to_the_method_s_own_error() -> None:
    frame = make_frame(40)
    study = study_of(frame, covariates=["x0", "x1"])
    effect = study.estimate("ipw")
    fast = fast_refits(study._data, effect, effect.recipe, "placebo_treatment")
    assert fast is not None
    apart = (frame["x0"] > frame["x0"].median()).to_numpy().astype(np.int64)
    assert np.isnan(fast([Change(treatment=apart)])[0])
