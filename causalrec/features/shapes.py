"""The shapes that the query of a feature set can take; all give one row per key and time that is asked for.

- Joined: asked rows and the events before them, grouped. For keys with few events or few asked rows.
- Running and windowed: both in one table, sorted once. What can be taken away from a running total is the difference
  of two of them; the rest are RANGE windows, whose ends are slow to find. For keys with many of both.
- Daily: events of a key and day are aggregated first, and ROWS windows go over the table of all keys and days. For
  grids of midnights.

``[t - w, t)`` is on integer microseconds throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from causalrec.features.days import DAY_US
from causalrec.features.plan import Plan, heavy_sql, part_names, split_sql, time_condition
from causalrec.features.spec import Aggregation, parse_window
from causalrec.features.sql import Values, bracketed, days_of, is_daily, reach_of

_NONE_IS_ZERO = ("count", "sum", "n_unique")
_SAFE = 2**62  # differences of times up to it stay within 64 bits


def events_relation(values: Values, asked: str, plan: Plan, *, ahead: bool = False) -> str:
    """SQL with one row per row of the table ``asked`` (keys ``__k0``, …, and ``__t``), and the features of it."""
    query = _Query(values, asked, plan, ahead)
    aggregations = values.features.aggregations
    daily = [a for a in aggregations if plan.daily and is_daily(a)]
    others = [a for a in aggregations if a not in daily]
    if daily and others:
        first, second = query.by_day(daily), query.by_event(others)
        relation = query.side_by_side(first, daily, second, others, values.asked)
    else:
        relation = query.by_day(daily) if daily else query.by_event(others)
    relation = _with_narrow_sums(values, relation)
    if not values.features.computed:
        return relation
    q = values.dialect.quote
    computed = ", ".join(f"{bracketed(sql)} AS {q(name)}" for name, sql in values.features.computed.items())
    return f"SELECT *, {computed} FROM ({relation}) found"


def _with_narrow_sums(values: Values, relation: str) -> str:
    """Sums of integers as integers of 64 bits, or an error: cut to them they would be other numbers.

    Here and not where they are summed, which is done for rows that nobody asks for too.
    """
    aggregations, d = values.features.aggregations, values.dialect
    if not any(a.op == "sum" and not values.is_float(a) for a in aggregations):
        return relation
    columns = [*values.asked]
    for a in aggregations:
        label = d.quote(a.label)
        if a.op != "sum" or values.is_float(a):
            columns.append(label)
            continue
        beyond = d.failure(
            f"feature set {values.features.name!r}: {a.label!r} is a sum of integers that leaves 64 bits; sum a "
            f"derived column instead, such as CAST({a.column} AS DOUBLE)."
        )
        columns.append(f"COALESCE(TRY_CAST({label} AS BIGINT), {beyond}) AS {label}")
    return f"SELECT {', '.join(columns)} FROM ({relation}) wide"


@dataclass(frozen=True)
class _Window:
    """How an aggregate sees its window: by a condition on each row of a group, or by a frame."""

    condition: str = ""
    frame: str = ""

    def inside(self, value: str) -> str:
        return f"CASE WHEN {self.condition} THEN {value} END" if self.condition else value

    def aggregate(self, function: str, *arguments: str) -> str:
        return f"{function}({', '.join([*arguments[:-1], self.inside(arguments[-1])])}){self.frame}"


@dataclass(frozen=True)
class _DayWindow(_Window):
    """A window over days; what each day must be aggregated to is noted in ``parts``, by its SQL."""

    parts: dict[str, str] = field(default_factory=dict)

    def aggregate(self, function: str, *arguments: str) -> str:
        part = self._part(f"{function}({', '.join(arguments)})")
        if function == "COUNT":
            return f"CAST(SUM({part}){self.frame} AS BIGINT)"
        if function in ("max_by", "min_by"):
            order = self._part(f"{function[:3].upper()}({arguments[1]})")
            return f"{function}({part}, {order}){self.frame}"
        return f"{function}({part}){self.frame}"

    def _part(self, sql: str) -> str:
        return self.parts.setdefault(sql, f"__p{len(self.parts)}")


@dataclass(frozen=True)
class _RunningWindow(_Window):
    """A window as what has run up to its end less what had run up to its start, the ``edge`` of that number.

    Without an edge, or for a latest value that lies after ``since``, only the end matters. The running aggregates that
    are needed are noted in ``parts``, by their SQL.
    """

    edge: int = 0
    since: str = ""
    ahead: bool = False
    parts: dict[str, str] = field(default_factory=dict)

    def aggregate(self, function: str, *arguments: str) -> str:
        found = self._at(0, f"{function}({', '.join(arguments)})")
        if function in ("COUNT", "SUM"):
            start = self._at(self.edge, f"{function}({arguments[0]})") if self.edge else "0"
            return f"({start} - {found})" if self.ahead else f"({found} - {start})"
        latest = found if function == "MAX" else self._at(0, f"MAX(CASE WHEN {arguments[0]} IS NOT NULL THEN __e END)")
        return f"CASE WHEN {latest} >= {self.since} THEN {found} END" if self.since else found

    def _at(self, edge: int, running: str) -> str:
        part = self.parts.setdefault(running, f"__p{len(self.parts)}")
        zero = ", 0" if running.startswith(("COUNT", "SUM")) else ""
        return f"MAX(CASE WHEN __edge = {edge} THEN COALESCE({part}{zero}) END)"


@dataclass(frozen=True)
class _Query:
    values: Values
    asked: str
    plan: Plan
    ahead: bool

    def by_event(self, aggregations: Sequence[Aggregation]) -> str:
        """Each key by the shape that is cheaper for it."""
        if not self.plan.windowed:
            return self._for_all(self._joined(aggregations, self.asked), aggregations)
        if not self.plan.joined:
            return self._for_all(self._heavy(aggregations, self.asked), aggregations)
        return self._for_all(self._by_weight(aggregations), aggregations)

    def _by_weight(self, aggregations: Sequence[Aggregation]) -> str:
        by = ", ".join(self.values.keys)
        asking = f"SELECT {by}, COUNT(*) AS ns FROM {self.asked} GROUP BY {by}"
        inside = time_condition(self.values, self.plan)
        events = f"SELECT {by}, COUNT(*) AS ne FROM ({self.values.select(inside)}) e GROUP BY {by}"
        heavy = (
            f"SELECT {self._keys('a')} FROM ({asking}) a JOIN ({events}) e ON {self._same('a', 'e')} "
            f"WHERE {heavy_sql()}"
        )
        chosen = f"SELECT {', '.join(f'a.{c}' for c in self.values.asked)} FROM {self.asked} a"
        return (
            f"WITH heavy AS ({heavy}), "
            f"many AS ({chosen} JOIN heavy h ON {self._same('a', 'h')}), "
            f"few AS ({chosen} LEFT JOIN heavy h ON {self._same('a', 'h')} WHERE h.__k0 IS NULL) "
            f"{self._joined(aggregations, 'few')} UNION ALL {self._heavy(aggregations, 'many')}"
        )

    def by_day(self, aggregations: Sequence[Aggregation]) -> str:
        """ROWS windows over all days that the asked ones can see; a day of its own holds all that came before."""
        d, by = self.values.dialect, ", ".join(self.values.keys)
        start, end = self._days(aggregations)
        windows: dict[str, str] = {}
        features = ", ".join(
            self._feature(a, _DayWindow(frame=self._day_frame(a), parts=windows), "__t") for a in aggregations
        )
        parts = ", ".join(f"{sql} AS {name}" for sql, name in windows.items())
        day = f"GREATEST(__e - (__e % {DAY_US} + {DAY_US}) % {DAY_US}, {start})"
        days = f"SELECT {d.steps(start, end + DAY_US, DAY_US)} AS __t"
        summed = f"SELECT {by}, {day} AS __t, {parts} FROM ({self._events(self.asked)}) e GROUP BY {by}, {day}"
        return (
            f"WITH cells AS (SELECT {self._keys('k')}, d.__t FROM (SELECT DISTINCT {by} FROM {self.asked}) k "
            f"CROSS JOIN ({days}) d), "
            f"filled AS (SELECT {self._keys('c')}, c.__t, {', '.join(windows.values())} FROM cells c "
            f"LEFT JOIN ({summed}) p ON {self._same('c', 'p')} AND c.__t = p.__t), "
            f"rolled AS (SELECT {by}, __t, {features} FROM filled) "
            f"SELECT {self._asked_beside('r', aggregations)} FROM {self.asked} a LEFT JOIN rolled r "
            f"ON {self._same('a', 'r')} AND a.__t = r.__t"
        )

    def side_by_side(
        self,
        first: str,
        first_has: Sequence[Aggregation],
        second: str,
        second_has: Sequence[Aggregation],
        columns: Sequence[str],
    ) -> str:
        """Two relations of the same rows as one, with some columns, features in the order of the declaration."""
        features = [
            f"{'x' if a in first_has else 'y'}.{self.values.dialect.quote(a.label)}"
            for a in self.values.features.aggregations
            if a in first_has or a in second_has
        ]
        same = " AND ".join(f"x.{c} IS NOT DISTINCT FROM y.{c}" for c in self.values.identity)
        selected = ", ".join([*(f"x.{c}" for c in columns), *features])
        return f"SELECT {selected} FROM ({first}) x JOIN ({second}) y ON {same}"

    def _for_all(self, found: str, aggregations: Sequence[Aggregation]) -> str:
        """Features of numbered rows beside all that ask; those that are told apart by keys and time are complete."""
        if not self.values.dialect.keeps_rows:
            return found
        return (
            f"SELECT {self._asked_beside('f', aggregations)} FROM {self.asked} a LEFT JOIN ({found}) f ON a.__r = f.__r"
        )

    def _asked_beside(self, table: str, aggregations: Sequence[Aggregation]) -> str:
        """Columns of the asked rows and the features of a table that may lack some of them."""
        columns = [f"a.{c}" for c in self.values.asked]
        for a in aggregations:
            label = self.values.dialect.quote(a.label)
            found = f"{table}.{label}"
            columns.append(f"{f'COALESCE({found}, 0)' if a.op in _NONE_IS_ZERO else found} AS {label}")
        return ", ".join(columns)

    def _joined(self, aggregations: Sequence[Aggregation], asked: str) -> str:
        """Without rows that have no event where they are numbered: these come back in :meth:`_for_all`."""
        reach, numbered = reach_of(aggregations), self.values.dialect.keeps_rows
        time = "MAX(a.__t)" if numbered else "a.__t"
        features = ", ".join(self._feature(a, self._join_window(a, reach), time) for a in aggregations)
        events = self._events(asked if self.plan.tied else None)
        by = ", ".join(f"a.{c}" for c in self.values.identity)
        return (
            f"SELECT {by}, {features} FROM {asked} a {'' if numbered else 'LEFT '}JOIN ({events}) e "
            f"ON {self._same('a', 'e')} AND {self._within(reach)} GROUP BY {by}"
        )

    def _within(self, reach: int | None) -> str:
        """Whether an event is within reach of an asked row, where that is safe by one number.

        DuckDB looks at a comparison of one side with the other for each pair of rows, and at an expression of both for
        a batch of them.
        """
        known = self.plan.asked
        if reach is not None and known.last - known.first + reach < _SAFE:
            return f"e.__e - a.__t BETWEEN 0 AND {reach - 1}" if self.ahead else f"a.__t - e.__e BETWEEN 1 AND {reach}"
        after = f"e.__e >= a.__t{'' if self.ahead else f' - {reach}'}"
        before = f"e.__e < a.__t{f' + {reach}' if self.ahead else ''}"
        return before if reach is None else f"{before} AND {after}"

    def _join_window(self, aggregation: Aggregation, reach: int | None) -> _Window:
        width = parse_window(aggregation.window) if aggregation.window else None
        if width == reach:
            return _Window()
        return _Window(condition=f"e.__e < a.__t + {width}" if self.ahead else f"e.__e >= a.__t - {width}")

    def _heavy(self, aggregations: Sequence[Aggregation], asked: str) -> str:
        """By running totals what can be, by windows the rest."""
        running = [a for a in aggregations if self._can_run(a)]
        rest = [a for a in aggregations if a not in running]
        if running and rest:
            first, second = self._running(running, asked), self._windowed(rest, asked)
            return self.side_by_side(first, running, second, rest, self.values.identity)
        return self._running(running, asked) if running else self._windowed(rest, asked)

    def _can_run(self, aggregation: Aggregation) -> bool:
        """Whether a window is a difference of running totals, to the bit, or shows in the latest event."""
        if aggregation.op in ("sum", "mean") and self.values.is_float(aggregation):
            split = self.plan.splits[self.values.name(aggregation)]
            return not split.left and not split.wild
        if aggregation.op == "last":
            return self.values.kinds[str(aggregation.column)] != "other"
        return aggregation.op in ("count", "sum", "mean", "recency")

    def _running(self, aggregations: Sequence[Aggregation], asked: str) -> str:
        """Totals of all earlier events at ends and starts of windows; an edge comes before the events of its time."""
        by, columns = ", ".join(self.values.keys), self._value_columns()
        number, no_number = self._number()
        widths = sorted({parse_window(a.window) for a in aggregations if a.window})
        starts = {w: i for i, w in enumerate(widths, start=1)}
        parts: dict[str, str] = {}
        features = ", ".join(self._feature(a, self._running_window(a, starts, parts), "__t") for a in aggregations)
        nothing = ", ".join(f"NULL AS {c}" for c in columns)
        events = f"SELECT {no_number}{by}, NULL AS __t, __e AS __at, NULL AS __edge, {', '.join(columns)}"
        rows = [f"{events} FROM ({self._events(asked)}) e"]
        for edge, shift in ((0, 0), *((i, w if self.ahead else -w) for w, i in starts.items())):
            rows.append(f"SELECT {number}{by}, __t, __t + {shift} AS __at, {edge} AS __edge, {nothing} FROM {asked}")
        order = "ORDER BY __at, CASE WHEN __edge IS NULL THEN 1 ELSE 0 END"
        over = f"OVER (PARTITION BY {by} {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        totals = ", ".join(f"{sql} {over} AS {name}" for sql, name in parts.items())
        running = f"SELECT {number}{by}, __t, __edge, {totals} FROM ({' UNION ALL '.join(rows)}) u"
        identity = ", ".join(self.values.identity)
        group = ", ".join(dict.fromkeys([*self.values.identity, "__t"]))
        return f"SELECT {identity}, {features} FROM ({running}) r WHERE __edge IS NOT NULL GROUP BY {group}"

    def _running_window(
        self, aggregation: Aggregation, starts: Mapping[int, int], parts: dict[str, str]
    ) -> _RunningWindow:
        if aggregation.window is None:
            return _RunningWindow(parts=parts)
        width = parse_window(aggregation.window)
        return _RunningWindow(edge=starts[width], since=f"__t - {width}", ahead=self.ahead, parts=parts)

    def _windowed(self, aggregations: Sequence[Aggregation], asked: str) -> str:
        by, identity = ", ".join(self.values.keys), ", ".join(self.values.identity)
        columns = self._value_columns()
        number, no_number = self._number()
        events = f"SELECT {no_number}{by}, __e AS __t, {', '.join(columns)} FROM ({self._events(asked)}) e"
        asking = f"SELECT {number}{by}, __t, {', '.join(f'NULL AS {c}' for c in columns)} FROM {asked}"
        features = ", ".join(self._feature(a, _Window(frame=self._range_frame(a)), "__t") for a in aggregations)
        names = ", ".join(self.values.dialect.quote(a.label) for a in aggregations)
        spread = sorted({self.values.name(a) for a in aggregations if a.op == "std"})
        centred = "".join(f", {self._centred(f'{v}_tame')} AS {v}_centred" for v in spread)
        return (
            f"SELECT {identity}, {names} FROM (SELECT {identity}, __e, {features} FROM "
            f"(SELECT *{centred} FROM ({events} UNION ALL {asking}) u) c) w WHERE __e IS NULL"
        )

    def _centred(self, value: str) -> str:
        """A value as seen from the one of its key that is nearest to zero, where that subtraction is exact.

        Deviations would drown in a mean that is large beside them. By Sterbenz's lemma nothing is rounded where the
        values of the key have one sign and the largest is at most twice the smallest; elsewhere they stay.
        """
        key = f" OVER (PARTITION BY {', '.join(self.values.keys)})"
        low, high = f"MIN({value}){key}", f"MAX({value}){key}"
        return (
            f"{value} - CASE WHEN {low} > 0 AND {high} <= 2 * {low} THEN {low} "
            f"WHEN {high} < 0 AND {low} >= 2 * {high} THEN {high} ELSE 0e0 END"
        )

    def _range_frame(self, aggregation: Aggregation) -> str:
        width = parse_window(aggregation.window) if aggregation.window else None
        if self.ahead:
            between = f"CURRENT ROW AND {(width or 1) - 1} FOLLOWING"
        else:
            between = f"{'UNBOUNDED' if width is None else width} PRECEDING AND 1 PRECEDING"
        return f" OVER (PARTITION BY {', '.join(self.values.keys)} ORDER BY __t RANGE BETWEEN {between})"

    def _day_frame(self, aggregation: Aggregation) -> str:
        days = days_of(aggregation)
        if self.ahead:
            between = f"CURRENT ROW AND {days - 1} FOLLOWING"
        else:
            between = f"{days or 'UNBOUNDED'} PRECEDING AND 1 PRECEDING"
        return f" OVER (PARTITION BY {', '.join(self.values.keys)} ORDER BY __t ROWS BETWEEN {between})"

    def _days(self, aggregations: Sequence[Aggregation]) -> tuple[int, int]:
        """The first and the last day that windows see; before them, where they look back, one of all earlier days."""
        longest = max(days_of(a) for a in aggregations)
        first, last = self.plan.asked.first, self.plan.asked.last
        if self.ahead:
            return first, last + (longest - 1) * DAY_US
        return first - (longest + 1) * DAY_US, last

    def _events(self, asked: str | None) -> str:
        inside = time_condition(self.values, self.plan)
        events = self.values.select(inside, asked=asked, ordered=self.plan.tied)
        return split_sql(events, self.plan.splits, self.values.dialect)

    def _value_columns(self) -> list[str]:
        parts = [c for name, split in self.plan.splits.items() for c in (f"{name}_tame", *part_names(name, split))]
        return list(dict.fromkeys(["__e", *self.values.names, *parts, *(["__o"] if self.plan.tied else [])]))

    def _feature(self, aggregation: Aggregation, window: _Window, time: str) -> str:
        label = self.values.dialect.quote(aggregation.label)
        return f"{self._formula(aggregation, window, time)} AS {label}"

    def _formula(self, aggregation: Aggregation, window: _Window, time: str) -> str:
        op, value = aggregation.op, self.values.name(aggregation)
        if op == "count":
            return f"COALESCE({window.aggregate('COUNT', value)}, 0)"
        if op in ("sum", "mean"):
            total = self._total(aggregation, window)
            return total if op == "sum" else f"{total} / NULLIF({window.aggregate('COUNT', value)}, 0)"
        if op in ("min", "max"):
            return window.aggregate(op.upper(), value)
        if op == "recency":
            return f"({time} - {window.aggregate('MAX', value)}) / {DAY_US}e0"
        if op == "n_unique":
            return self.values.dialect.count_distinct(window.inside(value), window.frame)
        if op == "std":
            return self._deviation(value, window)
        order = f"CASE WHEN {value} IS NOT NULL THEN {'__o' if self.plan.tied else '__e'} END"
        return window.aggregate("max_by" if op == "last" else "min_by", value, order)

    def _total(self, aggregation: Aggregation, window: _Window) -> str:
        value = self.values.name(aggregation)
        if not self.values.is_float(aggregation):
            total = self.values.dialect.whole_sum(value, lambda sql: window.aggregate("SUM", sql))
            return f"COALESCE({total}, 0)" if aggregation.op == "sum" else f"CAST({total} AS DOUBLE)"
        parts = part_names(value, self.plan.splits[value])
        return "(" + " + ".join(f"COALESCE({window.aggregate('SUM', p)}, 0e0)" for p in parts) + ")"

    def _deviation(self, value: str, window: _Window) -> str:
        split = self.plan.splits[value]
        tame = window.inside(f"{value}_tame")
        deviation = self.values.dialect.deviation
        found = f"STDDEV_SAMP({value}_centred){window.frame}" if window.frame else deviation(tame)
        if not split.wild:
            return found
        return (
            f"CASE WHEN {window.aggregate('COUNT', f'{value}_wild')} = 0 THEN {found} "
            f"WHEN {window.aggregate('COUNT', value)} > 1 THEN CAST('NaN' AS DOUBLE) END"
        )

    def _number(self) -> tuple[str, str]:
        """The number of an asked row, if rows have one, and that of an event beside it."""
        return ("__r, ", "NULL AS __r, ") if self.values.dialect.keeps_rows else ("", "")

    def _keys(self, table: str) -> str:
        return ", ".join(f"{table}.{k}" for k in self.values.keys)

    def _same(self, a: str, b: str) -> str:
        return " AND ".join(f"{a}.{k} = {b}.{k}" for k in self.values.keys)
