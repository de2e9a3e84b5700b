"""A monitor of a running experiment: a day's moments after another, and at each look whether to stop."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from causalrec._validation import list_some, nearest
from causalrec.abtest.aggregates import Aggregates
from causalrec.abtest.aggregates_json import dump_aggregates
from causalrec.abtest.inference import FixedHorizon, Inference
from causalrec.abtest.metrics import Metric
from causalrec.abtest.sequential.always_valid import AlwaysValid
from causalrec.abtest.sequential.group_plan import GroupPlan
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.monitor_looks import Rules, look_at, units_by_arm
from causalrec.abtest.sequential.monitor_state import State, describe, design_digest, digest_of, read_state, write_state
from causalrec.exceptions import CausalRecError
from causalrec.results import MonitorResult

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment


class Monitor:
    """Look at an experiment while it runs, as often as you like, without false alarms.

    Give it each day's new units (:meth:`update`), or everything so far where units come back (:meth:`look`). What it
    keeps is small: moments, and what each look said. With a ``path`` every look is on disk before it is answered, whole
    or not at all: a monitor that is killed at any point and made again goes on as if nothing had happened, to the bit.

    Each metric is tested for its own hypothesis. A comparison that has been answered stays so, whatever later looks
    say; its p-value is the smallest so far. Intervals are of the look alone, not cut by earlier ones: cut intervals can
    become empty where an effect changes over time.

    Parameters
    ----------
    experiment : Experiment
        A :class:`SampleRatio` among its metrics is tested at each look by :func:`sequential_sample_ratio`; a mismatch
        stops the experiment.
    inference : AlwaysValid, GroupPlan or another Inference, optional
        By default the experiment's own if that is :class:`AlwaysValid`, else ``AlwaysValid()``.
    path : str or Path, optional
        A small JSON file that holds the state; made at the first look. Without it the monitor lives in memory.
    primary : str or sequence of str, optional
        Metrics that decide; by default those of the experiment's decision rule, if it has one, else all. The error, 1 -
        confidence_level, is shared equally among the comparisons (metrics x arms) of ``primary`` (Bonferroni); the
        other metrics are shown at the whole error each. Where nothing is primary, every comparison decides at the whole
        error, without a correction, and the status says so.
    stop_when : {"all", "any"}
        Stop when all comparisons that decide have an answer, or when one of them has shown what it was to show.

    Raises
    ------
    CausalRecError
        For :class:`FixedHorizon`, which does not bear looks; an unknown primary metric; the state of another
        experiment.
    StoreError
        For a state that cannot be read.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causalrec.abtest import Experiment, Mean
    >>> rng = np.random.default_rng(1)
    >>> def day(n):
    ...     arm = rng.integers(0, 2, n)
    ...     return pd.DataFrame({"arm": np.where(arm, "B", "A"), "spend": rng.normal(10 + 0.3 * arm, 2)})
    >>> monitor = Monitor(Experiment({"spend": Mean("spend")}, variant="arm", control="A"), AlwaysValid(2_000))
    >>> [monitor.update(day(500), label=f"day {k}").decision for k in (1, 2, 3)]
    ['continue', 'stop', 'stop']
    """

    def __init__(
        self,
        experiment: Experiment,
        inference: Inference | GroupPlan | None = None,
        path: str | Path | None = None,
        *,
        primary: str | Sequence[str] | None = None,
        stop_when: Literal["all", "any"] = "all",
    ) -> None:
        if inference is None:
            inference = experiment.inference if isinstance(experiment.inference, AlwaysValid) else AlwaysValid()
        _check_inference(inference)
        if stop_when not in ("all", "any"):
            raise CausalRecError(f"stop_when is {stop_when!r}; expected 'all' or 'any'.")
        chosen = _primary(experiment, primary)
        self._rules = Rules(experiment, inference, chosen, stop_when)
        self._path = None if path is None else Path(path).expanduser()
        self._description = describe(experiment, monitored_by=inference, primary=chosen, stop_when=stop_when)
        self._state = None if self._path is None else read_state(self._path, self._description)

    @property
    def digest(self) -> str:
        """Of the experiment and how it is monitored, as its state has it."""
        return design_digest(self._description)

    @property
    def status(self) -> MonitorResult | None:
        """The last look; ``None`` before the first."""
        return None if self._state is None else self._state.status

    @property
    def aggregates(self) -> Aggregates | None:
        """Everything so far, for :meth:`Experiment.analyze`; ``None`` before the first look."""
        return None if self._state is None else self._state.aggregates

    @property
    def counts(self) -> dict[Hashable, int]:
        """Units of each arm so far."""
        return {} if self._state is None else units_by_arm(self._state.aggregates)

    @property
    def inference(self) -> Inference | None:
        """Of the present look, for :meth:`Experiment.analyze`; ``None`` before the first."""
        rule = self._rules.inference
        if not isinstance(rule, GroupPlan):
            return rule
        if self.status is None:
            return None
        *previous, n = self.status.units.tolist()
        return rule.at(n, previous, final=self.status.fraction >= 1)

    def update(self, data: Any, *, label: object = None, final: bool = False) -> MonitorResult:
        """Add units that are new, such as those of a day, and look.

        A unit of several days, or a cluster that comes back, would count as several: take :meth:`look` for such.

        Parameters
        ----------
        data : table, Aggregates, or mapping of arm to Moments
            See :meth:`Experiment.analyze`.
        label : object, optional
            Of these data, such as their date: one that has been given before is refused, and so are moments that are
            equal to those of an earlier update, whatever their label.
        final : bool
            Of a :class:`GroupPlan`: the experiment ends here, short of its maximum, so all that is left may be spent.

        Raises
        ------
        CausalRecError
            For data that were added before, or cannot be merged (quantiles; clipping at quantiles), and as
            :meth:`Experiment.analyze` does. The state is then as it was.
        """
        return self._advance(data, label, final=final, cumulative=False)

    def look(self, data: Any, *, label: object = None, final: bool = False) -> MonitorResult:
        """Look at everything so far, in place of what there was. Parameters and errors as of :meth:`update`."""
        return self._advance(data, label, final=final, cumulative=True)

    def _advance(self, data: Any, label: object, *, final: bool, cumulative: bool) -> MonitorResult:
        state = self._state if self._path is None else read_state(self._path, self._description)
        status = None if state is None else state.status
        text = f"look {1 if status is None else status.look + 1}" if label is None else str(label)
        new = self._rules.experiment._aggregates(data)
        digest = digest_of(dump_aggregates(new))
        if state is not None:
            _check_new(state, text, digest, cumulative=cumulative)
        merged = new if state is None or cumulative else state.aggregates.merge(new)
        found = look_at(self._rules, merged, status, label=text, final=final)
        after = State(cumulative, merged, found, (*(() if state is None else state.digests), digest))
        if self._path is not None:
            write_state(self._path, after, self._description)
        self._state = after
        return found

    def __repr__(self) -> str:
        seen = "no look yet" if self.status is None else f"{self.status.decision} at look {self.status.look}"
        where = "in memory" if self._path is None else str(self._path)
        return f"Monitor({self._rules.inference.name}, {where}, {seen})"


def _check_inference(inference: object) -> None:
    if isinstance(inference, FixedHorizon):
        raise CausalRecError(
            "FixedHorizon is for one look at a planned end; looked at daily it raises false alarms in a large share of "
            "experiments. Take AlwaysValid(n_tuning=...) or GroupPlan(n_max=...)."
        )
    if isinstance(inference, GroupSequential):
        raise CausalRecError(
            "GroupSequential is one look; the monitor knows the looks itself. Give the plan: GroupPlan(n_max=..., "
            "spending=...)."
        )
    if not isinstance(inference, GroupPlan) and not all(hasattr(inference, n) for n in ("critical", "pvalue", "name")):
        raise CausalRecError(
            f"inference is {inference!r}; expected AlwaysValid(n_tuning=...), GroupPlan(n_max=...), or an object with "
            "critical and pvalue, as of Inference."
        )


def _primary(experiment: Experiment, primary: str | Sequence[str] | None) -> tuple[str, ...]:
    """The metrics among which the error is shared."""
    if primary is None:
        primary = getattr(getattr(experiment, "decision", None), "primary", None) or ()
    chosen = (primary,) if isinstance(primary, str) else tuple(primary)
    known = [name for name, metric in experiment.metrics.items() if isinstance(metric, Metric)]
    if not known:
        raise CausalRecError("the experiment has no metric to compare; a monitor needs at least one, such as a Mean.")
    unknown = [name for name in chosen if name not in known]
    if unknown or len(set(chosen)) < len(chosen):
        raise CausalRecError(
            f"primary is {list_some(chosen)}; expected metrics of the experiment, each once: {list_some(known)}."
            f"{nearest(str(unknown[0]), known) if unknown else ''}"
        )
    return chosen


def _check_new(state: State, label: str, digest: str, *, cumulative: bool) -> None:
    """Refuse data that are there already."""
    if state.cumulative != cumulative:
        last, now = ("look", "update") if state.cumulative else ("update", "look")
        raise CausalRecError(
            f"earlier data came by {last}(), these by {now}(); the two would count units twice or not at all. Go on "
            f"with {last}()."
        )
    if label in state.status.labels:
        raise CausalRecError(
            f"{label!r} is already in the state, as look {state.status.labels.index(label) + 1}; give each day once, "
            "under its own label."
        )
    if digest in state.digests:
        k = state.digests.index(digest)
        raise CausalRecError(
            f"these moments are exactly those of {state.status.labels[k]!r} (look {k + 1}), so they are the same rows "
            f"again; {label!r} is not added."
        )
