"""Who is treated, by cost and budget, by segment, or by the sign of the prediction; and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.exceptions import ConfigError
from causalrec.pipelines.targeting import Recommendations, chosen_targeting, recommend
from causalrec.results import NAN, SegmentRule
from causalrec.uplift_config import TargetingConfig

ARMS = ("none", "mail")
RULE = SegmentRule("none", "mail", (0.1, -0.1), ("persuadables", "no effect shown", "sleeping dogs"), 0.5)


def advice(uplift: list[float], *, rule: SegmentRule | None = None, **money: float) -> Recommendations:
    scores = pd.DataFrame({"uplift": uplift, "outcome_if_control": np.linspace(0, 1, len(uplift))})
    return recommend(scores, ARMS, rule, TargetingConfig(**money) if money else None)


def treated(found: Recommendations) -> list[int]:
    return [int(i) for i in np.flatnonzero(found.frame["action"] == "mail")]


def test_without_segments_and_costs_the_sign_decides() -> None:
    found = advice([0.2, 0.0, -0.1, 0.01])
    assert treated(found) == [0, 3]
    assert list(found.frame.columns) == ["action"]
    assert "no held-out data have confirmed" in found.basis[0]
    assert np.isnan(found.spend)
    assert found.counts.to_dict("list") == {"segment": ["all"], "none": [2], "mail": [2]}


def test_without_costs_the_persuadables_are_treated() -> None:
    found = advice([0.2, 0.05, -0.05, -0.3, 0.15], rule=RULE)
    assert found.frame["uplift_segment"].tolist() == [
        "persuadables", "lost causes", "sure things", "sleeping dogs", "persuadables",
    ]  # fmt: skip
    assert treated(found) == [0, 4]
    assert found.counts.iloc[0].tolist() == ["persuadables", 0, 2]
    assert found.counts[["none", "mail"]].to_numpy().sum() == 5
    assert "95% for all groups at once" in found.basis[0]
    assert "--cost" in found.basis[1]


def test_a_rule_without_a_baseline_leaves_people_undecided() -> None:
    rule = SegmentRule("none", "mail", (0.1,), ("persuadables", "no effect shown"), NAN)
    found = recommend(pd.DataFrame({"uplift": [0.2, 0.0]}), ARMS, rule, None)
    assert found.frame["uplift_segment"].tolist() == ["persuadables", "undecided"]


def test_costs_decide_where_they_are_known() -> None:
    found = advice([0.2, 0.05, -0.05, 0.06], value=10, cost=0.55)
    assert treated(found) == [0, 3]
    assert found.frame["cost"].tolist() == [0.55, 0, 0, 0.55]
    np.testing.assert_allclose(found.frame["expected_gain"], [1.45, 0, 0, 0.05])
    assert (found.spend, found.gain) == (pytest.approx(1.1), pytest.approx(1.5))
    assert found.basis[0] == "treated: where the predicted gain, 10 × uplift, is above the cost of 0.55"


@given(st.lists(st.integers(-5, 9), min_size=1, max_size=12), st.sampled_from([0.5, 1.0, 2.5]), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_a_budget_goes_to_the_highest_gains_in_whole_units(uplift: list[int], value: float, units: int) -> None:
    found = advice([float(u) for u in uplift], value=value, cost=2.0, budget=units * 2.0)
    gains = sorted((value * u - 2.0 for u in uplift if value * u > 2.0), reverse=True)[:units]
    assert found.gain == pytest.approx(sum(gains), abs=1e-9)
    assert found.spend == pytest.approx(2.0 * len(gains))
    assert "up to a budget of" in found.basis[0]


def test_a_unit_that_a_budget_pays_in_part_is_not_treated() -> None:
    found = advice([3.0, 2.0, 1.0], value=1, cost=0.4, budget=1.0)
    assert treated(found) == [0, 1]
    assert found.spend == pytest.approx(0.8)
    assert "which is spent: one more spent would bring in 2.5" in found.basis[0]


def test_those_who_are_shown_to_be_harmed_are_never_treated() -> None:
    odd = SegmentRule("none", "mail", (0.1,), ("sleeping dogs", "persuadables"))  # the order is the wrong way round
    found = advice([0.2, 0.3, 0.05], rule=odd, value=10, cost=0.1)
    assert treated(found) == [2]
    assert "2 sleeping dogs" in found.basis[1]


@pytest.mark.parametrize(
    ("configured", "given", "expected"),
    [
        (None, {}, None),
        ({"value": 2, "cost": 1}, {}, (2, 1, None)),
        ({"value": 2, "cost": 1}, {"budget": 5, "cost": 3}, (2, 3, 5)),
        (None, {"value": 2, "cost": 1}, (2, 1, None)),
    ],
)
def test_what_is_given_takes_the_place_of_the_config(configured: Any, given: Any, expected: Any) -> None:
    found = chosen_targeting(None if configured is None else TargetingConfig(**configured), given)
    assert (found and (found.value, found.cost, found.budget)) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"value": 2}, "--value is given, but no cost"),
        ({"budget": 2}, "--budget is given, but no value and no cost"),
        ({"value": 2, "cost": 0}, "'cost': expected greater than 0 (found 0)"),
        ({"value": 2, "cost": 1, "budget": -1}, "'budget': expected greater than 0"),
        ({"value": float("nan"), "cost": 1}, "'value'"),
    ],
)
def test_amounts_that_cannot_be_are_named(given: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        chosen_targeting(None, given)
    assert text in str(error.value)
