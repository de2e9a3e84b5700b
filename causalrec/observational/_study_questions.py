"""What an estimate of a study is asked: does it survive, and how much hidden bias does it bear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from causalrec._validation import check_columns
from causalrec.observational._study_data import StudyData
from causalrec.observational._study_frame import columns_of, pandas_of
from causalrec.observational._study_sensitivity import study_sensitivity
from causalrec.observational.refutation import Settings, check_controls, placebo_of_effect, refute_effect
from causalrec.observational.simulated_confounder import STRENGTHS, simulate_confounder
from causalrec.results import (
    AdjustedEffect,
    RefutationResult,
    RefutationsResult,
    SensitivityResult,
    SimulatedConfounderResult,
)


class Questioned(ABC):
    """The questions that an :class:`ObservationalStudy` puts to its estimates."""

    treatment: str
    outcome: str
    covariates: tuple[Any, ...]
    _data: StudyData
    _frame: Any

    @abstractmethod
    def estimate(self, method: str | None = None, *, estimand: str | None = None, **options: Any) -> AdjustedEffect:
        """The effect by a method."""

    def _units_of(self, column: str) -> pd.Series:
        """Another column of the frame, of the units in use."""
        check_columns(columns_of(self._frame), [column], where="frame")
        return pandas_of(self._frame, [column])[column][self._data.kept].reset_index(drop=True)

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
            For an estimate that cannot be made again, too few simulations, unknown names, negative controls that the
            study uses already, or where nothing could run.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from causalrec.observational import ObservationalStudy
        >>> rng = np.random.default_rng(0)
        >>> x, t = rng.normal(size=500), np.arange(500) % 2
        >>> frame = pd.DataFrame({"x": x, "t": t, "y": x + t + rng.normal(size=500)})
        >>> study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
        >>> study.refute(study.estimate("ols")).passed
        True
        """
        self._check_controls(negative_outcomes, negative_treatments)
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

    def _check_controls(self, outcomes: Sequence[str], treatments: Sequence[str]) -> None:
        used = {self.treatment: "the treatment", self.outcome: "the outcome"}
        used.update(dict.fromkeys(self.covariates, "a covariate"))
        for way, route in self._data.routes.items():
            used.update(dict.fromkeys(route.through.columns, f"what {way} goes by in"))
        check_controls(outcomes, treatments, columns=columns_of(self._frame), used=used)

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
