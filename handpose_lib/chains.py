"""Peaks that fit together: of the highest peaks of each heatmap, those that make fingers with likely bones.

A network that is not sure which finger it sees draws two peaks into a heatmap, and the higher one may lie on the
neighbour. A keypoint by itself can't know better; its finger can, because a bone that leads to the neighbour's tip is
too long or points aside. So every finger takes the chain of peaks, from its knuckle to its tip, with the highest sum of
log heights and bones' log likelihoods. Dynamic programming finds it without trying all chains (Felzenszwalb and
Huttenlocher, "Pictorial Structures for Object Recognition", IJCV 2005).

Bones are only alike in crops that are turned until the hand points up. There, a bone from (x, y) to (x + a, y + b) has
a of mean 0, since left and right hands mirror each other, and b of a mean of its own; both are taken as normal.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from handpose_lib.fields import as_numbers, is_number, is_positive
from handpose_lib.heatmaps import HIGH
from handpose_lib.keypoints import BONES, FINGERS, KEYPOINT_NAMES, look_like_shares

# Of each of BONES the mean of b, the spread of a and the spread of b, as shares of the crop's side.
Bones = tuple[tuple[float, float, float], ...]

CANDIDATES = 3  # peaks of each heatmap; in 98 of 100 maps the true one is among them
LIKELIHOOD = 0.1  # what a bone's log likelihood counts against a peak's log height
LOWEST = 0.05  # height at which a further peak is one
NONE = -1e4  # merit of a candidate that is no peak
LEAST_SPREAD = 0.01  # of a bone, share of a side: a few hands of one pose say nothing about others
NARROWEST = 1e-4  # spread that bones may have; fitted ones have some hundredths


def has_bones(bones: Any) -> bool:
    """Whether bones are known; anything else than an empty list is taken for some, which `check_bones` looks at."""
    return not (isinstance(bones, list | tuple) and not bones)


def check_bones(bones: Any) -> None:
    """ValueError for what can't be bones, as `fit_bones` finds them; lists may stand for tuples."""
    if not isinstance(bones, list | tuple) or len(bones) != len(BONES):
        found = " ".join(f"{bones!r:.80}".split())  # of arrays over several lines
        raise ValueError(f"bones is {found}, it must be a list of {len(BONES)} entries, see fit_bones")
    for bone in bones:
        numbers = isinstance(bone, list | tuple) and len(bone) == 3 and all(is_number(each) for each in bone)
        if not (numbers and abs(bone[0]) <= 1 and all(NARROWEST <= each <= 1 for each in bone[1:])):
            raise ValueError(f"a bone is {bone!r:.80}, it must be a mean and two spreads, in shares of a side")


def fit_bones(keypoints: Tensor, side: float) -> Bones:
    """How long bones are in upright crops, and where they point.

    Args:
        keypoints: (N, 21, 2) in px of the crops, as `framing.around` makes them.
        side: of the crops, px.

    Returns:
        For each of BONES the mean along the hand, the spread across and the spread along, as shares of the side.

    Raises:
        ValueError: there is no hand, one is not known in full, or they are not in px of such crops.
    """
    keypoints = as_numbers("keypoints", keypoints)
    if keypoints.dim() != 3 or keypoints.shape[1:] != (len(KEYPOINT_NAMES), 2) or not is_positive(side):
        raise ValueError(
            f"keypoints and side must be (N, {len(KEYPOINT_NAMES)}, 2) and a number of px, not "
            f"{tuple(keypoints.shape)} and {side!r}"
        )
    if not len(keypoints):
        raise ValueError("keypoints are those of no hand, from which bones can't be told: give some hundred hands")
    unknown = (~keypoints.isfinite()).flatten(1).any(1).nonzero()
    if len(unknown):
        raise ValueError(f"hand {unknown[0].item()} of keypoints has NaN or infinity in it: leave such hands out")
    if look_like_shares(keypoints):
        raise ValueError("keypoints look like shares of a crop: give them in px of it")
    parents, children = (list(each) for each in zip(*BONES, strict=True))
    across, along = ((keypoints[:, children] - keypoints[:, parents]) / side).unbind(-1)  # (N, 20) each
    mean = along.mean(0)
    spreads = across.square().mean(0).sqrt(), (along - mean).square().mean(0).sqrt()
    found = torch.stack((mean, *(spread.clamp(min=LEAST_SPREAD) for spread in spreads)), dim=-1)
    if (found.abs() > 1).any():
        raise ValueError(f"a bone is longer than the side of {side} px: keypoints are not in px of such crops")
    return tuple(tuple(bone) for bone in found.tolist())


def in_closer_crops(bones: Bones, closer: float) -> Bones:
    """Bones as they are in crops in which hands are larger, as shares of the side, at most 1.

    Args:
        bones: what `fit_bones` found, or none.
        closer: how many times as large hands are, 1 or more.
    """
    if not has_bones(bones):
        return bones
    check_bones(bones)
    return tuple(tuple(max(-1.0, min(closer * share, 1.0)) for share in bone) for bone in bones)


def chained_peaks(heatmaps: Tensor, bones: Bones) -> Tensor:
    """One peak per heatmap, such that the bones between them are likely: its pixel (B, 21, 2), integers, x and y.

    Args:
        heatmaps: (B, 21, H, W), of upright crops.
        bones: what `fit_bones` found.

    Raises:
        ValueError: heatmaps or bones of something else.
    """
    check_bones(bones)
    heatmaps = as_numbers("heatmaps", heatmaps, flags=True)
    if heatmaps.dim() != 4 or heatmaps.shape[1] != len(KEYPOINT_NAMES) or 0 in heatmaps.shape[2:]:
        raise ValueError(
            f"the bones of a hand need heatmaps (B, {len(KEYPOINT_NAMES)}, H, W), each of a pixel or more, not "
            f"{tuple(heatmaps.shape)}"
        )
    heatmaps = torch.nan_to_num(heatmaps.float(), nan=0.0).clamp(0, HIGH)
    rows, columns = heatmaps.shape[-2:]
    peaks = torch.where(heatmaps >= max_pool2d(heatmaps, 3, stride=1, padding=1), heatmaps, -1).flatten(2)
    heights, index = peaks.topk(min(CANDIDATES, rows * columns), dim=-1)  # (B, 21, C)
    pixels = torch.stack((index % columns, index // columns), dim=-1)  # (B, 21, C, 2)
    highest, others = heights.clamp(min=LOWEST).log().tensor_split([1], dim=-1)
    merits = torch.cat((highest, torch.where(heights[..., 1:] > LOWEST, others, NONE)), dim=-1)
    chosen = _best_chains(pixels.float(), merits, bones, max(rows, columns))
    return pixels.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)


def _best_chains(places: Tensor, merits: Tensor, bones: Bones, side: int) -> Tensor:
    """Which candidate each keypoint takes: places (B, 21, C, 2), log heights (B, 21, C) -> (B, 21)."""
    fingers, joints = len(FINGERS), len(BONES) // len(FINGERS)
    mean, across, along = places.new_tensor(bones).view(fingers, joints, 3, 1, 1).unbind(2)  # (5, 4, 1, 1) each
    wrist = places[:, None, :1, :1].expand(-1, fingers, -1, places.shape[2], -1)  # its highest peak, C times
    places = places[:, 1:].unflatten(1, (fingers, joints))  # (B, 5, 4, C, 2)
    before = torch.cat((wrist, places[:, :, :-1]), dim=2)
    offset = (places[..., None, :, :] - before[..., :, None, :]) / side  # (B, 5, 4, C of before, C, 2)
    square = (offset[..., 0] / across).square() + ((offset[..., 1] - mean) / along).square()
    gains = merits[:, 1:].unflatten(1, (fingers, joints))[..., None, :] - LIKELIHOOD / 2 * square  # (B, 5, 4, C, C)
    merit, ways = gains[:, :, 0].max(dim=2).values, []  # of the best chain that ends in each candidate: (B, 5, C)
    for joint in range(1, joints):
        merit, way = (merit[..., None] + gains[:, :, joint]).max(dim=2)
        ways.append(way)
    chosen = [merit.argmax(-1, keepdim=True)]  # of the tips, (B, 5, 1)
    for way in reversed(ways):
        chosen.insert(0, way.gather(-1, chosen[0]))
    chosen = torch.cat(chosen, dim=-1).flatten(1)  # (B, 20)
    return torch.cat((torch.zeros_like(chosen[:, :1]), chosen), dim=1)
