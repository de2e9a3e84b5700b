"""The command line: thin calls of :mod:`causalrec.pipelines`. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from causalrec.cli.data import data_app
from causalrec.cli.effects import ate
from causalrec.cli.experiments import abtest, design
from causalrec.cli.features import features_app
from causalrec.cli.options import DEFAULT_CONFIG, ConfigOption, NewestOption, OutputDirOption, RunOption, SetOption
from causalrec.cli.reports import report_app

if TYPE_CHECKING:
    from causalrec.pipelines.rundir import RunDirectory

app = typer.Typer(
    name="causalrec",
    help="What did it cause, for whom, and what next? From event logs to a decision, every run in MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
app.add_typer(features_app, name="features")
app.add_typer(report_app, name="report")

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


app.command()(ate)
app.command()(abtest)
app.command()(design)


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
