"""What will be decided how: the roles of metrics, fixed before the data are seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from causalrec._validation import list_some, nearest
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError

Need = Literal["any", "all"]
Over = Literal["metrics", "variants"]
_GUARDING = ("non-inferiority", "equivalence")
_CORRECTIONS = {
    "bonferroni": "Bonferroni", "sidak": "Šidák", "holm": "Holm", "holm-sidak": "Holm-Šidák", "hochberg": "Hochberg",
    "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "none": "none",
}  # fmt: skip


@dataclass(frozen=True)
class DecisionRule:
    """Roles of metrics and what follows from their effects; :func:`decide_experiment` applies it.

    An arm ships when it wins on its primaries, loses on none, and is shown to do no harm on every guardrail.

    Parameters
    ----------
    primary : str or sequence of str
        What the arm is shipped for.
    guardrails : sequence of str
        What must not be harmed: each must be shown to be worse by less than a margin, so its metric has the hypothesis
        :class:`NonInferiority` (or :class:`Equivalence`).
    secondary : sequence of str, optional
        What explains; all other metrics by default. They do not change the verdict.
    need : {"any", "all"}
        How many primaries must win. With ``"all"`` each is tested at the full size, since all of them must reject
        (Berger 1982); with ``"any"`` their number is corrected for.
    correction : str
        A method of :func:`adjust_pvalues`, or ``"none"``.
    over : sequence of {"metrics", "variants"}
        What is corrected for. Over variants guardrails are corrected too, since each arm is a further chance of a
        false pass; over metrics they are not, since all of them must pass.
    lower_is_better : sequence of str
        Primaries and secondaries that should fall. One-sided hypotheses and margins say so themselves.
    mde : mapping of str to mapping
        The smallest effect of interest of primaries: ``{"minutes": {"relative": 0.02}}`` or ``{"absolute": 0.5}``. An
        interval that excludes it says that such an effect would have been seen. Both are sizes, > 0.
    n_planned : int, optional
        Units of all arms at the planned end. A fixed-horizon test is not decided before.
    units_per_day : float or sequence of float, optional
        New units of all arms a day; of a sequence the last holds from then on.
    max_days : float, optional
        After which it is decided with what there is.
    power : float
        At which it is said how long to keep running.
    threshold : float
        A check of the data (pre-period, A/A) with a smaller corrected p-value breaks the experiment.
    max_conflicting : float
        The share of units in more than one arm above which it is broken.

    Raises
    ------
    CausalRecError
        For roles given twice, unknown names, and numbers outside their range.

    Examples
    --------
    >>> rule = DecisionRule("minutes", guardrails=["crashes"], mde={"minutes": {"relative": 0.02}})
    >>> print(rule.in_words()[0])
    An arm ships if minutes is shown to be better.
    """

    primary: str | Sequence[str]
    guardrails: Sequence[str] = ()
    secondary: Sequence[str] | None = None
    need: Need = "any"
    correction: str = "holm"
    over: Sequence[Over] = ("metrics", "variants")
    lower_is_better: Sequence[str] = ()
    mde: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    n_planned: int | None = None
    units_per_day: float | Sequence[float] | None = None
    max_days: float | None = None
    power: float = 0.8
    threshold: float = 0.001
    max_conflicting: float = 0.01

    def __post_init__(self) -> None:
        for name in ("primary", "guardrails", "secondary", "over", "lower_is_better"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if isinstance(self.mde, Mapping):
            object.__setattr__(self, "mde", {name: _size(name, given) for name, given in self.mde.items()})
        _check_roles(self)
        _check_choices(self)
        _check_numbers(self)

    @property
    def primaries(self) -> tuple[str, ...]:
        """The primary metrics."""
        return tuple(self.primary)

    def role(self, metric: str) -> str:
        """``"primary"``, ``"guardrail"``, ``"secondary"``; empty for none."""
        if metric in self.primaries:
            return "primary"
        if metric in self.guardrails:
            return "guardrail"
        return "secondary" if self.secondary is None or metric in self.secondary else ""

    def check(self, hypotheses: Mapping[str, str]) -> None:
        """Whether the rule goes with metrics, given as a mapping of name to hypothesis (``"two-sided"``, …).

        Raises
        ------
        CausalRecError
            For a metric that is not there, a guardrail without a margin, or one that should both rise and fall.
        """
        for role, names in _named(self).items():
            for name in names:
                if name not in hypotheses:
                    raise CausalRecError(
                        f"the rule's {role} names {name!r}, which is not among the metrics {list_some(hypotheses)}."
                        f"{nearest(name, hypotheses)}"
                    )
        for name in self.guardrails:
            if hypotheses[name] not in _GUARDING:
                raise CausalRecError(
                    f"the guardrail {name!r} has the hypothesis {hypotheses[name]!r}; a guardrail needs a margin "
                    "within which a loss can be borne. Give its metric hypothesis=NonInferiority(margin), such as "
                    "NonInferiority(0.01, relative=True)."
                )
        for name in self.lower_is_better:
            if hypotheses[name] not in ("two-sided", "less"):
                raise CausalRecError(
                    f"lower_is_better names {name!r}, whose hypothesis is {hypotheses[name]!r}; that has a side of its "
                    "own. Leave one of them out."
                )

    def in_words(self) -> tuple[str, ...]:
        """The rule as sentences, for a page that is read before the test starts."""
        ones = [*self.primaries]
        which = ones[0] if len(ones) == 1 else f"{self.need} of {', '.join(ones)}"
        said = [f"An arm ships if {which} is shown to be better."]
        if self.guardrails:
            said.append(f"It must be shown not to harm {_and(self.guardrails)} by more than {_its(self.guardrails)}.")
        sizes = [f"{name} {_write(self.mde[name])}" for name in ones if name in self.mde]
        if sizes:
            said.append(f"It does not ship once the interval excludes the smallest effect of interest: {_and(sizes)}.")
        if self.correction != "none" and self.over:
            said.append(f"p-values are corrected over {_and(self.over)} ({correction_name(self.correction)}).")
        if self.n_planned is not None:
            said.append(f"The planned end is at {self.n_planned:,} units.")
        if self.max_days is not None:
            said.append(f"After {self.max_days:g} days it is decided with what there is.")
        return tuple(said)


def correction_name(correction: str) -> str:
    """How a method of correction is written."""
    return _CORRECTIONS.get(correction, correction)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _its(names: Sequence[str]) -> str:
    return "its margin" if len(names) == 1 else "their margins"


def _write(size: Mapping[str, float]) -> str:
    return f"{100 * size['relative']:.4g}%" if "relative" in size else f"{size['absolute']:.4g}"


def _named(rule: DecisionRule) -> dict[str, Iterable[str]]:
    return {
        "primary": rule.primaries, "guardrails": rule.guardrails, "secondary": rule.secondary or (),
        "lower_is_better": rule.lower_is_better, "mde": rule.mde,
    }  # fmt: skip


def _size(name: str, given: Any) -> dict[str, float]:
    """One of ``relative`` and ``absolute``, > 0."""
    found = dict(given) if isinstance(given, Mapping) else {}
    (key, value), *more = found.items() if found else [("", math.nan)]
    number = not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < math.inf
    if more or key not in ("relative", "absolute") or not number:
        raise CausalRecError(
            f"mde of {name!r} is {given!r}; expected one size > 0 with its scale, such as {{'relative': 0.02}} for 2% "
            "or {'absolute': 0.5} in the metric's unit."
        )
    return {key: float(value)}


def _check_roles(rule: DecisionRule) -> None:
    if not rule.primaries:
        raise CausalRecError("the rule has no primary metric; name at least one, such as primary='revenue'.")
    roles = [*rule.primaries, *rule.guardrails, *(rule.secondary or ())]
    twice = [name for name in dict.fromkeys(roles) if roles.count(name) > 1]
    if twice:
        raise CausalRecError(f"{list_some(twice)} has more than one role, or one role twice; each metric has one.")
    if not isinstance(rule.mde, Mapping):
        raise CausalRecError(f"mde is {rule.mde!r}; expected a mapping, such as {{'minutes': {{'relative': 0.02}}}}.")
    for name in rule.mde:
        if name not in rule.primaries:
            raise CausalRecError(
                f"mde names {name!r}, which is no primary metric ({list_some(rule.primaries)})."
                f"{nearest(name, rule.primaries)}"
            )


def _check_choices(rule: DecisionRule) -> None:
    for name, value, known in (
        ("need", (rule.need,), get_args(Need)),
        ("over", rule.over, get_args(Over)),
    ):
        strange = [each for each in value if each not in known]
        if strange:
            raise CausalRecError(
                f"{name} holds {strange[0]!r}; expected {list_some(known)}.{nearest(str(strange[0]), known)}"
            )
    if rule.correction != "none":
        adjust_pvalues([], rule.correction)


def _check_numbers(rule: DecisionRule) -> None:
    for name in ("n_planned", "max_days"):
        value = getattr(rule, name)
        if value is not None and not 0 < value < math.inf:
            raise CausalRecError(f"{name} is {value!r}; expected a number > 0.")
    if not 0.5 < rule.power < 1:
        raise CausalRecError(f"power is {rule.power!r}; expected a number in (0.5, 1), such as 0.8.")
    for name in ("threshold", "max_conflicting"):
        value = getattr(rule, name)
        if not 0 < value < 1:
            raise CausalRecError(f"{name} is {value!r}; expected a number in (0, 1), such as 0.001.")
    if rule.units_per_day is not None:
        daily = rule.units_per_day
        rates = [daily] if isinstance(daily, int | float) else list(daily)
        object.__setattr__(rule, "units_per_day", rates[0] if len(rates) == 1 else tuple(rates))
        if not rates or any(not 0 <= rate < math.inf for rate in rates) or not sum(rates) > 0:
            raise CausalRecError(
                f"units_per_day is {daily!r}; expected a number > 0, or one for each of the first days."
            )
