"""What drives purchases: Spark MLlib's logistic regression of a purchase on a day, and linear regression of its amount.

Columns are standardised, so that a coefficient is per standard deviation; no penalty. Errors are clustered by customer
(:mod:`.sums`). The models that are judged are fitted on the days before the split and scored on the days from it on;
the coefficients that are shown are of all days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray
from experiments.email_attribution.grid import CALENDAR, EMAIL, HISTORY, extra_columns
from experiments.email_attribution.sums import clustered_covariance, gram
from experiments.email_attribution.tables import KEY, Part

GROUPS = ("e-mail", "recency and habit", "calendar", "household")
_LEVEL = 0.95


@dataclass(frozen=True)
class Scale:
    """Means and standard deviations of columns; columns that do not vary are left out."""

    names: tuple[str, ...]
    mean: FloatArray
    sd: FloatArray

    @property
    def sql(self) -> list[str]:
        """The standardised columns."""
        parts = zip(self.names, self.mean.tolist(), self.sd.tolist(), strict=True)
        return [f"(CAST(`{c}` AS DOUBLE) - ({m!r}D)) / {s!r}D" for c, m, s in parts]


@dataclass(frozen=True)
class Model:
    """Coefficients per standard deviation, with errors clustered by customer where they were asked for.

    ``spread`` is the covariance matrix of the standardised columns; ``intercept`` is first in ``covariance``.
    """

    kind: str
    scale: Scale
    intercept: float
    coefficients: FloatArray
    covariance: FloatArray = field(repr=False)
    spread: FloatArray = field(repr=False)
    n_obs: int
    n_customers: int

    @property
    def std_error(self) -> FloatArray:
        """Of the coefficients, without the intercept's."""
        errors: FloatArray = np.sqrt(np.diag(self.covariance)[1:])
        return errors

    def table(self) -> pd.DataFrame:
        """A row per column: group, coefficient per standard deviation, interval, and the same per unit of the column.

        A coefficient per unit of a 0/1 column is the difference between yes and no.
        """
        error, reach = self.std_error, stats.norm.isf((1 - _LEVEL) / 2)
        return pd.DataFrame({
            "column": self.scale.names, "group": [group_of(c) for c in self.scale.names],
            "coefficient": self.coefficients, "std_error": error, "ci_low": self.coefficients - reach * error,
            "ci_high": self.coefficients + reach * error, "per_unit": self.coefficients / self.scale.sd,
            "per_unit_low": (self.coefficients - reach * error) / self.scale.sd,
            "per_unit_high": (self.coefficients + reach * error) / self.scale.sd,
        })  # fmt: skip

    def group_spread(self) -> dict[str, tuple[float, float]]:
        """The standard deviation over rows of what each group of columns adds to the prediction, and its error.

        For coefficients b and covariances R of the group's columns √(bᵀRb); the error by the delta method, with R
        taken as known. It is at least 0, so that a group without any effect has one of about its error.
        """
        groups = np.array([group_of(c) for c in self.scale.names])
        found = {}
        for group in GROUPS:
            of = np.flatnonzero(groups == group)
            if not len(of):
                continue
            b, r = self.coefficients[of], self.spread[np.ix_(of, of)]
            size = float(np.sqrt(b @ r @ b))
            slope = r @ b / size if size > 0 else np.zeros(len(of))
            variance = float(slope @ self.covariance[np.ix_(of + 1, of + 1)] @ slope)
            found[group] = size, variance**0.5
        return found


@dataclass(frozen=True)
class Prepared:
    """Rows of Spark: standardised columns z0, z1, …, their vector x, and the vector taught of those not left out.

    Columns ``left_out`` do not vary before the split, so that the days before it teach nothing of them.
    """

    rows: Any
    scale: Scale
    left_out: tuple[str, ...]
    split: str

    def judge(self, rows: Any, label: str, *, kind: str) -> Any:
        """Predictions for the days from the split on by a model of the days before it, kept by Spark."""
        early, late = (rows.where(f"event_time {sign} '{self.split}'") for sign in ("<", ">="))
        fitted = fit(early, label, kind=kind, features="taught")
        return predictions(fitted, late, label, kind=kind).persist()


def group_of(column: str) -> str:
    """Which of :data:`GROUPS` a column belongs to."""
    if column == EMAIL:
        return GROUPS[0]
    return GROUPS[1] if column in HISTORY else GROUPS[2] if column in CALENDAR else GROUPS[3]


def columns_of(part: Part) -> tuple[str, ...]:
    """The regressors."""
    return (EMAIL, *HISTORY, *CALENDAR, *extra_columns(part))


def scale_of(frame: Any, columns: Sequence[str]) -> Scale:
    """Means and population standard deviations, from one query."""
    sums = [f"AVG(`{c}`) AS m{i}" for i, c in enumerate(columns)]
    sums += [f"STDDEV_POP(`{c}`) AS s{i}" for i, c in enumerate(columns)]
    found = np.array(frame.selectExpr(*sums).first(), dtype=float).reshape(2, -1)
    varies = found[1] > 1e-12
    return Scale(tuple(c for c, v in zip(columns, varies, strict=True) if v), found[0][varies], found[1][varies])


def prepare(frame: Any, columns: Sequence[str], split: str) -> Prepared:
    """Standardise the columns on all days, and put them into vectors, as MLlib takes them; computed once by Spark."""
    from pyspark.ml.feature import VectorAssembler

    scale = scale_of(frame, columns)
    names = [f"z{i}" for i in range(len(scale.names))]
    early = scale_of(frame.where(f"event_time < '{split}'"), scale.names)
    rows = frame.selectExpr(
        KEY, "event_time", "CAST(bought AS DOUBLE) AS bought", "CASE WHEN bought = 1 THEN ln(spend) END AS amount",
        *(f"{sql} AS {name}" for sql, name in zip(scale.sql, names, strict=True)),
    )  # fmt: skip
    taught = [z for z, c in zip(names, scale.names, strict=True) if c in early.names]
    for columns_in, vector in ((names, "x"), (taught, "taught")):
        rows = VectorAssembler(inputCols=columns_in, outputCol=vector).transform(rows)
    left_out = tuple(c for c in scale.names if c not in early.names)
    return Prepared(rows.persist(), scale, left_out, split)


def fit(rows: Any, label: str, *, kind: str, features: str = "x") -> Any:
    """Fit MLlib's ``"logistic"`` or ``"linear"`` regression, without penalty, to a vector of standardised columns.

    All of them must vary among the rows: MLlib takes a constant for a column whose variance is a rounding error.
    """
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.regression import LinearRegression

    settings = {"featuresCol": features, "labelCol": label, "regParam": 0.0, "standardization": False}
    if kind == "logistic":
        return LogisticRegression(**settings, maxIter=100, tol=1e-8).fit(rows)
    return LinearRegression(**settings, solver="normal").fit(rows)


def with_errors(rows: Any, label: str, *, kind: str, scale: Scale) -> Model:
    """Fit, and compute the covariance of intercept and coefficients by customer, all on Spark."""
    fitted = fit(rows, label, kind=kind)
    names = [f"z{i}" for i in range(len(scale.names))]
    coefficients, intercept = np.asarray(fitted.coefficients.toArray(), dtype=float), float(fitted.intercept)
    terms = [f"({b!r}D) * {z}" for b, z in zip(coefficients.tolist(), names, strict=True)]
    linear = " + ".join([f"{intercept!r}D", *terms])
    mean = f"1e0 / (1e0 + exp(-({linear})))" if kind == "logistic" else f"({linear})"
    # Kept, since two sums are over them.
    scored = rows.selectExpr(KEY, *names, f"{label} AS y", f"{mean} AS m").selectExpr(
        KEY, *names, "y - m AS residual", f"{'m * (1e0 - m)' if kind == 'logistic' else '1e0'} AS w"
    ).persist()  # fmt: skip
    try:
        n = scored.count()
        columns = ["1e0", *names]
        covariance, customers = clustered_covariance(scored, columns, residual="residual", weight="w", cluster=KEY)
        spread = _correlation(gram(scored, columns) / n)
    finally:
        scored.unpersist()
    return Model(kind, scale, intercept, coefficients, covariance, spread, n, customers)


def _correlation(moments: FloatArray) -> FloatArray:
    """The covariance matrix of columns from the means of products of a constant and them."""
    mean = moments[0, 1:]
    centred: FloatArray = moments[1:, 1:] - np.outer(mean, mean)
    return centred


def predictions(fitted: Any, rows: Any, label: str, *, kind: str) -> Any:
    """Columns y and p, the prediction, of a fitted model of MLlib."""
    scored = fitted.transform(rows)
    if kind == "linear":
        return scored.selectExpr(f"{label} AS y", "prediction AS p")
    from pyspark.ml.functions import vector_to_array

    return scored.select(scored[label].alias("y"), vector_to_array("probability").getItem(1).alias("p"))


def by_decile(scored: Any, *, bins: int = 10) -> pd.DataFrame:
    """Rows in groups of the prediction p, the highest first: n, predicted and observed mean of y, lift.

    The limits between groups are quantiles of the prediction; equal predictions stay together.
    """
    from pyspark.sql import functions as F  # noqa: N812 - its usual name

    shares = ", ".join(f"{i / bins}D" for i in range(1, bins))
    (limits,) = scored.selectExpr(f"percentile(p, array({shares}))").first()
    place = " + ".join(f"CAST(p <= {float(v)!r}D AS INT)" for v in limits)
    groups = scored.selectExpr(f"1 + {place} AS decile", "y", "p").groupBy("decile")
    found = groups.agg(F.count("*").alias("n"), F.avg("p").alias("predicted"), F.avg("y").alias("observed"))
    out = pd.DataFrame(sorted(map(tuple, found.collect())), columns=["decile", "n", "predicted", "observed"])
    return out.assign(lift=out["observed"] / np.average(out["observed"], weights=out["n"]))


@dataclass(frozen=True)
class Drivers:
    """Both models on all days, and how those of the early days did on the later ones."""

    likelihood: Model
    amount: Model
    likelihood_test: pd.DataFrame = field(repr=False)
    amount_test: pd.DataFrame = field(repr=False)
    auc: float
    n_train: int
    left_out: tuple[str, ...]

    @property
    def calibration(self) -> float:
        """Observed purchases of the test days by predicted ones."""
        t = self.likelihood_test
        return float((t["observed"] * t["n"]).sum() / (t["predicted"] * t["n"]).sum())

    def ratios(self, *, at_most: bool = False) -> Mapping[str, float]:
        """How many times the spread of each group's part is that of the e-mail's, in the likelihood.

        ``at_most`` takes the end of the e-mail's interval that is furthest from 0: ratios that are surely reached.
        """
        email = self.email
        reach = max(abs(email["ci_low"]), abs(email["ci_high"])) if at_most else abs(email["coefficient"])
        return {group: float(size / reach) for group, (size, _) in self.likelihood.group_spread().items()}

    @property
    def email(self) -> pd.Series:
        """The e-mail's row of the likelihood."""
        return self.likelihood.table().set_index("column").loc[EMAIL]


def study_days(frame: Any, part: Part) -> Drivers:
    """Fit and judge both models on the daily rows of a part."""
    ready = prepare(frame, columns_of(part), part.split)
    bought = ready.rows.where("amount IS NOT NULL")
    try:
        likelihood = with_errors(ready.rows, "bought", kind="logistic", scale=ready.scale)
        amount = with_errors(bought, "amount", kind="linear", scale=ready.scale)
        judged = ready.judge(ready.rows, "bought", kind="logistic")
        area = _area(judged)
        deciles = [by_decile(judged), by_decile(ready.judge(bought, "amount", kind="linear"))]
        n_test = judged.count()
    finally:
        ready.rows.unpersist()
    return Drivers(likelihood, amount, *deciles, area, likelihood.n_obs - n_test, ready.left_out)


def _area(scored: Any) -> float:
    """The area under the ROC curve, by MLlib."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator

    return float(BinaryClassificationEvaluator(labelCol="y", rawPredictionCol="p").evaluate(scored))
