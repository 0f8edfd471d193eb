"""The figure of chapter 01: camera, image plane, hand, and the rays that join them."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from handpose_lib import plots
from handpose_lib.keypoints import BONES

MARKERS = ("s", "^", "D")
WHITE = {"color": "white", "markeredgecolor": "black"}
BOX = {"boxstyle": "round,pad=0.1", "fc": "black", "ec": "none", "alpha": 0.6}


def draw_projection(image: Any, xyz: Any, keypoints: Any, K: Any, chosen: tuple[int, ...] = (0, 8, 20)) -> Figure:
    """A hand in front of its camera, with the rays of three keypoints, beside the image that those rays hit.

    Args:
        image: (3, H, W) uint8.
        xyz: (21, 3), m.
        keypoints: (21, 2), px.
        K: (3, 3), px.
        chosen: up to three keypoints' numbers.
    """
    figure = plt.figure(figsize=(10, 3), layout="none")
    space = figure.add_axes((0, 0, 0.68, 0.92), projection="3d", computed_zorder=False)
    picture = figure.add_axes((0.7, 0.02, 0.28, 0.88))
    points, pixels = np.asarray(xyz) * 100, np.asarray(image).transpose(1, 2, 0) / 255  # cm
    camera, uv = np.asarray(K), np.asarray(keypoints)
    depth = points[:, 2].mean()
    plane = 0.5 * depth  # cm from the camera: where the drawing puts the image plane

    for start, end in BONES:
        _line(space, points[[start, end]], color=plots.keypoint_colour(end), linewidth=2.2, zorder=1)
    for number, marker in zip(chosen, MARKERS, strict=False):
        hit = points[number] * plane / points[number, 2]
        _line(space, np.stack([hit, points[number]]), color="black", linewidth=1, linestyle="--", zorder=2)
        _line(space, points[[number]], marker=marker, markersize=8, zorder=3, **WHITE)
    _image_plane(space, pixels, camera, plane)
    for number, marker in zip(chosen, MARKERS, strict=False):
        hit = points[number] * plane / points[number, 2]
        _line(space, np.stack([np.zeros(3), hit]), color="black", linewidth=1, linestyle="--", zorder=5)
        _line(space, hit[None], marker=marker, markersize=6, zorder=6, **WHITE)
        aside = 3.0 if points[number, 1] > points[:, 1].mean() else -3.0  # away from the other joints
        space.text(*_place(points[number] + [0, aside, 0]), str(number), zorder=7, ha="center", va="center")
    _line(space, np.zeros((1, 3)), marker="o", color="black", markersize=9, zorder=6)
    space.text(*_place(np.array([-4.0, -4.0, 0])), "camera", ha="center", va="bottom")

    plots.draw_hand(image, ax=picture, title="the same rays where they meet the image")
    for number, marker in zip(chosen, MARKERS, strict=False):
        picture.plot(*uv[number], marker, markersize=8, **WHITE)
        picture.annotate(str(number), uv[number], (8, 0), textcoords="offset points", color="white", va="center",
                         bbox=BOX)  # fmt: skip
    _dress(space, points)
    figure.text(0.03, 0.95, "in space: each of the camera's axes is drawn 10 cm long", va="top")
    return figure


def _place(points: np.ndarray) -> np.ndarray:
    """Camera coordinates (..., 3) in the drawing's axes: z to the right, x to the front, y down."""
    return np.stack([points[..., 2], -points[..., 0], -points[..., 1]])


def _line(space: Axes3D, points: np.ndarray, **style: Any) -> None:
    space.plot(*_place(points), clip_on=False, **style)


def _image_plane(space: Axes3D, pixels: np.ndarray, camera: np.ndarray, plane: float) -> None:
    """The image where the rays cross it, at a quarter of its resolution."""
    rows, columns = pixels.shape[:2]
    u, v = np.meshgrid(np.arange(0, columns + 1, 4) - 0.5, np.arange(0, rows + 1, 4) - 0.5)  # edges of the pixels
    grid = np.stack([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)], -1) * plane
    small = pixels.reshape(rows // 4, 4, columns // 4, 4, 3).mean((1, 3))
    colours = np.concatenate([small, np.full((*small.shape[:2], 1), 0.85)], -1)
    space.plot_surface(*_place(grid), facecolors=colours, shade=False, rcount=rows, ccount=columns, zorder=4,
                       linewidth=0, antialiased=False)  # fmt: skip
    edge = np.concatenate([grid[0], grid[:, -1], grid[-1, ::-1], grid[::-1, 0]])
    _line(space, edge, color="black", linewidth=1, zorder=5)
    above = grid[0, grid.shape[1] // 2] - np.array([0, 1.0, 0])  # cm
    space.text(*_place(above), "image plane", ha="center", va="bottom", zorder=7)


def _dress(space: Axes3D, points: np.ndarray) -> None:
    """The camera's axes, 10 cm long, limits that fit all, equal scales."""
    for axis, name in enumerate("xyz"):
        tip = 10.0 * np.eye(3)[axis]
        _line(space, np.stack([np.zeros(3), tip]), color="black", linewidth=2.4, zorder=6)
        space.text(*_place(1.35 * tip), name, ha="center", va="center", fontweight="bold", zorder=7)
    low, high = points.min(0) - 3, points.max(0) + 3
    sides, heights = (-max(high[0], 10), -min(low[0], -10)), (-max(high[1], 13), -min(low[1], -10))
    space.set(xlim=(0, high[2]), ylim=sides, zlim=heights)
    space.set_box_aspect([np.ptp(limit) for limit in (space.get_xlim(), space.get_ylim(), space.get_zlim())], zoom=2.2)
    space.view_init(elev=14, azim=-60)
    space.set_axis_off()
