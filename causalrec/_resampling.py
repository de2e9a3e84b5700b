"""Replicates in blocks: bounded memory, both cores, a progress callback, an interrupt that is heard."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from causalrec._threads import one_thread
from causalrec._typing import AnyArray, FloatArray, RandomState
from causalrec.exceptions import CausalRecError

Progress = Callable[[int, int], None]  # (done, in all)

_HELD = 4_000_000  # numbers held at once by a block
_REPLICATES = 500
_THREADS = 4


def draw_in_blocks(
    draw: Callable[[int, np.random.Generator], FloatArray],
    n_replicates: int,
    *,
    width: int,
    rng: RandomState,
    progress: Progress | None = None,
    threads: bool | int = True,
) -> FloatArray:
    """Stack ``draw(size, generator)`` (size, …) over blocks of replicates.

    ``width`` is how many numbers a replicate holds at once. Each block has a generator of its own, so that the draws do
    not depend on the number of threads; they do on the block's size, which depends on ``width`` alone. ``threads`` is
    their number; True is the cores', at most four.

    Raises
    ------
    CausalRecError
        For fewer than one replicate.
    """
    if n_replicates < 1:
        raise CausalRecError(f"the number of resamples is {n_replicates}; expected at least 1, such as 10,000.")
    size = max(1, min(_REPLICATES, _HELD // max(width, 1)))
    sizes = [min(size, n_replicates - start) for start in range(0, n_replicates, size)]
    generators = np.random.default_rng(rng).spawn(len(sizes))
    most = min(os.cpu_count() or 1, _THREADS) if threads is True else max(int(threads), 1)
    n_workers = min(len(sizes), most)
    tasks = list(zip(sizes, generators, strict=True))
    blocks, done = [], 0
    # The blocks use the cores: threads of BLAS within them would wait for one another.
    with ThreadPoolExecutor(n_workers) as pool, one_thread(bool(threads), only_blas=True):
        # A few at a time: an interrupt, or an error, ends it all within a block.
        for start in range(0, len(tasks), n_workers):
            batch = tasks[start : start + n_workers]
            drawn = (
                map(draw, *zip(*batch, strict=True)) if n_workers == 1 else pool.map(lambda task: draw(*task), batch)
            )
            for block in drawn:
                blocks.append(block)
                done += len(block)
                if progress is not None:
                    progress(done, n_replicates)
    return np.concatenate(blocks)


def share_of_hits(hits: AnyArray) -> float:
    """(1 + number of hits) / (1 + resamples): the sample itself counts as one (Davison and Hinkley 1997, 4.2)."""
    return float((1 + np.count_nonzero(hits)) / (1 + len(hits)))
