"""``causalrec ate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalrec.cli.options import SetOption


def ate(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="A YAML file of a study, or the name of one that is shipped.")
    ] = Path("ate"),
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="A Parquet or CSV file or directory (default: the config's).")
    ] = None,
    set_: SetOption = None,
    engine: Annotated[str | None, typer.Option("--engine", help="local (DuckDB) or spark.")] = None,
) -> None:
    """Study an effect that was not randomised: every method, balance, refutations, hidden bias, one page."""
    from causalrec.pipelines.ate import run_ate
    from causalrec.pipelines.display import ConsoleReporter
    from causalrec.pipelines.display_effects import print_study
    from causalrec.study_config import load_study

    overrides = [*(set_ or []), *([] if engine is None else [f"engine.name={engine}"])]
    reporter = ConsoleReporter()
    print_study(run_ate(load_study(config, overrides), data, reporter=reporter), reporter.console)
