"""The figures of chapter 05: losses and their slopes, and recorded runs of different lengths."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

LINES = (  # lines that remain apart in grey
    {"color": "black", "linewidth": 2.2},
    {"color": "#0072B2", "linestyle": "--", "linewidth": 1.8},
    {"color": "#D55E00", "linestyle": ":", "linewidth": 2.2},
    {"color": "#009E73", "linestyle": "-.", "linewidth": 1.8},
)


def loss_shapes(losses: Mapping[str, Callable], targets: Sequence[float] = (0.0, 1.0)) -> Figure:
    """Each loss(pred, target) and its slope against the error, a column for each target; 1 = its loss at error 1."""
    figure, axes = plt.subplots(2, len(targets), figsize=(9, 5.4), sharex=True, sharey="row", squeeze=False)
    for column, target in enumerate(targets):
        error = torch.linspace(0.001, 1, 400, dtype=torch.float64, requires_grad=True)
        y = torch.full_like(error, target)
        for (name, loss), style in zip(losses.items(), itertools.cycle(LINES)):
            away = error if target < 0.5 else -error  # too high on the background, too low on the peak
            value = loss(y + away, y)
            (slope,) = torch.autograd.grad(value.sum(), error)
            at_one = value[-1].item()
            axes[0, column].plot(error.detach(), value.detach() / at_one, label=name, **style)
            axes[1, column].plot(error.detach(), slope / at_one, label=name, **style)
        axes[0, column].set_title(f"target y = {target:g}")
        axes[1, column].set_xlabel("error δ = |y − ŷ| (1 = full height of a peak)")
    axes[0, 0].set_ylabel("loss / loss at δ = 1")
    axes[1, 0].set_ylabel("slope / loss at δ = 1")
    axes[0, 0].legend(frameon=False, loc="upper left", handlelength=3.2)
    return figure


def longer_runs(runs: pd.DataFrame) -> Figure:
    """The table of `recipes.losses`: a mark for each run, short ones beside long ones, a panel for each experiment."""
    panels = {  # experiment -> column, label of the axis, title
        "by heart": ("above_half", "share of peaks above 0.5", "four hands by heart, noisy start"),
        "new hands": ("pck_0.2_bbox", "PCK@0.2 (bbox)", "hands that were never seen"),
    }
    found = [experiment for experiment in panels if experiment in set(runs["experiment"])]
    figure, axes = plt.subplots(1, len(found), figsize=(1 + 4.6 * len(found), 3.2), squeeze=False)
    losses = list(dict.fromkeys(runs["loss"]))
    for ax, experiment in zip(axes[0], found, strict=True):
        column, label, title = panels[experiment]
        mine = runs[runs["experiment"] == experiment]
        lengths = sorted(mine["steps"].unique())
        for place, steps in enumerate(lengths):
            chosen = mine[mine["steps"] == steps]
            aside = 0.3 * (place - (len(lengths) - 1) / 2)
            number = int(steps == max(lengths))  # the longest run looks the same in both panels
            seeds = 0.09 * (chosen["seed"].rank(method="dense") - (chosen["seed"].nunique() + 1) / 2)  # side by side
            places = [losses.index(loss) + aside + seed for loss, seed in zip(chosen["loss"], seeds, strict=True)]
            look = {"color": ("black", "#0072B2")[number], "markerfacecolor": "none", "markersize": 7}
            ax.plot(places, chosen[column], "os"[number], markeredgewidth=1.4, label=f"{steps} steps", **look)
        ax.set_xticks(range(len(losses)), [loss.replace(" ", "\n", 1).replace(", ", ",\n") for loss in losses])
        low, high = mine[column].min(), mine[column].max()
        wide = high - low > 0.3
        limits = (-0.03, 1.05) if wide else (low - 0.05, high + 0.05)
        ax.set(ylabel=label, ylim=limits, xlim=(-0.6, len(losses) - 0.4), title=title)
        ax.legend(frameon=False, loc="best")
    return figure
