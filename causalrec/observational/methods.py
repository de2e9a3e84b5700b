"""The methods by name: one table for studies, functions on arrays, comparisons, the pipeline and the docs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from causalrec._threads import one_thread
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances
from causalrec.observational._study_data import StudyData
from causalrec.observational.design import check_estimand
from causalrec.observational.doubly_robust import aipw, aipw_parametric
from causalrec.observational.econml_adapter import causal_forest, dml
from causalrec.observational.entropy import entropy_balancing
from causalrec.observational.front_door import front_door
from causalrec.observational.g_estimation import g_estimation
from causalrec.observational.instruments import instrumental_variable
from causalrec.observational.matching import match, matching_effect
from causalrec.observational.regression import difference_in_means, lin_effect, ols_effect
from causalrec.observational.standardisation import standardisation
from causalrec.observational.subclasses import subclassification
from causalrec.observational.weighting import weighting_effect, weights
from causalrec.results import AdjustedEffect, MatchResult, PropensityResult, Recipe, WeightsResult

Options: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[StudyData, str, Options], AdjustedEffect]
_AVERAGE = ("ate", "att", "atc")
_SCORE = ("propensity_model", "n_folds", "calibration")
_NUISANCE = ("outcome_model", "propensity_model", "joint_outcome", "n_folds", "calibration", "clip", "n_jobs")
_FILLED = frozenset(
    {"X", "y", "treatment", "estimand", "clusters", "groups", "sample_weight", "confidence_level", "random_state"}
    | {"control", "propensity", "model", "match", "weights", "method", "instruments", "mediators"}
)


@dataclass(frozen=True)
class Method:
    """An estimator by its name.

    Attributes
    ----------
    name : str
    run : callable
        Takes the study's data, an estimand and options, and returns an :class:`AdjustedEffect`.
    estimands : tuple of str
    functions : tuple of callables
        Whose parameters, but for those that a study fills, are the options.
    more : tuple of str
        Options beside these.
    adjusts : bool
        Whether it needs covariates.
    by_score : bool
        Whether a score that is given will do instead.
    weighted : bool
        Whether it takes sample weights.
    unasked : bool
        Whether :meth:`ObservationalStudy.compare` runs it without being asked.
    """

    name: str
    run: Run = field(repr=False)
    functions: tuple[Callable[..., Any], ...]
    estimands: tuple[str, ...] = _AVERAGE
    more: tuple[str, ...] = ()
    adjusts: bool = True
    by_score: bool = False
    weighted: bool = True
    unasked: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """What can be asked of the method, by name."""
        names = [name for function in self.functions for name in inspect.signature(function).parameters]
        return tuple(n for n in dict.fromkeys([*names, *self.more]) if n not in _FILLED)

    def check(self, data: StudyData, estimand: str, options: Mapping[str, Any]) -> None:
        """Raise :class:`CausalRecError` for what the method cannot do, before anything is fitted."""
        if estimand not in self.estimands:
            others = [m.name for m in METHODS.values() if estimand in m.estimands]
            remedy = f"Use {list_some(others, 20)} for it, or ask" if others else "No method has that one; ask"
            raise CausalRecError(
                f"{self.name} estimates the {' or '.join(self.estimands)}, not the {estimand}. {remedy} for "
                f"estimand={self.estimands[0]!r}.{'' if others else nearest(str(estimand).lower(), self.estimands)}"
            )
        if data.only and self.name.rpartition(".")[2] not in data.routes:  # "dowhy.instrumental_variable" too
            raise CausalRecError(f"{self.name} adjusts for columns, but {data.why_only}")
        unknown = [name for name in options if name not in self.options]
        if unknown:
            raise CausalRecError(
                f"{self.name} has no option {unknown[0]!r}; it has {list_some(sorted(self.options), 40) or 'none'}."
                f"{nearest(unknown[0], self.options)}"
            )
        if data.X is None and self.adjusts and (data.propensity is None or not self.by_score):
            raise CausalRecError(
                f"{self.name} needs covariates to adjust for; for a randomised design use difference_in_means."
            )
        if data.sample_weight is not None and not self.weighted:
            able = [m.name for m in METHODS.values() if m.weighted]
            raise CausalRecError(f"{self.name} takes no sample weights; {list_some(able, 20)} do.")


def run_method(data: StudyData, name: str, estimand: str | None, options: Mapping[str, Any]) -> AdjustedEffect:
    """An effect by a method; without ``estimand`` the first that the method has.

    Raises
    ------
    CausalRecError
        For an unknown method or option, an estimand that the method does not have, and what it finds in the data.
    """
    method = find_method(name)
    asked = method.estimands[0] if estimand is None else estimand
    method.check(data, asked, options)
    with one_thread(data.small):
        found = method.run(data, asked, dict(options))
    said = f"{found.method}; {data.summary}" if data.summary else found.method
    return replace(found, method=said, recipe=Recipe(name, asked, dict(options), data.digest))


def default_method(data: StudyData) -> str:
    """The method of a study that asks for none: by the graph, else doubly robust, else the difference in means.

    A propensity that is given serves without covariates too, by weighting.
    """
    if data.only:
        return data.only
    if data.X is not None:
        return "aipw"
    return "difference_in_means" if data.propensity is None else "ipw"


def find_method(name: str) -> Method:
    """The entry of a name, DoWhy's and EconML's estimators included, or an error that names the nearest."""
    from causalrec.observational.peers import PEERS  # its table is of this module's entries

    known = METHODS if name in METHODS else PEERS
    if name not in known:
        raise CausalRecError(
            f"method is {name!r}; expected one of {list_some(METHODS, 20)}, or dowhy.* or econml.* as in "
            f"{list_some(PEERS, 2)}.{nearest(str(name), [*METHODS, *PEERS])}"
        )
    return known[name]


def comparable(
    names: Sequence[str] | None, estimand: str, options: Mapping[str, Any], routes: Collection[str] = ()
) -> dict[str, str]:
    """The methods to compare, and the estimand of each: as asked, or that of the overlap where a method has no other.

    Instruments show the effect among those whom they move, whatever is asked. ``routes`` are the methods that are left
    where nothing can be adjusted for.

    Raises
    ------
    CausalRecError
        For an unknown estimand or method, or one that has neither.
    """
    check_estimand(estimand)
    if isinstance(names, str):
        raise CausalRecError(f"methods is the text {names!r}; expected a list of names: [{names!r}].")
    usual = [m for m in METHODS.values() if (m.name in routes if routes else m.unasked)]
    chosen = usual if names is None else [find_method(n) for n in names]
    found = {m.name: _compared(m, estimand, m.name in options) for m in chosen}
    unable = [name for name, own in found.items() if own is None]
    if names is not None and unable:
        raise CausalRecError(f"{list_some(unable)} have no {estimand}; leave them out, or ask for another estimand.")
    return {name: own for name, own in found.items() if own is not None}


def _compared(method: Method, estimand: str, with_options: bool) -> str | None:
    """The estimand of a method beside others; g-estimation has the ate only where options say what effects follow."""
    first = method.estimands[0]
    of_its_own = first in ("ato", "late")
    if estimand in method.estimands and (not of_its_own or with_options):
        return estimand
    return first if of_its_own else None


# --- how each is run ------------------------------------------------------------------------------------------------


def _call(function: Callable[..., Any], data: StudyData, options: Options, **given: Any) -> Any:
    """Call a function with what the study has of its parameters, the options that are its own, and what is given."""
    names = inspect.signature(function).parameters
    filled = {
        "X": data.X, "y": data.y, "treatment": data.treatment, "clusters": data.clusters,
        "sample_weight": data.sample_weight, "confidence_level": data.confidence_level,
        "random_state": data.random_state, **options, **given,
    }  # fmt: skip
    return function(**{name: value for name, value in filled.items() if name in names})


def _score(data: StudyData, options: Options) -> PropensityResult:
    settings = {name: options[name] for name in _SCORE[1:] if name in options}
    asked = [name for name in _SCORE if name in options]
    if data.propensity is not None and asked:
        raise CausalRecError(f"propensity is given together with {list_some(asked)}, which only a fit can use.")
    return data.score(options.get("propensity_model"), **settings)


def _plain(function: Callable[..., AdjustedEffect]) -> Run:
    """One function of covariates, outcome and treatment."""
    return lambda data, estimand, options: _call(function, data, options, estimand=estimand)


def _scored(function: Callable[..., AdjustedEffect]) -> Run:
    """One function that takes the study's score."""
    return lambda data, estimand, options: _call(
        function, data, options, estimand=estimand, propensity=_score(data, options)
    )


def matched(data: StudyData, estimand: str, options: Options) -> MatchResult:
    """Who is compared with whom; the score is fitted where the distance or a caliper is of it."""
    options = {"pairing": "nearest", **options}
    of_score = options.get("distance", "propensity") in ("propensity", "logit")
    score = _score(data, options) if of_score or options.get("caliper") is not None else None
    found: MatchResult = _call(match, data, options, estimand=estimand, propensity=score, method=options["pairing"])
    return found


def _by_route(function: Callable[..., AdjustedEffect], way: str) -> Run:
    """One function that goes by what the graph leaves: instruments or mediators."""

    def run(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
        route = data.route(function.__name__)
        found: AdjustedEffect = _call(function, data, options, X=route.X, estimand=estimand, **{way: route.through})
        return found

    return run


def _matching(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    """Match, then compare the matched."""
    options = {"bias_adjustment": False, **options}
    found = matched(data, estimand, options)
    if options["bias_adjustment"] and data.X is None:
        raise CausalRecError("bias_adjustment is a regression on covariates, and there are none; name them.")
    covariates = data.X if options["bias_adjustment"] else None
    effect: AdjustedEffect = _call(matching_effect, data, options, match=found, X=covariates)
    return effect


def _full_matching(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    return _matching(data, estimand, {"pairing": "full", **options})


def _ipw(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    options = {"form": "hajek", **options}
    score = _score(data, options)
    found = _call(weights, data, options, X=None, estimand=estimand, propensity=score, method=options["form"])
    return _weighted(data, options, found)


def _subclassification(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    score = None if options.get("strata") is not None else _score(data, options)
    effect: AdjustedEffect = _call(subclassification, data, options, X=None, estimand=estimand, propensity=score)
    return effect


def _entropy(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    return _weighted(data, options, _call(entropy_balancing, data, options, estimand=estimand))


def _weighted(data: StudyData, options: Options, found: WeightsResult) -> AdjustedEffect:
    effect: AdjustedEffect = _call(weighting_effect, data, options, weights=found)
    return effect


def nuisances(data: StudyData, options: Mapping[str, Any]) -> Nuisances:
    """The cross-fitted models of ``"aipw"`` with its options; fitted once."""
    settings = {name: value for name, value in options.items() if name in _NUISANCE}
    if not isinstance(data.propensity_model, str) and data.propensity is None:
        settings.setdefault("propensity_model", data.propensity_model)
    found: Nuisances | None = options.get("nuisance")
    if found is not None and settings:
        raise CausalRecError(f"nuisance is given together with {list_some(settings)}, which only a fit can use.")
    return data.nuisance(**settings) if found is None else found


def _aipw(data: StudyData, estimand: str, options: Options) -> AdjustedEffect:
    return aipw(
        data.X, data.y, treatment=data.treatment, nuisance=nuisances(data, options), estimand=estimand,
        clusters=data.clusters, confidence_level=data.confidence_level,
    )  # fmt: skip


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("difference_in_means", _plain(difference_in_means), (difference_in_means,), adjusts=False),
        Method("ols", _plain(ols_effect), (ols_effect,), ("ato",)),
        Method("lin", _plain(lin_effect), (lin_effect,)),
        Method("standardisation", _plain(standardisation), (standardisation,)),
        Method(
            "matching",
            _matching,
            (match, matching_effect),
            more=("pairing", "bias_adjustment", *_SCORE),
            by_score=True,
            weighted=False,
        ),
        Method("full_matching", _full_matching, (match, matching_effect), more=_SCORE, by_score=True, weighted=False),
        Method("subclassification", _subclassification, (subclassification,), more=_SCORE, by_score=True),
        Method("ipw", _ipw, (weights, weighting_effect), more=("form", *_SCORE), by_score=True),
        Method(
            "overlap_weights",
            _ipw,
            (weights, weighting_effect),
            ("ato", "atm"),
            more=("form", *_SCORE),
            by_score=True,
        ),
        Method("entropy_balancing", _entropy, (entropy_balancing, weighting_effect)),
        Method("aipw", _aipw, (), more=(*_NUISANCE, "nuisance")),
        Method("aipw_parametric", _scored(aipw_parametric), (aipw_parametric,), more=_SCORE),
        Method("g_estimation", _scored(g_estimation), (g_estimation,), ("ato", *_AVERAGE), more=_SCORE),
        Method(
            "instrumental_variable",
            _by_route(instrumental_variable, "instruments"),
            (instrumental_variable,),
            ("late",),
            adjusts=False,
            unasked=False,
        ),
        Method("front_door", _by_route(front_door, "mediators"), (front_door,), adjusts=False, unasked=False),
        Method("dml", _plain(dml), (dml,), ("ato",), unasked=False),
        Method("causal_forest", _plain(causal_forest), (causal_forest,), unasked=False),
    )
}
