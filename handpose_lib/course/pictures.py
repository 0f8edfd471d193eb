"""Drawings that single chapters need, too long for a notebook cell."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from handpose_lib import plots

MARKERS = ("s", "^", "D", "v", "x", "+")
LINES = (  # lines that remain apart in grey
    {"color": "black", "linewidth": 2.2},
    {"color": "#0072B2", "linestyle": "--", "linewidth": 1.8},
    {"color": "#D55E00", "linestyle": ":", "linewidth": 2.2},
    {"color": "#009E73", "linestyle": "-.", "linewidth": 1.8},
)


def most_open(keypoints: Any) -> int:
    """Row of the hand, of keypoints (M, 21, 2), whose two closest keypoints lie farthest apart: easy to look at."""
    points = torch.as_tensor(keypoints).float()
    same = torch.eye(points.shape[1], dtype=torch.bool)
    return int(torch.cdist(points, points).masked_fill(same, torch.inf).amin((1, 2)).argmax())


def heatmap_closeup(heatmap: Any, truth: Any, answers: Mapping[str, Any], radius: int = 6) -> Figure:
    """The pixels of a map (H, W) around a point, and closer still the answers (x, y) of several decoders."""
    values = np.asarray(heatmap)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.9))
    column, row = round(float(truth[0])), round(float(truth[1]))
    for ax, reach in zip(axes, (radius, 0), strict=True):
        ax.imshow(values, cmap="Greys", vmin=0, vmax=1.6)  # light enough for black marks
        left, right, top, bottom = column - reach, column + reach, row - reach, row + reach
        ax.set(xlim=(left - 0.6, right + 0.6), ylim=(bottom + 0.6, top - 0.6), xlabel="x / px", ylabel="y / px")
        for edge in np.arange(-reach - 0.5, reach + 1):
            ax.axvline(column + edge, color="white", linewidth=0.7)
            ax.axhline(row + edge, color="white", linewidth=0.7)
    axes[0].set_title("the heatmap, dark is high")
    axes[0].plot(*truth, "*", color="white", markeredgecolor="black", markersize=15)
    box = (column - 0.6, row - 0.6)
    axes[0].add_patch(plt.Rectangle(box, 1.2, 1.2, fill=False, edgecolor="black", linewidth=1.4))
    axes[1].set_title("its highest pixel alone")
    axes[1].plot(*truth, "*", color="white", markeredgecolor="black", markersize=24, label="truth")
    for (name, place), marker in zip(answers.items(), MARKERS, strict=False):
        face = {} if marker in "x+" else {"markerfacecolor": "none"}
        axes[1].plot(*place, marker, color="black", markersize=10, markeredgewidth=1.6, label=name, **face)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, labelspacing=1.1)
    return figure


def bias_curves(positions: Any, errors: Mapping[str, Any], columns: int = 3, limit: float = 0.6) -> Figure:
    """Error in x of each decoder against the true position, a panel a decoder, all to one scale."""
    rows = -(-len(errors) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9, 2.3 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (name, error) in zip(axes.flat, errors.items(), strict=False):
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.plot(positions, error, color="black", linewidth=1.6)
        ax.set(title=name, ylim=(-limit, limit))
    for ax in axes[-1]:
        ax.set_xlabel("true x / px")
    for ax in axes[:, 0]:
        ax.set_ylabel("answer − truth / px")
    return figure


def unet_shapes(shapes: Mapping[str, tuple[int, int, int]]) -> Figure:
    """The U of a U-Net from the (C, H, W) of "image", "down.0", ..., "up.0", ... and "head", in that order."""
    depth = sum(name.startswith("up.") for name in shapes)
    largest, fewest = shapes["image"][1], shapes["down.0"][0]
    places = {"image": (-1.2, 0)} | {f"down.{level}": (level, level) for level in range(depth + 1)}
    places |= {f"up.{step}": (depth + 1 + step, depth - 1 - step) for step in range(depth)}
    places |= {"head": (2 * depth + 1.2, 0)}
    figure, ax = plt.subplots(figsize=(10, 1.2 * depth + 1.3))
    half = {}  # half the width and height of each box: narrow is few channels, low is few pixels
    for name, (channels, height, _) in shapes.items():
        x, level = places[name]
        width = 0.10 + 0.05 * max(0.0, np.log2(channels / fewest))
        half[name] = width, 0.10 + 0.24 * height / largest
        grey = "0.55" if name.startswith("down") else "0.75" if name.startswith("up") else "1.0"
        corner = (x - width, -level - half[name][1])
        ax.add_patch(plt.Rectangle(corner, 2 * width, 2 * half[name][1], facecolor=grey, edgecolor="black"))
        label = f"{name}\n{channels} × {height} × {height}"
        if level == 0:  # where a label does not meet an arrow
            place = {"xy": (x, half[name][1] + 0.05), "ha": "center", "va": "bottom"}
        elif level == depth:
            place = {"xy": (x, -level - half[name][1] - 0.05), "ha": "center", "va": "top"}
        elif name.startswith("down"):
            place = {"xy": (x - width - 0.06, -level - 0.06), "ha": "right", "va": "top"}
        else:
            place = {"xy": (x + width + 0.06, -level - 0.06), "ha": "left", "va": "top"}
        ax.annotate(label, fontsize=9, linespacing=1.15, **place)
    for one, two in pairwise(shapes):
        (x1, y1), (x2, y2) = places[one], places[two]
        start, end = (x1 + half[one][0], -y1), (x2 - half[two][0], -y2)
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.2})
    for step in range(depth):
        one, two = f"down.{depth - 1 - step}", f"up.{step}"
        (x1, level), (x2, _) = places[one], places[two]
        y = -level + 0.6 * half[one][1]
        start, end = (x1 + half[one][0], y), (x2 - half[two][0], y)
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "linestyle": "--"})
        ax.text((x1 + x2) / 2, y + 0.03, "skip connection", ha="center", va="bottom", fontsize=9, color="0.3")
    ax.text(0.25, -0.62, "2×2 pooling,\ntwice the channels", ha="right", va="center", fontsize=9, style="italic")
    ax.text(2 * depth - 0.25, -0.62, "bilinear × 2,\nhalf the channels", va="center", fontsize=9, style="italic")
    ax.set(xlim=(-1.8, 2 * depth + 1.8), ylim=(-depth - 0.6, 0.75), xticks=[], yticks=[])
    ax.set_title("channels × height × width of what each block puts out, px", fontsize=10)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return figure


def fields_of_view(image: Any, centre: tuple[float, float], sides: Mapping[str, int], whole: bool = False) -> Figure:
    """Squares of the given sides, px, around one pixel of an image, each on a panel of its own.

    `whole` shows what of the largest square lies off the image, too.
    """
    inches = 3.0 if whole else 2.1
    figure, axes = plt.subplots(1, len(sides), figsize=(inches * len(sides), inches + 0.4), squeeze=False)
    rows, columns = np.asarray(image).shape[-2:]
    y, x = np.mgrid[:rows, :columns]
    for ax, (name, side) in zip(axes[0], sides.items(), strict=True):
        plots.draw_hand(image, ax=ax, title=f"{name}: {side} px")
        outside = np.maximum(abs(x - centre[0]), abs(y - centre[1])) > side / 2
        ax.imshow(np.dstack([np.zeros((rows, columns, 3)), 0.55 * outside]))
        corner = (centre[0] - side / 2, centre[1] - side / 2)
        for colour, linewidth in (("black", 3.4), ("white", 1.8)):  # to be seen on dark and bright
            ax.add_patch(plt.Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=linewidth))
        ax.plot(*centre, "+", color="white", markersize=7)
        if whole:
            reach = max(sides.values()) / 2 + 4
            low, high = min(-0.5, *(c - reach for c in centre)), max(rows - 0.5, *(c + reach for c in centre))
            ax.set(xlim=(low, high), ylim=(high, low), facecolor="0.8")
    return figure


def map_grid(rows: Mapping[str, Any], columns: Sequence[str], side: float = 1.55, colour_bar: bool = True) -> Figure:
    """Heatmaps (H, W), a row for each name and a column for each title, all on one scale from 0 to 1."""
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(side * len(columns) + 1.2, side * len(rows) + 0.3), squeeze=False
    )
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        for ax, one in zip(line, maps, strict=True):
            picture = ax.imshow(np.asarray(one), cmap="magma", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=9)
    if colour_bar:
        figure.colorbar(picture, ax=axes, label="height of the map", shrink=0.8)
    return figure


def loss_shapes(losses: Mapping[str, Callable], targets: Sequence[float] = (0.0, 1.0)) -> Figure:
    """Each loss(pred, target) and its slope against the error, a column for each target; 1 = its loss at error 1."""
    figure, axes = plt.subplots(2, len(targets), figsize=(9, 5.4), sharex=True, sharey="row", squeeze=False)
    for column, target in enumerate(targets):
        error = torch.linspace(0.001, 1, 400, dtype=torch.float64, requires_grad=True)
        y = torch.full_like(error, target)
        for (name, loss), style in zip(losses.items(), LINES, strict=False):
            away = error if target < 0.5 else -error  # too high on the background, too low on the peak
            value = loss(y + away, y)
            (slope,) = torch.autograd.grad(value.sum(), error)
            at_one = value[-1].item()
            axes[0, column].plot(error.detach(), value.detach() / at_one, label=name, **style)
            axes[1, column].plot(error.detach(), slope / at_one, label=name, **style)
        axes[0, column].set_title(f"target y = {target:g}")
        axes[1, column].set_xlabel("error δ = |y − ŷ|, in heights of the heatmap")
    axes[0, 0].set_ylabel("loss / loss at δ = 1")
    axes[1, 0].set_ylabel("slope / loss at δ = 1")
    axes[0, -1].legend(frameon=False, loc="upper left", handlelength=3.2)
    return figure
