"""What figures are given: pictures, hands, lists that go together and reports; checked before anything is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handpose_lib.fields import as_numbers, is_whole
from handpose_lib.keypoints import KEYPOINT_NAMES


def pixels_of(image: Any) -> np.ndarray:
    """An image (3, H, W) or (H, W, 3), uint8 or from 0 to 1, as (H, W, 3); ValueError for anything else."""
    pixels = as_numbers("image", image, flags=True).detach().cpu().numpy()
    if pixels.ndim == 3 and pixels.shape[0] == 3 != pixels.shape[-1]:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image is {pixels.shape}, it must be (3, H, W) or (H, W, 3)")
    if pixels.dtype.kind == "f" and not (pixels.min() >= -0.01 and pixels.max() <= 1.01):
        limits = f"from {pixels.min():.3g} to {pixels.max():.3g}"
        raise ValueError(f"image has values {limits}: give uint8, or fractions from 0 to 1, not normalised ones")
    return pixels


def hand_of(name: str, keypoints: Any) -> np.ndarray:
    """Keypoints (21, 2) as an array, NaN where there is none; ValueError for another shape."""
    points = as_numbers(name, keypoints).detach().cpu().numpy()
    if points.shape != (len(KEYPOINT_NAMES), 2):
        raise ValueError(f"{name} must be ({len(KEYPOINT_NAMES)}, 2), those of one hand, not {points.shape}")
    return points


def check_grid(images: Sequence[Any], columns: int, **others: Sequence[Any] | None) -> None:
    """ValueError where there are no images, no columns, or not one entry per image in the others."""
    if not len(images) or not is_whole(columns):
        raise ValueError(f"a grid needs an image and a column or more, not {len(images)} and {columns}")
    for name, given in others.items():
        if given is not None and (isinstance(given, str) or len(given) != len(images)):
            raise ValueError(f"{name} must be a list with one entry per image, {len(images)}, not {len(given)}")


def checked_reports(reports: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reports by name; ValueError for none, or for something else."""
    scored = isinstance(reports, Mapping) and all(hasattr(report, "pck") for report in reports.values())
    if not scored or not reports:
        raise ValueError(f"reports must be one or more by name, {{'my network': evaluate(...)}}, not {reports!r:.60}")
    return reports
