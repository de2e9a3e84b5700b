"""Published numbers, all through the study or ``estimate_ate``: to the digits that their sources print.

Sources: LaLonde 1986 (American Economic Review 76); Dehejia and Wahba 1999 (Journal of the American Statistical
Association 94); the vignettes of MatchIt 4.5; Hernán and Robins 2020, "Causal Inference: What If", chapters 12 to 16
and the programs that come with it; Cattaneo 2010 (Journal of Econometrics 155) as Stata's ``teffects`` prints it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.datasets import load_dataset
from causalrec.observational import ObservationalStudy, estimate_ate, fit_propensity, instrumental_variable

pytestmark = pytest.mark.data
TEN = ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75", "none74", "none75"]
MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]
SQUARED = ["age", "smokeintensity", "smokeyrs", "wt71"]
CATEGORIES = ["education", "exercise", "active"]
NHEFS = ["sex", "race", *SQUARED, *CATEGORIES, *(f"{c}²" for c in SQUARED)]


def lalonde_study(data_dir: Path, sample: str, controls: str | None = None) -> ObservationalStudy:
    """The experiment of a sample, or its trainees against a survey with the ten usual covariates."""
    frame = load_dataset(f"lalonde_{sample}", data_dir).frame
    covariates: list[str] = []
    if controls is not None:
        frame = pd.concat([frame[frame["treat"] == 1], load_dataset(f"lalonde_{controls}", data_dir).frame])
        frame, covariates = frame.assign(none74=frame["re74"] == 0, none75=frame["re75"] == 0), TEN
    return ObservationalStudy(frame, treatment="treat", outcome="re78", covariates=covariates)


@pytest.fixture(scope="module")
def cps(data_dir: Path) -> ObservationalStudy:
    return lalonde_study(data_dir, "nsw_dw", "cps")


@pytest.fixture(scope="module")
def matchit(data_dir: Path) -> ObservationalStudy:
    frame = load_dataset("lalonde_matchit", data_dir).frame
    return ObservationalStudy(frame, treatment="treat", outcome="re78", covariates=MATCHIT)


@pytest.fixture(scope="module")
def smokers(data_dir: Path) -> pd.DataFrame:
    frame = load_dataset("nhefs", data_dir).frame
    squares = {f"{c}²": frame[c] ** 2 for c in SQUARED}
    return frame.assign(**{c: frame[c].astype(str) for c in CATEGORIES}, **squares)


@pytest.fixture(scope="module")
def weighed(smokers: pd.DataFrame) -> pd.DataFrame:
    """The 1,566 whose weight in 1982 is known, their score and its tenth among all 1,629, and 1 / P(weighed)."""
    lost = smokers["wt82_71"].isna().astype(int)
    quits = fit_propensity(smokers[NHEFS], treatment=smokers["qsmk"]).score
    censored = fit_propensity(smokers[["qsmk", *NHEFS]], treatment=lost).score
    tenth = pd.qcut(quits, 10, labels=False).astype(str)
    return smokers.assign(score=quits, tenth=tenth, weight=1 / (1 - censored))[lost == 0]


@pytest.fixture(scope="module")
def what_if(weighed: pd.DataFrame) -> ObservationalStudy:
    return ObservationalStudy(weighed, treatment="qsmk", outcome="wt82_71", covariates=NHEFS)


# --- LaLonde ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample,error,estimate,std_error",
    [
        ("nsw_dw", "HC1", 1794.343, 670.82), ("nsw_dw", "HC2", 1794.343, 670.997),
        ("nsw", "HC1", 886.30, 488.14), ("nsw", "HC2", 886.30, 488.20),
    ],
)  # fmt: skip
def test_experiments(data_dir: Path, sample: str, error: str, estimate: float, std_error: float) -> None:
    """Cases 1 and 2: LaLonde 1986 prints 886, Dehejia and Wahba 1999 print 1,794; errors by R's sandwich."""
    found = lalonde_study(data_dir, sample).estimate("difference_in_means", error=error)
    assert found.estimate == pytest.approx(estimate, abs=6e-3)
    assert found.std_error == pytest.approx(std_error, abs=6e-3)


def test_trainees_against_the_cps_by_regression(cps: ObservationalStudy) -> None:
    """Case 3: no adjustment, and least squares on ten covariates, with HC1."""
    naive = cps.estimate("difference_in_means", error="HC1")
    assert (naive.estimate, naive.std_error) == pytest.approx((-8497.516, 581.92), abs=5e-3)
    ols = cps.estimate("ols", estimand="ato", error="HC1")
    assert (ols.estimate, ols.std_error) == pytest.approx((1066.376, 626.85), abs=5e-3)
    assert ols.n_obs == 185 + 15_992


def test_matchits_data_by_regression(matchit: ObservationalStudy) -> None:
    """Case 7: R's lm."""
    assert matchit.estimate("difference_in_means").estimate == pytest.approx(-635.026, abs=5e-4)
    ols = matchit.estimate("ols", estimand="ato", error="classical")
    assert (ols.estimate, ols.std_error) == pytest.approx((1548.244, 781.279), abs=5e-4)


def test_balance_before_matching(matchit: ObservationalStudy) -> None:
    """Case 8: MatchIt's summary of the unmatched data."""
    table = matchit.balance(denominator="treated").to_frame().set_index("covariate")
    age, black, earned = table.loc["age"], table.loc["race_black"], table.loc["re74"]
    assert (age["smd_before"], age["variance_ratio_before"], age["ks_before"]) == pytest.approx(
        (-0.3094, 0.4400, 0.1577), abs=5e-5
    )
    assert black["smd_before"] == pytest.approx(1.7615, abs=5e-5)
    assert (earned["smd_before"], earned["variance_ratio_before"], earned["ks_before"]) == pytest.approx(
        (-0.7211, 0.5181, 0.4470), abs=5e-5
    )


# --- What If ----------------------------------------------------------------------------------------------------------


def test_quitting_unadjusted(what_if: ObservationalStudy) -> None:
    """Case 15, program 12.1: 2.5 (1.7, 3.4); 403 of 1,566 quit."""
    found = what_if.estimate("difference_in_means", error="classical")
    assert (found.estimate, found.ci_low, found.ci_high) == pytest.approx((2.5406, 1.7, 3.4), abs=0.05)
    assert found.estimate == pytest.approx(2.5406, abs=5e-5)
    assert (found.n_treated, found.n_obs) == (403, 1566)


def test_standardisation_of_what_if(what_if: ObservationalStudy) -> None:
    """Program 13.3: 3.517 by a regression with one product; 3.5 (2.6, 4.5) by the bootstrap of program 13.4."""
    found = what_if.estimate("standardisation", interactions=["smokeintensity"])
    assert found.estimate == pytest.approx(3.51737, abs=5e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx((2.6, 4.5), abs=0.08)


def test_regressions_of_what_if(what_if: ObservationalStudy, weighed: pd.DataFrame) -> None:
    """Case 18, chapter 15: main effects, the score, its deciles; the score is fitted on all 1,629."""
    told: dict[str, Any] = {"treatment": weighed["qsmk"], "method": "ols", "estimand": "ato", "error": "classical"}
    ols = what_if.estimate("ols", estimand="ato", error="classical")
    assert ols.estimate == pytest.approx(3.46262, abs=5e-6)
    linear = estimate_ate(weighed[["score"]], weighed["wt82_71"], **told)
    assert linear.estimate == pytest.approx(3.5506, abs=5e-5)
    deciles = estimate_ate(weighed[["tenth"]], weighed["wt82_71"], **told)
    assert deciles.estimate == pytest.approx(3.5005, abs=5e-5)
    assert (deciles.ci_low, deciles.ci_high) == pytest.approx((2.604, 4.397), abs=1.5e-3)


def test_standardised_over_the_score(what_if: ObservationalStudy, weighed: pd.DataFrame) -> None:
    """Program 15.4 in Stata: 3.511778, bootstrap (2.48, 4.54); its score is fitted on the 1,566."""
    score = fit_propensity(weighed[NHEFS], treatment=weighed["qsmk"]).score[:, None]
    found = estimate_ate(score, weighed["wt82_71"], treatment=weighed["qsmk"], method="standardisation")
    assert found.estimate == pytest.approx(3.5117778, abs=5e-8)


# --- what needs a score ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "controls,estimate,std_error", [("cps", 1406.30, 654.93), ("psid", 2424.66, 876.85)], ids=["CPS", "PSID"]
)
def test_entropy_balancing(data_dir: Path, controls: str, estimate: float, std_error: float) -> None:
    """Case 5: the exact dual. Printed errors are HC1 of a regression with the weights taken as known: n / (n - 2)."""
    found = lalonde_study(data_dir, "nsw_dw", controls).estimate(
        "entropy_balancing", estimand="att", weights_known=True
    )
    assert found.estimate == pytest.approx(estimate, abs=6e-3)
    hc1 = found.std_error * (found.n_obs / (found.n_obs - 2)) ** 0.5
    assert hc1 == pytest.approx(std_error, rel=2e-3)


@pytest.mark.parametrize(
    "method,estimand,expected",
    [
        ("ipw", "att", 1214.071), ("ipw", "ate", 224.676), ("overlap_weights", "ato", 1242.201),
        ("entropy_balancing", "att", 1273.262),
    ],
)  # fmt: skip
def test_weighting_of_matchits_data(matchit: ObservationalStudy, method: str, estimand: str, expected: float) -> None:
    """Case 11: PSweight 1.2 and ebal 0.1-8."""
    assert matchit.estimate(method, estimand=estimand).estimate == pytest.approx(expected, abs=1e-3)


def test_matchits_pairs(matchit: ObservationalStudy, data_dir: Path) -> None:
    """Case 9: MatchIt's default on its own data; of equal scores it takes the first row."""
    found = matchit.estimate("matching", estimand="att", replace=False, ties="first")
    assert found.estimate == pytest.approx(894.367, abs=5e-4)
    assert (found.n_treated, found.n_control) == (185, 185)
    assert found.weights is not None
    assert found.propensity is not None
    used = found.weights > 0
    treated = load_dataset("lalonde_matchit", data_dir).frame["treat"].to_numpy() == 1
    means = [found.propensity[used & arm].mean() for arm in (treated, ~treated)]
    assert means == pytest.approx([0.5774, 0.3629], abs=5e-5)
    after = matchit.balance(found, denominator="treated").to_frame().set_index("covariate")["smd_after"]
    assert after[["age", "educ", "re74"]].tolist() == pytest.approx([0.0718, -0.1290, -0.0505], abs=5e-5)


def test_abadie_and_imbens(data_dir: Path) -> None:
    """Case 12: R's Matching, tests/AbadieImbens.Rout.save, 1.7851911148 (.6867166773), with ties=TRUE.

    Its copy of the data has earnings rounded to six digits, hence the tolerance.
    """
    frame = load_dataset("lalonde_nsw_dw", data_dir).frame
    found = estimate_ate(
        frame[["age"]], frame["re78"] / 1000, treatment=frame["treat"], method="matching",
        distance="scaled_euclidean", errors="homoskedastic", variance="sample",
    )  # fmt: skip
    assert found.estimate == pytest.approx(1.7851911148, abs=1.5e-6)
    assert found.std_error == pytest.approx(0.6867166773, abs=5e-7)


@pytest.mark.parametrize("weighting", ["hajek", "stabilised"])
def test_weighting_of_what_if(what_if: ObservationalStudy, weighting: str) -> None:
    """Case 16, programs 12.2 and 12.3: the error of generalised estimating equations takes the weights as known."""
    found = what_if.estimate("ipw", form=weighting, weights_known=True)
    assert (found.estimate, found.std_error) == pytest.approx((3.44054, 0.52549), abs=5e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx((2.411, 4.470), abs=5e-4)


def test_weights_of_what_if(what_if: ObservationalStudy) -> None:
    """Case 16: mean 1.99628, standard deviation 1.47479, 1.0537 to 16.7001; stabilised the mean is .999."""
    plain, stable = (what_if.estimate("ipw", form=w).weights for w in ("hajek", "stabilised"))
    assert plain is not None
    assert stable is not None
    assert (plain.mean(), plain.std(ddof=1)) == pytest.approx((1.99628, 1.47479), abs=5e-6)
    assert (plain.min(), plain.max()) == pytest.approx((1.0537, 16.7001), abs=5e-5)
    assert stable.mean() == pytest.approx(0.999, abs=5e-4)


def test_lost_to_follow_up(weighed: pd.DataFrame) -> None:
    """Program 12.7: weights for quitting, fitted on all 1,629, times weights for being weighed: 3.496 (2.47, 4.53)."""
    found = estimate_ate(
        weighed[NHEFS], weighed["wt82_71"], treatment=weighed["qsmk"], method="ipw", propensity=weighed["score"],
        sample_weight=weighed["weight"],
    )  # fmt: skip
    assert found.estimate == pytest.approx(3.496, abs=5e-4)
    assert (found.ci_low, found.ci_high) == pytest.approx((2.47, 4.53), abs=5e-3)


def test_g_estimation_of_what_if(weighed: pd.DataFrame) -> None:
    """Case 18, program 14.2: 3.446, by inverting a test (2.5, 4.5); weights stand for those who were not weighed."""
    study = ObservationalStudy(weighed, treatment="qsmk", outcome="wt82_71", covariates=NHEFS, sample_weight="weight")
    found = study.estimate("g_estimation", estimand="ato")
    assert found.estimate == pytest.approx(3.446, abs=5e-4)
    assert (found.ci_low, found.ci_high) == pytest.approx((2.5, 4.5), abs=0.15)  # ours is Wald's


def test_price_as_instrument(weighed: pd.DataFrame) -> None:
    """Case 18, program 16.2: ivreg, errors of one variance."""
    frame = weighed.dropna(subset=["price82"])
    found = instrumental_variable(
        None, frame["wt82_71"], treatment=frame["qsmk"], instruments=(frame["price82"] >= 1.5).astype(int),
        error="classical",
    )  # fmt: skip
    assert (found.estimate, found.std_error) == pytest.approx((2.396, 19.84), abs=5e-3)
    assert (found.ci_low, found.ci_high) == pytest.approx((-36.5, 41.3), abs=0.05)


# --- Cattaneo --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def births() -> pd.DataFrame:
    statsmodels = pytest.importorskip("statsmodels")
    path = Path(statsmodels.__file__).parent / "treatment" / "tests" / "results" / "cataneo2.csv"
    if not path.is_file():
        pytest.skip("statsmodels comes without the birthweight data")
    frame = pd.read_csv(path)
    return frame.assign(**{"mage²": frame["mage"] ** 2})


@pytest.mark.parametrize(
    "method,estimand,estimate,std_error",
    [
        ("standardisation", "ate", -239.6392, 23.8240), ("ipw", "ate", -230.6886, 25.8152),
        ("aipw_parametric", "ate", -230.9892, 26.2106), ("standardisation", "att", -223.3017, 22.7422),
        ("ipw", "att", -225.1773, 23.6646),
    ],
)  # fmt: skip
def test_smoking_and_birthweight(
    births: pd.DataFrame, method: str, estimand: str, estimate: float, std_error: float
) -> None:
    """Case 27: Stata's teffects ra, ipw and aipw with a probit score, errors that count its estimation."""
    score = fit_propensity(
        births[["mmarried_", "mage", "mage²", "fbaby_", "medu"]], treatment=births["mbsmoke_"], model="probit"
    )
    options = {} if method == "standardisation" else {"propensity": score}
    found = estimate_ate(
        births[["prenatal1_", "mmarried_", "mage", "fbaby_"]], births["bweight"], treatment=births["mbsmoke_"],
        method=method, estimand=estimand, **options,
    )  # fmt: skip
    assert (found.estimate, found.std_error) == pytest.approx((estimate, std_error), abs=6e-5)
