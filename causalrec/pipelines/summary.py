"""The headline of a run from its named results: rows for a table, and sentences for people in a hurry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scipy import stats

from causalrec.pipelines.uplift_summary import estimate_text, uplift_findings, uplift_rows, verdict_of
from causalrec.report import SummaryRow
from causalrec.results import (
    NAN,
    ABResult,
    BalanceResult,
    EffectResult,
    IdentificationResult,
    RankingResult,
    RefutationResult,
    RefutationsResult,
    Result,
    SampleRatioResult,
    SensitivityResult,
    format_metric,
    format_number,
    format_pvalue,
)

REFUTATIONS, SENSITIVITY = "refutations", "sensitivity"
EFFECT, CROSS_CHECK, EFFECTS, PLACEBO, IDENTIFICATION = (
    "average_effect",
    "average_effect_doubly_robust",
    "average_effects",
    "placebo",
    "identification",
)


@dataclass(frozen=True)
class RunSummary:
    """What a command found, and where its files are."""

    title: str
    confidence_level: float
    rows: tuple[SummaryRow, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    path: Path
    report: Path | None
    tracking: str
    results: Mapping[str, Result] = field(repr=False)


def summarise(results: Mapping[str, Result], truths: Mapping[str, float]) -> tuple[SummaryRow, ...]:
    """A row per question that the results answer, in the order of the stages; ``truths`` by result name."""

    def row(stage: str, what: str, name: str) -> SummaryRow:
        result = results[name]
        if isinstance(result, RefutationResult):
            return _placebo_row(stage, what, result)
        if not isinstance(result, EffectResult):
            raise TypeError(f"{name} is no estimate")
        return SummaryRow.of(stage, what, result, truths.get(name, NAN))

    scores = ranking(results, "ndcg")
    rows = [row("ranker", f"{format_metric(r.estimand)}, {r.model}", name) for name, r in scores.items()]
    best = _best_baseline(results)
    if best is not None:
        rows.append(row("ranker", f"ranker − {best[1].model}, paired", best[0]))
    rows += uplift_rows(results, truths)
    if EFFECT in results:
        rows.append(row("average effect", _asked(results), EFFECT))
    if CROSS_CHECK in results:
        rows.append(row("average effect", "the same, doubly robust", CROSS_CHECK))
    if PLACEBO in results:
        failed = PLACEBO in failed_refutations(results)
        rows.append(row("placebo", f"treatment permuted: mean effect{' (FAILED)' if failed else ''}", PLACEBO))
    rows += _hidden_bias_rows(results)
    rows += [row("A/B test", f"{r.metric}, {_lift(r)}", name) for name, r in experiment(results).items()]
    return tuple(rows)


def findings(results: Mapping[str, Result]) -> tuple[str, ...]:
    """What the numbers say, one sentence a stage; nothing is claimed that an interval does not carry."""
    said = list(_warnings(results))
    scores, best = list(ranking(results, "ndcg").values()), _best_baseline(results)
    if best is not None:
        _, baseline, gain = best
        verdict = verdict_of(gain, "above", "below", "not measurably different from")
        said.append(
            f"The ranker reaches {format_metric(scores[0].estimand)} {format_number(scores[0].estimate)}, {verdict} "
            f"{baseline.model}, the best baseline: {estimate_text(gain)}."
        )
    said += uplift_findings(results)
    effect = results.get(EFFECT)
    if isinstance(effect, EffectResult):
        verdict = verdict_of(effect, "an increase", "a decrease", "not distinguishable from zero")
        said.append(f"Average effect of {_asked(results)}: {estimate_text(effect)}, {verdict}.")
    for r in experiment(results).values():
        verdict = verdict_of(r, "raises", "lowers", "does not measurably change")
        means = f"{format_number(r.control_mean)} to {format_number(r.treatment_mean)}"
        said.append(f"{r.treatment} {verdict} {r.metric}: {means}, {_lift(r)}, p = {format_pvalue(r.pvalue)}.")
    return tuple(said)


def _warnings(results: Mapping[str, Result]) -> Iterator[str]:
    """What stands in the way of believing the rest."""
    ratio, balance = (results.get(name) for name in ("sample_ratio", "balance"))
    if isinstance(ratio, SampleRatioResult) and ratio.mismatch:
        yield f"Careful: the split of the experiment is not the designed one (p = {format_pvalue(ratio.pvalue)})."
    if isinstance(balance, BalanceResult) and not balance.balanced:
        worst = format_number(balance.max_abs_smd_after)
        yield f"Careful: treated and control units differ by {worst} standard deviations in some covariate."
    for name, refutation in failed_refutations(results).items():
        found, expected = format_number(refutation.new_effect), format_number(refutation.expected)
        yield (
            f"Careful: the refutation {name.replace('_', ' ')} failed; the estimator finds {found} where {expected} is "
            f"expected ({refutation.method})."
        )


def failed_refutations(results: Mapping[str, Result]) -> dict[str, RefutationResult]:
    """The refutations that the average effect did not survive, by the names of their results."""
    found = results.get(REFUTATIONS)
    if not isinstance(found, RefutationsResult):
        return {}
    names = [PLACEBO if name == "placebo_treatment" else name for name in found.names]
    return {n: r for n, r, passed in zip(names, found.results, found.verdicts, strict=True) if not passed}


def hidden_bias(results: Mapping[str, Result]) -> SensitivityResult | None:
    """How much hidden bias the average effect bears; None where treatment was given at random."""
    found, identified = results.get(SENSITIVITY), results.get(IDENTIFICATION)
    adjusted = isinstance(identified, IdentificationResult) and identified.backdoor_variables
    return found if isinstance(found, SensitivityResult) and adjusted else None


def _hidden_bias_rows(results: Mapping[str, Result]) -> Iterator[SummaryRow]:
    """What a hidden cause must be like to change the conclusion."""
    found = hidden_bias(results)
    if found is None:
        return
    for what, value in (
        ("gamma at which it turns", found.gamma),
        ("E-value, of the interval", found.evalue_ci),
        ("robustness value, of the interval", found.robustness_value_alpha),
    ):
        if not math.isnan(value):
            yield SummaryRow("hidden bias", what, value)


def ranking(results: Mapping[str, Result], metric: str) -> dict[str, RankingResult]:
    """The results of one ranking metric, the ranker's first."""
    return {n: r for n, r in results.items() if isinstance(r, RankingResult) and n.startswith(f"{metric}_at_")}


def _best_baseline(results: Mapping[str, Result]) -> tuple[str, RankingResult, EffectResult] | None:
    """The paired difference to the baseline with the highest NDCG: its name, that baseline, and the difference."""
    baselines = list(ranking(results, "ndcg").items())[1:]
    if not baselines:
        return None
    name, best = max(baselines, key=lambda entry: entry[1].estimate)
    name = name.replace(best.estimand, f"{best.estimand}_over")
    gain = results.get(name)
    return (name, best, gain) if isinstance(gain, EffectResult) else None


def experiment(results: Mapping[str, Result]) -> dict[str, ABResult]:
    """The results of the A/B test by name."""
    return {name: r for name, r in results.items() if isinstance(r, ABResult)}


def _placebo_row(stage: str, what: str, result: RefutationResult) -> SummaryRow:
    """The mean of the draws with its own interval; their spread stands in the result and the figure."""
    n = result.n_simulations
    half = float(stats.t.isf((1 - result.confidence_level) / 2, n - 1)) * result.new_std / math.sqrt(n)
    mean = result.new_effect
    return SummaryRow(stage, what, mean, mean - half, mean + half, result.pvalue, 0.0, n)


def _asked(results: Mapping[str, Result]) -> str:
    found = results.get(IDENTIFICATION)
    if isinstance(found, IdentificationResult):
        return f"{found.treatment} on {found.outcome} ({found.estimand})"
    return "the treatment"


def _lift(result: ABResult) -> str:
    if not math.isfinite(result.relative_effect) or not math.isfinite(result.relative_ci_high):
        return "no bounded relative effect"
    return f"{result.relative_effect:+.1%} [{result.relative_ci_low:+.1%}, {result.relative_ci_high:+.1%}]"
