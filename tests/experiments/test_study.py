"""What the studies share: arguments, tables on the terminal, figures and the page."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest import two_proportion_test
from causalrec.datasets import load_dataset
from causalrec.plots import plot_rates
from experiments._study import Study, as_text, how_made, in_points, study_arguments


def test_a_table_keeps_its_figures_and_fits_its_columns() -> None:
    frame = pd.DataFrame({"what": ["a", "longer"], "n": [1_234_567, 2], "share": [0.123456, np.nan], "p": ["<.1", "1"]})
    assert as_text(frame).splitlines() == [
        "what            n   share  p",
        "a       1,234,567  0.1235  <.1",
        "longer          2       –  1",
    ]


def test_output_is_below_runs_which_git_ignores() -> None:
    assert study_arguments("messaging", None, []).output == Path("runs/experiments/messaging")
    given = study_arguments("messaging", None, ["--output", "there", "--data-dir", "data"])
    assert (given.output, given.data_dir) == (Path("there"), Path("data"))
    assert "/runs/" in (Path(__file__).parents[2] / ".gitignore").read_text().split()


def test_what_is_printed_is_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study("Title", "A question?")
    effect = two_proportion_test(20, 100, 35, 100)
    study.add(
        "First", "A sentence.", tables={"Caption": pd.DataFrame({"x": [1.5]})}, figures={"rates": plot_rates([effect])}
    )
    page = study.finish(tmp_path / "new" / "place", conclusions=["Do it."], caveats=["Not sure."]).read_text("utf-8")
    printed = capsys.readouterr().out
    for words in ("Title", "A question?", "A sentence.", "Caption", "1.5", "Do it.", "Not sure."):
        assert words in page
        assert words in printed
    assert (tmp_path / "new" / "place" / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png" in page


def test_how_it_was_made_names_command_code_data_and_seeds(data_dir: Path) -> None:
    text = how_made("segment", data=["mall_customers"], data_dir=data_dir, seeds="5")
    digest = hashlib.sha256(load_dataset("mall_customers", data_dir).path.read_bytes()).hexdigest()
    for words in ("python -m experiments.segment.run", "commit:", "numpy ", digest):
        assert words in text
    assert text.endswith("seeds:\n5")


def test_points_are_hundredths() -> None:
    effect = two_proportion_test(20, 100, 35, 100)
    points = in_points(effect)
    assert (points.estimate, points.ci_low, points.pvalue) == pytest.approx(
        (15, 100 * effect.ci_low, effect.pvalue), rel=1e-12
    )
