"""Errors of MLlib's regressions from sums that Spark computes; no row comes to the driver.

MLlib's logistic regression has no errors, and those of its linear regression take rows as independent. A customer's
days are not: the sandwich of Liang and Zeger (1986, Biometrika 73) sums scores within customers,

    V = c A⁻¹ (Σ_g s_g s_gᵀ) A⁻¹,   A = Σ_i w_i x_i x_iᵀ,   s_g = Σ_{i in g} (y_i − m_i) x_i,

with w = p (1 − p) and m = p for the logistic model (A is its information matrix), w = 1 and m the fitted value for the
linear one, and c = G / (G − 1) · (n − 1) / (n − k) for G customers, n rows and k coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec._typing import FloatArray


def gram(frame: Any, columns: Sequence[str], weight: str = "1e0") -> FloatArray:
    """Σ w x xᵀ over the rows of a Spark DataFrame, shape (k, k); columns and weight, at least 0, are SQL expressions.

    By MLlib's sum of products of a vector, √w x: one expression for each column, where sums in SQL are one for each
    pair of them, which Spark compiles for longer than it sums.
    """
    from pyspark.ml.feature import VectorAssembler
    from pyspark.mllib.linalg.distributed import RowMatrix
    from pyspark.mllib.util import MLUtils

    names = [f"g{i}" for i in range(len(columns))]
    scaled = [f"sqrt({weight}) * CAST({c} AS DOUBLE) AS {name}" for c, name in zip(columns, names, strict=True)]
    vectors = VectorAssembler(inputCols=names, outputCol="v").transform(frame.selectExpr(*scaled)).select("v")
    found: FloatArray = RowMatrix(MLUtils.convertVectorColumnsFromML(vectors, "v")).computeGramianMatrix().toArray()
    return found


def clustered_covariance(
    frame: Any, columns: Sequence[str], *, residual: str, weight: str, cluster: str
) -> tuple[FloatArray, int]:
    """The sandwich of the module's head, and how many clusters it is from.

    Parameters
    ----------
    frame : Spark DataFrame
    columns : sequence of str
        SQL of the k regressors, ``"1e0"`` for a constant.
    residual, weight : str
        SQL of y − m and w.
    cluster : str
        A column.

    Returns
    -------
    float array of shape (k, k), int
    """
    from pyspark.sql import functions as F  # noqa: N812 - its usual name

    bread = np.linalg.inv(gram(frame, columns, weight))
    scores = [F.expr(f"SUM(({residual}) * ({c}))").alias(f"score{i}") for i, c in enumerate(columns)]
    by_cluster = frame.groupBy(cluster).agg(F.count("*").alias("rows"), *scores)
    by_cluster.persist()
    try:
        groups, rows = (int(v) for v in by_cluster.selectExpr("COUNT(*)", "SUM(rows)").first())
        meat = gram(by_cluster, [f"score{i}" for i in range(len(columns))])
    finally:
        by_cluster.unpersist()
    factor = groups / (groups - 1) * (rows - 1) / (rows - len(columns))
    return factor * bread @ meat @ bread, groups
