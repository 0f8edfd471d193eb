"""Figures of chapter 09: the mesh as grey clay, stages of the renderer, and what is compared with what."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from handpose_lib import plots
from handpose_lib.synthhand.asset import load_asset, vertex_normals
from handpose_lib.synthhand.hand import PosedHand, rotation
from handpose_lib.synthhand.render import project_points, rasterize

DISTANCE, FOCAL = 0.65, 2.6  # m; focal length in sides of the picture
TOWARDS_WRIST = 0.022  # m from the keypoints' middle: so that the wrist and a piece of the forearm are in the picture


def mesh_picture(hand: PosedHand, turn: float = 0.0, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A hand as grey clay, palm to the viewer, fingers up: image (size, size, 3) in [0, 1], keypoints (21, 2) px.

    `turn` is in degrees about the upright axis.
    """
    asset = load_asset()
    forward = rotation(np.array([0.0, 1.0, 0.0]), turn) @ _upright(asset.palm_normal, asset.arm_axis)
    center = hand.keypoints.mean(0) + TOWARDS_WRIST * asset.arm_axis
    offset = np.array([0, 0, DISTANCE])
    vertices = (hand.vertices - center) @ forward.T + offset
    K = np.array([[FOCAL * size, 0, (size - 1) / 2], [0, FOCAL * size, (size - 1) / 2], [0, 0, 1.0]])
    seen = rasterize(project_points(vertices, K), vertices[:, 2], asset.faces, (size, size))
    normals = vertex_normals(vertices, asset.faces)
    normal = sum(seen.barycentric[:, k, None] * normals[asset.faces[seen.faces, k]] for k in range(3))
    light = np.array([-0.4, -0.5, -0.77])
    image = np.ones((size, size, 3))
    image[seen.rows, seen.columns] = (0.25 + 0.65 * np.clip(normal @ light, 0, 1))[:, None]
    return image, project_points((hand.keypoints - center) @ forward.T + offset, K)


def _upright(palm_normal: np.ndarray, arm_axis: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) after which the palm faces the camera (-z) and the arm points down (+y)."""
    away = -palm_normal
    down = arm_axis - (arm_axis @ away) * away
    down /= np.linalg.norm(down)
    return np.stack([np.cross(down, away), down, away])


def mesh_row(
    hands: Sequence[PosedHand],
    titles: Sequence[str],
    keypoints: bool = False,
    turn: float = 0.0,
    columns: int = 5,
    close: bool = False,
) -> Figure:
    """Hands side by side, with their titles, and their keypoints if asked for; `close` shows the fingers large."""
    rows = -(-len(hands) // columns)
    side = 2.8 if close else 1.9  # inches
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(side * columns, (side + 0.3) * rows))
    for ax in axes.flat:
        ax.axis("off")
    for ax, hand, title in zip(axes.flat, hands, titles, strict=False):
        image, points = mesh_picture(hand, turn, 600 if close else 300)
        plots.draw_hand(image, points if keypoints else None, ax, title)
        if close:
            plots.show_square(ax, points[1:], room=1.5)
    return figure


def stage_rows(stages: Mapping[str, Any], columns: int = 4) -> Figure:
    """Images (H, W, 3) in [0, 1], named, in rows from left to right."""
    rows = -(-len(stages) // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(2.2 * columns, 2.45 * rows))
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, image) in zip(axes.flat, stages.items(), strict=False):
        ax.imshow(np.clip(image, 0, 1))
        ax.set_title(name)
    return figure


def contact_sheet(images: Sequence[Any], keypoints: Sequence[Any] | None = None, columns: int = 10) -> Figure:
    """Many small pictures without gaps, each with its keypoints where they are given."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, squeeze=False, figsize=(1.15 * columns, 1.15 * rows), layout="none",
        gridspec_kw={"wspace": 0.03, "hspace": 0.03, "left": 0, "right": 1, "bottom": 0, "top": 1},
    )  # fmt: skip
    for ax in axes.flat:
        ax.axis("off")
    for number, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(image)
        if keypoints is not None:
            plots.draw_skeleton(ax, keypoints[number], width=0.8)
        ax.set_xlim(-0.5, image.shape[1] - 0.5)
        ax.set_ylim(image.shape[0] - 0.5, -0.5)
    return figure


def histograms(
    ours: Mapping[str, np.ndarray],
    published: Mapping[str, tuple[float, float]],
    theirs: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Our hands' values as bars, FreiHAND's published ranges as bands, and its own values as a line where they are."""
    figure, axes = plt.subplots(1, len(ours), figsize=(3.2 * len(ours), 2.9))
    for ax, (name, values) in zip(axes, ours.items(), strict=True):
        low, high = published[name]
        band = ax.axvspan(low, high, color="#0072B2", alpha=0.22, hatch="//", linewidth=0)
        drawn = [ax.hist(values, bins=24, color="#BBBBBB", edgecolor="black", linewidth=0.6)[2], band]
        if theirs:
            weights = np.full(len(theirs[name]), len(values) / len(theirs[name]))
            style = {"histtype": "step", "color": "#D55E00", "linewidth": 1.8}
            drawn.append(ax.hist(theirs[name], bins=40, weights=weights, **style)[2][0])
        ax.set(xlabel=name, ylabel="hands")
    labels = ["ours", "FreiHAND: range of the labels that others publish", "FreiHAND: all training hands"]
    figure.legend(drawn, labels[: len(drawn)], loc="outside upper center", ncols=3, frameon=False)
    return figure


def depth_pair(mine: np.ndarray, library: np.ndarray) -> Figure:
    """Two depth maps (S, S) in metres side by side; infinite, and in colour, where there is nothing."""
    figure, axes = plt.subplots(1, 2, figsize=(5.6, 2.5))
    limits = {"vmin": mine[np.isfinite(mine)].min(), "vmax": mine[np.isfinite(mine)].max()}
    for ax, depth, title in zip(axes, (mine, library), ("in a loop", "the library's"), strict=True):
        picture = ax.imshow(np.where(np.isfinite(depth), depth, np.nan), cmap="gray_r", **limits)
        ax.set_facecolor("#D9E6F2")
        ax.set(title=title, xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
    figure.colorbar(picture, ax=axes, label="depth / m", shrink=0.85)
    return figure


def intervals(rows: Mapping[str, tuple[float, float, float]], label: str) -> Figure:
    """A point and its interval (middle, low, high) per row, with a line at 0."""
    figure, ax = plt.subplots(figsize=(6.2, 0.45 * len(rows) + 0.9))
    for place, (middle, low, high) in enumerate(rows.values()):
        ax.plot([low, high], [place, place], color="black", linewidth=1.5)
        ax.plot(middle, place, "o", color="black", markersize=6)
    ax.axvline(0, color="grey", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    return figure


def paired_differences(paired: pd.DataFrame) -> Figure:
    """One panel per data set and one circle per seed: index (data, seed), one column per row of the ablation."""
    groups = list(paired.groupby("data", sort=False))
    figure, axes = plt.subplots(1, len(groups), figsize=(9, 2.4), sharey=True, squeeze=False)
    for ax, (data, part) in zip(axes[0], groups, strict=True):
        for place, name in enumerate(paired.columns):
            ax.plot(part[name], [place] * len(part), "o", markerfacecolor="none", markeredgecolor="black")
        ax.axvline(0, color="grey", linestyle="--", linewidth=1)
        ax.set(title=data, xlabel="change of PCK@0.2 (bbox), points", ylim=(len(paired.columns) - 0.5, -0.5))
    axes[0][0].set_yticks(range(len(paired.columns)), paired.columns)
    return figure
