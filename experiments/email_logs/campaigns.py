"""Many simulated campaigns: how far methods are off, what errors they say, and how often intervals hold the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy import stats

from causalrec.observational import ObservationalStudy, fit_propensity
from causalrec.observational.doubly_robust import aipw_parametric
from causalrec.results import EffectResult
from experiments._effects import LABELS, OWN
from experiments.email_logs.logs import COVARIATES, OUTCOME, TREATMENT, WITHOUT_ENGAGEMENT, Logs, simulate_logs

TREES = "aipw"  # thirty times the time of the others
BY_SESSION = ("ols", "ipw", "aipw_parametric")


def study_of(frame: pd.DataFrame, covariates: Sequence[str] = COVARIATES, **options: Any) -> ObservationalStudy:
    """The campaign's study, of spend."""
    return ObservationalStudy(frame, treatment=TREATMENT, outcome=OUTCOME, covariates=list(covariates), **options)


def by_every_method(logs: Logs, *, trees: bool) -> dict[str, EffectResult]:
    """The average effect over all users (over the overlap for some methods), with or without the fitted trees."""
    names = [name for name in OWN if trees or name != TREES]
    found = study_of(logs.users).compare(names, estimand="ate")
    return dict(zip(found.names, found.effects, strict=True))


def with_parts_wrong(logs: Logs) -> dict[str, EffectResult]:
    """Estimates where engagement, a cause of both e-mail and spend, is left out of the score, the outcome, or both."""
    users, y, treatment = logs.users, logs.users[OUTCOME], logs.users[TREATMENT]
    whole, part = users[list(COVARIATES)], users[list(WITHOUT_ENGAGEMENT)]
    right, wrong = (fit_propensity(X, treatment=treatment) for X in (whole, part))
    both, less = study_of(users), study_of(users, WITHOUT_ENGAGEMENT)
    told: dict[str, Any] = {"treatment": treatment}
    return {
        "score right: weighting": both.estimate("ipw"),
        "score wrong: weighting": less.estimate("ipw"),
        "outcome right: regression by arm": both.estimate("lin"),
        "outcome wrong: regression by arm": less.estimate("lin"),
        "both right: doubly robust": aipw_parametric(whole, y, propensity=right, **told),
        "score wrong: doubly robust": aipw_parametric(whole, y, propensity=wrong, **told),
        "outcome wrong: doubly robust": aipw_parametric(part, y, propensity=right, **told),
        "both wrong: doubly robust": aipw_parametric(part, y, propensity=wrong, **told),
    }


def by_session(logs: Logs) -> dict[str, EffectResult]:
    """Estimates from a log with a row per session: rows taken as independent, and clustered by user."""
    log = logs.by_session
    plain, clustered = study_of(log), study_of(log, clusters="user_id")
    return {
        f"{LABELS[m]}, {by}": s.estimate(m) for m in BY_SESSION for by, s in (("rows", plain), ("users", clustered))
    }


def repeat(n_campaigns: int, n_users: int, *, n_trees: int, first_seed: int = 0) -> pd.DataFrame:
    """A row per campaign and estimate, with the truth of its own users (or of its own sessions).

    Of the first ``n_trees`` campaigns there are estimates by cross-fitted trees, too.
    """
    rows: list[dict[str, Any]] = []
    for seed in range(first_seed, first_seed + n_campaigns):
        logs = simulate_logs(n_users, seed)
        parts = {
            "method": by_every_method(logs, trees=seed < first_seed + n_trees),
            "parts": with_parts_wrong(logs),
            "sessions": by_session(logs),
        }
        for part, estimates in parts.items():
            for name, e in estimates.items():
                rows.append({"part": part, "name": name, "seed": seed, "estimate": e.estimate, "said": e.std_error,
                             "low": e.ci_low, "high": e.ci_high,
                             "truth": logs.truth(e.estimand, by_session=part == "sessions")})  # fmt: skip
    return pd.DataFrame(rows)


def over_campaigns(found: pd.DataFrame, part: str) -> pd.DataFrame:
    """By estimate: mean error, spread seen and error said, share of 95% intervals that hold the truth."""
    rows = []
    for name, group in found[found["part"] == part].groupby("name", sort=False):
        off = group["estimate"] - group["truth"]
        held = int(((group["low"] <= group["truth"]) & (group["truth"] <= group["high"])).sum())
        low, high = stats.binomtest(held, len(group)).proportion_ci(method="wilson")
        rows.append({
            "estimate": LABELS.get(str(name), str(name)), "off by": round(float(off.mean()), 3),
            "spread seen": round(float(off.std()), 3), "error said": round(float(group["said"].mean()), 3),
            "root mean square": round(float((off**2).mean() ** 0.5), 3),
            "held, %": round(100 * held / len(group), 1), "from": round(100 * low, 1), "to": round(100 * high, 1),
            "campaigns": len(group),
        })  # fmt: skip
    return pd.DataFrame(rows)
