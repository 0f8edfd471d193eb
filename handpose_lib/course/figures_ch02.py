"""Figures of chapter 02: a heatmap's pixels with the answers of decoders, and their errors."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

MARKERS = {"s": 10, "^": 10, "D": 10, "v": 10, "x": 9, "+": 26}  # sizes at which two that coincide remain apart


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
    axes[0].set_title("the heatmap (darker is higher)")
    axes[0].plot(*truth, "*", color="white", markeredgecolor="black", markersize=15)
    box = (column - 0.6, row - 0.6)
    axes[0].add_patch(plt.Rectangle(box, 1.2, 1.2, fill=False, edgecolor="black", linewidth=1.4))
    axes[1].set_title("its highest pixel alone")
    axes[1].plot(*truth, "*", color="white", markeredgecolor="black", markersize=30, label="truth")
    for (name, place), (marker, size) in zip(answers.items(), MARKERS.items(), strict=False):
        face = {} if marker in "x+" else {"markerfacecolor": "none"}
        axes[1].plot(*place, marker, color="black", markersize=size, markeredgewidth=1.6, label=name, **face)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, labelspacing=1.1)
    return figure


def bias_curves(positions: Any, errors: Mapping[str, Any], columns: int = 3, limit: float = 0.6) -> Figure:
    """Error in x of each decoder against the true position, one panel per decoder, all to one scale."""
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
