"""Moments by SQL against numpy in extended precision."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.engines import Engine, LocalEngine, collect_moments
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.moments import Moments


def exact(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and centred products, by exact fractions, rounded once."""
    rows = [[Fraction(float(v)) for v in column] for column in values.T]
    means = [sum(column) / len(column) for column in rows]
    centred = [[v - m for v in column] for column, m in zip(rows, means, strict=True)]
    products = [[float(sum(a * b for a, b in zip(x, y, strict=True))) for y in centred] for x in centred]
    return np.array([float(m) for m in means]), np.array(products)


def close(found: Moments, values: np.ndarray, rtol: float = 1e-12) -> None:
    mean, products = exact(values)
    scale = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    assert found.n == len(values)
    np.testing.assert_allclose(found.mean, mean, rtol=rtol)
    assert (np.abs(found.products - products) <= rtol * scale).all()


COLUMNS = {
    "far from zero": lambda rng, n: rng.normal(1e8, 1, n),
    "tiny": lambda rng, n: rng.normal(0, 1e-9, n),
    "heavy tail": lambda rng, n: rng.pareto(1.1, n),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.02, rng.lognormal(3, 2, n), 0.0),
    "integer": lambda rng, n: rng.integers(-5, 1_000_000, n),
    "boolean": lambda rng, n: rng.random(n) < 0.1,
    "constant": lambda rng, n: np.full(n, 0.1),
}


@pytest.mark.parametrize("groups", [(), ("arm", "is it", "when")])
def test_moments_of_every_kind_of_column(engine: Engine, groups: tuple[str, ...]) -> None:
    rng, n = np.random.default_rng(5), 4_000
    frame = pd.DataFrame({name: make(rng, n) for name, make in COLUMNS.items()})
    frame["arm"] = rng.choice(np.array(["a", "b", None], dtype=object), n)
    frame["is it"] = rng.random(n) < 0.5
    frame["when"] = pd.to_datetime(rng.choice(["2025-01-01", "2025-01-02"], n))
    engine.register("t", frame)
    found = collect_moments(engine, "t", list(COLUMNS), by=list(groups))
    parts = dict(list(frame.groupby(list(groups), dropna=False))) if groups else {(): frame}
    assert len(found) == len(parts)
    for key, part in parts.items():
        match = [m for k, m in found.items() if all(map(same_label, k, key))]
        close(match[0], part[list(COLUMNS)].to_numpy(np.float64))
    assert all(m.var_of("constant") == 0 for m in found.values())


def same_label(a: object, b: object) -> bool:
    return a == b or bool(pd.isna(a) and pd.isna(b))


ROWS = st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6), st.integers(-(2**40), 2**40))


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=30))
def test_moments_of_any_rows(rows: list[tuple[str, float, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["arm", "x", "y"])
    with LocalEngine(threads=1) as engine:
        engine.register("t", frame)
        found = collect_moments(engine, "t", ["x", "y"], by=["arm"])
    assert set(found) == {(a,) for a in frame["arm"]}
    for (arm,), moments in found.items():
        values = frame.loc[frame["arm"] == arm, ["x", "y"]].to_numpy(np.float64)
        mean, products = exact(values)
        scale = np.abs(values).max(axis=0)  # rounding is of this size even if the values are nearly equal
        assert (np.abs(moments.mean - mean) <= 1e-14 * scale).all()
        assert (np.abs(moments.products - products) <= 1e-14 * len(values) * np.outer(scale, scale)).all()


def test_groups_that_are_far_apart_do_not_spoil_each_other(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    parts = {"low": rng.normal(0, 1, 1000), "high": rng.normal(1e9, 1, 1000), "wide": rng.normal(0, 1e9, 1000)}
    engine.register("t", pd.concat([pd.DataFrame({"g": g, "x": x}) for g, x in parts.items()]))
    found = collect_moments(engine, "t", ["x"], by=["g"])
    for g, x in parts.items():
        close(found[(g,)], x[:, None])


def bits(moments: dict[tuple[object, ...], Moments]) -> list[bytes]:
    return [m.mean.tobytes() + m.products.tobytes() for m in moments.values()]


def test_the_same_rows_give_the_same_bits_in_any_order() -> None:
    rng, n = np.random.default_rng(1), 3_000_000
    frame = pd.DataFrame({"arm": rng.integers(0, 3, n), "x": rng.lognormal(1, 2, n), "y": rng.normal(1e8, 1, n)})
    with LocalEngine(threads=4) as engine:
        engine.register("t", frame)
        seen = [bits(collect_moments(engine, "t", ["x", "y"], by=["arm"])) for _ in range(4)]
        engine.register("t", frame.iloc[::-1])
        seen.append(bits(collect_moments(engine, "t", ["x", "y"], by=["arm"])))
    assert all(s == seen[0] for s in seen)
    arm = frame.loc[frame["arm"] == 1, "x"].to_numpy()
    found = np.frombuffer(seen[0][1][:8])[0]
    assert found == pytest.approx(math.fsum(arm) / len(arm), rel=1e-15)


@pytest.mark.spark
def test_both_engines_agree(spark_session: object) -> None:
    from causalrec.engines import SparkEngine

    rng, n = np.random.default_rng(2), 50_000
    frame = pd.DataFrame({"arm": rng.integers(0, 2, n), "x": rng.lognormal(1, 2, n), "y": rng.normal(1e8, 1, n)})
    seen = []
    for engine in (LocalEngine(), SparkEngine(session=spark_session)):
        with engine:
            engine.register("t", frame)
            seen.append(collect_moments(engine, "t", ["x", "y"], by=["arm"]))
    for key, local in seen[0].items():
        np.testing.assert_allclose(seen[1][key].mean, local.mean, rtol=1e-15)
        scale = np.sqrt(np.outer(np.diag(local.products), np.diag(local.products)))
        assert (np.abs(seen[1][key].products - local.products) <= 1e-12 * scale).all()


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -1e200])
def test_values_that_are_missing_or_infinite_are_named(engine: Engine, bad: float | None) -> None:
    import polars as pl

    engine.register("t", pl.DataFrame({"arm": ["a", "a", "b"], "x": [1.0, 2.0, bad], "y": [1.0, 2.0, 3.0]}))
    with pytest.raises(OutcomeError, match=r"metric 'x', group \('b',\): 1 of 1 values are missing, infinite"):
        collect_moments(engine, "t", ["y", "x"], by=["arm"])


def test_columns_that_are_no_numbers_are_named(engine: Engine) -> None:
    engine.register("t", pd.DataFrame({"arm": ["a"], "x": ["1"]}))
    for columns, message in ((["x"], "'x' is string"), (["z"], "missing column 'z'"), ([], "no metric")):
        with pytest.raises(ColumnError, match=message):
            collect_moments(engine, "t", columns, by=["arm"])


def test_no_rows_have_no_groups(engine: Engine) -> None:
    engine.register("t", pd.DataFrame({"arm": ["a"], "x": [1.0]}))
    engine.create_view("none", "SELECT * FROM t WHERE x > 5")
    assert collect_moments(engine, "none", ["x"], by=["arm"]) == {}
    assert collect_moments(engine, "none", ["x"], by=[]) == {}
