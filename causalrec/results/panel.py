"""Effects in panels by difference-in-differences: by group and period, by group, by time since treatment, overall."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import format_interval, format_level, format_number, pvalue_text
from causalrec.results.effects import EffectResult


@dataclass(frozen=True, eq=False)
class PanelEffectResult(EffectResult):
    """The average effect on the treated in a panel, and the effects by group and period that it is made of.

    A group is all units first treated in the same period. Errors are those of sums over clusters.

    Attributes
    ----------
    outcome, control_group, base_period, aggregation : str
        ``estimate`` is the effect so aggregated.
    anticipation : int
        Periods before treatment in which units may already react.
    n_units, n_treated, n_control, n_periods, n_groups, n_clusters : int
        Units in the estimates, those treated within the panel, those never; periods; groups; clusters.
    n_dropped : int
        Units set aside since they lack periods.
    n_without_control : int
        Cells (group and period) left out, since every unit was treated by then.
    simple, by_group, by_event, by_calendar : float
        The overall effects of each aggregation: of all treated cells weighted by their units, of the groups' means,
        of the means by time since treatment, of the means by period.
    simple_error, by_group_error, by_event_error, by_calendar_error : float
    pretrend_statistic, pretrend_pvalue : float, pretrend_df : int
        Wald test that all effects before treatment are zero; NaN where there are none, or too few clusters.
    critical_value : float
        Of the simultaneous band over all times since treatment.
    twfe_estimate, twfe_error : float
        The coefficient of a regression with unit and period effects, for comparison alone.
    twfe_negative : float
        Sum of the negative weights that it gives to treated cells (de Chaisemartin and D'Haultfœuille 2020, whose
        source Goodman-Bacon 2021 shows); 0 where it is an average with positive weights.
    group : array of shape (g,)
        First treated period; so are the next.
    group_n : int array of shape (g,)
    group_estimate, group_error : arrays of shape (g,)
    event : int array of shape (e,)
        Periods since treatment began; negative ones are before.
    event_estimate, event_error, event_low, event_high : arrays of shape (e,)
        With intervals for each alone.
    event_band_low, event_band_high : arrays of shape (e,)
        Bounds that hold for all at once.
    cell_group, cell_time : arrays of shape (c,)
    cell_estimate, cell_error : arrays of shape (c,)
    """

    outcome: str
    control_group: str
    base_period: str
    aggregation: str
    anticipation: int
    n_units: int
    n_treated: int
    n_control: int
    n_periods: int
    n_groups: int
    n_clusters: int
    n_dropped: int
    n_without_control: int
    simple: float
    simple_error: float
    by_group: float
    by_group_error: float
    by_event: float
    by_event_error: float
    by_calendar: float
    by_calendar_error: float
    pretrend_statistic: float
    pretrend_df: int
    pretrend_pvalue: float
    critical_value: float
    twfe_estimate: float
    twfe_error: float
    twfe_negative: float
    group: AnyArray = field(repr=False)
    group_n: IntArray = field(repr=False)
    group_estimate: FloatArray = field(repr=False)
    group_error: FloatArray = field(repr=False)
    event: IntArray = field(repr=False)
    event_estimate: FloatArray = field(repr=False)
    event_error: FloatArray = field(repr=False)
    event_low: FloatArray = field(repr=False)
    event_high: FloatArray = field(repr=False)
    event_band_low: FloatArray = field(repr=False)
    event_band_high: FloatArray = field(repr=False)
    cell_group: AnyArray = field(repr=False)
    cell_time: AnyArray = field(repr=False)
    cell_estimate: FloatArray = field(repr=False)
    cell_error: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per time since treatment (the event study)."""
        names = ("event", "event_estimate", "event_error", "event_low", "event_high", "event_band_low",
                 "event_band_high")  # fmt: skip
        return pd.DataFrame({name.removeprefix("event_"): getattr(self, name) for name in names})

    def cells(self) -> pd.DataFrame:
        """A row per group and period."""
        names = ("group", "time", "estimate", "error")
        return pd.DataFrame({name: getattr(self, f"cell_{name}") for name in names})

    def groups(self) -> pd.DataFrame:
        """A row per group: its units, and the mean of its effects over the periods since treatment."""
        return pd.DataFrame(
            {"group": self.group, "n": self.group_n, "estimate": self.group_estimate, "error": self.group_error}
        )

    def __str__(self) -> str:
        number = format_number
        left_out = [f"{self.n_dropped:,} units without all periods dropped"] * (self.n_dropped > 0)
        left_out += [f"{self.n_without_control} cells without controls left out"] * (self.n_without_control > 0)
        units = (
            f"{self.n_treated:,} treated unit{'s' * (self.n_treated != 1)} in {self.n_groups} "
            f"group{'s' * (self.n_groups != 1)}, {self.n_control:,} never treated"
        )
        lines = [
            f"Effect on {self.outcome}, treated units: {number(self.estimate)} {format_level(self.confidence_level)} "
            f"CI {format_interval(self.ci_low, self.ci_high)}, {pvalue_text(self.pvalue)}",
            f"{self.method}",
            "; ".join([f"{units}, {self.n_periods} periods, {self.n_clusters:,} clusters", *left_out]),
            f"Before treatment: {self._pretrend()}",
            "  periods since treatment   effect   std error   interval for all at once",
        ]
        for row in self.to_frame().itertuples():
            interval = format_interval(float(row.band_low), float(row.band_high))  # type: ignore[arg-type]
            effect, error = number(float(row.estimate)), number(float(row.error))  # type: ignore[arg-type]
            lines.append(f"  {row.event:>23}   {effect:>6}   {error:>9}   {interval}")
        twfe = f"A regression with unit and period effects gives {number(self.twfe_estimate)}"
        if self.twfe_negative < 0:
            twfe += (
                f", with weights below zero on some effects (their sum: {number(self.twfe_negative)}): not an average"
            )
        return "\n".join([*lines, f"{twfe}."])

    def _pretrend(self) -> str:
        if self.pretrend_df == 0:
            return "no period to test the trends in"
        test = f"chi-square({self.pretrend_df}) = {format_number(self.pretrend_statistic)}"
        return f"all effects zero? {test}, {pvalue_text(self.pretrend_pvalue)}"
