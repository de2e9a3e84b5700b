"""``causalrec data``: simulated tables, and the public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(
    help="Write the simulated marketplace, A/B test or campaign, or look after the public data sets.",
    no_args_is_help=True,
)


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


@data_app.command("campaign")
def data_campaign(
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet file to write.")] = Path(
        "data/campaign.parquet"
    ),
    n_users: Annotated[int, typer.Option("--users", min=1, help="Number of users.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 7,
) -> None:
    """Write a simulated e-mail campaign that was not randomised, a row per user, and the truth beside it."""
    from causalrec.pipelines.data import write_campaign
    from causalrec.pipelines.display import ConsoleReporter, print_files

    reporter = ConsoleReporter()
    print_files(write_campaign(output, n_users=n_users, seed=seed, reporter=reporter), reporter.console)


@data_app.command("real")
def data_real() -> None:
    """Check the public data sets at hand, and download those that have a stable address."""
    from causalrec.pipelines.data import check_real
    from causalrec.pipelines.display import ConsoleReporter, print_datasets

    reporter = ConsoleReporter()
    print_datasets(check_real(reporter=reporter), reporter.console)
