"""A study on one page: the estimand, the effect by every method, what supports it and what would overturn it."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import pandas as pd

from causalrec._typing import IntArray
from causalrec.results.balance import BalanceResult, aligned
from causalrec.results.base import NAN, Result, format_interval, format_level, format_number
from causalrec.results.effects import OverlapResult
from causalrec.results.identification import IdentificationResult
from causalrec.results.observational import AdjustedEffect, EffectComparisonResult
from causalrec.results.refutation import RefutationsResult
from causalrec.results.sensitivity import (
    ConfounderStrengthResult,
    EValueResult,
    OmittedBiasResult,
    PartialR2Result,
    RosenbaumResult,
    TippingResult,
)

_WIDTH = 98
_SHOWN = 5  # benchmarks in a text
_TYPICAL = (0.5, 0.25)  # prevalence of a hidden cause in treated and controls, as an example


@dataclass(frozen=True, eq=False)
class SensitivityResult(Result):
    """How much hidden bias one estimate bears, on every scale that applies to it.

    Attributes
    ----------
    treatment, outcome, estimand, method : str
    estimate, ci_low, ci_high, confidence_level : float
    gamma : float
        Rosenbaum's gamma at which the conclusion turns; NaN where there are no matched sets.
    evalue, evalue_ci : float
        E-values of the estimate and of the nearer end of its interval.
    robustness_value, robustness_value_alpha : float
        Share of what is left of treatment and outcome that a hidden cause must explain to bring the estimate, or the
        end of its interval, to zero: of ``omitted_bias`` where it is there, else of ``partial_r2``.
    strongest : str
        The covariate whose like would move the estimate most, the benchmark. Empty without covariates.
    rosenbaum : RosenbaumResult or None
    evalues : EValueResult or None
    partial_r2 : PartialR2Result or None
        Of the linear regression, with hidden causes like each covariate, the strongest first.
    omitted_bias : OmittedBiasResult or None
        Of doubly robust effects.
    tipping : TippingResult or None
    notes : tuple of str
        What was taken for what, and what could not be computed and why.
    strongest_times, strongest_times_ci : float
        How many times as strong as ``strongest`` a hidden cause must be, with treatment and outcome alike, to bring the
        regression's estimate, or its interval, to zero; 0 where it is there already.
    strengths : tuple of ConfounderStrengthResult
        What covariates explain on the scale of ``omitted_bias``.
    """

    treatment: str
    outcome: str
    estimand: str
    method: str
    estimate: float
    ci_low: float
    ci_high: float
    confidence_level: float
    gamma: float
    evalue: float
    evalue_ci: float
    robustness_value: float
    robustness_value_alpha: float
    strongest: str
    rosenbaum: RosenbaumResult | None = field(repr=False, default=None)
    evalues: EValueResult | None = field(repr=False, default=None)
    partial_r2: PartialR2Result | None = field(repr=False, default=None)
    omitted_bias: OmittedBiasResult | None = field(repr=False, default=None)
    tipping: TippingResult | None = field(repr=False, default=None)
    notes: tuple[str, ...] = ()
    strongest_times: float = NAN
    strongest_times_ci: float = NAN
    strengths: tuple[ConfounderStrengthResult, ...] = ()

    @property
    def includes_zero(self) -> bool:
        """Whether the interval includes zero already, without any hidden bias."""
        return bool(self.ci_low <= 0 <= self.ci_high)

    def to_frame(self) -> pd.DataFrame:
        """A row per scale: what the estimate, and what the end of its interval, bear; NaN where it does not apply."""
        return pd.DataFrame(
            [
                ("gamma", NAN, self.gamma),
                ("evalue", self.evalue, self.evalue_ci),
                ("robustness_value", self.robustness_value, self.robustness_value_alpha),
                ("times_as_strong", self.strongest_times, self.strongest_times_ci),
            ],
            columns=["scale", "estimate", "interval"],
        )

    def strongest_benchmarks(self, most: int = _SHOWN) -> PartialR2Result | None:
        """The regression with hidden causes like the few strongest covariates alone."""
        return None if self.partial_r2 is None else take_benchmarks(self.partial_r2, np.arange(most))

    def sentences(self) -> Iterator[str]:
        """What it would take to change the conclusion, in words."""
        if self.includes_zero:
            yield (
                "The interval includes zero already, without any hidden bias: there is no effect to explain away, and "
                "what follows says how far the estimate itself is from zero."
            )
        if self.strongest and math.isfinite(self.strongest_times):
            yield self._like_the_strongest()
        if self.strengths and self.omitted_bias is not None:
            found = self.omitted_bias
            yield (
                f"AIPW beside a hidden cause like {self.strengths[0].name}, which explains {found.cf_outcome:.2%} of "
                f"the outcome and {found.cf_treatment:.2%} of the weights, would be between "
                f"{format_number(found.estimate_low)} and {format_number(found.estimate_high)}, its interval "
                f"{format_interval(found.ci_low, found.ci_high)}."
            )
        if math.isfinite(self.gamma) and self.gamma > 1:
            yield (
                "Among units alike in what was adjusted for, a hidden cause that makes the odds of treatment of one "
                f"{format_number(round(self.gamma, 2))} times those of another could explain what matched sets show."
            )
        if self.tipping is not None:
            needed = _example(self.tipping, self.includes_zero)
            if math.isfinite(needed):
                what = "estimate" if self.includes_zero else "interval"
                yield (
                    f"A yes/no cause that {_TYPICAL[0]:.0%} of the treated and {_TYPICAL[1]:.0%} of the controls have "
                    f"would have to change {self.outcome} by {format_number(needed)} to bring the {what} to zero."
                )

    def _like_the_strongest(self) -> str:
        of_estimate, of_interval = (rounded_times(x) for x in (self.strongest_times, self.strongest_times_ci))
        head = f"Of the covariates {self.strongest} matters most. A hidden cause "
        if self.strongest_times_ci <= 0:
            return f"{head}{of_estimate} times as strong would bring the estimate of a regression to zero."
        return (
            f"{head}{of_interval} times as strong, with {self.treatment} and {self.outcome} alike, would bring the "
            f"interval of a regression to zero, and one {of_estimate} times as strong its estimate."
        )

    def __str__(self) -> str:
        """What a hidden cause must be like, on every scale, then beside the covariates."""
        effect = f"{format_number(self.estimate)} {format_interval(self.ci_low, self.ci_high)}"
        head = f"Hidden bias that would change the {self.estimand} of {self.treatment} on {self.outcome}, {effect} "
        return "\n".join(
            [
                *textwrap.wrap(
                    f"{head}({format_level(self.confidence_level)}, by {short_method(self.method)})", _WIDTH
                ),
                *_scales(self),
                *_wrapped(self.sentences()),
                *_benchmark_lines(self),
                *_wrapped(self.notes, mark="note: "),
            ]
        )


@dataclass(frozen=True, eq=False)
class StudyReport(Result):
    """All of a study on one page; ``write_study_report`` of :mod:`causalrec.pipelines.ate` makes an HTML page of it.

    Attributes
    ----------
    treatment, outcome, estimand : str
    n_obs : int
    identification : IdentificationResult
    effect : AdjustedEffect
        The headline; without the weights of single units.
    comparison : EffectComparisonResult or None
        Every method beside it; None without covariates.
    balance : BalanceResult or None
    overlap : OverlapResult or None
    refutations : RefutationsResult
    sensitivity : SensitivityResult
    doubts : tuple of str
        What stands against the conclusion, worst first, a sentence each.
    conclusion : str
        In a sentence or two: the effect, and what would change it.
    notes : tuple of str
    changes : tuple of str
        What would change the conclusion, a sentence each.
    verdict : str
        ``"doubtful"``: the data do not bear the estimate. ``"plausible"``: they do, if nothing hidden matters.
        ``"randomised"``: nothing had to be adjusted for.
    refuted : AdjustedEffect or None
        What the refutations are of, where the headline's own method would take long.
    headline : str
        The name of the headline's method.
    """

    treatment: str
    outcome: str
    estimand: str
    n_obs: int
    identification: IdentificationResult
    effect: AdjustedEffect
    comparison: EffectComparisonResult | None
    balance: BalanceResult | None
    overlap: OverlapResult | None
    refutations: RefutationsResult
    sensitivity: SensitivityResult
    doubts: tuple[str, ...]
    conclusion: str
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    verdict: str = ""
    refuted: AdjustedEffect | None = None
    headline: str = ""

    def to_frame(self) -> pd.DataFrame:
        """A row per estimate, the headline first."""
        first = pd.DataFrame([{"name": "headline", **self.effect.to_dict()}])
        if self.comparison is None:
            return first
        return pd.concat([first, self.comparison.to_frame()], ignore_index=True)

    def __str__(self) -> str:
        """One page of a terminal."""
        title = f"{self.treatment} → {self.outcome} ({self.estimand}), {self.n_obs:,} units"
        parts = [[title, "=" * len(title), *_wrapped([self.conclusion], indent="")]]
        if self.doubts:
            parts.append([f"Doubts ({self.verdict})" if self.verdict else "Doubts", *_wrapped(self.doubts, mark="- ")])
        parts.append(["Estimand", *_wrapped(_identified(self.identification))])
        if self.comparison is not None:
            parts.append(["Effect by every method", *_method_lines(self.comparison, self.headline)])
        supports = [*_wrapped(support_lines(self))]
        if supports:
            parts.append(["Balance and overlap", *supports])
        parts.append(["Refutations", *_refutation_lines(self)])
        scales = _scales(self.sensitivity)
        if scales:
            parts.append(["Hidden bias", *scales])
        if self.changes:
            parts.append(["What would change the conclusion", *_wrapped(self.changes, mark="- ")])
        if self.notes:
            parts.append(["Notes", *_wrapped(self.notes, mark="- ")])
        return "\n".join(line for part in parts for line in part)

    def _repr_html_(self) -> str:
        head = f"<h3>{escape(self.treatment)} → {escape(self.outcome)} ({escape(self.estimand)})</h3>"
        lists = "".join(
            f"<p><b>{name}</b></p><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
            for name, texts in (("Doubts", self.doubts), ("What would change the conclusion", self.changes))
            if texts
        )
        return f"{head}<p><b>{escape(self.conclusion)}</b></p>{lists}<pre>{escape(self._details())}</pre>"

    def _details(self) -> str:
        """What a notebook shows below the conclusion, its doubts and what would change it."""
        return str(replace(self, doubts=(), changes=())).split("\n", 3)[-1]


def take_benchmarks(found: PartialR2Result, rows: IntArray) -> PartialR2Result:
    """The result with these benchmarks, in this order; rows beyond the last are left out."""
    names = (
        "benchmark", "kd", "ky", "r2_treatment", "r2_outcome", "adjusted_estimate", "adjusted_error", "adjusted_t",
        "adjusted_low", "adjusted_high",
    )  # fmt: skip
    rows = rows[rows < len(found.benchmark)]
    return replace(found, **{name: getattr(found, name)[rows] for name in names})


def support_lines(report: StudyReport) -> Iterator[str]:
    """How alike the arms are, and how far they lie over each other, in a sentence each."""
    balance, overlap = report.balance, report.overlap
    if balance is not None:
        worst = format_number(round(balance.max_abs_smd_after, 3))
        before = format_number(round(balance.max_abs_smd_before, 3))
        change = f"{before} before, {worst} after" if balance.adjusted else f"{worst}, without adjustment"
        beyond = "none" if balance.balanced else str(balance.n_beyond)
        yield (
            f"Largest difference of the arms in standard deviations: {change} ({balance.worst}); {beyond} of "
            f"{balance.n_covariates} beyond {format_number(balance.threshold)} ({short_method(balance.method)})."
        )
    if overlap is not None:
        sizes, whose = (report.effect.ess_treated, report.effect.ess_control), "the estimate's weights"
        if math.isnan(sizes[0]):
            sizes, whose = (overlap.ess_treated, overlap.ess_control), f"weights for the {overlap.estimand}"
        yield (
            f"Propensities from {format_number(overlap.min_propensity)} to {format_number(overlap.max_propensity)}; "
            f"{overlap.share_outside_common_support:.1%} of units where only one arm is found; by {whose} "
            f"{overlap.n_treated:,} treated count like {_size(sizes[0])} and {overlap.n_control:,} controls like "
            f"{_size(sizes[1])}."
        )


def _size(units: float) -> str:
    return format_number(units) if units < 10 else f"{units:,.0f}"


def _identified(found: IdentificationResult) -> Iterator[str]:
    first, *rest = str(found).split("\n")
    yield first
    yield from (line.strip() for line in rest if not line.strip().startswith("assumes"))
    if found.assumptions:
        yield f"Assumes: {'; '.join(text.rstrip('.') for text in found.assumptions)}."


def _method_lines(compared: EffectComparisonResult, headline: str) -> list[str]:
    level = format_level(compared.effects[0].confidence_level)
    rows = [("method", "estimate", "std error", f"{level} interval", "worst |SMD|")]
    for method, effect, smd in zip(compared.names, compared.effects, compared.max_abs_smd, strict=True):
        estimand = "" if effect.estimand == compared.estimand else f" ({effect.estimand})"
        mark = " *" if method == headline else ""
        left = "–" if np.isnan(smd) else f"{smd:.3f}"
        rows.append(
            (
                f"{method.replace('_', ' ')}{estimand}{mark}",
                format_number(effect.estimate),
                format_number(effect.std_error),
                format_interval(effect.ci_low, effect.ci_high),
                left,
            )
        )
    return [
        *aligned(rows),
        *_wrapped(f"no estimate by {text.split('. ')[0].rstrip('.')}" for text in compared.failures),
    ]


def _refutation_lines(report: StudyReport) -> list[str]:
    if not report.refutations.names and not report.refutations.failures:
        return ["  none was run"]
    _, *rest = str(report.refutations).split("\n")
    method = short_method(report.refutations.method)
    short = [f"of {format_number(report.refutations.estimate)} by {method}"]
    return [
        *_wrapped(short),
        *(part for line in rest for part in textwrap.wrap(line, _WIDTH, subsequent_indent="    ")),
    ]


def _scales(found: SensitivityResult) -> list[str]:
    """A line per scale: how strong a hidden cause must be."""
    share = [
        "–" if math.isnan(x) else f"{x:.1%}" if x > 0 else "nothing"
        for x in (found.robustness_value, found.robustness_value_alpha)
    ]
    rows: list[Sequence[str]] = [("to bring to zero …, a hidden cause must", "the estimate", "its interval")]
    if math.isfinite(found.gamma):
        needed = "nothing" if found.gamma <= 1 else format_number(round(found.gamma, 2))
        rows.append(("multiply the odds of treatment by (gamma)", "–", needed))
    if math.isfinite(found.evalue):
        ends = ("nothing" if x == 1 else format_number(round(x, 2)) for x in (found.evalue, found.evalue_ci))
        rows.append(("go with treatment and outcome by a risk ratio of (E-value)", *ends))
    if math.isfinite(found.robustness_value):
        rows.append(("explain of what is left of both (robustness value)", *share))
    if found.strongest and not math.isnan(found.strongest_times):
        times = (_times(x) for x in (found.strongest_times, found.strongest_times_ci))
        rows.append((f"be as strong as {found.strongest[:30]}, times", *times))
    return aligned(rows) if len(rows) > 1 else []


def _times(value: float) -> str:
    if math.isinf(value):
        return "no such"
    return "nothing" if value == 0 else rounded_times(value)


def rounded_times(value: float) -> str:
    """How many times as strong, with two digits.

    Examples
    --------
    >>> rounded_times(20.07), rounded_times(1.4857)
    ('20', '1.5')
    """
    return format_number(float(f"{value:.2g}"))


def short_method(method: str) -> str:
    """The first part of a method's text."""
    return re.split("[,;]", method, maxsplit=1)[0]


def _benchmark_lines(found: SensitivityResult) -> list[str]:
    shown = found.strongest_benchmarks()
    if shown is None or not len(shown.benchmark):
        return []
    level = format_level(found.confidence_level)
    rows = [("beside a hidden cause like", "of the treatment", "of the outcome", "estimate", f"{level} interval")]
    for k, name in enumerate(shown.benchmark):
        low, high = float(shown.adjusted_low[k]), float(shown.adjusted_high[k])
        rows.append(
            (
                str(name)[:30],
                f"{shown.r2_treatment[k]:.2%}",
                f"{shown.r2_outcome[k]:.2%}",
                format_number(float(shown.adjusted_estimate[k])),
                format_interval(low, high),
            )
        )
    whole = f"  regression without: {format_number(shown.estimate)}, error {format_number(shown.std_error)}"
    return [whole, *aligned(rows)]


def _example(tipping: TippingResult, of_estimate: bool) -> float:
    """The effect that a cause of the typical prevalences needs."""
    at = np.flatnonzero(np.isclose(tipping.treated, _TYPICAL[0]) & np.isclose(tipping.control, _TYPICAL[1]))
    needed = tipping.effect_for_estimate if of_estimate else tipping.effect_for_interval
    return float(needed[at[0]]) if len(at) else NAN


def _wrapped(texts: Iterable[str], *, mark: str = "", indent: str = "  ") -> list[str]:
    """Sentences in lines of the page's width."""
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text, _WIDTH, initial_indent=indent + mark, subsequent_indent=indent + " " * len(mark)
        )
    ]  # fmt: skip
