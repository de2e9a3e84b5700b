"""Whether a model is better than the one in use, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from causalrec.results.base import format_interval, format_level, format_metric, format_number, pvalue_text
from causalrec.results.effects import EffectResult

ChampionVerdict = Literal["better", "worse", "cannot tell", "cannot score"]


@dataclass(frozen=True, eq=False)
class ChampionResult(EffectResult):
    """A model's metric less that of the champion, paired on the same held-out rows, and who is the champion now.

    The estimate is a difference of metrics of which more is better; NaN where the champion could not be scored.

    Attributes
    ----------
    model : str
        Name of the registered model.
    version, champion : str
        The version that was evaluated, and the one that was the champion before.
    metric : str
        Such as ``"qini"`` or ``"ndcg_at_10"``.
    own_score, champion_score : float
        The metric of both.
    verdict : str
        ``"better"`` or ``"worse"`` where the interval of the difference leaves zero out, else ``"cannot tell"``;
        ``"cannot score"`` where the champion cannot score these rows.
    promoted : bool
        Whether the evaluated version is the champion now: because it is better, or because it was asked for.
    favoured : bool
        Whether the champion may have been trained on some of the rows, which favours it.
    reason : str
        Why the champion cannot score the rows; empty where it can.
    """

    model: str
    version: str
    champion: str
    metric: str
    own_score: float
    champion_score: float
    verdict: str
    promoted: bool
    favoured: bool
    reason: str = ""

    @property
    def difference(self) -> str:
        """The difference with its interval and p-value."""
        interval = format_interval(self.ci_low, self.ci_high)
        return f"{format_number(self.estimate)} {interval}, {pvalue_text(self.pvalue)}"

    def __str__(self) -> str:
        return "; ".join(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        """What was found, what became of it, and what to keep in mind."""
        said = [self._found(), self._became()]
        if self.favoured:
            said.append("the champion may have been trained on some of these rows, which favours it")
        return tuple(said)

    def _found(self) -> str:
        pair = f"version {self.version} of {self.model} against version {self.champion}, the champion"
        if self.verdict == "cannot score":
            return f"{pair}: no comparison, since the champion cannot score these rows ({self.reason})"
        word = {"better": "better", "worse": "worse", "cannot tell": "cannot tell which is better"}[self.verdict]
        level = f"{format_level(self.confidence_level)} interval of the paired difference"
        own, other = format_number(self.own_score), format_number(self.champion_score)
        scores = f"{format_metric(self.metric)} {own} against {other}"
        return f"{pair}: {word} ({scores}; {level}: {self.difference}; n = {self.n_obs:,})"

    def _became(self) -> str:
        if not self.promoted:
            return f"version {self.champion} stays the champion"
        how = "" if self.verdict == "better" else ", as was asked for"
        return f"version {self.version} is the champion now{how}"


def champion_verdict(difference: EffectResult) -> ChampionVerdict:
    """Better or worse only where the interval of the difference leaves zero out.

    Examples
    --------
    >>> nan = float("nan")
    >>> champion_verdict(EffectResult(0.2, 0.1, 0.01, 0.39, 0.04, 0.95, 100, "paired", "qini_difference"))
    'better'
    >>> champion_verdict(EffectResult(0.0, 0.0, 0.0, 0.0, nan, 0.95, 100, "the same scores", "qini_difference"))
    'cannot tell'
    """
    if difference.ci_low > 0:
        return "better"
    return "worse" if difference.ci_high < 0 else "cannot tell"
