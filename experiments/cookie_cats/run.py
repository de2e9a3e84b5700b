"""Should a mobile game stop its players at level 30 or at level 40? 90,189 players of Cookie Cats.

The split is not what it should be, one player played 49,854 rounds, and most players never met a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalrec.abtest import (
    Experiment,
    Mean,
    NonInferiority,
    Proportion,
    SampleRatio,
    adjust_pvalues,
    bootstrap_diff,
    permutation_test,
    sample_ratio_test,
    solve_power,
    two_proportion_test,
)
from causalrec.datasets import load_dataset
from causalrec.plots import plot_distribution, plot_rates, plot_resampling
from causalrec.report import SummaryRow
from causalrec.results import (
    ABResult,
    EffectResult,
    ExperimentResult,
    ResamplingResult,
    SampleRatioResult,
    format_pvalue,
)
from experiments._study import Study, forest_in_points, how_made, in_points, study_arguments

CONTROL, TREATMENT = "gate_30", "gate_40"
ROUNDS, REACHED = "sum_gamerounds", "reached"
FIRST_GATE = 30  # levels; a level takes a round at least
MARGIN = 0.005  # the loss of 7-day retention that a product team might bear
EVERYONE, COULD_MEET, DILUTED, COULD_NOT = (
    "all players", "reached level 30", "the same, diluted to all", "cannot have met a gate"
)  # fmt: skip
Z = 1.959963984540054  # of a 95% interval
SEED = 1  # of bootstrap and permutation
OWN, UNTOUCHED, SHARES = "reached level 30: own difference", "did not: own difference", "fewer reached level 30"
METHODS = ("wald", "newcombe", "miettinen-nurminen", "agresti-caffo", "g", "fisher")


@dataclass(frozen=True)
class CookieCats:
    """What the study found."""

    split: SampleRatioResult
    split_of_others: SampleRatioResult
    everyone: ExperimentResult
    triggered: ExperimentResult
    by_reached: ExperimentResult
    retention: dict[str, ABResult]
    safe: ABResult
    worst_case: ABResult
    rounds: dict[str, EffectResult]
    parts: pd.DataFrame


def load_players(data_dir: object = None) -> pd.DataFrame:
    """A row per player, and whether the player played enough rounds to meet a gate in either version."""
    frame = load_dataset("cookie_cats", data_dir).frame  # type: ignore[arg-type]
    return frame.assign(**{REACHED: frame[ROUNDS] >= FIRST_GATE})


def experiment(**options: object) -> Experiment:
    """Retention, and rounds as they are and with their largest values clipped."""
    metrics = {
        "retention_1": Proportion("retention_1"), "retention_7": Proportion("retention_7"), "rounds": Mean(ROUNDS),
        "rounds, 99.9% clip": Mean(ROUNDS, winsorize=0.999), "rounds, 99% clip": Mean(ROUNDS, winsorize=0.99),
        "split": SampleRatio(),
    }  # fmt: skip
    return Experiment(metrics, variant="version", control=CONTROL, unit="userid", **options)  # type: ignore[arg-type]


def retention_counts(players: pd.DataFrame) -> tuple[int, int, int, int]:
    """Players back after seven days and all players, of control, then of treatment."""
    table = players.groupby("version")["retention_7"].agg(["sum", "size"]).loc[[CONTROL, TREATMENT]]
    (back0, n0), (back1, n1) = table.to_numpy().tolist()
    return back0, n0, back1, n1


def lost_players(counts: tuple[int, int, int, int]) -> ABResult:
    """The test if control had lost as many players as it lacks, and none of them would have come back."""
    back, n, *treatment = counts
    return two_proportion_test(
        back, max(n, treatment[1]), *treatment, metric="retention_7", control=CONTROL, treatment=TREATMENT
    )


def decompose(players: pd.DataFrame) -> pd.DataFrame:
    """The difference in 7-day retention in three parts that add up to it (Kitagawa 1955), a row each.

    Players who reached level 30 and players who did not, each by the difference of their own retention times their mean
    share of the arms, and what the arms' different shares make. Errors by the delta method.
    """
    cells = players.groupby(["version", REACHED])["retention_7"].agg(["size", "mean"])
    sizes, rates = (cells[c].unstack().loc[[CONTROL, TREATMENT]].to_numpy()[:, ::-1] for c in ("size", "mean"))
    n = sizes.sum(axis=1)
    share = sizes[:, 0] / n
    var_share = share * (1 - share) / n
    var_rate = rates * (1 - rates) / sizes
    weight = np.array([share.mean(), 1 - share.mean()])
    own, gap = rates[1] - rates[0], rates.mean(axis=0)
    moved, distance = share[1] - share[0], gap[0] - gap[1]
    parts = {
        OWN: (weight[0] * own[0], weight[0] ** 2 * var_rate[:, 0].sum() + own[0] ** 2 * var_share.sum() / 4),
        UNTOUCHED: (weight[1] * own[1], weight[1] ** 2 * var_rate[:, 1].sum() + own[1] ** 2 * var_share.sum() / 4),
        SHARES: (moved * distance, distance**2 * var_share.sum() + moved**2 * var_rate.sum() / 4),
    }
    rows = [(name, value, value - Z * np.sqrt(v), value + Z * np.sqrt(v)) for name, (value, v) in parts.items()]
    return pd.DataFrame(rows, columns=["part", "difference", "low", "high"])


def rounds_by_resampling(players: pd.DataFrame, rng: int = SEED) -> dict[str, ResamplingResult]:
    """Means and medians of rounds by bootstrap and permutation."""
    by_arm = dict(list(players.groupby("version")[ROUNDS]))
    control, treatment = by_arm[CONTROL].to_numpy(float), by_arm[TREATMENT].to_numpy(float)
    generator = np.random.default_rng(rng)
    found = {
        f"mean, {method} bootstrap": bootstrap_diff(control, treatment, method=method, rng=generator)
        for method in ("percentile", "bca", "studentized")
    }
    found["mean, permutation"] = permutation_test(control, treatment, rng=generator)
    found["median, percentile bootstrap"] = bootstrap_diff(control, treatment, statistic="median", rng=generator)
    found["median, permutation"] = permutation_test(
        control, treatment, statistic="median", n_resamples=1_000, rng=generator
    )
    return found


def study_players(players: pd.DataFrame) -> CookieCats:
    """Everything that the page tells."""
    sizes = players.groupby("version").size().to_dict()
    others = players[~players[REACHED]].groupby("version").size().to_dict()
    counts = retention_counts(players)
    names = {"metric": "retention_7", "control": CONTROL, "treatment": TREATMENT}
    everyone = experiment().analyze(players)
    return CookieCats(
        split=sample_ratio_test(sizes), split_of_others=sample_ratio_test(others), everyone=everyone,
        triggered=experiment(trigger=REACHED).analyze(players),
        by_reached=experiment(segments=REACHED).analyze(players),
        retention={m: two_proportion_test(*counts, method=m, **names) for m in METHODS},  # type: ignore[arg-type]
        safe=two_proportion_test(*counts, hypothesis=NonInferiority(MARGIN), **names),  # type: ignore[arg-type]
        worst_case=lost_players(counts),
        rounds={"mean, Welch": everyone["rounds"], "mean, clipped at 99.9%": everyone["rounds, 99.9% clip"],
                "mean, clipped at 99%": everyone["rounds, 99% clip"], **rounds_by_resampling(players)},
        parts=decompose(players),
    )  # fmt: skip


def _effects(results: Sequence[EffectResult], names: Sequence[str], first: str, factor: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({
        first: names, "difference": [round(factor * r.estimate, 3) for r in results],
        "low": [round(factor * r.ci_low, 3) for r in results], "high": [round(factor * r.ci_high, 3) for r in results],
        "p": [format_pvalue(r.pvalue) for r in results],
    })  # fmt: skip


def _points(effect: EffectResult) -> str:
    return f"{100 * effect.estimate:+.2f} points [{100 * effect.ci_low:+.2f}, {100 * effect.ci_high:+.2f}]"


def _tell_split(study: Study, found: CookieCats) -> None:
    [within] = found.by_reached.segment_ratios
    ratio = found.split
    table = pd.DataFrame({
        "players": ["all", *(f"reached level {FIRST_GATE}: {'yes' if s == 'True' else 'no'}" for s in within.segment)],
        "n": [ratio.n_obs, *within.n], "chi-square": [round(ratio.statistic, 2), *within.statistic.round(2)],
        "p": [format_pvalue(p) for p in (ratio.pvalue, *within.raw_pvalue)],
    })  # fmt: skip
    n = dict(zip(ratio.arms, ratio.counts, strict=True))
    study.add(
        "Is the split as it should be?",
        f"{n[CONTROL]:,} players have the gate at level 30 and {n[TREATMENT]:,} at 40. An even split misses by so much "
        f"once in {1 / ratio.pvalue:.0f} experiments (p = {ratio.pvalue:.4f}). That is no alarm at the threshold .001, "
        "which tools that check thousands of experiments take (causalrec's default), and one at .01, which is fair "
        "for a single experiment looked at by hand. We take it as a warning, and look where the players are missing.",
        f"They are missing among those who played fewer than {FIRST_GATE} rounds "
        f"(p = {format_pvalue(found.split_of_others.pvalue)}): nobody of them met a gate, so no gate can be the cause. "
        "Among the others the split is even. So assignment or logging went wrong early, or chance did it.",
        tables={"Even split, all players and by whether they can have met a gate": table},
    )


def _tell_retention(study: Study, found: CookieCats) -> None:
    one, seven = found.everyone["retention_1"], found.everyone["retention_7"]
    holm = adjust_pvalues([one.pvalue, seven.pvalue], "holm")
    lacking = found.split.counts[1] - found.split.counts[0]
    study.add(
        "Retention of all players, as it is usually told",
        f"After one day {_points(one)}, after seven {_points(seven)}; p = {holm[0]:.3f} and {holm[1]:.4f} after Holm's "
        "correction for two metrics.",
        f"That gate 40 loses no more than {100 * MARGIN:g} points is not shown (p = {found.safe.pvalue:.2f}).",
        f"Had control lost the {lacking} players that it lacks, and would none of them have come back, the difference "
        f"would be {_points(found.worst_case)}, p = {found.worst_case.pvalue:.3f}: a fault of this size could make "
        "much of the finding.",
        tables={"7-day retention, percentage points by each method":
                _effects([*found.retention.values()], [*found.retention], "method", 100)},
        figures={"retention_7": plot_rates([seven], as_percent=True)},
    )  # fmt: skip


def _tell_trigger(study: Study, found: CookieCats) -> None:
    one, seven = (_among(found, metric) for metric in ("retention_1", "retention_7"))
    rows = {
        **{f"retention_1: {who}": e for who, e in one.items()},
        **{f"retention_7: {who}": e for who, e in seven.items()},
    }
    study.add(
        "Only players who could meet a gate",
        "A gate can act on no one who played fewer than 30 rounds, and it cannot change who plays 30. So the players "
        "with 30 rounds or more are an experiment of their own, and one whose split is even.",
        f"There gate 40 changes 7-day retention by {_points(seven[COULD_MEET])}, that is {_points(seven[DILUTED])} of "
        "all players.",
        f"{_parts(found)} No gate can have made the last two.",
        tables={"Percentage points": _effects([*rows.values()], [*rows], "effect on", 100),
                "The usual difference in parts, percentage points": _in_points(found.parts)},
        figures={"effects": forest_in_points(
            [replace(e, segment=who) for who, e in seven.items()], "7-day retention, gate 40 against gate 30")},
    )  # fmt: skip


def _in_points(parts: pd.DataFrame) -> pd.DataFrame:
    numbers = parts.columns[1:]
    return parts.assign(**{c: (100 * parts[c]).round(3) for c in numbers})


def _parts(found: CookieCats) -> str:
    """The usual difference, told in its parts."""
    part = {row.part: f"{100 * row.difference:+.2f} [{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
            for row in found.parts.itertuples(index=False)}  # fmt: skip
    reached = [found.triggered["retention_7"].n_control / found.split.counts[0],
               found.triggered["retention_7"].n_treatment / found.split.counts[1]]  # fmt: skip
    return (
        f"The usual {100 * found.everyone['retention_7'].estimate:+.2f} points are the sum of {part[OWN]} from players "
        f"who reached level 30 and came back less often, {part[UNTOUCHED]} from players who did not reach it and came "
        f"back less often, and {part[SHARES]} because fewer players of gate 40 reached it ({reached[1]:.1%} against "
        f"{reached[0]:.1%}), which is the uneven split over again."
    )


def _among(found: CookieCats, metric: str) -> dict[str, ABResult]:
    """The effect on a metric among all, those who could meet a gate, all again, and those who could not."""
    [diluted] = [e for e in found.triggered.diluted if e.metric == metric]
    [placebo] = [e for e in found.by_reached.segments if (e.metric, e.segment) == (metric, f"{REACHED} = False")]
    return {
        EVERYONE: found.everyone[metric], COULD_MEET: found.triggered[metric], DILUTED: diluted, COULD_NOT: placebo,
    }  # fmt: skip


def _tell_rounds(study: Study, players: pd.DataFrame, found: CookieCats) -> None:
    own = experiment()
    outliers = next(o for o in own.outliers(players) if o.metric == "rounds")
    bootstrap = found.rounds["mean, percentile bootstrap"]
    most, raw = players[ROUNDS].max(), found.everyone["rounds"]
    medians = found.rounds["median, permutation"]
    box = next(d for d in own.distributions(players) if d.metric == "rounds")
    study.add(
        "Rounds played",
        f"One player of gate 30 played {most:,} rounds in 14 days, one every {14 * 86_400 / most:.0f} seconds by day "
        f"and night; it makes {most / found.split.counts[0]:.1f} of the {-raw.estimate:.1f} rounds by which the means "
        "differ.",
        "However the mean is taken, rounds do not differ by more than chance. The medians are "
        f"{medians.control_value:g} and {medians.treatment_value:g}; rounds are whole numbers, so a median can only "  # type: ignore[attr-defined]
        "jump, and an interval by the normal law would say far too much: the permutation test is the one to read.",
        f"Beyond the 99th percentile ({outliers.high:.0f} rounds) are as many players of either gate "
        f"(p = {outliers.pvalue:.2f}), so clipping favours none.",
        tables={"Rounds, gate 40 − gate 30": _effects([*found.rounds.values()], [*found.rounds], "what, how"),
                "Beyond the 99th percentile": outliers.to_frame()},
        figures={"bootstrap": plot_resampling(bootstrap), "rounds": plot_distribution(box)},  # type: ignore[arg-type]
    )  # fmt: skip


def _conclusions(found: CookieCats) -> list[str]:
    among = _among(found, "retention_7")
    usual, clean, diluted = among[EVERYONE], among[COULD_MEET], among[DILUTED]
    needed = solve_power(proportion=clean.control_mean, effect=clean.estimate, power=0.8)
    return [
        "Leave the gate at level 30. Nothing speaks for 40: a gain in 7-day retention of more than "
        f"{max(100 * diluted.ci_high, 0):.2f} points of all players is ruled out (95%), a loss of "
        f"{-100 * diluted.ci_low:.2f} is not.",
        f"Do not quote the {_points(usual)} that this test is known for (p = {usual.pvalue:.4f}): the split is "
        f"suspicious (p = {found.split.pvalue:.4f}), and that among players who never met a gate. {_parts(found)}",
        f"What the gate itself does is smaller and not certain: {_points(clean)} among players who reach level 30, "
        f"p = {clean.pvalue:.2f}.",
        "Before the next test find why gate 30 has fewer players who left early; then count only players who reach "
        f"level 30. To see {100 * clean.estimate:.2f} points of theirs with 80% power takes {needed.n_obs:,} of them; "
        f"this test had {clean.n_obs:,}.",
        "Rounds played do not differ by more than chance; most of the difference of the means is one account.",
    ]


_CAVEATS = [
    "Whether .0086 is a broken split or bad luck cannot be known from the counts. Whoever calls every p below .01 a "
    "mismatch is wrong once in a hundred sound experiments.",
    "That the gate cannot change who plays 30 rounds rests on the game: a level takes at least one round, and before "
    "level 30 both versions are the same. The threshold was chosen for that reason, after the split had been seen.",
    "Rounds are of the first 14 days, retention of day 1 and day 7; purchases are not in the data.",
    "Intervals and p-values are each for one question; of the page as a whole a few will be wrong.",
]


def main(arguments: Sequence[str] | None = None) -> CookieCats:
    """Run the study and write its page."""
    asked = study_arguments("cookie_cats", __doc__, arguments)
    study = Study(
        "Cookie Cats: a gate at level 30 or 40",
        "Do more players come back, or play more, if the first forced wait comes at level 40 instead of 30?",
    )
    players = load_players(asked.data_dir)
    found = study_players(players)
    _tell_split(study, found)
    _tell_retention(study, found)
    _tell_trigger(study, found)
    _tell_rounds(study, players, found)
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=_CAVEATS,
        summary=[*(SummaryRow.of("7-day retention, points", who, in_points(e))
                   for who, e in _among(found, "retention_7").items()),
                 SummaryRow.of("1-day retention, points", "all players", in_points(found.everyone["retention_1"])),
                 SummaryRow.of("rounds", "all players, clipped at 99.9%", found.everyone["rounds, 99.9% clip"])],
        made=how_made("cookie_cats", data=["cookie_cats"], data_dir=asked.data_dir,
                      seeds=f"{SEED} for bootstrap and permutation"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
