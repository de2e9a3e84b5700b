"""Learners on Spark: the local learners' errors, models and predictions, from columns of a DataFrame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from causalrec import uplift
from causalrec._validation import CovariateForm
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    EngineError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)
from causalrec.nuisance import BoostedClassifier, BoostedRegressor
from causalrec.nuisance.fitting import Constant
from causalrec.nuisance.nuisances import FoldModels
from causalrec.nuisance.spark_tasks import short
from causalrec.uplift._spark_batches import Stage, covariates, stage_targets
from causalrec.uplift._spark_boosting import check_workers
from causalrec.uplift._spark_rows import Asked, check_fold_rows, read_rows
from causalrec.uplift.saving import load_learner, save_learner
from causalrec.uplift.spark import DRLearner, RLearner, SLearner, TLearner, XLearner, score_spark

pytestmark = pytest.mark.spark
X = ["age", "a b.c", "channel", "new", "visits"]


def table(n: int = 3_000, seed: int = 0, arms: int = 2) -> pd.DataFrame:
    """Numbers with gaps, text with gaps, booleans, counts; the effect is a step and a slope."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
            "a b.c": rng.normal(size=n),
            "channel": rng.choice(["web", "phone", "shop", None], n, p=[0.4, 0.3, 0.25, 0.05]),
            "new": rng.random(n) < 0.5,
            "visits": rng.integers(0, 9, n),
            "t": rng.integers(0, arms, n),
            "w": rng.uniform(0.5, 2, n),
            "id": np.arange(n),
        }
    )
    found["tau"] = 0.5 + (found["channel"] == "web") - found["a b.c"]
    found["arm"] = np.array(["none", "app", "mail"])[found["t"]]
    found["y"] = 0.1 * found["visits"] + found["a b.c"] + found["t"] * found["tau"] + rng.normal(size=n)
    found["bought"] = (rng.random(n) < 1 / (1 + np.exp(1 - 0.5 * found["y"]))).astype(int)
    return found


def local(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[X].assign(channel=rows["channel"].astype("category"))


def on_spark(session: Any, rows: pd.DataFrame) -> Any:
    import pyarrow as pa

    return session.createDataFrame(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None))


def collected(frame: Any) -> pd.DataFrame:
    return frame.toArrow().to_pandas().sort_values("id", ignore_index=True)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return table()


@pytest.fixture(scope="module")
def frame(spark_session: Any, rows: pd.DataFrame) -> Any:
    return on_spark(spark_session, rows).repartition(2).persist()


NAMED = {"outcome": "y", "treatment": "t", "covariates": X}


COLUMNS = [
    ({"outcome": "z"}, ColumnError, "missing column 'z'"),
    ({"covariates": [*X, "visitors"]}, ColumnError, "Did you mean 'visits'"),
    ({"covariates": [*X, "age"]}, ColumnError, "appear twice: 'age'"),
    ({"covariates": [*X, "t"]}, ColumnError, "hold 't', which is also"),
    ({"covariates": []}, ColumnError, "covariates is empty"),
    ({"outcome": "arm"}, OutcomeError, "'arm' is of type string; expected numbers"),
    ({"covariates": ["list"]}, ColumnError, "'list' of type array<double>"),
]
# A column k; what is named; the error.
VALUES = [
    ("IF(id < 2, double('inf'), id)", {"covariates": ["k"]}, CausalRecError, "'k': 2 of 3000 values are infinite"),
    ("IF(id < 3, NULL, y)", {"outcome": "k"}, OutcomeError, "'k': 3 of 3000 values are missing"),
    ("IF(id < 3, double('nan'), y)", {"outcome": "k"}, OutcomeError, "'k': 3 of 3000"),
    ("IF(id < 4, NULL, t)", {"treatment": "k"}, TreatmentError, "4 of 3000 values are missing"),
    ("1", {"treatment": "k"}, TreatmentError, "found only 1 in 3000 rows"),
    ("IF(id < 1, 1, 0)", {"treatment": "k"}, TreatmentError, "arm 1 has 1 row; a model needs"),
    ("1", {"treatment": "arm"}, TreatmentError, "expected 0/1, or labels together with control="),
    ("age", {"treatment": "k"}, TreatmentError, "values are missing"),
    ("id", {"treatment": "k"}, TreatmentError, "'k' holds more than 100 values"),
    ("1", {"propensity": 1.0}, OverlapError, "not strictly between 0 and 1"),
    ("IF(id < 5, 0, 0.5)", {"propensity": "k"}, OverlapError, "5 of 3000 values are not strictly"),
    ("1", {"propensity": {0: 0.4, 1: 0.5}}, CausalRecError, "sum"),
    ("0.5", {"propensity": {0: "k", 1: 0.4}}, CausalRecError, "3000 of 3000 rows do not sum to 1"),
    ("1", {"propensity": {0: 0.5, 2: 0.5}}, CausalRecError, "propensity names the arms 0, 2"),
    ("IF(id < 6, -1, 1)", {"sample_weight": "k"}, CausalRecError, "6 negative values"),
    ("IF(t = 1, 0, 1)", {"sample_weight": "k"}, TreatmentError, "arm 1 has no weight in any"),
    ("IF(id < 7, NULL, 1)", {"sample_weight": "k"}, OutcomeError, "7 of 3000"),
    ("IF(id < 8, NULL, id)", {"groups": "k"}, CausalRecError, "groups: 8 of 3000"),
]  # fmt: skip


class TestBadInput:
    @pytest.mark.parametrize(("named", "error", "message"), COLUMNS)
    def test_columns(self, frame, named, error, message):
        with pytest.raises(error, match=message):
            TLearner().fit(frame.selectExpr("array(age) AS list", "*"), **{**NAMED, **named})

    @pytest.mark.slow
    @pytest.mark.parametrize(("column", "named", "error", "message"), VALUES)
    def test_values(self, frame, column, named, error, message):
        with pytest.raises(error, match=message):
            TLearner().fit(frame.selectExpr("*", f"{column} AS k"), **{**NAMED, **named})

    @pytest.mark.slow
    def test_an_unknown_control_and_no_rows(self, frame):
        with pytest.raises(TreatmentError, match=r"control='non' is not among the arms 'app', 'none'. Did you mean"):
            TLearner(control="non").fit(frame, **{**NAMED, "treatment": "arm"})
        with pytest.raises(EmptyTableError, match="0 rows"):
            TLearner().fit(frame.where("id < 0"), **NAMED)

    def test_a_frame_of_another_kind(self, rows):
        with pytest.raises(CausalRecError, match="found a DataFrame; expected a Spark DataFrame"):
            TLearner().fit(rows, **NAMED)
        with pytest.raises(CausalRecError, match="found a DataFrame; expected a Spark DataFrame"):
            score_spark(uplift.TLearner(Ridge()).fit(rows[["visits"]], rows["y"], treatment=rows["t"]), rows)

    def test_more_tasks_than_run_at_once(self, spark_session):
        with pytest.raises(EngineError, match="n_workers is 3, but this Spark runs 2 tasks at once"):
            check_workers(spark_session, 3, 10)
        with pytest.raises(CausalRecError, match="n_workers is 0"):
            check_workers(spark_session, 0, 10)
        assert [check_workers(spark_session, None, n) for n in (10, 19_999, 20_000, 10**9)] == [1, 1, 2, 2]

    @pytest.mark.parametrize(
        ("learner", "message"),
        [
            (TLearner(Ridge()), "Ridge cannot be trained on Spark; .* score the whole frame with score_spark"),
            (DRLearner(effect_model=BoostedClassifier()), "BoostedClassifier is a classifier, but effects"),
            (DRLearner(propensity_model=BoostedRegressor()), "expected an instance of a scikit-learn classifier"),
            (RLearner(n_folds=1), "n_folds is 1"),
        ],
    )
    def test_settings(self, frame, learner, message):
        with pytest.raises(CausalRecError, match=message):
            learner.fit(frame, **NAMED)

    @pytest.mark.slow
    def test_settings_that_depend_on_the_rows(self, frame):
        with pytest.raises(OutcomeError, match="BoostedClassifier is a classifier, but the outcome holds values"):
            SLearner(BoostedClassifier()).fit(frame, **NAMED)
        with pytest.raises(CausalRecError, match=r"clip is 0\.7"):
            RLearner(clip=0.7).fit(frame, **NAMED)

    def test_scoring(self, frame, rows):
        named = uplift.TLearner(Ridge()).fit(rows[["visits"]], rows["y"], treatment=rows["t"])
        unnamed = uplift.TLearner(Ridge()).fit(rows[["visits"]].to_numpy(), rows["y"], treatment=rows["t"])
        for learner in (TLearner(), uplift.TLearner()):
            with pytest.raises(NotFittedError, match="TLearner is not fitted yet"):
                score_spark(learner, frame)
        with pytest.raises(ColumnError, match="missing column 'visits'"):
            score_spark(named, frame.drop("visits"))
        with pytest.raises(ColumnError, match="missing column 'visits'"):
            score_spark(named, frame, covariates=["age"])
        with pytest.raises(ColumnError, match=r"fitted without column names; pass covariates="):
            score_spark(unnamed, frame)
        with pytest.raises(ColumnError, match="names 2 columns; the learner was fitted on 1"):
            score_spark(unnamed, frame, covariates=["visits", "age"])
        with pytest.raises(ColumnError, match="has a column 'w' already"):
            score_spark(named, frame, name="w")

    @pytest.mark.slow
    def test_an_arm_too_small_for_the_folds(self, frame):
        asked = Asked("y", "t", ("age",), groups="t")  # a group an arm: each arm lies in one fold
        found = read_rows(frame, asked, control=None, n_folds=2, random_state=1)
        with pytest.raises(TreatmentError, match="of which 0 lie outside one of 2 folds"):
            check_fold_rows(found, 2)

    def test_long_errors_become_short(self):
        trace = "An exception was thrown\n File x\nvalue.Error: no: line\nOverlapError: no overlap\n\tat org.Java(1)"
        assert short(RuntimeError(trace)) == "OverlapError: no overlap"


class TestRows:
    @pytest.mark.slow
    def test_what_models_are_trained_on(self, frame, rows):
        asked = Asked("bought", "arm", (*X, "id"), 0.25, "w", "visits")
        found = read_rows(frame, asked, control="none", n_folds=3, random_state=4)
        assert (found.labels, found.binary, found.kinds) == (("none", "app"), True, list("qqcqqq"))
        assert found.n_rows == [int((rows["t"] == code).sum()) for code in (0, 1)]
        got = found.frame.toArrow().to_pandas().sort_values("x5", ignore_index=True)
        codes = local(rows)["channel"].cat.codes.replace(-1, np.nan)
        for i, expected in enumerate([rows["age"], rows["a b.c"], codes, rows["new"], rows["visits"]]):
            np.testing.assert_array_equal(got[f"x{i}"].to_numpy(float), expected.to_numpy(np.float32).astype(float))
        np.testing.assert_array_equal(got["arm"], rows["t"])
        np.testing.assert_array_equal(got["outcome"], rows["bought"])
        np.testing.assert_array_equal(got["weight"], rows["w"])
        assert got[["e0", "e1"]].drop_duplicates().to_numpy().tolist() == [[0.75, 0.25]]
        assert set(got["fold"]) == {0, 1, 2}
        assert (got.groupby(rows["visits"])[["fold", "held"]].nunique() == 1).all(axis=None)

    @pytest.mark.slow
    def test_folds_by_groups_do_not_depend_on_the_order_of_rows(self, frame):
        asked = Asked("y", "t", ("id",), groups="id")
        folds = []
        for part in (frame, frame.repartition(3, "age")):
            found = read_rows(part, asked, control=None, n_folds=5, random_state=0).frame.toArrow().to_pandas()
            folds.append(found.sort_values("x0")["fold"].to_numpy())
        np.testing.assert_array_equal(folds[0], folds[1])
        n = len(folds[0])
        assert abs(np.bincount(folds[0]) - n / 5).max() < 4 * np.sqrt(n * 0.16)

    @pytest.mark.slow
    def test_propensities_of_three_arms(self, spark_session):
        asked = Asked("y", "arm", ("visits",), {"mail": "w", "none": 0.5, "app": "v"})
        three = on_spark(spark_session, table(300, arms=3)).selectExpr("y", "arm", "visits", "0.3D AS w", "0.2D AS v")
        found = read_rows(three, asked, control="none")
        assert found.labels == ("none", "app", "mail")
        shares = found.frame.select("e0", "e1", "e2").distinct().toArrow().to_pylist()
        assert shares == [{"e0": 0.5, "e1": 0.2, "e2": 0.3}]


class TestBatches:
    FORM = CovariateForm(2, ("age", "channel"), {"channel": pd.CategoricalDtype(["phone", "web"])})

    def test_covariates_as_in_memory(self):
        batch = pd.DataFrame({"x0": [1.5, np.nan, 2.0], "x1": [1.0, np.nan, 0.0]})
        found = covariates(batch, self.FORM)
        assert found["channel"].tolist()[::2] == ["web", "phone"]
        assert found.isna().to_numpy().tolist() == [[False, False], [True, True], [False, False]]

    @pytest.mark.parametrize("known", [True, False])
    def test_targets_by_hand(self, known):
        rng = np.random.default_rng(0)
        fold, arm, y = rng.integers(0, 2, 9), rng.integers(0, 3, 9), rng.normal(size=9)
        mu = np.array([[0.0, 1.0, 2.0], [0.5, 1.5, 3.0]])[fold]
        share = np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])[fold]
        folds = tuple(
            FoldModels(tuple(map(Constant, mu[fold == j][0])), tuple(map(Constant, share[fold == j][0])))
            for j in (0, 1)
        )
        batch = pd.DataFrame({"fold": fold, "arm": arm, "outcome": y, "x0": 0.0, "x1": 0.0})
        if known:
            batch = batch.assign(e0=share[:, 0], e1=share[:, 1], e2=share[:, 2])
        scores = mu + (arm[:, None] == np.arange(3)) * (y[:, None] - mu) / share
        found = stage_targets(Stage(folds, self.FORM, known, None, "dr"), batch)
        np.testing.assert_allclose(found, scores[:, 1:] - scores[:, :1])
        found = stage_targets(Stage(folds, self.FORM, known, None, "r"), batch)
        for code in (1, 2):
            e = share[:, code] / (share[:, 0] + share[:, code])
            gap = (arm == code) - e
            np.testing.assert_allclose(found[:, code + 1], gap**2)
            np.testing.assert_allclose(found[:, code - 1], (y - (1 - e) * mu[:, 0] - e * mu[:, code]) / gap)


@pytest.mark.slow
def test_a_learner_of_memory_scores_a_frame_to_the_bit(frame, rows):
    """Text, gaps, decimals, booleans and names with dots reach the learner as pandas would bring them."""
    few = ["visits", "new", "channel", "a b.c"]
    learner = uplift.TLearner(BoostedRegressor(n_estimators=5), control="none")
    learner.fit(local(rows)[few], rows["y"], treatment=rows["arm"])
    decimal = frame.selectExpr("*", "named_struct('deep', array(id)) AS nested").withColumn(
        "visits", frame["visits"].cast("decimal(4, 1)")
    )
    scored = score_spark(learner, decimal, name="effect")
    assert scored.columns == [*decimal.columns, "effect"]
    assert dict(scored.dtypes)["nested"] == dict(decimal.dtypes)["nested"]
    found = collected(scored.where("effect > 0.2"))
    expected = learner.predict(local(rows)[few])
    np.testing.assert_array_equal(found["effect"], expected[expected > 0.2])


@pytest.mark.slow
class TestScoring:
    def test_pipelines_of_scikit_learn(self, frame, rows):
        base = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression())
        known = rows.assign(channel=rows["channel"].fillna("?"))
        learner = uplift.TLearner(base, control="none").fit(known[["channel"]], known["y"], treatment=known["arm"])
        found = collected(score_spark(learner, frame.fillna({"channel": "?"})))
        np.testing.assert_array_equal(found["uplift"], learner.predict(known[["channel"]]))

    def test_a_learner_fitted_on_an_array(self, frame, rows):
        numbers = rows[["visits", "w"]].to_numpy(float)
        learner = uplift.TLearner(Ridge()).fit(numbers, rows["y"], treatment=rows["t"])
        found = collected(score_spark(learner, frame, covariates=["visits", "w"]))
        np.testing.assert_allclose(found["uplift"], learner.predict(numbers), rtol=0, atol=1e-12)

    def test_unknown_categories_fail_when_the_frame_is_used(self, frame, rows):
        learner = uplift.TLearner(BoostedRegressor(n_estimators=3))
        learner.fit(local(rows)[["channel"]], rows["y"], treatment=rows["t"])
        scored = score_spark(learner, frame.selectExpr("id", "'radio' AS channel"))
        with pytest.raises(Exception, match="holds categories that the model was not fitted on: 'radio'"):
            scored.toArrow()


@pytest.mark.slow
class TestLearners:
    """Against the local learners, and against what they look for."""

    def test_xgboost_is_what_it_is_in_memory(self, spark_session, rows):
        """Covariates of few values have the same bins everywhere; what is left is the order of sums of floats."""
        few = rows.assign(age=rows["age"].round(-1), **{"a b.c": rows["a b.c"].round(1)})
        base = xgboost.XGBClassifier(n_estimators=20, max_depth=3, enable_categorical=True, min_child_weight=5)
        by_hand = [
            base.fit(local(few)[rows["t"] == a], few["bought"][rows["t"] == a]).predict_proba(local(few))[:, 1]
            for a in (0, 1)
        ]
        part = on_spark(spark_session, few)
        for n_workers in (1, 2):
            learner = TLearner(base, n_workers=n_workers).fit(part, **{**NAMED, "outcome": "bought"})
            found = collected(learner.predict(part))["uplift"].to_numpy()
            np.testing.assert_array_equal(found, learner.to_local().predict(local(few)))
            np.testing.assert_allclose(found, by_hand[1] - by_hand[0], atol=2e-5)

    def test_early_stopping_looks_at_rows_held_out(self, frame):
        base = xgboost.XGBRegressor(n_estimators=200, max_depth=4, early_stopping_rounds=5, enable_categorical=True)
        learner = TLearner(base).fit(frame, **NAMED)
        assert all(0 < model.best_iteration < 190 for model in learner.to_local().models_)

    @pytest.mark.parametrize(
        ("learner", "known"),
        [(TLearner, None), (SLearner, None), (XLearner, 0.5), (DRLearner, 0.5), (RLearner, 0.5), (DRLearner, None)],
    )
    def test_agreement_with_the_local_learner(self, frame, rows, learner, known, tmp_path):
        """Far closer to the local learner than that is to itself on other rows of the same kind."""
        more = {} if learner not in (DRLearner, RLearner) else {"n_folds": 2}
        fitted = learner(**more).fit(frame, **NAMED, propensity=known)
        found = collected(fitted.predict(frame))["uplift"].to_numpy()
        again = load_learner(save_learner(fitted.to_local(), tmp_path / "learner"))
        np.testing.assert_array_equal(again.predict(local(rows)), found)
        in_memory = getattr(uplift, learner.__name__)(**more)
        mine, others = (
            in_memory.fit(local(r), r["y"], treatment=r["t"], propensity=known).predict(local(rows))
            for r in (rows, table(seed=1))
        )
        assert np.corrcoef(found, mine)[0, 1] > 0.98
        assert np.sqrt(np.mean((found - mine) ** 2)) < np.sqrt(np.mean((others - mine) ** 2))
        errors = [np.sqrt(np.mean((effect - rows["tau"]) ** 2)) for effect in (found, mine)]
        assert errors[0] < 1.25 * errors[1] + 0.02

    def test_many_rows_take_the_distributed_way(self, frame, rows):
        """The same estimator, told that 500 rows are many, trains its trees on two workers."""
        base = BoostedRegressor(small=500)
        learner = TLearner(base, n_workers=2).fit(frame, **NAMED, sample_weight="w")
        found = collected(learner.predict(frame))["uplift"]
        mine = uplift.TLearner(base).fit(local(rows), rows["y"], treatment=rows["t"], sample_weight=rows["w"])
        errors = [np.sqrt(np.mean((e - rows["tau"]) ** 2)) for e in (found, mine.predict(local(rows)))]
        assert errors[0] < 1.25 * errors[1] + 0.02
        for model, twin in zip(learner.to_local().models_, mine.models_, strict=True):
            curve, other = (m.evals_result_["validation"]["mse"] for m in (model, twin))
            assert model.best_n_estimators_ == int(np.argmin(curve))
            # Both start from slopes on the same rows; the rows held out differ.
            assert curve[0] == pytest.approx(other[0], rel=0.25)
            assert min(curve) == pytest.approx(min(other), rel=0.25)
        # The slopes leave categories to the trees, and the treated arm depends on one.
        assert learner.to_local().models_[1].best_n_estimators_ > 0

    def test_three_arms_binary_outcome_and_weights(self, spark_session):
        rows = table(arms=3)
        three = on_spark(spark_session, rows)
        named = {**NAMED, "treatment": "arm", "outcome": "bought", "sample_weight": "w"}
        base = BoostedClassifier(small=500, max_depth=3)
        learner = TLearner(base, control="none", n_workers=2).fit(three, **named)
        scored = collected(learner.predict(three))
        assert list(scored.columns[-2:]) == ["uplift_app", "uplift_mail"]
        mine = uplift.TLearner(base, control="none")
        mine.fit(local(rows), rows["bought"], treatment=rows["arm"], sample_weight=rows["w"])
        other, expected = table(seed=1, arms=3), mine.predict(local(rows))
        mine.fit(local(other), other["bought"], treatment=other["arm"], sample_weight=other["w"])
        others = mine.predict(local(rows))
        for j, name in enumerate(("uplift_app", "uplift_mail")):
            assert np.corrcoef(scored[name], expected[:, j])[0, 1] > 0.8
            assert np.mean((scored[name] - expected[:, j]) ** 2) < np.mean((others[:, j] - expected[:, j]) ** 2)
        assert np.array_equal(scored[["uplift_app", "uplift_mail"]], learner.to_local().predict(rows[X]))

    def test_an_arm_of_one_outcome(self, spark_session):
        rows = table(500)
        rows["bought"] *= rows["t"]
        frame = on_spark(spark_session, rows)
        learner = TLearner().fit(frame, **{**NAMED, "outcome": "bought"})
        assert isinstance(learner.to_local().models_[0], Constant)


@pytest.mark.slow
def test_executors_in_processes_of_their_own(cluster_job):
    found = cluster_job("uplift")
    assert found["made"] == []
    assert found["executors"] == 2
    for name in ("small", "large"):
        assert found[name]["rows"] == 4_000
        assert found[name]["same"]  # as the local learner that came of it
        assert found[name]["corr"] > 0.97
        # No farther than a local fit on other rows. Fits on the same rows that hold out others to stop by, as "large"
        # ones do, are 0.2 to 0.94 as far, 0.6 on average (eight data sets of this kind).
        assert found[name]["distance"] < found[name]["noise"]
        assert found[name]["errors"][0] < 1.25 * found[name]["errors"][1] + 0.02  # from the truth
