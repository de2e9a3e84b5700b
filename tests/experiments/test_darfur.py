"""Violence and peace in Darfur: the printed numbers, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.darfur.run import PRINTED, main, printed_table

pytestmark = pytest.mark.data


@pytest.mark.slow
def test_the_page_says_what_was_found(data_dir: Path, tmp_path: Path) -> None:
    found = main(["--output", str(tmp_path), "--data-dir", str(data_dir)])
    assert (found.n_obs, found.n_villages, found.regression.dof) == (1276, 486, 783)
    ours = [float(value.rstrip("%")) for value in printed_table(found)["ours"]]
    for value, printed in zip(ours, PRINTED.values(), strict=True):
        number = printed.rstrip("%")
        assert round(value, len(number.partition(".")[2])) == float(number)
    assert found.regression.adjusted_estimate.round(4).tolist() == [0.0752, 0.0529, 0.0304]
    assert 1 < found.pairs.turning_gamma < 3
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for words in ("13.9% of what is left", "three times as strong as sex"):
        assert words in page
    assert {p.name for p in tmp_path.glob("*.png")} == {"estimate.png", "t.png", "gamma.png", "gamma_effect.png"}
