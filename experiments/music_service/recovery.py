"""What was planted against what was found, and how often it would have been found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from causalrec.abtest import Experiment, adjust_pvalues
from causalrec.datasets import ServiceTruth, simulate_service
from causalrec.results import ABResult, HeterogeneityResult

ALL = "all users"
USUAL_POWER = 0.8


def recovery(effects: Sequence[ABResult], truth: ServiceTruth, *, alpha: float = 0.05) -> pd.DataFrame:
    """A row per effect: planted, estimated, whether the interval covers it, whether it was seen.

    p-values of all users are one family for Holm's method, those of the segments another.
    """
    table = pd.DataFrame([_row(effect, truth) for effect in effects])
    family = table["segment"] == ALL
    table["p_holm"] = table.groupby(family)["p"].transform(lambda p: adjust_pvalues(p, "holm"))
    return table.assign(detected=table["p"] < alpha, after_holm=table["p_holm"] < alpha)


def _row(effect: ABResult, truth: ServiceTruth) -> dict[str, object]:
    planted = truth.effect(effect.metric, *place(effect))
    return {
        "metric": effect.metric, "segment": effect.segment or ALL, "truth": planted, "estimate": effect.estimate,
        "low": effect.ci_low, "high": effect.ci_high, "covered": effect.ci_low <= planted <= effect.ci_high,
        "p": effect.pvalue,
    }  # fmt: skip


def place(effect: ABResult) -> tuple[str, str]:
    """Dimension and group of an effect; empty for all users."""
    dimension, _, group = effect.segment.partition(" = ")
    return dimension, group


def sensitivity(
    experiment: Experiment, frame: pd.DataFrame, effects: Sequence[ABResult], truth: ServiceTruth
) -> pd.DataFrame:
    """The power for what was planted, and the smallest effect that has 80%, with the users of each group.

    The spread is that of control, less what covariates take away. Where nothing was planted there is no power.
    """
    rows = []
    collected = {}
    for effect in effects:
        dimension, group = place(effect)
        where = f"{dimension} = '{group}'" if dimension else None
        here = replace(experiment, where=where, segments=())
        if where not in collected:
            collected[where] = here.collect(frame)
        users, arms = effect.n_control + effect.n_treatment, (effect.n_control, effect.n_treatment)
        solve = partial(here.solve_power, collected[where], metrics=[effect.metric], n_obs=users, weights=arms)
        planted = truth.effect(effect.metric, dimension, group)
        [smallest] = solve(power=USUAL_POWER)
        rows.append({
            "metric": effect.metric, "segment": effect.segment or ALL, "users": users, "truth": planted,
            "power": solve(effect=planted)[0].power if planted else math.nan,
            "smallest_seen": smallest.effect, "relative": smallest.relative_effect,
        })  # fmt: skip
    return pd.DataFrame(rows)


def tallies(table: pd.DataFrame) -> pd.DataFrame:
    """A row per metric, all users apart from segments: how many were covered, how many seen, how many false alarms."""
    counted = table.assign(planted=table["truth"] != 0, of=table["segment"].where(table["segment"] == ALL, "segments"))
    rows = []
    for (metric, of), part in counted.groupby(["metric", "of"], sort=False):
        seen = part[part["planted"]]
        nothing = part[~part["planted"]]
        rows.append({
            "metric": metric, "of": of, "effects": len(part), "covered": int(part["covered"].sum()),
            "planted": len(seen), "seen": int(seen["detected"].sum()), "seen, Holm": int(seen["after_holm"].sum()),
            "nothing planted": len(nothing), "false alarms": int(nothing["detected"].sum()),
            "false, Holm": int(nothing["after_holm"].sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def repeat(experiment: Experiment, seeds: Iterable[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same experiment on other users, once per seed: the rows of :func:`recovery`, and the interaction tests."""
    effects, interactions = [], []
    for seed in seeds:
        frame, truth = simulate_service(random_state=seed)
        result = experiment.analyze(frame)
        effects.append(recovery([*result.effects, *result.segments], truth).assign(seed=seed))
        interactions.append(interaction_table(result.interactions).assign(seed=seed))
    return pd.concat(effects, ignore_index=True), pd.concat(interactions, ignore_index=True)


def interaction_table(tests: Sequence[HeterogeneityResult]) -> pd.DataFrame:
    """A row per metric and dimension: does the effect differ between groups?"""
    table = pd.DataFrame([{"metric": t.metric, "by": t.dimension, "Q": t.statistic, "df": t.df, "p": t.pvalue}
                          for t in tests])  # fmt: skip
    return table.assign(p_holm=adjust_pvalues(table["p"], "holm"))


def over_repeats(effects: pd.DataFrame) -> pd.DataFrame:
    """Shares over the repeats, per metric and segment."""
    grouped = effects.groupby(["metric", "segment"], sort=False)
    return grouped.agg(
        truth=("truth", "first"), mean_estimate=("estimate", "mean"), covered=("covered", "mean"),
        seen=("detected", "mean"), seen_holm=("after_holm", "mean"),
    ).reset_index()  # fmt: skip
