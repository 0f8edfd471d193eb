"""From a network's heatmaps to points of its input: what a network says of itself, and how its answer is decoded."""

from typing import Any

from torch import Tensor, nn

from handpose_lib.chains import Bones, chained_peaks, has_bones, in_closer_crops
from handpose_lib.framing import Framing, warp_keypoints
from handpose_lib.heatmaps import decode_heatmaps
from handpose_lib.keypoints import KEYPOINT_NAMES

ALIKE = 1.25  # in crops up to so many times as close, bones count as equally long: they say little more than an order


def check_keypoints(model: nn.Module) -> None:
    """ValueError for a network that says that it finds another number of keypoints than a hand has here."""
    count = getattr(model, "num_keypoints", len(KEYPOINT_NAMES))
    if count != len(KEYPOINT_NAMES):
        raise ValueError(f"this network finds {count} keypoints, and a hand has {len(KEYPOINT_NAMES)}: give another")


def framing_of(model: nn.Module) -> Framing:
    """How a network wants its pictures; ValueError for one that does not say."""
    framing = getattr(model, "framing", None)
    if not isinstance(framing, Framing):
        raise ValueError(
            f"this {type(model).__name__} does not say how it sees a picture: set its `framing`, "
            "for example model.framing = Framing(image_size=128)"
        )
    return framing


def sigma_of(model: nn.Module) -> float:
    """Width of the peaks in a network's heatmaps, px of them; 2, as in the course, for one that does not say."""
    return getattr(model, "heatmap_sigma", 2.0)


def decoding_of(model: nn.Module, framing: Framing | None = None) -> dict[str, Any]:
    """What `points_on_input` is told of a network: the width of its peaks, and how long bones are.

    Args:
        model: its `heatmap_sigma` and `bones`, where it has them.
        framing: of the crops; None: the network's own. In closer crops, bones are as much longer. In much wider ones,
            or such as are not turned as its own are, they say nothing.
    """
    own = getattr(model, "framing", framing)
    bones = getattr(model, "bones", ())
    if framing is not None and (framing.upright != own.upright or own.crop > ALIKE * framing.crop):
        bones = ()
    elif framing is not None and own.crop and framing.crop > ALIKE * own.crop:
        bones = in_closer_crops(bones, framing.crop / own.crop)
    return {"sigma": sigma_of(model), "bones": bones}


def points_on_input(
    heatmaps: Tensor, framing: Framing, method: str = "local_peak", sigma: float = 2.0, bones: Bones = ()
) -> tuple[Tensor, Tensor]:
    """Decode heatmaps of any size to px of the network's input.

    Args:
        heatmaps: (B, K, H, W), which cover the network's input.
        framing: of the network; its `image_size` is the side of the input.
        method: see `decode_heatmaps`.
        sigma: width of the peaks, px of the heatmaps, for the methods that ask for it.
        bones: of the network's hands, for `local_peak` in crops that are turned upright.

    Returns:
        keypoints (B, K, 2) in px of the input and confidence (B, K).
    """
    options: dict[str, Any] = {"sigma": sigma} if method in ("local_peak", "dark") else {}
    if method == "local_peak" and framing.upright and has_bones(bones):
        options["start"] = chained_peaks(heatmaps, bones)
    found, confidence = decode_heatmaps(heatmaps, method, **options)
    to_input = framing.from_heatmaps(heatmaps.shape[-2:]).to(found)
    return warp_keypoints(found, to_input), confidence
