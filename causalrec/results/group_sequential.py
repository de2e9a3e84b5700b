"""Group-sequential tests: bounds at the looks, designs, and what is known when one stops."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, format_level, format_number, pvalue_text, written_interval
from causalrec.results.effects import EffectResult


def _lines(frame: pd.DataFrame) -> str:
    """An indented table for a person."""
    body = frame.to_string(index=False, na_rep="–")
    return "\n".join(f"  {line}" for line in body.split("\n"))


@dataclass(frozen=True, eq=False)
class GroupBoundsResult(Result):
    """Bounds at the looks of a group-sequential test.

    Attributes
    ----------
    n_looks : int
    alpha : float
        Of both sides together where there are two.
    alternative, spending, futility : str
        ``futility`` is "none" where there is no such bound.
    binding : bool
        The efficacy bound accounts for that of futility, which must then be obeyed.
    beta, drift : float
        Error spent on futility, and the mean of the statistic at fraction 1 that it belongs to; NaN without.
    fraction : array of shape (n_looks,)
        Information at the looks, of the maximum.
    upper : array
        The null is rejected at this statistic and beyond, in the direction of the alternative; with two sides at minus
        this too. Infinite where less than 1e-300 may be spent.
    lower : array
        Give up at this statistic and below (with two sides: closer to zero); NaN where there is no such bound.
    nominal_alpha : array
        The p-value of a fixed test at the bound.
    alpha_spent, beta_spent : array
        So far; beta NaN without a bound for futility.
    """

    n_looks: int
    alpha: float
    alternative: str
    spending: str
    futility: str
    binding: bool
    beta: float
    drift: float
    fraction: FloatArray = field(repr=False)
    upper: FloatArray = field(repr=False)
    lower: FloatArray = field(repr=False)
    nominal_alpha: FloatArray = field(repr=False)
    alpha_spent: FloatArray = field(repr=False)
    beta_spent: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per look."""
        return pd.DataFrame(
            {
                "look": range(1, self.n_looks + 1), "fraction": self.fraction, "upper": self.upper,
                "lower": self.lower, "nominal_alpha": self.nominal_alpha, "alpha_spent": self.alpha_spent,
                "beta_spent": self.beta_spent,
            }
        )  # fmt: skip

    def __str__(self) -> str:
        sides = "either way" if self.alternative == "two-sided" else f"towards {self.alternative}"
        head = (
            f"Stop at look k if the statistic is beyond its bound {sides}: {self.spending}, alpha "
            f"{format_number(self.alpha)}"
        )
        frame = self.to_frame()
        shown = pd.DataFrame(
            {
                "look": frame["look"], "information": frame["fraction"].map("{:.1%}".format),
                "z bound": frame["upper"].map("{:.3f}".format),
                "fixed p at it": frame["nominal_alpha"].map(format_number),
                "alpha spent": frame["alpha_spent"].map(format_number),
            }
        )  # fmt: skip
        if self.futility != "none":
            how = "binding" if self.binding else "not binding"
            head += (
                f"; give up {'closer to zero than' if self.alternative == 'two-sided' else 'below'} the other bound "
            )
            head += f"({self.futility}, beta {format_number(self.beta)}, {how})"
            shown["give up"] = frame["lower"].map(lambda z: "–" if math.isnan(z) else f"{z:.3f}")
            shown["beta spent"] = frame["beta_spent"].map(format_number)
        return f"{head}\n{_lines(shown)}"


@dataclass(frozen=True, eq=False)
class GroupDesignResult(GroupBoundsResult):
    """A group-sequential design: its bounds, and when it stops.

    Attributes
    ----------
    power : float
    inflation_factor : float
        Maximum information, as a multiple of what a test with one look needs.
    expected_null, expected_alternative : float
        Expected information without an effect, and with that of the design, as such multiples too.
    n_obs_fixed, n_obs_max, n_obs_null, n_obs_alternative : float
        Units of a test with one look, the most, and the expected numbers; NaN unless units are known.
    method : str
    n_obs : array of shape (n_looks,)
        Units at each look; empty unless known.
    efficacy_null, futility_null, efficacy_alternative, futility_alternative : array of shape (n_looks,)
        Probability to stop at each look, rejecting the null or giving up (at the last look: not rejecting it).
    """

    power: float
    inflation_factor: float
    expected_null: float
    expected_alternative: float
    n_obs_fixed: float
    n_obs_max: float
    n_obs_null: float
    n_obs_alternative: float
    method: str
    n_obs: IntArray = field(repr=False)
    efficacy_null: FloatArray = field(repr=False)
    futility_null: FloatArray = field(repr=False)
    efficacy_alternative: FloatArray = field(repr=False)
    futility_alternative: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per look."""
        frame = super().to_frame()
        if len(self.n_obs):
            frame.insert(2, "n_obs", self.n_obs)
        names = ("efficacy_null", "futility_null", "efficacy_alternative", "futility_alternative")
        return frame.assign(**{name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        early = float((self.efficacy_alternative + self.futility_alternative)[:-1].sum())
        if math.isnan(self.n_obs_max):
            size = (
                f"at most {self.inflation_factor:.3f} times the units of a test with one look; expected "
                f"{self.expected_alternative:.3f} times with the effect, {self.expected_null:.3f} without"
            )
        else:
            size = (
                f"at most {self.n_obs_max:,.0f} units ({self.n_obs_fixed:,.0f} with one look); expected "
                f"{self.n_obs_alternative:,.0f} with the effect, {self.n_obs_null:,.0f} without"
            )
        return (
            f"{self.n_looks} looks with {self.power:.0%} power: {size}. With the effect it stops early with "
            f"probability {early:.0%}.\n{super().__str__()}"
        )


@dataclass(frozen=True, eq=False)
class StagewiseResult(EffectResult):
    """What is known of an effect when a group-sequential test has stopped.

    ``estimate``, the interval and ``pvalue`` allow for the looks: the estimate is median-unbiased, all three are by
    stagewise ordering. It has no standard error of its own (NaN).

    Attributes
    ----------
    look, fraction : int, float
        Where it stopped.
    statistic : float
        In standard errors from the null, positive in the direction of the alternative.
    bound : float
        Of the statistic at this look.
    rejected : bool
    naive_estimate, naive_std_error : float
        As if this had been the only look; the estimate is too extreme on average where one stops for its sake.
    repeated_ci_low, repeated_ci_high, repeated_pvalue : float
        Valid whether or not one stops (Jennison & Turnbull 1989), so wider on the whole.
    alternative, metric, control, treatment : str
    """

    look: int
    fraction: float
    statistic: float
    bound: float
    rejected: bool
    naive_estimate: float
    naive_std_error: float
    repeated_ci_low: float
    repeated_ci_high: float
    repeated_pvalue: float
    alternative: str
    metric: str
    control: str
    treatment: str

    def __str__(self) -> str:
        said = "the null is rejected" if self.rejected else "the null is not rejected"
        return (
            f"{self.metric}: {self.treatment} − {self.control} stopped at look {self.look} "
            f"({self.fraction:.0%} of the information), {said}; "
            f"{written_interval(self.estimate, self.ci_low, self.ci_high)} "
            f"({format_level(self.confidence_level)} interval), {pvalue_text(self.pvalue)}, allowing for the looks; "
            f"{format_number(self.naive_estimate)} without ({self.method})"
        )
