"""Before the effects: the size of the test, the analysis where nothing is to be found, the split, the outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from causalrec.abtest import Mean, SampleRatio, power_curve, sample_ratio_by, sample_ratio_test
from causalrec.datasets import ServiceTruth
from causalrec.plots import plot_aa, plot_distribution, plot_power_curve
from causalrec.results import AAResult, ExperimentResult, OutlierResult, PowerResult, format_number, format_pvalue
from experiments._study import Study
from experiments.music_service.experiment import EFFECT, EXPERIMENT, METRICS, OTHER_MINUTES, SEED, SPLIT, designs


def tell_design(study: Study, frame: pd.DataFrame, truth: ServiceTruth) -> dict[str, PowerResult]:
    found = designs()
    plain = replace(EXPERIMENT, metrics={"minutes": Mean("minutes"), "with covariate": METRICS["minutes"],
                                         "split": SampleRatio(SPLIT)}, segments=())  # fmt: skip
    wanted = {"effect": EFFECT * truth.minutes_std, "power": 0.8}
    found |= {f"on these users: {result.metric}": result for result in plain.solve_power(frame, **wanted)}
    table = pd.DataFrame([
        {"design": name, "control": r.n_control, "treatment": r.n_treatment, "in all": r.n_obs, "power": r.power}
        for name, r in found.items()
    ])  # fmt: skip
    curve = power_curve(std=1.0, effect=[0.03, EFFECT, 0.08], weights=tuple(SPLIT.values()), metric="effects in sd")
    even = found["Welch's t, 80%, an even split"]
    cost = found["Welch's t (the default), 80%"].n_obs / even.n_obs
    covariate = found["on these users: with covariate"]
    study.add(
        "How many users does it take?",
        "The usual design, two-sided 5% and 80% power, is the published one: Student's t with one variance needs "
        "31,397.17 and 3,488.57 users, and dropping the fractions gives 31,397 and 3,488. Whole users that reach 80% "
        "are one more in each arm.",
        f"Treating a tenth only costs {cost:.2f} times the users of an even split ({even.n_obs:,}). Adjusting for the "
        f"minutes of the two weeks before takes the test to {covariate.n_obs:,} users: {covariate.method}.",
        tables={"d = 0.05, two-sided 5%": table}, figures={"power_curve": plot_power_curve(curve)},
    )  # fmt: skip
    return found


def tell_calibration(study: Study, frame: pd.DataFrame, n_simulations: int) -> tuple[AAResult, ...]:
    found = replace(EXPERIMENT, metrics=METRICS | OTHER_MINUTES).simulate_aa(
        frame, n_simulations, rng=np.random.default_rng([SEED, 2])
    )
    table = pd.DataFrame([
        {"metric": a.metric, "below 5%": a.false_positive_rate, "low": a.ci_low, "high": a.ci_high,
         "uniformity p": a.uniformity_pvalue, "calibrated": a.calibrated}
        for a in found
    ])  # fmt: skip
    study.add(
        "Does the analysis find nothing where there is nothing?",
        f"All users of both arms are split 90/10 by lot {n_simulations:,} times and analysed as the experiment will "
        "be. A calibrated test is below 5% in 5% of them; the interval is the binomial one, of 95%, so that one of "
        "seven may well miss by chance.",
        _calibration_of(found),
        tables={f"A/A: {n_simulations:,} splits": table}, figures={"aa_minutes": plot_aa(found[0])},
    )  # fmt: skip
    return found


def _calibration_of(found: Sequence[AAResult]) -> str:
    wrong = [a for a in found if not a.calibrated or a.uniformity_pvalue < 0.001]
    if not wrong:
        return "Here all are calibrated, and no p-values are clearly other than uniform."
    sound = [a.metric for a in found if a.metric.startswith("minutes") and a not in wrong]
    return (
        f"Not quite calibrated: {', '.join(f'{a.metric} ({a.false_positive_rate:.1%})' for a in wrong)}. The tail of "
        "minutes is heavy, as a few users leave the music on, and the treated arm is small: those few decide its mean "
        "and its error. Do not believe a p-value just below 5% there."
        + (f" Calibrated: {', '.join(sound)}." if sound else "")
    )


def by_exposure_day(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Users by arm and day of exposure."""
    day = frame["exposed_at"].dt.strftime("%Y-%m-%d")
    return frame.groupby(["variant", day]).size().to_dict()


def lose(frame: pd.DataFrame, share: float = 0.15) -> pd.DataFrame:
    """Lose a share of the treated users of speakers, as a crash that keeps them from being logged would."""
    lost = (frame["variant"] == "treatment") & (frame["device"] == "speaker")
    unlucky = np.random.default_rng([SEED, 1]).random(len(frame)) < share  # a stream that the service did not use
    return frame[~(lost & unlucky)]


def tell_split(study: Study, frame: pd.DataFrame, result: ExperimentResult) -> None:
    days = replace(sample_ratio_by(by_exposure_day(frame), SPLIT), dimension="day of exposure")
    broken = lose(frame)
    by_device = sample_ratio_by(broken.groupby(["variant", "device"]).size().to_dict(), SPLIT)
    whole = sample_ratio_test(broken["variant"].value_counts().to_dict(), SPLIT)
    [overall] = result.sample_ratio
    table = pd.DataFrame([
        {"by": "all users", "groups": 1, "most suspicious": "", "p": overall.pvalue, "mismatch": overall.mismatch},
        *({"by": r.dimension, "groups": r.n_segments, "most suspicious": r.most_suspicious, "p": r.pvalue,
           "mismatch": r.mismatch} for r in (*result.segment_ratios, days)),
    ])  # fmt: skip
    study.add(
        "Was the split as designed?",
        f"{len(frame) - len(broken)} treated users of speakers were then taken away, as a crash would (15% of them): "
        f"the check of all users says p = {format_pvalue(whole.pvalue)}, that by device p = "
        f"{format_pvalue(by_device.pvalue)} and names {by_device.most_suspicious!r}. At the threshold of "
        f"{by_device.threshold:g} that is {'a mismatch' if by_device.mismatch else 'still no mismatch'}: a loss in a "
        "segment of a tenth of a tenth is hard to see, and hardly to be seen in the whole.",
        tables={"Sample ratio, p of the worst group (Holm)": table},
    )  # fmt: skip


def tell_outliers(study: Study, frame: pd.DataFrame) -> tuple[OutlierResult, ...]:
    found = EXPERIMENT.outliers(frame, q=0.99)
    table = pd.concat([r.to_frame().assign(metric=r.metric, threshold=r.high, p=r.pvalue) for r in found])
    columns = ["metric", "threshold", "arm", "n", "n_outside", "share", "mean", "mean_inside", "p"]
    minutes = found[0]
    control, treatment = (minutes.n_outside[i] / minutes.n[i] for i in (0, 1))
    [distribution] = replace(EXPERIMENT, metrics={"minutes": Mean("minutes")}).distributions(frame)
    study.add(
        "Who is beyond the 99th percentile?",
        f"One threshold for both arms: {format_number(minutes.high)} minutes. {minutes.n_outside[0]} of control "
        f"({control:.2%}) and {minutes.n_outside[1]} of treatment ({treatment:.2%}) are above it, p = "
        f"{format_pvalue(minutes.pvalue)} for a difference. The treatment does lift users over the threshold, so that "
        "removing them removes a part of the effect; clipping them (winsorising) keeps them in, yet it is the effect "
        "on clipped minutes that is estimated then.",
        tables={"Values above the 99th percentile of both arms together": table[columns]},
        figures={"distribution_minutes": plot_distribution(distribution)},
    )  # fmt: skip
    return found
