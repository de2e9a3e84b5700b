"""The same estimate of many changed data sets: seeded one by one, in threads, by algebra where there is some."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from causalrec._resampling import Progress
from causalrec._threads import one_thread
from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._changes import Change, Draw, with_change, with_options
from causalrec.observational._refuted import PLACEBO
from causalrec.observational._study_data import StudyData
from causalrec.observational.methods import run_method
from causalrec.results import Recipe

Fast: TypeAlias = Callable[[list[Change]], list[float]]  # NaN where it cannot tell

CROSS_FITTED = ("aipw", "dml", "causal_forest")
_BLOCK = 8  # simulations whose matrix products are taken at once: fixed, so that sums do not depend on n_jobs
_MOST_FAILED = 0.1
_SEEDS = 2**31 - 1


class Draws(NamedTuple):
    """Effects found, and what is to be said of simulations without one."""

    effects: FloatArray
    note: str


def streams(kind: str, random_state: int, n: int) -> list[np.random.Generator]:
    """An independent stream for each simulation of a kind of refutation, whatever else is run.

    Examples
    --------
    >>> one, other = streams("data_subset", 0, 2)
    >>> one.integers(10**9) == other.integers(10**9)
    np.False_
    """
    key = () if kind == PLACEBO else (zlib.crc32(kind.encode()),)
    return [np.random.default_rng(s) for s in np.random.SeedSequence(random_state, spawn_key=key).spawn(n)]


def again(data: StudyData, recipe: Recipe, change: Change) -> float:
    """The estimate of changed data, everything fitted anew."""
    found = with_change(data, change)
    if change.repeated and found.clusters is None and recipe.name in CROSS_FITTED and change.rows is not None:
        found = replace(found, clusters=change.rows)  # copies of a unit lie in one fold
    return run_method(found, recipe.name, recipe.estimand, with_options(recipe.options, data, change)).estimate


def refit(
    data: StudyData,
    recipe: Recipe,
    draw: Draw,
    kind: str,
    *,
    n_simulations: int,
    random_state: int,
    n_jobs: int = 1,
    fast: Fast | None = None,
    progress: Progress | None = None,
) -> Draws:
    """The estimate of ``n_simulations`` changed data sets; the same numbers with any ``n_jobs``.

    Raises
    ------
    CausalRecError
        When more than a tenth of the simulations give no estimate.
    """
    generators = streams(kind, random_state, n_simulations)
    size = 1 if fast is None else _BLOCK

    def work(start: int) -> list[float | str]:
        changes = [_drawn(draw, rng) for rng in generators[start : start + size]]
        known = [float("nan")] * len(changes) if fast is None else fast(changes)
        return [_refitted(data, recipe, c) if np.isnan(k) else k for c, k in zip(changes, known, strict=True)]

    found: list[float | str] = []
    with one_thread():
        for block in in_order(work, range(0, n_simulations, size), n_jobs):
            for value in block:
                found.append(value)
                if progress is not None:
                    progress(len(found), n_simulations)
    return _kept(found)


def _drawn(draw: Draw, rng: np.random.Generator) -> Change:
    change = draw(rng)
    return replace(change, seed=int(rng.integers(_SEEDS)))


def _refitted(data: StudyData, recipe: Recipe, change: Change) -> float | str:
    """The estimate, or why there is none."""
    try:
        found = again(data, recipe, change)
    except CausalRecError as error:
        return str(error)
    return found if np.isfinite(found) else "the estimate is not a finite number"


def _kept(found: list[float | str]) -> Draws:
    effects = np.array([value for value in found if not isinstance(value, str)], dtype=np.float64)
    reasons = [value for value in found if isinstance(value, str)]
    if len(reasons) > _MOST_FAILED * len(found) or len(effects) < 2:
        raise CausalRecError(f"{len(reasons)} of {len(found)} simulations give no estimate. The first: {reasons[0]}")
    note = f"; {len(reasons)} of {len(found)} simulations left out, without an estimate" if reasons else ""
    return Draws(effects, note)


def in_order(work: Callable[[Any], Any], tasks: Any, n_jobs: int) -> Iterator[Any]:
    """What ``work`` gives for each task, in order, by some threads; an interrupt ends it after the tasks at hand."""
    n_jobs = check_n_jobs(n_jobs)
    if n_jobs == 1:
        yield from map(work, tasks)
        return
    with ThreadPoolExecutor(n_jobs) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_n_jobs(n_jobs: Any) -> int:
    """A number of threads; -1 is one for each processor.

    Raises
    ------
    CausalRecError
        For anything else than a whole number of 1 or more, or -1.
    """
    whole = isinstance(n_jobs, int | np.integer) and not isinstance(n_jobs, bool)
    if not whole or (n_jobs < 1 and n_jobs != -1):
        raise CausalRecError(f"n_jobs is {n_jobs!r}; expected the number of threads, 1 or more, or -1 for all cores.")
    return (os.cpu_count() or 1) if n_jobs == -1 else int(n_jobs)


def check_seed(random_state: Any) -> None:
    """Raise :class:`CausalRecError` for anything but a whole number of 0 or more."""
    whole = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if not whole or random_state < 0:
        raise CausalRecError(f"random_state is {random_state!r}; expected a whole number, 0 or more, such as 0.")


class Counter:
    """Progress on one line of standard error, with the time that is left."""

    def __init__(self) -> None:
        self._start = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._said < 0.2:
            return
        self._said = now
        left = (now - self._start) * (total - done) / max(done, 1)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\rrefuting: {done:,} of {total:,} simulations, {left:,.0f} s left   {end}")
        sys.stderr.flush()
