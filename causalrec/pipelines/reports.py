"""``causalrec report``: a report on a log, to look at, as a page or as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._files import new_file
from causalrec.engines import open_engine
from causalrec.exceptions import ConfigError
from causalrec.journeys.quality import check_quality
from causalrec.journeys.reports import cohort_retention, conversion_funnel, daily_active_users, revenue_by_segment
from causalrec.pipelines.progress import Reporter
from causalrec.report import Section, render_report, write_report
from causalrec.results import (
    AttributionResult,
    CohortRetentionResult,
    ConversionFunnelResult,
    CreditResult,
    DailyUsersResult,
    QualityResult,
    Result,
    RevenueResult,
)

_FORMATS = (".html", ".csv", ".parquet")
_RECENT = 14


@dataclass(frozen=True)
class LogReport:
    """A report and what a person sees of it.

    Attributes
    ----------
    title, question : str
    result : Result
    shown : DataFrame
        Its table as text for a person, perhaps a part of it.
    caption : str
        What ``shown`` is.
    path : Path or None
        What was written.
    """

    title: str
    question: str
    result: Result
    shown: pd.DataFrame = field(repr=False)
    caption: str
    path: Path | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What the result says, of credit and attribution without their table."""
        if isinstance(self.result, AttributionResult | CreditResult):
            return self.result.said
        return tuple(line.strip() for line in str(self.result).splitlines())


@dataclass(frozen=True)
class _Kind:
    """How a report is made, called, shown and drawn."""

    make: Callable[..., Result]
    title: str
    question: str
    show: Callable[[Any], tuple[str, pd.DataFrame]]
    figure: str | None


def write_log_report(
    name: str,
    data: Path,
    *,
    output: Path | None = None,
    attributes: Path | None = None,
    engine: str = "local",
    master: str | None = None,
    reporter: Reporter,
    **options: Any,
) -> LogReport:
    """Make a report of a Parquet or CSV log, and write it where ``output`` says, whole or not at all.

    Parameters
    ----------
    name : "dau", "funnel", "retention", "revenue", "quality", "credit" or "attribution"
    data : path
    output : path, optional
        A page (``.html``), or the whole table (``.csv``, ``.parquet``).
    attributes : path, optional
        A table with a row per user.
    engine, master
        As of :func:`causalrec.engines.open_engine`.
    reporter : Reporter
    **options
        Of the function of :mod:`causalrec.journeys` (of :mod:`causalrec.pipelines.attribution` for the last two); None
        stands for its default.

    Raises
    ------
    ConfigError
        For an output with another ending.
    CausalRecError
        One of its children, as of the function.
    """
    if output is not None and output.suffix.lower() not in _FORMATS:
        raise ConfigError(f"output is {str(output)!r}; expected a name that ends in {', '.join(_FORMATS)}.")
    kind = REPORTS[name]
    given = {key: value for key, value in options.items() if value is not None}
    if attributes is not None:
        given["attributes"] = attributes
    started = {} if master is None else {"master": master}
    with reporter.stage(engine) if engine == "spark" else nullcontext():
        opened = open_engine(engine, **started)
    with opened, reporter.stage(kind.title.lower()):
        result = kind.make(data, engine=opened, **given)
    caption, shown = kind.show(result)
    report = LogReport(kind.title, kind.question, result, shown, caption, output)
    if output is not None:
        _write(report, data, kind.figure, output)
    return report


def _write(report: LogReport, data: Path, figure: str | None, output: Path) -> None:
    if output.suffix.lower() == ".html":
        write_report(output, log_page(report, f"{data.name}: {report.title.lower()}", figure))
        return
    table = report.result.to_frame()
    with new_file(output) as scratch:
        if output.suffix.lower() == ".csv":
            table.to_csv(scratch, index=False)
        else:
            table.to_parquet(scratch, index=False)


def log_page(report: LogReport, title: str, figure: str | None) -> str:
    """The page of a report: what it found, its figure, its table."""
    from causalrec import plots

    axes = getattr(plots, figure)(report.result) if figure is not None else None
    text = tuple(line.removeprefix("- ") for line in report.said)
    section = Section(
        report.title, () if axes is not None else text[1:], (axes,) if axes is not None else (),
        {} if report.shown.equals(report.result.to_frame()) else {"All rows": report.result.to_frame()},
        folded=("All rows",),
    )  # fmt: skip
    found = text[:1] if axes is None else text
    return render_report(title, report.question, report.shown, [section], caption=report.caption, findings=found)


def _shown_daily(result: DailyUsersResult) -> tuple[str, pd.DataFrame]:
    """The last days, a column per variant."""
    columns = {variant: result.users[-_RECENT:, k] for k, variant in enumerate(result.variant)}
    names = {"all": "users"} if len(result.variant) == 1 else {}
    table = pd.DataFrame({"day": list(result.day[-_RECENT:]), **{names.get(k, k): v for k, v in columns.items()}})
    n = len(table)
    caption = f"the last {n} of {result.n_days:,} days (UTC)" if n < result.n_days else f"{n} days (UTC)"
    return caption, table


def _shown_funnel(result: ConversionFunnelResult) -> tuple[str, pd.DataFrame]:
    """A row per variant and step, shares as text."""
    frame = result.to_frame()
    table = pd.DataFrame({"step": frame["step"], "units": frame["count"]})
    for column, low, high, name in (
        ("of_all", "of_all_low", "of_all_high", f"of {result.step[0]}"),
        ("of_previous", "of_previous_low", "of_previous_high", "of the step before"),
    ):
        triples = zip(frame[column], frame[low], frame[high], strict=True)
        table[name] = [_interval(value, a, b) for value, a, b in triples]
    table.loc[frame["step"] == result.step[0], f"of {result.step[0]}"] = "100%"
    if len(result.arm) > 1:
        table.insert(0, "variant", frame["variant"])
    known = pd.notna(frame["of_all_low"]).any()
    return f"how many took the steps in order{', with intervals in percent' if known else ''}", table


def _interval(value: float, low: float, high: float) -> str:
    if value != value:
        return "–"
    bounds = "" if low != low else f" [{100 * low:.3g}, {100 * high:.3g}]"
    return f"{100 * value:.3g}%{bounds}"


def _shown_cohorts(result: CohortRetentionResult) -> tuple[str, pd.DataFrame]:
    """A row per cohort, the last ones, and one of all users."""
    rows = slice(-_RECENT, None)
    shares = {
        f"day {day}": [*map(_percent, result.retention[rows, k]), _percent(result.overall[k])]
        for k, day in enumerate(result.day.tolist())
    }
    table = pd.DataFrame({
        result.period: [*result.cohort[rows], "all"], "users": [*result.size[rows].tolist(), result.n_obs], **shares
    })  # fmt: skip
    n, of = len(table) - 1, len(result.cohort)
    counted = f"the last {n} of {of:,} cohorts" if n < of else f"{of} cohort{'s' * (of != 1)}"
    return f"{counted} by {result.period} of the first day; – where the log ends before", table


def _percent(value: float) -> str:
    return "–" if value != value else f"{value:.1%}"


def _shown_revenue(result: RevenueResult) -> tuple[str, pd.DataFrame]:
    frame = result.to_frame().head(2 * _RECENT)
    of = len(result.segment)
    caption = f"the first {len(frame)} of {of:,} segments" if len(frame) < of else f"{of} segment{'s' * (of != 1)}"
    frame["share"] = [_percent(float(share)) for share in frame["share"]]
    for amount in ("revenue", "per_user", "per_buyer"):
        frame[amount] = ["–" if x != x else f"{x:,.2f}" for x in frame[amount]]
    return f"{caption} of {result.column}", frame.rename(columns={"segment": result.column})


def _shown_quality(result: QualityResult) -> tuple[str, pd.DataFrame]:
    frame = result.to_frame()
    frame["share"] = [f"{share:.2%}" if share >= 5e-5 or share == 0 else f"{share:.1e}" for share in frame["share"]]
    return result.rules, frame


def _credit(data: Any, **options: Any) -> Result:
    from causalrec.pipelines.attribution import run_credit

    return run_credit(data, **options)


def _attribution(data: Any, attributes: Any = None, **options: Any) -> Result:
    from causalrec.pipelines.attribution import run_attribution

    return run_attribution(data, users=attributes, **options)


def _shown_credit(result: Any) -> tuple[str, pd.DataFrame]:
    from causalrec.pipelines.attribution import shown_credit

    return shown_credit(result)


def _shown_attribution(result: Any) -> tuple[str, pd.DataFrame]:
    from causalrec.pipelines.attribution import shown_attribution

    return shown_attribution(result)


REPORTS: Mapping[str, _Kind] = {
    "dau": _Kind(daily_active_users, "Daily active users", "How many users are there every day?", _shown_daily,
                 "plot_daily_users"),
    "funnel": _Kind(conversion_funnel, "Conversion funnel", "How far do they get?", _shown_funnel,
                    "plot_funnel_sankey"),
    "retention": _Kind(cohort_retention, "Retention", "Who comes back?", _shown_cohorts, "plot_cohorts"),
    "revenue": _Kind(revenue_by_segment, "Revenue", "Where does the revenue come from?", _shown_revenue,
                     "plot_revenue"),
    "credit": _Kind(_credit, "Credit", "Which channels do rules credit?", _shown_credit, "plot_credit"),
    "attribution": _Kind(_attribution, "Attribution", "What did channels cause, and what do rules credit them with?",
                         _shown_attribution, "plot_attribution"),
    "quality": _Kind(check_quality, "Data quality", "Is this log fit to be analysed?", _shown_quality, None),
}  # fmt: skip
