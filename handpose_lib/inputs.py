"""What a predictor is given: pictures of any kind and boxes; checked, and cut into parts that fit in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handpose_lib.fields import as_numbers
from handpose_lib.pictures import as_array, is_pillows, read_reduced

LEAST_INSIDE = 0.1  # of a box's area: a hand at the border may be mostly beyond it
Picture = np.ndarray | Tensor | str | Path | Callable
MOST_PIXELS_AT_ONCE = 64_000_000  # of the pictures of one batch: 192 MB


def corners_of(boxes: Any, count: int) -> Tensor:
    """Boxes (N, 4) as two corners each, (N, 2, 2) float32."""
    try:
        boxes = as_numbers("boxes", boxes).detach().cpu().float()
    except ValueError:
        raise ValueError(f"boxes must be numbers (N, 4), left, top, right, bottom in px, not {boxes!r:.80}") from None
    sides = boxes[:, 2:] - boxes[:, :2] if boxes.ndim == 2 and boxes.shape[1] == 4 else boxes.new_zeros(0)
    if len(sides) and not bool(sides.isfinite().all() & boxes.isfinite().all()):
        raise ValueError(f"boxes must be finite, not {boxes.tolist()[:2]}")
    if len(sides) and bool((boxes >= 0).all() and (boxes <= 1).all()):
        raise ValueError(f"boxes must be in px of the pictures, these look like shares of them: {boxes.tolist()[:2]}")
    if boxes.shape != (count, 4) or not bool((sides >= 1).all()):
        raise ValueError(
            f"boxes must be ({count}, 4), one per picture, each left, top, right, bottom in px with "
            f"left < right and top < bottom by 1 px or more, not {tuple(boxes.shape)} {boxes.tolist()!r:.80}"
        )
    return boxes.reshape(count, 2, 2)


def check_inside(corners: Tensor, pictures: Sequence[np.ndarray], factors: Tensor) -> None:
    """ValueError for a box that has little of its picture in it, or nothing."""
    for box, picture, factor in zip(corners, pictures, factors, strict=True):
        size = torch.tensor(picture.shape[1::-1]) * factor
        inside = (box[1].minimum(size) - box[0].clamp(min=0)).clamp(min=0)
        if not inside.prod() >= LEAST_INSIDE * (box[1] - box[0]).prod():
            width, height = size.round().int().tolist()
            sides = f"{width}×{height} px"
            raise ValueError(f"most of the box {box.flatten().tolist()} lies outside of its picture, {sides}")


def entries_of(images: Any) -> list[Any]:
    """What was given, as a list of single pictures."""
    single = isinstance(images, str | Path) or callable(images) or is_pillows(images)
    single = single or isinstance(images, bytes | dict) or not isinstance(images, Iterable)
    single = single or (isinstance(images, np.ndarray | Tensor) and images.ndim != 4)
    entries = [images] if single else list(images)
    if not entries:
        raise ValueError("no pictures were given")
    return entries


def batches_of(entries: Sequence[Any], batch_size: int) -> Iterator[tuple[list[np.ndarray], Tensor]]:
    """Pictures in parts that fit in memory, with how many px of its file one px of each is wide and high: (N, 2)."""
    pictures, factors, pixels = [], [], 0
    for number, entry in enumerate(entries):
        picture, factor = _reduced(entry, f"picture {number}")
        pictures.append(picture)
        factors.append(factor)
        pixels += picture.shape[0] * picture.shape[1]
        if len(pictures) == batch_size or pixels >= MOST_PIXELS_AT_ONCE:
            yield pictures, torch.tensor(factors)
            pictures, factors, pixels = [], [], 0
    if pictures:
        yield pictures, torch.tensor(factors)


def resized(points: Tensor, factors: Tensor) -> Tensor:
    """Points (N, P, 2) of pictures that become (N, 2) times as large."""
    return torch.where(factors[:, None] == 1, points, (points + 0.5) * factors[:, None] - 0.5)


def _reduced(entry: Any, name: str) -> tuple[np.ndarray, tuple[float, float]]:
    """As `as_array`, but large files are read small; with how much smaller in width and height."""
    return read_reduced(entry) if isinstance(entry, str | Path) else (as_array(entry, name), (1.0, 1.0))
