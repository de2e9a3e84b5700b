"""What keeps other packages' habits from the caller: noise, warnings, and the global random state."""

from __future__ import annotations

import io
import logging
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np

_ONE = threading.RLock()


@contextmanager
def shielded(seed: np.random.SeedSequence) -> Iterator[np.random.RandomState]:
    """Run DoWhy or EconML with nothing left behind; yields a random state of its own.

    Lines logged and printed are dropped, and so are warnings, which are about versions and about DoWhy's own p-values.
    The global random states, which DoWhy draws from whatever it is given, are seeded, and put back at the end. They
    belong to the process: one thread is within at a time.

    Examples
    --------
    >>> np.random.seed(1); before = np.random.get_state()[1].sum()
    >>> with shielded(np.random.SeedSequence(0)) as own:
    ...     print("not seen", np.random.normal(), own.normal())
    >>> np.random.get_state()[1].sum() == before
    np.True_
    """
    local, numpy_seed, python_seed = seed.spawn(3)
    logger = logging.getLogger("dowhy")
    with _ONE:
        level, of_numpy, of_python = logger.level, np.random.get_state(), random.getstate()  # noqa: NPY002
        logger.setLevel(logging.CRITICAL)
        np.random.seed(numpy_seed.generate_state(4))  # noqa: NPY002
        random.seed(int(python_seed.generate_state(1)[0]))
        try:
            with (
                warnings.catch_warnings(),
                redirect_stdout(io.StringIO()),
                np.errstate(divide="ignore", invalid="ignore"),
            ):
                warnings.simplefilter("ignore")
                yield np.random.RandomState(np.random.MT19937(local))
        finally:
            logger.setLevel(level)
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)
