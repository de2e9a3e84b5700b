"""Does what is promoted gain, or does it take from the rest?"""

from __future__ import annotations

import math

from causalrec._validation import check_confidence_level
from causalrec.abtest.decisions._joint import Combination, JointEffects, joint_effects
from causalrec.abtest.relative import fieller_ratio
from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments
from causalrec.results import CannibalisationResult


def cannibalisation(
    control: Moments,
    treatment: Moments,
    *,
    target: str,
    rest: str | None = None,
    total: str | None = None,
    size: str | None = None,
    names: tuple[str, str] = ("control", "treatment"),
    confidence_level: float = 0.95,
) -> CannibalisationResult:
    """Compare two arms on a promoted part, on the rest and on their total.

    The three effects come from one covariance matrix, so that the total is the sum of the parts, and the share taken
    from the rest, -effect on the rest / effect on the target, has Fieller's (1954) interval: the shares r for which the
    test of rest + r target = 0 does not reject. All tests are Welch's (1947).

    Parameters
    ----------
    control, treatment : Moments
        Of the columns, a row per unit that was assigned (per cluster: sums of its rows, and how many they are). From a
        table by :func:`causalrec.engines.collect_moments`.
    target : str
        The promoted part, such as the revenue of a promoted category.
    rest, total : str
        One of them: everything else in the same unit, or everything.
    size : str, optional
        The number of rows of a cluster: effects are then on means per row.
    names : pair of str
        The arms, control first.
    confidence_level : float

    Raises
    ------
    ColumnError
        For a column that is not there, or is named twice.
    OutcomeError
        For fewer than three units in an arm, values that are not finite, or no variance.
    CausalRecError
        For both of ``rest`` and ``total``, or none.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sold = rng.poisson([[5.0, 20.0]], size=(4000, 2)).astype(float)
    >>> promoted = rng.poisson([[6.0, 19.3]], size=(4000, 2)).astype(float)
    >>> a, b = (Moments.from_array(x, ["own brand", "others"]) for x in (sold, promoted))
    >>> found = cannibalisation(a, b, target="own brand", rest="others")
    >>> print(f"{found.share_taken:.2f} [{found.share_taken_ci_low:.2f}, {found.share_taken_ci_high:.2f}]")
    0.67 [0.47, 0.89]
    >>> found.verdict
    'cannibalised in part'
    """
    check_confidence_level(confidence_level)
    if (rest is None) == (total is None):
        raise CausalRecError(
            f"rest is {rest!r} and total {total!r}; expected one of them: the other follows from it and the target."
        )
    other = str(rest if total is None else total)
    joint = joint_effects(control, treatment, [target, other], size=size, names=names)
    of_rest = (0.0, 1.0) if total is None else (-1.0, 1.0)
    whole = (1.0, 1.0) if total is None else (0.0, 1.0)
    parts = {"target": joint.combine((1.0, 0.0)), "rest": joint.combine(of_rest), "total": joint.combine(whole)}
    share = _share(joint, of_rest, 1 - confidence_level)
    fields: dict[str, float] = {}
    for name, part in parts.items():
        fields |= _described(name, part, confidence_level, side=-1 if name == "rest" else 0)
    return CannibalisationResult(
        target=target, rest=rest or f"{total} without {target}", control=names[0], treatment=names[1], **fields,
        share_taken=share[0], share_taken_ci_low=share[1], share_taken_ci_high=share[2],
        confidence_level=float(confidence_level), n_obs=sum(joint.n),
        method=f"Welch t{' over clusters' if size else ''}, Fieller interval of the share",
    )  # fmt: skip


def _described(name: str, part: Combination, confidence_level: float, *, side: int) -> dict[str, float]:
    if part.std_error == 0:  # the rest of a total that is all target
        return {f"{name}_effect": part.effect} | dict.fromkeys(
            (f"{name}_{each}" for each in ("std_error", "ci_low", "ci_high", "pvalue")), math.nan
        )
    low, high = part.interval(confidence_level)
    return {
        f"{name}_effect": part.effect, f"{name}_std_error": part.std_error, f"{name}_ci_low": low,
        f"{name}_ci_high": high, f"{name}_pvalue": part.pvalue(side),
    }  # fmt: skip


def _share(joint: JointEffects, of_rest: tuple[float, float], size: float) -> tuple[float, float, float]:
    """-rest / target and Fieller's limits."""
    top, bottom = joint.combine([-w for w in of_rest]), joint.combine((1.0, 0.0))
    mixed = -float(joint.covariance[0] @ of_rest)
    quantile = joint.ratio_quantile([-w for w in of_rest], (1.0, 0.0), size)
    low, high, _ = fieller_ratio(
        top.effect, top.std_error**2, bottom.effect, bottom.std_error**2, quantile, covariance=mixed
    )
    return top.effect / bottom.effect if bottom.effect else math.nan, low, high
