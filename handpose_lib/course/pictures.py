"""Drawings that single chapters need, too long for a notebook cell."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from handpose_lib import plots
from handpose_lib.keypoints import BONES

MARKERS = ("s", "^", "D", "v", "x", "+")


def most_open(keypoints: Any) -> int:
    """Row of the hand, of keypoints (M, 21, 2), whose two closest keypoints lie farthest apart: easy to look at."""
    points = torch.as_tensor(keypoints).float()
    same = torch.eye(points.shape[1], dtype=torch.bool)
    return int(torch.cdist(points, points).masked_fill(same, torch.inf).amin((1, 2)).argmax())


def projection(image: Any, xyz: Any, keypoints: Any, K: Any, chosen: tuple[int, ...] = (0, 8, 20)) -> Figure:
    """A hand from above the camera, with the rays of three keypoints, beside the image that those rays hit."""
    points, camera = np.asarray(xyz) * 100, np.asarray(K)  # cm
    figure, (above, picture) = plt.subplots(1, 2, figsize=(9, 3.9), width_ratios=(1.45, 1))
    for start, end in BONES:
        above.plot(*points[[start, end]][:, [2, 0]].T, color=plots.keypoint_colour(end), linewidth=1.8)
    reach = points[:, 2].max() * 1.04
    plane = 12.0  # cm from the camera: where the drawing puts the image plane
    left, right = ((np.array([0, 224]) - camera[0, 2]) / camera[0, 0]) * plane
    above.plot([plane, plane], [left, right], color="black", linewidth=3, solid_capstyle="butt")
    above.annotate("image plane", (plane, left), (0, 6), textcoords="offset points", ha="center", va="bottom")
    above.plot(0, 0, "k>", markersize=9)
    above.annotate("camera", (0, 0), (0, -8), textcoords="offset points", ha="center", va="top")
    plots.draw_hand(image, ax=picture, title="the same rays where they meet the image")
    for number, marker in zip(chosen, MARKERS, strict=False):
        x, _, z = points[number]
        above.plot([0, z], [0, x], color="black", linewidth=0.9, linestyle="--")
        above.plot(z, x, marker, color="white", markeredgecolor="black", markersize=8, zorder=3)
        above.plot(plane, x / z * plane, marker, color="white", markeredgecolor="black", markersize=6, zorder=3)
        above.annotate(str(number), (z, x), (7, 0), textcoords="offset points", va="center")
        place = np.asarray(keypoints)[number]
        picture.plot(*place, marker, color="white", markeredgecolor="black", markersize=8)
        picture.annotate(str(number), place, (8, 0), textcoords="offset points", color="white", va="center",
                         bbox={"boxstyle": "round,pad=0.1", "fc": "black", "ec": "none", "alpha": 0.6})  # fmt: skip
    above.set(xlabel="z, away from the camera / cm", ylabel="x, to the right in the image / cm", xlim=(-4, reach + 3))
    above.set_title("the hand in space, seen from above")
    above.set_aspect("equal", adjustable="datalim")
    above.invert_yaxis()  # x to the right of the camera, when one looks along z
    return figure


def heatmap_closeup(heatmap: Any, truth: Any, answers: Mapping[str, Any], radius: int = 4) -> Figure:
    """The pixels of a map (H, W) around a point, with the true point and the answers of several decoders."""
    values = np.asarray(heatmap)
    figure, ax = plt.subplots(figsize=(6.6, 4.4))
    picture = ax.imshow(values, cmap="Greys", vmin=0, vmax=1.6)
    picture.set_clim(0, 1.6)  # light enough for black marks
    ax.axhline(truth[1], color="black", linewidth=0.7, linestyle=":")
    ax.axvline(truth[0], color="black", linewidth=0.7, linestyle=":")
    ax.plot(*truth, "*", color="#D55E00", markeredgecolor="black", markersize=19, label="truth")
    for (name, place), marker in zip(answers.items(), MARKERS, strict=False):
        face = {} if marker in "x+" else {"markerfacecolor": "none"}
        ax.plot(*place, marker, color="black", markersize=11, markeredgewidth=1.6, label=name, **face)
    column, row = round(float(truth[0])), round(float(truth[1]))
    ax.set(xlim=(column - radius - 0.5, column + radius + 0.5), ylim=(row + radius + 0.5, row - radius - 0.5))
    ax.set_xticks(range(column - radius, column + radius + 1))
    ax.set_yticks(range(row - radius, row + radius + 1))
    ax.set_xticks(np.arange(column - radius, column + radius) + 0.5, minor=True)
    ax.set_yticks(np.arange(row - radius, row + radius) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.set(xlabel="x / px", ylabel="y / px")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, labelspacing=1.1)
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
