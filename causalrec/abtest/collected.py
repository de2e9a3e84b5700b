"""Whether aggregates hold what an experiment asks of them; they may have been collected elsewhere."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from causalrec._validation import list_some, nearest
from causalrec.abtest.aggregates import ALL, TREND, UNTRIGGERED, Aggregates
from causalrec.abtest.comparisons import moment_names
from causalrec.abtest.metrics import Metric, Quantile
from causalrec.exceptions import CausalRecError, TreatmentError

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment

_COLLECT_ANEW = "Collect them with this experiment: experiment.collect(table)."


def check_collected(experiment: Experiment, aggregates: Aggregates) -> None:
    """Aggregates may come from elsewhere: they must hold this experiment's groups and columns."""
    wanted = [ALL, *experiment.segments]
    wanted += [UNTRIGGERED] if experiment.trigger else []
    wanted += [str(experiment.day), TREND] if experiment.day else []
    lacking = [dimension for dimension in wanted if dimension not in aggregates.cells]
    if lacking:
        raise CausalRecError(f"the aggregates have no cells for {list_some(lacking)}. {_COLLECT_ANEW}")
    if aggregates.clustered != (experiment.cluster is not None):
        kind = "clusters" if aggregates.clustered else "rows"
        raise CausalRecError(f"the aggregates are of {kind}, but cluster is {experiment.cluster!r}. {_COLLECT_ANEW}")
    if (experiment.strata == ()) != all(group is None for _, group in aggregates.cells[ALL]):
        raise CausalRecError(
            f"the groups of the aggregates do not go with strata={list(experiment.strata)}. {_COLLECT_ANEW}"
        )
    for name, metric in experiment.metrics.items():
        for (arm, _), cell in aggregates.cells[ALL].items():
            if isinstance(metric, Quantile) and name not in cell.quantiles:
                raise CausalRecError(f"the aggregates have no quantile {name!r} of arm {arm!r}. {_COLLECT_ANEW}")
            if isinstance(metric, Metric) and not isinstance(metric, Quantile):
                found = cell.moments[name].names if name in cell.moments else ()
                expected = moment_names(metric, clustered=aggregates.clustered)
                if found != expected:
                    raise CausalRecError(
                        f"{name}: the aggregates of arm {arm!r} have the columns {list_some(found) or 'none'}; "
                        f"expected {list_some(expected)}. {_COLLECT_ANEW}"
                    )


def checked_arms(experiment: Experiment, aggregates: Aggregates) -> list[Hashable]:
    """The arms, control first."""
    arms = list(aggregates.arms)
    control = experiment.control
    for arm in dict.fromkeys(arm for arm, _ in aggregates.cells.get(UNTRIGGERED, {})):
        if arm not in arms:
            raise TreatmentError(
                f"no unit of arm {arm!r} triggered, so it cannot be compared. Check the trigger "
                f"{experiment.trigger!r}, or leave it out: its effect is then on all units."
            )
    if control not in arms:
        alike = [arm for arm in arms if str(arm) == str(control)]
        hint = f" Write control={alike[0]!r}." if alike else nearest(str(control), map(str, arms))
        raise TreatmentError(f"control {control!r} is not among the arms {list_some(arms)}.{hint}")
    if len(arms) < 2:
        raise TreatmentError(f"found only the arm {control!r}; a comparison needs two. Check the filter or the split.")
    written = [str(arm) for arm in arms]
    alike = [arm for arm, text in zip(arms, written, strict=True) if written.count(text) > 1]
    if alike:
        raise TreatmentError(
            f"the arms {list_some(alike)} are written alike, so results could not tell them apart. "
            "Give each its own name."
        )
    return sorted(arms, key=lambda arm: arm != control)
