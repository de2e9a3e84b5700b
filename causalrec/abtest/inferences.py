"""The ways of inference by the names that :meth:`Experiment.analyze` and configs know them by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from causalrec._validation import list_some, nearest
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.inference import FixedHorizon, Inference
from causalrec.abtest.sequential.always_valid import AlwaysValid
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.exceptions import CausalRecError

INFERENCES: Mapping[str, type[Any]] = MappingProxyType(
    {"fixed": FixedHorizon, "always_valid": AlwaysValid, "group_sequential": GroupSequential, "bayesian": Bayesian}
)


def as_inference(inference: Any) -> Inference | Bayesian:
    """A way of inference, also by its name with the defaults of its class.

    Raises
    ------
    CausalRecError
        For an unknown name, ``"group_sequential"``, which needs to know when the looks were, or another object.

    Examples
    --------
    >>> as_inference("always_valid").name
    'always valid'
    """
    if isinstance(inference, Inference | Bayesian):
        return inference
    if inference == "group_sequential":
        raise CausalRecError(
            "inference 'group_sequential' needs the looks so far; give GroupSequential.at(n, n_max=..., "
            "previous=[...]) or GroupSequential(fractions)."
        )
    if isinstance(inference, str) and inference in INFERENCES:
        return INFERENCES[inference]()  # type: ignore[no-any-return]
    raise CausalRecError(
        f"inference is {inference!r}; expected one of {list_some(INFERENCES)} or an object such as "
        f"AlwaysValid(n_tuning=10_000).{nearest(str(inference), INFERENCES)}"
    )
