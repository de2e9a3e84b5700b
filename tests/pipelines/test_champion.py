"""The champion gives way to a model that is shown to be better, or when a person says so, and to no other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from causalrec.config import parse_config
from causalrec.pipelines.champion import Contest, crown
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.session import Session
from causalrec.pipelines.summary import findings
from causalrec.pipelines.uplift_summary import champion_sentence
from causalrec.results import ChampionResult, EffectResult

from .test_summary import UP, effect_of

N = 400
NOISE = np.random.default_rng(0).normal(size=N)


class Registry:
    """A tracker in memory: one name, its versions' models and tags, and who is champion."""

    def __init__(self, champion: Any = None, *, tags: dict[str, str] | None = None) -> None:
        self.active, self.models, self.tags = True, {"1": champion}, {"1": dict(tags or {}), "2": {}}
        self.alias = None if champion is None else "1"
        self.seen: dict[str, str] = {}
        self.metrics: dict[str, Any] = {}
        self.top = SimpleNamespace(
            set_tags=self.seen.update, log_results=self.metrics.update, log_metrics=lambda _: None
        )

    def champion(self, name: str) -> Any:
        assert name == "shop_uplift"
        return None if self.alias is None else (self.alias, self.tags[self.alias])

    def load_champion(self, name: str) -> Any:
        return self.models[str(self.alias)]

    def tag_version(self, name: str, version: str, tags: dict[str, str]) -> None:
        self.tags[version] |= tags

    def set_champion(self, name: str, version: str, tags: dict[str, str]) -> None:
        self.tag_version(name, version, tags)
        self.alias = version


class Notes(list[str]):
    note = list.append


def gains(model: float) -> np.ndarray[Any, Any]:
    """Of every unit, by a model whose mean is the number given."""
    return np.asarray(NOISE + model)


def contest(own: float) -> Contest:
    """Models are numbers, and the metric is their mean over units."""

    def compare(theirs: np.ndarray[Any, Any]) -> tuple[EffectResult, float]:
        model = (theirs - NOISE).mean()
        gap = own - model + (NOISE[::-1] - NOISE.mean()) * (abs(own - model) > 1e-13)  # the same models do not differ
        error, mean = gap.std(ddof=1) / np.sqrt(N), gap.mean()
        half = stats.norm.isf(0.025) * error
        pvalue = 2 * stats.norm.sf(abs(mean) / error) if error > 0 else np.nan
        found = EffectResult(mean, error, mean - half, mean + half, pvalue, 0.95, N, "paired", "qini_difference")
        return found, float(theirs.mean())

    return Contest("uplift", "qini", effect_of(UP, "qini"), "rows", lambda model: gains(model), compare)


def crowned(registry: Registry, own: float, *, promote: bool = False) -> tuple[ChampionResult | None, str]:
    """The comparison of version 2 with the champion, and what is said."""
    session = Session(parse_config({"name": "shop"}), Notes(), registry, RunDirectory(Path()))  # type: ignore[arg-type]
    crown(session, registry.top, contest(own), {"name": "shop_uplift", "version": "2"}, promote=promote)  # type: ignore[arg-type]
    assert session.reporter == session.notes  # type: ignore[comparison-overlap]
    found = session.results.get("uplift_over_champion")
    assert found is registry.metrics.get("uplift_over_champion")
    if found is None:
        (note,) = session.notes
        return None, note
    assert isinstance(found, ChampionResult)
    assert session.notes == []
    assert findings(session.results) == (champion_sentence(found),)
    return found, champion_sentence(found)


def test_the_first_of_a_name_is_the_champion() -> None:
    registry = Registry()
    found, note = crowned(registry, 0.0)
    assert (found, registry.alias) == (None, "2")
    assert note == "model shop_uplift, version 2, is the champion: the first of its name (qini 0.5 [0.2, 0.8])"
    assert registry.tags["2"]["held_out"] == "rows"
    assert registry.seen == {"uplift.champion": "2", "uplift.verdict": "first"}


@pytest.mark.parametrize("promote", [False, True])
@pytest.mark.parametrize(("own", "verdict"), [(0.3, "better"), (-0.3, "worse"), (0.0, "cannot tell")])
def test_only_a_better_model_or_a_word_replaces_the_champion(own: float, verdict: str, promote: bool) -> None:
    registry = Registry(1e-12, tags={"held_out": "rows"})
    found, note = crowned(registry, own, promote=promote)
    assert found is not None
    moves = promote or verdict == "better"
    assert (found.verdict, found.promoted, registry.alias) == (verdict, moves, "2" if moves else "1")
    assert np.sign(found.estimate) == np.sign(own) or verdict == "cannot tell"
    assert registry.seen == {"uplift.champion": registry.alias, "uplift.verdict": verdict}
    assert not found.favoured
    assert "favours" not in note
    assert ("--promote" in note) == (verdict == "cannot tell" and not promote)
    assert ("as was asked for" in note) == (promote and verdict != "better")
    assert registry.tags["2"]["verdict"][1:] in note
    assert found.difference in note


def test_equal_models_cannot_be_told_apart() -> None:
    registry = Registry(0.25)
    found, note = crowned(registry, 0.25)
    assert found is not None
    assert found.estimate == pytest.approx(0.0, abs=1e-12)
    assert (found.verdict, registry.alias) == ("cannot tell", "1")
    assert "version 1 stays the champion" in note


def test_a_champion_that_was_judged_on_other_rows_is_said_to_be_favoured() -> None:
    for tags in ({"held_out": "other rows"}, {}):
        found, note = crowned(Registry(0.1, tags=tags), 0.5)
        assert found is not None
        assert found.favoured
        assert "may have been trained on some of these rows, which favours it" in note


class Broken:
    def __init__(self, what: Any) -> None:
        self.what = what

    def __radd__(self, other: Any) -> Any:
        if isinstance(self.what, Exception):
            raise self.what
        return np.where(np.arange(len(other)) < 3, self.what, other)


Broken.__array_ufunc__ = None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (KeyError("no column 'age'"), "no column 'age'"),
        (ValueError(""), "ValueError"),
        (np.nan, "3 of its 400 scores are missing or infinite"),
    ],
)
def test_a_champion_that_cannot_score_the_rows_stays_unless_a_person_says_so(what: Any, reason: str) -> None:
    registry = Registry(Broken(what))
    found, note = crowned(registry, 0.5)
    assert found is not None
    assert (found.verdict, found.promoted, registry.alias) == ("cannot score", False, "1")
    assert np.isnan(found.estimate)
    assert reason in note
    assert "causalrec evaluate --promote" in note
    found, note = crowned(registry, 0.5, promote=True)
    assert found is not None
    assert (found.promoted, registry.alias) == (True, "2")
    assert reason in note


def test_a_champion_that_is_evaluated_again_stays_what_it_is() -> None:
    registry = Registry(0.1)
    crowned(registry, 0.5)
    before = dict(registry.tags["2"])
    registry.metrics.clear()
    found, note = crowned(registry, 0.5)
    assert (found, registry.alias, registry.tags["2"]) == (None, "2", before)
    assert "is the champion already" in note
    assert "better" in note  # what it won by


def test_without_a_registry_there_is_nothing_to_promote() -> None:
    registry = Registry(0.1)
    session = Session(parse_config({"name": "shop"}), Notes(), registry, RunDirectory(Path()))  # type: ignore[arg-type]
    crown(session, registry.top, contest(0.5), None, promote=False)  # type: ignore[arg-type]
    assert session.notes == []
    crown(session, registry.top, contest(0.5), None, promote=True)  # type: ignore[arg-type]
    assert "is in no registry" in session.notes[0]


@pytest.mark.parametrize("call", ["champion", "load_champion", "set_champion"])
def test_a_store_that_fails_claims_nothing(call: str) -> None:
    registry = Registry(0.1)

    def fail(*_: Any) -> None:
        registry.active = False

    setattr(registry, call, fail)
    session = Session(parse_config({"name": "shop"}), Notes(), registry, RunDirectory(Path()))  # type: ignore[arg-type]
    registered = {"name": "shop_uplift", "version": "2"}
    crown(session, registry.top, contest(0.5), registered, promote=False)  # type: ignore[arg-type]
    assert (session.notes, session.results, registry.alias) == ([], {}, "1")
