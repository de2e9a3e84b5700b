"""The Bayesian way from an estimate to a result: the effect's posterior under a prior, for any estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from causalrec._validation import check_confidence_level
from causalrec.abtest.bayes.effects import EffectArms, NormalPair, Observed, Pair, effect_quantile, ratio_quantile
from causalrec.abtest.bayes.priors import BetaPrior, GammaPrior, NormalPrior, Scale, check_scale
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.hypotheses import Hypothesis, Superiority, one_sided_tests
from causalrec.abtest.inference import Answer, decide
from causalrec.abtest.relative import Relative
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ABResult
from causalrec.results.bayes import format_probability

_TURNED = {"greater": "less", "less": "greater", "two-sided": "two-sided"}


@dataclass(frozen=True)
class Bayesian:
    """Credible intervals and probabilities in the place of confidence intervals and p-values.

    The estimate, however it was made (ratio, CUPED, clusters), has a normal likelihood; it meets a prior of the effect.
    Probabilities are beliefs under that prior, not error rates: whoever looks every day and stops at a high P(best) is
    wrong more often than it says (:func:`simulate_bayes`).

    Parameters
    ----------
    prior : NormalPrior, optional
        Of every metric's effect. Without one both means are flat, and the credible interval is the z interval.
    rope : float, optional
        Effects within (-rope, rope) do not matter: their probability is given.
    loss_threshold : float, optional
        Stop when choosing the best-looking arm is expected to cost less than this.
    scale : {"relative", "absolute"}
        Of ``rope`` and ``loss_threshold``: shares of the control mean, or the metric's unit. The prior has its own.
    share_prior : BetaPrior
        Of the shares of arms, where there are counts and no prior of the effect; Jeffreys' by default.
    rate_prior : GammaPrior
        The same of rates.

    Raises
    ------
    CausalRecError
        For a rope or a threshold that is not a finite number > 0, a prior of another kind, or an unknown scale.

    Examples
    --------
    >>> estimate = Estimate(10.0, 10.5, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
    >>> informed = Bayesian(NormalPrior(0.0, 0.02, scale="relative"))
    >>> found = informed.infer(estimate, metric="minutes", control="A", treatment="B")
    >>> print(f"{found.estimate:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}]")
    0.251 [-0.026, 0.525]
    """

    name: ClassVar[str] = "Bayesian"

    prior: NormalPrior | None = None
    rope: float | None = None
    loss_threshold: float | None = None
    scale: Scale = "relative"
    share_prior: BetaPrior = BetaPrior()  # noqa: RUF009 - frozen
    rate_prior: GammaPrior = GammaPrior()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        check_scale(self.scale)
        for field, value in (("rope", self.rope), ("loss_threshold", self.loss_threshold)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise CausalRecError(f"{field} is {value}; expected a finite number > 0, such as 0.005, or None.")
        kinds = {"prior": NormalPrior, "share_prior": BetaPrior, "rate_prior": GammaPrior}
        for field, kind in kinds.items():
            found = getattr(self, field)
            if not isinstance(found, kind) and not (field == "prior" and found is None):
                raise CausalRecError(f"{field} is {found!r}; expected a {kind.__name__}.")

    def in_unit(self, value: float | None, control: float) -> float:
        """A rope or threshold in the metric's unit; NaN for none."""
        if value is None:
            return NAN
        return value * abs(control) if self.scale == "relative" else value

    def pair(self, estimate: Estimate) -> Pair:
        """The joint posterior of the two means."""
        treated = Observed(estimate.treatment, estimate.var_treatment, estimate.covariance)
        if self.prior is not None and self.prior.scale == "relative" and estimate.var_control > 0:
            return EffectArms.of(estimate.control, estimate.var_control, [treated], self.prior)
        return NormalPair.of(estimate.control, estimate.var_control, treated, self.prior)

    def infer(
        self,
        estimate: Estimate,
        *,
        metric: str,
        control: str,
        treatment: str,
        hypothesis: Hypothesis = Superiority(),  # noqa: B008 - frozen
        confidence_level: float = 0.95,
        relative: Relative = "fieller",  # noqa: ARG002 - the ratio has a posterior of its own
        segment: str = "",
    ) -> ABResult:
        """The posterior of the effect as a result; ``method`` gives the probability of what the hypothesis asks.

        ``estimate`` is the posterior mean, ``std_error`` the posterior standard deviation, the intervals are
        equal-tailed credible ones (one-sided where the hypothesis is), and there is no p-value (NaN). The relative
        effect is the median of the posterior of treatment / control - 1, its interval the quantiles of that: without a
        prior they are Fieller's where the control mean is far from zero, and finite where it is not. The means of the
        arms are posterior ones too. ``relative`` is not used.

        Raises
        ------
        OutcomeError
            Where there is no variance, of either arm for a relative prior, or a relative margin and a control mean of
            zero.
        CausalRecError
            For a level outside (0, 1), or outside (.5, 1) for equivalence.
        """
        level = check_confidence_level(confidence_level)
        answer = decide(
            hypothesis, level, metric, baseline=estimate.control, distance=lambda _: NAN, pvalue=lambda _, __: NAN
        )
        if math.isnan(estimate.variance):
            return _unknown(estimate, answer, level, metric, control, treatment, segment)
        _check_variance(estimate, metric, self.prior)
        pair = self.pair(estimate)
        (c, sd_c), (t, sd_t), (effect, std) = pair.control, pair.treatment, pair.effect
        ends = _ends(answer)
        side = answer.side if estimate.control > 0 else _TURNED[answer.side]
        turned = _ends(answer._replace(side=side))
        low, high = (_open(q) if q in (0.0, 1.0) else effect_quantile(pair, q) for q in ends)
        note = answer.note.replace("; two one-sided tests, intervals", "; intervals")
        shares = [_open(q) if q in (0.0, 1.0) else ratio_quantile(pair, q) - 1 for q in turned]
        return ABResult(
            estimate=effect, std_error=std, ci_low=low, ci_high=high, pvalue=NAN, confidence_level=level,
            n_obs=estimate.n_control + estimate.n_treatment, estimand=estimate.estimand, metric=metric,
            method=f"{estimate.method.replace('Welch t', 'normal')}; {self._said(pair, estimate, hypothesis)}{note}",
            control=control, treatment=treatment, control_mean=c, treatment_mean=t, n_control=estimate.n_control,
            n_treatment=estimate.n_treatment, statistic=NAN, df=math.inf,
            relative_effect=ratio_quantile(pair, 0.5) - 1, relative_ci_low=shares[0], relative_ci_high=shares[1],
            hypothesis=answer.hypothesis, margin_low=answer.margins[0], margin_high=answer.margins[1], segment=segment,
            control_std_error=sd_c, treatment_std_error=sd_t, inference=self.name,
        )  # fmt: skip

    def _said(self, pair: Pair, estimate: Estimate, hypothesis: Hypothesis) -> str:
        prior = "flat prior" if self.prior is None else f"prior: {self.prior}"
        p = prob_hypothesis(pair, hypothesis, estimate.control)
        asked = "effect > 0" if isinstance(hypothesis, Superiority) else "within the margin"
        if isinstance(hypothesis, Superiority) and hypothesis.alternative == "less":
            asked = "effect < 0"
        text = f"Bayesian, {prior}, credible intervals; P({asked}) {_equals(p)}"
        width = self.in_unit(self.rope, estimate.control)
        if math.isnan(width):
            return text
        return f"{text}; P(effect too small to matter) {_equals(prob_within(pair, width))}"


def _equals(p: float) -> str:
    text = format_probability(p)
    return text if text[0] in "<>" else f"= {text}"


def prob_hypothesis(pair: Pair, hypothesis: Hypothesis, baseline: float) -> float:
    """The posterior probability that a hypothesis is true: of a two-sided one, that the effect is positive.

    Examples
    --------
    >>> pair = NormalPair.of(10.0, 0.02, Observed(10.2, 0.02))
    >>> print(f"{prob_hypothesis(pair, Superiority(), 10.0):.4f}")
    0.8413
    """
    if isinstance(hypothesis, Superiority) and hypothesis.alternative == "two-sided":
        hypothesis = Superiority("greater")
    missed = [
        pair.below(test.theta, test.offset) if test.direction > 0 else 1 - pair.below(test.theta, test.offset)
        for test in one_sided_tests(hypothesis, alpha=0.05, baseline=baseline)
    ]
    return max(1 - sum(missed), 0.0)


def prob_within(pair: Pair, width: float) -> float:
    """P(-width < effect < width)."""
    return pair.below(1.0, width) - pair.below(1.0, -width)


def _ends(answer: Answer) -> tuple[float, float]:
    """The quantiles that are the ends of an interval."""
    tail = 1 - answer.level
    return {"two-sided": (tail / 2, 1 - tail / 2), "greater": (tail, 1.0), "less": (0.0, 1 - tail)}[answer.side]


def _open(q: float) -> float:
    return -math.inf if q == 0 else math.inf


def _check_variance(estimate: Estimate, metric: str, prior: NormalPrior | None) -> None:
    relative = prior is not None and prior.scale == "relative"
    if not estimate.variance > 0 or (relative and not estimate.var_control > 0):
        raise OutcomeError(
            f"{metric}: every value is the same within {'control' if estimate.variance > 0 else 'each arm'}, or the "
            "denominator or the covariates explain all that varies, so there is no variance to learn from. Check that "
            "the metric is the one you mean."
        )


def _unknown(
    estimate: Estimate, answer: Answer, level: float, metric: str, control: str, treatment: str, segment: str
) -> ABResult:
    """An estimate without an error has no posterior; its method says why."""
    return ABResult(
        estimate=estimate.effect, std_error=NAN, ci_low=NAN, ci_high=NAN, pvalue=NAN, confidence_level=level,
        n_obs=estimate.n_control + estimate.n_treatment, method=estimate.method, estimand=estimate.estimand,
        metric=metric, control=control, treatment=treatment, control_mean=estimate.control,
        treatment_mean=estimate.treatment, n_control=estimate.n_control, n_treatment=estimate.n_treatment,
        statistic=NAN, df=math.inf, relative_effect=estimate.effect / estimate.control if estimate.control else NAN,
        relative_ci_low=NAN, relative_ci_high=NAN, hypothesis=answer.hypothesis, margin_low=answer.margins[0],
        margin_high=answer.margins[1], segment=segment, inference=Bayesian.name,
    )  # fmt: skip
