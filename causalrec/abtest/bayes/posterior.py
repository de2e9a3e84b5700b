"""One metric in all arms: what is believed of each, which is best, what a choice would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level
from causalrec.abtest.bayes import quadrature
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.bayes.effects import EffectArms, NormalPair, Observed, Pair, effect_quantile, ratio_quantile
from causalrec.abtest.bayes.laws import Arms, Betas, Gammas, Normals
from causalrec.abtest.bayes.priors import NormalPrior
from causalrec.abtest.bayes.quadrature import Line, prob_below, solve_quantile
from causalrec.exceptions import OutcomeError
from causalrec.results import NAN, PosteriorResult

_SHARES = ("proportion", "retention")
_COUNTS = ("count",)
_DRAWN = 201  # points of a density


class ArmSummary(NamedTuple):
    """A metric in an arm: its mean and standard error, and the counts where it has them.

    ``n`` are the units of a share; of a metric of kind ``"count"`` the exposure in which ``successes`` events were
    seen.
    """

    name: str
    mean: float
    std_error: float
    successes: float | None = None
    n: float | None = None


class _Views(NamedTuple):
    """What a model says of the arms, in the order of the arms; row 0 of ``effects`` and the like is control's."""

    mean: FloatArray
    std: FloatArray
    limits: FloatArray
    prob_best: FloatArray
    loss: FloatArray
    beats: FloatArray
    effects: FloatArray
    ratios: FloatArray
    within: FloatArray
    remaining: Callable[[int], float]
    value: FloatArray
    density: FloatArray


class _Asked(NamedTuple):
    """What is asked of a model."""

    tails: tuple[float, float]
    highest: bool
    rope: float


def posterior_of(
    metric: str,
    kind: str,
    arms: Sequence[ArmSummary],
    bayesian: Bayesian = Bayesian(),  # noqa: B008 - frozen
    confidence_level: float = 0.95,
    *,
    higher_is_better: bool = True,
) -> PosteriorResult:
    """The posterior of a metric in every arm.

    Shares with counts (kind ``"proportion"`` or ``"retention"``) are Beta-Bernoulli, counts with exposure (``"count"``)
    are Gamma-Poisson, all else is normal with the variance of its estimate. With a prior of the effect
    (``bayesian.prior``) everything is normal: given the control mean, which is flat, each arm has that prior, on
    the scale that it is meant on.

    Parameters
    ----------
    metric, kind : str
    arms : sequence of ArmSummary
        Control first, at least two.
    bayesian : Bayesian
        Priors, rope and threshold.
    confidence_level : float
        Of the credible intervals.
    higher_is_better : bool
        False where the best arm is the lowest.

    Raises
    ------
    OutcomeError
        For fewer than two arms, or an arm without a standard error, or with counts that cannot be.
    CausalRecError
        For a level outside (0, 1).

    Examples
    --------
    >>> arms = [ArmSummary("A", 42 / 104, 0.048, 42, 104), ArmSummary("B", 500 / 1009, 0.0157, 500, 1009)]
    >>> print(posterior_of("visit", "proportion", arms).answer)
    visit: B is the best arm with probability 96.3%; choosing it is expected to cost 7.62e-04 (0.15% of its mean).
    """
    tail = (1 - check_confidence_level(confidence_level)) / 2
    if len(arms) < 2:
        raise OutcomeError(f"{metric}: found {len(arms)} arms; which is best takes at least two, control first.")
    baseline = arms[0].mean
    asked = _Asked((tail, 1 - tail), higher_is_better, bayesian.in_unit(bayesian.rope, baseline))
    model, prior, law = _model(metric, kind, arms, bayesian)
    views = _independent(law, asked) if law is not None else _tied(arms, bayesian.prior, asked)
    leader = int(np.argmax(views.prob_best))
    threshold = bayesian.in_unit(bayesian.loss_threshold, baseline)
    return PosteriorResult(
        metric=metric, control=arms[0].name, best=arms[leader].name, prob_best=float(views.prob_best[leader]),
        loss=float(views.loss[leader]), loss_threshold=threshold, can_stop=bool(views.loss[leader] < threshold),
        value_remaining=views.remaining(leader), confidence_level=float(confidence_level),
        higher_is_better=higher_is_better, model=model, prior=prior, method=f"{model}, {prior}", rope_low=-asked.rope,
        rope_high=asked.rope, arms=tuple(arm.name for arm in arms), mean=views.mean, std=views.std,
        ci_low=views.limits[:, 0], ci_high=views.limits[:, 1], prob_best_arm=views.prob_best,
        expected_loss=views.loss, prob_beats_control=views.beats, effect=views.effects[:, 0],
        effect_low=views.effects[:, 1], effect_high=views.effects[:, 2], relative_effect=views.ratios[:, 0],
        relative_low=views.ratios[:, 1], relative_high=views.ratios[:, 2], prob_in_rope=views.within,
        value=views.value, density=views.density,
    )  # fmt: skip


def _model(metric: str, kind: str, arms: Sequence[ArmSummary], bayesian: Bayesian) -> tuple[str, str, Arms | None]:
    """The model's name, its prior in words, and the arms' laws; none where a prior ties them together."""
    counted = all(arm.successes is not None and arm.n is not None for arm in arms)
    if counted:
        x, n = (np.array(column, dtype=np.float64) for column in zip(*((a.successes, a.n) for a in arms), strict=True))
    if kind in _SHARES + _COUNTS and counted:
        _check_counts(metric, kind, x, n)
    if bayesian.prior is not None:
        _check_errors(metric, arms)
        return "normal, arms tied by the prior of the effect", f"prior: {bayesian.prior}", None
    if kind in _SHARES and counted:
        share = bayesian.share_prior
        return "Beta-Bernoulli", f"prior {share}", Betas.of(share.a + x, share.b + n - x)
    if kind in _COUNTS and counted:
        rate = bayesian.rate_prior
        return "Gamma-Poisson", f"prior {rate}", Gammas.of(rate.shape + x, rate.rate + n)
    _check_errors(metric, arms)
    return "normal", "flat prior", Normals.of([arm.mean for arm in arms], [arm.std_error for arm in arms])


def _check_counts(metric: str, kind: str, x: FloatArray, n: FloatArray) -> None:
    bad = ~((x >= 0) & (n > 0) & ((x <= n) | (kind in _COUNTS)) & np.isfinite(n) & np.isfinite(x))
    if bad.any():
        k = int(np.argmax(bad))
        raise OutcomeError(
            f"{metric}: found {x[k]:g} of {n[k]:g}; expected counts >= 0, not more than there are units. Look for arms "
            "without units."
        )


def _check_errors(metric: str, arms: Sequence[ArmSummary]) -> None:
    for arm in arms:
        if not (math.isfinite(arm.mean) and 0 < arm.std_error < math.inf):
            raise OutcomeError(
                f"{metric}: arm {arm.name!r} has mean {arm.mean} and standard error {arm.std_error}; expected finite "
                "numbers and an error > 0. Without one there is no posterior."
            )


def _independent(arms: Arms, asked: _Asked) -> _Views:
    k = len(arms)
    unknown = np.full((k, 3), NAN)
    effects, ratios, beats, within = unknown.copy(), unknown.copy(), np.full(k, NAN), np.full(k, NAN)
    for j in range(1, k):
        up = quadrature.prob_greater(arms, j, 0)
        beats[j] = up if asked.highest else quadrature.prob_greater(arms, 0, j)
        low, high = (quadrature.difference_quantile(arms, j, 0, q) for q in asked.tails)
        effects[j] = arms.mean[j] - arms.mean[0], low, high
        ratios[j] = _ratios(arms, j, asked)
        if not math.isnan(asked.rope):
            outside = [
                prob_below(arms, 0, j, Line(asked.rope, 1.0)),
                1 - prob_below(arms, 0, j, Line(-asked.rope, 1.0)),
            ]
            within[j] = 1 - sum(outside)
    value = np.linspace(arms.quantile(5e-4), arms.quantile(1 - 5e-4), _DRAWN).T
    return _Views(
        arms.mean, arms.std, np.column_stack([arms.quantile(q) for q in asked.tails]),
        quadrature.prob_best(arms, highest=asked.highest), quadrature.expected_loss(arms, highest=asked.highest),
        beats, effects, ratios, within, lambda leader: quadrature.value_remaining(arms, leader, highest=asked.highest),
        value, np.array([arms.take(i).pdf(value[i])[0] for i in range(k)]),
    )  # fmt: skip


def _ratios(arms: Arms, j: int, asked: _Asked) -> tuple[float, float, float]:
    """Median and limits of treatment / control - 1."""
    if isinstance(arms, Normals):
        pair = NormalPair.of(arms.mean[0], arms.std[0] ** 2, Observed(arms.mean[j], arms.std[j] ** 2))
        low, middle, high = (ratio_quantile(pair, q) - 1 for q in (asked.tails[0], 0.5, asked.tails[1]))
    else:
        low, middle, high = (
            quadrature.ratio_quantile(arms, j, 0, q) - 1 for q in (asked.tails[0], 0.5, asked.tails[1])
        )
    return middle, low, high


def _tied(arms: Sequence[ArmSummary], prior: NormalPrior | None, asked: _Asked) -> _Views:
    """Arms whose effects have a prior."""
    control, *treated = arms
    observed = [Observed(arm.mean, arm.std_error**2) for arm in treated]
    joint = EffectArms.of(control.mean, control.std_error**2, observed, cast(NormalPrior, prior))
    pairs: list[Pair] = [joint.of_arm(j) for j in range(len(treated))]
    effects, ratios, beats, within = [[NAN] * 3], [[NAN] * 3], [NAN], [NAN]
    for pair in pairs:
        up = 1 - pair.below(1.0, 0.0)
        beats.append(up if asked.highest else 1 - up)
        effects.append([pair.effect[0], *(effect_quantile(pair, q) for q in asked.tails)])
        ratios.append([ratio_quantile(pair, q) - 1 for q in (0.5, *asked.tails)])
        within.append(NAN if math.isnan(asked.rope) else pair.below(1.0, asked.rope) - pair.below(1.0, -asked.rope))
    places = np.array([pairs[0].control, *(pair.treatment for pair in pairs)])
    control_below, control_density = joint.control_law()
    laws = [control_below, *((lambda x, pair=pair: pair.below(0.0, x)) for pair in pairs)]
    ends = np.array([[solve_quantile(law, q, *place) for q in (*asked.tails, 5e-4, 1 - 5e-4)]
                     for law, place in zip(laws, places, strict=True)])  # fmt: skip
    value = np.linspace(ends[:, 2], ends[:, 3], _DRAWN).T
    way = joint if asked.highest else joint.mirrored()
    return _Views(
        places[:, 0], places[:, 1], ends[:, :2], way.prob_best(), way.expected_loss(), np.array(beats),
        np.array(effects), np.array(ratios), np.array(within),
        lambda leader: way.value_remaining(leader, highest=asked.highest), value,
        np.vstack([control_density(value[0]), _densities(laws[1:], value[1:])]),
    )  # fmt: skip


def _densities(laws: Sequence[Callable[[float], float]], value: FloatArray) -> FloatArray:
    """By differences of the distribution functions."""
    below = np.array([[law(float(x)) for x in row] for law, row in zip(laws, value, strict=True)])
    return np.array([np.gradient(b, x) for b, x in zip(below, value, strict=True)])
