"""Which learner to trust where the true effects are unknown: losses on rows that no model saw, compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_treatment, check_vector, list_some
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances, fit_nuisances
from causalrec.nuisance.scores import check_effects, dr_losses, r_losses
from causalrec.results import LearnerComparisonResult
from causalrec.uplift._robust import student, weighted_means
from causalrec.uplift.base import UpliftLearner
from causalrec.uplift.heterogeneity import Predictions, Sample, check_predictions, sample_of

CONSTANT = "constant effect"


class Losses(NamedTuple):
    """Of each learner, shape (m,): mean loss, how much more than the lowest, and with what error."""

    loss: FloatArray
    difference: FloatArray
    std_error: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    pvalue: FloatArray


def compare_learners(
    learners: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    treatment: Any,
    propensity: Any = None,
    sample_weight: Any = None,
    nuisance: Nuisances | None = None,
    groups: Any = None,
    control: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> LearnerComparisonResult:
    """Compare learners by R- and DR-loss of their out-of-fold effects; the nuisances are fitted once.

    The constant effect is among them: a learner that does not beat it has found no differences to target by.

    Parameters
    ----------
    learners : mapping of name to learner
        They are cloned, and not fitted themselves. A learner that has a model of its own for what the nuisances hold
        (a T-learner with a base learner) is fitted with that model, and judged by the same nuisances.
    X, y, treatment, propensity, sample_weight, groups : as for ``fit`` of a learner
    nuisance : Nuisances, optional
        Of these rows; by default fitted here, with default models.
    control : label, optional
        The arm to compare with, where the treatment is not 0/1 and no nuisance is given.
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of the nuisances by default.
    confidence_level : float
    random_state, n_jobs : for the nuisances, where they are fitted here

    Raises
    ------
    CausalRecError
        For no learners, or names that cannot be used; besides what learners raise.

    Notes
    -----
    See :func:`compare_effects` for what is compared with what.

    Examples
    --------
    >>> from causalrec.uplift import SLearner, XLearner
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 1)), rng.integers(0, 2, 600)
    >>> y = 2 * X[:, 0] * treatment + rng.normal(size=600)
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> learners = {"S": SLearner(LinearRegression()), "X": XLearner(LinearRegression())}
    >>> found = compare_learners(learners, X, y, treatment=treatment, nuisance=nuisance)
    >>> found.best, found.close
    ('X', ('X',))
    """
    level = check_confidence_level(confidence_level)
    named = check_learners(learners)
    if nuisance is None:
        nuisance = fit_nuisances(
            X, y, treatment=treatment, control=control, propensity=propensity, sample_weight=sample_weight,
            groups=groups, random_state=random_state, n_jobs=n_jobs,
        )  # fmt: skip
    effects = {name: out_of_fold_effects(learner, X, y, treatment, nuisance) for name, learner in named}
    return compare_effects(effects, nuisance, clusters=clusters, confidence_level=level)


def compare_effects(
    effects: Mapping[str, Any],
    nuisance: Nuisances,
    *,
    predictions: Predictions = "out of fold",
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> LearnerComparisonResult:
    """Compare effects that were predicted for the rows of ``nuisance`` by models that did not see them.

    Parameters
    ----------
    effects : mapping of name to array of shape (n,) or (n, k - 1)
    nuisance : Nuisances
    predictions : {"out of fold", "in sequence", "of one model"}
        Where the effects come from, as for :func:`group_average_effects`.
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of ``nuisance`` by default.
    confidence_level : float

    Raises
    ------
    CausalRecError
        For no effects, or such of another shape.

    Notes
    -----
    A loss is an average over rows, so that two of them are compared by the mean of the rows' differences, with
    Student's t. Each learner is compared with the one of the lowest loss; the intervals and p-values are corrected for
    the m - 1 others that might have been the lowest (Bonferroni), so that the choice does not flatter it.

    Out of fold, the K folds' models are fitted on one another's rows, so that their losses vary together. Variances are
    therefore raised by 1 + K / (K - 1) (Nadeau and Bengio 2003, Machine Learning 52, "Inference for the generalization
    error"). Without it 95% intervals of learners that hardly differ cover 82 to 90% (simulated, 5 folds, linear
    learners). In sequence and of one model they need no such thing.

    Both losses differ from the mean squared error of the effects by a constant: the R-loss (Nie and Wager 2021) with
    each row weighted by the variance of its treatment, the DR-loss (Kennedy 2023) without weights, which is noisier
    where some arm is unlikely.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 1)), rng.integers(0, 2, 600)
    >>> y = 2 * X[:, 0] * treatment + rng.normal(size=600)
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> compare_effects({"right": 2 * X[:, 0], "wrong": -X[:, 0]}, nuisance).learner.tolist()
    ['right', 'constant effect', 'wrong']
    """
    level = check_confidence_level(confidence_level)
    check_predictions(predictions)
    if not effects:
        raise CausalRecError("found no effects to compare; pass a mapping of names to predicted effects.")
    _check_names(list(effects))
    sample = sample_of(nuisance, clusters)
    n_arms, rows = len(nuisance.labels), sample.keep
    tables = {name: check_effects(uplift, nuisance.n_obs, n_arms)[rows] for name, uplift in effects.items()}
    y, codes, m, e = nuisance.y[rows], nuisance.codes[rows], nuisance.mean_outcome[rows], nuisance.propensity[rows]
    tables[CONSTANT] = constant_effects(y - m, treatment_residuals(codes, e), nuisance.fold[rows], sample.weight)
    scores, n_folds = nuisance.effect_scores()[rows], len(np.unique(nuisance.fold[rows]))
    raised = 1 + n_folds / (n_folds - 1) if predictions == "out of fold" and n_folds > 1 else 1.0
    found = [
        compare_losses(np.column_stack(losses), sample, level, raised)
        for losses in ([r_losses(t, y, codes, m, e) for t in tables.values()],
                       [dr_losses(t, scores) for t in tables.values()])
    ]  # fmt: skip
    r, dr = found
    order = np.argsort(r.loss, kind="stable")
    names = np.array(list(tables))[order]
    close = np.isnan(r.pvalue) | (r.pvalue >= 1 - level)
    return LearnerComparisonResult(
        best=str(names[0]), n_close=int(close.sum()), n_learners=len(names), n_obs=int(rows.sum()),
        confidence_level=level, method=f"losses {predictions}, paired t{sample.errors}",
        effects=nuisance.average_effects(clusters=clusters, confidence_level=level), learner=names,
        **{f"{kind}_{name}": values[order]
           for kind, losses in (("r", r), ("dr", dr)) for name, values in losses._asdict().items()},
    )  # fmt: skip


def compare_losses(losses: FloatArray, sample: Sample, level: float, raised: float = 1.0) -> Losses:
    """Means of the columns of ``losses``, shape (n, m), and their paired differences to the lowest.

    Variances are multiplied by ``raised``.
    """
    means = weighted_means(losses, sample.weight, sample.clusters).value
    best = int(means.argmin())
    others = max(losses.shape[1] - 1, 1)
    gaps = weighted_means(losses - losses[:, [best]], sample.weight, sample.clusters)
    answer = student(gaps._replace(covariance=raised * gaps.covariance), 1 - (1 - level) / others)
    return Losses(
        means, gaps.value, answer.std_error, answer.ci_low, answer.ci_high, np.minimum(1.0, others * answer.pvalue)
    )


def treatment_residuals(codes: IntArray, propensity: FloatArray) -> FloatArray:
    """1{t = a} - e_a of every arm but control, shape (n, k - 1)."""
    return np.asarray((codes[:, None] == np.arange(1, propensity.shape[1])) - propensity[:, 1:])


def constant_effects(residual: FloatArray, moved: FloatArray, fold: IntArray, weight: FloatArray) -> FloatArray:
    """For every row the constant effects, of shape (k - 1,), with the lowest R-loss on the other folds."""
    found = np.empty_like(moved)
    root = np.sqrt(weight)
    for number in np.unique(fold):
        rest = fold != number
        found[~rest] = np.linalg.lstsq(moved[rest] * root[rest, None], residual[rest] * root[rest])[0]
    return found


def check_learners(learners: Any, taken: Sequence[str] = ()) -> list[tuple[str, Any]]:
    """Names and learners, from a mapping or pairs; names that are ``taken`` have another meaning.

    Raises
    ------
    CausalRecError
        For none, names that are no text, used twice or with ``__``, or what has no ``fit_predict``.
    """
    try:
        named = list(learners.items()) if isinstance(learners, Mapping) else [(name, each) for name, each in learners]
    except (TypeError, ValueError) as error:
        raise CausalRecError(
            f"learners is {learners!r}; expected a mapping of names to learners, such as {{'T': TLearner()}}."
        ) from error
    if not named:
        raise CausalRecError("found no learners; expected at least one, such as {'T': TLearner()}.")
    _check_names([name for name, _ in named], taken)
    for name, learner in named:
        if isinstance(learner, type) or not callable(getattr(learner, "fit_predict", None)):
            raise CausalRecError(
                f"the learner {name!r} is {learner!r}; expected an uplift learner with fit_predict, such as TLearner()."
            )
    return named


def _check_names(names: Sequence[Any], taken: Sequence[str] = ()) -> None:
    unusable = (CONSTANT, *taken)
    for name in names:
        if not isinstance(name, str) or "__" in name or name in unusable or names.count(name) > 1:
            raise CausalRecError(
                f"a learner is named {name!r}; expected text that is used once, has no '__', and is none of "
                f"{list_some(unusable, 20)}."
            )


def out_of_fold_effects(learner: Any, X: Any, y: Any, treatment: Any, nuisance: Nuisances) -> FloatArray:
    """Effects of shape (n, k - 1) from clones of ``learner`` that did not see the row."""
    own = clone(learner)
    kept = settings(own, nuisance)
    if "nuisance" in kept and isinstance(own, UpliftLearner):
        training, given = own._prepared(X, y, treatment, None, None, nuisance, None)
        found = own._out_of_fold(training, given)
    else:
        found = own.fit_predict(X, y, treatment=treatment, **kept)
    return check_effects(found, nuisance.n_obs, len(nuisance.labels))


def sequential_effects(
    learner: Any, X: Any, y: Any, *, treatment: Any, nuisance: Nuisances
) -> tuple[IntArray, FloatArray]:
    """Effects of each fold's rows by a learner fitted on the folds before it: for intervals that hold.

    Rows tell on later folds only, so that the folds' estimates are differences of a martingale and their errors add
    up; out-of-fold effects lack this, as each fold's models learn from all others. The price is that the first fold
    goes unused, and early models are fitted on less.

    Parameters
    ----------
    learner : uplift learner
        Cloned, and fitted with nuisances of its own, of the folds before alone.
    X, y, treatment : as they were for ``nuisance``
    nuisance : Nuisances
        Gives the folds, weights, groups and a known propensity.

    Returns
    -------
    rows : int array of shape (m,)
        All but those of the first fold.
    effects : array of shape (m,) for two arms, (m, k - 1) for k

    Notes
    -----
    Wager (2024), arXiv 2405.05534, after Luedtke and van der Laan (2016), Annals of Statistics 44.

    Examples
    --------
    >>> from causalrec.uplift import TLearner, group_average_effects
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 1)), rng.integers(0, 2, 600)
    >>> y = X[:, 0] * treatment + 0.1 * rng.normal(size=600)
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> rows, effects = sequential_effects(
    ...     TLearner(LinearRegression()), X, y, treatment=treatment, nuisance=nuisance)
    >>> found = group_average_effects(nuisance.take(rows), effects, n_groups=2, predictions="in sequence")
    >>> len(rows), found.effect.round(1).tolist()
    (480, [0.8, -0.8])
    """
    check_learners({"learner": learner})
    shared, labels = nuisance.covariates(X), np.empty(len(nuisance.labels), dtype=object)
    labels[:] = nuisance.labels
    arms = labels[nuisance.codes]
    outcome = check_vector(y, name="y", n_rows=nuisance.n_obs)
    codes, _ = check_treatment(treatment, n_rows=nuisance.n_obs, control=nuisance.labels[0])
    if not (np.array_equal(outcome, nuisance.y) and np.array_equal(codes, nuisance.codes)):
        raise CausalRecError(
            "the nuisance is of other data: y or treatment differ. Pass the same rows in the same order."
        )
    rows = np.flatnonzero(nuisance.fold > nuisance.fold.min())
    found = np.empty((nuisance.n_obs, len(labels) - 1))
    for number in np.unique(nuisance.fold)[1:]:
        past, now = np.flatnonzero(nuisance.fold < number), np.flatnonzero(nuisance.fold == number)
        own = clone(learner)
        kept = _own_settings(own, nuisance.take(past))
        own.fit(shared.take(past), outcome[past], treatment=arms[past], **kept)
        found[now] = np.asarray(own.predict(shared.take(now))).reshape(len(now), -1)
    return rows, found[rows, 0] if found.shape[1] == 1 else found[rows]


def settings(learner: Any, nuisance: Nuisances) -> dict[str, Any]:
    """What to fit a learner with: the nuisances, or what they were fitted with if its own models would contradict."""
    try:
        if isinstance(learner, UpliftLearner):
            learner._check_given()
    except CausalRecError:
        return _own_settings(learner, nuisance)
    _set_control(learner, nuisance)
    return {"nuisance": nuisance}


def _own_settings(learner: Any, nuisance: Nuisances) -> dict[str, Any]:
    _set_control(learner, nuisance)
    given = {
        "propensity": nuisance.propensity if nuisance.propensity_known else None,
        "sample_weight": nuisance.sample_weight,
        "groups": nuisance.groups,
    }
    return {name: value for name, value in given.items() if value is not None}


def _set_control(learner: Any, nuisance: Nuisances) -> None:
    if getattr(learner, "control", "") is None:
        learner.set_params(control=nuisance.labels[0])
