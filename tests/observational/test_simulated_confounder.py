"""Hidden causes of known strength: exact for regressions, and for other methods what theory says of them."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.observational import ols_effect, sensitivity_ols
from causalrec.observational.partial_r2 import confounded
from causalrec.observational.simulated_confounder import STRENGTHS

from .test_refutation import COVARIATES, make_frame, study_of


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_regression_loses_what_the_closed_form_says(sign: float) -> None:
    """Cinelli and Hazlett's adjusted estimates, for every pair of strengths and for benchmarks."""
    frame = make_frame().assign(y=lambda f: sign * f["y"])
    study = study_of(frame)
    found = study.simulate_confounder(study.estimate("ols"), n_simulations=2)
    closed = sensitivity_ols(frame[COVARIATES], frame["y"], treatment=frame["t"], benchmarks=COVARIATES, kd=1.0)
    y, d = np.meshgrid(STRENGTHS, STRENGTHS, indexing="ij")
    estimate, _ = confounded(closed.estimate, closed.std_error, closed.dof, d, y)
    np.testing.assert_allclose(found.effect, estimate, rtol=1e-8)
    assert found.spread.max() < 1e-10
    np.testing.assert_allclose(found.benchmark_effect, closed.adjusted_estimate, rtol=1e-8)
    assert found.benchmark.tolist() == COVARIATES
    table = found.to_frame()
    assert len(table) == len(STRENGTHS) ** 2 + 3


def test_shares_are_those_asked_for() -> None:
    from causalrec.observational.simulated_confounder import _Basis

    frame = make_frame()
    data = study_of(frame)._data
    u = _Basis(data, 1.0).draw(0.2, 0.1)(np.random.default_rng(0)).covariate
    assert u is not None
    assert u @ u == pytest.approx(len(u))
    of_outcome = ols_effect(frame[COVARIATES].assign(u=u), frame["y"], treatment=frame["t"], error="classical")
    without = ols_effect(frame[COVARIATES], frame["y"], treatment=frame["t"], error="classical")
    # Residual variances fall by the shares: 1 - R² of the outcome, and of the treatment as the error's growth.
    ratio = (of_outcome.std_error / without.std_error) ** 2
    assert ratio == pytest.approx((1 - 0.1) / (1 - 0.2) * (300 - 5) / (300 - 6), rel=1e-9)


@pytest.mark.parametrize("method", ["aipw_parametric", "matching", "ipw"])
def test_other_methods_lose_about_as_much(method: str) -> None:
    study = study_of(make_frame(800))
    effect = study.estimate(method)
    found = study.simulate_confounder(effect, strengths=[0.0, 0.1, 0.3, 0.5], n_simulations=4)
    by_ols = study.simulate_confounder(study.estimate("ols"), strengths=[0.0, 0.1, 0.3, 0.5], n_simulations=2)
    lost, wanted = effect.estimate - found.effect, by_ols.estimate - by_ols.effect
    assert np.abs(lost - wanted)[:3, :3].max() < 3 * effect.std_error
    assert lost[-1, -1] > 4 * effect.std_error
    assert np.abs(lost[0, 0]) < effect.std_error  # pure noise
    if method == "aipw_parametric":
        assert found.effect[-1, -1] < 0 < found.tipping < 0.5
        assert f"{found.tipping:.1%}" in str(found)


def test_what_is_refused() -> None:
    study = study_of(make_frame())
    effect = study.estimate("ols")
    for change, message in (
        ({"strengths": [0.1]}, "expected two or more shares"),
        ({"strengths": [0.0, 1.0]}, "from 0 to below 1"),
        ({"benchmarks": ["nowhere"]}, "benchmarks name 'nowhere'"),
        ({"n_simulations": 1}, "n_simulations is 1"),
    ):
        with pytest.raises(CausalRecError, match=message):
            study.simulate_confounder(effect, **change)
    weighted = study_of(make_frame(), sample_weight="w")
    with pytest.raises(CausalRecError, match="without sample weights"):
        weighted.simulate_confounder(weighted.estimate("ols"))
    bare = study_of(make_frame(), covariates=[])
    with pytest.raises(CausalRecError, match="no covariates"):
        bare.simulate_confounder(bare.estimate("difference_in_means"))
