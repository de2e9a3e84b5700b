"""Aggregates survive JSON to the bit."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest import (
    Aggregates,
    Cell,
    Experiment,
    Mean,
    Proportion,
    Quantile,
    QuantileSummary,
    Ratio,
    SampleRatio,
    dump_aggregates,
    load_aggregates,
)
from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments


def same(a, b):
    assert list(a.cells) == list(b.cells)
    for dimension in a.cells:
        assert list(map(str, a.cells[dimension])) == list(map(str, b.cells[dimension]))
        for one, two in zip(a.cells[dimension].values(), b.cells[dimension].values(), strict=True):
            assert (one.n, str(one.quantiles)) == (two.n, str(two.quantiles))
            assert list(one.moments) == list(two.moments)
            for name, m in one.moments.items():
                other = two.moments[name]
                assert (m.n, m.names) == (other.n, other.names)
                assert m.mean.tobytes() == other.mean.tobytes()
                assert m.products.tobytes() == other.products.tobytes()
    for name in ("clustered", "n_rows", "n_conflicting", "n_duplicates"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("n_missing", "n_immature", "nested", "thresholds", "as_of"):
        assert dict(getattr(a, name)) == dict(getattr(b, name))


def test_of_an_experiment_with_everything():
    rng = np.random.default_rng(1)
    n = 600
    frame = pd.DataFrame({
        "user": np.arange(n) // 2, "arm": (np.arange(n) // 2) % 3, "views": rng.poisson(5, n) + 1,
        "clicks": rng.poisson(2, n), "before": rng.normal(1e8, 1, n), "bought": rng.random(n) < 0.3,
        "country": rng.choice(["de", "fr"], n)[np.arange(n) // 2 * 2], "day": np.arange(n) % 4,
    })  # fmt: skip
    frame.loc[5, "clicks"] = np.nan
    experiment = Experiment(
        {"ctr": Ratio("clicks", "views", covariates="before", missing="drop"), "bought": Proportion("bought"),
         "clicks": Mean("clicks", winsorize=0.95, missing="zero"), "split": SampleRatio()},
        variant="arm", control=0, cluster="user", segments="country", day="day",
    )  # fmt: skip
    aggregates = experiment.collect(frame)
    again = load_aggregates(dump_aggregates(aggregates))
    same(aggregates, again)
    assert str(experiment.analyze(again)) == str(experiment.analyze(aggregates))
    assert dump_aggregates(again) == dump_aggregates(aggregates)


def test_quantiles_and_strata():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"arm": rng.choice(["A", "ü"], 500), "x": rng.gamma(2, 1, 500), "y": rng.choice([1, 2], 500)})
    for experiment in (
        Experiment({"p90": Quantile("x", 0.9)}, variant="arm", control="A"),
        Experiment({"x": Mean("x")}, variant="arm", control="A", strata=["y", "arm_day"]),
    ):
        aggregates = experiment.collect(frame.assign(arm_day=frame["y"] % 2 == 0))
        again = load_aggregates(dump_aggregates(aggregates))
        same(aggregates, again)
        assert experiment.analyze(again).effects[0].pvalue == experiment.analyze(aggregates).effects[0].pvalue


@pytest.mark.parametrize(
    "label",
    [
        "a", "", None, True, 3, np.int64(3), 0.1, np.float64("inf"), ("de", None, 2), pd.Timestamp("2025-01-31 12:00"),
        dt.date(2025, 1, 31), dt.datetime(2025, 1, 31, 1, 2, 3, 4), pd.NaT,
    ],
)  # fmt: skip
def test_labels_keep_their_kind(label):
    cell = Cell(1, {}, {"q": QuantileSummary(3, 0.1, float("nan"), True)})
    [(arm, group)] = load_aggregates(dump_aggregates(Aggregates({"": {(label, label): cell}}))).cells[""]
    expected = label.item() if isinstance(label, np.generic) else label
    for found in (arm, group):
        assert type(found) is type(expected)
        assert found is expected or found == expected


def test_numbers_without_an_exact_decimal():
    values = np.array([0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0])
    m = Moments(7, tuple("abcde"), values, np.outer(values, [1, 1, 1, 1, 1.0]))
    again = load_aggregates(dump_aggregates(Aggregates({"": {("A", None): Cell(7, {"x": m})}})))
    assert again.cells[""]["A", None].moments["x"].products.tobytes() == m.products.tobytes()


def test_refused():
    with pytest.raises(CausalRecError, match="of type frozenset"):
        dump_aggregates(Aggregates({"": {(frozenset("a"), None): Cell(1)}}))
    for text in ("nonsense", "{}", "[1]", '{"cells": 3}'):
        with pytest.raises(CausalRecError, match="no aggregates"):
            load_aggregates(text)
