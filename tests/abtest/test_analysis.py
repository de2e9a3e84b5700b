"""Experiments and aggregates that do not go together, and values that a metric cannot be of."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest import Experiment, Mean, Proportion, Quantile, Ratio, SampleRatio
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 400
    user = rng.integers(0, 100, n)
    return pd.DataFrame({
        "arm": np.where(user % 2, "A", "B"), "user": user, "home": user // 2 % 3, "y": rng.normal(5, 1, n),
        "q": rng.poisson(5, n) + 1, "x": rng.normal(size=n), "device": rng.choice(["phone", "web"], n),
        "steps": rng.integers(0, 5, n),
    })  # fmt: skip


def experiment(metric, **options):
    return Experiment({"m": metric}, variant="arm", control="A", **options)


@pytest.mark.parametrize(
    ("asked", "collected", "message"),
    [
        (experiment(Ratio("y", "q")), experiment(Mean("y")), "columns 'value'; expected 'value', 'den'"),
        (experiment(Mean("y", covariates="x")), experiment(Mean("y")), "columns 'value'; expected 'value', 'x'"),
        (experiment(Mean("y")), experiment(Mean("y", covariates="x")), "columns 'value', 'x'; expected 'value'"),
        (experiment(Quantile("y")), experiment(Mean("y")), "no quantile 'm' of arm"),
        (experiment(Mean("y"), cluster="user"), experiment(Mean("y")), "are of rows, but cluster is 'user'"),
        (experiment(Mean("y")), experiment(Mean("y"), cluster="user"), "are of clusters, but cluster is None"),
        (experiment(Mean("y"), segments="device"), experiment(Mean("y")), "no cells for 'device'"),
        (experiment(Mean("y"), strata="home"), experiment(Mean("y")), "do not go with strata=['home']"),
        (experiment(Mean("y")), experiment(Mean("y"), strata="home"), "do not go with strata=[]"),
        (
            Experiment({"other": Mean("y")}, variant="arm", control="A"), experiment(Mean("y")),
            "other: the aggregates of arm",
        ),
    ],
)  # fmt: skip
def test_aggregates_of_another_experiment_are_refused(frame, asked, collected, message):
    with pytest.raises(CausalRecError, match=re.escape(message)):
        asked.analyze(collected.collect(frame))


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}, {"strata": "home"}])
def test_a_proportion_of_other_values_is_refused(frame, options):
    with pytest.raises(OutcomeError, match="values other than 0 and 1"):
        experiment(Proportion("steps"), **options).analyze(frame)


def test_no_size_is_planned_for_a_quantile_that_many_share(frame):
    with pytest.raises(OutcomeError, match="share the value at the quantile"):
        experiment(Quantile("steps")).solve_power(frame, relative_effect=0.1, power=0.8)


def test_a_design_without_control_is_refused(frame):
    designed = Experiment({"m": Mean("y"), "split": SampleRatio({"B": 1, "C": 1})}, variant="arm", control="A")
    with pytest.raises(TreatmentError, match="control 'A' has no share among 'B', 'C'"):
        designed.solve_power(frame, relative_effect=0.1, power=0.8)
