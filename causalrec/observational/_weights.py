"""What all weights share: their summary, and the check that both arms have some."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import TreatmentError
from causalrec.observational._errors import effective_size
from causalrec.results import WeightsResult


def weights_result(
    weight: FloatArray, treatment: IntArray, *, estimand: str, method: str, **rest: Any
) -> WeightsResult:
    """Weights with their effective sizes; taken as known, unless ``rest`` has the fields that say otherwise."""
    treated, control = weight[treatment == 1], weight[treatment == 0]
    found: dict[str, Any] = {
        "n_obs": len(weight), "n_treated": int(np.count_nonzero(treated)), "n_control": int(np.count_nonzero(control)),
        "n_dropped": 0, "ess_treated": effective_size(treated), "ess_control": effective_size(control),
        "largest_share": max(_largest_share(treated), _largest_share(control)), "treated": treatment == 1,
    }  # fmt: skip
    return WeightsResult(**{**found, **rest, "estimand": estimand, "method": method, "weights": weight})


def _largest_share(weight: FloatArray) -> float:
    total = float(weight.sum())
    return float(weight.max()) / total if total > 0 else float("nan")


def check_arms_weigh(weight: FloatArray, codes: IntArray, labels: tuple[Any, ...], *, least: int = 1) -> None:
    """Raise :class:`TreatmentError` for an arm with fewer than ``least`` units of weight above zero."""
    for code, label in enumerate(labels):
        inside = codes == code
        found = int(np.count_nonzero(weight[inside]))
        if found < least:
            raise TreatmentError(
                f"arm {label!r}: units with a weight above zero: {found} of {int(inside.sum())}; at least {least} "
                f"{'is' if least == 1 else 'are'} needed. Look at the sample weights, and at what trimming cuts off."
            )
