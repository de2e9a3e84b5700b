"""Nuisances as plain files: fitted once, used in other processes and on other days."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from causalrec._files import new_directory
from causalrec._objects import read_object, write_object
from causalrec.exceptions import StoreError
from causalrec.nuisance.nuisances import Nuisances


def save_nuisances(nuisance: Nuisances, directory: str | Path, *, replace: bool = False) -> Path:
    """Write nuisances into a directory of plain files, which is complete or absent.

    Outcomes, arms, weights, folds and predictions are ``.npy`` files with a value for every training row: keep them as
    you keep the data. The covariates are not kept; a learner's ``fit`` with ``nuisance=`` takes them again. Boosted
    models are ``.ubj`` files; models of other packages are kept by skops (``pip install skops``).

    Parameters
    ----------
    nuisance : Nuisances
    directory : path
        New, unless ``replace``.
    replace : bool
        Whether a directory that is there gives way, once the new one is complete.

    Returns
    -------
    The directory.

    Raises
    ------
    StoreError
        When the place is taken or cannot be written, or a model cannot be kept in plain files.
    MissingExtraError
        For models of other packages, without skops.
    """
    target = Path(directory).expanduser().absolute()
    about = {"arms": [str(label) for label in nuisance.labels], "n_obs": nuisance.n_obs, "n_folds": nuisance.n_folds}
    with new_directory(target, replace=replace) as partial:
        write_object(nuisance, partial, about=about)
    return target


def load_nuisances(directory: str | Path, *, trusted: Collection[str] = ()) -> Nuisances:
    """Read nuisances that :func:`save_nuisances` wrote: the same scores and predictions, to the bit.

    Reading runs no code from the files.

    Parameters
    ----------
    directory : path
    trusted : names of types, optional
        Types of other packages to build, if you trust who saved the nuisances.

    Raises
    ------
    StoreError
        When there are no nuisances, a newer version wrote them, a file is damaged, or a part is not trusted.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from causalrec.nuisance import fit_nuisances
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    >>> nuisance = fit_nuisances(X, X[:, 0] + treatment, treatment=treatment, propensity=0.5)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     again = load_nuisances(save_nuisances(nuisance, Path(place) / "nuisances"))
    >>> bool((again.effect_scores() == nuisance.effect_scores()).all())
    True
    """
    place = Path(directory).expanduser().absolute()
    found = read_object(place, trusted=trusted)
    if not isinstance(found, Nuisances):
        raise StoreError(f"{place} holds a {type(found).__name__}, expected nuisances.")
    return found
