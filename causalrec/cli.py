"""The command line: thin calls of :mod:`causalrec.pipelines`. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from causalrec.features import FeatureStore
    from causalrec.pipelines.display import ConsoleReporter
    from causalrec.pipelines.rundir import RunDirectory

app = typer.Typer(
    name="causalrec",
    help="What did it cause, for whom, and what next? From event logs to a decision, every run in MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(
    help="Write the simulated marketplace or A/B test, or look after the public data sets.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
features_app = typer.Typer(
    help="The feature store: declared features by day on disk, or beside the rows of a table.", no_args_is_help=True
)
app.add_typer(features_app, name="features")

DEFAULT_CONFIG = Path("marketplace")
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or the name of one that is shipped.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key; repeatable.")]
ExperimentOption = Annotated[
    Path, typer.Option("--config", "-c", help="A YAML file of an experiment, or the name of one that is shipped.")
]
RunOption = Annotated[Path | None, typer.Option("--run", help="A run's directory (default: the newest).")]
NewestOption = Annotated[Path | None, typer.Option("--config", "-c", help="Take this config's newest run.")]
DeclarationOption = Annotated[
    Path, typer.Option("--declaration", "-d", help="A YAML file of features, or the name of one that is shipped.")
]
DeclaredArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Declared features (default: all).", show_default=False)
]
DeclaredOption = Annotated[
    Path | None,
    typer.Option("--declaration", "-d", help="Take the version that this YAML file declares, not the newest."),
]
KeptArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of features that are kept.", show_default=False)]
RootOption = Annotated[Path, typer.Option("--root", help="Where features are kept.")]
VersionOption = Annotated[str | None, typer.Option("--version", help="Beginning of its id (default: the newest).")]
TableOption = Annotated[Path, typer.Option("--output", "-o", help="A .parquet or .csv file to write.")]
EngineOption = Annotated[str, typer.Option("--engine", help="local (DuckDB) or spark.")]
MasterOption = Annotated[str | None, typer.Option("--master", help="Spark's master (default: local[*]).")]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", help="Where runs are.")]

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        from causalrec import __version__

        typer.echo(f"causalrec {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """``--debug`` is acted upon by :func:`main`, which sees it wherever it stands on the line."""


@app.command()
def train(config: ConfigOption = DEFAULT_CONFIG, set_: SetOption = None) -> None:
    """Run the pipeline: features, ranker, uplift, average effect, A/B test; track it in MLflow."""
    from causalrec.config import load_config
    from causalrec.pipelines.display import ConsoleReporter, print_summary
    from causalrec.pipelines.train import train as run

    reporter = ConsoleReporter()
    print_summary(run(load_config(config, set_ or []), reporter=reporter), reporter.console)


@app.command()
def evaluate(
    run: RunOption = None,
    config: NewestOption = None,
    set_: SetOption = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the run's models the champions, whatever the comparison says.")
    ] = False,
    output_dir: OutputDirOption = Path("runs"),
) -> None:
    """Evaluate a trained run on its held-out data, compare it with the champion, and write the report."""
    from causalrec.pipelines.display import ConsoleReporter, print_summary
    from causalrec.pipelines.evaluate import evaluate as evaluate_run

    reporter = ConsoleReporter()
    chosen = _chosen_run(run, config, set_, output_dir)
    print_summary(evaluate_run(chosen, promote=promote, reporter=reporter), reporter.console)


@app.command()
def infer(
    run: RunOption = None,
    config: NewestOption = None,
    set_: SetOption = None,
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", help="Parquet or CSV (default: held-out units).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write the scores (Parquet).")] = None,
    value: Annotated[
        float | None, typer.Option("--value", help="What a unit of the outcome is worth (default: the config's).")
    ] = None,
    cost: Annotated[
        float | None, typer.Option("--cost", help="What treating a unit costs (default: the config's).")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="What may be spent on the batch (default: the config's).")
    ] = None,
    output_dir: OutputDirOption = Path("runs"),
) -> None:
    """Score a batch with a trained run: uplift, segment and action of every unit, and the ranker's recommendations."""
    from causalrec.pipelines.display import ConsoleReporter, print_inference
    from causalrec.pipelines.infer import infer as score

    reporter = ConsoleReporter()
    money = {"value": value, "cost": cost, "budget": budget}
    outcome = score(
        _chosen_run(run, config, set_, output_dir), batch=input_, output=output,
        targeting={key: amount for key, amount in money.items() if amount is not None}, reporter=reporter,
    )  # fmt: skip
    print_inference(outcome, reporter.console)


@app.command()
def abtest(
    config: ExperimentOption = Path("abtest"),
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="A Parquet or CSV file or directory (default: the config's).")
    ] = None,
    set_: SetOption = None,
    engine: Annotated[str | None, typer.Option("--engine", help="local (DuckDB) or spark.")] = None,
    aa: Annotated[
        int | None, typer.Option("--aa", min=0, help="Random splits of an A/A simulation, which should find nothing.")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Always valid: look as often as you like (or as the config says).")
    ] = False,
    inference: Annotated[
        str | None, typer.Option("--inference", help="fixed, always_valid, group_sequential or bayesian.")
    ] = None,
) -> None:
    """Analyse an experiment: the verdict, effects, intervals and checks from one table, with a report."""
    from causalrec.experiment_config import inferred, load_experiment
    from causalrec.pipelines.abtest import run_abtest
    from causalrec.pipelines.display import ConsoleReporter, print_abtest

    given = {"engine.name": engine, "checks.aa_simulations": aa}
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    reporter = ConsoleReporter()
    chosen = inferred(load_experiment(config, overrides), inference, sequential=sequential)
    print_abtest(run_abtest(chosen, data, reporter=reporter), reporter.console)


@app.command()
def design(
    config: ExperimentOption = Path("abtest"),
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="A past period, with or without arms (default: design.data).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page (default: <output_dir>/<name>_design.html).")
    ] = None,
    set_: SetOption = None,
    sequential: Annotated[bool, typer.Option("--sequential", help="As of causalrec abtest.")] = False,
) -> None:
    """Plan an A/B test before it starts: how many units and days, and one page on what will be decided how."""
    from causalrec.experiment_config import inferred, load_experiment
    from causalrec.pipelines.design_page import write_design
    from causalrec.pipelines.display import ConsoleReporter, print_design

    reporter = ConsoleReporter()
    chosen = inferred(load_experiment(config, set_ or []), None, sequential=sequential)
    print_design(write_design(chosen, data, output, reporter=reporter), reporter.console)


@app.command()
def pipeline(config: ConfigOption = DEFAULT_CONFIG, set_: SetOption = None) -> None:
    """Data and features only: materialise the configured features to partitioned Parquet."""
    from causalrec.config import load_config
    from causalrec.pipelines.display import ConsoleReporter, print_materialized
    from causalrec.pipelines.run_features import build_features

    reporter = ConsoleReporter()
    print_materialized(build_features(load_config(config, set_ or []), reporter=reporter), reporter.console)


@app.command()
def ui(
    uri: Annotated[str, typer.Option("--uri", help="The MLflow store.")] = "sqlite:///mlflow.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow UI on the runs."""
    from causalrec.tracking import serve_ui

    serve_ui(uri, host=host, port=port)


@data_app.command("synth")
def data_synth(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")] = Path("data/marketplace"),
    n_users: Annotated[int, typer.Option("--users", min=1, help="Number of users.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 7,
) -> None:
    """Write the simulated marketplace as Parquet, its truth in a directory of its own."""
    from causalrec.pipelines.data import write_synthetic
    from causalrec.pipelines.display import ConsoleReporter, print_files

    reporter = ConsoleReporter()
    print_files(write_synthetic(output, n_users=n_users, seed=seed, reporter=reporter), reporter.console)


@data_app.command("service")
def data_service(
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet file to write.")] = Path(
        "data/service.parquet"
    ),
    n_users: Annotated[int, typer.Option("--users", min=1, help="Number of users.")] = 40_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 7,
) -> None:
    """Write a simulated A/B test of a music service as Parquet, its true effects in a file beside it."""
    from causalrec.pipelines.data import write_service
    from causalrec.pipelines.display import ConsoleReporter, print_files

    reporter = ConsoleReporter()
    print_files(write_service(output, n_users=n_users, seed=seed, reporter=reporter), reporter.console)


@data_app.command("real")
def data_real() -> None:
    """Check the public data sets at hand, and download those that have a stable address."""
    from causalrec.pipelines.data import check_real
    from causalrec.pipelines.display import ConsoleReporter, print_datasets

    reporter = ConsoleReporter()
    print_datasets(check_real(reporter=reporter), reporter.console)


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


def _chosen_run(run: Path | None, config: Path | None, set_: list[str] | None, output_dir: Path) -> RunDirectory:
    """The run that is named, or the newest of a config; ``--set`` finds what was trained with the same ``--set``."""
    from causalrec.config import load_config
    from causalrec.pipelines.rundir import newest_run, open_run

    if run is not None:
        return open_run(run)
    if config is None and not set_:
        return newest_run(output_dir)
    chosen = load_config(config or DEFAULT_CONFIG, set_ or [])
    return newest_run(chosen.output_dir, chosen.name if config is not None else None)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: errors made on purpose become one line and exit code 2, with a traceback only for ``--debug``."""
    from causalrec.exceptions import CausalRecError

    # Accepted anywhere on the line, not only before the command.
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("CAUSALREC_DEBUG"))
    # Threads that wait actively make XGBoost ten times slower as soon as another program wants the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"], prog_name="causalrec")
    except CausalRecError as error:
        if debug:
            traceback.print_exception(error)
        _print_error(str(error))
        sys.exit(EXIT_USER_ERROR)
    except SystemExit as stop:  # typer's answer to an interrupt, which says nothing
        if stop.code == EXIT_INTERRUPTED:
            _print_error("interrupted; nothing half-written was left behind.")
        raise


def _print_error(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    line = Text.assemble(("error: ", "bold red"), " ".join(text.split()))
    console.print(line, soft_wrap=not console.is_terminal)  # a terminal would break it within words
