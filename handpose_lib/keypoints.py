"""The 21 keypoints of a hand in FreiHAND's order: wrist, then five fingers from the palm to the tip.

A keypoint is (x, y) in pixels of the image it goes with. A pixel's centre has whole-number coordinates, so the
top left pixel covers -0.5 <= x, y < 0.5, and resizing an image by s maps u to (u + 0.5)*s - 0.5::

    x:  -0.5      0.5       1.5       2.5
          |  px 0  |  px 1  |  px 2  |        centres at 0, 1, 2
"""

import torch
from torch import Tensor

KEYPOINT_NAMES: tuple[str, ...] = (
    "wrist",
    "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
    "index_mcp", "index_pip", "index_dip", "index_tip",
    "middle_mcp", "middle_pip", "middle_dip", "middle_tip",
    "ring_mcp", "ring_pip", "ring_dip", "ring_tip",
    "pinky_mcp", "pinky_pip", "pinky_dip", "pinky_tip",
)  # fmt: skip

FINGERS: dict[str, tuple[int, ...]] = {
    "thumb": (1, 2, 3, 4),
    "index": (5, 6, 7, 8),
    "middle": (9, 10, 11, 12),
    "ring": (13, 14, 15, 16),
    "pinky": (17, 18, 19, 20),
}

# Okabe and Ito's colours, which remain apart with any colour vision; one per finger, the wrist is grey.
FINGER_COLOURS: dict[str, str] = dict(
    zip(FINGERS, ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00"), strict=True)
)
WRIST_COLOUR = "#888888"

# (parent, child): from the wrist to each finger's first joint, then joint by joint to its tip.
BONES: tuple[tuple[int, int], ...] = tuple(
    bone for finger in FINGERS.values() for bone in zip((0, *finger), finger, strict=False)
)

GROUPS: dict[str, tuple[int, ...]] = {
    "wrist": (0,),
    "palm": tuple(finger[0] for finger in FINGERS.values()),
    "finger joints": tuple(joint for finger in FINGERS.values() for joint in finger[1:3]),
    "fingertips": tuple(finger[3] for finger in FINGERS.values()),
}


def hand_direction(keypoints: Tensor) -> Tensor:
    """Where a hand points in the image, from the wrist to the middle of the four knuckles: (..., 21, 2) -> (..., 2)."""
    if keypoints.shape[-2:] != (len(KEYPOINT_NAMES), 2):
        raise ValueError(f"keypoints must be (..., 21, 2), those of hands, not {tuple(keypoints.shape)}")
    knuckles = [finger[0] for finger in list(FINGERS.values())[1:]]
    return keypoints[..., knuckles, :].mean(-2) - keypoints[..., 0, :]


def look_like_shares(keypoints: Tensor) -> bool:
    """Whether keypoints (..., 2) are shares of a picture and not px: all within 1 of its corner, and not in one place.

    Shares are from 0 to 1 or, about the middle, from -1 to 1. Those that are not finite are left out.

    >>> look_like_shares(torch.tensor([[0.2, 0.3], [0.5, 0.9]])), look_like_shares(torch.tensor([[20.0, 3], [50, 9]]))
    (True, False)
    """
    points = keypoints.reshape(-1, 2)
    if not len(points):
        return False
    known = points.isfinite().all(-1, keepdim=True)
    low, high = points.where(known, torch.inf).amin(0), points.where(known, -torch.inf).amax(0)
    return bool((low >= -1).all() & (high <= 1).all() & (low < high).any())


def with_gaps_filled(keypoints: Tensor) -> Tensor:
    """Keypoints (..., 21, 2) in which those that are NaN stand amid the others, so that the hand has a box."""
    known = keypoints.isfinite().all(-1, keepdim=True)
    return keypoints.where(known, keypoints.nanmean(-2, keepdim=True))
