"""What an effect answers in words that claim no more than its test and its interval do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from causalrec.results.base import format_level, format_number, pvalue_text, written_interval

if TYPE_CHECKING:
    from causalrec.results.abtest import ABResult, ExperimentResult


def answer_words(effect: ABResult) -> str:
    """The answer to the effect's own question.

    Where a test and an interval of different methods disagree, neither is followed. Beliefs have no test: there the
    credible interval answers.

    Examples
    --------
    >>> from causalrec.abtest import Equivalence, welch_test
    >>> print(answer_words(welch_test(10.0, 4.0, 900, 10.4, 4.0, 900)))
    higher
    >>> print(answer_words(welch_test(10.0, 4.0, 900, 10.4, 4.0, 900, hypothesis=Equivalence(0.2))))
    not shown to be within ±0.2 of control
    """
    if effect.inference == "Bayesian":
        answered = _in_region(effect)
    elif math.isnan(effect.pvalue):
        answered = None
    else:
        answered = effect.significant
        if _in_region(effect) is (not answered):
            return "unclear: p-value and interval disagree"
    if answered is None:
        return "not tested"
    margin = _margin(effect)
    shown, not_shown = {
        "two-sided": ("higher" if effect.estimate > 0 else "lower", "no difference shown"),
        "greater": ("higher", "not shown to be higher"),
        "less": ("lower", "not shown to be lower"),
        "non-inferiority": (f"less than {margin} worse", f"not shown to be less than {margin} worse"),
        "equivalence": (f"within ±{margin} of control", f"not shown to be within ±{margin} of control"),
    }[effect.hypothesis]
    return shown if answered else not_shown


def answer_sentences(effects: Sequence[ABResult]) -> Iterator[str]:
    """A line per effect: its size with what the data allow, and the answer; p where the question is another."""
    several = len({e.treatment for e in effects}) > 1
    for e in effects:
        name = f"{e.metric}, {e.treatment}" if several else e.metric
        asked = "" if e.hypothesis == "two-sided" or math.isnan(e.pvalue) else f" ({pvalue_text(e.pvalue)})"
        yield f"{name}: {_size(e)}, {answer_words(e)}{asked}"


def answer_groups(effects: Sequence[ABResult]) -> Iterator[str]:
    """A line per answer, with the metrics that have it."""
    several = len({e.treatment for e in effects}) > 1
    groups: dict[str, list[str]] = {}
    for e in effects:
        groups.setdefault(answer_words(e), []).append(f"{e.metric} of {e.treatment}" if several else e.metric)
    for words, names in groups.items():
        yield f"{words}: {', '.join(names)}" if ":" not in words else f"{', '.join(names)}: {words}"


def correction_line(result: ExperimentResult) -> str:
    """That there are several tests, where there are: empty for one."""
    n = len(result.effects)
    if n < 2 or result.inference == "Bayesian":
        return ""
    alpha = format_level(round(1 - result.confidence_level, 12))
    return f"{n} comparisons, each tested at {alpha}: p-values and intervals are not corrected for their number"


def relative_margins(effect: ABResult) -> bool:
    """Whether the margins are shares of the control mean."""
    return "relative margin" in effect.method


def margins(effect: ABResult, *, relative: bool) -> tuple[float, float]:
    """Margins on the scale of the relative or of the absolute effect, at the control mean that was seen; NaN if none.

    A share of a negative control mean lies on the other side in relative effects.
    """
    scale = 1.0
    if relative != relative_margins(effect):
        scale = (1 / effect.control_mean if effect.control_mean else math.nan) if relative else abs(effect.control_mean)
    elif relative and effect.control_mean < 0:
        scale = -1.0
    low, high = effect.margin_low * scale, effect.margin_high * scale
    return (low, high) if scale > 0 else (high, low)


def _in_region(effect: ABResult) -> bool | None:
    """Whether the interval lies where the hypothesis wants the effect; None where there is no interval."""
    relative = relative_margins(effect)
    low, high = (effect.relative_ci_low, effect.relative_ci_high) if relative else (effect.ci_low, effect.ci_high)
    if math.isnan(low) or math.isnan(high):
        return None
    if effect.hypothesis == "two-sided":
        return low > 0 or high < 0
    if effect.hypothesis in ("greater", "less"):
        return low > 0 if effect.hypothesis == "greater" else high < 0
    least, most = margins(effect, relative=relative)
    return (math.isnan(least) or low > least) and (math.isnan(most) or high < most)


def _margin(effect: ABResult) -> str:
    """The margin in words: a percentage where it is relative."""
    found = [abs(m) for m in (effect.margin_low, effect.margin_high) if not math.isnan(m)]
    if not found:
        return ""
    return f"{100 * found[0]:.4g}%" if relative_margins(effect) else format_number(found[0])


def _size(effect: ABResult) -> str:
    """The lift, or the difference where a share of the control mean says little."""
    if effect.control_mean > 0 and math.isfinite(effect.relative_effect):
        value, low, high, percent = effect.relative_effect, effect.relative_ci_low, effect.relative_ci_high, True
    else:
        value, low, high, percent = effect.estimate, effect.ci_low, effect.ci_high, False
    return written_interval(value, low, high, percent=percent, words=True)
