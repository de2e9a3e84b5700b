"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
