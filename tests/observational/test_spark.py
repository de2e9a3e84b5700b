"""Average effects of a Spark DataFrame: the numbers and words of the estimators on arrays, and their errors.

The sums are tested on batches in memory, where they cost nothing; slow tests repeat them on Spark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    EngineError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)
from causalrec.observational import _spark_fit, _spark_matching, spark
from causalrec.observational._spark_balance import balance
from causalrec.observational._spark_effects import (
    Weighting,
    contrast_of_lines,
    doubly_robust_effect,
    error_kind,
    lin_lines,
    main_effect,
    mean_lines,
    weighted_effect,
)
from causalrec.observational._spark_fit import fit_score, make_design
from causalrec.observational._spark_matching import Asked as Matching
from causalrec.observational._spark_matching import Scores, match_strata, matched_effect
from causalrec.observational._spark_rows import Asked, Coding, Rows, read_rows
from causalrec.observational.balance import balance_table
from causalrec.observational.design import design_matrix
from causalrec.observational.doubly_robust import aipw_parametric
from causalrec.observational.matching import match, matching_effect
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.regression import difference_in_means, lin_effect, ols_effect
from causalrec.observational.standardisation import standardisation
from causalrec.observational.weighting import weighting_effect, weights

N = 900
X = ["age", "visits", "plan", "new", "months"]
ESTIMANDS = ("ate", "att", "atc")
NAMED = {"treatment": "t", "outcome": "y"}
WEIGHTED = {"sample_weight": "w"}
BOTH = {"sample_weight": "w", "clusters": "user"}


def table(n: int = N, seed: int = 0) -> pd.DataFrame:
    """Confounded; far from zero; a column that is twice another; weights of zero; users with several rows."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame({
        "age": rng.normal(400, 5, n), "visits": rng.integers(0, 5, n), "plan": rng.choice(["a", "b", "it's"], n),
        "new": rng.random(n) < 0.4, "w": np.where(rng.random(n) < 0.1, 0.0, rng.exponential(size=n)),
        "user": rng.choice([f"u{i}" for i in range(120)], n), "v": rng.exponential(size=n), "id": np.arange(n),
    })  # fmt: skip
    found["months"] = 12 * found["age"] - 3
    place = (found["age"] - 400) / 5
    eta = 0.5 * place - 0.4 * (found["plan"] == "b") + 0.2 * found["new"]
    found["t"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    found["arm"] = np.array(["none", "mail"])[found["t"]]
    found["y"] = 1000 + 0.5 * found["age"] + found["t"] * (1 + place) + found["visits"] + rng.normal(size=n)
    found["fine"] = 1 / (1 + np.exp(-0.9 * place + 1.5 + rng.normal(size=n) * 0.1))
    found["tied"] = found["fine"].round(2).clip(0.01, 0.99)
    found["heavy"] = np.where(rng.random(n) < 0.6, 0.3, found["tied"])
    return found


def assert_same(found: Any, expected: Any, *, but: tuple[str, ...] = ()) -> None:
    assert type(found) is type(expected)
    for field in fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if field.name in ("weights", "propensity", *but):  # of the size of the frame
            continue
        if isinstance(b, float) or (isinstance(b, np.ndarray) and b.dtype.kind == "f"):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10, err_msg=field.name)
        elif isinstance(b, np.ndarray):
            assert a.tolist() == b.tolist(), field.name
        else:
            assert a == b, field.name


class Memory:
    """As much of a Spark DataFrame as passes over batches need."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.batches = batches
        self.sparkSession = self.conf = self.sparkContext = self
        self.pythonExec, self.master = "python", "local"

    def get(self, _: str, default: str) -> str:
        return default

    def mapInArrow(self, run: Callable[[Any], Any], _: str) -> Memory:  # noqa: N802
        return Memory([made for part in (self.batches[:2], self.batches[2:]) for made in run(iter(part))])

    def persist(self) -> Memory:
        return self

    def toArrow(self) -> pa.Table:  # noqa: N802
        return pa.Table.from_batches(self.batches) if self.batches else pa.table({"found": pa.array([], pa.binary())})


def in_memory(rows: pd.DataFrame, *, weighted: bool = False, weights: str | None = None) -> Rows:
    """What ``read_rows`` makes of the table, without Spark."""
    used = rows[rows["w"] > 0] if weighted else rows
    numbers, levels = [c for c in X if c != "plan"], ("a", "b", "it's")
    matrix = used[numbers].astype(float).assign(**{f"plan_{v}": used["plan"] == v for v in levels[1:]}).astype(float)
    columns = {"t": used["t"].astype(float), "y": used["y"]}
    columns |= {"w": used["w"]} if weighted else {}
    columns |= {"e": used[weights]} if weights else {}
    columns |= {f"x{i}": used[name].astype(float) for i, name in enumerate(numbers)} | {"c0": used["plan"].astype(str)}
    whole = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    coding = Coding(
        tuple(numbers), ("plan",), (levels,), np.array(matrix.columns, dtype=object), matrix.mean().to_numpy(),
        matrix.std(ddof=0).to_numpy(), np.arange(matrix.shape[1]),
    )  # fmt: skip
    n_arm, n_all = (tuple(int((part["t"] == code).sum()) for code in (0, 1)) for part in (used, rows))
    return Rows(
        Memory(whole.to_batches(max_chunksize=200)), coding, (0, 1), n_arm, n_all, (), float(used["y"].mean()) + 0.1,
        weighted, False, False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return table()


class TestSums:
    """The formulas on batches, against those on arrays."""

    @pytest.mark.parametrize("weighted", [False, True])
    def test_regressions(self, rows, weighted):
        design = make_design(in_memory(rows, weighted=weighted))
        assert design.dropped == ("months",)
        named = {"treatment": rows["t"], "sample_weight": rows["w"] if weighted else None}
        for kind in ("HC0", "HC1", "HC2", "HC3", "classical"):
            expected = ols_effect(rows[X], rows["y"], error=kind, **named)
            found = main_effect(design, kind=kind, method=expected.method, estimand="ato", level=0.95)
            assert_same(found, expected, but=("method",))
        for estimand in ESTIMANDS:
            expected = lin_effect(rows[X], rows["y"], estimand=estimand, **named)
            found = contrast_of_lines(
                design, lin_lines(design, estimand), kind="HC2", estimand=estimand, centred=True, method="", level=0.95
            )
            assert_same(found, expected, but=("method",))
            expected = standardisation(rows[X], rows["y"], estimand=estimand, **named)
            found = contrast_of_lines(
                design, mean_lines(design, estimand), kind="stacked", estimand=estimand, centred=True, method="",
                level=0.95,
            )  # fmt: skip
            assert_same(found, expected, but=("method",))

    @pytest.mark.parametrize("weighted", [False, True])
    def test_weighting_and_doubly_robust(self, rows, weighted):
        design = make_design(in_memory(rows, weighted=weighted))
        weight = rows["w"] if weighted else None
        score = fit_score(design.rows)
        local = fit_propensity(rows[X], treatment=rows["t"], sample_weight=weight)
        for estimand in ("ate", "att", "atc", "ato", "atm"):
            for known, more in ((False, {}), (True, {}), (False, {"trim": (0.3, 0.8)}), (False, {"clip": 0.4})):
                made = weights(treatment=rows["t"], propensity=local, estimand=estimand, sample_weight=weight, **more)
                expected = weighting_effect(rows["y"], made, treatment=rows["t"], weights_known=known)
                low, high = more.get("trim", (0.0, 1.0))
                weighting = Weighting(score, estimand, low, high, more.get("clip"))
                found = weighted_effect(design.rows, weighting, known=known, method="", level=0.95)
                but = ("method", *(("n_dropped", "share_clipped") if weighted else ()))
                assert_same(found, expected, but=but)
        for estimand in ESTIMANDS:
            expected = aipw_parametric(rows[X], rows["y"], treatment=rows["t"], estimand=estimand, sample_weight=weight)
            assert_same(
                doubly_robust_effect(design, score, estimand=estimand, method="", level=0.95), expected,
                but=("method",),
            )  # fmt: skip

    @pytest.mark.parametrize("weighted", [False, True])
    def test_balance(self, rows, weighted, monkeypatch):
        read = in_memory(rows, weighted=weighted, weights="v")
        cuts = tuple(np.unique(rows[name].astype(float)) for name in read.coding.numbers)
        monkeypatch.setattr("causalrec.observational._spark_balance._cuts", lambda _: cuts)
        after = rows["v"] * (rows["w"] > 0) if weighted else rows["v"]
        expected = balance_table(
            rows[X], treatment=rows["t"], weights=after, estimand="att", sample_weight=rows["w"] if weighted else None
        )
        found = balance(read, adjusted=True, estimand="att", basis="treated", threshold=0.1, method="")
        assert_same(found, expected, but=("worst",))
        assert found.worst in ("age", "months")  # which differ alike

    def test_a_score_in_spark_s_sql(self, rows):
        design = make_design(in_memory(rows))
        beta = np.arange(1.0, 7.0)
        sql = design.rows.coding.predictor(beta)
        assert sql.count("CASE `plan` WHEN 'b' THEN") == 1
        assert r"WHEN 'it\'s' THEN" in sql
        assert "months" not in sql

    def test_separated_arms_name_the_category(self, rows):
        apart = rows.assign(t=(rows["plan"] == "b").astype(int))
        read = in_memory(apart)
        counts = np.array([[((apart["plan"] == v) & (apart["t"] == a)).sum() for a in (0, 1)] for v in "ab"])
        read = Rows(**{**vars(read), "level_counts": (np.vstack([counts, [3, 0]]),)})
        with pytest.raises(OverlapError, match=r"separate treated from control units.* only one arm has: 'plan_a'"):
            fit_score(make_design(read).rows)
        with pytest.raises(OverlapError, match="the covariates determine the treatment"):
            main_effect(make_design(read), kind="HC2", method="", estimand="ato", level=0.95)
        with pytest.raises(OverlapError, match="control units cannot tell what 'plan_b'"):
            lin_lines(make_design(read), "ate")

    def test_other_rows_when_read_again(self, rows):
        read = in_memory(rows)
        read.frame.batches.pop()
        with pytest.raises(EngineError, match=r"the frame changes when it is computed again.*persist"):
            make_design(read)
        read.frame.batches.clear()
        with pytest.raises(EngineError, match="the frame has no rows any more"):
            make_design(read)

    def test_kinds_of_errors(self, rows):
        read = in_memory(rows)
        assert error_kind(None, read) == "HC2"
        with pytest.raises(CausalRecError, match=r"error is 'HC22'; expected one of .* Did you mean 'HC2'"):
            error_kind("HC22", read)
        with pytest.raises(CausalRecError, match="'CR1' without clusters"):
            error_kind("CR1", read)


def strata_of(rows: pd.DataFrame, place: np.ndarray, n_strata: int) -> dict[int, dict[int, Scores]]:
    """Scores by stratum and arm, as the tasks see them."""
    cuts = np.unique(np.quantile(place, np.linspace(0, 1, n_strata + 1)[1:-1])) if n_strata > 1 else np.empty(0)
    y = rows["y"] - rows["y"].mean() + 0.1
    frame = pd.DataFrame({"t": rows["t"], "place": place, "n": 1.0, "s": y, "q": y**2})
    frame["stratum"] = np.searchsorted(cuts, place, side="right")
    sums = frame.groupby(["stratum", "t", "place"])[["n", "s", "q"]].sum().reset_index()
    none = np.empty(0)
    return {
        int(b): {
            arm: Scores(*part.loc[part["t"] == arm, ["place", "n", "s", "q"]].to_numpy().T)
            if (part["t"] == arm).any() else Scores(none, none, none, none) for arm in (0, 1)
        }
        for b, part in sums.groupby("stratum")
    }  # fmt: skip


class TestMatching:
    @pytest.fixture
    def in_strata(self, monkeypatch) -> None:
        monkeypatch.setattr(_spark_matching, "_MORE", 2)  # few beyond those that a stratum must see
        monkeypatch.setattr(
            _spark_matching, "_by_stratum", lambda frame, f: {b: f(b, arms) for b, arms in frame.items()}
        )

    @pytest.mark.parametrize("column", ["fine", "tied", "heavy"])
    @pytest.mark.parametrize("n_strata", [1, 7, 60])
    def test_strata_of_any_size_give_the_matches_of_one(self, rows, column, n_strata, in_strata):
        part = rows[(rows["fine"] < 0.5) | (rows["t"] == 1) | (rows["id"] % 50 == 0)]  # few controls at the top
        place, y, t = part[column].to_numpy(), part["y"], part["t"]
        slack = 8 * np.finfo(float).eps * place.max()
        strata: Any = type("Strata", (), {"frame": strata_of(part, place, n_strata)})
        for estimand in ESTIMANDS:
            for ratio, caliper in ((1, None), (3, 0.01), (1, 0.002), (2, None)):
                made = match(
                    propensity=place, treatment=t, estimand=estimand, ratio=ratio, caliper=caliper, caliper_scale="raw"
                )
                width = np.inf if caliper is None else caliper
                sums = match_strata(strata, Matching(estimand, ratio, width, slack, 3))
                for errors in ("heteroskedastic", "homoskedastic"):
                    for variance in ("population", "sample"):
                        expected = matching_effect(y, made, treatment=t, errors=errors, variance=variance)
                        found = matched_effect(sums, errors=errors, variance=variance, caliper=width)
                        np.testing.assert_allclose(found, (expected.estimate, expected.std_error), rtol=1e-8)
                assert sums["unmatched"] == expected.n_dropped
                np.testing.assert_allclose(sums["used"], [expected.n_control, expected.n_treated])
                effective = sums["weight"] ** 2 / sums["weight2"]
                np.testing.assert_allclose(effective, [expected.ess_control, expected.ess_treated])

    def test_nobody_is_near(self, rows, in_strata):
        apart = rows.assign(place=rows["t"] * 0.5 + 0.25)
        strata: Any = type("Strata", (), {"frame": strata_of(apart, apart["place"].to_numpy(), 2)})
        sums = match_strata(strata, Matching("att", 1, 0.1, 1e-15, 3))
        with pytest.raises(OverlapError, match=r"none of the \d+ units has a match within 0.1"):
            matched_effect(sums, errors="homoskedastic", variance="sample", caliper=0.1)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda f: spark.lin_effect(f, **NAMED, covariates=[]), ColumnError, "covariates is empty"),
            (lambda f: spark.lin_effect(f, **NAMED, covariates="age"), ColumnError, r"such as \['age'\]"),
            (lambda f: spark.lin_effect(f, **NAMED, covariates=["age"]), CausalRecError,
             "found a DataFrame; expected a Spark DataFrame. For rows in memory use causalrec.observational"),
            (lambda f: spark.ols_effect(f, **NAMED, covariates=["age"], estimand="ate"),
             CausalRecError, "averages effects by the overlap"),
            (lambda f: spark.weighting_effect(f, **NAMED), CausalRecError, "found neither"),
            (lambda f: spark.weighting_effect(f, **NAMED, covariates=["age"], propensity="fine"),
             CausalRecError, "found both"),
            (lambda f: spark.weighting_effect(f, **NAMED, propensity="fine", trim="crump"),
             CausalRecError, "'crump' and 'common_support' need all scores"),
            (lambda f: spark.weighting_effect(f, **NAMED, covariates=["age"], clip=0.5),
             CausalRecError, "clip is 0.5"),
            (lambda f: spark.matching_effect(f, **NAMED, covariates=["age"], ratio=0), CausalRecError,
             "ratio is 0; expected a whole number"),
            (lambda f: spark.matching_effect(f, **NAMED, covariates=["age"], distance="logits"),
             CausalRecError, "Did you mean 'logit'"),
            (lambda f: spark.matching_effect(f, **NAMED, covariates=["age"], caliper=-1),
             CausalRecError, "caliper is -1"),
            (lambda f: spark.estimate_ate(f, method="aipw", **NAMED), CausalRecError,
             "method is 'aipw'; on Spark expected one of"),
            (lambda f: spark.estimate_ate(f, method="overlap_weights", estimand="ate"), CausalRecError, "use 'ipw'"),
            (lambda f: spark.add_propensity(f, treatment="t", covariates=["age"], name="y"), ColumnError,
             "a column 'y' already"),
        ],
    )  # fmt: skip
    def test_before_spark_is_asked(self, rows, call, error, message):
        with pytest.raises(error, match=message):
            call(rows)


def on_spark(session: Any, rows: pd.DataFrame) -> Any:
    return session.createDataFrame(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None))


@pytest.fixture(scope="module")
def frame(spark_session: Any, rows: pd.DataFrame) -> Any:
    return on_spark(spark_session, rows).repartition(3).persist()


def given(rows: pd.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    """Columns in place of their names."""
    return {name: rows[column] for name, column in options.items()}


def rows_asked(covariates: tuple[str, ...], **options: Any) -> Asked:
    return Asked(**{"treatment": "t", "outcome": "y", "covariates": covariates, **options})


@pytest.mark.spark
class TestOnSpark:
    def test_rows_as_they_are_read(self, frame, rows):
        """No Python runs on the executors here."""
        asked = rows_asked(("age", "plan", "new", "months"), sample_weight="w", control="none", treatment="arm")
        with read_rows(frame, asked) as found:
            used = rows[rows["w"] > 0]
            assert found.n_arm == tuple((used["t"] == code).sum() for code in (0, 1))
            assert found.n_all == tuple((rows["t"] == code).sum() for code in (0, 1))
            assert found.coding.names.tolist() == ["age", "new", "months", "plan_b", "plan_it's"]
            assert found.coding.levels == (("a", "b", "it's"),)
            matrix = design_matrix(used[["age", "plan", "new", "months"]])[0]
            np.testing.assert_allclose(found.coding.mean, matrix.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(found.coding.spread, matrix.std(axis=0), rtol=1e-10)
            beta = np.arange(1.0, 7.0)
            predicted = frame.selectExpr("id", f"{found.coding.predictor(beta)} AS eta").toArrow().to_pandas()
        whole = design_matrix(rows[["age", "plan", "new", "months"]])[0]
        expected = 1 + (whole - matrix.mean(axis=0)) / matrix.std(axis=0) @ beta[1:]
        np.testing.assert_allclose(predicted.sort_values("id")["eta"], expected, rtol=1e-9)

    @pytest.mark.slow
    def test_difference_in_means(self, frame, rows):
        found = spark.difference_in_means(frame, treatment="arm", control="none", outcome="y", **BOTH)
        expected = difference_in_means(rows["y"], treatment=rows["arm"], control="none", **given(rows, BOTH))
        assert_same(found, expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, WEIGHTED, BOTH])
    def test_regressions(self, frame, rows, options):
        named = {**NAMED, "covariates": X, **options}
        local = {"treatment": rows["t"], **given(rows, options)}
        assert_same(spark.ols_effect(frame, **named), ols_effect(rows[X], rows["y"], **local))
        for estimand in ("ate", "att"):
            found = spark.lin_effect(frame, estimand=estimand, **named)
            assert_same(found, lin_effect(rows[X], rows["y"], estimand=estimand, **local))
        found = spark.estimate_ate(frame, method="standardisation", estimand="atc", **named)
        assert_same(found, standardisation(rows[X], rows["y"], estimand="atc", **local))

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, WEIGHTED, BOTH])
    def test_weighting_and_doubly_robust(self, frame, rows, options):
        named = {**NAMED, "covariates": X, **options}
        local = {"treatment": rows["t"], **given(rows, options)}
        weight = local.get("sample_weight")
        for method, estimand in (("ipw", "att"), ("overlap_weights", "ato")):
            made = weights(rows[X], treatment=rows["t"], estimand=estimand, sample_weight=weight)
            expected = weighting_effect(rows["y"], made, treatment=rows["t"], clusters=local.get("clusters"))
            found = spark.estimate_ate(frame, method=method, **{**named, "estimand": estimand})
            assert_same(found, expected, but=("method",))
            assert found.method.startswith(expected.method.split(", clustered")[0])
        assert_same(spark.aipw_parametric(frame, **named), aipw_parametric(rows[X], rows["y"], **local))

    @pytest.mark.slow
    def test_known_propensities(self, frame, rows):
        made = weights(treatment=rows["t"], propensity=rows["fine"], trim=0.1)
        expected = weighting_effect(rows["y"], made, treatment=rows["t"])
        found = spark.weighting_effect(frame, **NAMED, propensity="fine", trim=0.1)
        assert_same(found, expected)
        expected = aipw_parametric(rows[X], rows["y"], treatment=rows["t"], propensity=rows["fine"])
        assert_same(spark.aipw_parametric(frame, **NAMED, covariates=X, propensity="fine"), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("column", ["fine", "tied", "heavy"])
    def test_matching(self, frame, rows, column, monkeypatch):
        monkeypatch.setattr(_spark_matching, "SCORES_PER_STRATUM", 100)
        for options in ({}, {"estimand": "ate", "ratio": 3, "caliper": 0.2, "distance": "logit"}):
            made = match(propensity=rows[column], treatment=rows["t"], **options)
            expected = matching_effect(rows["y"], made, treatment=rows["t"])
            assert_same(spark.matching_effect(frame, **NAMED, propensity=column, **options), expected)

    @pytest.mark.slow
    def test_scores_and_matching_on_them(self, frame, rows):
        scored = spark.add_propensity(frame, treatment="t", covariates=X)
        local = fit_propensity(rows[X], treatment=rows["t"])
        found = scored.toArrow().to_pandas().sort_values("id")
        assert scored.columns == [*frame.columns, "propensity"]
        np.testing.assert_allclose(found["propensity"], local.score, rtol=1e-8)
        expected = matching_effect(
            rows["y"], match(propensity=local, treatment=rows["t"]), treatment=rows["t"], score_known=True
        )
        assert_same(spark.matching_effect(frame, **NAMED, covariates=X), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, WEIGHTED])
    def test_balance(self, frame, rows, options):
        local = given(rows, options)
        expected = balance_table(
            rows[X], treatment=rows["t"], weights=rows["v"] * (rows["w"] > 0 if options else 1), **local
        )
        found = spark.balance_table(frame, treatment="t", covariates=X, weights="v", **options)
        distances = ("ks_before", "ks_after", "max_ks_before", "max_ks_after", "worst")  # two differ alike
        assert_same(found, expected, but=distances)
        for name in distances[:-1]:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-3)
        assert_same(
            spark.balance_table(frame, treatment="t", covariates=X), balance_table(rows[X], treatment=rows["t"]),
            but=distances,
        )  # fmt: skip

    @pytest.mark.slow
    def test_many_rows_start_from_a_sample(self, spark_session, monkeypatch):
        monkeypatch.setattr(_spark_fit, "_SAMPLE", 200)
        rows = table(2_000, seed=3)
        scored = spark.add_propensity(on_spark(spark_session, rows), treatment="t", covariates=["age", "plan"])
        local = fit_propensity(rows[["age", "plan"]], treatment=rows["t"])
        found = scored.toArrow().to_pandas().sort_values("id")["propensity"]
        np.testing.assert_allclose(found, local.score, rtol=1e-8)

    # A column k of SQL; what is named; the error.
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("column", "named", "error", "message"),
        [
            ("IF(id < 3, NULL, y)", {"outcome": "k"}, OutcomeError, "'k': 3 of 900 values are missing"),
            ("IF(id < 3, NULL, t)", {"treatment": "k"}, TreatmentError, "3 of 900 values are missing"),
            ("1", {"treatment": "k"}, TreatmentError, "found only 1 in 900 rows"),
            ("id % 3", {"treatment": "k"}, TreatmentError, "expected 0/1, or labels together with control"),
            ("t + 1", {"treatment": "k"}, TreatmentError, "control=1"),
            ("IF(id < 3, NULL, age)", {"covariates": ["visits", "k"]}, ColumnError, "'k' have missing values"),
            ("IF(id < 3, double('nan'), age)", {"covariates": ["k"]}, ColumnError, "'k' have missing values"),
            ("IF(id < 3, NULL, plan)", {"covariates": ["k"]}, ColumnError, "'k' have missing values"),
            ("IF(id < 3, double('-inf'), age)", {"covariates": ["k"]}, ColumnError, "'k' have infinite values"),
            ("string(id)", {"covariates": ["k"]}, ColumnError, "'k' holds text of more than 500 values"),
            ("IF(t = 1, 0, 1)", {"sample_weight": "k"}, TreatmentError, "arm 1 has no weight in any"),
            ("-1", {"sample_weight": "k"}, CausalRecError, "900 negative values"),
            ("IF(id < 4, NULL, user)", {"clusters": "k"}, CausalRecError, "clusters: 4 of 900"),
            ("IF(t = 1, 2, -2)", {"covariates": ["k"]}, OverlapError, "separate treated from control"),
            ("IF(t = 1 AND id % 9 = 0, 'x', plan)", {"covariates": ["k"]}, OverlapError, "only one arm has: 'k_x'"),
            ("y", {"covariates": ["y"]}, ColumnError, "'y' are named twice"),
            ("y", {"covariates": ["ages"]}, ColumnError, "missing column 'ages'.* Did you mean 'age'"),
            ("array(y)", {"covariates": ["k"]}, ColumnError, "'k' of type array<double>; covariates are numbers"),
            ("plan", {"outcome": "k"}, OutcomeError, "'k' is of type string; expected numbers"),
        ],
    )  # fmt: skip
    def test_bad_input(self, frame, column, named, error, message):
        with pytest.raises(error, match=message):
            spark.weighting_effect(frame.selectExpr("*", f"{column} AS k"), **{**NAMED, "covariates": ["age"], **named})

    @pytest.mark.slow
    def test_no_rows(self, frame):
        with pytest.raises(EmptyTableError, match="0 rows"):
            spark.difference_in_means(frame.where("id < 0"), **NAMED)
