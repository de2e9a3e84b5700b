"""``causalrec train``: data, features, ranker, uplift, average effect, A/B test; one run directory, one MLflow run."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from causalrec._files import new_directory
from causalrec._validation import list_some, nearest
from causalrec.config import RunConfig
from causalrec.engines import Engine
from causalrec.exceptions import ConfigError
from causalrec.features import FeatureStore
from causalrec.pipelines.designs import Design, build_design
from causalrec.pipelines.effect import estimate_effect
from causalrec.pipelines.effect_tracking import effect_texts, refutation_results, study_tags
from causalrec.pipelines.experiment import analyse_experiment
from causalrec.pipelines.feature_sets import feature_sets
from causalrec.pipelines.fitted import curve_series
from causalrec.pipelines.inputs import Inputs, Truth, check_tables, load_inputs, register_tables
from causalrec.pipelines.log_quality import examine_log
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.ranking import RankingData, build_ranking, train_ranker
from causalrec.pipelines.rundir import RunDirectory, new_run_path
from causalrec.pipelines.scoring import LOADER, Scorer
from causalrec.pipelines.session import Session, opened_engine, tracked
from causalrec.pipelines.summary import (
    CROSS_CHECK,
    EFFECT,
    EFFECTS,
    IDENTIFICATION,
    REFUTATIONS,
    SENSITIVITY,
    RunSummary,
    findings,
    summarise,
)
from causalrec.pipelines.uplift import BOOSTING, train_uplift
from causalrec.pipelines.uplift_metrics import true_scores
from causalrec.results import BoostingCurveResult, Result
from causalrec.tracking import Stage


@dataclass(frozen=True)
class Prepared:
    """What the stages after the features work on; None where the data has nothing of the kind."""

    experiment: Design | None
    campaign: Design | None
    ranking: RankingData | None

    def for_uplift(self, config: RunConfig) -> Design | None:
        """The design that the uplift model learns from."""
        if config.uplift.design is not None:
            return self.experiment if config.uplift.design == "experiment" else self.campaign
        return self.experiment or self.campaign


def train(config: RunConfig, *, reporter: Reporter | None = None) -> RunSummary:
    """Run the pipeline; the run directory is complete or absent.

    Raises
    ------
    CausalRecError
        One of its children, naming what is wrong with the config, the data or the places to write to.
    """
    reporter = reporter or SilentReporter()
    target = new_run_path(config.output_dir, config.name)
    with (
        tracked(config, reporter, "train", {"run": target.name}) as tracker,
        new_directory(target) as partial,
    ):
        session = Session(config, reporter, tracker, RunDirectory(partial))
        with opened_engine(config) as engine:
            inputs, truth = _load(session, engine)
            prepared = _prepare(session, engine)
            _ranker(session, prepared)
            _uplift(session, prepared, truth)
            _effect(session, prepared, truth)
            _experiment(session, prepared, truth, engine)
        tracker.top.log_text("\n".join(session.notes) or "none", "notes.txt")
        _save(session, inputs, truth)
    return RunSummary(
        title=f"{config.name}: trained on {_seen(prepared)}",
        confidence_level=config.confidence_level,
        rows=summarise(session.results, session.truths),
        findings=findings(session.results),
        notes=tuple(session.notes),
        path=target,
        report=None,
        tracking=session.tracking_line(),
        results=session.results,
    )


def _load(session: Session, engine: Engine) -> tuple[Inputs, Truth | None]:
    with session.stage("data") as (_, stage):
        inputs, truth = load_inputs(session.config)
        _check_truth(session.config, truth)
        register_tables(inputs, engine)
        notes = [*inputs.notes, *check_tables(session.config, inputs, engine)]
        found, said = examine_log(session.config, engine)
        session.record(stage, found)
        notes += said
        for each in (stage, session.tracker.top):
            for line in inputs.lineage:
                each.log_dataset(
                    line.table, line.source, line.digest, line.columns, line.rows, context="training"
                )  # fmt: skip
    for text in notes:
        session.note(text)
    return inputs, truth


def _check_truth(config: RunConfig, truth: Truth | None) -> None:
    known = [] if truth is None else [str(c) for c in truth.units.columns]
    for name, design in (("experiment", config.experiment), ("campaign", config.campaign)):
        for outcome, settings in (design.outcomes if design is not None else {}).items():
            if settings.truth is not None and settings.truth not in known:
                what = f"expected one of {list_some(known, 20)}" if known else "this data has no known effects"
                raise ConfigError(
                    f"{name}.outcomes.{outcome}.truth is {settings.truth!r}; {what}.{nearest(settings.truth, known)}"
                )


def _prepare(session: Session, engine: Engine) -> Prepared:
    config = session.config
    store = FeatureStore(engine)
    with session.stage("features") as (_, stage):
        designs = {
            name: build_design(name, design, config, engine, store)
            for name, design in (("experiment", config.experiment), ("campaign", config.campaign))
            if design is not None
        }
        ranking = None
        if config.events is not None and config.ranker.enabled:
            ranking = build_ranking(config, config.events, engine, store)
        for text in (*(n for d in designs.values() for n in d.notes), *(ranking.notes if ranking is not None else ())):
            session.note(text)
        if config.events is not None:
            stage.set_tags({f"features.{s.name}": s.spec_hash for s in feature_sets(config, config.events)})
    return Prepared(designs.get("experiment"), designs.get("campaign"), ranking)


def _ranker(session: Session, prepared: Prepared) -> None:
    config, data = session.config, prepared.ranking
    if data is None:
        why = (
            "ranker.enabled is false"
            if config.events is not None
            else "the data has no event log (no `events:` section)"
        )
        session.note(f"ranker skipped: {why}")
        return
    with session.stage("ranker") as (_, stage):
        output = train_ranker(data, config)
        session.record(stage, output.results)
        stage.log_history(f"stopping_ndcg_at_{config.ranker.k}", output.history)
        stage.log_frame(output.importances, "tables/importances.json")
        _keep_model(session, stage, "ranker", output.scorer, data.train.frame)
    session.run.write_frame("holdout/ranking", data.test.frame)
    session.run.write_frame("holdout/ranking_missed", data.test.missed)
    session.described["ranker"] = {"item": data.item, "cutoffs": data.cutoffs, "n_silent": data.test.n_silent}


def _uplift(session: Session, prepared: Prepared, truth: Truth | None) -> None:
    config, design = session.config, prepared.for_uplift(session.config)
    why = None
    if design is None:
        why = "the data has no experiment and no campaign, and no treatment is made up"
    elif not config.uplift.enabled:
        why = "uplift.enabled is false"
    elif not design.covariates:
        why = f"the {design.name} has no covariates to predict from"
    if design is None or why is not None:
        session.note(f"uplift skipped: {why}")
        return
    with session.stage("uplift") as (_, stage):
        output = train_uplift(design, config)
        outcome = design.outcome(config.uplift.outcome)
        column = design.outcomes[outcome].truth
        session.record(stage, output.results, true_scores(output.scored, design.unit, column, truth, config))
        curves = output.results.get(BOOSTING)
        if isinstance(curves, BoostingCurveResult):
            stage.log_curves(curve_series(curves))
        stage.log_text(repr(output.scorer.model), "learner.txt")
        _keep_model(session, stage, "uplift", output.scorer, output.holdout)
    session.run.write_frame("holdout/uplift", output.holdout)
    session.described["uplift"] = {
        "unit": design.unit, "treatment": design.treatment, "outcome": outcome, "truth": column,
        "design": design.name, "propensity": output.propensity,
        "arms": [design.control, design.treated],
    }  # fmt: skip
    for text in output.notes:
        session.note(text)


def _effect(session: Session, prepared: Prepared, truth: Truth | None) -> None:
    config = session.config
    design = prepared.campaign or prepared.experiment
    if design is None or not config.average_effect.enabled:
        why = (
            "average_effect.enabled is false"
            if design is not None
            else "the data has no treatment, and none is made up"
        )
        session.note(f"average effect skipped: {why}")
        return
    with session.stage("average effect") as (advance, stage):
        output = estimate_effect(design, config, advance)
        found: dict[str, Result | None] = {
            IDENTIFICATION: output.identification,
            EFFECT: output.effect,
            CROSS_CHECK: output.cross_check,
            EFFECTS: output.comparison,
            "balance": output.balance,
            "overlap": output.overlap,
            **refutation_results(output.refutations),
            REFUTATIONS: output.refutations,
            SENSITIVITY: output.sensitivity,
        }
        mean = _truth_of(design, design.outcome(config.average_effect.outcome), truth, output.units)
        known = {EFFECT: mean, CROSS_CHECK: mean}
        session.record(stage, {k: v for k, v in found.items() if v is not None}, known)
        session.tracker.top.set_tags(study_tags(output.refutations))
        for name, text in effect_texts(output.identification, output.refutations, output.sensitivity).items():
            stage.log_text(text, f"{name}.txt")
    for text in output.notes:
        session.note(f"average effect: {text}")


def _experiment(session: Session, prepared: Prepared, truth: Truth | None, engine: Engine) -> None:
    config, design = session.config, prepared.experiment
    why = _obstacle(design, enabled=config.abtest.enabled, key="abtest")
    if design is None or why is not None:
        session.note(f"A/B test skipped: {why}")
        return
    with session.stage("A/B test") as (_, stage):
        output = analyse_experiment(design, config, engine)
        ratio: dict[str, Result] = {} if output.ratio is None else {"sample_ratio": output.ratio}
        results = {f"ab_{r.metric}": r for r in output.metrics}
        units = design.frame[design.unit]
        known = {f"ab_{r.metric}": _truth_of(design, r.metric, truth, units) for r in output.metrics}
        session.record(stage, ratio | results, known)
    for text in output.notes:
        session.note(text)


def _obstacle(design: Design | None, *, enabled: bool, key: str) -> str | None:
    """Why the stage that reads the experiment's arms as randomised cannot run; None when it can."""
    if design is None:
        return "the data has no experiment, and no treatment is made up"
    if not enabled:
        return f"{key}.enabled is false"
    if not design.randomised:
        return "experiment.randomised is false, so the arms differ by more than the treatment; see the average effect"
    return None


def _truth_of(design: Design, outcome: str, truth: Truth | None, units: pd.Series | None) -> float:
    return float("nan") if truth is None or units is None else truth.mean(design.outcomes[outcome].truth, units)


def _keep_model(session: Session, stage: Stage, kind: str, scorer: Scorer, frame: pd.DataFrame) -> None:
    """Write the model into the run, and log and register the same files."""
    session.run.write_model(kind, scorer)
    if not session.tracker.active:
        return
    name = f"{session.config.name}_{kind}"
    version = stage.log_model(
        session.run.model_path(kind), kind, frame[list(scorer.spec.columns)].head(5), loader=LOADER,
        registered_name=name,
    )  # fmt: skip
    if version is not None:
        session.models[kind] = {"name": name, "version": version}


def _save(session: Session, inputs: Inputs, truth: Truth | None) -> None:
    run = session.run
    run.write_config(session.config)
    run.write_results(session.results)
    if truth is not None:
        run.write_frame("truth/units", truth.units)
    lineage = [vars(line) for line in inputs.lineage]
    run.write_info(session.info("train", **session.described, models=dict(session.models), data=lineage))


def _seen(prepared: Prepared) -> str:
    parts = []
    for design in (prepared.experiment, prepared.campaign):
        if design is not None:
            parts.append(f"{len(design.frame):,} units of the {design.name}")
    if prepared.ranking is not None:
        parts.append(f"{prepared.ranking.train.frame['query'].nunique():,} ranking queries")
    return ", ".join(parts) or "no stage"
