"""How a picture becomes the network's square, and how points come back from it.

A `Framing` says which part of a picture the network sees. Training, validation, evaluation and prediction all ask the
one that travels with the model. It does so by affine maps: (2, 3) matrices from *input* to *output* pixels, the
direction in which keypoints move. Pixel centres have whole-number coordinates (drawn in `keypoints.py`), so the centre
of an image of side S is (S - 1) / 2. Explained in `notebooks/03_augmentation.ipynb` and `notebooks/08_inference.ipynb`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from handpose_lib.fields import as_numbers, check_fields, is_positive
from handpose_lib.keypoints import hand_direction

LARGEST_INPUT = 4096  # px


@dataclass(frozen=True)
class Framing:
    """What a network sees of a picture: the whole of it, or a square around the hand.

    Args:
        image_size: side S of the network's input, px.
        crop: share of the square that the longer side of the hand's box fills, the hand in the middle; 0: the whole
            picture, resized to the square.
        upright: crops are turned until the fingers point up.

    Raises:
        ValueError: a size that is no whole number or below 1, a crop that is no share, or upright without a crop.

    >>> Framing(64).whole((224, 224))
    tensor([[ 0.2857,  0.0000, -0.3571],
            [ 0.0000,  0.2857, -0.3571]])
    """

    image_size: int = 128
    crop: float = 0.0
    upright: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.image_size <= LARGEST_INPUT:
            raise ValueError(f"image_size is {self.image_size}, it must be from 1 to {LARGEST_INPUT}")
        if not 0 <= self.crop < 1:  # at 1, a keypoint that ends the box would lie on the edge, and count as off
            raise ValueError(f"crop is {self.crop}, it is a share of the square: it must be from 0 to below 1")
        if self.upright and not self.crop:
            raise ValueError("upright turns the crops, so it needs a crop above 0")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return (self.image_size, self.image_size)

    def whole(self, from_size: tuple[int, int]) -> Tensor:
        """The map from a whole picture of size (H, W) to the network's input: (2, 3) float32."""
        return resize_matrix(from_size, self.size)

    def around(self, keypoints: Tensor, smallest: float = 1.0) -> Tensor:
        """Maps from pictures to crops around their hands.

        Args:
            keypoints: (B, 21, 2) in px of the pictures.
            smallest: a box shorter than this many pixels is taken for one of that length.

        Returns:
            (B, 2, 3).

        Raises:
            ValueError: this framing shows whole pictures.
        """
        if not self.crop:
            raise ValueError("this framing shows whole pictures: crops need a crop above 0")
        keypoints = as_points(keypoints)
        up = hand_direction(keypoints) if self.upright else None
        return crop_matrices(keypoints, self.crop, self.size, up, smallest)

    def from_heatmaps(self, heatmap_size: tuple[int, int]) -> Tensor:
        """The map from pixels of heatmaps of size (H, W) to those of the network's input: (2, 3) float32.

        Heatmaps may be smaller than the input; they cover the same square, so this is the map of a resize.
        """
        return resize_matrix(heatmap_size, self.size)

    def to_heatmaps(self, heatmap_size: tuple[int, int]) -> Tensor:
        """The map from pixels of the network's input to those of heatmaps of size (H, W): (2, 3) float32."""
        return resize_matrix(self.size, heatmap_size)

    def to_json(self) -> dict[str, Any]:
        """The framing as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Framing":
        """The framing that `to_json` wrote; other entries are passed over, and what is missing has its default."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


def resize_matrix(from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """The map of a plain resize, u -> (u + 0.5) * s - 0.5, sizes as (H, W): (2, 3) float32; ValueError for others."""
    for size in (from_size, to_size):
        _check_size(size)
    sy, sx = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return torch.tensor([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5]])


def crop_matrices(
    keypoints: Tensor, share: float, size: tuple[int, int], up: Tensor | None = None, smallest: float = 1.0
) -> Tensor:
    """Maps that bring the middle of each hand's box to the centre and its longer side to `share` of the image.

    Args:
        keypoints: (B, K, 2) in input pixels.
        share: of the shorter side of the output.
        size: (H, W) of the output.
        up: directions (B, 2) that shall point up on the output, such as `keypoints.hand_direction`; None turns nothing.
        smallest: a box shorter than this many input pixels is taken for one of that length.

    Returns:
        (B, 2, 3).

    Raises:
        ValueError: a share or a size that can't be meant, keypoints of another shape; on a CPU, any that is not finite.
    """
    keypoints = as_points(keypoints)
    _check_size(size)
    if not is_positive(share) or share > 1 or not is_positive(smallest):
        raise ValueError(f"share must be above 0 and at most 1, and smallest above 0, not {share} and {smallest}")
    if keypoints.dim() != 3 or keypoints.shape[-1] != 2:
        raise ValueError(f"keypoints must be (B, K, 2), not {tuple(keypoints.shape)}")
    if keypoints.device.type == "cpu" and not bool(keypoints.isfinite().all()):  # to ask a GPU would be to wait for it
        raise ValueError("keypoints must be finite, a hand with NaN has no box: see keypoints.with_gaps_filled")
    if up is None:
        up = keypoints.new_tensor([0.0, -1.0]).expand(len(keypoints), 2)
    if up.shape != (len(keypoints), 2):
        raise ValueError(f"up must be ({len(keypoints)}, 2), a direction per hand, not {tuple(up.shape)}")
    x, y = torch.where(up.norm(dim=-1, keepdim=True) > 0, up, up.new_tensor([0.0, -1.0])).unbind(-1)
    length = torch.hypot(x, y)
    # The rotation that takes (x, y) to (0, -length).
    turn = torch.stack((torch.stack((-y, x), -1), torch.stack((-x, -y), -1)), -2) / length[:, None, None]
    turned = keypoints @ turn.transpose(-1, -2)  # (B, K, 2)
    low, high = turned.amin(1), turned.amax(1)  # (B, 2)
    scale = share * min(size) / (high - low).amax(-1).clamp(min=smallest)  # (B,)
    centre = keypoints.new_tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    offset = centre - scale[:, None] * (low + high) / 2
    return torch.cat((scale[:, None, None] * turn, offset[..., None]), dim=-1)


def as_points(keypoints: Any) -> Tensor:
    """Keypoints of any kind as a tensor of fractions; ValueError for what is none."""
    points = as_numbers("keypoints", keypoints)
    return points if points.is_floating_point() else points.float()


def _check_size(size: tuple[int, int]) -> None:
    if not isinstance(size, Sequence) or len(size) != 2 or not all(map(is_positive, size)):
        raise ValueError(f"a size is (H, W), two positive numbers of pixels, not {size}")


def compose(second: Tensor, first: Tensor) -> Tensor:
    """The map that applies `first` and then `second`: (B, 2, 3) or (2, 3) each -> (B, 2, 3) or (2, 3)."""
    _check_pair(first, second)
    linear = second[..., :2] @ first[..., :2]
    offset = second[..., :2] @ first[..., 2:] + second[..., 2:]
    return torch.cat((linear, offset), dim=-1)


def inverse(matrices: Tensor) -> Tensor:
    """The maps back: (B, 2, 3) or (2, 3) -> the same shape; ValueError for others, and on a CPU where there is none."""
    matrices = as_numbers("matrices", matrices)
    if matrices.shape[-2:] != (2, 3):
        raise ValueError(f"a map is (2, 3), from pixels to pixels, not {tuple(matrices.shape)}")
    exact = matrices.to(torch.float32 if matrices.device.type == "mps" else torch.float64)
    if matrices.device.type == "cpu" and not bool((exact[..., :2].det().abs() > 0).all() & exact.isfinite().all()):
        raise ValueError("a map that brings all points to one line or place, or holds NaN, has no way back")
    linear = torch.linalg.inv(exact[..., :2])
    return torch.cat((linear, -linear @ exact[..., 2:]), dim=-1).to(matrices.dtype)


def _check_pair(first: Tensor, second: Tensor) -> None:
    """ValueError for what are no two maps (2, 3), or batches of another number."""
    batches = {len(maps) for maps in (first, second) if maps.ndim == 3} - {1}
    if first.shape[-2:] != (2, 3) or second.shape[-2:] != (2, 3) or len(batches) > 1:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"maps must be (B, 2, 3) or (2, 3), of one B, not {shapes}")


def warp_keypoints(keypoints: Tensor, matrices: Tensor) -> Tensor:
    """Keypoints (B, K, 2) in input pixels, matrices (B, 2, 3) or (2, 3) -> (B, K, 2) in output pixels."""
    apart = matrices.ndim == keypoints.ndim == 3 and 1 != len(matrices) != len(keypoints) != 1
    if matrices.shape[-2:] != (2, 3) or keypoints.shape[-1] != 2 or apart:
        raise ValueError(
            f"a map is (2, 3) and keypoints (K, 2), not {tuple(matrices.shape)} and {tuple(keypoints.shape)}"
        )
    return keypoints @ matrices[..., :2].transpose(-1, -2) + matrices[..., None, :, 2]


def warp_images(images: Tensor, matrices: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Images (B, C, H, W) float, matrices (B, 2, 3) as for the keypoints -> (B, C, H, W) of `size`, black beyond them.

    `grid_sample` asks the other way round: where does each *output* pixel come from? So the matrix is inverted here.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be (B, C, H, W) and float, not {tuple(images.shape)} {images.dtype}")
    if matrices.shape != (len(images), 2, 3):
        raise ValueError(f"matrices must be ({len(images)}, 2, 3), one per image, not {tuple(matrices.shape)}")
    height, width = images.shape[-2:]
    out_height, out_width = size or (height, width)
    exact = torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    linear, offset = matrices[:, :, :2].to(exact), matrices[:, :, 2:].to(exact)
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    # Written out: `torch.linalg.inv` asks the GPU whether it went well, and the processor would wait for the answer.
    inverse = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2) / (a * d - b * c)[:, None, None]
    # Pixel u of a side of S is (2u + 1) / S - 1 in the coordinates of grid_sample(align_corners=False).
    to_unit = torch.tensor([2 / width, 2 / height], dtype=exact, device=images.device)[:, None]
    linear, offset = inverse * to_unit, (0.5 - inverse @ offset) * to_unit - 1  # (B, 2, 2), (B, 2, 1)
    x = torch.arange(out_width, device=images.device, dtype=images.dtype)
    y = torch.arange(out_height, device=images.device, dtype=images.dtype)
    linear, offset = linear.to(images.dtype), offset.to(images.dtype)
    along_x = linear[:, :, :1, None] * x  # (B, 2, 1, W)
    along_y = linear[:, :, 1:, None] * y[:, None] + offset[..., None]  # (B, 2, H, 1)
    grid = (along_x + along_y).permute(0, 2, 3, 1)  # (B, H, W, 2), all x before all y in memory
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def on_image(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Which keypoints lie on an image of size (H, W): (B, K, 2) -> (B, K) bool. Those that do not are masked."""
    _check_size(size)
    height, width = size
    x, y = keypoints[..., 0], keypoints[..., 1]
    return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)


def cut(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The square that a similarity `matrix` (2, 3) brings to (size, size, 3), black where it reaches beyond the image.

    Where the square is larger than `size`, its part of the image (H, W, 3) is first shrunk by the mean over areas: to
    sample it at a few points would turn fine texture into noise.
    """
    if np.shape(matrix) != (2, 3) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
        raise ValueError(f"matrix must be a map (2, 3) that can be turned back, not {np.asarray(matrix).tolist()}")
    scale = float(np.hypot(*matrix[:, 0]))
    ends = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
    corners = (ends - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T  # of the square, in the image
    height, width = image.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0)) - 2, 0, (width - 1, height - 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 3, (left + 1, top + 1), (width, height)))
    part = image[top:bottom, left:right]
    shrink = np.ones(2)
    if scale < 1:
        wanted = np.maximum(np.round(np.array(part.shape[1::-1]) * scale), 1)
        shrink = wanted / part.shape[1::-1]
        part = cv2.resize(part, tuple(wanted.astype(int).tolist()), interpolation=cv2.INTER_AREA)
    # Pixel u of the image is (u - left + 1/2) * shrink - 1/2 in the part, so the part's v is this in the image:
    back = np.array([[1 / shrink[0], 0, 0.5 / shrink[0] - 0.5 + left], [0, 1 / shrink[1], 0.5 / shrink[1] - 0.5 + top]])
    from_part = np.hstack([matrix[:, :2] @ back[:, :2], matrix[:, :2] @ back[:, 2:] + matrix[:, 2:]])
    return cv2.warpAffine(np.ascontiguousarray(part), from_part, (size, size), flags=cv2.INTER_LINEAR)
