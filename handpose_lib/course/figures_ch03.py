"""The figure of chapter 03: scores of recorded runs with and without augmentation."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

ARMS = {  # shift along the axis, and a style that needs no colour
    "without": (-0.12, {"marker": "s", "markerfacecolor": "white", "color": "black"}),
    "with": (0.12, {"marker": "o", "markerfacecolor": "#0072B2", "color": "#0072B2"}),
}
PARTS = {"trained": "the hands that\nit trained on", "unseen": "hands that\nit never saw"}


def with_and_without(runs: pd.DataFrame) -> Figure:
    """PCK on trained and on unseen hands, one panel per number of steps, one mark per run, a bar at their mean.

    `runs` has the columns of `handpose_lib.recipes.augmentation`: augmentation, steps, seed and two scores.
    """
    lengths = sorted(runs["steps"].unique())
    figure, axes = plt.subplots(1, len(lengths), figsize=(4.4 * len(lengths), 3.2), sharey=True, squeeze=False)
    for ax, steps in zip(axes[0], lengths, strict=True):
        for arm, (shift, style) in ARMS.items():
            chosen = runs[(runs["steps"] == steps) & (runs["augmentation"] == arm)]
            for place, part in enumerate(PARTS):
                values = chosen[f"pck_0.2_bbox_{part}"]
                label = None if place else f"{arm} augmentation"
                seeds = place + shift + 0.07 * (np.arange(len(values)) - (len(values) - 1) / 2)  # side by side
                ax.plot(seeds, values, linestyle="none", markersize=6, label=label, **style)
                ax.hlines(values.mean(), place + shift - 0.1, place + shift + 0.1, color=style["color"])
        ax.set_xticks(range(len(PARTS)), PARTS.values())
        ax.set(title=f"{steps} steps", xlim=(-0.5, len(PARTS) - 0.5), ylim=(0, 1))
    axes[0, 0].set_ylabel("PCK@0.2 (bbox)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure
