"""Which registered model is the champion: it gives way to one that is shown to be better, or when a person says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.pipelines.session import Session
from causalrec.results import NAN, ChampionResult, EffectResult, format_interval, format_number
from causalrec.results.champion import champion_verdict
from causalrec.tracking import Stage

OVER = "over_champion"  # results are named uplift_over_champion and ranker_over_champion


@dataclass(frozen=True)
class Contest:
    """How a model does on rows held out, and how another one is judged on the same rows.

    Attributes
    ----------
    kind : str
        ``"uplift"`` or ``"ranker"``.
    metric : str
        Of which more is better.
    own : EffectResult
        The metric of the model at hand.
    rows : str
        Digest of the rows held out.
    predict : function of a model
        Its scores of the rows, of shape (n,).
    compare : function of such scores
        The metric of the model at hand less that of the other, paired, and the metric of the other.
    """

    kind: str
    metric: str
    own: EffectResult
    rows: str
    predict: Callable[[Any], Any] = field(repr=False)
    compare: Callable[[FloatArray], tuple[EffectResult, float]] = field(repr=False)


def crown(
    session: Session, stage: Stage, contest: Contest, registered: Mapping[str, str] | None, *, promote: bool
) -> None:
    """Compare a registered version with the champion of its name, and choose the champion.

    The first version of a name becomes champion. A later one does where the interval of the paired difference lies
    above zero, or with ``promote``. A champion that cannot score the rows stays too: without a comparison nothing says
    that the new model is better. The comparison is recorded, and tagged on the run and on the model's version.
    """
    tracker = session.tracker
    tracked = tracker.active
    if registered is None or not tracked:
        if promote:
            session.note(f"--promote: the {contest.kind} model is in no registry, since tracking is off or failed")
        return
    name, version = registered["name"], registered["version"]
    champion = tracker.champion(name)
    if not tracker.active:  # asking for it failed
        return
    score = _of(contest)
    if champion is None:
        why = f"the first of its name ({score})"
        tracker.set_champion(name, version, {**_judged(contest), "verdict": why})
        _tag(session, contest.kind, version, "first")
        session.note(f"model {name}, version {version}, is the champion: {why}")
    elif champion[0] == version:
        _tag(session, contest.kind, version, "the champion itself")
        session.note(f"model {name}, version {version}, is the champion already: {champion[1].get('verdict', score)}")
    else:
        found = _against(session, contest, name, version, champion, promote=promote)
        if found is not None:
            _conclude(session, stage, contest, found)


def _against(
    session: Session, contest: Contest, name: str, version: str, champion: tuple[str, dict[str, str]], *, promote: bool
) -> ChampionResult | None:
    """The paired comparison; None where tracking fails on the way."""
    model = session.tracker.load_champion(name)
    if model is None:
        return None
    difference, their_score, reason = _compared(model, contest)
    verdict = "cannot score" if reason else champion_verdict(difference)
    return ChampionResult(
        **vars(difference), model=name, version=version, champion=champion[0], metric=contest.metric,
        own_score=float(contest.own), champion_score=their_score, verdict=verdict,
        promoted=promote or verdict == "better",
        favoured=not reason and champion[1].get("held_out") != contest.rows, reason=reason,
    )  # fmt: skip


def _compared(model: Any, contest: Contest) -> tuple[EffectResult, float, str]:
    """The paired difference and the champion's own metric; else NaN and the reason."""
    try:
        theirs = np.asarray(contest.predict(model), dtype=np.float64)
    except Exception as error:  # foreign code: whatever it raises only means that it cannot compete
        return _nothing(contest, _first_line(error))
    n_lost = int((~np.isfinite(theirs)).sum())
    if n_lost:
        return _nothing(contest, f"{n_lost:,} of its {len(theirs):,} scores are missing or infinite")
    try:
        return *contest.compare(theirs), ""
    except CausalRecError as error:  # too few units of an arm in its top, say
        return _nothing(contest, _first_line(error))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def _nothing(contest: Contest, reason: str) -> tuple[EffectResult, float, str]:
    own, method = contest.own, "no comparison: the champion cannot be scored on these rows"
    gap = EffectResult(
        NAN, NAN, NAN, NAN, NAN, own.confidence_level, own.n_obs, method, f"{contest.metric}_difference"
    )  # fmt: skip
    return gap, NAN, reason


def _conclude(session: Session, stage: Stage, contest: Contest, found: ChampionResult) -> None:
    """Set the champion, record the comparison (the findings say it), and tag it."""
    tags = {**_judged(contest), "verdict": "; ".join(found.sentences()[:2])}
    keep = session.tracker.set_champion if found.promoted else session.tracker.tag_version
    keep(found.model, found.version, tags)
    if not session.tracker.active:  # nothing has changed, and why has been said
        return
    session.record(stage, {f"{contest.kind}_{OVER}": found})
    _tag(session, contest.kind, found.version if found.promoted else found.champion, found.verdict)


def _judged(contest: Contest) -> dict[str, str]:
    return {"metric": contest.metric, "value": repr(float(contest.own)), "held_out": contest.rows}


def _of(contest: Contest) -> str:
    own = contest.own
    return f"{contest.metric} {format_number(own.estimate)} {format_interval(own.ci_low, own.ci_high)}"


def _tag(session: Session, kind: str, champion: str, verdict: str) -> None:
    session.tracker.top.set_tags({f"{kind}.champion": champion, f"{kind}.verdict": verdict})


def plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns in the types of a registered model's signature: numbers as doubles, categories as text."""
    return frame.astype(
        {c: "float64" if pd.api.types.is_numeric_dtype(t) else "object" for c, t in frame.dtypes.items()}
    )
