"""``causalrec report``: what a log shows before anything is estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from causalrec.cli.options import EngineOption, MasterOption

report_app = typer.Typer(
    help="Reports on a log of events: daily users, funnel, retention, revenue, channels, and whether the log is sound.",
    no_args_is_help=True,
)

DataOption = Annotated[Path, typer.Option("--data", "-d", help="The log: a Parquet or CSV file or directory.")]
UserOption = Annotated[str, typer.Option("--user", help="The column of users.")]
TimeOption = Annotated[str, typer.Option("--event-time", help="The column of times (naive ones are UTC).")]
TypeOption = Annotated[str | None, typer.Option("--event-type", help="The column of types of events.")]
ActiveOption = Annotated[
    str | None, typer.Option("--active", help="Types of events that count, as view,cart (default: all).")
]
VariantOption = Annotated[str | None, typer.Option("--variant", help="The column of variants, of the log or --users.")]
UsersOption = Annotated[
    Path | None, typer.Option("--users", help="A table with a row per user, such as who was assigned what.")
]
StepsOption = Annotated[
    str | None, typer.Option("--steps", help="Types of events in order, as view,cart,buy (default: by their names).")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write a page (.html) or the whole table (.csv, .parquet).")
]
ConversionsOption = Annotated[
    Path | None, typer.Option("--conversions", help="A table of conversions (default: events of the log).")
]
ChannelOption = Annotated[str, typer.Option("--channel", help="The column of channels.")]
ConversionOption = Annotated[str, typer.Option("--conversion", help="The type of event that is a conversion.")]
KindOption = Annotated[str, typer.Option("--event-type", help="The column of types of events.")]
HalfLifeOption = Annotated[str, typer.Option("--half-life", help="Of the rule of time decay.")]


@report_app.command("dau")
def report_dau(
    data: DataOption,
    user: UserOption = "user_id",
    event_time: TimeOption = "event_time",
    event_type: TypeOption = None,
    active: ActiveOption = None,
    variant: VariantOption = None,
    users: UsersOption = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Daily active users, by variant."""
    _report(
        "dau", data, output, engine, master, attributes=users, user=user, event_time=event_time,
        event_type=_type_of(event_type, active), active=_listed(active), variant=variant,
    )  # fmt: skip


@report_app.command("funnel")
def report_funnel(
    data: DataOption,
    user: UserOption = "user_id",
    item: Annotated[str, typer.Option("--item", help="The column of items.")] = "item_id",
    event_time: TimeOption = "event_time",
    event_type: KindOption = "event_type",
    steps: StepsOption = None,
    unit: Annotated[str, typer.Option("--unit", help="user, or user_item: all steps about one item.")] = "user",
    window: Annotated[str, typer.Option("--window", help="How long all steps may take, as 30m, 12h or 7d.")] = "7d",
    variant: VariantOption = None,
    control: Annotated[str | None, typer.Option("--control", help="The variant that comes first.")] = None,
    users: UsersOption = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Conversion funnel: who took the steps in order within a window, by variant."""
    _report(
        "funnel", data, output, engine, master, attributes=users, user=user, item=item, event_time=event_time,
        event_type=event_type, steps=_listed(steps), unit=unit, window=window, variant=variant, control=control,
    )  # fmt: skip


@report_app.command("retention")
def report_retention(
    data: DataOption,
    user: UserOption = "user_id",
    event_time: TimeOption = "event_time",
    event_type: TypeOption = None,
    active: ActiveOption = None,
    days: Annotated[str, typer.Option("--days", help="Days after the first.")] = "1,7,14,30,60",
    period: Annotated[str, typer.Option("--period", help="Cohorts by day, week or month.")] = "week",
    end: Annotated[
        str | None, typer.Option("--end", help="The midnight at which the log ends (default: after the last event).")
    ] = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Cohort retention: who was active exactly so many days after the first."""
    _report(
        "retention", data, output, engine, master, user=user, event_time=event_time, days=_numbers(days),
        event_type=_type_of(event_type, active), active=_listed(active), period=period, end=end,
    )  # fmt: skip


@report_app.command("revenue")
def report_revenue(
    data: DataOption,
    segment: Annotated[str, typer.Option("--segment", help="The column of segments, of the log or --users.")],
    revenue: Annotated[str, typer.Option("--revenue", help="The column of amounts.")] = "revenue",
    user: UserOption = "user_id",
    users: UsersOption = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Revenue, buyers and purchases by segment."""
    _report("revenue", data, output, engine, master, attributes=users, segment=segment, revenue=revenue, user=user)


@report_app.command("quality")
def report_quality(
    data: DataOption,
    user: UserOption = "user_id",
    item: Annotated[str | None, typer.Option("--item", help="The column of items.")] = None,
    event_time: TimeOption = "event_time",
    event_type: TypeOption = None,
    variant: Annotated[str | None, typer.Option("--variant", help="The column of variants.")] = None,
    arrival: Annotated[str | None, typer.Option("--arrival", help="The column of when events came in.")] = None,
    registered: Annotated[str | None, typer.Option("--registered", help="The column of when users came.")] = None,
    steps: StepsOption = None,
    now: Annotated[str | None, typer.Option("--now", help="Later events are in the future (default: now).")] = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """What is wrong with a log: nulls, copies, several variants, clocks, bots, order."""
    _report(
        "quality", data, output, engine, master, user=user, item=item, event_time=event_time, event_type=event_type,
        variant=variant, arrival=arrival, registered=registered, steps=_listed(steps), now=now,
    )  # fmt: skip


@report_app.command("credit")
def report_credit(
    data: DataOption,
    conversions: ConversionsOption = None,
    channel: ChannelOption = "channel",
    conversion: ConversionOption = "purchase",
    event_type: KindOption = "event_type",
    user: UserOption = "user_id",
    event_time: TimeOption = "event_time",
    rules: Annotated[
        str | None, typer.Option("--rules", help="As last_touch,linear (default: all that there are).")
    ] = None,
    window: Annotated[str, typer.Option("--window", help="How long before a conversion a touch counts.")] = "30d",
    half_life: HalfLifeOption = "7d",
    value: Annotated[str | None, typer.Option("--value", help="The column of what conversions are worth.")] = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """How rules share out conversions among channels: first and last touch, linear, position-based, time decay."""
    _report(
        "credit", data, output, engine, master, conversions=conversions, channel=channel, conversion=conversion,
        event_type=event_type, user=user, event_time=event_time, rules=_listed(rules), window=window,
        half_life=half_life, value=value,
    )  # fmt: skip


@report_app.command("attribution")
def report_attribution(
    data: DataOption,
    start: Annotated[str, typer.Option("--start", help="First day of the touches that are asked about.")],
    end: Annotated[str, typer.Option("--end", help="The day after the last.")],
    conversions: ConversionsOption = None,
    channel: ChannelOption = "channel",
    conversion: ConversionOption = "purchase",
    event_type: KindOption = "event_type",
    user: UserOption = "user_id",
    event_time: TimeOption = "event_time",
    users: UsersOption = None,
    covariates: Annotated[
        str | None, typer.Option("--covariates", help="Columns of --users that were known before, as age,region.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="How effects are estimated.")] = "aipw",
    outcome_window: Annotated[
        str, typer.Option("--outcome-window", help="How long after the period conversions count.")
    ] = "14d",
    half_life: HalfLifeOption = "7d",
    value: Annotated[str | None, typer.Option("--value", help="The column of what conversions are worth.")] = None,
    output: OutputOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """What channels caused, with intervals, beside the credit that rules give them."""
    _report(
        "attribution", data, output, engine, master, attributes=users, start=start, end=end, conversions=conversions,
        channel=channel, conversion=conversion, event_type=event_type, user=user, event_time=event_time,
        covariates=_listed(covariates), method=method, outcome_window=outcome_window, half_life=half_life, value=value,
    )  # fmt: skip


def _report(name: str, data: Path, output: Path | None, engine: str, master: str | None, **options: Any) -> None:
    from causalrec.pipelines.display import ConsoleReporter
    from causalrec.pipelines.display_reports import print_log_report
    from causalrec.pipelines.reports import write_log_report

    reporter = ConsoleReporter()
    found = write_log_report(name, data, output=output, engine=engine, master=master, reporter=reporter, **options)
    print_log_report(found, reporter.console)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _type_of(event_type: str | None, active: str | None) -> str | None:
    """The column of types, by its usual name where only types are named."""
    return "event_type" if event_type is None and active is not None else event_type


def _numbers(text: str) -> list[int]:
    from causalrec.exceptions import ConfigError

    try:
        return [int(part) for part in _listed(text) or []]
    except ValueError as error:
        raise ConfigError(f"--days is {text!r}; expected whole numbers with commas between, such as 1,7,30.") from error
