"""Credit for conversions by rule: first touch, last touch, linear, position based, time decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, TimeError
from causalrec.journeys._credit_log import Columns, Log, open_log, user_sql
from causalrec.journeys._credit_sql import Settings
from causalrec.journeys._tables import ROW, Duration, parse_duration
from causalrec.results import NO_CHANNEL, CreditResult

RULES = ("first_touch", "last_touch", "linear", "position_based", "time_decay")
_ONCE = "first_touch"  # gives each conversion that has a touch to one of them


def credit(
    touches: Any,
    conversions: Any,
    *,
    rule: str = "last_touch",
    rules: Sequence[str] | None = None,
    window: Duration | None = "30d",
    half_life: Duration = "7d",
    position: tuple[float, float, float] = (0.4, 0.2, 0.4),
    user: str = "user_id",
    channel: str = "channel",
    event_time: str = "event_time",
    conversion_time: str | None = None,
    order_by: str | Sequence[str] = (),
    value: str | None = None,
    engine: Engine | None = None,
) -> CreditResult:
    """Share out conversions among the channels that touched their users before.

    A touch counts for a conversion of the same user at t if it is in ``[t - window, t)``: strictly before, and one at
    exactly ``t - window`` counts. Touches that tie in time are in the order of ``order_by``, then of the channels'
    names; what ties then is of one channel, so no order of rows matters. Conversions without a touch are credited to
    ``"(none)"``, so that by every rule the credit adds up to the conversions.

    Parameters
    ----------
    touches, conversions : table
        pandas, Polars or Arrow tables, Spark DataFrames, paths of files, or names of tables of ``engine``.
    rule : str
        ``"first_touch"``, ``"last_touch"``: all to one. ``"linear"``: equal shares. ``"position_based"``: see
        ``position``. ``"time_decay"``: a touch counts half as much as one that is ``half_life`` later.
    rules : sequence of str, optional
        Several at once, instead of ``rule``, in one scan; :data:`RULES` has all.
    window : str, timedelta or None
        ``"30d"``, ``"90m"``, …; None for all time.
    half_life : str or timedelta
    position : three numbers that add up to 1
        Shares of the first touch, of all between together, and of the last. One touch has all; of two, the first and
        the last keep the ratio of their shares (half each where both are 0).
    user, channel, event_time : str
        Columns of the touches; ``user`` and ``event_time`` of the conversions too.
    conversion_time : str, optional
        The time in the conversions, where it has another name.
    order_by : str or sequence of str
        Columns of the touches that break ties in time, nulls first.
    value : str, optional
        A column of the conversions whose values are shared out too.
    engine : Engine, optional

    Returns
    -------
    CreditResult
        Touches without a user or time are left out and counted; conversions without are nobody's, and counted.

    Raises
    ------
    CausalRecError
        For unknown rules and positions that are no shares.
    TimeError
        For times that are no timestamps, windows and half-lives that are not positive.
    ColumnError
        For columns that are missing, users of another type in one table than in the other, and touches without a
        channel or with one named ``"(none)"``.
    OutcomeError
        For values that are missing or infinite.

    Notes
    -----
    A rule shares out what happened. What a channel caused it cannot say: a channel that is aimed at users who would
    convert anyway has credit for them. See :func:`causalrec.pipelines.attribution.compare_attribution`.

    Examples
    --------
    >>> touches = pd.DataFrame({
    ...     "user_id": [1, 1, 2], "channel": ["email", "search", "email"],
    ...     "event_time": pd.to_datetime(["2025-01-01", "2025-01-08", "2025-01-09"]),
    ... })
    >>> conversions = pd.DataFrame({
    ...     "user_id": [1, 2], "event_time": pd.to_datetime(["2025-01-09", "2025-01-08"]),
    ... })
    >>> print(credit(touches, conversions, rules=["last_touch", "linear"]))
    Credit for 2 conversions by rule, touches of the 30d before each; 1 without any touch
      channel  last touch  linear
      email           0.0     0.5
      search          1.0     0.5
      (none)          1.0     1.0
      all               2       2
      A rule shares out conversions; it does not say what a channel caused.
    """
    asked, settings = asked_rules(rule, rules), rule_settings(window, half_life, position)
    columns = Columns(user, channel, event_time, conversion_time or event_time, ties(order_by), value)
    with open_log(touches, conversions, columns, engine) as log:
        found = credit_of(log, asked, settings)
    return replace(found, window="all time" if window is None else written(window), half_life=written(half_life))


def credit_by_conversion(
    touches: Any,
    conversions: Any,
    *,
    rule: str = "last_touch",
    rules: Sequence[str] | None = None,
    window: Duration | None = "30d",
    half_life: Duration = "7d",
    position: tuple[float, float, float] = (0.4, 0.2, 0.4),
    user: str = "user_id",
    channel: str = "channel",
    event_time: str = "event_time",
    conversion_time: str | None = None,
    order_by: str | Sequence[str] = (),
    engine: Engine | None = None,
) -> Any:
    """The conversions with the share that each channel has in them: a row per conversion and channel.

    Parameters, rules and errors are those of :func:`credit`.

    Returns
    -------
    table
        The columns of the conversions, ``channel``, and a column per rule whose values add up to 1 over the rows of a
        conversion; ``"(none)"`` has the conversions without a touch. pandas (in the order of the conversions), Polars
        or Spark, as the touches are.

    Examples
    --------
    >>> touches = pd.DataFrame({
    ...     "user_id": [1, 1], "channel": ["email", "search"],
    ...     "event_time": pd.to_datetime(["2025-01-01", "2025-01-08"]),
    ... })
    >>> later = pd.to_datetime(["2025-01-15", "2025-01-15"])
    >>> orders = pd.DataFrame({"order": ["a", "b"], "user_id": [1, 2], "event_time": later})
    >>> credit_by_conversion(touches, orders, rule="time_decay")[["order", "channel", "time_decay"]]
      order channel  time_decay
    0     a   email    0.333333
    1     a  search    0.666667
    2     b  (none)    1.000000
    """
    asked, settings = asked_rules(rule, rules), rule_settings(window, half_life, position)
    columns = Columns(user, channel, event_time, conversion_time or event_time, ties(order_by), None)
    with open_log(touches, conversions, columns, engine, whole=True) as log:
        table, q = log.tables["conversions"], log.tables.dialect.quote
        table.check_free(["channel", *asked])
        shares = log.credit_sql("__u, __t, __channel", asked, settings, once=True)
        kept = ", ".join(table.column(c, "s") for c in table.kinds if c != ROW)
        given = ", ".join(f"COALESCE(p.__one_{i}, 1e0) AS {q(r)}" for i, r in enumerate(asked))
        return log.tables.frame(
            f"SELECT {kept}, COALESCE(p.__channel, {log.tables.dialect.literal(NO_CHANNEL)}) AS channel, {given} "
            f"FROM {table.sql} s LEFT JOIN ({shares}) p "
            f"ON p.__u = {user_sql(table, user, 's')} AND p.__t = {table.micros(columns.conversion_time, 's')}"
            + (f" ORDER BY s.{ROW}, p.__channel" if table.numbered else "")
        )


def credit_of(log: Log, rules: Sequence[str], settings: Settings) -> CreditResult:
    """The credit of a log that is open, without the words for the lengths of time."""
    found = log.tables.collect(log.credit_sql("__channel", (*rules, _ONCE), settings))
    names = log.tables.collect(f"SELECT DISTINCT __channel AS channel FROM {log.touches}")["channel"]
    channels = sorted(map(str, names))
    table = found.set_index("__channel").reindex(channels)
    shared = _with_rest(table, "__n", log.n_conversions)
    return CreditResult(
        n_conversions=log.n_conversions, n_touched=round(log.n_conversions - shared[-1, -1]), n_touches=log.n_touches,
        n_touches_left_out=log.n_touches_left_out, n_conversions_without_user=log.n_conversions_without_user,
        window="", half_life="", total_value=log.total_value, channels=(*channels, NO_CHANNEL), rules=tuple(rules),
        credit=shared[:, :-1],
        value=_with_rest(table, "__v", log.total_value)[:, :-1] if len(log.weights) > 1 else None,
    )  # fmt: skip


# --- what is asked --------------------------------------------------------------------------------------------------


def asked_rules(rule: str, rules: Sequence[str] | None) -> tuple[str, ...]:
    """The rules that are asked for, or an error that names the nearest."""
    if isinstance(rules, str):
        raise CausalRecError(f"rules is the text {rules!r}; expected a list of rules: [{rules!r}], or rule={rules!r}.")
    asked = (rule,) if rules is None else tuple(dict.fromkeys(rules))
    unknown = [r for r in asked if r not in RULES]
    if unknown:
        raise CausalRecError(
            f"rule is {unknown[0]!r}; expected one of {list_some(RULES)}.{nearest(str(unknown[0]), RULES)}"
        )
    if not asked:
        raise CausalRecError(f"rules is empty; expected some of {list_some(RULES)}.")
    return asked


def rule_settings(window: Duration | None, half_life: Duration, position: tuple[float, float, float]) -> Settings:
    """Lengths in microseconds, and shares that add up to 1, or an error that says what was found."""
    lengths = {"window": window, "half_life": half_life}
    found = {name: None if w is None else parse_duration(w, name=name) for name, w in lengths.items()}
    zero = [name for name, length in found.items() if length == 0]
    if zero:
        raise TimeError(f"{zero[0]} is {lengths[zero[0]]!r}; expected a length of time above zero, such as '7d'.")
    if found["half_life"] is None:
        raise TimeError("half_life is None; expected a length of time, such as '7d'. Without decay take rule='linear'.")
    return Settings(found["window"], found["half_life"], _position(position))


def _position(position: Any) -> tuple[float, float, float]:
    shares = np.asarray(position, dtype=object).ravel()
    numbers = all(isinstance(s, int | float | np.number) and not isinstance(s, bool) for s in shares)
    ok = len(shares) == 3 and numbers and min(shares) >= 0 and abs(float(sum(shares)) - 1) <= 1e-9
    if not ok:
        raise CausalRecError(
            f"position is {position!r}; expected three shares of at least 0 that add up to 1, of the first touch, of "
            "those between and of the last, such as (0.4, 0.2, 0.4)."
        )
    return float(shares[0]), float(shares[1]), float(shares[2])


def ties(order_by: str | Sequence[str]) -> tuple[str, ...]:
    """Columns that break ties, as a tuple."""
    return (order_by,) if isinstance(order_by, str) else tuple(order_by)


def written(duration: Duration) -> str:
    """A length of time for a person."""
    return duration if isinstance(duration, str) else str(pd.Timedelta(duration))


def _with_rest(table: pd.DataFrame, weight: str, total: float) -> FloatArray:
    """A row per channel and, last, what no touch precedes; a column per rule. Each column adds up to the total."""
    shared = table[[c for c in table.columns if c.startswith(f"{weight}_")]].fillna(0.0).to_numpy(dtype=np.float64)
    rest = total - shared[:, -1].sum()  # the last column has each conversion once
    return np.vstack([shared, np.full(shared.shape[1], rest)])
