"""``causalrec data``: files of the simulated marketplace, and what is at hand of the public sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalrec.datasets import list_datasets, simulate_marketplace
from causalrec.exceptions import StoreError
from causalrec.pipelines import data as data_module
from causalrec.pipelines.data import check_real, write_synthetic
from causalrec.pipelines.progress import SilentReporter


def test_one_chunk_is_the_simulation_itself(tmp_path: Path) -> None:
    paths = write_synthetic(tmp_path / "market", n_users=300, seed=4, reporter=SilentReporter())
    market, truth = simulate_marketplace(300, random_state=4)
    read = {p.stem: pd.read_parquet(p) for p in paths}
    assert set(read) == {*market.tables(), "truth"}
    for name, frame in [*market.tables().items(), ("truth", truth.users)]:
        pd.testing.assert_frame_equal(read[name], frame)
    assert {p.parent.name for p in paths if p.stem == "truth"} == {"market_truth"}


def test_chunks_share_the_shop_and_keep_ids_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "_CHUNK", 100)
    paths = write_synthetic(tmp_path / "market", n_users=250, seed=4, reporter=SilentReporter())
    read = {p.stem: pd.read_parquet(p) for p in paths}
    assert read["users"]["user_id"].tolist() == list(range(250))
    assert read["items"]["item_id"].is_unique
    sessions = read["events"].groupby("session_id")["user_id"].nunique()
    assert sessions.eq(1).all()
    price = read["items"].set_index("item_id")["price"]
    bought = read["events"][read["events"]["event_type"] == "purchase"]
    assert bought["revenue"].to_numpy() == pytest.approx(price.loc[bought["item_id"]].to_numpy())


def test_writing_again_replaces_and_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 2):
        write_synthetic(tmp_path / "market", n_users=50, seed=seed, reporter=SilentReporter())
    expected, _ = simulate_marketplace(50, random_state=2)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "market" / "users.parquet"), expected.users)

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_module, "simulate_marketplace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "other", n_users=50, seed=1, reporter=SilentReporter())
    assert {p.name for p in tmp_path.iterdir()} == {"market", "market_truth"}
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_synthetic(tmp_path / "file" / "market", n_users=50, seed=1, reporter=SilentReporter())


def test_missing_public_data_is_said_and_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from causalrec.datasets import loaders

    monkeypatch.setenv("CAUSALREC_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(loaders, "KNOWN", {k: v for k, v in loaders.KNOWN.items() if v.url is None})
    found = check_real(reporter=SilentReporter())
    assert {s.name for s in found} == set(list_datasets())
    assert all(s.rows is None and "CAUSALREC_DATA_DIR" in s.state for s in found)


@pytest.mark.data
def test_public_data_at_hand_is_counted(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALREC_DATA_DIR", str(data_dir))
    rows = {s.name: s.rows for s in check_real(reporter=SilentReporter())}
    assert rows["hillstrom"] == 64_000
    assert rows["online_retail"] == 541_909
