"""The customers, their segments, and an assignment by lot with an effect that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

from causalrec.datasets import load_dataset

TRAITS = ("age", "income", "score")
NOISE = 10.0  # standard deviation of the next period's score about the present one: an assumption
EFFECTS = {"low": 10.0, "mid": 5.0, "high": 0.0}  # on the next score, by the segment's present one
_MIDDLE = 0.5  # standard deviations from the mean within which a segment's centre is neither low nor high


@dataclass(frozen=True)
class Population:
    """All customers with their segment and planted effect, the segments, and how k was chosen."""

    customers: pd.DataFrame = field(repr=False)
    segments: pd.DataFrame = field(repr=False)
    silhouettes: pd.DataFrame = field(repr=False)

    @property
    def effect(self) -> float:
        """Planted, over all customers."""
        return float(self.customers["effect"].mean())


def read_customers(directory: Path | None = None) -> pd.DataFrame:
    """The 200 customers with short column names."""
    frame = load_dataset("mall_customers", directory).frame
    return frame.rename(columns={
        "CustomerID": "customer", "Age": "age", "Annual Income (k$)": "income", "Spending Score (1-100)": "score",
    })[["customer", *TRAITS]]  # fmt: skip


def find_segments(customers: pd.DataFrame, *, most: int = 10, random_state: int = 0) -> Population:
    """k-means on standardised age, income and score, with the k of 2 to ``most`` that has the largest silhouette.

    A segment's name has its level of income and score, and its mean age.
    """
    points = StandardScaler().fit_transform(customers[list(TRAITS)])
    fits = {k: KMeans(k, n_init=20, random_state=random_state).fit(points) for k in range(2, most + 1)}
    silhouettes = {k: float(silhouette_score(points, fit.labels_)) for k, fit in fits.items()}
    best = max(silhouettes, key=silhouettes.__getitem__)
    centres = pd.DataFrame(fits[best].cluster_centers_, columns=TRAITS)
    ages = customers["age"].groupby(fits[best].labels_).mean()
    names = [
        f"{_level(c.income)} income, {_level(c.score)} score, age {age:.0f}"
        for c, age in zip(centres.itertuples(index=False), ages, strict=True)
    ]
    if len(set(names)) < best:
        names = [f"{name} ({i})" for i, name in enumerate(names)]
    label = fits[best].labels_
    effects = np.array([EFFECTS[_level(score)] for score in centres["score"]])
    told = customers.assign(segment=np.array(names, dtype=object)[label], effect=effects[label])
    segments = (
        told.groupby("segment")
        .agg(customers=("customer", "size"), age=("age", "mean"), income=("income", "mean"), score=("score", "mean"),
             score_sd=("score", "std"), planted=("effect", "first"))
        .sort_values("score").reset_index()
    )  # fmt: skip
    table = pd.DataFrame({"k": list(silhouettes), "silhouette": list(silhouettes.values())})
    return Population(told, segments, table)


def _level(z: float) -> str:
    return "mid" if abs(z) <= _MIDDLE else "high" if z > 0 else "low"


def assign(population: Population, rng: np.random.Generator) -> pd.DataFrame:
    """Half of each segment to treatment by lot (of an odd one the odd customer too), and the next period's score."""
    customers = population.customers
    order = pd.Series(rng.random(len(customers)), index=customers.index).groupby(customers["segment"]).rank() - 1
    parity = customers["segment"].map({s: rng.integers(2) for s in population.segments["segment"]})
    treated = (order + parity) % 2 == 1
    next_score = customers["score"] + rng.normal(0, NOISE, len(customers)) + customers["effect"] * treated
    return customers.assign(variant=np.where(treated, "treatment", "control"), next_score=next_score)
