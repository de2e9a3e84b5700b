"""The trainees of an experiment, its own controls, and those that LaLonde took from two surveys instead."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalrec.datasets import load_dataset

TREATMENT, OUTCOME = "treat", "re78"
DEHEJIA_WAHBA, LALONDE = "nsw_dw", "nsw"  # the trainees whose earnings of 1974 are known, and all of them
SURVEYS = {"CPS": "cps", "PSID": "psid", "CPS-3": "cps3"}
PEOPLE = ("age", "education", "black", "hispanic", "married", "nodegree")
WITHOUT_1974 = (*PEOPLE, "re75", "none75")
COVARIATES = (*PEOPLE, "re74", "re75", "none74", "none75")
SQUARES = ("age²", "education²", "re74²", "re75²")
PLACEBO, BEFORE_PLACEBO = "re75", (*PEOPLE, "re74", "none74")  # earnings before the training, and what came before


def read_experiment(sample: str = DEHEJIA_WAHBA, data_dir: Path | None = None) -> pd.DataFrame:
    """Trainees and those who were drawn by lot not to be; earnings in dollars."""
    return _prepared(load_dataset(f"lalonde_{sample}", data_dir).frame)


def read_against(survey: str, sample: str = DEHEJIA_WAHBA, data_dir: Path | None = None) -> pd.DataFrame:
    """The trainees of an experiment beside people of a survey, none of whom was trained."""
    experiment = read_experiment(sample, data_dir)
    controls = _prepared(load_dataset(f"lalonde_{SURVEYS[survey]}", data_dir).frame)
    trainees = experiment[experiment[TREATMENT] == 1]
    return pd.concat([trainees, controls[trainees.columns]], ignore_index=True)


def _prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """With squares, and indicators of years without any earnings: 71% of the trainees had none in 1974."""
    years = [c for c in ("re74", "re75") if c in frame]
    none = {f"none{c[2:]}": (frame[c] == 0).astype(int) for c in years}
    squares = {f"{c}²": frame[c] ** 2 for c in ("age", "education", *years)}
    whole = frame.drop(columns=["row_id", "data_id"]).assign(**none, **squares)
    return whole.astype({TREATMENT: int})
