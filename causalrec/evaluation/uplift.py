r"""Uplift metrics with standard errors that come from their influence functions.

Every unit gets a score :math:`\Gamma_i` whose mean over any group is the group's average effect
(:func:`causalrec.nuisance.arm_scores`): inverse-probability weighting of the deviations from the arms' means m
(weighting the outcomes themselves would add noise that grows with their level),

.. math:: \Gamma_i = m_1 - m_0 + \frac{1\{t_i = 1\} (y_i - m_1)}{e_{1i}} - \frac{1\{t_i = 0\}(y_i - m_0)}{e_{0i}} ,

or, with ``nuisance``, doubly robust scores, which are less noisy and need no randomisation. With more than two arms
``arm`` names the one that is compared with control, and the units of the others count in the population.

With the units sorted by predicted uplift, best first, the gain of treating the top share q is

.. math:: C(q) = \frac{1}{N}\sum_{\mathrm{rank}(i) \le qN} \Gamma_i ,

and straight between two units, or across units with equal predictions, so row order never matters.

==================== ===========================================================================================
``qini_score``       :math:`\int_0^1 (C(q) - q\,C(1))\,dq`, the area between the curve and that of a random order
``auuc_score``       :math:`\int_0^1 C(q)\,dq`
``rate``             AUTOC, the mean of :math:`\mathrm{TOC}(q) = C(q)/q - C(1)` over all units; or the Qini again
``uplift_at_k``      the average effect among the best share k
``lift_share``       :math:`C(s) / C(1)`: the share of the gain of treating all that the best share s holds
==================== ===========================================================================================

Qini and AUUC are gains per unit of the whole population, in the outcome's unit: they can be read, added over
campaigns and compared between samples, and none divides by an estimate that may be near zero. That is why they are the
default.

AUTOC and Qini are those of Yadlowsky, Fleming, Shah, Brunskill and Wager (2025, JASA, "Evaluating Treatment
Prioritization Rules via Rank-Weighted Average Treatment Effects") as the R package grf computes them: with equal
weights to the last digit, given the same scores. Scores 4, 3, 2, 1 in that order give an AUTOC of 0.75 and a Qini of
0.3125. AUTOC weights the very best most and is the better test where few gain; the Qini is the better one where many
gain a little. causalml's rates are others: its "autoc" weights TOC by 1/q and its "qini" is twice
grf's. The Qini and AUUC of scikit-uplift and causalml divide by a perfect or a final gain. ``convention=`` gives each
package's number (:mod:`causalrec.evaluation.conventions`).

A score that is the same for all units orders none of them: its Qini and AUTOC are zero by definition, in every sample,
so their standard error is zero too, the interval is [0, 0], and there is no p-value.
"""

from __future__ import annotations

from typing import Any, Literal

from causalrec._validation import list_some
from causalrec.evaluation._metrics import Choice, check_share, rank_rows
from causalrec.evaluation._results import metric_result
from causalrec.evaluation.conventions import DEFAULT
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances
from causalrec.results import EffectResult


def qini_score(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float | None = 0.95,
) -> EffectResult:
    """Area between the gain curve and that of a random order, per unit of the population.

    Zero for a score that orders no better than chance, negative for one that orders worse.

    Parameters
    ----------
    y : array of shape (n,)
        Outcomes, binary or continuous.
    uplift : array of shape (n,) or (n, k - 1)
        Predicted effects from a model that has not seen these rows; of a table the column of ``arm`` is taken,
        by name where it is a frame or a mapping.
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares, optional
        P(treated given X), known by design. Without it, and without ``nuisance``, the test is taken as randomised and
        the shares of the arms are estimated.
    nuisance : Nuisances, optional
        Cross-fitted models of these very rows: doubly robust scores are used.
    sample_weight, clusters : arrays of shape (n,), optional
        Weights (a row of weight zero is as good as absent); and units within which rows depend on each other. By
        default those of ``nuisance``. Some hundred clusters are needed: with 50 that are treated as a whole, tests
        of 5% rejected in 7 to 10% of simulations, with 200 in 5 to 6%.
    control, arm : labels, optional
        The arm to compare with, and the one that is compared, where there are more than two.
    convention : str
        Whose definition: see :mod:`causalrec.evaluation.conventions`.
    confidence_level : float or None
        None gives the value alone, faster, for searches.

    Raises
    ------
    TreatmentError
        For one arm, an arm without weight, or no ``arm`` where there are several.
    OutcomeError
        For missing values, or an outcome that never varies.
    OverlapError
        For a propensity that is not strictly between 0 and 1.
    CausalRecError
        For lengths that differ, an unknown convention, or another misuse.

    Examples
    --------
    >>> score = qini_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])
    >>> round(float(score), 4)
    0.25
    """
    choice = Choice("qini", convention=convention)
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return metric_result(choice, ranked, confidence_level)


def auuc_score(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float | None = 0.95,
) -> EffectResult:
    """Area under the gain curve, per unit of the population; parameters as for :func:`qini_score`.

    A random order gives half the average effect, so the p-value (of a zero area) is not a test of the score.

    Examples
    --------
    >>> round(float(auuc_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])), 4)
    0.25
    """
    choice = Choice("auuc", convention=convention)
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return metric_result(choice, ranked, confidence_level)


def rate(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    target: Literal["autoc", "qini"] = "autoc",
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float | None = 0.95,
) -> EffectResult:
    """Rank-weighted average treatment effect: AUTOC, or the Qini; parameters as for :func:`qini_score`.

    AUTOC is how much larger the effect of the best share q is than that of all, averaged over q: zero for a random
    order. ``target="qini"`` weights by q and is the same as :func:`qini_score`.

    Raises
    ------
    CausalRecError
        For another target, and as for :func:`qini_score`.

    Examples
    --------
    Pairs of a treated and an untreated unit with effects 4, 3, 2, 1:

    >>> y, uplift, treatment = [4, 0, 3, 0, 2, 0, 1, 0], [4, 4, 3, 3, 2, 2, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> round(float(rate(y, uplift, treatment, target="qini")), 4)
    0.3125
    """
    names = {"autoc": "autoc", "qini": "rate_qini"}
    if target not in names:
        raise CausalRecError(f"target is {target!r}; expected one of {list_some(names)}.")
    choice = Choice(names[target], convention=convention)
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return metric_result(choice, ranked, confidence_level)


def uplift_at_k(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    k: float = 0.1,
    strategy: Literal["overall", "by_group"] = "overall",
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float | None = 0.95,
) -> EffectResult:
    """Average effect among the share ``k`` of units with the highest predictions.

    The difference of the arms' (weighted) means in the top, or the mean of the doubly robust scores there; a group of
    ties at the cut is taken whole if its middle lies above the cut. The interval is for the best share ``k`` of the
    population: it counts that the cut-off is estimated. With ``k=1`` and no weights or clusters its standard error is
    Welch's. ``n_obs`` counts the top. ``strategy="by_group"`` takes the best share of each arm instead of the best
    share of all. Other parameters as for :func:`qini_score`.

    Rare outcomes: with two events of an arm in the top an interval of 95% covered 87% in a simulation, with seven 93%.
    There is none where the outcomes of an arm do not vary in the top.

    Raises
    ------
    CausalRecError
        For a k outside (0, 1], an unknown strategy, ``by_group`` with ``nuisance``, and as for :func:`qini_score`.
    TreatmentError
        When an arm has fewer than two units in the top share.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> uplift_at_k(y, uplift, treatment, k=0.5).estimate
    2.0
    >>> everyone = uplift_at_k(y, uplift, treatment, k=1)
    >>> everyone.estimate, round(everyone.std_error, 4), everyone.n_obs
    (0.75, 0.6922, 8)
    """
    choice = Choice("uplift_at_k", k=k, strategy=strategy, convention=convention)
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return metric_result(choice, ranked, confidence_level)


def lift_share(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    share: float = 0.1,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float | None = 0.95,
) -> EffectResult:
    """What share of the gain of treating all comes from the best ``share`` of units: C(share) / C(1).

    ``share`` for a random order, more than one where treating the others does harm. It divides by the whole effect:
    the interval is Fieller's (1954), which has no ends where that effect cannot be told from zero. The p-value is of a
    random order. Other parameters as for :func:`qini_score`.

    Examples
    --------
    >>> y, uplift, treatment = [4, 0, 3, 0, 2, 0, 1, 0], [4, 4, 3, 3, 2, 2, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> lift_share(y, uplift, treatment, share=0.5).estimate
    0.7
    """
    choice = Choice("lift_share", k=check_share(share, name="share"), convention=convention)
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return metric_result(choice, ranked, confidence_level)
