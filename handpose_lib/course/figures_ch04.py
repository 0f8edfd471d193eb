"""Figures of chapter 04: the shapes in a U-Net, how far a pixel sees, and losses beside the peaks that they leave."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from handpose_lib import plots

STYLES = (  # told apart by colour and by line
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#E69F00", "linestyle": "-."},
    {"color": "#0072B2", "linestyle": ":"},
    {"color": "black", "linestyle": "-"},
)


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


def loss_and_peaks(runs: Mapping[str, tuple[Tensor, Tensor, Any]]) -> Figure:
    """The loss, as a share of the first one, beside the median height of the peaks, for up to four runs.

    Each run holds its losses (steps,), the height of each map's peak (steps, maps), and anything else.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
    for (name, (losses, peaks, *_)), style in zip(runs.items(), STYLES, strict=False):
        left.plot(losses / losses[0], linewidth=2, label=name, **style)
        right.plot(peaks.median(1).values, linewidth=2, **style)
    left.set(xlabel="step", ylabel="loss / first loss", yscale="log", title="the loss")
    right.axhline(0.5, color="grey", linewidth=0.8)
    right.set(xlabel="step", ylabel="height", ylim=(0, 1.3), title="the peaks, median of 84 maps; grey: 0.5")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure
