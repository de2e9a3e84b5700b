"""The monitor: the same answers as its parts, whatever kills it; what it refuses; false alarms."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest import (
    AlwaysValid,
    DecisionRule,
    Equivalence,
    Experiment,
    FixedHorizon,
    GroupPlan,
    Mean,
    Monitor,
    NonInferiority,
    Proportion,
    Quantile,
    Ratio,
    SampleRatio,
    Superiority,
    dump_aggregates,
    sequential_sample_ratio,
)
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.stagewise import stagewise_analysis
from causalrec.exceptions import CausalRecError, StoreError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import dump_results

EXPERIMENT = Experiment(
    {"spend": Mean("spend"), "ctr": Ratio("clicks", "views"), "split": SampleRatio()}, variant="arm", control="A",
    unit="user",
)  # fmt: skip
WAYS = pytest.mark.parametrize(
    "way", [AlwaysValid(2_000), GroupPlan(3_000, "pocock", futility="pocock")], ids=["valid", "group"]
)


def day(k, n=400, effect=0.0, arms=("A", "B")):
    rng = np.random.default_rng(k)
    arm = rng.integers(0, len(arms), n)
    views = rng.poisson(6, n) + 1
    return pd.DataFrame({
        "user": np.arange(n) + 10_000 * k, "arm": np.array(arms)[arm], "views": views,
        "clicks": rng.binomial(views, 0.3), "spend": rng.gamma(2, 5, n) + effect * arm,
    })  # fmt: skip


@cache
def collected(k, effect=0.4):
    return EXPERIMENT.collect(day(k, effect=effect))


def moments(n, effect, sd=1.0):
    """A metric x with given effect, of n units in each arm."""
    return {
        arm: Moments.from_covariance(n, ["x"], np.array([mean]), np.array([[sd**2]]))
        for arm, mean in (("A", 10.0), ("B", 10.0 + effect))
    }


def one(metric=None, **options):
    return Experiment({"x": metric or Mean("x", method="z")}, variant="arm", control="A", **options)


# --- the same answer ------------------------------------------------------------------------------------------------


@WAYS
def test_restarted_for_every_day_to_the_bit(tmp_path, way):
    days = [collected(k) for k in range(5)]
    through = Monitor(EXPERIMENT, way, tmp_path / "one.json")
    said = [dump_results({"status": through.update(d, label=k)}) for k, d in enumerate(days)]
    in_memory = Monitor(EXPERIMENT, way)
    assert [dump_results({"status": in_memory.update(d, label=k)}) for k, d in enumerate(days)] == said
    again = [
        dump_results({"status": Monitor(EXPERIMENT, way, tmp_path / "two.json").update(d, label=k)})
        for k, d in enumerate(days)
    ]
    assert again == said
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert str(Monitor(EXPERIMENT, way, tmp_path / "two.json").status) == str(through.status)


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_while_writing(tmp_path, monkeypatch, where):
    """Before the new state is in place the old one holds; after that the day is there, and is refused a second time."""
    days = [collected(k) for k in range(3)]
    calm = Monitor(EXPERIMENT, AlwaysValid(), tmp_path / "calm.json")
    for k, d in enumerate(days):
        calm.update(d, label=k)
    path = tmp_path / "state.json"
    Monitor(EXPERIMENT, AlwaysValid(), path).update(days[0], label=0)
    real = Path.replace

    def killed(self, target):
        if where == "after":
            real(self, target)
        raise KeyboardInterrupt

    dying = Monitor(EXPERIMENT, AlwaysValid(), path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            dying.update(days[1], label=1)
    again = Monitor(EXPERIMENT, AlwaysValid(), path)
    if where == "before":
        again.update(days[1], label=1)
    else:
        with pytest.raises(CausalRecError, match="'1' is already in the state, as look 2"):
            again.update(days[1], label=1)
    again.update(days[2], label=2)
    assert path.read_bytes() == (tmp_path / "calm.json").read_bytes()
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


@pytest.mark.slow
def test_process_killed_in_the_middle(tmp_path):
    path = tmp_path / "state.json"
    program = textwrap.dedent(
        f"""
        import os
        from pathlib import Path
        from causalrec.abtest import AlwaysValid, Experiment, Mean, Monitor
        import numpy as np
        from causalrec.moments import Moments
        def of(n, effect):
            return {{a: Moments.from_covariance(n, ["x"], np.array([m]), np.array([[1.0]]))
                    for a, m in (("A", 10.0), ("B", 10.0 + effect))}}
        experiment = Experiment({{"x": Mean("x", method="z")}}, variant="arm", control="A")
        monitor = Monitor(experiment, AlwaysValid(), {str(path)!r})
        monitor.update(of(100, 0.1), label=1)
        Path.replace = lambda *_: os._exit(9)
        monitor.update(of(101, 0.2), label=2)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ, timeout=120)
    assert done.returncode == 9
    monitor = Monitor(one(), AlwaysValid(), path)
    assert monitor.status.labels == ("1",)
    assert monitor.counts == {"A": 100, "B": 100}
    whole = Monitor(one(), AlwaysValid())
    whole.update(moments(100, 0.1), label=1)
    assert dump_results({"s": monitor.update(moments(101, 0.2), label=2)}) == dump_results(
        {"s": whole.update(moments(101, 0.2), label=2)}
    )


def test_days_in_any_order_and_everything_at_once():
    days = [day(k, effect=0.3) for k in range(4)]
    way = AlwaysValid(1_000)
    forth, back, whole = Monitor(EXPERIMENT, way), Monitor(EXPERIMENT, way), Monitor(EXPERIMENT, way)
    for d, e in zip(days, days[::-1], strict=True):
        forth.update(d)
        back.update(EXPERIMENT.collect(e))
    found = whole.look(pd.concat(days))
    for other in (forth, back):
        for mine, theirs in zip(found.effects, other.status.effects, strict=True):
            assert (mine.estimate, mine.ci_low, mine.pvalue) == pytest.approx(
                (theirs.estimate, theirs.ci_low, theirs.pvalue), rel=1e-9
            )
    ours = EXPERIMENT.analyze(forth.aggregates, inference=forth.inference)
    assert [e.pvalue for e in ours.effects] == [e.pvalue for e in forth.status.effects]


def test_it_takes_what_comes_back_at_each_look():
    """Clusters that return: everything so far, in place of what there was."""
    experiment = Experiment({"spend": Mean("spend")}, variant="arm", control="A", cluster="user")
    frame = day(1, n=200)
    more = pd.concat([frame, frame.assign(spend=frame["spend"] + 1), day(2, n=50)])
    monitor = Monitor(experiment, AlwaysValid(100))
    monitor.look(frame)
    found = monitor.look(more)
    expected = experiment.analyze(more, inference=AlwaysValid(100))["spend"]
    assert (found.n_obs, found.effects[0].ci_low) == (250, expected.ci_low)
    with pytest.raises(CausalRecError, match="200 units where the last look had 250"):
        monitor.look(frame.assign(spend=1.0 * frame["views"]))


# --- what it says ---------------------------------------------------------------------------------------------------


def test_always_valid_keeps_the_smallest_pvalue_and_the_answer():
    monitor = Monitor(one(), AlwaysValid(400))
    effects = [0.0, 0.9, 0.0, -0.3]
    said = [monitor.update(moments(100 + k, e), label=k) for k, e in enumerate(effects)]
    seen = [s.effects[0].pvalue for s in said]
    assert [s.pvalue[0] for s in said] == np.minimum.accumulate(seen).tolist()
    alone = one().analyze(monitor.aggregates, inference=AlwaysValid(400))["x"]
    assert said[-1].effects[0].pvalue == alone.pvalue
    first = next(k for k, p in enumerate(seen) if p < 0.05) + 1
    assert [s.decision for s in said] == ["continue"] * (first - 1) + ["stop"] * (5 - first)
    assert said[-1].since.tolist() == [first]
    assert said[-1].answer.tolist() == ["higher"]
    assert np.isnan(said[-1].spent).all()
    history = said[-1].history("x")
    assert history["n_obs"].tolist() == np.cumsum([200, 202, 204, 206]).tolist()
    assert history["look_pvalue"].tolist() == seen
    assert history["label"].tolist() == ["0", "1", "2", "3"]
    error = history["std_error"]
    assert (history["ci_high"] - history["estimate"]).to_numpy() == pytest.approx(
        (history["bound"] * error).to_numpy(), rel=1e-9
    )
    half = stats.norm.ppf(0.975) * error
    assert (history["fixed_low"] + half).to_numpy() == pytest.approx(history["estimate"].to_numpy(), rel=1e-9)


@pytest.mark.parametrize("hypothesis", [Superiority(), Superiority("less"), NonInferiority(0.3)], ids=str)
def test_group_sequential_is_that_of_its_parts(hypothesis):
    """Bounds, spending, and at the stop the stagewise p-value, interval and estimate."""
    experiment = replace(one(), hypothesis=hypothesis)
    monitor, previous = Monitor(experiment, GroupPlan(4_000)), []
    turn, start = (-1, -0.16) if hypothesis == Superiority("less") else (1, 0.16)
    start -= 0.3 if hypothesis == NonInferiority(0.3) else 0.0
    while monitor.status is None or monitor.status.decision == "continue":
        found = monitor.update(moments(300 + len(previous), start + 0.01 * turn * len(previous)))
        look = GroupSequential.at(found.n_obs, n_max=4_000, previous=previous)
        alone = experiment.analyze(monitor.aggregates, inference=look)["x"]
        previous.append(found.n_obs)
        assert (found.effects[0].ci_low, found.effects[0].pvalue) == (alone.ci_low, alone.pvalue)
        bounds = look.bounds(two_sided=hypothesis == Superiority())
        assert found.spent[0] == pytest.approx(bounds.alpha_spent[-1], rel=1e-9)
        assert found.bound[-1] == pytest.approx(bounds.upper[-1], rel=1e-9)
    assert len(previous) > 1
    assert found.state.tolist() == ["rejected"]
    stopped = stagewise_analysis(alone, look)
    assert dump_results({"s": found.stopped}) == dump_results({"s": (stopped,)})
    assert monitor.inference == look
    assert "allowing for the looks" in str(found)


def test_given_up_and_rejected_after_all():
    plan = GroupPlan(2_000, futility="pocock", power=0.9)
    monitor = Monitor(one(), plan)
    found = monitor.update(moments(400, 0.0))
    assert (found.decision, found.state[0], found.since[0]) == ("stop", "futile", 1)
    assert "given up" in str(found)
    assert not found.stopped[0].rejected
    found = monitor.update(moments(500, 0.5))
    assert (found.decision, found.state[0], found.since[0]) == ("stop", "rejected", 2)
    assert [each.rejected for each in found.stopped] == [True]


@pytest.mark.parametrize("final", [False, True])
def test_the_end_of_the_plan(final):
    """At the maximum, or short of it where the experiment ends: what is left is spent, and then there is nothing."""
    monitor = Monitor(one(), GroupPlan(1_000))
    monitor.update(moments(200, 0.0))
    found = monitor.update(moments(100 if final else 350, 0.01), final=final)
    assert (found.decision, found.state[0]) == ("stop", "not shown")
    assert found.spent[0] == pytest.approx(0.05, rel=1e-6)
    assert found.reason == "the plan has ended"
    with pytest.raises(CausalRecError, match="the plan ended at look 2"):
        monitor.update(moments(100, 0.5))


def test_each_metric_has_its_own_question():
    experiment = Experiment(
        {"spend": Mean("spend", hypothesis=Superiority("greater")),
         "views": Mean("views", hypothesis=NonInferiority(0.5)), "clicks": Mean("clicks", hypothesis=Equivalence(0.5))},
        variant="arm", control="A",
    )  # fmt: skip
    for way in (AlwaysValid(3_000), GroupPlan(3_000)):
        monitor = Monitor(experiment, way)
        found = [monitor.update(day(k, effect=2.0, n=1_500)) for k in range(2)][-1]
        assert [e.hypothesis for e in found.effects] == ["greater", "non-inferiority", "equivalence"]
        assert found.state.tolist() == ["rejected"] * 3
        assert found.answer.tolist() == ["higher", "less than 0.5 worse", "within ±0.5 of control"]
        assert "all 3 comparisons that decide are done, 3 of them" in found.reason
        assert any("3 comparisons, each at 5%: not corrected" in note for note in found.notes)


def test_primary_metrics_share_the_error():
    experiment = Experiment(
        {"spend": Mean("spend"), "clicks": Mean("clicks"), "views": Mean("views"), "split": SampleRatio()},
        variant="arm", control="A",
    )  # fmt: skip
    frame = day(3, effect=3.0, n=900, arms=("A", "B", "C"))
    found = Monitor(experiment, AlwaysValid(900), primary=["spend", "clicks"]).update(frame)
    assert found.alpha == pytest.approx([0.0125] * 4 + [0.05] * 2)
    assert found.decides.tolist() == [True] * 4 + [False] * 2
    alone = replace(experiment, confidence_level=1 - 0.05 / 4).analyze(frame, inference=AlwaysValid(900))
    assert found.effects[0].ci_low == pytest.approx(alone["spend", "B"].ci_low, rel=1e-12)
    assert found.decision == "continue"
    assert "views, B (does not decide)" in str(found)
    assert "shared equally among the 4 comparisons of 'spend', 'clicks'" in str(found)
    early = Monitor(experiment, AlwaysValid(900), primary="spend", stop_when="any").update(frame)
    assert (early.decision, early.state[1]) == ("stop", "rejected")


def test_what_the_experiment_says_itself():
    """Its way of inference, if that bears looks, and the primary metrics of its rule."""
    experiment = replace(EXPERIMENT, inference=AlwaysValid(777), decision=DecisionRule("spend"))
    monitor = Monitor(experiment)
    assert monitor.inference == AlwaysValid(777)
    assert monitor.update(day(1)).decides.tolist() == [True, False]
    assert Monitor(EXPERIMENT).inference == AlwaysValid()
    assert Monitor(EXPERIMENT, primary="ctr").update(day(1)).decides.tolist() == [False, True]


def test_a_broken_split_stops_it():
    """By the test that may be looked at, over all looks; the alarm stays."""
    experiment = Experiment({"x": Mean("x"), "split": SampleRatio({"A": 1, "B": 1})}, variant="arm", control="A")
    monitor = Monitor(experiment, AlwaysValid())
    for k, (a, b) in enumerate([(1_000, 1_010), (2_000, 2_600), (9_000, 8_400)]):
        part = moments(5, 0.0)
        found = monitor.update(
            {arm: replace(m, n=n) for (arm, m), n in zip(part.items(), (a, b), strict=True)}, label=k
        )
    test = sequential_sample_ratio({"A": [1_000, 3_000, 12_000], "B": [1_010, 3_610, 12_010]})
    assert found.split_pvalue == test.pvalue < 0.001
    assert (found.decision, found.split_mismatch) == ("stop", True)
    assert "Find the fault before you read any effect" in str(found)
    assert "split: NOT as designed" in str(found)


def test_a_metric_that_says_nothing_yet():
    experiment = Experiment({"x": Mean("x"), "bought": Proportion("bought")}, variant="arm", control="A")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"arm": ["A", "B"] * 50, "x": rng.normal(size=100), "bought": 0})
    monitor = Monitor(experiment, GroupPlan(1_000))
    found = monitor.update(frame)
    assert found.state.tolist() == ["open", "unknown"]
    assert any(note.startswith("look 1: bought: every value is the same") for note in found.notes)
    found = monitor.update(frame.assign(bought=rng.random(100) < 0.3, x=rng.normal(size=100)))
    assert found.state.tolist() == ["open", "open"]
    assert len(found.history("bought")) == 1
    assert len(found.history()) == 3


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_the_same_day_twice(tmp_path):
    monitor = Monitor(EXPERIMENT, AlwaysValid(), tmp_path / "state.json")
    monitor.update(day(1), label="2025-01-01")
    held = (tmp_path / "state.json").read_bytes()
    with pytest.raises(CausalRecError, match="'2025-01-01' is already in the state, as look 1"):
        monitor.update(day(2), label="2025-01-01")
    with pytest.raises(CausalRecError, match=r"exactly those of '2025-01-01' \(look 1\)"):
        monitor.update(day(1).sample(frac=1, random_state=1).sort_values("user"), label="2025-01-02")
    assert (tmp_path / "state.json").read_bytes() == held
    with pytest.raises(CausalRecError, match=r"earlier data came by update\(\), these by look\(\)"):
        monitor.look(day(2))


def test_the_state_of_another_experiment(tmp_path):
    path = tmp_path / "state.json"
    Monitor(EXPERIMENT, AlwaysValid(), path).update(day(1))
    for other, how, differ in (
        (replace(EXPERIMENT, confidence_level=0.9), {}, "'confidence_level'"),
        (replace(EXPERIMENT, metrics={"spend": Mean("spend", covariates="views")}), {}, "'metrics'"),
        (EXPERIMENT, {"inference": AlwaysValid(20)}, "'monitored_by'"),
        (EXPERIMENT, {"primary": "spend"}, "'primary'"),
        (EXPERIMENT, {"inference": GroupPlan(9_000)}, "'monitored_by'"),
    ):
        with pytest.raises(CausalRecError, match=f"is the state of experiment .*they differ in {differ}"):
            Monitor(other, path=path, **how)
    same = Experiment(dict(reversed(EXPERIMENT.metrics.items())), variant="arm", control="A", unit="user")
    assert Monitor(same, path=path).status.look == 1
    spent = GroupPlan(9_000, lambda t, alpha: alpha * t)
    assert Monitor(EXPERIMENT, spent).digest == Monitor(EXPERIMENT, spent).digest


def test_files_that_are_no_state(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"format": "something else"}')
    with pytest.raises(StoreError, match="is not the state of a monitor"):
        Monitor(EXPERIMENT, path=path)
    path.write_text('{"format": "causalrec monitor", "vers')
    with pytest.raises(StoreError, match="cannot read the monitor's state"):
        Monitor(EXPERIMENT, path=path)
    path.unlink()
    Monitor(EXPERIMENT, path=path).update(day(1))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(StoreError, match="has version 99"):
        Monitor(EXPERIMENT, path=path)


def test_looks_and_plans():
    monitor = Monitor(EXPERIMENT, GroupPlan(5_000))
    monitor.look(day(1))
    with pytest.raises(CausalRecError, match="there are 400 units, as at the last look"):
        monitor.look(day(1).assign(spend=0.5 * day(1)["spend"]))
    with pytest.raises(CausalRecError, match="final=True is for a GroupPlan"):
        Monitor(EXPERIMENT).update(day(1), final=True)
    with pytest.raises(CausalRecError, match="FixedHorizon is for one look"):
        Monitor(EXPERIMENT, FixedHorizon())
    with pytest.raises(CausalRecError, match="Give the plan: GroupPlan"):
        Monitor(EXPERIMENT, GroupSequential([0.5]))
    with pytest.raises(CausalRecError, match="expected AlwaysValid"):
        Monitor(EXPERIMENT, "always_valid")
    with pytest.raises(CausalRecError, match=r"primary is 'spnd'.*Did you mean 'spend'"):
        Monitor(EXPERIMENT, primary="spnd")
    with pytest.raises(CausalRecError, match="stop_when is 'some'"):
        Monitor(EXPERIMENT, stop_when="some")
    with pytest.raises(CausalRecError, match="n_max is 0"):
        GroupPlan(0)
    with pytest.raises(CausalRecError, match="no metric to compare"):
        Monitor(Experiment({"split": SampleRatio()}, variant="arm", control="A"))
    with pytest.raises(CausalRecError, match="'ctx' is not compared"):
        monitor.status.history("ctx")


def test_arms_and_metrics_that_cannot_be_added():
    monitor = Monitor(EXPERIMENT)
    monitor.update(day(1))
    with pytest.raises(TreatmentError, match="the arms 'C' were not there at the first look"):
        monitor.update(day(2, arms=("A", "B", "C")))
    assert monitor.status.look == 1
    designed = replace(EXPERIMENT, metrics={**EXPERIMENT.metrics, "split": SampleRatio({"A": 1, "B": 1, "C": 1})})
    monitor = Monitor(designed)
    found = monitor.update(day(1))
    assert found.state.tolist() == ["open", "unknown", "open", "unknown"]
    quantile = Monitor(Experiment({"p90": Quantile("spend", 0.9)}, variant="arm", control="A"))
    quantile.update(day(1))
    with pytest.raises(CausalRecError, match="quantiles cannot be merged"):
        quantile.update(day(2))


def test_repr_and_status_before_the_first_look():
    monitor = Monitor(EXPERIMENT)
    assert (monitor.status, monitor.aggregates, monitor.counts) == (None, None, {})
    assert repr(monitor) == "Monitor(always valid, in memory, no look yet)"
    assert Monitor(EXPERIMENT, GroupPlan(100)).inference is None
    found = monitor.update(day(1))
    assert str(found).startswith("CONTINUE at look 1, 400 units: 2 of 2 comparisons that decide")
    assert found.to_frame()["state"].tolist() == ["open", "open"]
    assert dump_aggregates(monitor.aggregates)


# --- false alarms ---------------------------------------------------------------------------------------------------


def alarms(repeats, looks, n, way, seed):
    """How many of some experiments without an effect the monitor stops; and how many a fixed test would have."""
    rng = np.random.default_rng(seed)
    stopped = peeked = 0
    for _ in range(repeats):
        monitor = Monitor(one(), way)
        values = rng.exponential(1.0, (looks, 2, n))
        for x in values:
            data = {arm: Moments.from_array(v[:, None], ["x"]) for arm, v in zip("AB", x, strict=True)}
            found = monitor.update(data)
        history = found.history()
        stopped += int(found.state[0] == "rejected")
        peeked += int(((history["fixed_low"] > 0) | (history["fixed_high"] < 0)).any())
    return stopped, peeked


def test_false_alarms_of_a_few_experiments():
    stopped, _ = alarms(100, 10, 100, AlwaysValid(1_000), seed=1)
    assert stopped <= stats.binom.ppf(0.999, 100, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("way", [AlwaysValid(3_000), GroupPlan(6_000, "pocock")], ids=["valid", "group"])
def test_false_alarms(way):
    repeats = 1_000
    stopped, peeked = alarms(repeats, 15, 200, way, seed=2)
    assert stopped <= stats.binom.ppf(0.999, repeats, 0.05)
    assert peeked > 0.15 * repeats
    if isinstance(way, GroupPlan):  # all of the error is spent
        assert stopped >= stats.binom.ppf(0.001, repeats, 0.05)
