"""What is tracked of an average effect: refutations, hidden bias, and the mark of a run whose placebo fails."""

from __future__ import annotations

from collections.abc import Mapping

from causalrec.pipelines.summary import EFFECT, EFFECTS, IDENTIFICATION, PLACEBO, REFUTATIONS, SENSITIVITY
from causalrec.results import IdentificationResult, RefutationsResult, Result, SensitivityResult, StudyReport

PASSED, FAILED = "passed", "FAILED"


def refutation_results(found: RefutationsResult) -> dict[str, Result]:
    """Each refutation under the name of its metrics; a permuted treatment is the ``placebo``."""
    return {_named(name): result for name, result in zip(found.names, found.results, strict=True)}


def _named(name: str) -> str:
    return PLACEBO if name == "placebo_treatment" else name


def study_tags(found: RefutationsResult) -> dict[str, str]:
    """Tags of a run: whether the placebo and all refutations passed, so that runs can be told apart in a list."""
    failed = [_named(name) for name, ok in zip(found.names, found.verdicts, strict=True) if not ok]
    placebo = {PLACEBO: FAILED if PLACEBO in failed else PASSED} if "placebo_treatment" in found.names else {}
    verdict = f"{FAILED}: {', '.join(failed)}" if failed else PASSED
    return {"estimand": found.estimand, **placebo, REFUTATIONS: verdict}


def effect_texts(
    identification: IdentificationResult, refutations: RefutationsResult, sensitivity: SensitivityResult
) -> dict[str, str]:
    """What is logged in words, by the name of the file."""
    return {
        IDENTIFICATION: f"{identification}\n\n{identification.expression}",
        REFUTATIONS: "\n".join([str(refutations), "", *(r.meaning for r in refutations.results)]),
        SENSITIVITY: str(sensitivity),
    }


def study_results(found: StudyReport) -> dict[str, Result]:
    """The results of a study whose numbers are metrics."""
    parts: Mapping[str, Result | None] = {
        EFFECT: found.effect, "balance": found.balance, "overlap": found.overlap, SENSITIVITY: found.sensitivity,
    }  # fmt: skip
    by_method: dict[str, Result] = {}
    if found.comparison is not None:
        by_method = {f"{EFFECTS}_{n}": e for n, e in zip(found.comparison.names, found.comparison.effects, strict=True)}
    kept = {name: result for name, result in parts.items() if result is not None}
    return {**kept, **refutation_results(found.refutations), **by_method}


def study_texts(found: StudyReport) -> dict[str, str]:
    """A study in words, by the name of the file."""
    parts = effect_texts(found.identification, found.refutations, found.sensitivity)
    return {**parts, "conclusion": "\n".join([found.conclusion, *found.doubts])}
