"""From any photograph of a hand to 21 keypoints in its own pixels: look at the whole, then look closer.

    predictor = HandPosePredictor.from_pretrained()
    keypoints, confidence = predictor("my_hand.jpg")      # (1, 21, 2) px, (1, 21)

There is no hand detector here: one hand a picture is expected, anywhere and of any size in it. The first pass sees
the whole picture, the second a square around what the first one found. Told in `notebooks/08_inference.ipynb`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.augment import inverse, normalize, warp_keypoints
from handpose_lib.evaluate import half_precision
from handpose_lib.heatmaps import decode_heatmaps
from handpose_lib.storage import checkout_root
from handpose_lib.unet import load_model

Picture = np.ndarray | Tensor | str | Path
WEIGHTS = "handpose.safetensors"
_INSTALLED = Path(__file__).resolve().parent / "bundled" / WEIGHTS
SMALLEST_SIDE = 16.0  # px; a square that is looked at is never smaller


def bundled_weights() -> Path:
    """The weights in `data/weights/` of a checkout, or in the installed package; FileNotFoundError without them."""
    root = checkout_root()
    candidates = [root / "data" / "weights" / WEIGHTS] if root else []
    candidates.append(_INSTALLED)
    for path in candidates:
        if path.is_file():
            return path
    places = " nor ".join(str(path) for path in candidates)
    raise FileNotFoundError(f"the bundled weights are not at {places}: reinstall the package, or restore data/")


class HandPosePredictor:
    """Keypoints of one hand in each picture.

    Args:
        model: a trained U-Net; see `from_pretrained`.
        device: where it runs; the model's own device when None.
        passes: how often it looks; each pass after the first takes a square around what the one before found.
        crop: share of that square that the box of the keypoints fills; the bundled weights were trained around 0.55.
        mirrored: look at each picture and at its mirror image, and take the mean of both heatmaps.
        turned: look at it in all four quarter turns as well, which takes four times as long.
        batch_size: pictures that go through the network at once.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        passes: int = 2,
        crop: float = 0.55,
        mirrored: bool = True,
        turned: bool = False,
        batch_size: int = 32,
    ):
        if passes < 1 or not 0 < crop <= 1 or batch_size < 1:
            raise ValueError(
                f"passes and batch_size must be at least 1 and crop in (0, 1], not {passes}, {batch_size}, {crop}"
            )
        self.device = torch.device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.size = int(getattr(model, "image_size", 128))
        self.passes, self.crop, self.mirrored, self.turned = passes, crop, mirrored, turned
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, device: torch.device | str | None = None, **options: Any
    ) -> "HandPosePredictor":
        """The predictor with the bundled weights, or with those that `save_model` wrote at `path`.

        `options` are those of the class. No network is needed. FileNotFoundError or ValueError when there are no such
        weights.
        """
        model, _ = load_model(path or bundled_weights(), device or "cpu")
        return cls(model, **options)

    def __call__(
        self, images: Picture | Sequence[Picture], boxes: np.ndarray | Tensor | Sequence | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keypoints (N, 21, 2) float32 in px of each picture, and a confidence (N, 21) from 0 to 1, on the CPU.

        Args:
            images: one picture or a list: a file, an RGB array (H, W, 3) or tensor (3, H, W), uint8, of any size.
            boxes: (N, 4) left, top, right, bottom in px, where a detector says that the hands are; the first pass then
                looks there instead of at the whole picture.

        Raises: TypeError, ValueError, FileNotFoundError name the picture that can't be used, and why.
        """
        pictures = _pictures(images)
        squares = [_whole(picture) for picture in pictures] if boxes is None else self._around_boxes(boxes, pictures)
        keypoints, confidence = self._look(pictures, squares)
        for _ in range(self.passes - 1):
            squares = [self._square(points.numpy()) for points in keypoints]
            closer, certain = self._look(pictures, squares)
            # Where a closer look sees less than the one before, the first one stands.
            better = certain.mean(1) > 0.7 * confidence.mean(1)
            keypoints = torch.where(better[:, None, None], closer, keypoints)
            confidence = torch.where(better[:, None], certain, confidence)
        return keypoints, confidence

    def _around_boxes(self, boxes: Any, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4) if len(boxes) else np.empty((0, 4))
        if len(boxes) != len(pictures) or not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ValueError(f"boxes must be ({len(pictures)}, 4), left < right and top < bottom, one a picture")
        return [self._square(box.reshape(2, 2)) for box in boxes]

    def _square(self, points: np.ndarray) -> tuple[np.ndarray, float]:
        """Centre (2,) and side of the square in which the box of points (K, 2) has the wanted share."""
        low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
        return (low + high) / 2, max(float((high - low).max()) / self.crop, SMALLEST_SIDE)

    @torch.inference_mode()
    def _look(self, pictures: list[np.ndarray], squares: list[tuple[np.ndarray, float]]) -> tuple[Tensor, Tensor]:
        """Keypoints (N, 21, 2) in px of the pictures and confidence (N, 21) from one square (centre, side) in each."""
        keypoints, confidence = [], []
        for first in range(0, len(pictures), self.batch_size):
            part = slice(first, first + self.batch_size)
            crops, matrices = zip(
                *(square_crop(p, *s, self.size) for p, s in zip(pictures[part], squares[part], strict=True)),
                strict=True,
            )
            batch = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
            found, peak = decode_heatmaps(self._heatmaps(normalize(batch.float() / 255)))
            to_picture = inverse(torch.from_numpy(np.stack(matrices)))  # (B, 2, 3) float64
            keypoints.append(warp_keypoints(found.cpu().double(), to_picture).float())
            confidence.append(peak.cpu().clamp(0, 1))
        return torch.cat(keypoints), torch.cat(confidence)

    def _heatmaps(self, images: Tensor) -> Tensor:
        """Mean heatmaps (B, 21, S, S) float32 over all views of images (B, 3, S, S), each turned back."""
        half = half_precision(self.device)
        total, count = 0, 0
        for turns in range(4 if self.turned else 1):
            for flipped in (False, True) if self.mirrored else (False,):
                view = torch.rot90(images, turns, (2, 3))
                view = view.flip(-1) if flipped else view
                with torch.autocast(self.device.type, half, enabled=half is not None):
                    seen = self.model(view.contiguous(memory_format=torch.channels_last)).float()
                seen = seen.flip(-1) if flipped else seen
                total, count = total + torch.rot90(seen, -turns, (2, 3)), count + 1
        return total / count


def square_crop(image: np.ndarray, centre: np.ndarray, side: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of an image (H, W, 3) uint8, resized to (size, size, 3), black where it reaches beyond the image.

    Returns it with the map (2, 3) from the image's pixels to its own. What is much larger than `size` is first shrunk
    by the mean over areas: to sample it at a few points would turn fine texture into noise.
    """
    scale = size / side
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    matrix[:, 2] = (size - 1) / 2 - scale * np.asarray(centre, np.float64)
    height, width = image.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(centre - side / 2) - 2, 0, (width - 1, height - 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(centre + side / 2) + 3, (left + 1, top + 1), (width, height)))
    part = image[top:bottom, left:right]
    shrink = np.ones(2)
    if scale < 1:
        wanted = np.maximum(np.round(np.array(part.shape[1::-1]) * scale), 1)
        shrink = wanted / part.shape[1::-1]
        part = cv2.resize(part, tuple(wanted.astype(int).tolist()), interpolation=cv2.INTER_AREA)
    # Pixel u of the image is (u - left + 1/2) * shrink - 1/2 in the part, so the part's v is this in the image:
    back = np.array([[1 / shrink[0], 0, 0.5 / shrink[0] - 0.5 + left], [0, 1 / shrink[1], 0.5 / shrink[1] - 0.5 + top]])
    from_part = np.hstack([matrix[:, :2] @ back[:, :2], matrix[:, :2] @ back[:, 2:] + matrix[:, 2:]])
    crop = cv2.warpAffine(np.ascontiguousarray(part), from_part, (size, size), flags=cv2.INTER_LINEAR)
    return crop, matrix


def _whole(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and side of the smallest square around an image."""
    height, width = image.shape[:2]
    return np.array([(width - 1) / 2, (height - 1) / 2]), float(max(height, width))


def _pictures(images: Any) -> list[np.ndarray]:
    """All pictures as uint8 (H, W, 3)."""
    single = isinstance(images, str | Path) or (isinstance(images, np.ndarray | Tensor) and images.ndim == 3)
    entries = [images] if single else list(images)
    if not entries:
        raise ValueError("no pictures were given")
    return [_picture(entry, f"picture {number}") for number, entry in enumerate(entries)]


def _picture(entry: Any, name: str) -> np.ndarray:
    if isinstance(entry, str | Path):
        return read_picture(entry)
    if isinstance(entry, Tensor):
        entry = entry.detach().cpu().numpy()
        entry = entry.transpose(1, 2, 0) if entry.ndim == 3 and entry.shape[0] == 3 else entry
    if not isinstance(entry, np.ndarray):
        raise TypeError(f"{name} is a {type(entry).__name__}: give a path, an array (H, W, 3) or a tensor (3, H, W)")
    if entry.ndim != 3 or entry.shape[2] != 3 or 0 in entry.shape:
        raise ValueError(f"{name} has the shape {entry.shape}: an RGB array is (H, W, 3), a tensor (3, H, W)")
    if entry.dtype != np.uint8:
        raise TypeError(f"{name} is {entry.dtype}: give uint8 from 0 to 255 (a float image from 0 to 1: times 255)")
    return entry


def read_picture(path: str | Path) -> np.ndarray:
    """A picture file as RGB uint8 (H, W, 3), turned as its EXIF data say; grey and transparent ones become RGB."""
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ValueError(f"{path} is no picture that OpenCV can read: save it as JPEG or PNG")
    return np.ascontiguousarray(image[..., ::-1])
