"""What would daily looks have said? 78 experiments of ASOS, 99 arms, 4 metrics, every half day.

A fixed test that is read at every look, against always valid and group-sequential analyses of the same moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest import (
    AlwaysValid,
    Experiment,
    GroupPlan,
    Mean,
    Monitor,
    confidence_sequence,
    group_sequential_bounds,
    welch_test,
)
from causalrec.datasets import load_dataset
from causalrec.moments import Moments
from causalrec.plots import plot_intervals_over_time, plot_stops, plot_time_saved
from causalrec.report import SummaryRow
from causalrec.results import MonitorResult, TimeSavedResult
from experiments._study import Study, how_made, study_arguments

KEYS = ["experiment_id", "variant_id", "metric_id"]
TIME = "time_since_start"
ALPHA, LEVEL = 0.05, 0.95
FEWEST = 10  # units in each arm at the first look
FEWEST_NEW = 0.005  # of the units at the end: looks of a group-sequential test are so far apart at least
PEEKING, VALID, GROUP = "fixed test, every look", "always valid", "group sequential"
METHODS = (PEEKING, VALID, GROUP)
TUNING = (0.25, 1.0, 4.0)  # of the units at the end


@dataclass(frozen=True)
class Asos:
    """What the study found: a row per comparison, one per look, and the plots' results."""

    comparisons: pd.DataFrame
    looks: pd.DataFrame
    saved: TimeSavedResult
    by_tuning: pd.DataFrame
    example: tuple[MonitorResult, MonitorResult]
    example_name: str


def load_looks(data_dir: object = None) -> pd.DataFrame:
    """A row per comparison and look at which there is something to test: new units, and a variance."""
    frame = load_dataset("asos", data_dir).frame  # type: ignore[arg-type]
    counts, variances = frame[["count_c", "count_t"]], frame[["variance_c", "variance_t"]]
    known = variances.notna().all(axis=1) & (variances.sum(axis=1) > 0) & (counts.min(axis=1) >= FEWEST)
    frame = frame[known].sort_values([*KEYS, TIME], ignore_index=True)
    frame["n"] = (frame["count_c"] + frame["count_t"]).astype(int)
    new = frame.groupby(KEYS)["n"].diff().fillna(1) > 0
    return frame[new].reset_index(drop=True)


def fixed_tests(looks: pd.DataFrame) -> pd.DataFrame:
    """Welch's test at every look, as if it were the only one."""
    rows = []
    columns = ("mean_c", "variance_c", "count_c", "mean_t", "variance_t", "count_t")
    for row in looks[[*columns]].to_numpy(np.float64).tolist():
        found = welch_test(row[0], row[1], int(row[2]), row[3], row[4], int(row[5]))
        rows.append((found.estimate, found.std_error, found.statistic, found.pvalue))
    return looks.assign(**dict(zip(("effect", "std_error", "z", "p"), np.array(rows).T, strict=True)))


def valid_answers(looks: pd.DataFrame, share: float = 1.0) -> np.ndarray:
    """Whether the always valid interval is without zero, tuned for ``share`` of the units at the end."""
    found = np.zeros(len(looks), dtype=bool)
    for _, rows in looks.groupby(KEYS):
        low, high = confidence_sequence(
            rows["effect"], rows["std_error"] * np.sqrt(rows["n"]), rows["n"],
            n_tuning=share * float(rows["n"].iloc[-1]), confidence_level=LEVEL,
        )  # fmt: skip
        found[rows.index] = (low > 0) | (high < 0)
    return found


def spaced(units: pd.Series) -> np.ndarray:
    """Which looks a group-sequential test takes: the last, and before it those a share of the units apart."""
    n, step = units.to_numpy(), FEWEST_NEW * float(units.iloc[-1])
    kept = np.zeros(len(n), dtype=bool)
    kept[-1], last = True, 0.0
    for k in range(len(n) - 1):
        if n[k] - last >= step and n[-1] - n[k] >= step:
            kept[k], last = True, n[k]
    return kept


def group_answers(looks: pd.DataFrame) -> np.ndarray:
    """Whether the statistic is beyond the bound: O'Brien–Fleming spending, the maximum being the units at the end."""
    found = np.zeros(len(looks), dtype=bool)
    for _, rows in looks.groupby(KEYS):
        taken = rows[spaced(rows["n"])]
        bounds = group_sequential_bounds(tuple(taken["n"] / taken["n"].iloc[-1]), alpha=ALPHA)
        found[taken.index] = taken["z"].abs().to_numpy() >= bounds.upper
    return found


def first_answers(looks: pd.DataFrame) -> pd.DataFrame:
    """A row per comparison: the answer at the end, and the time and sign of each method's first answer before it."""
    groups = looks.groupby(KEYS)
    ends = groups.tail(1).set_index(KEYS)
    table = pd.DataFrame({
        "days": ends[TIME], "looks": groups.size(), "units": ends["n"], "z_end": ends["z"], "p_end": ends["p"],
    })  # fmt: skip
    for method in METHODS:
        first = looks[looks[method]].groupby(KEYS).head(1).set_index(KEYS)
        table[f"{method}: day"] = first[TIME]
        table[f"{method}: z"] = first["z"]
    return table.reset_index()


def count_answers(comparisons: pd.DataFrame) -> pd.DataFrame:
    """A row per metric and one for all: answers of each method, and how they stand to the fixed test at the end."""
    rows = []
    parts = [(f"metric {m}", part) for m, part in comparisons.groupby("metric_id")]
    for name, part in [*parts, ("all", comparisons)]:
        end = part["p_end"] < ALPHA
        ever = {method: part[f"{method}: day"].notna() for method in METHODS}
        rows.append({
            "metric": name, "comparisons": len(part), "fixed, at the end": int(end.sum()),
            "fixed, at some look": int(ever[PEEKING].sum()),
            "of these gone at the end": int((ever[PEEKING] & ~end).sum()),
            "always valid": int(ever[VALID].sum()), "always valid, not at the end": int((ever[VALID] & ~end).sum()),
            "group sequential": int(ever[GROUP].sum()),
            "group sequential, not at the end": int((ever[GROUP] & ~end).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def monitored(looks: pd.DataFrame, key: tuple[object, ...]) -> tuple[MonitorResult, MonitorResult]:
    """One comparison through the monitor at whole days: always valid, and group sequential."""
    rows = looks[(looks[KEYS] == list(key)).all(axis=1)]
    rows = rows[(rows[TIME] % 1 == 0) | (rows[TIME] == rows[TIME].iloc[-1])]
    whole = rows[spaced(rows["n"])]
    experiment = Experiment({f"metric {key[2]}": Mean("x")}, variant="arm", control="control")
    n_end = int(rows["n"].iloc[-1])
    ways = (AlwaysValid(n_tuning=n_end), GroupPlan(n_end))
    found = []
    for way in ways:
        monitor = Monitor(experiment, way)
        for row in whole.itertuples():
            day = f"{getattr(row, TIME):g}"
            arms = {"control": (row.count_c, row.mean_c, row.variance_c),
                    "treatment": (row.count_t, row.mean_t, row.variance_t)}  # fmt: skip
            monitor.look(
                {
                    a: Moments.from_covariance(int(n), ["x"], np.array([m]), np.array([[v]]))
                    for a, (n, m, v) in arms.items()
                },
                label=day,
            )
        found.append(monitor.status)
    return found[0], found[1]  # type: ignore[return-value]


def choose_example(comparisons: pd.DataFrame, looks: pd.DataFrame) -> tuple[object, ...]:
    """A win of the fixed test that lasts for the most looks and is gone at the end, among those of 15 to 45 days."""
    gone = comparisons[
        (comparisons["p_end"] > 0.2) & comparisons[f"{PEEKING}: day"].notna() & comparisons["days"].between(15, 45)
        & comparisons[f"{VALID}: day"].isna() & comparisons[f"{GROUP}: day"].isna()
    ]  # fmt: skip
    lasted = looks[looks[PEEKING]].groupby(KEYS).size()
    index = pd.MultiIndex.from_frame(gone[KEYS])
    best: Any = lasted.reindex(index).idxmax()
    return tuple(best)


def study_experiments(raw: pd.DataFrame) -> Asos:
    """Everything that the page tells."""
    looks = fixed_tests(raw)
    looks[PEEKING] = looks["p"] < ALPHA
    looks[VALID], looks[GROUP] = valid_answers(looks), group_answers(looks)
    comparisons = first_answers(looks)
    saved = TimeSavedResult(
        METHODS, "days", len(comparisons), comparisons["days"].to_numpy(np.float64),
        np.array([comparisons[f"{method}: day"].to_numpy(np.float64) for method in METHODS]),
    )  # fmt: skip
    tuned = []
    for share in TUNING:
        answers = looks[valid_answers(looks, share)]
        first = answers.groupby(KEYS).head(1).set_index(KEYS)[TIME]
        days = comparisons.set_index(KEYS)["days"]
        early = (days - first).dropna()
        tuned.append({"tuned for, of the units at the end": share, "answers": len(first),
                      "median days saved": float(early[early > 0].median())})  # fmt: skip
    key = choose_example(comparisons, looks)
    return Asos(comparisons, looks, saved, pd.DataFrame(tuned), monitored(looks, key),
                f"experiment {key[0]}, arm {key[1]}, metric {key[2]}")  # fmt: skip


def _tell(study: Study, found: Asos) -> None:
    counts, table = count_answers(found.comparisons), found.saved.to_frame()
    total = counts.iloc[-1]
    peeked, gone = total["fixed, at some look"], total["of these gone at the end"]
    valid, group = found.example
    study.add(
        "Answers and what becomes of them",
        f"{peeked} of {len(found.comparisons)} comparisons are below p = .05 at one look at least; {gone} of these are "
        "not at the last. The fixed test at the end is no truth either, but it is the analysis that was planned.",
        "In most that vanish under the other two as well the statistic is far out early and near zero at the end, for "
        "half of them on metric 2: no method takes that for chance, and no method can know that an effect will fade.",
        tables={
            "Comparisons with an answer": counts[[*counts.columns[:5]]],
            "Comparisons with an answer, by analyses that bear looking": counts[["metric", *counts.columns[5:]]],
        },
        figures={"stops": plot_stops(found.saved, title="Comparisons with an answer, by time")},
    )
    study.add(
        "Days saved",
        "Of comparisons that stop before their end, and of all days of all comparisons. Days that the fixed test "
        "'saves' are those of false alarms too.",
        tables={"Time saved": table, "Always valid, by the number of units that it is tuned for": found.by_tuning},
        figures={"saved": plot_time_saved(found.saved)},
    )
    study.add(
        "One that vanished",
        f"{found.example_name}, looked at on whole days: {_example_words(valid)}",
        figures={"example": plot_intervals_over_time([valid, group], by="label", xlabel="day",
                                                     title=found.example_name[0].upper() + found.example_name[1:])},
    )  # fmt: skip


def _example_words(valid: MonitorResult) -> str:
    history = valid.history()
    wins = history[(history["fixed_low"] > 0) | (history["fixed_high"] < 0)]
    return (
        f"the fixed test has p below .05 on {len(wins)} of {len(history)} days, first on day {wins['label'].iloc[0]}, "
        f"last on day {wins['label'].iloc[-1]}; neither of the others ever gives an answer."
    )


def _conclusions(found: Asos) -> list[str]:
    total = count_answers(found.comparisons).iloc[-1]
    table: Any = found.saved.to_frame().set_index("method")
    n, ended = len(found.comparisons), total["fixed, at the end"]
    flipped = found.comparisons[found.comparisons[f"{PEEKING}: z"] * found.comparisons["z_end"] < 0]
    agree = {
        method: int(((found.comparisons["p_end"] < ALPHA) == found.comparisons[f"{method}: day"].notna()).sum())
        for method in (VALID, GROUP)
    }
    gone = {VALID: total["always valid, not at the end"], GROUP: total["group sequential, not at the end"]}
    return [
        f"Whoever stops at the first p below .05 announces {total['fixed, at some look']} of {n} comparisons, twice as "
        f"many as the fixed test finds at the end ({ended}); {total['of these gone at the end']} are not significant "
        f"at the end, and in {len(flipped)} the effect points the other way by then.",
        f"Always valid analysis gives {total['always valid']} answers and agrees with the fixed test at the end on "
        f"{agree[VALID]} of {n}; group sequential {total['group sequential']} and {agree[GROUP]}.",
        f"Not all of theirs last either: {gone[VALID]} and {gone[GROUP]} are not significant at the end, "
        f"{gone[VALID] / (n - ended):.0%} and {gone[GROUP] / (n - ended):.0%} of the comparisons without an effect "
        "there. At 5% that is more than chance allows if effects were constant: effects fade, or users who come back "
        "break the theory's assumptions.",
        f"Where they answer, they answer early: {table.loc[VALID, 'early']} and {table.loc[GROUP, 'early']} before the "
        f"end, by {table.loc[VALID, 'median_saved']:.1f} and {table.loc[GROUP, 'median_saved']:.1f} days (median), "
        f"{table.loc[VALID, 'share_of_time_saved']:.0%} and {table.loc[GROUP, 'share_of_time_saved']:.0%} of all days.",
    ]


def _summary(found: Asos) -> list[SummaryRow]:
    """Shares of comparisons with an answer."""
    comparisons = found.comparisons
    shares = {"fixed test, at the end": float((comparisons["p_end"] < ALPHA).mean())}
    shares |= {method: float(comparisons[f"{method}: day"].notna().mean()) for method in METHODS}
    return [SummaryRow("share with an answer", name, share, n=len(comparisons)) for name, share in shares.items()]


_CAVEATS = [
    "No truth is known: an alarm that vanishes may have been of an effect that faded, and one that stays may be false.",
    "Metrics are anonymous; the four of an arm are not independent, nor are the arms of an experiment. Counts of "
    "comparisons are no sample of independent experiments, and have no intervals here.",
    "The maximum of the group-sequential plan and the tuning of the always valid intervals are the units at the end, "
    "known only afterwards. A real plan would have been off: always valid intervals that are tuned for four times the "
    "units lose a fifth of their answers.",
    "Counts are of users so far, and each look has the metric of all users so far: users who come back change what was "
    "counted before, which the theory of neither method covers exactly.",
    "The designed shares are not known, so the sizes of the arms are not tested.",
    "Experiments may have been stopped for what they showed. Then even the fixed test at the end is at a chosen look.",
]


def main(arguments: Sequence[str] | None = None) -> Asos:
    """Run the study and write its page."""
    asked = study_arguments("asos", __doc__, arguments)
    study = Study(
        "ASOS: 99 arms looked at every half day",
        "How many findings of daily looks vanish, and how many days do analyses save that bear looking?",
    )
    found = study_experiments(load_looks(asked.data_dir))
    _tell(study, found)
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=_CAVEATS, summary=_summary(found),
        made=how_made("asos", data=["asos"], data_dir=asked.data_dir),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
