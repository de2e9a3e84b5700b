"""Every check returns the clean value, or says what was found, what is expected and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from causalrec._validation import (
    CovariateForm,
    check_alternative,
    check_columns,
    check_confidence_level,
    check_covariates,
    check_length,
    check_model_columns,
    check_not_empty,
    check_propensity,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
    list_some,
    nearest,
    optional_import,
)
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    MissingExtraError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)


@pytest.mark.parametrize(
    ("treatment", "control", "codes", "labels"),
    [
        ([0, 1, 1], None, [0, 1, 1], (0, 1)),
        ([1.0, 0.0], None, [1, 0], (0, 1)),
        (np.array([True, False]), None, [1, 0], (0, 1)),
        (np.array([[0], [1]]), None, [0, 1], (0, 1)),
        (pd.Series([0, 1], index=[7, 7]), None, [0, 1], (0, 1)),
        (pd.array([0, 1], dtype="Int64"), None, [0, 1], (0, 1)),
        (pd.Categorical([1, 0]), None, [1, 0], (0, 1)),
        (pl.Series([0, 1]), None, [0, 1], (0, 1)),
        ([0, 1, 1], 1, [1, 0, 0], (1, 0)),
        ([True, False], 0, [1, 0], (False, True)),
        (["b", "a", "c"], "b", [0, 1, 2], ("b", "a", "c")),
        (pd.Categorical(["x", "y"], categories=["y", "x", "never"]), "y", [1, 0], ("y", "x")),
        (pl.Series(["a", "b"]), "b", [1, 0], ("b", "a")),
        (["a", 1, 2.5], "a", [0, 1, 2], ("a", 1, 2.5)),
        ([10, 9, "a"], 10, [0, 1, 2], (10, 9, "a")),
        ([(1, 2), (1, 3)], (1, 3), [1, 0], ((1, 3), (1, 2))),
        ([3j, 1j], 3j, [0, 1], (3j, 1j)),
    ],
    ids=str,
)
def test_a_treatment_is_coded_control_first(treatment, control, codes, labels):
    found, names = check_treatment(treatment, control=control)
    assert found.tolist() == codes
    assert found.dtype == np.int64
    assert names == labels


@pytest.mark.parametrize(
    ("treatment", "control", "words"),
    [
        ([0, 1, None], None, ["1 of 3 values are missing", "Drop"]),
        (pd.array([0, None], dtype="Int64"), None, ["1 of 2 values are missing"]),
        ([1, 1], None, ["only 1 in 2 rows", "two arms", "Check the filter"]),
        ([], None, ["no rows", "two arms"]),
        ([0, 2], None, ["0, 2", "expected 0/1", "control="]),
        (["a", "b"], None, ["'a', 'b'", "control='a'"]),
        ([0, 1], "0", ["control='0'", "0, 1", "type int, not str", "pass control=0"]),
        (["0", "1"], 0, ["type str, not int", "pass control='0'"]),
        (["mail", "none"], "nome", ["'mail', 'none'", "Did you mean 'none'?"]),
        (["mail", "none"], "xyzzy", ["'mail', 'none'", "Pass one of them"]),
        (np.zeros((2, 2)), None, ["shape (2, 2)", "one value per row"]),
    ],
    ids=str,
)
def test_a_treatment_that_cannot_be_read_says_why(treatment, control, words):
    with pytest.raises(TreatmentError) as caught:
        check_treatment(treatment, control=control)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "values",
    [[1, 2], (1.0, 2.0), np.array([[1], [2]]), pd.Series([1, 2]), pl.Series([1, 2]), pd.array([1, 2], "Int64")],
)
def test_a_vector_is_float_and_one_dimensional(values):
    found = check_vector(values, name="y", n_rows=2)
    assert found.tolist() == [1.0, 2.0]
    assert found.dtype == np.float64


def test_booleans_are_numbers():
    assert check_vector([True, False], name="y").tolist() == [1.0, 0.0]
    assert check_vector(np.array([True, np.False_], dtype=object), name="y").tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([1.0, np.nan, np.inf], OutcomeError, ["2 of 3", "missing or infinite", "Drop"]),
        (pd.array([1, None], dtype="Int64"), OutcomeError, ["1 of 2", "missing"]),
        (pl.Series([1, None]), OutcomeError, ["1 of 2", "missing"]),
        (["1", "2"], OutcomeError, ["'1'", "not a number", "Convert"]),
        (pd.Series(["yes", "no"]), OutcomeError, ["'yes'", "not a number"]),
        (pd.to_datetime(["2020-01-01"]), OutcomeError, ["datetime64", "not a number"]),
        (np.array([1j]), OutcomeError, ["not a number"]),
        (np.zeros((2, 2)), CausalRecError, ["shape (2, 2)", "one dimension"]),
        ([1.0], CausalRecError, ["y has 1 values", "3 rows", "one value per row"]),
    ],
    ids=str,
)
def test_a_vector_that_is_not_numbers_says_why(values, error, words):
    with pytest.raises(error) as caught:
        check_vector(values, name="y", n_rows=3 if len(values) == 1 and isinstance(values, list) else None)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check_columns(["a", "b"], ["aa"], where="T"), ColumnError, ["T", "missing column 'aa'", "'a', 'b'"]),
        (lambda: check_columns(["spend"], ["spent"], where="T"), ColumnError, ["Did you mean 'spend'?"]),
        (lambda: check_columns(["a", "a"], [], where="T"), ColumnError, ["'a'", "twice", "Rename"]),
        (lambda: check_not_empty(0, where="T"), EmptyTableError, ["T", "0 rows", "at least one", "Check"]),
        (lambda: check_confidence_level(95), CausalRecError, ["95", "(0, 1)", "0.95"]),
        (lambda: check_confidence_level(float("nan")), CausalRecError, ["nan", "(0, 1)"]),
        (lambda: check_alternative("bigger"), CausalRecError, ["'bigger'", "'two-sided', 'greater', 'less'"]),
        (lambda: check_length(2, 3, name="z"), CausalRecError, ["z has 2", "3 rows"]),
        (lambda: check_weights([1, -1], n_rows=2), CausalRecError, ["1 negative", ">= 0"]),
        (lambda: check_weights([0, 0], n_rows=2), CausalRecError, ["zero in every row", "positive"]),
        (lambda: check_propensity([0.5, 1.0], n_rows=2), OverlapError, ["1 of 2", "between 0 and 1", "drop"]),
        (lambda: check_propensity(float("nan"), n_rows=2), OverlapError, ["2 of 2"]),
        (lambda: check_two_arms(["a", "b", "c"], what="this"), TreatmentError, ["this", "found 3", "Keep the control"]),
        (lambda: check_covariates([1.0]), CausalRecError, ["shape (1,)", "two dimensions"]),
        (lambda: check_covariates(np.zeros((0, 2))), EmptyTableError, ["X", "0 rows"]),
        (lambda: check_covariates(np.zeros((2, 0))), ColumnError, ["no columns", "at least one"]),
        (
            lambda: check_model_columns(pd.DataFrame({"t": ["a"], "n": [1]}), model="this model"),
            ColumnError,
            ["'t'", "this model", "astype('category')"],
        ),
        (lambda: optional_import("no_such_package.part", extra="plots"), MissingExtraError, ["causalrec[plots]"]),
    ],
)
def test_a_message_says_found_expected_and_remedy(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_helpers_of_messages():
    assert list_some(range(10), 3) == "0, 1, 2 and 7 more"
    assert list_some(["a", 1]) == "'a', 1"
    assert nearest("clik", ["click", "view"]) == " Did you mean 'click'?"
    assert nearest("zzz", ["click"]) == ""
    assert check_weights(None, n_rows=2).tolist() == [1.0, 1.0]
    assert check_propensity(0.25, n_rows=2).tolist() == [0.25, 0.25]
    assert optional_import("json", extra="x").dumps(1) == "1"


def test_a_missing_part_of_an_installed_package_is_not_a_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="no_such_part") as caught:
        optional_import("json.no_such_part", extra="x")
    assert not isinstance(caught.value, MissingExtraError)


def test_polars_frames_keep_names_and_categories():
    frame = check_covariates(pl.DataFrame({"a": [1.0, None], "c": pl.Series(["x", "y"], dtype=pl.Categorical)}))
    assert list(frame.columns) == ["a", "c"]
    assert frame["c"].cat.categories.tolist() == ["x", "y"]
    assert np.isnan(frame["a"].iloc[1])


class TestCovariateForm:
    frame = pd.DataFrame({"a": [1, 2], "c": pd.Categorical(["x", "y"])})

    def test_other_order_extra_columns_and_other_codes_come_out_alike(self):
        later = pd.DataFrame({"c": pd.Categorical(["y", "x"], categories=["y", "x"]), "more": 0, "a": [2, 1]})
        found = CovariateForm.of(self.frame).apply(later)
        pd.testing.assert_frame_equal(found, self.frame.iloc[[1, 0]].reset_index(drop=True))
        assert list(later.columns) == ["c", "more", "a"]

    def test_integer_names_are_matched_too(self):
        frame = pd.DataFrame([[1.0, 2.0]])
        form = CovariateForm.of(frame)
        assert form.names is None
        pd.testing.assert_frame_equal(form.apply(frame[[1, 0]]), frame)

    @pytest.mark.parametrize(
        ("later", "words"),
        [
            (pd.DataFrame({"a": [1]}), ["missing column 'c'"]),
            (np.zeros((1, 2)), ["array", "'a', 'c'", "Pass a frame"]),
            (pd.DataFrame({"a": [1], "c": ["z"]}), ["'c'", "'z'", "it knows 'x', 'y'", "missing"]),
        ],
        ids=["column", "array", "category"],
    )
    def test_what_does_not_fit_is_refused(self, later, words):
        with pytest.raises(ColumnError) as caught:
            CovariateForm.of(self.frame).apply(later)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_arrays_go_by_position(self):
        form = CovariateForm.of(np.zeros((3, 2)))
        assert form.apply(pd.DataFrame({"p": [1.0], "q": [2.0]})).tolist() == [[1.0, 2.0]]
        with pytest.raises(ColumnError, match="3 columns; the model was fitted on 2"):
            form.apply(np.zeros((1, 3)))
