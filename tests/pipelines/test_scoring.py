"""Any batch is brought into the form of the training frame, or refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from causalrec.exceptions import ColumnError
from causalrec.nuisance import BoostedRegressor
from causalrec.pipelines.encoding import EncodedClassifier, EncodedRegressor, Encoding
from causalrec.pipelines.scoring import FrameSpec, UpliftScorer, load_scorer, save_scorer
from causalrec.uplift import DRLearner, RLearner, TLearner
from causalrec.uplift.base import UpliftLearner


def training() -> pd.DataFrame:
    return pd.DataFrame({
        "age": [20, 30, 40, 50], "zip": pd.Categorical(["10115", "0200", "1e3", None]),
        "score": [0.5, np.nan, 1.5, 2.5], "vip": [True, False, True, False],
    })  # fmt: skip


def codes_of(frame: pd.DataFrame, column: str = "zip") -> list[int]:
    return [int(code) for code in frame[column].cat.codes]


def test_the_training_frame_itself_is_only_made_numeric() -> None:
    spec = FrameSpec.of(training())
    found = spec.apply(training())
    pd.testing.assert_frame_equal(found, training().astype({"age": float, "vip": float}))
    assert spec.columns == ("age", "zip", "score", "vip")
    assert spec.categories == {"zip": ("0200", "10115", "1e3")}
    assert spec.unseen(training()) == {}


@given(order=st.permutations(["age", "zip", "score", "vip", "more"]), index=st.permutations(range(4)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_columns_and_the_index_change_nothing(order: list[str], index: list[int]) -> None:
    spec = FrameSpec.of(training())
    batch = training().assign(more="not used")[order].set_axis(index, axis=0)
    pd.testing.assert_frame_equal(spec.apply(batch), spec.apply(training()))


@pytest.mark.parametrize("column", ["age", "zip", "vip"])
def test_a_missing_column_is_named(column: str) -> None:
    batch = training().rename(columns={column: f"{column}s"})
    with pytest.raises(ColumnError, match=f"batch to score: missing column '{column}'.*Did you mean '{column}s'"):
        FrameSpec.of(training()).apply(batch)


def test_new_levels_count_as_missing_and_are_counted() -> None:
    spec = FrameSpec.of(training())
    batch = training().assign(zip=["10115", "99999", None, "99998"])
    assert spec.unseen(batch) == {"zip": 2}
    assert codes_of(spec.apply(batch)) == [1, -1, -1, -1]
    coded = batch.assign(zip=pd.Categorical(batch["zip"]))  # with codes of its own
    assert spec.unseen(coded) == {"zip": 2}
    assert codes_of(spec.apply(coded)) == [1, -1, -1, -1]


@pytest.mark.parametrize("values", [["a", "b", "c", "d"], ["20", "x", "40", "50"], pd.Categorical(list("abca"))])
def test_text_where_numbers_were_is_refused(values: Any) -> None:
    with pytest.raises(ColumnError, match="column 'age' must be numeric"):
        FrameSpec.of(training()).apply(training().assign(age=values))


@pytest.mark.parametrize(
    "values",
    [
        pd.array([20, 30, None, 50], dtype="Int64"),
        pd.array([20.0, 30.0, None, 50.0], dtype="Float64"),
        pd.array([20, 30, None, 50], dtype="int64[pyarrow]"),
        np.array([20, 30, np.nan, 50], dtype=np.float32),
        [20, 30, None, 50],
        pd.Series([20, 30, None, 50], dtype=object),
    ],
    ids=str,
)
def test_numbers_of_any_type_are_the_same_numbers(values: Any) -> None:
    found = FrameSpec.of(training()).apply(training().assign(age=values))["age"]
    np.testing.assert_array_equal(found, [20.0, 30.0, np.nan, 50.0])
    assert found.dtype == np.float64


@pytest.mark.parametrize("dtype", ["object", "string", "category", "string[pyarrow]"])
def test_texts_of_any_type_are_the_same_levels(dtype: str) -> None:
    batch = training().assign(zip=pd.Series(["1e3", None, "0200", "10115"], dtype=dtype))
    assert codes_of(FrameSpec.of(training()).apply(batch)) == [2, -1, 0, 1]


@pytest.mark.parametrize("dtype", ["boolean", "bool", "object"])
def test_true_and_false_are_levels_where_training_had_gaps(dtype: str) -> None:
    train = pd.DataFrame({"vip": pd.Categorical(["True", None, "False"])})
    batch = pd.DataFrame({"vip": pd.Series([True, False, False], dtype=dtype)})
    assert codes_of(FrameSpec.of(train).apply(batch), "vip") == [1, 0, 0]


def round_trip(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


@pytest.mark.parametrize("levels", [["9", "10", "11"], ["True", "False"], ["a", "b", "c d, e"]])
def test_levels_survive_a_csv_file(levels: list[str]) -> None:
    frame = pd.DataFrame({"x": pd.Categorical(levels * 2), "n": np.arange(2.0 * len(levels))})
    spec = FrameSpec.of(frame)
    assert spec.unseen(round_trip(frame)) == {}
    pd.testing.assert_frame_equal(spec.apply(round_trip(frame)), spec.apply(frame))


def test_levels_that_are_whole_numbers_survive_a_csv_file_with_a_gap() -> None:
    frame = pd.DataFrame({"x": pd.Categorical(["9", None, "10"]), "n": [1.0, 2.0, 3.0]})
    assert FrameSpec.of(frame).unseen(round_trip(frame)) == {}


def test_a_level_that_a_csv_file_changes_is_counted() -> None:
    """'0200' comes back as the number 200: nobody can know, so it is said."""
    frame = pd.DataFrame({"x": pd.Categorical(["0200", "10115"]), "n": [1.0, 2.0]})
    assert FrameSpec.of(frame).unseen(round_trip(frame)) == {"x": 1}


def trained(learner: UpliftLearner, *, encode: bool = False) -> tuple[UpliftScorer, pd.DataFrame]:
    rng = np.random.default_rng(0)
    n = 300
    X = pd.DataFrame({"age": rng.integers(18, 80, n), "city": pd.Categorical(rng.choice(["a", "b", "7"], n))})
    t = rng.integers(0, 2, n)
    scorer = UpliftScorer.of(learner, X, unit="user_id", encode=encode)
    learner.fit(scorer.covariates(X), X["age"] * t / 50 + rng.normal(size=n), treatment=t, propensity=0.5)
    return scorer, X


BASE = BoostedRegressor(n_estimators=10, n_jobs=1)
SCORERS = {
    "outcomes": lambda: trained(TLearner(BASE)),
    "effects": lambda: trained(DRLearner(BASE, n_folds=2)),
    "numbers only": lambda: trained(TLearner(LinearRegression()), encode=True),
    "encoded base": lambda: trained(RLearner(EncodedRegressor(Ridge()), n_folds=2)),
}


@pytest.mark.parametrize("kind", SCORERS)
def test_a_fitted_scorer_gives_the_same_scores_for_the_same_units(kind: str, tmp_path: Path) -> None:
    scorer, X = SCORERS[kind]()
    expected = scorer.predict(X)
    if kind in ("outcomes", "numbers only"):
        difference = expected["outcome_if_treated"] - expected["outcome_if_control"]
        np.testing.assert_array_equal(expected["uplift"], difference)
    else:
        assert list(expected.columns) == ["uplift"]
    batch = X.assign(city=X["city"].astype(object), age=X["age"].astype("Int64"))[["city", "age"]]
    pd.testing.assert_frame_equal(scorer.predict(batch), expected)
    for row in (0, 7):  # one unit alone is scored as in the batch, up to the order of sums in a product of matrices
        pd.testing.assert_frame_equal(
            scorer.predict(batch.iloc[[row]]), expected.iloc[[row]].reset_index(drop=True), rtol=1e-12
        )
    save_scorer(scorer.without_rows(), tmp_path / "scorer")
    pd.testing.assert_frame_equal(load_scorer(tmp_path / "scorer").predict(batch), expected, check_exact=True)


def test_training_rows_do_not_travel_with_a_scorer() -> None:
    scorer, _ = SCORERS["effects"]()
    assert scorer.model.nuisance_ is not None
    assert scorer.without_rows().model.nuisance_ is None
    assert scorer.model.nuisance_ is not None


def test_a_frame_as_numbers() -> None:
    X = pd.DataFrame({
        "age": [20.0, 40.0, np.nan, 60.0], "zip": pd.Categorical(["a", None, "b", "a"]),
        "vip": [True, False, True, True], "same": [3.0, 3.0, 3.0, 3.0],
    })  # fmt: skip
    encoding = Encoding.of(X)
    found = encoding.apply(X)
    root = np.sqrt(np.mean((np.array([20, 40, 60]) - 40) ** 2))
    np.testing.assert_allclose(found["age"], [-20 / root, 0, 0, 20 / root])  # the gap as the mean
    assert found["age is missing"].tolist() == [0, 0, 1, 0]
    assert found["zip = a"].tolist() == [1, 0, 0, 1]
    assert found["zip = b"].tolist() == [0, 0, 1, 0]
    assert found["same"].tolist() == [0, 0, 0, 0]
    assert encoding.sources() == ["age", "age", "zip", "zip", "vip", "same"]
    assert list(found.columns) == ["age", "age is missing", "zip = a", "zip = b", "vip", "same"]


def test_an_encoded_base_is_the_estimator_on_the_matrix_with_weights() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(size=100), "city": pd.Categorical(rng.choice(["a", "b"], 100))})
    y, w = X["age"] + (X["city"] == "b"), rng.uniform(0.5, 2, 100)
    Z = Encoding.of(X).apply(X).to_numpy()
    base = EncodedRegressor(Ridge(2.0)).fit(X, y, sample_weight=w)
    np.testing.assert_array_equal(base.predict(X), Ridge(2.0).fit(Z, y, sample_weight=w).predict(Z))
    coef = Ridge(2.0).fit(Z, y, sample_weight=w).coef_ ** 2
    np.testing.assert_allclose(base.feature_importances_, np.array([coef[0], coef[1:].sum()]) / coef.sum())
    labels = (y > 0.5).astype(int)
    probabilities = EncodedClassifier(LogisticRegression()).fit(X, labels).predict_proba(X)
    np.testing.assert_array_equal(probabilities, LogisticRegression().fit(Z, labels).predict_proba(Z))
