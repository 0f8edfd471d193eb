"""Figures of chapter 07 beyond `plots`: answers under the truth, intervals, seeds, joints seen and hidden, swaps."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from handpose_lib import plots
from handpose_lib.evaluate import Report, first_of_each
from handpose_lib.keypoints import FINGERS, KEYPOINT_NAMES
from handpose_lib.metrics import swapped

# PCK@0.2 by box diagonal on rows 30,000-32,559 of FreiHAND's training set, as the authors of
# https://github.com/DanielTheProgrammerGuy/PyTorch_HandPoseEstimation published it: wrist, then finger by finger from
# the palm to the tip. Cited, not measured here.
PUBLISHED_PCK = pd.Series(
    np.array([
        99.1,
        98.2, 97.7, 96.4, 90.8,
        98.3, 97.5, 96.6, 92.1,
        99.4, 98.9, 97.7, 94.1,
        98.6, 98.7, 97.7, 94.0,
        98.1, 97.9, 96.7, 93.1,
    ]) / 100,
    index=list(KEYPOINT_NAMES),
)  # fmt: skip

MARKERS = ("o", "s", "^", "D")
FILLS = ({"color": "#0072B2"}, {"color": "white", "hatch": "//"}, {"color": "#BBBBBB", "hatch": ".."})


def answers_below(
    images: Sequence[Any],
    rows: Mapping[str, Any],
    titles: Sequence[str] | None = None,
    marked: Any = None,
    side: float = 1.75,
) -> Figure:
    """The same pictures in several rows, each row with keypoints of its own, a column at one scale.

    Args:
        images: N pictures, as `plots.draw_hand` takes them.
        rows: name -> keypoints (N, 21, 2) in px of the pictures; the first row is the truth.
        titles: of the columns.
        marked: (N, 21) bool, keypoints of the last row that get a ring, and a line to their place in the first.
    """
    points = {name: np.asarray(each, dtype=float) for name, each in rows.items()}
    size = (side * len(images) + 0.3, side * len(points) + 0.3)
    figure, axes = plt.subplots(len(points), len(images), figsize=size, squeeze=False)
    for column, image in enumerate(images):
        around = np.concatenate([each[column] for each in points.values()])
        for ax, (name, each) in zip(axes[:, column], points.items(), strict=True):
            plots.draw_hand(image, each[column], ax)
            plots.show_square(ax, around)
            if column == 0:
                ax.set_ylabel(name)
        axes[0, column].set_title(titles[column] if titles else "")
    if marked is not None:
        truth, *_, last = points.values()
        for ax, true, found, which in zip(axes[-1], truth, last, np.asarray(marked, dtype=bool), strict=True):
            x, y = np.moveaxis(np.stack([true, found])[:, which], -1, 0)  # (2, m) each: a column per line
            ax.plot(x, y, color="black", linewidth=1.2)
            ax.plot(x, y, color="white", linewidth=0.8, linestyle=":")
            ax.scatter(*found[which].T, s=45, facecolors="none", edgecolors="black", linewidths=1.8, zorder=4)
            ax.scatter(*found[which].T, s=45, facecolors="none", edgecolors="white", linewidths=0.9, zorder=5)
    return figure


def worst_swaps(report: Report, images: Callable[[int], Any], count: int = 3) -> Figure:
    """The hands with most swapped keypoints, in one version each: the truth above, the answer below.

    Only swapped fingertips are marked: marks at all joints would cover the fingers.

    Args:
        report: of the answers.
        images: gives the picture of an item by its number.
        count: how many hands.
    """
    swaps = swapped(report.predictions, report.targets, report.visible)  # (M, 21)
    numbers = swaps.nansum(1)  # (M,)
    chosen = first_of_each(numbers.argsort(descending=True).numpy(), report.hand_ids)[:count].tolist()
    tips = torch.tensor([members[-1] for members in FINGERS.values()])
    marked = torch.zeros(swaps[chosen].shape, dtype=torch.bool)  # (count, 21)
    marked[:, tips] = swaps[chosen][:, tips] == 1
    return answers_below(
        [images(item) for item in chosen],
        {"truth": report.targets[chosen], "answer": report.predictions[chosen]},
        [f"{int(numbers[item])} swapped" for item in chosen],
        marked,
        side=2.0,
    )


def finger_joint_grid(values: Mapping[str, Any], label: str) -> Figure:
    """Finger x joint heat maps side by side on one scale, each from 21 values; the wrist's is in the title."""
    arrays = {name: np.asarray(each, dtype=float) for name, each in values.items()}
    lowest = min(each.min() for each in arrays.values())
    figure, axes = plt.subplots(1, len(arrays), figsize=(2.9 * len(arrays) + 0.8, 3.1), squeeze=False)
    for ax, (name, each) in zip(axes[0], arrays.items(), strict=True):
        frame = pd.DataFrame([each[list(members)] for members in FINGERS.values()], list(FINGERS))
        sns.heatmap(
            frame, vmin=np.floor(10 * lowest) / 10, vmax=1, annot=True, fmt=".2f", cmap="viridis", ax=ax,
            cbar=False, linewidths=1, xticklabels=["1\n(palm)", "2", "3", "4\n(tip)"],
        )  # fmt: skip
        ax.set(title=f"{name}\nwrist: {each[0]:.2f}", xlabel="joint, from the palm to the tip")
        ax.tick_params(axis="y", rotation=0)
        ax.tick_params(axis="x", rotation=0)
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label=label, shrink=0.9)
    return figure


def grouped_bars(scores: pd.DataFrame, xlabel: str, ylabel: str, width: float = 6.0) -> Figure:
    """One group of bars per row of `scores`, one bar per column, its value on it; values from 0 to 1."""
    ax = scores.plot.bar(figsize=(width, 3.2), rot=0, ylim=(0, 1.08), width=0.8, edgecolor="black", legend=False)
    for bars, fill in zip(ax.containers, FILLS, strict=False):
        plt.setp(bars, facecolor=fill["color"], hatch=fill.get("hatch", ""))
        ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=10)
    ax.set(xlabel=xlabel, ylabel=ylabel, yticks=np.linspace(0, 1, 6))
    if scores.shape[1] > 1:
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return ax.figure


def keypoint_intervals(rows: Mapping[str, tuple[Any, Any, Any]], ylabel: str = "PCK@0.2 (bbox)") -> Figure:
    """For each keypoint a dot and its interval, one beside the other for each row: name -> (middle, low, high)."""
    figure, ax = plt.subplots(figsize=(9, 3.3))
    offsets = (np.arange(len(rows)) - (len(rows) - 1) / 2) * 0.24
    colours = ("black", "#D55E00", "#0072B2", "#009E73")
    looks = itertools.cycle(zip(MARKERS, colours, strict=False))
    for (name, ends), offset, (marker, colour) in zip(rows.items(), offsets, looks, strict=False):
        middle, low, high = (np.asarray(each, dtype=float) for each in ends)
        ax.errorbar(
            np.arange(len(middle)) + offset, middle, yerr=[middle - low, high - middle], fmt=marker, markersize=4,
            color=colour, markerfacecolor=colour if marker == "o" else "white", capsize=2.5, linewidth=1.2, label=name,
        )  # fmt: skip
    _keypoint_axis(ax, ylabel)
    figure.legend(loc="outside upper center", ncols=len(rows), frameon=False)
    return figure


def seed_spread(own: Any, seeds: pd.DataFrame, ylabel: str = "PCK@0.2 (bbox)") -> Figure:
    """PCK of each keypoint for the reader's network (bars) and for recorded runs with other seeds (a mark each).

    `own` (21,); `seeds` has the columns seed, keypoint and pck_0.2_bbox, see `handpose_lib.recipes.seeds`.
    """
    figure, ax = plt.subplots(figsize=(9, 3.3))
    own = np.asarray(own, dtype=float)
    ax.bar(range(len(own)), own, color="#CCCCCC", label=f"yours: mean {own.mean():.2f}")
    for (seed, table), marker in zip(seeds.groupby("seed"), itertools.cycle("ox+d"), strict=False):
        values = table.set_index("keypoint")["pck_0.2_bbox"].reindex(list(KEYPOINT_NAMES))
        label = f"recorded, seed {seed}: mean {values.mean():.2f}"
        ax.plot(range(len(values)), values, marker, color="black", markersize=7, markerfacecolor="none", label=label)
    _keypoint_axis(ax, ylabel)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def seen_and_hidden(reports: Mapping[str, Report]) -> Figure:
    """PCK of seen and of hidden joints in each group of keypoints, one panel per report; the bars' numbers are counts.

    ValueError when a report's data set does not say which joints are hidden.
    """
    figure, axes = plt.subplots(1, len(reports), figsize=(4.8 * len(reports), 3.2), sharey=True, squeeze=False)
    for ax, (name, report) in zip(axes[0], reports.items(), strict=True):
        table = report.by_occlusion
        place = np.arange(len(table))
        for shift, kind, fill in ((-0.2, "seen", FILLS[0]), (0.2, "hidden", FILLS[1])):
            bars = ax.bar(place + shift, table[f"pck_0.2_bbox_{kind}"], 0.38, edgecolor="black", label=kind, **fill)
            ax.bar_label(bars, [f"{n:,}" for n in table[f"count_{kind}"]], padding=2, fontsize=9)
        ax.set_xticks(place, table.index)
        ax.set(title=name, ylim=(0, 1.08), yticks=np.linspace(0, 1, 6), xlabel="group of keypoints")
    axes[0, 0].set_ylabel("PCK@0.2 (bbox)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def chosen_and_fresh(chosen: Any, fresh: Any) -> Figure:
    """Score of the best candidate on the hands it was chosen on, against its score on others, one pair per draw."""
    figure, ax = plt.subplots(figsize=(5.4, 3.2))
    chosen, fresh = np.asarray(chosen, dtype=float), np.asarray(fresh, dtype=float)
    bins = np.linspace(min(chosen.min(), fresh.min()), max(chosen.max(), fresh.max()), 40)
    for values, name, style in (
        (fresh, "on other hands", {"color": "#0072B2", "alpha": 0.5}),
        (chosen, "on the hands it was chosen on", {"histtype": "step", "color": "black", "linewidth": 1.8}),
    ):
        ax.hist(values, bins, label=f"{name}: mean {values.mean():.3f}", **style)
    ax.set(xlabel="PCK@0.2 (bbox) of the chosen candidate", ylabel="random halves")
    figure.legend(loc="outside upper center", frameon=False)
    return figure


def _keypoint_axis(ax: plt.Axes, ylabel: str, names: Sequence[str] = KEYPOINT_NAMES) -> None:
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
    ax.set(ylabel=ylabel, ylim=(0, 1.05), xlim=(-0.7, len(names) - 0.3), yticks=np.linspace(0, 1, 6))
    for edge in (members[0] - 0.5 for members in FINGERS.values()):
        ax.axvline(edge, color="#CCCCCC", linewidth=0.7, zorder=0)
