"""``causalrec features``: what is kept in the feature store, and features beside a table's rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalrec.cli.options import (
    DeclarationOption,
    DeclaredArgument,
    DeclaredOption,
    EngineOption,
    KeptArgument,
    MasterOption,
    RootOption,
    TableOption,
    VersionOption,
)

if TYPE_CHECKING:
    from causalrec.features import FeatureStore
    from causalrec.pipelines.display import ConsoleReporter

features_app = typer.Typer(
    help="The feature store: declared features by day on disk, or beside the rows of a table.", no_args_is_help=True
)


@features_app.command("materialize")
def features_materialize(
    start: Annotated[str, typer.Option("--start", help="First day, as 2025-01-31 (UTC midnights).")],
    end: Annotated[str, typer.Option("--end", help="The day after the last.")],
    names: DeclaredArgument = None,
    declaration: DeclarationOption = Path("features.yaml"),
    root: RootOption = Path("feature_store"),
    entities: Annotated[
        Path | None, typer.Option("--entities", help="A table of keys (default: all keys seen before a day).")
    ] = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Compute daily features and keep them by day; only days that are missing or whose input changed."""
    from causalrec.features import read_features
    from causalrec.pipelines.display import ConsoleReporter, print_materialized
    from causalrec.pipelines.features import materialize_features

    reporter = ConsoleReporter()
    declared = read_features(declaration)
    with _opened_store(reporter, root, engine, master) as store:
        found = materialize_features(declared, names or [], store, start, end, entities=entities, reporter=reporter)
    print_materialized(found, reporter.console)


@features_app.command("list")
def features_list(root: RootOption = Path("feature_store")) -> None:
    """What is kept: a row per version."""
    from causalrec.features.registry import list_versions
    from causalrec.pipelines.display import ConsoleReporter, print_versions

    print_versions(list_versions(root), root, ConsoleReporter().console)


@features_app.command("show")
def features_show(
    name: KeptArgument,
    version: VersionOption = None,
    declaration: DeclaredOption = None,
    root: RootOption = Path("feature_store"),
) -> None:
    """A version's columns, days and first rows."""
    from causalrec.pipelines.display import ConsoleReporter, print_version
    from causalrec.pipelines.features import view_version

    reporter = ConsoleReporter()
    version = _chosen_version(name, version, declaration)
    with _opened_store(reporter, root) as store:
        print_version(view_version(store, root, name, version), reporter.console)


@features_app.command("load")
def features_load(
    name: KeptArgument,
    output: TableOption,
    start: Annotated[str | None, typer.Option("--start", help="First day (default: all).")] = None,
    end: Annotated[str | None, typer.Option("--end", help="The day after the last (default: all).")] = None,
    version: VersionOption = None,
    declaration: DeclaredOption = None,
    root: RootOption = Path("feature_store"),
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Write kept days to one table, sorted by time and keys; Spark writes rows in any order."""
    from causalrec.pipelines.display import ConsoleReporter, print_written
    from causalrec.pipelines.features import write_materialized

    reporter = ConsoleReporter()
    version = _chosen_version(name, version, declaration)
    with _opened_store(reporter, root, engine, master) as store:
        found = write_materialized(store, root, name, output, start=start, end=end, version=version, reporter=reporter)
    print_written(found, reporter.console)


@features_app.command("diff")
def features_diff(
    name: KeptArgument,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Beginning of a version's id.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Beginning of another's.", show_default=False)],
    root: RootOption = Path("feature_store"),
) -> None:
    """Compare two versions: definitions, days, and values on the rows that both have."""
    from causalrec.pipelines.display import ConsoleReporter, print_diff

    reporter = ConsoleReporter()
    with _opened_store(reporter, root) as store:
        print_diff(store.diff(name, old, new), reporter.console)


@features_app.command("frame")
def features_frame(
    spine: Annotated[Path, typer.Option("--spine", "-s", help="Rows that ask: a Parquet or CSV file or directory.")],
    output: TableOption,
    names: DeclaredArgument = None,
    declaration: DeclarationOption = Path("features.yaml"),
    event_time: Annotated[str, typer.Option("--event-time", help="The column of their times.")] = "event_time",
    engine: EngineOption = "local",
    master: MasterOption = None,
) -> None:
    """Write a table's rows with each feature as of their times, such as a training set.

    They keep their order; Spark writes rows in any order.
    """
    from causalrec.features import read_features
    from causalrec.pipelines.display import ConsoleReporter, print_written
    from causalrec.pipelines.features import write_training_frame

    reporter = ConsoleReporter()
    declared = read_features(declaration)
    with _opened_store(reporter, None, engine, master) as store:
        found = write_training_frame(
            declared, names or [], store, spine, output, event_time=event_time, reporter=reporter
        )
    print_written(found, reporter.console)


@contextmanager
def _opened_store(
    reporter: ConsoleReporter, root: Path | None, engine: str = "local", master: str | None = None
) -> Iterator[FeatureStore]:
    """A feature store on an engine of its own; one that takes its time to start is a stage."""
    from causalrec.engines import open_engine
    from causalrec.features import FeatureStore

    options = {} if master is None else {"master": master}
    with ExitStack() as stack:
        with reporter.stage(engine) if engine == "spark" else nullcontext():
            opened = stack.enter_context(open_engine(engine, **options))
        yield FeatureStore(opened, root)


def _chosen_version(name: str, version: str | None, declaration: Path | None) -> str | None:
    """The version that is named, or that a file declares; None for the newest."""
    if declaration is None:
        return version
    from causalrec.exceptions import ConfigError
    from causalrec.features import read_features
    from causalrec.pipelines.features import declared_version

    if version is not None:
        raise ConfigError("--version and --declaration both say which version to take; drop one of them.")
    return declared_version(read_features(declaration), name)
