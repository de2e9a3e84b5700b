"""From a table to aggregates: one query serves all metrics of an experiment."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import check_columns, check_not_empty, list_some, nearest
from causalrec.abtest.aggregates import ALL, TREND, UNTRIGGERED, Aggregates, Cell, Key, QuantileSummary
from causalrec.abtest.collection.finest import Finest, KeyLabels, Scan
from causalrec.abtest.collection.plan import Plan, make_plan
from causalrec.abtest.collection.quantiles import quantile_summaries
from causalrec.abtest.collection.sql import Rows, reads
from causalrec.abtest.collection.units import clean_clusters, clean_units, refuse_missing_arms
from causalrec.abtest.metrics import Metric, Quantile
from causalrec.engines.groups import Groups
from causalrec.engines.tables import open_table
from causalrec.exceptions import ColumnError, EngineError, TreatmentError

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment

Arms = Mapping[Hashable, Hashable]  # arm in the table -> arm that it counts as


def collect(experiment: Experiment, table: Any) -> Aggregates:
    """Everything that an analysis needs, from one scan of a table.

    On Spark that is one job. Winsorising, a quantile, a retention metric without ``as_of``, a check of ``unit`` and
    groups whose means are very far apart for their spread take a look of their own at the rows. On the local engine the
    same rows give the same bits, in whatever order.

    Parameters
    ----------
    experiment : Experiment
    table : table
        A pandas frame, a Polars frame or lazy frame, an Arrow table or dataset, a DuckDB relation, a Spark DataFrame,
        the path of Parquet or CSV files, or ``(engine, name)``. Only the columns that are needed are read.

    Raises
    ------
    ColumnError, EngineError, EmptyTableError
        For a table that cannot be read, lacks a column, or has no rows.
    TreatmentError
        For rows without an arm, one arm only, an unknown control, and units in several arms (unless these are dropped).
    OutcomeError
        For missing or infinite values, repeated units, and clusters in several strata.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalrec.abtest import Experiment, Mean
    >>> table = pd.DataFrame({"variant": ["A", "B"] * 50, "clicks": range(100)})
    >>> aggregates = collect(Experiment({"clicks": Mean("clicks")}, variant="variant", control="A"), table)
    >>> aggregates.arms, aggregates.n_rows
    (('A', 'B'), 100)
    """
    with _prepared(experiment, table) as (rows, n_conflicting, n_duplicates):
        plan = make_plan(experiment, rows)
        rows, scan, finest, n_dropped = _scanned(experiment, rows, plan)
        arms = _arms(experiment, finest, rows)
        names = _dimension_names(experiment)
        dimensions = {name: finest.dimension(name, arms) for name in names}
        if not all(groups.exact for groups in dimensions.values()):
            finest, _ = scan.collect(centre_each=True)
            dimensions = {name: finest.dimension(name, arms) for name in names}
        quantiles = _quantiles(experiment, rows, plan, arms, names)
        cells = {name: _cells(name, groups, plan, quantiles.get(name, {})) for name, groups in dimensions.items()}
        n_rows, n_missing, n_immature = plan.counts(finest.everyone())
        return Aggregates(
            cells,
            clustered=experiment.cluster is not None,
            n_rows=n_rows,
            n_conflicting=n_conflicting + n_dropped,
            n_duplicates=n_duplicates,
            n_missing=n_missing,
            n_immature=n_immature,
            nested=finest.nested(experiment.segments),
            thresholds=plan.thresholds,
            as_of=plan.as_of,
        )


class UnitValues(NamedTuple):
    """A metric's numbers for each unit: ``values`` (n, p), the p ``names`` as of ``Cell``, and ``arms`` (n,)."""

    values: FloatArray
    names: tuple[str, ...]
    arms: AnyArray


def unit_values(experiment: Experiment, table: Any, metric: str, *, need_arms: bool = True) -> UnitValues:
    """A metric's numbers for each unit that counts, as an A/A simulation needs them; sums over clusters.

    Without ``need_arms`` the table may have one arm, any arms, or no column of them, as before an experiment.

    Raises as :func:`collect` does; :class:`ColumnError` for a metric that is unknown or has no values per unit.
    """
    chosen = {k: m for k, m in experiment.metrics.items() if isinstance(m, Metric) and not isinstance(m, Quantile)}
    if metric not in chosen:
        raise ColumnError(
            f"metric {metric!r} has no values for each unit; those that have are {list_some(chosen)}."
            f"{nearest(metric, chosen)}"
        )
    with _prepared(experiment, table, need_arms=need_arms) as (rows, _, _):
        plan = make_plan(experiment, rows)
        rows, _, finest, _ = _scanned(experiment, rows, plan)  # for its checks
        arms = _arms(experiment, finest, rows) if need_arms else {arm: arm for arm in finest.arm}
        entry = plan.entries[metric]
        values = [plan.terms[i].value_sql for i in entry.terms]
        arm, source = rows.quote(experiment.variant), f"{rows.sql} x"
        if entry.found.within is not None:
            source += f" WHERE {entry.found.within}"
        group = ""
        if experiment.cluster is not None:
            cluster = rows.quote(experiment.cluster)
            values, arm = [f"SUM({v})" for v in values], f"MIN({arm})"
            group = f" GROUP BY {cluster} ORDER BY {cluster}"
        listed = ", ".join(f"{v} AS x{k}" for k, v in enumerate(values))
        frame = rows.engine.collect(f"SELECT {arm} AS arm, {listed} FROM {source}{group}")
        found = frame[[f"x{k}" for k in range(len(values))]].to_numpy(np.float64)
        return UnitValues(found, entry.names, frame["arm"].map(arms).to_numpy())


@contextmanager
def _prepared(experiment: Experiment, table: Any, *, need_arms: bool = True) -> Iterator[tuple[Rows, int, int]]:
    """The rows to analyse, the number of units in several arms, and of repeated rows; both were dropped."""
    with open_table(table, lambda columns: _needed(experiment, columns, need_arms)) as (engine, name):
        rows = Rows(engine, engine.dialect.quote(name), engine.columns(name), engine.ranges(name))
        rows = rows.tidied(_conditions(experiment), ids=[experiment.unit, experiment.cluster])
        if not need_arms and experiment.variant not in rows.kinds:
            rows = rows.of_one_arm(experiment.variant)
        everyone = rows
        try:
            _check_roles(experiment, rows)
            if experiment.where is not None:
                rows = rows.restricted(experiment.where)
            yield clean_units(experiment, rows, _needed(experiment, list(rows.kinds)))
        except ColumnError:  # columns without a value have no type in files
            check_not_empty(_count(everyone), where="the experiment")
            raise
        except EngineError:
            _check_conditions(experiment, everyone)
            raise
        finally:
            for scratch in rows.scratch:
                engine.drop(scratch)


def _count(rows: Rows) -> int:
    return int(rows.engine.collect(f"SELECT COUNT(*) AS n FROM {rows.sql} x")["n"].iloc[0])


def _check_conditions(experiment: Experiment, rows: Rows) -> None:
    """Raise :class:`EngineError` that names the condition which the engine cannot read."""
    named = {"where": experiment.where}
    named |= {f"where of metric {name!r}": getattr(m, "where", None) for name, m in experiment.metrics.items()}
    for name, text in named.items():
        if text is None:
            continue
        try:
            rows.engine.collect(f"SELECT 1 AS one FROM {rows.sql} x WHERE {text} LIMIT 0")
        except EngineError as error:
            raise EngineError(
                f"{name} is {text!r}, which is no condition on the columns {list_some(rows.kinds)}: {error}"
            ) from error


def _conditions(experiment: Experiment) -> list[str | None]:
    """What the user wrote in SQL."""
    return [experiment.where, *(getattr(m, "where", None) for m in experiment.metrics.values())]


def _needed(experiment: Experiment, columns: Sequence[str], need_arms: bool = True) -> list[str]:
    """The columns that the experiment reads, in the order of the table."""
    texts = _conditions(experiment)
    has_arm = need_arms or experiment.variant in columns
    roles = [
        experiment.variant if has_arm else None, experiment.unit, experiment.cluster, *experiment.strata,
        *experiment.segments, experiment.day, experiment.exposed_at, experiment.trigger,
    ]  # fmt: skip
    named = [c for c in roles if c is not None]
    named += [c for m in experiment.metrics.values() for c in getattr(m, "columns", ())]
    check_columns(columns, named, where="the table")
    wanted = {*named, *(c for text in texts for c in reads(text, columns))}
    return [c for c in columns if c in wanted]


def _check_roles(experiment: Experiment, rows: Rows) -> None:
    for role, column, kind, expected in (
        ("trigger", experiment.trigger, "boolean", "a boolean column: whether an arm could affect the unit"),
        ("day", experiment.day, "integer", "whole days since exposure"),
    ):
        if column is not None and rows.kinds[column] != kind:
            raise ColumnError(f"{role} {column!r} is {rows.kinds[column]}; expected {expected}. Convert it first.")


def _scanned(experiment: Experiment, rows: Rows, plan: Plan) -> tuple[Rows, Scan, Finest, int]:
    """Scan; where clusters in several arms are to be dropped, scan again without them. Gives the rows that stayed."""
    scan = Scan(experiment, rows, plan)
    finest, flaws = scan.collect()
    check_not_empty(len(finest.arm), where="the experiment")
    kept, n_dropped = clean_clusters(experiment, rows, finest, flaws)
    if n_dropped:
        scan = Scan(experiment, kept, plan)
        finest, flaws = scan.collect()
        check_not_empty(len(finest.arm), where="the experiment")
        clean_clusters(experiment, kept, finest, flaws)
    return kept, scan, finest, n_dropped


def _arms(experiment: Experiment, finest: Finest, rows: Rows) -> Arms:
    """What each arm counts as, control first.

    Raises :class:`TreatmentError` for rows without an arm, fewer than two arms, an unknown control or pool.
    """
    seen = set(finest.arm)
    if None in seen:
        refuse_missing_arms(experiment, rows)
    pooled = {arm: new for new, arms in (experiment.pool or {}).items() for arm in arms}
    unknown = [arm for arm in pooled if arm not in seen]
    if unknown:
        raise TreatmentError(
            f"pool names the arm {unknown[0]!r}, which no row has; found {list_some(sorted(seen, key=str))}."
            f"{nearest(str(unknown[0]), map(str, seen))}"
        )
    counted = {arm: pooled.get(arm, arm) for arm in seen}
    names = sorted(set(counted.values()), key=lambda a: (a != experiment.control, str(type(a)), a))
    if experiment.control not in names:
        alike = [arm for arm in names if str(arm) == str(experiment.control)]
        hint = f" Write control={alike[0]!r}." if alike else nearest(str(experiment.control), map(str, names))
        raise TreatmentError(
            f"control={experiment.control!r} is not among the arms {list_some(names)} of {experiment.variant!r}.{hint}"
        )
    if len(names) < 2:
        raise TreatmentError(
            f"found only {names[0]!r} in {experiment.variant!r}; an effect needs two arms. Check the filter or the "
            "split."
        )
    return {arm: new for new in names for arm, each in counted.items() if each == new}


def _dimension_names(experiment: Experiment) -> list[str]:
    names = [ALL, *experiment.segments]
    if experiment.trigger is not None:
        names.append(UNTRIGGERED)
    return names if experiment.day is None else [*names, experiment.day, TREND]


def _quantiles(
    experiment: Experiment, rows: Rows, plan: Plan, arms: Arms, names: Sequence[str]
) -> dict[str, dict[str, dict[Key, QuantileSummary]]]:
    """By dimension, metric and key; a query for each of them."""
    metrics = {name: m for name, m in experiment.metrics.items() if isinstance(m, Quantile)}
    found: dict[str, dict[str, dict[Key, QuantileSummary]]] = {}
    for dimension in names if metrics else ():
        if dimension == TREND:
            continue
        chosen = rows
        if experiment.trigger is not None:
            triggered = f"COALESCE({rows.quote(experiment.trigger)}, FALSE)"
            chosen = rows.restricted(f"NOT {triggered}" if dimension == UNTRIGGERED else triggered)
        columns = {ALL: experiment.strata, UNTRIGGERED: ()}.get(dimension, (dimension,))
        labels = KeyLabels(rows, experiment.variant, arms, columns)
        found[dimension] = {
            name: {
                labels.of(key): summary
                for key, summary in quantile_summaries(
                    chosen, plan.terms[plan.entries[name].terms[0]], m.q, labels.sql, cluster=experiment.cluster
                ).items()
            }
            for name, m in metrics.items()
        }
    return found


def _cells(
    name: str, groups: Groups, plan: Plan, quantiles: Mapping[str, Mapping[Key, QuantileSummary]]
) -> dict[Key, Cell]:
    cells = {}
    for k, (arm, group) in enumerate(groups.keys):
        if name == TREND:
            moments = {
                metric: groups.moments(k, e.trend, ("w", "dw", "ddw", "v", "dv"))
                for metric, e in plan.entries.items()
                if e.trend
            }
        else:
            moments = {
                metric: groups.moments(k, e.terms, e.names) for metric, e in plan.entries.items() if e.has_moments
            }
        found = {metric: by_key[arm, group] for metric, by_key in quantiles.items() if (arm, group) in by_key}
        cells[arm, group] = Cell(int(groups.rows[k]), moments, found)
    return cells
