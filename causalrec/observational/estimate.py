"""An average effect from arrays, by any method of a study."""

from __future__ import annotations

from typing import Any

from causalrec.observational._study_data import make_study_data
from causalrec.observational.methods import run_method
from causalrec.results import AdjustedEffect


def estimate_ate(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    method: str = "aipw",
    estimand: str = "ate",
    control: Any = None,
    clusters: Any = None,
    sample_weight: Any = None,
    propensity: Any = None,
    propensity_model: Any = "logistic",
    missing: str = "error",
    confidence_level: float = 0.95,
    random_state: int = 0,
    **options: Any,
) -> AdjustedEffect:
    """An average effect from arrays or frames by one method, adjusted for ``X``; nothing is changed.

    Parameters
    ----------
    X : frame or array of shape (n, p), or None
        Covariates measured before treatment; None for ``"difference_in_means"``, and where ``propensity`` is given
        for methods that compare by score.
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    method, estimand, **options
        As for :meth:`ObservationalStudy.estimate`.
    control, clusters, sample_weight, propensity, propensity_model, missing, confidence_level, random_state
        As for :class:`ObservationalStudy`, with arrays of shape (n,) instead of columns.

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        With what was found and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 2))
    >>> treatment = (rng.random(1000) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    >>> y = X[:, 0] + 2 * treatment + rng.normal(size=1000)
    >>> effect = estimate_ate(X, y, treatment=treatment, method="ipw")
    >>> effect.ci_low < 2 < effect.ci_high
    True
    """
    data = make_study_data(
        X, y, treatment=treatment, control=control, clusters=clusters, sample_weight=sample_weight,
        propensity=propensity, propensity_model=propensity_model, missing=missing, confidence_level=confidence_level,
        random_state=random_state,
    )  # fmt: skip
    return run_method(data, method, estimand, options)
