"""``causalrec pipeline``: the features of a run, kept by day."""

from __future__ import annotations

from pathlib import Path

from causalrec.pipelines.run_features import build_features

from .conftest import small_marketplace


def test_features_are_materialised_and_reused(tmp_path: Path) -> None:
    config = small_marketplace(tmp_path, tracking={"enabled": False})
    config = config.model_copy(
        update={"features": config.features.model_copy(update={"directory": tmp_path / "features"})}
    )
    first = build_features(config)
    assert {m.path.parent.name for m in first} == {"marketplace_user", "marketplace_item", "marketplace_user_item"}
    assert all(m.days_computed > 0 and m.days_reused == 0 for m in first)
    assert all(m.days_computed == 0 and m.days_reused > 0 for m in build_features(config))
