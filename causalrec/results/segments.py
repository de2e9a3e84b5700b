"""Who should be treated: segments by the interval of their effect, and the rule that finds them among new people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_length, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, Result, format_level, format_number, written_interval

PERSUADABLES, SLEEPING_DOGS = "persuadables", "sleeping dogs"
SURE_THINGS, LOST_CAUSES = "sure things", "lost causes"
UNDECIDED, NO_EFFECT = "undecided", "no effect shown"
SEGMENTS = (PERSUADABLES, SURE_THINGS, LOST_CAUSES, SLEEPING_DOGS, UNDECIDED)
VERDICTS = (PERSUADABLES, NO_EFFECT, UNDECIDED, SLEEPING_DOGS)
_MOST_COVARIATES = 3
_DIFFERENT = 0.1  # standard deviations


@dataclass(frozen=True)
class SegmentRule:
    """From predicted uplift, and the expected outcome without treatment, to a segment.

    Made by :func:`causalrec.policy.learn_segments`, as ``.rule`` of its result.

    Attributes
    ----------
    control, treatment : str
        The arms that effects compare.
    cuts : tuple of float
        Predicted uplifts at which the verdict changes, falling; a unit at a cut belongs to those above it.
    verdicts : tuple of str, one more than ``cuts``
        Of each range, highest predictions first: ``"persuadables"``, ``"sleeping dogs"``, ``"no effect shown"`` (sure
        things and lost causes, told apart by ``baseline_cut``) or ``"undecided"``.
    baseline_cut : float
        Expected outcome without treatment from which on somebody is a sure thing; NaN where no baseline was given, and
        those without a shown effect stay undecided.
    threshold : float
        Effect that a persuadable's has to exceed: the cost of treatment in units of the outcome.
    confidence_level : float

    Examples
    --------
    >>> rule = SegmentRule("none", "mail", (0.1, -0.2), ("persuadables", "no effect shown", "sleeping dogs"), 0.5)
    >>> rule.assign([0.3, 0.0, 0.0, -0.4], baseline=[0.2, 0.7, 0.1, 0.9]).tolist()
    ['persuadables', 'sure things', 'lost causes', 'sleeping dogs']
    >>> SegmentRule.from_dict(rule.to_dict()) == rule
    True
    """

    control: str
    treatment: str
    cuts: tuple[float, ...]
    verdicts: tuple[str, ...]
    baseline_cut: float = NAN
    threshold: float = 0.0
    confidence_level: float = 0.95

    @property
    def needs_baseline(self) -> bool:
        """Whether :meth:`assign` asks for the expected outcome without treatment."""
        return NO_EFFECT in self.verdicts and not np.isnan(self.baseline_cut)

    def assign(self, uplift: Any, baseline: Any = None) -> AnyArray:
        """The segment of each unit, shape (n,), as text.

        Parameters
        ----------
        uplift : array of shape (n,)
            Predicted by the model that the rule was learned for.
        baseline : array of shape (n,), optional
            Expected outcome without treatment; needed where sure things are told from lost causes.

        Raises
        ------
        CausalRecError
            For missing values, lengths that differ, or no baseline where the rule needs one.
        """
        effect = check_vector(uplift, name="uplift")
        verdict = np.array(self.verdicts, dtype=object)[np.searchsorted(-np.array(self.cuts), -effect, side="left")]
        found = np.where(verdict == NO_EFFECT, UNDECIDED, verdict).astype(object)
        if self.needs_baseline:
            if baseline is None:
                raise CausalRecError(
                    "baseline is missing; the rule tells sure things from lost causes by the expected outcome without "
                    "treatment. Pass it for every row, such as predict_outcomes(X)[:, 0]."
                )
            base = check_vector(baseline, name="baseline", n_rows=len(effect))
            found[verdict == NO_EFFECT] = split_by_baseline(base[verdict == NO_EFFECT], self.baseline_cut)
        return found.astype(str) if len(found) else np.array([], dtype=str)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, text and lists, for JSON or YAML; :meth:`from_dict` reads them back."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"baseline_cut": None if np.isnan(self.baseline_cut) else self.baseline_cut}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A rule from what :meth:`to_dict` gave.

        Raises
        ------
        CausalRecError
            For missing or unknown names, verdicts that are none, or cuts that do not fall.
        """
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            odd = sorted(known.symmetric_difference(values))
            raise CausalRecError(f"a segment rule has missing or unknown entries: {', '.join(odd)}. Learn it again.")
        cuts, verdicts = tuple(map(float, values["cuts"])), tuple(map(str, values["verdicts"]))
        if len(verdicts) != len(cuts) + 1 or (np.diff(cuts) >= 0).any() or not set(verdicts) <= set(VERDICTS):
            raise CausalRecError(
                f"a segment rule has the cuts {list(cuts)} and the verdicts {list(verdicts)}; expected falling cuts, "
                f"and one verdict more, each of {', '.join(VERDICTS)}."
            )
        cut = values["baseline_cut"]
        return cls(
            str(values["control"]), str(values["treatment"]), cuts, verdicts, NAN if cut is None else float(cut),
            float(values["threshold"]), float(values["confidence_level"]),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SegmentRule) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.control, self.treatment, self.cuts, self.verdicts, self.threshold))

    def __str__(self) -> str:
        lines = [f"Segments by predicted uplift of {self.treatment} against {self.control}:"]
        highs, lows = (np.inf, *self.cuts), (*self.cuts, -np.inf)
        for high, low, verdict in zip(highs, lows, self.verdicts, strict=True):
            lines.append(f"  {_range(low, high)}: {self._named(verdict)}")
        return "\n".join(lines)

    def _named(self, verdict: str) -> str:
        if verdict != NO_EFFECT:
            return verdict
        if np.isnan(self.baseline_cut):
            return f"{UNDECIDED} ({NO_EFFECT})"
        cut = format_number(self.baseline_cut)
        return f"{SURE_THINGS} from an expected outcome without treatment of {cut} on, {LOST_CAUSES} below"


def split_by_baseline(baseline: FloatArray, cut: float) -> AnyArray:
    """Sure things from the cut on, lost causes below."""
    return np.where(baseline >= cut, SURE_THINGS, LOST_CAUSES)


def _range(low: float, high: float) -> str:
    if np.isinf(low) and np.isinf(high):
        return "any prediction"
    if np.isinf(low):
        return f"below {format_number(high)}"
    return f"{format_number(low)} and more" if np.isinf(high) else f"{format_number(low)} to {format_number(high)}"


@dataclass(frozen=True, eq=False)
class SegmentsResult(Result):
    """Segments of units by the interval of their effect: how large, what effect, what share of the lift, and who.

    Attributes
    ----------
    threshold : float
        Effect that a persuadable's has to exceed.
    margin : float
        Largest effect, beyond zero or the threshold, that still counts as none; NaN where every group without a shown
        effect does.
    baseline_cut : float
        Expected outcome without treatment from which on somebody is a sure thing; NaN without one.
    average, average_ci_low, average_ci_high : float
        The effect on everybody.
    segment : array of shape (s,)
        Those that are not empty, in the order persuadables, sure things, lost causes, sleeping dogs, undecided.
    n, share : arrays of shape (s,)
        Rows, and share of the weight.
    predicted : array of shape (s,)
        Mean predicted uplift; NaN where none was given.
    effect, std_error, ci_low, ci_high : arrays of shape (s,)
        Average effect of the segment; the intervals hold for all segments at once.
    outcome, outcome_std_error : arrays of shape (s,)
        Mean outcome without treatment, from outcomes, not predictions.
    lift_share, lift_share_ci_low, lift_share_ci_high : arrays of shape (s,)
        Share of what treating everybody would bring (Fieller's interval, Bonferroni over the segments; infinite
        where that total may be zero).
    group_low, group_high, group_n, group_predicted : arrays of shape (g,)
        Ranges of predicted uplift that were judged, highest first; empty where segments were given.
    group_effect, group_std_error, group_ci_low, group_ci_high : arrays of shape (g,)
        Intervals hold for all groups at once.
    group_verdict : array of shape (g,)
    profile_segment, profile_covariate : arrays of shape (m,)
        A row per segment and covariate (or ``"name=level"``), the largest difference of each segment first.
    profile_mean, profile_rest, profile_difference : arrays of shape (m,)
        Mean in the segment, mean of all others, and the difference in standard deviations of everybody.
    map_segment, map_uplift, map_baseline, map_n : arrays of shape (c,)
        Rows by cells of predicted uplift and expected outcome without treatment, with their centres.
    """

    control: str
    treatment: str
    threshold: float
    margin: float
    baseline_cut: float
    average: float
    average_std_error: float
    average_ci_low: float
    average_ci_high: float
    confidence_level: float
    n_obs: int
    n_segments: int
    method: str
    segment: AnyArray = field(repr=False)
    n: IntArray = field(repr=False)
    share: FloatArray = field(repr=False)
    predicted: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    outcome: FloatArray = field(repr=False)
    outcome_std_error: FloatArray = field(repr=False)
    lift_share: FloatArray = field(repr=False)
    lift_share_ci_low: FloatArray = field(repr=False)
    lift_share_ci_high: FloatArray = field(repr=False)
    group_low: FloatArray = field(repr=False)
    group_high: FloatArray = field(repr=False)
    group_n: IntArray = field(repr=False)
    group_predicted: FloatArray = field(repr=False)
    group_effect: FloatArray = field(repr=False)
    group_std_error: FloatArray = field(repr=False)
    group_ci_low: FloatArray = field(repr=False)
    group_ci_high: FloatArray = field(repr=False)
    group_verdict: AnyArray = field(repr=False)
    profile_segment: AnyArray = field(repr=False)
    profile_covariate: AnyArray = field(repr=False)
    profile_mean: FloatArray = field(repr=False)
    profile_rest: FloatArray = field(repr=False)
    profile_difference: FloatArray = field(repr=False)
    map_segment: AnyArray = field(repr=False)
    map_uplift: FloatArray = field(repr=False)
    map_baseline: FloatArray = field(repr=False)
    map_n: IntArray = field(repr=False)

    @property
    def rule(self) -> SegmentRule:
        """The rule that assigns new units; neighbouring groups of one verdict are one range.

        Raises
        ------
        CausalRecError
            Where the segments were given, not learned.
        """
        if not len(self.group_verdict):
            raise CausalRecError(
                "these segments were given, not learned from groups of predicted uplift, so there is no rule for new "
                "rows. Use learn_segments."
            )
        verdicts = self.group_verdict.tolist()
        changes = [k for k in range(1, len(verdicts)) if verdicts[k] != verdicts[k - 1]]
        return SegmentRule(
            self.control, self.treatment, tuple(float(self.group_low[k - 1]) for k in changes),
            tuple(str(verdicts[k]) for k in (0, *changes)), self.baseline_cut, self.threshold, self.confidence_level,
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row per segment."""
        names = (
            "segment", "n", "share", "predicted", "effect", "std_error", "ci_low", "ci_high", "outcome",
            "outcome_std_error", "lift_share", "lift_share_ci_low", "lift_share_ci_high",
        )  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def groups(self) -> pd.DataFrame:
        """A row per group of predicted uplift that was judged."""
        names = ("low", "high", "n", "predicted", "effect", "std_error", "ci_low", "ci_high", "verdict")
        return pd.DataFrame({name: getattr(self, f"group_{name}") for name in names})

    def profile(self) -> pd.DataFrame:
        """A row per segment and covariate, the largest difference of each segment first."""
        names = ("segment", "covariate", "mean", "rest", "difference")
        return pd.DataFrame({name: getattr(self, f"profile_{name}") for name in names})

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        lines = [
            f"Segments by the effect of {self.treatment} against {self.control}, n = {self.n_obs:,} ({self.method}); "
            f"{level} intervals hold for all segments at once"
        ]
        lines += [self._line(k) for k in range(self.n_segments)]
        absent = [name for name in SEGMENTS[:4] if name not in self.segment.tolist()]
        everybody = written_interval(self.average, self.average_ci_low, self.average_ci_high)
        unbounded = np.isinf(self.lift_share_ci_low).any()
        told = (
            "; at the level of all segments at once it cannot be told from zero, so that it has no shares"
            if unbounded
            else ""
        )
        lines.append(
            f"  everybody: effect {everybody}{told}" + (f"; found no {', no '.join(absent)}" if absent else "")
        )
        return "\n".join(lines)

    def _line(self, k: int) -> str:
        effect = written_interval(self.effect[k], self.ci_low[k], self.ci_high[k])
        line = (
            f"  {self.segment[k]}: {self.share[k]:.1%} of the people (n = {self.n[k]:,}), effect {effect}, outcome "
            f"without treatment {format_number(self.outcome[k])}{self._lift(k)}"
        )
        who = self._who(str(self.segment[k]))
        return f"{line}\n    {who}" if who else line

    def _lift(self, k: int) -> str:
        low, high = self.lift_share_ci_low[k], self.lift_share_ci_high[k]
        if np.isinf([low, high]).any():
            return ""
        return f", share of the lift {written_interval(self.lift_share[k], low, high, percent=True)}"

    def _who(self, segment: str) -> str:
        """The covariates in which a segment differs most, if they do."""
        rows = np.flatnonzero((self.profile_segment == segment) & (np.abs(self.profile_difference) > _DIFFERENT))
        return ", ".join(
            f"{self.profile_covariate[i]} {format_number(self.profile_mean[i])} (others "
            f"{format_number(self.profile_rest[i])})"
            for i in rows[:_MOST_COVARIATES]
        )


def check_segments(segments: Any, n_rows: int) -> AnyArray:
    """Labels of segments for every row, in :data:`SEGMENTS`.

    Raises
    ------
    CausalRecError
        For another length, or a label that is none of them.
    """
    labels = np.asarray(segments, dtype=object)
    check_length(len(labels), n_rows, name="segments")
    strange = sorted({str(label) for label in labels.tolist()} - set(SEGMENTS))
    if strange:
        raise CausalRecError(f"segments holds {strange[0]!r}; expected one of {', '.join(SEGMENTS)}.")
    return labels.astype(str)
