"""A few hands at a small size, for the experiments of single chapters; whole data sets are `loader.HandBatches`'s."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from handpose_lib.framing import resize_matrix, warp_keypoints
from handpose_lib.freihand import FreiHAND


def load_hands(dataset: FreiHAND, rows: Iterable[int], size: int) -> tuple[Tensor, Tensor]:
    """Some hands of a labelled data set, resized to squares by the half-pixel rule.

    Args:
        dataset: a `FreiHAND` with keypoints.
        rows: which of its items, in the order wanted.
        size: side of the images returned, px.

    Returns:
        images (B, 3, size, size), float32 RGB in [0, 1], and keypoints (B, 21, 2) in their pixels.

    Raises:
        ValueError: a data set without labels, no rows, or a size below 1.
        IndexError: a row that the data set does not have.
    """
    rows = list(rows)
    if dataset.keypoints is None:
        raise ValueError(f"{dataset.root} has no keypoints for its {dataset.split} rows: take a split with labels")
    if not rows or size < 1:
        raise ValueError(f"at least one row and one pixel are needed, not {len(rows)} rows at {size} px")
    images, keypoints = [], []
    for row in rows:
        image, target = dataset[row]
        # One at a time, since a stack of full-size images in float32 takes 0.6 MB each.
        image = image.as_subclass(Tensor)[None].float() / 255
        images.append(interpolate(image, size=(size, size), mode="bilinear", antialias=True)[0])
        points = target["keypoints"].as_subclass(Tensor)
        keypoints.append(warp_keypoints(points[None], resize_matrix(image.shape[-2:], (size, size)))[0])
    return torch.stack(images), torch.stack(keypoints)


def most_open(keypoints: Any) -> int:
    """Row of the hand, of keypoints (M, 21, 2), whose two closest keypoints lie farthest apart: easy to look at."""
    points = torch.as_tensor(keypoints).float()
    same = torch.eye(points.shape[1], dtype=torch.bool)
    return int(torch.cdist(points, points).masked_fill(same, torch.inf).amin((1, 2)).argmax())
