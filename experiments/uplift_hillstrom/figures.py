"""The splits as dots: a row per scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_DOTS, _MEAN, _PUBLISHED = "#0072B2", "#1A1A1A", "#D55E00"


def plot_splits(found: pd.DataFrame, published: float, first_seed: int) -> Any:
    """uplift@30% of every split, best mean first, beside the published number; the Axes."""
    from matplotlib.figure import Figure

    groups = found.groupby("scorer")["uplift"]
    names = groups.mean().sort_values().index.to_list()
    figure = Figure(figsize=(8.2, 1.5 + 0.42 * len(names)), layout="constrained")
    ax = figure.add_subplot()
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        part = found[found["scorer"] == name]
        first = part["seed"] == first_seed
        shift = place + rng.uniform(-0.16, 0.16, len(part))
        ax.plot(part["uplift"][~first], shift[~first], "o", color=_DOTS, alpha=0.55, markersize=5, markeredgewidth=0,
                label="a split" if place == 0 else None)  # fmt: skip
        ax.plot(part["uplift"][first], shift[first], "D", color=_PUBLISHED, markersize=6,
                label=f"split of seed {first_seed}" if place == 0 else None)  # fmt: skip
        ax.plot([part["uplift"].mean()] * 2, [place - 0.3, place + 0.3], color=_MEAN, linewidth=2,
                label="mean" if place == 0 else None)  # fmt: skip
    ax.axvline(published, color=_PUBLISHED, linestyle="--", linewidth=1, label=f"published, {published:.4f}")
    ax.set_yticks(range(len(names)), names)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("visits brought per customer among the 30% with the highest scores")
    ax.set_title("uplift@30% by split in halves", loc="left", pad=26)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, borderaxespad=0.2, handlelength=1.6)
    ax.set_label(f"uplift@30% over {found['seed'].nunique()} splits; means: "
                 + ", ".join(f"{name} {groups.mean()[name]:.4f}" for name in reversed(names)))  # fmt: skip
    return ax
