"""Peaks that fit together: of the highest peaks of each heatmap, those that make fingers with likely bones.

A network that is not sure which finger it sees draws two peaks into a heatmap, and the higher one may lie on the
neighbour. A keypoint by itself can't know better; its finger can, because a bone that leads to the neighbour's tip is
too long or points aside. So every finger takes the chain of peaks, from its knuckle to its tip, with the highest sum of
log heights and bones' log likelihoods. Dynamic programming finds it without trying all chains (Felzenszwalb and
Huttenlocher, "Pictorial Structures for Object Recognition", IJCV 2005).

Bones are only alike in crops that are turned until the hand points up. There, a bone from (x, y) to (x + a, y + b) has
a of mean 0, since left and right hands mirror each other, and b of a mean of its own; both are taken as normal.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from handpose_lib.framing import Framing, warp_keypoints
from handpose_lib.keypoints import BONES, FINGERS, KEYPOINT_NAMES

Bones = tuple[
    tuple[float, float, float], ...
]  # of each of BONES: mean of b, spread of a, spread of b; shares of a side

CANDIDATES = 3  # peaks of each heatmap; in 98 of 100 maps the true one is among them
LIKELIHOOD = 0.1  # what a bone's log likelihood counts against a peak's log height
LOWEST = 0.05  # height at which a further peak is one


def fit_bones(keypoints: Tensor, framing: Framing) -> Bones:
    """How long bones are, and where they point, in crops around these hands.

    Args:
        keypoints: (N, 21, 2) in px of any pictures.
        framing: of the crops, which are upright.

    Returns:
        For each of BONES the mean along the hand, the spread across and the spread along, as shares of the crop's side.

    Raises:
        ValueError: crops that are not upright, no hands, or hands of one shape alone.
    """
    if not framing.upright:
        raise ValueError("bones are only alike in upright crops, and this framing turns none")
    crops = warp_keypoints(keypoints, framing.around(keypoints)) / framing.image_size
    parents, children = (list(each) for each in zip(*BONES, strict=True))
    offsets = crops[:, children] - crops[:, parents]  # (N, 20, 2)
    across = offsets[..., 0].square().mean(0).sqrt()
    mean = offsets[..., 1].mean(0)
    along = (offsets[..., 1] - mean).square().mean(0).sqrt()
    found = torch.stack((mean, across, along), dim=-1)
    if not bool((found[:, 1:] > 0).all()):  # also where there are none, and all is NaN
        raise ValueError("the spread of bones can't be told from these hands: give more, in other poses")
    return tuple(tuple(each) for each in found.tolist())


def chained_peaks(heatmaps: Tensor, bones: Bones) -> tuple[Tensor, Tensor]:
    """One peak per heatmap, such that the bones between them are likely.

    Args:
        heatmaps: (B, 21, H, W), finite, of upright crops.
        bones: what `fit_bones` found.

    Returns:
        The pixels (B, 21, 2), integers, x and y, and the heights (B, 21) of the peaks.
    """
    if heatmaps.shape[1] != len(KEYPOINT_NAMES) or len(bones) != len(BONES):
        raise ValueError(
            f"the bones of a hand need heatmaps (B, {len(KEYPOINT_NAMES)}, H, W) and {len(BONES)} entries, not "
            f"{tuple(heatmaps.shape)} and {len(bones)}"
        )
    rows, columns = heatmaps.shape[-2:]
    peaks = torch.where(heatmaps >= max_pool2d(heatmaps, 3, stride=1, padding=1), heatmaps, -1).flatten(2)
    heights, index = peaks.topk(min(CANDIDATES, rows * columns), dim=-1)  # (B, 21, C)
    pixels = torch.stack((index % columns, index // columns), dim=-1)  # (B, 21, C, 2)
    highest, others = heights.clamp(min=LOWEST).log().tensor_split([1], dim=-1)
    merits = torch.cat((highest, torch.where(heights[..., 1:] > LOWEST, others, -torch.inf)), dim=-1)
    chosen = _best_chains(pixels.to(heatmaps.dtype), merits, bones, max(rows, columns))
    pixels = pixels.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)
    return pixels, heights.gather(2, chosen[..., None]).squeeze(2)


def _best_chains(places: Tensor, merits: Tensor, bones: Bones, side: int) -> Tensor:
    """Which candidate each keypoint takes: places (B, 21, C, 2), log heights (B, 21, C) -> (B, 21)."""
    fingers, joints = len(FINGERS), len(BONES) // len(FINGERS)
    mean, across, along = places.new_tensor(bones).view(fingers, joints, 3).unbind(-1)  # (5, 4) each
    wrist = places[:, :1, :1].expand(-1, fingers, -1, -1)  # the highest: what the fingers begin at
    places = places[:, 1:].unflatten(1, (fingers, joints))  # (B, 5, 4, C, 2)
    merits = merits[:, 1:].unflatten(1, (fingers, joints))  # (B, 5, 4, C)
    before, merit, ways = wrist, 0.0, []
    for joint in range(joints):
        offset = (places[:, :, joint, None] - before[..., None, :]) / side  # (B, 5, C of before, C, 2)
        a = offset[..., 0] / across[:, joint, None, None]
        b = (offset[..., 1] - mean[:, joint, None, None]) / along[:, joint, None, None]
        chains = merit - LIKELIHOOD / 2 * (a.square() + b.square())
        best, way = chains.max(dim=2)  # over the candidates before
        merit = (best + merits[:, :, joint])[..., None]  # (B, 5, C, 1)
        before = places[:, :, joint]
        ways.append(way)
    last = merit.squeeze(-1).argmax(-1)  # (B, 5)
    chosen = [last]
    for way in reversed(ways[1:]):
        last = way.gather(-1, last[..., None]).squeeze(-1)
        chosen.append(last)
    chosen = torch.stack(chosen[::-1], dim=-1).flatten(1)  # (B, 20)
    return torch.cat((torch.zeros_like(chosen[:, :1]), chosen), dim=1)
