"""One study of one treatment: every method on the same units, the same score and the same nuisances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from causalrec.observational._study_data import make_study_data
from causalrec.observational._study_frame import check_roles, columns_of, pandas_of
from causalrec.observational._study_plan import plan_study
from causalrec.observational._study_questions import Questioned
from causalrec.observational._study_report import study_report
from causalrec.observational._study_support import compared_effects, study_balance, study_overlap, worst_difference
from causalrec.observational.methods import default_method, run_method
from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    IdentificationResult,
    OverlapResult,
    StudyReport,
)


class ObservationalStudy(Questioned):
    """The effect of a treatment that was not assigned at random, by any method, with what supports it.

    The propensity is fitted once for each specification, and so are cross-fitted nuisances; all methods share them.

    Parameters
    ----------
    frame : pandas, Polars or Arrow frame
        A row per unit; it is not changed.
    treatment, outcome : str
        Columns: 0/1 (or two labels with ``control``), and a number.
    covariates : sequence of str
        Columns measured before treatment: numbers, booleans, text or categories.
    graph : str, path or networkx graph, optional
        Instead of covariates: a causal graph as DOT or GML text, a file of either, or ``networkx.DiGraph``. DoWhy's
        criterion says which columns to adjust for; where none suffice, an instrument or a front door may be left.
    instruments : sequence of str
        Without a graph: columns that move the treatment, and the outcome only through it, given ``covariates``.
    control : label, optional
        The arm to compare with, where the treatment is not 0/1.
    clusters, sample_weight : str, optional
        Columns: users with several rows, and weights.
    propensity : str, float, array of shape (n,) or PropensityResult, optional
        P(treated given X) where the design tells it: a column, one number, or one for each row; or from
        :func:`fit_propensity`, on whatever covariates. (Cross-fitted AIPW fits its own in place of one that has seen
        the units.)
    propensity_model : {"logistic", "probit", "boosted"} or scikit-learn classifier
        Of the score that matching, weighting, subclassification and parametric AIPW use.
    missing : {"error", "drop", "indicator", "impute"}
        What to do about missing values: refuse, leave the rows out, give covariates an indicator or a level of their
        own, or fill them by mean or most frequent level. Treatment and outcome are never filled. Results say how many.
    confidence_level : float
    random_state : int
        For folds and fitted trees.

    Attributes
    ----------
    covariates : tuple of str
        What is adjusted for: as given, or by the graph. Where nothing suffices, what goes with the instrument or the
        front door that is left.
    n_obs : int
        Units in use.
    notes : tuple of str
        What was done about missing values.

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        With what was found and the remedy.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> loyal = rng.normal(size=1000)
    >>> emailed = (rng.random(1000) < 1 / (1 + np.exp(-loyal))).astype(int)
    >>> frame = pd.DataFrame({"loyal": loyal, "emailed": emailed, "spend": loyal + emailed + rng.normal(size=1000)})
    >>> study = ObservationalStudy(frame, treatment="emailed", outcome="spend", covariates=["loyal"])
    >>> effect = study.estimate("matching", estimand="att")
    >>> effect.ci_low < 1 < effect.ci_high
    True
    >>> study.balance(effect).balanced
    True
    """

    def __init__(
        self,
        frame: Any,
        *,
        treatment: str,
        outcome: str,
        covariates: Sequence[str] = (),
        graph: Any = None,
        instruments: Sequence[str] = (),
        control: Any = None,
        clusters: str | None = None,
        sample_weight: str | None = None,
        propensity: Any = None,
        propensity_model: Any = "logistic",
        missing: str = "error",
        confidence_level: float = 0.95,
        random_state: int = 0,
    ) -> None:
        columns = columns_of(frame)
        self.treatment, self.outcome, self._frame = treatment, outcome, frame
        roles = {"treatment": treatment, "outcome": outcome, "clusters": clusters, "sample_weight": sample_weight}
        roles["propensity"] = propensity if isinstance(propensity, str) else None
        given = () if isinstance(covariates, str) or isinstance(instruments, str) else (*covariates, *instruments)
        check_roles(columns, roles, given)
        self._plan = plan_study(
            treatment, outcome, columns, covariates=covariates, graph=graph, instruments=instruments
        )  # fmt: skip
        self.covariates = self._plan.covariates
        table = pandas_of(frame, [*dict.fromkeys([c for c in roles.values() if c is not None] + self._plan.columns)])
        self._data = make_study_data(
            table[list(self.covariates)] if self.covariates else None,
            table[outcome],
            treatment=table[treatment],
            control=control,
            clusters=None if clusters is None else table[clusters],
            sample_weight=None if sample_weight is None else table[sample_weight],
            propensity=table[propensity] if isinstance(propensity, str) else propensity,
            propensity_model=propensity_model,
            missing=missing,
            confidence_level=confidence_level,
            random_state=random_state,
            outcome=outcome,
            routes=self._plan.routes(table),
            only=self._plan.only,
            why_only=self._plan.why_only,
        )

    @property
    def n_obs(self) -> int:
        """Units in use."""
        return self._data.n_obs

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done about missing values."""
        return self._data.notes

    def __repr__(self) -> str:
        held = ", ".join(map(str, self.covariates))
        how = f"adjusting for {held or 'nothing'}" if not self._plan.only else f"by {self._plan.only}"
        given = f" given {held}" if self._plan.only and held else ""
        return f"ObservationalStudy({self.treatment} → {self.outcome}, {self.n_obs:,} units, {how}{given})"

    def identify(self, covariates: Sequence[str] | None = None, *, estimand: str = "ate") -> IdentificationResult:
        """What the effect is identified by, what must be believed, and which columns are bad controls, in words.

        Parameters
        ----------
        covariates : sequence of str, optional
            A set to judge: whether it suffices by the graph, which of it must not be held fixed and why, and what path
            stays open.
        estimand : {"ate", "att", "atc", "ato"}

        Raises
        ------
        CausalRecError
            For names that are no nodes of the graph, or an unknown estimand.
        """
        return self._plan.identify(covariates, estimand)

    def estimate(self, method: str | None = None, *, estimand: str | None = None, **options: Any) -> AdjustedEffect:
        """The effect by one method of :data:`METHODS`, or of DoWhy's and EconML's (:data:`peers.PEERS`).

        Parameters
        ----------
        method : str, optional
            By default ``"aipw"``; the difference in means of a treatment that was assigned at random; the instrument or
            front door where the graph leaves no columns that suffice.
        estimand : {"ate", "att", "atc", "ato"}, optional
            Over all units, the treated, the controls, or the overlap; by default the ate, and the ato of methods that
            have no other (``"ols"``, ``"overlap_weights"``, ``"g_estimation"``). The result names it.
        **options
            Of the method, as its function has them: ``caliper=0.2, ratio=1, replace=False`` for ``"matching"``.

        Raises
        ------
        CausalRecError
            For an unknown method or option, an estimand that the method does not have, and whatever the method finds
            wrong with the data, by name.
        """
        return run_method(self._data, method or default_method(self._data), estimand, options)

    def balance(self, effect: AdjustedEffect | None = None, **options: Any) -> BalanceResult:
        """How alike the arms are, before and after the weights of an estimate; without one as they are.

        ``options`` are those of :func:`balance_table`: ``threshold``, ``denominator``.

        Raises
        ------
        CausalRecError
            For an estimate that is no weighted mean of outcomes, such as a regression, or of other units.
        """
        return study_balance(self._data, effect, options)

    def overlap(
        self, effect: AdjustedEffect | None = None, *, estimand: str = "ate", model: Any = None
    ) -> OverlapResult:
        """How far the propensities of the arms lie over each other.

        Parameters
        ----------
        effect : AdjustedEffect, optional
            Whose weights and estimand show the arms after the adjustment as well.
        estimand : {"ate", "att", "atc", "ato"}
            Whose weights the effective sample sizes are of, without an effect.
        model : optional
            As ``propensity_model``.

        Raises
        ------
        CausalRecError
            For an estimate that is no weighted mean of outcomes, or of other units.
        """
        return study_overlap(self._data, effect, estimand, model)

    def compare(
        self,
        methods: Sequence[str] | None = None,
        *,
        estimand: str = "ate",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> EffectComparisonResult:
        """The effect by every method that has the estimand, side by side.

        Parameters
        ----------
        methods : sequence of str, optional
            By default all that adjust, but for EconML's, whose import alone takes seconds; where nothing suffices,
            those that the graph leaves.
        estimand : {"ate", "att", "atc"}
            Overlap weights, whose effect is that of the overlap, are shown under their own name.
        options : mapping of methods to their options, optional

        Returns
        -------
        EffectComparisonResult
            With the largest standardised difference that each leaves; a method that fails is listed with its reason.

        Raises
        ------
        CausalRecError
            For unknown methods or estimands, options of a method that is not compared, or when every method fails.
        """
        found, failures = compared_effects(self._data, methods, estimand, dict(options or {}))
        return EffectComparisonResult(
            treatment=self.treatment, outcome=self.outcome, estimand=estimand, n_obs=self.n_obs, names=tuple(found),
            effects=tuple(found.values()), failures=failures,
            max_abs_smd=np.array([worst_difference(self._data, effect) for effect in found.values()]),
        )  # fmt: skip

    def report(
        self,
        effect: AdjustedEffect | None = None,
        *,
        methods: Sequence[str] | None = None,
        refuters: Sequence[str] | None = None,
        n_simulations: int = 100,
        n_jobs: int = 1,
        negative_outcomes: Sequence[str] = (),
        negative_treatments: Sequence[str] = (),
        progress: Callable[[int, int], None] | bool | None = None,
    ) -> StudyReport:
        """The study on one page: effect, every method, balance, overlap, refutations, hidden bias, and doubts.

        Parameters
        ----------
        effect : AdjustedEffect, optional
            The headline; by default that of :meth:`estimate`.
        methods : sequence of str, optional
            To compare it with; by default as :meth:`compare`.
        refuters, n_simulations, n_jobs, negative_outcomes, negative_treatments, progress
            As for :meth:`refute`. Cross-fitted AIPW and other slow methods are refuted by a quick one of their kind,
            which ``notes`` name.

        Returns
        -------
        StudyReport
            Prints as a page; ``write_study_report`` of :mod:`causalrec.pipelines.ate` makes an HTML page of it.

        Raises
        ------
        CausalRecError
            Where no effect can be estimated, and for methods or refuters that are not known.

        Examples
        --------
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> x, t = rng.normal(size=300), np.arange(300) % 2
        >>> frame = pd.DataFrame({"x": x, "t": t, "y": x + t + rng.normal(size=300)})
        >>> study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
        >>> study.report(study.estimate("ols"), methods=["ols", "lin"], n_simulations=20).verdict
        'plausible'
        """
        self._check_controls(negative_outcomes, negative_treatments)
        return study_report(
            self, self._data, effect, methods=methods, refuters=refuters, n_simulations=n_simulations, n_jobs=n_jobs,
            negative_outcomes=negative_outcomes, negative_treatments=negative_treatments, progress=progress,
        )  # fmt: skip
