"""The top of an experiment's report: the verdict and its reasons, metrics by role, beliefs, how it was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from causalrec.report import Banner, Section
from causalrec.results import ABResult, ExperimentResult, PosteriorResult, VerdictResult, format_level
from causalrec.results.bayes import format_probability

ROLES = ("primary", "guardrail", "secondary")
_KINDS = {"ship": "go", "don't ship": "stop", "keep running": "wait", "broken": "broken"}
_WAYS = {
    "fixed horizon": "looked at once, at the planned end: a look before it would raise the share of false alarms",
    "always valid": "always valid: it may be looked at, and stopped, at any time",
    "group sequential": "group sequential: this look spends its part of the false alarms, as planned",
    "Bayesian": "Bayesian: intervals are credible ones, under the prior that each method names",
}


def banner_of(verdict: VerdictResult | None) -> Banner | None:
    """The banner of a verdict, if there is one."""
    if verdict is None:
        return None
    return Banner(verdict_title(verdict), _KINDS[verdict.verdict], tuple(map(_sentence, verdict.reasons)))


def verdict_title(verdict: VerdictResult) -> str:
    """The headline, the verdict itself in capitals."""
    word, headline = verdict.verdict, verdict.headline
    return word.upper() + headline[len(word) :] if headline.lower().startswith(word) else headline.upper()


def verdict_text(verdict: VerdictResult) -> str:
    """The verdict, its reasons and how it was decided, a line each."""
    return "\n".join([verdict_title(verdict), *map(_sentence, verdict.reasons), verdict.method])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def by_role(effects: Sequence[ABResult], roles: Mapping[str, str]) -> list[ABResult]:
    """Primary metrics first, then guardrails, then the others; in the order that they have among themselves."""
    return sorted(effects, key=lambda e: ROLES.index(roles.get(e.metric, "secondary")))


def with_roles(table: pd.DataFrame, roles: Mapping[str, str]) -> pd.DataFrame:
    """A scorecard with what each metric is for; as it is where nothing is decided."""
    if not roles:
        return table
    found = table.copy()
    found.insert(1, "role", [roles.get(metric, "secondary") for metric in table["metric"]])
    return found


def decided(result: ExperimentResult, rule: Sequence[str] = ()) -> Section:
    """How it was decided: the inference, the level, and the rule in words."""
    alpha = format_level(round(1 - result.confidence_level, 12))
    lines = [f"{format_level(result.confidence_level)} intervals, {alpha} false alarms in each test."]
    for name in dict.fromkeys(e.inference for e in result.effects):
        words = _WAYS.get(name, name)
        lines.append(f"{words[:1].upper()}{words[1:]}.")
    return Section("How it was decided", (*lines, *map(_sentence, rule)))


def beliefs(posteriors: Sequence[PosteriorResult], figures: tuple[Any, ...] = ()) -> Section | None:
    """What is believed of every arm: the probability that it is the best, and what choosing it may cost."""
    if not posteriors:
        return None
    text = (
        *(p.answer for p in posteriors),
        "Probabilities are beliefs under the prior and are no error rates: whoever looks often and stops when they are "
        "high is wrong more often than they say.",
    )
    return Section("Beliefs", text, figures, {"Every arm": belief_table(posteriors)})


def belief_table(posteriors: Sequence[PosteriorResult]) -> pd.DataFrame:
    """A row per metric and arm; the cells are text."""
    rows = [row for p in posteriors for row in _belief_rows(p)]
    columns = ["metric", "arm", "mean", "credible interval", "P(best)", "P(beats control)", "expected loss"]
    return pd.DataFrame(rows, columns=columns)


def _belief_rows(p: PosteriorResult) -> Iterator[tuple[str, ...]]:
    for k, arm in enumerate(p.arms):
        yield (
            p.metric, arm, f"{p.mean[k]:.4g}", f"[{p.ci_low[k]:.4g}, {p.ci_high[k]:.4g}]",
            format_probability(float(p.prob_best_arm[k])), format_probability(float(p.prob_beats_control[k])),
            f"{p.expected_loss[k]:.3g}",
        )  # fmt: skip


def posterior_metrics(posteriors: Sequence[PosteriorResult]) -> dict[str, float]:
    """Numbers of a run: by metric and arm the probability to be best, the expected loss."""
    found = {}
    for p in posteriors:
        for k, arm in enumerate(p.arms):
            found[f"{p.metric}_{arm}_prob_best"] = float(p.prob_best_arm[k])
            found[f"{p.metric}_{arm}_expected_loss"] = float(p.expected_loss[k])
    return found
