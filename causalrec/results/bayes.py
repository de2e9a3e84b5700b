"""Beliefs: what is thought of every arm and effect, priors learned from past experiments, how stopping rules behave."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray
from causalrec.results.base import Result, format_level, format_number, written_interval

_SURE = 0.9995  # beyond which 100% would be written


def format_probability(p: float) -> str:
    """Write a probability; one that is near 0 or 1 is not written as such.

    Examples
    --------
    >>> format_probability(0.963), format_probability(0.99999), format_probability(0.0002)
    ('96.3%', '> 99.9%', '< 0.1%')
    """
    if math.isnan(p):
        return "–"
    return "> 99.9%" if p >= _SURE else "< 0.1%" if p < 1 - _SURE else f"{p:.1%}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share >= 1e-5 else "less than 0.001%"


@dataclass(frozen=True, eq=False)
class PosteriorResult(Result):
    """What is believed of one metric in every arm.

    Attributes
    ----------
    metric, control : str
    best : str
        The arm that is most likely the best.
    prob_best : float
        The probability that it is.
    loss : float
        What choosing it is expected to cost: how much the best arm is expected to be better, in the metric's unit.
    loss_threshold : float
        Expected loss below which one does not care which arm is taken, in the metric's unit; NaN if none was given.
    can_stop : bool
        Whether the loss is below the threshold.
    value_remaining : float
        The 95% quantile of how much better than ``best`` the best arm is, as a share of ``best`` (Scott 2010).
    confidence_level : float
        Of the credible intervals, which are equal-tailed.
    higher_is_better : bool
    model, prior, method : str
    rope_low, rope_high : float
        Effects between these do not matter, in the metric's unit; NaN if none were given.
    arms : tuple of str
        Control first.
    mean, std, ci_low, ci_high : arrays of shape (k,)
        Of each arm.
    prob_best_arm, expected_loss : arrays of shape (k,)
    prob_beats_control, effect, effect_low, effect_high, relative_effect, relative_low, relative_high, prob_in_rope :
        Arrays of shape (k,), NaN of control: the effect's mean and interval, the ratio's median and interval, both
        against control; ``prob_in_rope`` NaN without a rope.
    value, density : arrays of shape (k, m)
        The density of each arm, to draw.
    """

    metric: str
    control: str
    best: str
    prob_best: float
    loss: float
    loss_threshold: float
    can_stop: bool
    value_remaining: float
    confidence_level: float
    higher_is_better: bool
    model: str
    prior: str
    method: str
    rope_low: float
    rope_high: float
    arms: tuple[str, ...]
    mean: FloatArray = field(repr=False)
    std: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    prob_best_arm: FloatArray = field(repr=False)
    expected_loss: FloatArray = field(repr=False)
    prob_beats_control: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    effect_low: FloatArray = field(repr=False)
    effect_high: FloatArray = field(repr=False)
    relative_effect: FloatArray = field(repr=False)
    relative_low: FloatArray = field(repr=False)
    relative_high: FloatArray = field(repr=False)
    prob_in_rope: FloatArray = field(repr=False)
    value: FloatArray = field(repr=False)
    density: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm."""
        columns = (
            "mean", "std", "ci_low", "ci_high", "prob_best_arm", "expected_loss", "prob_beats_control", "effect",
            "effect_low", "effect_high", "relative_effect", "relative_low", "relative_high", "prob_in_rope",
        )  # fmt: skip
        return pd.DataFrame({"metric": self.metric, "arm": self.arms} | {name: getattr(self, name) for name in columns})

    def __str__(self) -> str:
        rows = [("arm", "mean", "P(best)", "expected loss", f"lift against {self.control}")]
        for k, arm in enumerate(self.arms):
            interval = written_interval(float(self.mean[k]), float(self.ci_low[k]), float(self.ci_high[k]))
            ratio = (self.relative_effect, self.relative_low, self.relative_high)
            lift = written_interval(*(float(v[k]) for v in ratio), percent=True)
            loss = format_number(float(self.expected_loss[k]))
            rows.append((arm, interval, format_probability(float(self.prob_best_arm[k])), loss, lift))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.answer, *(f"  {line}" for line in lines), f"  {self._how}"])

    @property
    def answer(self) -> str:
        """What to make of it, in a sentence or two."""
        text = (
            f"{self.metric}: {self.best} is the best arm with probability {format_probability(self.prob_best)}; "
            f"choosing it is expected to cost {format_number(self.loss)}"
        )
        at = self.arms.index(self.best)
        if self.mean[at] > 0:
            text += f" ({_percent(self.loss / float(self.mean[at]))} of its mean)"
        if not math.isnan(self.loss_threshold):
            side = "below" if self.can_stop else "not yet below"
            text += f", {side} the {format_number(self.loss_threshold)} that one cares about"
            return f"{text}. {'It can be chosen now' if self.can_stop else 'Keep running'}."
        return f"{text}."

    @property
    def _how(self) -> str:
        remaining = ""
        if self.value_remaining == 0:
            remaining = f"; with at least 95% probability no arm is better than {self.best}"
        elif not math.isnan(self.value_remaining):
            remaining = (
                f"; with 95% probability no arm is better than {self.best} by more than {self.value_remaining:.2%}"
            )
        return f"{format_level(self.confidence_level)} credible intervals{remaining} ({self.method})"


@dataclass(frozen=True, eq=False)
class PriorResult(Result):
    """A prior learned from past experiments, and how well it is known.

    Attributes
    ----------
    family : str
        ``"normal"`` of effects, ``"beta"`` of shares.
    scale : str
        Of effects: ``"absolute"`` or ``"relative"``.
    mean, mean_low, mean_high : float
        The mean of effects, or shares, with its interval.
    std, std_low, std_high : float
        Their standard deviation among experiments, without errors of estimation, with its interval.
    a, b : float
        Of the Beta; NaN of the normal.
    n_experiments : int
    log_likelihood : float
    """

    family: str
    scale: str
    mean: float
    mean_low: float
    mean_high: float
    std: float
    std_low: float
    std_high: float
    confidence_level: float
    a: float
    b: float
    n_experiments: int
    log_likelihood: float
    method: str

    def __str__(self) -> str:
        percent = self.scale == "relative"
        what = "shares" if self.family == "beta" else f"{self.scale} effects"
        spread = written_interval(self.std, self.std_low, self.std_high, percent=percent).replace("+", "")
        law = "" if math.isnan(self.a) else f": Beta({self.a:.4g}, {self.b:.4g})"
        return (
            f"Of {self.n_experiments} past experiments the {what} have mean "
            f"{written_interval(self.mean, self.mean_low, self.mean_high, percent=percent)} and standard deviation "
            f"{spread}{law}, {format_level(self.confidence_level)} intervals ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class BayesStoppingResult(Result):
    """How rules to stop an experiment behave when one looks every day, on the same simulated experiments.

    Attributes
    ----------
    n_simulations, days, n_per_day : int
        Experiments simulated of each kind, the longest they last, and units per arm and day.
    prob, loss_threshold, alpha : float
        The rules' settings; NaN where a rule is not among them.
    effect_std : float
        Root mean square of the true effects.
    rules : tuple of str
        The test at the planned end is the first.
    declared_null : array of shape (k,)
        Without an effect: how often a rule names a winner among treatment and control.
    declared, wrong : arrays
        With effects: how often it names one, and how often the worse arm.
    mean_days, median_days : arrays
        How long it takes, with effects.
    mean_loss, mean_gain : arrays
        With effects, per unit afterwards: how much the better arm would have been better than the chosen one (control
        where none is named), and how much better than control the chosen one is.
    day : array of shape (days,)
    declared_null_by_day : array of shape (k, days)
        Without an effect: share of experiments that have named a winner by then.
    stopped_by_day : array of shape (k, days)
        With effects: share that have stopped by then.
    """

    n_simulations: int
    days: int
    n_per_day: int
    prob: float
    loss_threshold: float
    alpha: float
    effect_std: float
    method: str
    rules: tuple[str, ...]
    declared_null: FloatArray = field(repr=False)
    declared: FloatArray = field(repr=False)
    wrong: FloatArray = field(repr=False)
    mean_days: FloatArray = field(repr=False)
    median_days: FloatArray = field(repr=False)
    mean_loss: FloatArray = field(repr=False)
    mean_gain: FloatArray = field(repr=False)
    day: FloatArray = field(repr=False)
    declared_null_by_day: FloatArray = field(repr=False)
    stopped_by_day: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per rule."""
        columns = ("declared_null", "declared", "wrong", "mean_days", "median_days", "mean_loss", "mean_gain")
        return pd.DataFrame({"rule": self.rules} | {name: getattr(self, name) for name in columns})

    def __str__(self) -> str:
        lines = []
        for k, rule in enumerate(self.rules):
            lines.append(
                f"{rule}: names a winner in {self.declared_null[k]:.1%} where there is none, lasts "
                f"{self.mean_days[k]:.1f} days on average (median {self.median_days[k]:.0f}) where there are effects, "
                f"names the worse arm in {self.wrong[k]:.1%}, and leaves {format_number(float(self.mean_loss[k]))} per "
                "unit on the table"
            )
        head = (
            f"Looks on each of {self.days} days, {self.n_per_day:,} units per arm and day, {self.n_simulations:,} "
            f"experiments without an effect and as many with effects ({self.method})"
        )
        shorter = [
            f"{rule} is {1 - self.mean_days[k] / self.mean_days[0]:.0%} shorter than the fixed test"
            for k, rule in enumerate(self.rules) if k
        ]  # fmt: skip
        return "\n".join([head, *(f"  {line}" for line in lines), *([f"  {'; '.join(shorter)}"] if shorter else [])])
