"""Evaluation of a trained run, its report, the champion, and scoring of batches."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from causalrec.config import RunConfig
from causalrec.datasets import simulate_marketplace
from causalrec.evaluation import compare_scorers, qini_score
from causalrec.exceptions import ColumnError, DatasetError, StoreError
from causalrec.pipelines.evaluate import evaluate
from causalrec.pipelines.infer import infer
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.train import train
from causalrec.policy import profit_curve
from causalrec.results import (
    ChampionResult,
    EffectResult,
    PolicyTreeResult,
    ProfitCurveResult,
    RankingResult,
    SegmentsResult,
)

from .conftest import small_marketplace


def champion(config: RunConfig, kind: str) -> str:
    return str(
        mlflow.MlflowClient(config.tracking.uri).get_model_version_by_alias(f"{config.name}_{kind}", "champion").version
    )


def test_held_out_units_are_those_that_training_never_saw(trained: RunSummary, evaluated: RunSummary) -> None:
    run = RunDirectory(trained.path)
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    found = evaluated.results["qini"]
    assert isinstance(found, EffectResult)
    assert found.n_obs == len(holdout)
    uplift = run.model("uplift").predict(holdout)["uplift"]
    expected = qini_score(holdout["converted"], uplift, holdout["variant"])
    np.testing.assert_equal(found.to_dict(), expected.to_dict())
    validation = trained.results["qini"]
    assert isinstance(validation, EffectResult)
    assert validation.n_obs == pytest.approx(0.3 * (1500 - found.n_obs), rel=0.15)


def test_the_true_qini_stands_beside_the_estimate(trained: RunSummary, evaluated: RunSummary) -> None:
    """Brute force: the mean over thresholds of the gain of treating the top q, with the known effects."""
    run = RunDirectory(trained.path)
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    _, truth = simulate_marketplace(n_users=1500, n_items=120, random_state=7)
    tau = truth.users.set_index("user_id")["tau_conversion"].reindex(holdout["user_id"]).to_numpy()
    order = np.argsort(-run.model("uplift").predict(holdout)["uplift"].to_numpy(), kind="stable")
    gain = np.concatenate([[0.0], np.cumsum(tau[order])]) / len(tau)
    q = np.linspace(0, 1, len(gain))
    expected = np.trapezoid(gain - q * gain[-1], q)
    row = next(r for r in evaluated.rows if r.what.startswith("Qini"))
    assert row.truth == pytest.approx(expected, rel=1e-3)  # tied predictions share a rank there, not here


def test_effect_and_ab_test_are_those_of_training(trained: RunSummary, evaluated: RunSummary) -> None:
    for name in ("average_effect", "placebo", "ab_revenue", "sample_ratio"):
        np.testing.assert_equal(evaluated.results[name].to_dict(), trained.results[name].to_dict())


def test_the_ranker_is_judged_on_the_last_horizon(trained: RunSummary, evaluated: RunSummary) -> None:
    run = RunDirectory(trained.path)
    test = run.frame("holdout/ranking")
    assert test is not None
    assert set(test["event_time"].dt.strftime("%Y-%m-%d")) == {run.info()["ranker"]["cutoffs"][-1]}
    found = evaluated.results["ndcg_at_10"]
    assert isinstance(found, RankingResult)
    assert found.n_obs == test["query"].nunique()
    assert found.n_without_positives == run.info()["ranker"]["n_silent"] > 0


def test_report_is_one_page_with_every_number_and_figure(evaluated: RunSummary) -> None:
    assert evaluated.report is not None
    html = evaluated.report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']https?:""", html)
    for row in evaluated.rows:
        for cell in row.cells():
            assert cell in html.replace("&#43;", "+").replace("&lt;", "<"), cell
    # One of the ranker, four of what the model is worth, four of whom to treat, two of what it is made of, six of
    # the average effect, of which two are of hidden bias, and one of the A/B test.
    assert html.count("data:image/png;base64,") == 19
    for caption in ("Effects by group, doubly robust", "Losses that need no truth", "Sizes that the data chose"):
        assert caption in html
    for title in (
        "Ranker", "Uplift", "Are the predicted effects right?", "Whom to treat", "The uplift model", "Average effect",
        "A/B test", "How it was made",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in html


def test_report_and_evaluation_metrics_are_in_mlflow(evaluated: RunSummary, config: RunConfig) -> None:
    client = mlflow.MlflowClient(config.tracking.uri)
    found = client.get_experiment_by_name(config.name)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], "tags.command = 'evaluate'", max_results=1)
    assert "report.html" in [f.path for f in client.list_artifacts(run.info.run_id)]
    qini = evaluated.results["qini"]
    assert isinstance(qini, EffectResult)
    assert run.data.metrics["qini"] == qini.estimate
    assert run.data.metrics["qini_ci_low"] == qini.ci_low


@pytest.mark.usefixtures("undrawn")
def test_a_second_evaluation_replaces_the_first_and_says_the_same(
    trained: RunSummary, evaluated: RunSummary, tmp_path: Path
) -> None:
    copy = tmp_path / trained.path.name
    shutil.copytree(trained.path, copy)
    again = evaluate(RunDirectory(copy))
    assert again.rows == evaluated.rows or [r.cells() for r in again.rows] == [r.cells() for r in evaluated.rows]
    assert again.report is not None
    assert evaluated.report is not None
    assert again.report.relative_to(copy) == evaluated.report.relative_to(trained.path)
    assert not [p for p in copy.rglob("*") if p.name.startswith(".")]


@pytest.mark.usefixtures("undrawn")
def test_champion_changes_only_for_a_model_shown_to_be_better_or_when_asked(
    trained: RunSummary, place: Path, experiment_config: Callable[..., RunConfig]
) -> None:
    rng = np.random.default_rng(0)
    arms, age = rng.choice(["old", "new"], 1500), rng.normal(size=1500)
    spend = age * (arms == "new") + rng.normal(size=1500)
    frame = pd.DataFrame({"user_id": range(1500), "variant": arms, "age": age, "spend": spend})
    weak, strong = (  # one effect for all, and one that grows with age
        experiment_config(
            frame, average_effect={"enabled": False}, abtest={"enabled": False},
            tracking={"uri": f"sqlite:///{place / 'mlflow.db'}"},  # that store is there already
            uplift={"learner": learner, "base": "linear", "n_folds": 2},
        )
        for learner in ("s", "x")
    )  # fmt: skip
    found: dict[str, RunSummary] = {}
    for version, config, asked in (("1", weak, False), ("2", strong, False), ("3", weak, True)):
        found[version] = evaluate(RunDirectory(train(config).path), promote=asked)
        assert champion(config, "uplift") == version
    assert "uplift_over_champion" not in found["1"].results
    better, worse = (found[version].results["uplift_over_champion"] for version in ("2", "3"))
    assert isinstance(better, ChampionResult)
    assert isinstance(worse, ChampionResult)
    assert (better.verdict, worse.verdict, better.promoted, worse.promoted) == ("better", "worse", True, True)
    assert not better.favoured  # the same units were held out
    assert worse.estimate == pytest.approx(-better.estimate)
    qini = found["2"].results["qini"]
    assert isinstance(qini, EffectResult)
    assert better.own_score == qini.estimate
    assert better.estimate == pytest.approx(better.own_score - better.champion_score, abs=1e-12)
    assert any("better" in sentence and "version 1" in sentence for sentence in found["2"].findings)
    assert better.difference in found["2"].report.read_text(encoding="utf-8")  # type: ignore[union-attr]
    client = mlflow.MlflowClient(weak.tracking.uri)
    assert "as was asked for" in client.get_model_version("test_uplift", "3").tags["verdict"]
    (run,) = client.search_runs(
        [client.get_experiment_by_name("test").experiment_id], "tags.command = 'evaluate'", max_results=1
    )  # type: ignore[union-attr]
    assert (run.data.tags["uplift.verdict"], run.data.tags["uplift.champion"]) == ("worse", "3")
    assert run.data.metrics["uplift_over_champion"] == worse.estimate
    assert run.data.metrics["uplift_over_champion_promoted"] == 1.0


@pytest.mark.slow
def test_champion_of_other_data_is_scored_on_the_new_rows(tmp_path: Path) -> None:
    first = small_marketplace(tmp_path, average_effect={"enabled": False})
    evaluate(RunDirectory(train(first).path))
    second = first.model_copy(update={"seed": 9})
    run = RunDirectory(train(second).path)
    summary = evaluate(run)
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    mlflow.set_tracking_uri(first.tracking.uri)
    columns = list(run.model("uplift").spec.columns)
    old = mlflow.pyfunc.load_model("models:/marketplace_uplift/1").predict(holdout[columns])
    own = run.model("uplift").predict(holdout)["uplift"]
    pair = {"own": own, "old": old["uplift"].to_numpy()}
    expected = compare_scorers(holdout["converted"], pair, holdout["variant"]).pair("own", "old")
    found = summary.results["uplift_over_champion"]
    assert isinstance(found, ChampionResult)
    assert (found.estimate, found.ci_low, found.pvalue) == (expected.estimate, expected.ci_low, expected.pvalue)
    assert found.favoured
    assert champion(first, "uplift") == ("2" if expected.ci_low > 0 else "1")
    ranker = summary.results["ranker_over_champion"]
    assert isinstance(ranker, ChampionResult)
    queries = run.frame("holdout/ranking")
    assert queries is not None
    assert ranker.n_obs == summary.results["ndcg_at_10"].to_dict()["n_obs"]
    assert ranker.own_score - ranker.champion_score == pytest.approx(ranker.estimate, abs=1e-12)


def test_segments_profit_and_a_policy_tree_are_those_of_the_units_held_out(
    trained: RunSummary, evaluated: RunSummary, config: RunConfig
) -> None:
    run = RunDirectory(trained.path)
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    scores = run.model("uplift").predict(holdout)
    segments, profit = evaluated.results["uplift_segments"], evaluated.results["uplift_profit"]
    assert isinstance(segments, SegmentsResult)
    assert isinstance(profit, ProfitCurveResult)
    assert (segments.control, segments.treatment) == ("top_sellers", "personalised")
    rule = RunDirectory(trained.path / "evaluation").segments()
    assert rule == segments.rule
    labels = rule.assign(scores["uplift"], scores["outcome_if_control"])
    assert dict(zip(segments.segment, segments.n, strict=True)) == pd.Series(labels).value_counts().to_dict()
    money = config.uplift.targeting
    assert money is not None
    expected = profit_curve(
        holdout["converted"], scores["uplift"], holdout["variant"], value=money.value, cost=money.cost
    )
    assert profit.rule_profit == expected.rule_profit
    np.testing.assert_array_equal(profit.profit, expected.profit)
    tree = evaluated.results["uplift_policy_tree"]
    assert isinstance(tree, PolicyTreeResult)
    assert (tree.evaluated, tree.n_obs, list(tree.arm)) == (
        "cross-validated",
        len(holdout),
        ["top_sellers", "personalised"],
    )


def test_infer_scores_what_was_held_out(trained: RunSummary, evaluated: RunSummary) -> None:
    assert evaluated.path == trained.path
    run = RunDirectory(trained.path)
    found = infer(run, targeting={"value": 30, "cost": 0.5, "budget": 20})
    path, scores = found.outputs["uplift"]
    advice = found.recommendations
    assert advice is not None
    assert list(scores.columns[3:]) == [
        "uplift", "outcome_if_control", "uplift_segment", "action", "cost", "expected_gain",
    ]  # fmt: skip
    best = scores["uplift"].nlargest(40).index  # of those whom treatment is not shown to harm
    allowed = scores["uplift_segment"] != "sleeping dogs"
    assert set(scores.index[scores["action"] == "personalised"]) == set(best[allowed[best]])
    assert advice.spend == scores["cost"].sum() <= 20
    assert advice.gain == pytest.approx(scores["expected_gain"].sum())
    assert advice.basis[-1] == json.loads((run.path / "evaluation" / "run.json").read_text())["uplift_verdict"]
    assert advice.counts[["top_sellers", "personalised"]].to_numpy().sum() == len(scores)
    assert path == trained.path / "scores" / "uplift.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(path), scores)
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    assert scores["user_id"].tolist() == holdout["user_id"].tolist()  # a batch comes back in its own order
    np.testing.assert_array_equal(scores["uplift"], run.model("uplift").predict(holdout)["uplift"])
    _, ranked = found.outputs["ranker"]
    assert ranked.groupby("query")["rank"].max().le(10).all()
    assert ranked.groupby("query")["score"].apply(lambda s: s.is_monotonic_decreasing).all()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_infer_scores_a_file_of_either_kind(ending: str, trained: RunSummary, tmp_path: Path) -> None:
    run = RunDirectory(trained.path)
    batch = run.frame("holdout/uplift")
    assert batch is not None
    batch = batch.drop(columns=["variant", "converted"]).sample(50, random_state=0)
    source, output = tmp_path / f"batch.{ending}", tmp_path / "deep" / "scores.parquet"
    batch.to_csv(source, index=False) if ending == "csv" else batch.to_parquet(source)
    path, scores = infer(run, batch=source, output=output).outputs["uplift"]
    assert path == output
    expected = run.model("uplift").predict(batch.reset_index(drop=True)).assign(user_id=batch["user_id"].to_numpy())
    merged = scores.merge(expected, on="user_id", suffixes=("", "_expected"))
    assert len(merged) == 50
    np.testing.assert_allclose(merged["uplift"], merged["uplift_expected"], rtol=1e-6)


def test_infer_names_what_a_batch_lacks(trained: RunSummary, tmp_path: Path) -> None:
    run = RunDirectory(trained.path)
    batch = run.frame("holdout/uplift")
    assert batch is not None
    batch.drop(columns=["age"]).to_parquet(tmp_path / "batch.parquet")
    with pytest.raises(ColumnError, match="for uplift: 'age'; for ranker"):
        infer(run, batch=tmp_path / "batch.parquet")
    with pytest.raises(DatasetError, match="does not exist"):
        infer(run, batch=tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(DatasetError, match="cannot be read"):
        infer(run, batch=tmp_path / "bad.parquet")
    (tmp_path / "file").write_text("")
    batch.to_parquet(tmp_path / "batch.parquet")
    with pytest.raises(StoreError, match="cannot write"):
        infer(run, batch=tmp_path / "batch.parquet", output=tmp_path / "file" / "scores.parquet")


def test_a_damaged_run_says_so(trained: RunSummary, tmp_path: Path) -> None:
    copy = tmp_path / trained.path.name
    shutil.copytree(trained.path, copy)
    shutil.rmtree(copy / "models" / "uplift")
    with pytest.raises(StoreError, match="has no uplift model"):
        evaluate(RunDirectory(copy))
