"""What files of labels of any kind are made of: a hand, its keypoints, its side and its group; checked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handpose_lib.keypoints import KEYPOINT_NAMES

SIDES = ("left", "right")
COUNT = len(KEYPOINT_NAMES)


@dataclass(frozen=True)
class LabelledHand:
    """One hand of a picture, as a file of labels has it."""

    file: str  # of the picture, as it stands in the file
    keypoints: np.ndarray  # (21, 2) float64, px; NaN where not labelled
    side: str | None  # "left", "right", or not known
    group: str | None  # person or video, where the file says so
    entry: str  # where in the file, for errors
    size: tuple[int, int] | None = None  # (W, H) px of the picture that was labelled, where the file says so


def row_of(path: Path, where: str, values: Sequence[Any]) -> tuple[Any, Any]:
    """x and y of [x, y], [x, y, visibility] or nothing."""
    if len(values) == 3 and values[2] not in (0, 1, 2, None):
        raise ValueError(
            f"{path}, {where}: the third number of a keypoint is its visibility, 0, 1 or 2, not {values[2]!r}: a depth "
            "or a confidence must be left out"
        )
    return (None, None) if not values or (len(values) == 3 and not values[2]) else (values[0], values[1])


def points_of(path: Path, where: str, pairs: Iterable[tuple[Any, Any]], text: bool = False) -> np.ndarray:
    """Keypoints (21, 2) of pairs of numbers, NaN where one is None, NaN or empty; numbers as `text`, as in a CSV."""
    keypoints = np.full((COUNT, 2), np.nan)
    for k, pair in enumerate(pairs):
        try:
            x, y = (math.nan if value in (None, "") else float(value) for value in pair)
        except (TypeError, ValueError, OverflowError):
            x = y = math.inf
        # What float() takes, no program writes: 1_0 for 10, or the digits of other scripts.
        odd = any((isinstance(value, str | bool) and not text) or "_" in str(value) for value in pair)
        odd = odd or not all(str(value).isascii() for value in pair)
        if odd or math.isinf(x) or math.isinf(y):
            raise ValueError(f"{path}, {where}: {KEYPOINT_NAMES[k]} must be two numbers, it is {list(pair)!r}")
        if not (math.isnan(x) or math.isnan(y)):
            keypoints[k] = x, y
    return keypoints


def size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(W, H) px of the picture that was labelled; None where `width` and `height` don't tell, as 1×1 or 0×0."""
    try:
        width, height = (float(entry[name]) for name in ("width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    whole = width > 1 and height > 1 and width.is_integer() and height.is_integer()
    return (int(width), int(height)) if whole else None


def side_of(path: Path, where: str, value: Any) -> str | None:
    """A hand's side, in small letters; None where it is not told."""
    side = text_of(path, where, value)
    if side is not None and side.lower() not in SIDES:
        raise ValueError(f"{path}, {where}: side must be left or right, or be left out; it is {value!r}")
    return side and side.lower()


def text_of(path: Path, where: str, value: Any) -> str | None:
    """A text or a number as text; None where there is nothing, or NaN, which tables write for nothing."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | dict | bool):
        raise ValueError(f"{path}, {where}: side and group must be text or a number, not {value!r}")
    value = int(value) if isinstance(value, float) and value.is_integer() else value  # 1 and 1.0 are one group
    return None if value is None or str(value).strip() == "" else str(value).strip()
