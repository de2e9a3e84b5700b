"""Units in the order of a score as other packages order, count and accept them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._peer_curves import Rows
from causalrec.evaluation._ranked import Ranked
from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError


@dataclass(frozen=True)
class Peer:
    """How a package sees the rows."""

    name: str
    groups_ties: bool = False
    binary: bool = False
    inverse_propensity: bool = False


def two_arms(ranked: Ranked, peer: Peer, *, last_first: bool = False) -> tuple[Rows, IntArray]:
    """The units of the two arms as a package orders and counts them, and their places in ``ranked``."""
    _check_inputs(ranked, peer)
    at = np.flatnonzero(ranked.arm >= 0)
    if last_first or not peer.groups_ties:
        at = order_of_rows(ranked, at, last_first=last_first)
    uplift = ranked.uplift[at]
    n = len(at)
    ends = np.flatnonzero(np.append(uplift[1:] != uplift[:-1], True)) if peer.groups_ties else np.arange(n)
    treated, weight = (ranked.arm[at] == 1).astype(np.float64), ranked.weight[at]
    weight = weight * (n / weight.sum())
    factors: tuple[FloatArray | float, FloatArray | float] = (1.0, 1.0)
    if peer.inverse_propensity:
        e, e_0 = (np.broadcast_to(ranked.propensity(arm), ranked.n)[at] for arm in (1, 0))
        if ranked.scores.shares_estimated:
            e, e_0 = np.full(n, weight @ treated / n), np.full(n, 1 - weight @ treated / n)
        factors = 0.5 * (e + e_0) / e, 0.5 * (e + e_0) / e_0
    return Rows(ranked.y[at], treated, weight, *factors, ends), at


def order_of_rows(ranked: Ranked, at: IntArray, *, last_first: bool = False) -> IntArray:
    """Places in ``ranked``, those of equal predictions in the order of the caller's rows, or the other way round."""
    if not ranked.tied:
        return at
    group = np.repeat(np.arange(len(ranked.group_end)), ranked.group_size)[at]
    return at[np.lexsort((ranked.order[at] * (-1 if last_first else 1), group))]


def _check_inputs(ranked: Ranked, peer: Peer) -> None:
    if ranked.doubly_robust:
        raise CausalRecError(
            f'{peer.name} takes outcomes, not scores of nuisances. Leave nuisance out, or take convention="causalrec".'
        )
    if peer.binary and not np.isin(ranked.y, (0.0, 1.0)).all():
        raise OutcomeError(
            f"{peer.name} takes outcomes of 0 and 1 only, and y has others, such as "
            f'{ranked.y[~np.isin(ranked.y, (0.0, 1.0))][0]:g}. Take convention="causalrec".'
        )
    if not peer.inverse_propensity and any(np.ptp(ranked.propensity(arm)) > 0 for arm in (0, 1)):
        raise OverlapError(
            f"{peer.name} takes the share treated as the same for all, and propensity varies. Take "
            'convention="causalrec" or "pylift".'
        )


def with_estimated_share(rows: Rows, parts: FloatArray) -> FloatArray:
    """Add that weights of half a sum over an arm's share move with that share."""
    arms = parts @ rows.weight
    return np.vstack([parts, share_slope(rows, arms[1], arms[2])])


def share_slope(rows: Rows, by_treated: float, by_control: float) -> FloatArray:
    """The derivative by the rows' weights through the factors n / (2 n_t) and n / (2 n_c) of the arms' sums."""
    w_t = float(rows.weight @ rows.treated)
    w_c = float(rows.weight.sum()) - w_t
    slope = by_treated * (1 / (w_t + w_c) - rows.treated / w_t)
    return np.asarray(slope + by_control * (1 / (w_t + w_c) - (1 - rows.treated) / w_c))


def centred(weight: FloatArray, by_weight: FloatArray) -> FloatArray:
    """How far each row moves a number whose derivative by the weights is given, the weights' mean staying one."""
    return weight * (by_weight - float(weight @ by_weight) / len(weight))
