"""Missing covariates: what is filled, how it is marked, and that it is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.observational.missing import complete_covariates


def gaps() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": [1.5, np.nan, 3.0, np.nan, 0.0, 2.0],
            "b": pd.Categorical(["u", None, "v", "u", "v", "u"], categories=["u", "v"]),
            "c": pd.array([True, None, False, True, True, True], dtype="boolean"),
            "d": pd.array([1, 2, None, 4, 5, 6], dtype="Int64"),
            "e": ["x", "y", None, "y", "x", "y"],
            "whole": np.arange(6.0),
        }
    )


def test_gaps_are_filled_marked_and_said() -> None:
    frame = gaps()
    before = frame.copy()
    filled, covariates, notes = complete_covariates(frame, list(frame))
    assert covariates == ("a", "b", "c", "d", "e", "whole", "a_missing", "c_missing", "d_missing")
    assert filled["a"].tolist() == [1.5, 0.0, 3.0, 0.0, 0.0, 2.0]
    assert filled["a_missing"].tolist() == [0, 1, 0, 1, 0, 0]
    assert filled["b"].tolist() == ["u", "(missing)", "v", "u", "v", "u"]
    assert filled["c"].tolist() == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert filled["d"].tolist() == [1.0, 2.0, 0.0, 4.0, 5.0, 6.0]
    assert filled["e"].tolist() == ["x", "y", "(missing)", "y", "x", "y"]
    assert not filled.isna().any(axis=None)
    assert notes[0] == "a: 2 missing values set to 0, with the indicator a_missing"
    assert notes[1] == "b: 1 missing value as a level of their own"
    pd.testing.assert_frame_equal(frame, before)


def test_imputed_are_the_mean_and_the_most_frequent_level() -> None:
    filled, covariates, notes = complete_covariates(gaps(), ["a", "b", "d", "e"], missing="impute")
    assert covariates == ("a", "b", "d", "e")
    assert filled["a"].tolist() == [1.5, 1.625, 3.0, 1.625, 0.0, 2.0]
    assert (filled["b"].tolist()[1], filled["d"].tolist()[2], filled["e"].tolist()[2]) == ("u", 3.6, "y")
    assert notes == (
        "a: 2 missing values set to the mean, 1.625",
        "b: 1 missing value set to the most frequent level, 'u'",
        "d: 1 missing value set to the mean, 3.6",
        "e: 1 missing value set to the most frequent level, 'y'",
    )


def test_without_gaps_nothing_is_added() -> None:
    frame = gaps()[["whole"]]
    filled, covariates, notes = complete_covariates(frame, ["whole"])
    pd.testing.assert_frame_equal(filled, frame)
    assert (covariates, notes) == (("whole",), ())


@pytest.mark.parametrize("number", [0.0, 17.0])
def test_with_the_indicator_the_filled_value_carries_nothing(number: float) -> None:
    """Least squares with covariate and indicator gives the same effect whatever stands for the missing values."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=400), np.arange(400) % 2
    frame = pd.DataFrame({"x": np.where(rng.random(400) < 0.7, x, np.nan), "t": t, "y": x + t + rng.normal(size=400)})
    filled, covariates, _ = complete_covariates(frame, ["x"])
    other = filled.assign(x=filled["x"].where(filled["x_missing"] == 0, number))
    effects = [sm.OLS(f["y"], sm.add_constant(f[["t", *covariates]])).fit().params["t"] for f in (filled, other)]
    assert effects[0] == pytest.approx(effects[1], rel=1e-9)


def test_an_indicator_never_replaces_a_column_nor_a_level_another() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan], "a_missing": [7.0, 8.0], "b": ["(missing)", None]})
    filled, covariates, _ = complete_covariates(frame, ["a", "a_missing", "b"])
    assert covariates == ("a", "a_missing", "b", "a_missing_")
    assert filled["a_missing"].tolist() == [7.0, 8.0]
    assert filled["b"].tolist() == ["(missing)", "(missing)_"]


def test_errors_name_columns_counts_and_ways_out() -> None:
    with pytest.raises(ColumnError, match=r"'a' \(2\), 'b' \(1\) have missing values, in 2 of 6 rows.*'indicator'"):
        complete_covariates(gaps(), ["a", "b"], missing="error")
    with pytest.raises(ColumnError, match="'n' have no value at all"):
        complete_covariates(gaps().assign(n=np.nan), ["n"])
    with pytest.raises(CausalRecError, match=r"missing is 'imputed'.*Did you mean 'impute'"):
        complete_covariates(gaps(), ["a"], missing="imputed")
