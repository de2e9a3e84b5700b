"""Is the split as designed? A test that may be read as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import gammaln

from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.abtest.sample_ratio import designed_shares
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import SampleRatioResult

CONCENTRATION = 10_000.0


def sequential_sample_ratio(
    counts: Mapping[Any, Any],
    weights: Mapping[Any, float] | None = None,
    *,
    concentration: float = CONCENTRATION,
    threshold: float = 0.001,
) -> SampleRatioResult:
    """Test the sizes of the arms at every look; a sound split ever gives p < threshold with that probability at most.

    The Bayes factor of a Dirichlet mixture of splits around the designed one against the designed one itself is a
    martingale in the units if the design holds, so by Ville's inequality one over it is a p-value at all times at once
    (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS 35). It is exact for any number
    of units and looks. Looks in between cannot raise a false alarm, unlike those of :func:`sample_ratio_test`.

    Parameters
    ----------
    counts : mapping of arm to number of units
        So far: at one look, or a sequence of them, at each look; the p-value is then the smallest of all looks.
    weights : mapping of arm to designed share, in any scale; equal by default
        Units of an arm with weight zero give p = 0.
    concentration : float
        How near to the design the splits lie that are reckoned with, above 0: they are off by about
        sqrt(share (1 - share) / concentration), half a point of a hundred for two equal arms by default. Smaller for
        coarse faults in few units, larger for small ones in many.
    threshold : float

    Returns
    -------
    SampleRatioResult
        Of the last look; ``statistic`` is the logarithm of the Bayes factor there, ``pvalue`` the smallest so far.

    Raises
    ------
    TreatmentError
        For fewer than two arms, counts that are not whole numbers >= 0, that differ in their number of looks or that
        fall from look to look, no units, or arms without a weight.
    CausalRecError
        For a threshold outside (0, 1), or a concentration that is not a number above 0.

    Examples
    --------
    >>> daily = {"A": [1_000, 10_000, 50_000], "B": [1_020, 10_400, 51_800]}
    >>> found = sequential_sample_ratio(daily)
    >>> print(f"{found.pvalue:.2g} {found.mismatch}")
    1.7e-06 True
    """
    if not 0 < threshold < 1:
        raise CausalRecError(f"threshold is {threshold}; expected a p-value in (0, 1), such as 0.001.")
    if not 0 < concentration < math.inf:
        raise CausalRecError(f"concentration is {concentration}; expected a number above 0, such as 10_000.")
    arms = list(dict.fromkeys([*counts, *(weights if weights is not None else ())]))
    looks = _looks(counts, arms)
    share = designed_shares(arms, weights)
    evidence = _log_bayes_factors(looks, share, float(concentration))
    n = looks[-1].sum()
    pvalue = float(np.exp(-max(float(evidence.max()), 0.0)))
    return SampleRatioResult(
        pvalue=pvalue, statistic=float(evidence[-1]), df=int((share > 0).sum()) - 1, n_obs=int(n), threshold=threshold,
        mismatch=pvalue < threshold, method="Dirichlet-multinomial mixture, valid at every look",
        arms=tuple(map(str, arms)), counts=tuple(int(c) for c in looks[-1]),
        expected=tuple(float(e) for e in n * share),
    )  # fmt: skip


def _log_bayes_factors(looks: FloatArray, share: FloatArray, concentration: float) -> FloatArray:
    """Of each look: log B(a + s) - log B(a) - sum s log(share), with a = concentration x share."""
    used = share > 0
    a, seen = concentration * share[used], looks[:, used]
    mixture = gammaln(a + seen).sum(axis=1) - gammaln(a).sum()
    mixture -= gammaln(concentration + seen.sum(axis=1)) - gammaln(concentration)
    found = mixture - seen @ np.log(share[used])
    return np.asarray(np.where(looks[:, ~used].any(axis=1), np.inf, found))


def _looks(counts: Mapping[Any, Any], arms: list[Any]) -> FloatArray:
    """Counts of shape (looks, arms)."""
    if len(arms) < 2:
        raise TreatmentError(
            f"found {len(arms)} arms: {list_some(arms)}; a sample ratio needs at least two. Give the count of every "
            "designed arm, 0 where no unit was seen."
        )
    columns = {arm: np.atleast_1d(np.asarray(counts[arm], dtype=np.float64)) for arm in arms if arm in counts}
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise TreatmentError(f"the arms have {list_some(sorted(sizes))} looks; expected a count of each at every look.")
    looks = np.column_stack([columns.get(arm, np.zeros(max(sizes))) for arm in arms])
    whole = np.isfinite(looks) & (looks >= 0) & (looks == np.floor(looks))
    if not whole.all() or not looks.size or not looks[-1].any() or (np.diff(looks, axis=0) < 0).any():
        raise TreatmentError(
            "counts are not whole numbers >= 0 that do not fall from look to look, with at least one unit at the last. "
            "Give the units of each arm so far."
        )
    return looks
