"""``causalrec abtest`` and ``causalrec design``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalrec.cli.options import ExperimentOption, SetOption


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
