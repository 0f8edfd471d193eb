"""The figures of the course, in one style: units on every axis, and readable without colour.

Each function draws on axes that it is given or makes, and returns the figure, so that a notebook shows it and a
program can save it.

Conventions, the same in every picture of the course, in what `handpose predict` draws, and in videos:

- *Place.* A keypoint (x, y) is in pixels of the picture under it; a pixel's centre has whole-number coordinates.
- *Colour.* One colour per finger (`FINGER_COLOURS`), grey for the wrist. A bone has the colour of its finger, so a
  finger that is taken for its neighbour shows at once. The colours remain apart with any colour vision, and bars have
  a hatch per finger besides.
- *Outline.* Bones and joints have a thin dark edge, so that they stand out on skin, on white and on black. Their width
  follows the size of the picture on the page.
- *Prediction and truth.* What is predicted is in colour. The truth is white and thin, and lies under it with hollow
  joints (`draw_hand(truth=...)`). A keypoint that counts as missed, because it is further from its truth than a fifth
  of the true box's longer side, is tied to it by a dotted line. Where the two would tangle, each gets a picture of its
  own, both in the fingers' colours: `image_grid(truths=..., apart=True)` shows the truth below the prediction.
- *Occlusion.* Joints that can be seen are circles, those that can't are crosses.
- *Scores.* Heatmaps are on `magma` from 0 to 1 where nothing else is said, the same scale in a whole figure. A number
  at a bar, or below it, is its height. A mark on a bar is black with a white rim.
- *Files.* Line drawings are stored as PNG, photographs as JPEG.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from handpose_lib.keypoints import BONES, FINGER_COLOURS, FINGERS, KEYPOINT_NAMES, WRIST_COLOUR
from handpose_lib.layout import IMAGE_SIZE
from handpose_lib.pictures import DRAWN_BY
from handpose_lib.plot_inputs import check_grid, checked_reports, hand_of, pixels_of
from handpose_lib.storage import atomic_path

if TYPE_CHECKING:
    from handpose_lib.evaluate import Report  # which brings in torchvision

DARK = "#1A1A1A"  # the edge of bones and joints
MISSED = 0.2  # of the longer side of the true keypoints' box: what PCK@0.2 counts as missed
FIRST = "#0072B2"  # the first of several networks, where lines or bars stand for networks and not for fingers
MARK = {"color": "black", "clip_on": False, "zorder": 3, "path_effects": [withStroke(linewidth=4, foreground="white")]}
HATCHES = dict(zip(FINGERS, ("", "//", "..", "xx", "\\\\"), strict=True))


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure whole or not at all; a PNG says that it is a drawing, see `pictures.is_drawing`."""
    path = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lower()[1:] not in known:
        raise ValueError(f"{path} is not the name of a picture: end it in .{', .'.join(sorted(known))}")
    with atomic_path(path, durable=False) as temporary:
        figure.savefig(temporary, metadata={"Software": DRAWN_BY} if path.suffix.lower() == ".png" else None)


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the course."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 130,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "image.interpolation": "nearest",
        }
    )


def keypoint_colour(keypoint: int) -> str:
    """The colour of a keypoint's finger."""
    for name, members in FINGERS.items():
        if keypoint in members:
            return FINGER_COLOURS[name]
    return WRIST_COLOUR


def draw_hand(
    image: Any,
    keypoints: Any = None,
    ax: Axes | None = None,
    title: str | None = None,
    truth: Any = None,
    numbers: bool = False,
    rim: bool = False,
) -> Figure:
    """An image (3, H, W) or (H, W, 3), uint8 or in [0, 1], with keypoints (21, 2) in its pixels.

    `truth` (21, 2) is drawn under them in white, with a dotted line to each keypoint that is missed (see the
    conventions above); `numbers` writes the keypoints' indices; `rim` as in `draw_skeleton`.
    """
    if ax is None:
        ax = plt.subplots(figsize=(3.2, 3.2))[1]
    pixels = pixels_of(image)
    ax.imshow(pixels)  # imshow puts pixel centres at whole numbers, as the keypoints' convention does
    ax.set(xticks=[], yticks=[])
    # A file's name is text: no formula between two dollars, and a byte that is no character is shown as a mark.
    ax.set_title((title or "").encode("utf-8", "replace").decode(), parse_math=False)
    ax.set_xlim(-0.5, pixels.shape[1] - 0.5)
    ax.set_ylim(pixels.shape[0] - 0.5, -0.5)
    sns.despine(ax=ax, left=True, bottom=True)
    if keypoints is not None:
        points = hand_of("keypoints", keypoints)
        draw_skeleton(ax, points, rim=rim)
        if numbers:
            for number, (x, y) in enumerate(points):
                ax.annotate(str(number), (x, y), (3, 3), textcoords="offset points", fontsize=7, color="white",
                            bbox={"boxstyle": "round,pad=0.1", "fc": "black", "ec": "none", "alpha": 0.55})  # fmt: skip
    if truth is not None:
        true = hand_of("truth", truth)
        draw_skeleton(ax, true, truth=True)
        if keypoints is not None:
            missed = np.linalg.norm(points - true, axis=1) >= MISSED * (np.nanmax(true, 0) - np.nanmin(true, 0)).max()
            ties = np.stack([true, points], 1)[missed]
            ax.add_collection(LineCollection(ties, colors="black", linewidths=1.8, zorder=2.6))
            ax.add_collection(LineCollection(ties, colors="white", linewidths=1.0, linestyles=":", zorder=2.6))
    return ax.figure


def draw_skeleton(ax: Axes, keypoints: Any, truth: bool = False, width: float | None = None, rim: bool = False) -> None:
    """Bones and joints of a hand, with a dark edge, on axes that show its picture.

    Args:
        ax: axes in the picture's pixels.
        keypoints: (21, 2) px.
        truth: white, thin, with hollow joints, and under what is drawn in colour.
        width: of a bone, in points (1/72 inch); the default follows the size of the axes.
        rim: white around the dark edge, for a hand that has the colour of a finger's bones, in a blue glove, say.
    """
    points = hand_of("keypoints", keypoints)
    if width is None:
        inches = ax.get_window_extent().width / ax.figure.dpi
        width = float(np.clip(0.85 * inches, 1.1, 3.5))
    width, layer = (0.6 * width, 2.2) if truth else (width, 2.8)
    colours = ["white" if truth else keypoint_colour(k) for k in range(len(points))]
    edge, size = 0.1 + 0.3 * width, (2.3 * width) ** 2
    if truth:
        ax.scatter(*points.T, s=2 * size, facecolors="none", edgecolors=DARK, linewidths=width + edge, zorder=layer)
        ax.scatter(*points.T, s=2 * size, facecolors="none", edgecolors="white", linewidths=width, zorder=layer + 0.2)
    else:
        ax.scatter(*points.T, s=size, c=colours, edgecolors=DARK, linewidths=edge, zorder=layer + 0.3)
    bones = points[np.array(BONES)]  # (20, 2, 2)
    if rim:
        ax.add_collection(LineCollection(bones, colors="white", linewidths=width + 2 * edge + 1.6, zorder=layer - 0.1))
    ax.add_collection(LineCollection(bones, colors=DARK, linewidths=width + 2 * edge, capstyle="round", zorder=layer))
    ends = [colours[end] for _, end in BONES]
    ax.add_collection(LineCollection(bones, colors=ends, linewidths=width, capstyle="round", zorder=layer + 0.1))


def image_grid(
    images: Sequence[Any],
    keypoints: Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    truths: Sequence[Any] | None = None,
    columns: int = 4,
    side: float = 2.2,
    close: bool = False,
    apart: bool = False,
    rim: bool = False,
) -> Figure:
    """Several images side by side, each as `draw_hand` draws it.

    Args:
        images: as `draw_hand` takes them; `keypoints`, `titles` and `truths` hold one entry per image.
        columns: images in a row.
        side: of an image, in inches.
        close: show only the square that holds the points.
        apart: the truth below the prediction, in a picture of its own, and not under it.
        rim: as in `draw_skeleton`.
    """
    check_grid(images, columns, keypoints=keypoints, titles=titles, truths=truths)
    apart = apart and keypoints is not None and truths is not None
    lines = -(-len(images) // columns)
    rows = lines * (1 + apart)
    # As high as the pictures and their titles, so that no room is left between the columns.
    tallest = 1.0 if close else max(np.divide(*pixels_of(image).shape[:2]) for image in images)
    heading = 0.08 + 0.17 * max(len(title.splitlines()) for title in titles) if titles else 0.0  # inches
    height = rows * tallest * side + lines * heading
    figure, axes = plt.subplots(rows, columns, figsize=(columns * side, height), squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    for i, image in enumerate(images):
        line, column = divmod(i, columns)
        title = None if titles is None else titles[i]
        points = None if keypoints is None else keypoints[i]
        true = None if truths is None else truths[i]
        shown = [np.asarray(p) for p in (points, true) if p is not None]
        pictures = [(points, None, title), (true, None, "")] if apart else [(points, true, title)]
        for k, (drawn, below, name) in enumerate(pictures):
            ax = axes[line * len(pictures) + k, column]
            ax.set_visible(True)
            draw_hand(image, drawn, ax, name, below, rim=rim)
            if close:
                show_square(ax, np.concatenate(shown))
            if apart and column == 0:
                ax.set_ylabel(("predicted", "true")[k])
    return figure


def show_square(ax: Axes, points: np.ndarray, room: float = 1.25) -> None:
    """Limit an image's axes to the square around points (K, 2), or NaN, moved to lie on the image as far as it can."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    side = min(room * float((high - low).max()), right - left, bottom - top)
    x, y = np.clip((low + high - side) / 2, (left, top), (right - side, bottom - side))
    ax.set(xlim=(x, x + side), ylim=(y + side, y))


def heatmap_overlay(image: Any, heatmaps: Any, ax: Axes | None = None, title: str | None = None) -> Figure:
    """An image (3, H, W) in grey under the maximum of its heatmaps (K, H, W)."""
    ax = plt.subplots(figsize=(3.2, 3.2))[1] if ax is None else ax
    grey = torch.as_tensor(image).float().mean(0)
    peak = torch.as_tensor(heatmaps).detach().float().amax(0).clamp(0, 1)
    ax.imshow(grey, cmap="gray")
    ax.imshow(peak, cmap="magma", alpha=0.15 + 0.8 * peak.numpy(), vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title or "")
    sns.despine(ax=ax, left=True, bottom=True)
    return ax.figure


def map_grid(
    rows: Mapping[str, Any],
    columns: Sequence[str],
    side: float = 1.55,
    colour_bar: bool = True,
    truths: Mapping[str, Any] | None = None,
    highest: float = 1.0,
) -> Figure:
    """Heatmaps (H, W), a row for each name and a column for each title, all on one scale from 0 to `highest`.

    `side` of a map is in inches. `truths`, name -> (2,) or (columns, 2) px of the maps, are marked with circles.
    """
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(side * len(columns) + 1.2, side * len(rows) + 0.3), squeeze=False
    )
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        places = [None] * len(columns) if truths is None else np.broadcast_to(truths[name], (len(columns), 2))
        for ax, one, place in zip(line, maps, places, strict=True):
            picture = ax.imshow(np.asarray(one), cmap="magma", vmin=0, vmax=highest)
            if place is not None:
                ax.plot(*place, "o", markersize=13, markerfacecolor="none", markeredgecolor="white")
            ax.set(xticks=[], yticks=[])
            sns.despine(ax=ax, left=True, bottom=True)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=10)
    if colour_bar:
        arrow = "max" if highest < 1 else "neither"  # where there may be higher values
        figure.colorbar(picture, ax=axes, label="height of the map", shrink=0.8, extend=arrow)
    return figure


def training_curves(history: pd.DataFrame, against: str = "epoch") -> Figure:
    """Loss, sigma and validation accuracy against the epoch or the step, from a run's `history.csv`."""
    if lacking := {against, "train_loss", "sigma_px", "val_pck_0.2_bbox"} - set(getattr(history, "columns", ())):
        raise ValueError(f"history has no {min(lacking)}: give pd.read_csv of a run's history.csv")
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    axes[0].plot(history[against], history["train_loss"], color="black", marker=".")
    axes[0].set(xlabel=against, ylabel="mean Adaptive Wing loss", yscale="log", title="Training loss")
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "2357" else "")
    axes[1].plot(history[against], history["sigma_px"], color="black", linestyle="--", label="target's σ")
    axes[1].set(xlabel=against, ylabel="σ / px of the image", title="Width of the target")
    axes[1].set_ylim(bottom=0)
    axes[2].plot(history[against], history["val_pck_0.2_bbox"], color=FINGER_COLOURS["index"], marker=".")
    axes[2].set(xlabel=against, ylabel="PCK@0.2 (bbox)", ylim=(0, 1), title="Validation hands")
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(figure)
    return figure


def per_keypoint_bars(reports: "dict[str, Report]", threshold: float = 0.2, normalizer: str = "bbox") -> Figure:
    """The per-keypoint accuracy plot: PCK of each keypoint, one bar for the first report, a marker for each other.

    The number below a bar, in the bar's colour, is its height in %.
    """
    figure, ax = plt.subplots(figsize=(10, 3.8))
    place = np.arange(len(KEYPOINT_NAMES))
    (first, report), *others = checked_reports(reports).items()
    looks = {k: {"facecolor": FINGER_COLOURS[name], "hatch": HATCHES[name]} for name, ks in FINGERS.items() for k in ks}
    looks[0] = {"facecolor": WRIST_COLOUR}
    values = report.pck(threshold, normalizer).numpy()
    for k, value in enumerate(values):
        ax.bar(k, value, edgecolor="white", linewidth=0.5, **looks[k])
        ax.text(k, -0.03, f"{100 * value:.0f}", ha="center", va="top", fontsize=8.5, weight="bold")
    # One small bar per colour stands for all bars of the first report.
    swatches = tuple(Patch(edgecolor="white", **looks[k]) for k in (0, *(ks[0] for ks in FINGERS.values())))
    handles, labels = [swatches], [f"bars, {first}: mean {np.nanmean(values):.3f}"]
    for (name, other), marker in zip(others, itertools.cycle("_x+d"), strict=False):
        values = other.pck(threshold, normalizer).numpy()
        handles += ax.plot(place, values, marker, markersize=9, markeredgewidth=1.8, **MARK)
        labels.append(f"{name}: mean {np.nanmean(values):.3f}")
    ax.set_xticks(place, KEYPOINT_NAMES, rotation=60, ha="right")
    ax.tick_params(axis="x", length=0, pad=16)  # room for the numbers
    ax.set(ylim=(0, 1.03), ylabel=f"PCK@{threshold:g} ({normalizer})", xlim=(-0.7, len(place) - 0.3))
    ax.set_title("Per-keypoint accuracy; the number below a bar is its height in %", loc="left")
    ax.set_yticks(np.linspace(0, 1, 6))
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False, handlelength=5,
                  handler_map={tuple: HandlerTuple(ndivide=None, pad=0)})  # fmt: skip
    return figure


def accuracy_curves(reports: "dict[str, Report]", normalizer: str = "bbox", largest: float = 0.5) -> Figure:
    """Mean PCK against its threshold, one line per report."""
    figure, ax = plt.subplots(figsize=(5, 3.4))
    thresholds = np.linspace(0, largest, 51)
    for number, (name, report) in enumerate(checked_reports(reports).items()):
        look = {"linestyle": ("-", "--", ":", "-.")[number % 4], "color": "black" if number else FIRST}
        ax.plot(thresholds, report.pck_curve(thresholds, normalizer), linewidth=2, label=name, **look)
    ax.axvline(0.2, color="grey", linewidth=0.8)
    ax.annotate("0.2", (0.2, 0.02), (3, 0), textcoords="offset points", color="grey")
    ax.set(xlabel=f"threshold, share of the {normalizer} length", ylabel="PCK", ylim=(0, 1), xlim=(0, largest))
    ax.legend(frameon=False, loc="lower right")
    return figure


def worst_cases(
    report: "Report",
    images: Sequence[Any] | Mapping[int, Any],
    count: int = 8,
    columns: int = 4,
    apart: bool = False,
    side: float = 2.2,
    one_per_hand: bool = False,
) -> Figure:
    """The items of `report.worst(count, one_per_hand)`: what was predicted over the truth, or `apart` above it.

    `images` are the data set's, or those of these items by their number; `side` of each is in inches.
    """
    chosen = report.worst(count, one_per_hand)
    titles = [
        f"{report.versions[i]} {report.ids[i]}\n{report.errors[i].nanmean():.0f} px of {IMAGE_SIZE}" for i in chosen
    ]
    predictions, targets = report.predictions[chosen].numpy(), report.targets[chosen].numpy()
    return image_grid([images[i] for i in chosen], predictions, titles, targets, columns, side, close=True, apart=apart)
