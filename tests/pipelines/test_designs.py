"""Designs against small hand-made tables: what counts as before, what counts as after, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.config import parse_config
from causalrec.engines import LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.features import FeatureStore
from causalrec.pipelines.designs import Design, build_design, hash_shares

T = pd.Timestamp("2025-03-10 12:00")
US, DAY = pd.Timedelta("1us"), pd.Timedelta("1D")
Y = {"y": {"kind": "mean"}}


def build(tables: Mapping[str, pd.DataFrame], experiment: Mapping[str, Any], **config: Any) -> Design:
    raw = {
        "name": "test",
        "experiment": {
            "table": "units", "unit": "user_id", "treatment": "arm", "control": "old", "randomised": True,
            "outcomes": Y, **experiment,
        }, **config,
    }  # fmt: skip
    parsed = parse_config(raw)
    assert parsed.experiment is not None
    with LocalEngine(threads=1) as engine:
        for name, frame in tables.items():
            engine.register(name, frame)
        return build_design("experiment", parsed.experiment, parsed, engine, FeatureStore(engine))


def units_of(n: int = 6, **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": np.arange(n), "arm": np.where(np.arange(n) % 2, "new", "old"), "y": 0.0, "at": T})
    return frame.assign(**columns)


def log_of(*rows: tuple[int, pd.Timestamp, str, float]) -> pd.DataFrame:
    log = pd.DataFrame(list(rows), columns=["user_id", "event_time", "event_type", "revenue"])
    return log.assign(item_id=1, event_time=log["event_time"].astype("datetime64[us]"))


EVENTS = {"events": {"table": "events"}}
COUNTS = {
    "features": {"user": [{"op": "count", "name": "n_before"}, {"op": "count", "window": "2d", "name": "n_before_2d"}]}
}


# --- before and after -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "before", "before_2d", "after"),
    [
        (-2 * DAY - US, 1, 0, 0),
        (-2 * DAY, 1, 1, 0),
        (-US, 1, 1, 0),
        (0 * US, 0, 0, 1),  # an event at the time of assignment is an outcome, never a feature
        (US, 0, 0, 1),
        (3 * DAY - US, 0, 0, 1),
        (3 * DAY, 0, 0, 0),
    ],
)
def test_an_event_is_before_or_after_edge_by_edge(shift: pd.Timedelta, before: int, before_2d: int, after: int) -> None:
    design = build(
        {"units": units_of(2), "events": log_of((1, T + shift, "purchase", 5.0))},
        {"time": "at", "outcomes": {
            "bought": {"kind": "proportion", "op": "count", "window": "3d"},
            "spend": {"kind": "mean", "op": "sum", "column": "revenue", "window": "3d"},
        }},
        **EVENTS, **COUNTS,
    )  # fmt: skip
    found = design.frame.set_index("user_id")
    assert found.loc[1, ["n_before", "n_before_2d", "bought", "spend"]].tolist() == [
        before,
        before_2d,
        after,
        5 * after,
    ]
    assert found.loc[0, ["n_before", "n_before_2d", "bought", "spend"]].tolist() == [0, 0, 0, 0]
    assert design.covariates == ("n_before", "n_before_2d")


def test_every_unit_has_a_time_of_its_own() -> None:
    times = [T, T + DAY]
    log = log_of((0, T + DAY / 2, "view", 0.0), (1, T + DAY / 2, "view", 0.0))
    design = build(
        {"units": units_of(2, at=times), "events": log},
        {"time": "at", "outcomes": {"seen": {"kind": "mean", "op": "count", "window": "1d"}}}, **EVENTS, **COUNTS,
    )  # fmt: skip
    assert design.frame["seen"].tolist() == [1.0, 0.0]
    assert design.frame["n_before"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"kind": "proportion", "op": "count", "window": "3d"}, 1.0),
        ({"kind": "mean", "op": "count", "window": "3d"}, 4.0),
        ({"kind": "mean", "op": "count", "window": "3d", "where": "event_type = 'purchase'"}, 2.0),
        ({"kind": "proportion", "op": "count", "window": "3d", "where": "event_type = 'purchase'"}, 1.0),
        ({"kind": "proportion", "op": "count", "window": "3d", "where": "event_type = 'refund'"}, 0.0),
        ({"kind": "mean", "op": "sum", "column": "revenue", "window": "3d"}, 12.0),
        ({"kind": "mean", "op": "max", "column": "revenue", "window": "3d"}, 7.0),
        ({"kind": "mean", "op": "sum", "column": "revenue", "window": "1d"}, 5.0),
        ({"kind": "proportion", "op": "sum", "column": "revenue", "window": "1h"}, 0.0),
        ({"kind": "mean", "op": "n_unique", "column": "event_type", "window": "3d"}, 2.0),
    ],
)
def test_kinds_of_outcomes_and_conditions(outcome: dict[str, Any], expected: float) -> None:
    rows = [("view", 0.0, 0 * DAY), ("purchase", 5.0, DAY / 2), ("purchase", 7.0, 2 * DAY), ("view", 0.0, 2 * DAY)]
    log = log_of(*((user, T + shift, kind, money) for user in (0, 1) for kind, money, shift in rows))
    design = build({"units": units_of(2), "events": log}, {"time": "at", "outcomes": {"z": outcome}}, **EVENTS)
    assert design.frame["z"].tolist() == [expected, expected]
    assert design.frame["z"].dtype == np.float64


def test_an_outcome_that_is_unknown_without_events_is_refused() -> None:
    outcome = {"kind": "mean", "op": "mean", "column": "revenue", "window": "3d"}
    with pytest.raises(OutcomeError, match="outcome 'z': 1 of 2 values are missing"):
        build({"units": units_of(2), "events": log_of((1, T, "purchase", 5.0))},
              {"time": "at", "outcomes": {"z": outcome}}, **EVENTS)  # fmt: skip


@pytest.mark.parametrize("missing", ["time", "events"])
def test_outcomes_from_events_need_events_and_a_time(missing: str) -> None:
    outcomes = {"z": {"kind": "mean", "op": "count", "window": "3d"}}
    design = {"outcomes": outcomes} if missing == "time" else {"outcomes": outcomes, "time": "at"}
    with pytest.raises(ColumnError, match=r"need experiment\.time and an `events:` section"):
        build({"units": units_of(), "events": log_of((1, T, "view", 0.0))}, design,
              **(EVENTS if missing == "time" else {}))  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([0.0, 1.0, 0.5, 0.0, 1.0, 0.0], "proportion", r"proportion but holds 0\.0, 0\.5, 1\.0"),
        ([0.0, np.inf, 1.0, 0.0, 1.0, 0.0], "mean", "1 of 6 values are missing or infinite"),
        ([0.0, np.nan, np.nan, 0.0, 1.0, 0.0], "proportion", "2 of 6 values are missing or infinite"),
        (list("abcdef"), "mean", "is not a number"),
    ],
)
def test_outcomes_of_a_column_are_checked(values: list[Any], kind: str, message: str) -> None:
    with pytest.raises(OutcomeError, match=message):
        build({"units": units_of(y=values)}, {"outcomes": {"y": {"kind": kind}}})


def test_an_outcome_takes_its_values_from_the_column_that_it_names() -> None:
    design = build({"units": units_of(spent=range(6))}, {"outcomes": {"spend": {"kind": "mean", "column": "spent"}}})
    assert design.frame["spend"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert "spent" not in design.covariates


def test_two_outcomes_may_read_one_column() -> None:
    outcomes = {"any": {"kind": "proportion", "column": "y"}, "mean": {"kind": "mean", "column": "y"}}
    found = build({"units": units_of(y=[0, 1, 0, 1, 1, 1])}, {"outcomes": outcomes}).frame
    assert found["any"].tolist() == found["mean"].tolist() == [0, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("name", ["age", "arm", "joined"])
def test_an_outcome_with_the_name_of_another_column_is_refused_by_name(name: str) -> None:
    users = pd.DataFrame({"user_id": np.arange(6), "joined": 1.0})
    with pytest.raises(CausalRecError, match=name):
        build({"units": units_of(age=30), "users": users},
              {"outcomes": {name: {"kind": "mean", "column": "y"}},
               **({"join": "users"} if name == "joined" else {"covariates": ["age"]})})  # fmt: skip


# --- windows beyond the log -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "short"),
    [(T + 10 * DAY, 0), (T + 9 * DAY, 0), (T + 9 * DAY - US, 6), (T, 6)],  # a tenth of the window is let pass
)
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_windows_that_end_after_the_log_are_noted(last: pd.Timestamp, short: int, zone: str | None) -> None:
    log = log_of((0, last, "view", 0.0))
    if zone:
        log["event_time"] = log["event_time"].dt.tz_localize("UTC").dt.tz_convert(zone)
    design = build({"units": units_of(), "events": log},
                   {"time": "at", "outcomes": {"z": {"kind": "mean", "op": "count", "window": "10d"}}},
                   **EVENTS)  # fmt: skip
    assert len(design.notes) == bool(short)
    for note in design.notes:
        assert f"the windows of {short} of 6 units are not over" in note
        assert f"'z' looks 10d ahead, but the last event is {last:%Y-%m-%d %H:%M}" in note


def test_only_the_units_and_outcomes_that_reach_too_far_are_noted() -> None:
    outcomes = {f"z{days}": {"kind": "mean", "op": "count", "window": f"{days}d"} for days in (1, 10)}
    at = [T, T, T + 5 * DAY, T + 5 * DAY, T + 5 * DAY, T + 5 * DAY]
    design = build({"units": units_of(at=at), "events": log_of((0, T + 10 * DAY, "view", 0.0))},
                   {"time": "at", "outcomes": outcomes}, **EVENTS)  # fmt: skip
    (note,) = design.notes
    assert "'z10' looks 10d ahead" in note
    assert "the windows of 4 of 6 units" in note


# --- joined tables ----------------------------------------------------------------------------------------------


def test_a_join_without_named_covariates_takes_all_columns() -> None:
    users = pd.DataFrame(
        {"user_id": [5, 4, 3, 2, 1, 0], "age": [55, 54, 53, 52, 51, 50], "city": list("aabbcc"), "y": -1}
    )
    design = build({"units": units_of(), "users": users}, {"join": "users"})
    assert design.covariates == ("age", "city")
    assert design.frame["age"].tolist() == [50, 51, 52, 53, 54, 55]
    assert design.frame["city"].tolist() == list("ccbbaa")
    assert design.frame["y"].tolist() == [0.0] * 6  # the outcome is that of the units' table


def test_a_join_with_named_covariates_takes_those_alone_and_from_the_units_first() -> None:
    users = pd.DataFrame({"user_id": range(6), "age": range(50, 56), "city": list("abcdef"), "score": -1.0})
    design = build({"units": units_of(score=[0.5] * 6), "users": users},
                   {"join": "users", "covariates": ["score", "age"]})  # fmt: skip
    assert design.covariates == ("score", "age")
    assert design.frame["score"].tolist() == [0.5] * 6
    assert design.frame["age"].tolist() == list(range(50, 56))
    assert "city" not in design.frame


def test_units_that_a_joined_table_lacks_are_counted() -> None:
    users = pd.DataFrame({"user_id": [0, 1, 2, 3], "age": 30})
    with pytest.raises(ColumnError, match="table 'users': 2 of 6 units have no row there"):
        build({"units": units_of(), "users": users}, {"join": "users"})


def test_doubled_units_are_refused_in_either_table() -> None:
    users = pd.DataFrame({"user_id": [0, 1, 2, 3, 4, 5, 5], "age": [30] * 6 + [31]})
    with pytest.raises(ColumnError, match="table 'users': 1 rows repeat a 'user_id'"):
        build({"units": units_of(), "users": users}, {"join": "users"})
    doubled = pd.concat([units_of(), units_of().head(2).assign(y=1.0)])
    with pytest.raises(ColumnError, match="table 'units': 2 rows repeat a 'user_id' with other values"):
        build({"units": doubled}, {})
    assert len(build({"units": pd.concat([units_of(), units_of()])}, {}).frame) == 6  # whole rows, logged twice


def test_a_joined_table_without_the_covariate_names_it() -> None:
    users = pd.DataFrame({"user_id": range(6), "ages": 30})
    with pytest.raises(ColumnError, match=r"'users'.*'age'.*Did you mean 'ages'"):
        build({"units": units_of(), "users": users}, {"join": "users", "covariates": ["age"]})


def test_features_with_the_name_of_a_covariate_are_refused() -> None:
    with pytest.raises(ColumnError, match=r"'n_before'.*rename"):
        build({"units": units_of(n_before=1.0), "events": log_of((1, T, "view", 0.0))},
              {"time": "at", "covariates": ["n_before"]}, **EVENTS, **COUNTS)  # fmt: skip


# --- arms -------------------------------------------------------------------------------------------------------


def test_one_of_three_arms_is_compared_and_the_others_are_counted() -> None:
    arms = ["old", "new", "third", "third", "new", "old", "fourth"]
    design = build({"units": units_of(7, arm=arms, y=range(7))}, {"treated": "new"})
    assert design.frame["user_id"].tolist() == [0, 1, 4, 5]
    assert design.frame["arm"].tolist() == [0, 1, 1, 0]
    assert design.frame["y"].tolist() == [0, 1, 4, 5]
    assert (design.control, design.treated) == ("old", "new")
    assert design.notes == (
        "experiment: left out 2 units of arm 'third'",
        "experiment: left out 1 units of arm 'fourth'",
    )


@pytest.mark.parametrize(
    ("arms", "control", "codes"),
    [([0, 1, 1, 0, 1, 0], 0, [0, 1, 1, 0, 1, 0]), ([0, 1, 1, 0, 1, 0], 1, [1, 0, 0, 1, 0, 1]),
     (["b", "a", "a", "b", "b", "b"], "b", [0, 1, 1, 0, 0, 0])],
)  # fmt: skip
def test_the_control_arm_is_zero(arms: list[Any], control: Any, codes: list[int]) -> None:
    design = build({"units": units_of(arm=arms)}, {"control": control})
    assert design.frame["arm"].tolist() == codes
    assert design.control == str(control)


@pytest.mark.parametrize("column", ["arm", "user_id"])
def test_missing_treatments_and_ids_are_counted(column: str) -> None:
    frame = units_of()
    frame[column] = frame[column].where(frame["user_id"] < 4)
    error = TreatmentError if column == "arm" else ColumnError
    with pytest.raises(error, match=f"table 'units': 2 of 6 rows have no '{column}'"):
        build({"units": frame}, {})


# --- covariates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["b", "a", None, "b", "c", "a"], ["a", "b", "c"]),
        (pd.Categorical(["b", "a", None, "b", "c", "a"], categories=["c", "b", "z", "a"]), ["a", "b", "c"]),
        ([True, False, True, None, False, True], ["False", "True"]),
        (["10", "9", "10", "9", "10", "9"], ["10", "9"]),
        ([1, 2, 3, 4, 5, 6], None),
        ([1.5, np.nan, 3.0, 4.0, 5.0, 6.0], None),
        (pd.array([1, None, 3, 4, 5, 6], dtype="Int64"), None),
        ([True, False, True, False, False, True], None),
    ],
)
def test_covariates_are_numbers_or_categories_with_sorted_levels(values: Any, levels: list[str] | None) -> None:
    found = build({"units": units_of(x=values)}, {"covariates": ["x"]}).frame["x"]
    missing = pd.isna(pd.Series(values))
    assert found.isna().tolist() == missing.tolist()
    if levels is None:
        assert pd.api.types.is_numeric_dtype(found)
        np.testing.assert_array_equal(found[~missing].astype(float), pd.Series(values)[~missing].astype(float))
    else:
        assert found.cat.categories.tolist() == levels
        assert found[~missing].tolist() == [str(v) for v in pd.Series(values)[~missing]]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_as_covariates_are_refused(zone: str | None) -> None:
    with pytest.raises(ColumnError, match="covariate 'x' holds times"):
        build({"units": units_of(x=T.tz_localize(zone))}, {"covariates": ["x"]})
    with pytest.raises(ColumnError, match="covariate 'at' holds times"):
        build({"units": units_of()}, {"covariates": ["at"], "time": "at"})


@pytest.mark.parametrize(
    ("n", "n_levels", "refused"), [(60, 50, False), (60, 51, True), (600, 60, False), (600, 61, True)]
)
def test_texts_that_look_like_ids_are_refused(n: int, n_levels: int, refused: bool) -> None:
    units = units_of(n, x=[f"level {i % n_levels}" for i in range(n)])
    if not refused:
        assert build({"units": units}, {"covariates": ["x"]}).frame["x"].nunique() == n_levels
        return
    with pytest.raises(ColumnError, match=f"covariate 'x' has {n_levels} different texts in {n} rows"):
        build({"units": units}, {"covariates": ["x"]})


# --- the order of rows ------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(3)
    units = units_of(30, y=rng.normal(size=30), x=rng.choice(list("abc"), 30), at=T + rng.integers(0, 5, 30) * DAY)
    users = pd.DataFrame({"user_id": np.arange(30), "age": rng.integers(18, 80, 30)})
    log = log_of(*((int(u), T + d * DAY, "view", 1.0) for u, d in rng.integers(0, 30, (100, 2)) * [[1, 0.4]]))
    tables = {"units": units, "users": users, "events": log}
    shuffled = {k: v.sample(frac=1, random_state=seed + i) for i, (k, v) in enumerate(tables.items())}
    spend = {"kind": "mean", "op": "sum", "column": "revenue", "window": "3d"}
    asked = {"time": "at", "join": "users", "covariates": ["x", "age"], "outcomes": {**Y, "z": spend}}
    first, second = (build(each, asked, **EVENTS, **COUNTS) for each in (tables, shuffled))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.frame["user_id"].tolist() == list(range(30))
    assert (first.covariates, first.notes) == (second.covariates, second.notes)


# --- shares by hash ---------------------------------------------------------------------------------------------

N_IDS = 20_000


def ids_of(kind: str) -> pd.Series:
    numbers = pd.Series(np.arange(N_IDS))
    return numbers if kind == "whole numbers" else "user-" + numbers.astype(str).str.zfill(12)


@pytest.mark.parametrize("kind", ["whole numbers", "text"])
@pytest.mark.parametrize("seed", [0, 1, 7, 2**64 + 3])
def test_hashed_shares_are_uniform(kind: str, seed: int) -> None:
    shares = hash_shares(ids_of(kind), seed)
    assert shares.min() >= 0
    assert shares.max() < 1
    assert stats.kstest(shares, "uniform").pvalue > 1e-4
    low, high = stats.binom.interval(1 - 1e-6, N_IDS, 0.3)
    assert low <= (shares < 0.3).sum() <= high


@given(kept=st.lists(st.integers(0, N_IDS - 1), min_size=1, max_size=30), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_unit_keeps_its_share_whatever_other_rows_are_there(kept: list[int], seed: int) -> None:
    ids = ids_of("whole numbers")
    np.testing.assert_array_equal(hash_shares(ids.iloc[kept], seed), hash_shares(ids, seed)[kept])
    assert hash_shares(pd.Series([kept[0]]), seed)[0] == hash_shares(pd.Series([str(kept[0])]), seed)[0]


@pytest.mark.parametrize("other", [8, 6, 17, 7 + 10**6])
def test_seeds_give_unrelated_shares(other: int) -> None:
    ids = ids_of("whole numbers")
    first, second = hash_shares(ids, 7), hash_shares(ids, other)
    assert not (first == second).any()
    assert stats.pearsonr(first, second).pvalue > 1e-4


@pytest.mark.parametrize("seed", [0, 7, 123_456])
def test_held_out_and_validation_units_are_chosen_independently(seed: int) -> None:
    """So the validation units are the same share of what is left, and no unit's part depends on the other units."""
    design = build({"units": units_of(N_IDS)}, {})
    held_out = design.held_out(0.3, seed)
    judged = design.validation(design.frame, 0.3, seed)
    assert stats.chi2_contingency(pd.crosstab(held_out, judged)).pvalue > 1e-4
    left = design.frame[~held_out]
    low, high = stats.binom.interval(1 - 1e-6, len(left), 0.3)
    assert low <= design.validation(left, 0.3, seed).sum() <= high
    np.testing.assert_array_equal(design.validation(left, 0.3, seed), judged[~held_out])
