"""Augmentation: one affine map per sample turns image and keypoints together; one colour matrix changes its light.

Everything works on whole batches and on any device. A map is a (2, 3) matrix from *input* to *output* pixels, the
direction in which keypoints move, as in `framing.py`, which applies them. Explained in
`notebooks/03_augmentation.ipynb`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from handpose_lib.fields import check_fields
from handpose_lib.framing import warp_images


@dataclass(frozen=True)
class Augmentation:
    """How far a sample may be changed; each range is symmetric about "no change"."""

    rotation: float = 180.0  # degrees: a hand in FreiHAND points any way, so every angle is as likely
    rotation_focus: float = 1.0  # 2: half of the angles within a quarter of the range, for hands turned upright before
    scale: float = 1.35  # from 1/scale to scale: boxes of 33-39 % of the image grow and shrink to 25-53 %
    shift: float = 0.10  # of the image's side: the hand need not be centred
    mirror: float = 0.5  # probability; all labels are right hands, and this is what makes left hands work
    brightness: float = 0.30  # added gain, relative
    contrast: float = 0.30  # about mid-grey, relative
    saturation: float = 0.40  # towards or away from grey, relative
    tint: float = 0.12  # gain of each channel on its own: cameras differ in white balance
    # What makes renders serve for photographs (`appearance.py`); 0 where the training pictures are photographs.
    spectrum: float = 0.0  # strength of noise on the amplitude spectrum
    wear: float = 0.0  # from 0 to 1: how many are blurred, grey, noisy, or of another gamma
    occluders: float = 0.0  # probability that a thing lies in front, for each of three
    untouched: float = 0.1  # share that none of these three changes

    def __post_init__(self) -> None:
        check_fields(self)
        if not (1 <= self.scale <= 10 and 0 < self.rotation_focus < math.inf and 0 <= self.mirror <= 1):
            raise ValueError(
                f"scale must be from 1 to 10, rotation_focus positive and mirror a probability, not {self.scale}, "
                f"{self.rotation_focus} and {self.mirror}"
            )
        for name in ("rotation", "spectrum"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, it must not be negative")
        for name in ("shift", "brightness", "contrast", "saturation", "tint", "wear", "occluders", "untouched"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be from 0 to 1")

    @property
    def disturbs(self) -> bool:
        """Whether `appearance.disturb` has anything to do."""
        return max(self.spectrum, self.wear, self.occluders) > 0


NO_AUGMENTATION = Augmentation(0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the increment of SplitMix64
SPREAD = 0.25  # about the standard deviation of RGB in [0, 1]
NORMALIZED_LIMITS = (-0.5 / SPREAD, 0.5 / SPREAD)  # where `normalize` puts 0 and 1
DRAWS = 11  # uniform numbers that one sample needs: 5 for its affine map, 6 for its colours


def keyed_uniform(seed: int, epoch: int, ids: Tensor, count: int = DRAWS) -> Tensor:
    """Uniform numbers in [0, 1) that depend on (seed, epoch, id) alone: ids (B,) int64 -> (B, count) float32.

    A sample's numbers are so the same in any batch order and on any number of processes. The bits are those of
    SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    columns = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        state = _splitmix64(_splitmix64(np.uint64(seed)) + np.uint64(epoch))
        state = _splitmix64(state + ids.cpu().numpy().astype(np.uint64))  # (B,)
        bits = _splitmix64(state[:, None] + columns * GOLDEN_GAMMA)  # (B, count)
    return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) / 2**24)


def _splitmix64(x: np.ndarray | np.uint64) -> np.ndarray | np.uint64:
    x = x + GOLDEN_GAMMA
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def affine_matrices(uniform: Tensor, settings: Augmentation, size: tuple[int, int]) -> Tensor:
    """Random maps from input to output pixels: uniform (B, >= 5) in [0, 1), size (H, W) -> (B, 2, 3) float32.

    Mirror, scale and turn about the image's centre, then shift. (0.5, ..., 0.5) gives the identity.
    """
    centred = 2 * uniform.double() - 1  # (B, >= 5) in [-1, 1)
    turn = centred[:, 0].abs() ** settings.rotation_focus * centred[:, 0].sign()
    angle = turn * math.radians(settings.rotation)
    scale = torch.exp(centred[:, 1] * math.log(settings.scale))
    flip = torch.where(uniform[:, 2] < settings.mirror, -1.0, 1.0).double()
    height, width = size
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64, device=uniform.device)
    shift = centred[:, 3:5] * settings.shift * centre.new_tensor([width, height])  # (B, 2)

    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    linear = torch.stack((torch.stack((cos * flip, -sin), -1), torch.stack((sin * flip, cos), -1)), -2)  # (B, 2, 2)
    offset = centre + shift - linear @ centre  # the centre goes to the centre, plus the shift
    return torch.cat((linear, offset[..., None]), dim=-1).float()


def colour_matrices(uniform: Tensor, settings: Augmentation) -> Tensor:
    """Random colour maps on RGB in [0, 1]: uniform (B, >= 6) in [0, 1) -> (B, 3, 4), a 3x3 matrix and an offset."""
    centred = 2 * uniform - 1
    brightness = 1 + centred[:, 0] * settings.brightness
    contrast = 1 + centred[:, 1] * settings.contrast
    saturation = (1 + centred[:, 2] * settings.saturation)[:, None, None]
    tint = 1 + centred[:, 3:6] * settings.tint  # (B, 3)
    grey = uniform.new_tensor([0.299, 0.587, 0.114]).expand(3, 3)  # luma of ITU-R BT.601 in every row
    mix = saturation * torch.eye(3, device=uniform.device) + (1 - saturation) * grey  # (B, 3, 3)
    linear = tint[:, :, None] * mix * (brightness * contrast)[:, None, None]
    offset = (0.5 * (1 - contrast))[:, None, None].expand(-1, 3, 1)
    return torch.cat((linear, offset), dim=-1)


def jitter_colours(images: Tensor, matrices: Tensor, limits: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Images (B, 3, H, W), matrices (B, 3, 4) -> (B, 3, H, W), clipped to the limits."""
    flat = images.flatten(2)  # (B, 3, H * W)
    return torch.baddbmm(matrices[..., 3:], matrices[..., :3], flat).clamp_(*limits).view(images.shape)


def for_bytes(matrices: Tensor) -> Tensor:
    """Colour maps on [0, 1] -> maps that take RGB in 0..255 and end normalised: (B, 3, 4) -> (B, 3, 4).

    So jitter and `normalize` are one pass over the pixels; the limits [0, 1] become `NORMALIZED_LIMITS`.
    """
    return torch.cat((matrices[..., :3] / 255 / SPREAD, normalize(matrices[..., 3:])), dim=-1)


def warp_and_recolour(
    images: Tensor, matrices: Tensor, colours: Tensor, size: tuple[int, int], memory: Tensor | None = None
) -> Tensor:
    """`warp_images` and `jitter_colours` in one: from bytes to what the network sees.

    The weights of a bilinear mean add up to 1, so channels can be mixed before the warp as well as after it. Only the
    offset waits: what lies beyond the image is black first and recoloured then. All that comes before the warp can so
    be kept in memory that is used again in every batch, and all that follows is done in place: on a CPU, fresh memory
    for these steps would cost as much as the steps themselves.

    Args:
        images: (B, 3, H, W) uint8.
        matrices: (B, 2, 3) as for the keypoints.
        colours: (B, 3, 4), as `for_bytes` makes them.
        size: (H, W) of the output.
        memory: (2, >= B, 3, H, W) float32 to work in; None takes new memory.

    Returns:
        (B, 3, H, W) of `size`, float32, normalised, within `NORMALIZED_LIMITS`.
    """
    if memory is None:
        memory = colours.new_empty(2, *images.shape)
    source, mixed = memory[:, : len(images)]
    source.copy_(images)
    torch.bmm(colours[..., :3], source.flatten(2), out=mixed.flatten(2))
    warped = warp_images(mixed, matrices, size)
    return warped.add_(colours[..., 3:, None]).clamp_(*NORMALIZED_LIMITS)


def normalize(images: Tensor) -> Tensor:
    """What the network sees: RGB in [0, 1] -> about zero mean and unit spread, any shape."""
    return (images - 0.5) / SPREAD
