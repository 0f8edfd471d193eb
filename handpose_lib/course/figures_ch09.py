"""Figures of chapter 09: the mesh without skin colour or background, so that its shape can be seen."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from handpose_lib import plots
from handpose_lib.synthhand.asset import load_asset, vertex_normals
from handpose_lib.synthhand.hand import PosedHand, rotation
from handpose_lib.synthhand.render import project_points, rasterize

DISTANCE, FOCAL = 0.55, 2.6  # m; focal length in sides of the picture


def mesh_picture(hand: PosedHand, turn: float = 0.0, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A hand as grey clay, palm to the viewer, fingers up: image (size, size, 3) in [0, 1], keypoints (21, 2) px.

    `turn` is in degrees about the upright axis.
    """
    asset = load_asset()
    forward = rotation(np.array([0.0, 1.0, 0.0]), turn) @ _upright(asset.palm_normal, asset.arm_axis)
    center = hand.keypoints.mean(0)
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
    hands: Sequence[PosedHand], titles: Sequence[str], keypoints: bool = False, turn: float = 0.0, columns: int = 5
) -> Figure:
    """Hands side by side, with their titles, and their keypoints if asked for."""
    rows = -(-len(hands) // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(1.9 * columns, 2.2 * rows))
    for ax in axes.flat:
        ax.axis("off")
    for ax, hand, title in zip(axes.flat, hands, titles, strict=False):
        image, points = mesh_picture(hand, turn)
        plots.draw_hand(image, points if keypoints else None, ax, title)
    return figure


def stage_row(stages: dict[str, Any]) -> Figure:
    """Images (H, W, 3) in [0, 1] side by side, named."""
    figure, axes = plt.subplots(1, len(stages), figsize=(1.6 * len(stages), 2.1))
    for ax, (name, image) in zip(axes, stages.items(), strict=True):
        ax.imshow(np.clip(image, 0, 1))
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize="small")
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
            plots.draw_skeleton(ax, keypoints[number], width=0.9)
        ax.set_xlim(-0.5, image.shape[1] - 0.5)
        ax.set_ylim(image.shape[0] - 0.5, -0.5)
    return figure
