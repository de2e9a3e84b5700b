"""One study of one treatment: every method on the same units, the same score and the same nuisances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalrec._threads import one_thread
from causalrec._typing import FloatArray
from causalrec._validation import check_columns, check_not_empty, list_some
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance import overlap
from causalrec.observational._study_data import StudyData, make_study_data
from causalrec.observational._study_plan import plan_study
from causalrec.observational._study_report import study_report
from causalrec.observational._study_sensitivity import study_sensitivity
from causalrec.observational.balance import balance_table
from causalrec.observational.methods import comparable, default_method, run_method
from causalrec.observational.refutation import Settings, placebo_of_effect, refute_effect
from causalrec.observational.simulated_confounder import STRENGTHS, simulate_confounder
from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    IdentificationResult,
    OverlapResult,
    RefutationResult,
    RefutationsResult,
    SensitivityResult,
    SimulatedConfounderResult,
    StudyReport,
)


class ObservationalStudy:
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
        columns = _columns_of(frame)
        self.treatment, self.outcome, self._frame = treatment, outcome, frame
        roles = {"treatment": treatment, "outcome": outcome, "clusters": clusters, "sample_weight": sample_weight}
        roles["propensity"] = propensity if isinstance(propensity, str) else None
        given = () if isinstance(covariates, str) or isinstance(instruments, str) else (*covariates, *instruments)
        _check_roles(columns, roles, given)
        self._plan = plan_study(
            treatment, outcome, columns, covariates=covariates, graph=graph, instruments=instruments
        )  # fmt: skip
        self.covariates = self._plan.covariates
        table = _pandas(frame, [*dict.fromkeys([c for c in roles.values() if c is not None] + self._plan.columns)])
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
        return _balance(self._data, effect, options)

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
        score = self._data.score(model)
        if effect is None:
            return overlap(
                score.score,
                self._data.treatment,
                method=score.method,
                estimand=estimand,
                share_clipped=score.share_clipped,
            )
        given = _weights_of(self._data, effect)
        return overlap(
            score.score, self._data.treatment, method=score.method, estimand=effect.estimand, weights=given
        )  # fmt: skip

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
        given = dict(options or {})
        chosen = comparable(methods, estimand, given, self._data.routes if self._data.only else ())
        unused = [name for name in given if name not in chosen]
        if unused:
            raise CausalRecError(f"options name {list_some(unused)}, not compared here: {list_some(chosen, 20)}.")
        found: dict[str, AdjustedEffect] = {}
        failures = []
        for name, own in chosen.items():
            try:
                found[name] = run_method(self._data, name, own, dict(given.get(name, {})))
            except CausalRecError as error:
                failures.append(f"{name}: {error}")
        if not found:
            raise CausalRecError("no method gave an estimate. " + " ".join(failures))
        return EffectComparisonResult(
            treatment=self.treatment, outcome=self.outcome, estimand=estimand, n_obs=self.n_obs, names=tuple(found),
            effects=tuple(found.values()), max_abs_smd=np.array([self._worst(e) for e in found.values()]),
            failures=tuple(failures),
        )  # fmt: skip

    def _worst(self, effect: AdjustedEffect) -> float:
        """The largest standardised difference that an estimate leaves; NaN where it has no weights."""
        if effect.weights is None or self._data.X is None:
            return float("nan")
        return float(_balance(self._data, effect, {"distances": False}).max_abs_smd_after)

    def refute(
        self,
        effect: AdjustedEffect | None = None,
        refuters: Sequence[str] | None = None,
        *,
        n_simulations: int = 100,
        n_jobs: int = 1,
        strata: int | None = None,
        negative_outcomes: Sequence[str] = (),
        negative_treatments: Sequence[str] = (),
        subset: float = 0.8,
        dummy: str = "permuted",
        progress: Callable[[int, int], None] | bool | None = None,
        random_state: int | None = None,
    ) -> RefutationsResult:
        """Make the estimate again of data changed so that the answer is known, everything fitted anew.

        Linear, score-weighted and matched estimates are made again by algebra, a hundred in seconds on 100,000 units;
        cross-fitted models (``"aipw"``) are fitted in every simulation, which takes minutes: ask for few, or refute
        the ``"aipw_parametric"`` estimate beside it.

        Parameters
        ----------
        effect : AdjustedEffect, optional
            Of this study; by default that of :meth:`estimate`.
        refuters : sequence of str, optional
            ``"placebo_treatment"``: the treatment of other units; drawn anew where its chances are known and vary;
            whole clusters where they were treated as such. ``"random_common_cause"``: a covariate of pure noise.
            ``"data_subset"``: a share of the units. ``"dummy_outcome"``: an outcome that the treatment cannot have
            changed. These are the default. ``"bootstrap"``: units drawn with replacement, where that is valid (not for
            matching). ``"negative_control_outcome"`` and ``"negative_control_treatment"`` run where columns are named.
        n_simulations : int
            Of each; 19 at least for a level of 95%.
        n_jobs : int
            Threads; -1 is one for each core. The numbers do not depend on it.
        strata : int, optional
            Permute the treatment within so many strata of the score, so that its confounding stays.
        negative_outcomes, negative_treatments : sequence of str
            Columns that the treatment cannot change, such as spend before it, and treatments (0/1) that cannot change
            the outcome, but share its hidden causes.
        subset : float
            Share of ``"data_subset"``.
        dummy : {"permuted", "simulated"}
            The outcome of other units, or what covariates say of it with the residual of another unit: the latter
            keeps the confounding, so that a method that does not adjust is caught.
        progress : callable or True, optional
            Called with the simulations done and their number; True counts on standard error.
        random_state : int, optional
            By default the study's.

        Returns
        -------
        RefutationsResult
            What could not be run, and why, is in its ``failures``.

        Raises
        ------
        CausalRecError
            For an estimate that cannot be made again, too few simulations, unknown names, or where nothing could run.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> x, t = rng.normal(size=500), np.arange(500) % 2
        >>> frame = pd.DataFrame({"x": x, "t": t, "y": x + t + rng.normal(size=500)})
        >>> study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
        >>> study.refute(study.estimate("ols")).passed
        True
        """
        settings = Settings(
            n_simulations, n_jobs, strata, subset, dummy, self._data.random_state if random_state is None
            else random_state,
        )  # fmt: skip
        return refute_effect(
            self._data, self.estimate() if effect is None else effect, refuters, settings,
            names=(self.treatment, self.outcome), negative_outcomes=negative_outcomes,
            negative_treatments=negative_treatments, column=self._units_of, progress=progress,
        )  # fmt: skip

    def refute_with_dowhy(
        self,
        effect: AdjustedEffect,
        refuter: str,
        *,
        n_simulations: int = 100,
        n_jobs: int = 1,
        random_state: int | None = None,
        progress: Callable[[int, int], None] | bool | None = None,
        **options: float,
    ) -> RefutationResult:
        """A refuter of DoWhy's on an estimate of this study: a second opinion on :meth:`refute`.

        Each simulation has a frame and a random stream of its own, and everything is fitted anew: what DoWhy 0.14 does
        wrong by itself (:mod:`causalrec.observational.dowhy_refuters`) cannot happen.

        Parameters
        ----------
        effect : AdjustedEffect
            Of this study, by any method but instruments and front doors.
        refuter : str
            ``"random_common_cause"``, ``"placebo_treatment_refuter"`` (the treatment is permuted),
            ``"data_subset_refuter"``, ``"bootstrap_refuter"``, ``"dummy_outcome_refuter"`` (the outcome is permuted),
            ``"add_unobserved_common_cause"`` (no test: its ``pvalue`` is NaN).
        n_simulations, random_state, progress
            As for :meth:`refute`.
        n_jobs : int
            Processes; each imports dowhy, which takes seconds. The numbers do not depend on it.
        **options
            ``subset_fraction=0.8``; ``noise=0.1``, in standard deviations of each covariate, for the bootstrap;
            ``effect_strength_on_treatment=0.05``, the share of treatments flipped, and ``effect_strength_on_outcome``,
            in the outcome's unit, by default a tenth of its standard deviation.

        Raises
        ------
        MissingExtraError
            Without dowhy.
        CausalRecError
            For unknown refuters and options, a bootstrap of matching, clusters, and estimates that cannot be made anew.
        """
        from causalrec.observational.dowhy_refuters import refute_with_dowhy

        return refute_with_dowhy(
            self._data, effect, refuter, n_simulations=n_simulations, n_jobs=n_jobs, random_state=random_state,
            progress=progress, **options,
        )  # fmt: skip

    def simulate_confounder(
        self,
        effect: AdjustedEffect | None = None,
        *,
        strengths: Sequence[float] = STRENGTHS,
        benchmarks: Sequence[str] | None = None,
        n_simulations: int = 5,
        n_jobs: int = 1,
    ) -> SimulatedConfounderResult:
        """Make up hidden causes of known strength, adjust for them, and see what is left of the estimate.

        The method itself adjusts, whatever it is; of a regression on main effects the result is the closed form of
        Cinelli and Hazlett (:func:`sensitivity_ols`). There is no p-value: nothing is tested.

        Parameters
        ----------
        effect : AdjustedEffect, optional
            Of this study; by default that of :meth:`estimate`.
        strengths : sequence of float
            Shares, from 0 to below 1, of what is left of treatment and outcome that a hidden cause explains (partial
            R²); all pairs are tried.
        benchmarks : sequence of str, optional
            Covariates that a hidden cause may be as strong as; by default all that a regression can tell apart.
        n_simulations : int
            Hidden causes of each pair of strengths.
        n_jobs : int

        Raises
        ------
        CausalRecError
            For an estimate that cannot be made again, no covariates, sample weights, and strengths outside [0, 1).
        """
        return simulate_confounder(
            self._data, self.estimate() if effect is None else effect, names=(self.treatment, self.outcome),
            strengths=strengths, benchmarks=benchmarks, n_simulations=n_simulations, n_jobs=n_jobs,
            random_state=self._data.random_state,
        )  # fmt: skip

    def placebo(
        self,
        method: str = "matching",
        *,
        estimand: str | None = None,
        n_simulations: int = 100,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> RefutationResult:
        """The placebo of :meth:`refute` alone, of an estimate that is made here: two simulations may do."""
        return placebo_of_effect(
            self._data, self.estimate(method, estimand=estimand, **options), n_simulations, progress
        )

    def _units_of(self, column: str) -> pd.Series:
        """Another column of the frame, of the units in use."""
        check_columns(_columns_of(self._frame), [column], where="frame")
        return _pandas(self._frame, [column])[column][self._data.kept].reset_index(drop=True)

    def sensitivity(
        self,
        effect: AdjustedEffect | None = None,
        *,
        gammas: Any = None,
        benchmarks: Sequence[str] | None = None,
        confidence_level: float | None = None,
    ) -> SensitivityResult:
        """How strong a hidden cause of treatment and outcome must be to change a conclusion, on every scale.

        Rosenbaum's bounds of the matched sets of the effect, or of pairs made for them; the E-value; the robustness
        value of a linear regression, and of AIPW where the effect is by it, beside what covariates explain; tipping
        points. What cannot be computed, for weights or clusters say, is in ``notes`` with the reason.

        Parameters
        ----------
        effect : AdjustedEffect, optional
            Of this study; by default that of :meth:`estimate`.
        gammas : numbers of at least 1, optional
        benchmarks : sequence of str, optional
            Covariates to compare a hidden cause with, a category as one. By default all for the regression, and for
            AIPW, whose models are fitted anew without each, the strongest where there are up to 10,000 units.
        confidence_level : float, optional
            By default the effect's.

        Raises
        ------
        ColumnError
            For benchmarks that are no covariates.
        CausalRecError
            For gamma below 1, and an estimate that is not finite.
        """
        effect = self.estimate() if effect is None else effect
        return study_sensitivity(
            self._data, effect, treatment=self.treatment, outcome=self.outcome, gammas=gammas, benchmarks=benchmarks,
            confidence_level=confidence_level,
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
        >>> rng = np.random.default_rng(0)
        >>> x, t = rng.normal(size=300), np.arange(300) % 2
        >>> frame = pd.DataFrame({"x": x, "t": t, "y": x + t + rng.normal(size=300)})
        >>> study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
        >>> study.report(study.estimate("ols"), methods=["ols", "lin"], n_simulations=20).verdict
        'plausible'
        """
        return study_report(
            self, self._data, effect, methods=methods, refuters=refuters, n_simulations=n_simulations, n_jobs=n_jobs,
            negative_outcomes=negative_outcomes, negative_treatments=negative_treatments, progress=progress,
        )  # fmt: skip


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


def _balance(data: StudyData, effect: AdjustedEffect | None, options: dict[str, Any]) -> BalanceResult:
    if data.X is None:
        raise ColumnError("there are no covariates whose balance could be shown; name them in the study.")
    if effect is None:
        return balance_table(
            data.X, treatment=data.treatment, sample_weight=data.sample_weight, method="no adjustment", **options
        )
    given = _weights_of(data, effect)
    with one_thread(data.small):
        return balance_table(
            data.X, treatment=data.treatment, weights=given, estimand=effect.estimand, method=effect.method,
            sample_weight=data.sample_weight, **options,
        )  # fmt: skip


def _weights_of(data: StudyData, effect: AdjustedEffect) -> FloatArray:
    if effect.weights is None:
        raise CausalRecError(
            f"this estimate is no weighted mean of outcomes and leaves no weights to show ({effect.method}). Take one "
            "by matching, weighting or subclassification, or none for the arms as they are."
        )
    if len(effect.weights) != data.n_obs:
        raise CausalRecError(
            f"the estimate weights {len(effect.weights):,} units, the study has {data.n_obs:,}; pass an estimate of "
            "this study."
        )
    return effect.weights


def _columns_of(frame: Any) -> list[Any]:
    if not isinstance(frame, pd.DataFrame) and not hasattr(frame, "to_pandas"):
        lazy = " Collect it first." if hasattr(frame, "collect_schema") else ""
        raise ColumnError(
            f"frame is of type {type(frame).__name__}; expected a pandas, Polars or Arrow frame.{lazy} For arrays "
            "there is estimate_ate, for Spark causalrec.observational.spark."
        )
    columns = frame.column_names if hasattr(frame, "column_names") else frame.columns
    check_columns(columns, [], where="frame")
    return list(columns)


def _pandas(frame: Any, columns: list[str]) -> pd.DataFrame:
    found = frame[columns] if isinstance(frame, pd.DataFrame) else frame.select(columns).to_pandas()
    check_not_empty(len(found), where="frame")
    return found


def _check_roles(columns: Sequence[str], roles: dict[str, str | None], covariates: Sequence[str]) -> None:
    named = [c for c in roles.values() if c is not None] + list(covariates)
    apart = [roles["treatment"], roles["outcome"], *covariates]  # clusters may be a covariate too: a shop, say
    doubled = sorted({str(c) for c in apart if apart.count(c) > 1})
    if doubled:
        raise ColumnError(f"columns {list_some(doubled)} are named twice among treatment, outcome and covariates.")
    check_columns(columns, named, where="frame")
