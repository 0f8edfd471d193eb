"""From any photograph of a hand to 21 keypoints in its own pixels: look at the whole, then look closer.

    predictor = HandPosePredictor.from_pretrained()
    keypoints, confidence = predictor("my_hand.jpg")      # (1, 21, 2) px, (1, 21)

There is no hand detector here: one hand per picture is expected, anywhere in it and turned any way. The first pass sees
the whole picture, in all four quarter turns; each further pass a square around what the one before found, turned until
the fingers point up, as the network saw most hands in training. Told in `notebooks/08_inference.ipynb`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.augment import normalize
from handpose_lib.devices import half_precision
from handpose_lib.framing import Framing, crop_matrices, cut, inverse, warp_keypoints
from handpose_lib.heatmaps import decode_heatmaps
from handpose_lib.pictures import as_array, is_pillows, picture_files, read_picture, read_reduced
from handpose_lib.storage import bundled_file
from handpose_lib.track import HandTracker, TrackedHand
from handpose_lib.unet import evaluating
from handpose_lib.weights import load_model

__all__ = ["HandPosePredictor", "bundled_weights", "framing_of", "picture_files", "points_on_input", "read_picture"]

Picture = np.ndarray | Tensor | str | Path | Callable
MOST_PIXELS_AT_ONCE = 64_000_000  # of the pictures of one batch: 192 MB
SMALLEST_BOX = 8.0  # px; nobody looks closer than that
CLOSER = 0.7  # where a closer look is less sure than this share of the look before, the look before stands
TURNS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))  # what points up in the first looks
GIVEN_BOX = 0.55  # share that a given box fills where the network saw whole pictures in training


def bundled_weights() -> Path:
    """The weights in `data/weights/` of a checkout, or in the installed package; FileNotFoundError without them."""
    return bundled_file("data/weights/handpose.safetensors")


class HandPosePredictor:
    """Keypoints of one hand in each picture.

    Args:
        model: a trained U-Net; see `from_pretrained`.
        device: where it runs; the model's own device when None.
        framing: how a closer look is cropped; the model's own when None.
        passes: how often it looks; each pass after the first takes a square around what the one before found. None:
            three times, or once where the framing shows whole pictures.
        turned: look at the whole picture in its four quarter turns, and keep the turn that the network is surest of.
            None: where the framing crops.
        mirrored: look at each view and at its mirror image, and take the mean of both heatmaps.
        method: how heatmaps become points, see `decode_heatmaps`.
        batch_size: pictures that go through the network at once.

    Raises:
        ValueError: passes or batch_size below 1, a crop above 1, several passes without a crop, a model that does not
            say how it is framed.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        framing: Framing | None = None,
        passes: int | None = None,
        turned: bool | None = None,
        mirrored: bool = True,
        method: str = "local_peak",
        batch_size: int = 32,
    ):
        self.framing = framing or framing_of(model)
        crops = self.framing.crop > 0
        self.passes = (3 if crops else 1) if passes is None else passes
        self.turned = crops if turned is None else turned
        if self.passes < 1 or self.framing.crop > 1 or batch_size < 1:
            raise ValueError(
                "passes and batch_size must be at least 1 and the framing's crop at most 1, "
                f"not {self.passes}, {batch_size} and {self.framing.crop}"
            )
        if self.passes > 1 and not crops:
            raise ValueError(
                f"passes is {self.passes}, but this network was trained on whole pictures: look once, or give a "
                "framing with a crop"
            )
        self.device = torch.device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device)
        self.mirrored, self.method, self.batch_size = mirrored, method, batch_size

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, device: torch.device | str | None = None, **options: Any
    ) -> "HandPosePredictor":
        """The predictor with the bundled weights, or with others.

        Args:
            path: a file that `save_model` wrote; None takes the bundled weights, which needs no network.
            device: None is the CPU.
            options: those of the class. The weights bring the framing that they were trained with.

        Raises:
            FileNotFoundError, ValueError: there are no such weights.
        """
        return cls(load_model(path or bundled_weights(), device or "cpu")[0], **options)

    def __call__(
        self, images: Picture | Sequence[Picture], boxes: np.ndarray | Tensor | Sequence | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keypoints (N, 21, 2) float32 in px of each picture, and a confidence (N, 21) from 0 to 1, on the CPU.

        Files are read when their turn comes, so a list of many need not fit in memory; large JPEGs are decoded small.

        Args:
            images: one picture or a list: a file, an RGB array (H, W, 3) or tensor (3, H, W), uint8, an image of
                Pillow's, of any size, or a function that returns one of these when its turn comes.
            boxes: (N, 4) left, top, right, bottom in px, where a detector says that the hands are; the first pass then
                looks there instead of at the whole picture.

        Raises:
            TypeError, ValueError, FileNotFoundError: a picture can't be used; they name it, and say why.
        """
        entries = _entries(images)
        corners = None if boxes is None else _corners(boxes, len(entries))
        keypoints, confidence = [], []
        done = 0
        for pictures, factors in _batches(entries, self.batch_size):
            part = slice(done, done + len(pictures))
            done += len(pictures)
            if corners is not None:
                _check_inside(corners[part], pictures, factors)
            own = None if corners is None else _resized(corners[part], 1 / factors)
            found, sure = self._all_looks(pictures, own)
            keypoints.append(_resized(found, factors))
            confidence.append(sure)
        return torch.cat(keypoints), torch.cat(confidence)

    def search(self, picture: Picture, box: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """The hand anywhere in one picture, or in a box: keypoints (21, 2) in px and confidence (21,), on the CPU."""
        keypoints, confidence = self(picture, None if box is None else [box])
        return keypoints[0], confidence[0]

    def follow(self, picture: Picture, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """One look at a picture around where the hand was a moment ago, the cheap way through a video.

        Args:
            picture: as for a call.
            keypoints: (21, 2) in px, such as the answer to the frame before.

        Returns:
            keypoints (21, 2) in px of the picture and confidence (21,), on the CPU.
        """
        pixels = as_array(picture, "the frame")
        if self.framing.crop:
            view = self.framing.around(keypoints[None], SMALLEST_BOX)
        else:
            view = self.framing.whole(pixels.shape[:2])[None]
        keypoints, confidence = self.look([pixels], view)
        return keypoints[0], confidence[0]

    def track(self, frames: Iterable[Picture], **options: Any) -> Iterator[TrackedHand]:
        """The hand in each frame of a video, one after the other, as `HandTracker` finds it.

        Args:
            frames: pictures in the order of time, or pairs of a picture and its time in seconds.
            options: those of `HandTracker`; for two hands see `HandsTracker`.
        """
        tracker = HandTracker(self, **options)
        for frame in frames:
            yield tracker(*frame) if isinstance(frame, tuple) else tracker(frame)

    def _all_looks(self, pictures: list[np.ndarray], corners: Tensor | None) -> tuple[Tensor, Tensor]:
        keypoints, confidence = self._first_look(pictures, corners)
        for _ in range(self.passes - 1):
            closer, certain = self.look(pictures, self.framing.around(keypoints, SMALLEST_BOX))
            better = certain.mean(1) > CLOSER * confidence.mean(1)
            keypoints = torch.where(better[:, None, None], closer, keypoints)
            confidence = torch.where(better[:, None], certain, confidence)
        return keypoints, confidence

    def _first_look(self, pictures: list[np.ndarray], corners: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keypoints and confidence from whole pictures or given boxes, each in the turn that looks surest."""
        share = self.framing.crop or GIVEN_BOX
        if corners is None:
            corners = torch.tensor([[[-0.5, -0.5], [p.shape[1] - 0.5, p.shape[0] - 0.5]] for p in pictures])
            share = 1.0
        size = self.framing.size
        best: tuple[Tensor, Tensor] | None = None
        for up in TURNS if self.turned else TURNS[:1]:
            views = crop_matrices(corners, share, size, corners.new_tensor(up).expand(len(corners), 2))
            keypoints, confidence = self.look(pictures, views)
            if best is not None:
                surer = confidence.mean(1) > best[1].mean(1)
                keypoints = torch.where(surer[:, None, None], keypoints, best[0])
                confidence = torch.where(surer[:, None], confidence, best[1])
            best = keypoints, confidence
        return best

    @torch.inference_mode()
    def look(self, pictures: Sequence[np.ndarray], views: Tensor) -> tuple[Tensor, Tensor]:
        """One look: keypoints (N, 21, 2) in px of the pictures and confidence (N, 21), on the CPU.

        Args:
            pictures: N RGB arrays (H, W, 3), uint8.
            views: (N, 2, 3) similarities from each picture to the network's square, such as `framing.around` gives.
        """
        keypoints, confidence = [], []
        for first in range(0, len(pictures), self.batch_size):
            part = slice(first, first + self.batch_size)
            matrices = views[part].double()
            crops = [cut(p, m.numpy(), self.framing.image_size) for p, m in zip(pictures[part], matrices, strict=True)]
            batch = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
            heatmaps = self._heatmaps(normalize(batch.float() / 255))
            found, peak = points_on_input(heatmaps, self.framing, self.method, sigma_of(self.model))
            keypoints.append(warp_keypoints(found.cpu().double(), inverse(matrices)).float())
            confidence.append(peak.cpu().clamp(0, 1))
        return torch.cat(keypoints), torch.cat(confidence)

    def _heatmaps(self, images: Tensor) -> Tensor:
        """Heatmaps (B, 21, S, S) float32 of images (B, 3, S, S), the mean with those of their mirror images."""
        half = half_precision(self.device)
        total = 0
        for flipped in (False, True) if self.mirrored else (False,):
            view = images.flip(-1) if flipped else images
            with evaluating(self.model), torch.autocast(self.device.type, half, enabled=half is not None):
                seen = self.model(view.contiguous(memory_format=torch.channels_last)).float()
            total = total + (seen.flip(-1) if flipped else seen)
        return total / (2 if self.mirrored else 1)


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


def points_on_input(
    heatmaps: Tensor, framing: Framing, method: str = "local_peak", sigma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Decode heatmaps of any size to px of the network's input.

    Args:
        heatmaps: (B, K, H, W), which cover the network's input.
        framing: of the network; its `image_size` is the side of the input.
        method: see `decode_heatmaps`.
        sigma: width of the peaks, px of the heatmaps, for the methods that ask for it.

    Returns:
        keypoints (B, K, 2) in px of the input and confidence (B, K).
    """
    options = {"sigma": sigma} if method in ("local_peak", "dark") else {}
    found, confidence = decode_heatmaps(heatmaps, method, **options)
    to_input = framing.from_heatmaps(heatmaps.shape[-2:]).to(found)
    return warp_keypoints(found, to_input), confidence


def _corners(boxes: Any, count: int) -> Tensor:
    """Boxes (N, 4) as two corners each, (N, 2, 2) float32."""
    boxes = boxes.detach().cpu() if isinstance(boxes, Tensor) else torch.from_numpy(np.array(boxes, np.float32))
    boxes = boxes.float()
    sides = boxes[:, 2:] - boxes[:, :2] if boxes.ndim == 2 and boxes.shape[1] == 4 else boxes.new_zeros(0)
    if len(sides) and not bool(sides.isfinite().all() & boxes.isfinite().all()):
        raise ValueError(f"boxes must be finite, not {boxes.tolist()[:2]}")
    if len(sides) and bool((boxes >= 0).all() and (boxes <= 1).all()):
        raise ValueError(f"boxes must be in px of the pictures, these look like shares of them: {boxes.tolist()[:2]}")
    if boxes.shape != (count, 4) or not bool((boxes[:, 2:] > boxes[:, :2]).all()):
        raise ValueError(
            f"boxes must be ({count}, 4), one per picture, each left, top, right, bottom in px with "
            f"left < right and top < bottom, not {tuple(boxes.shape)} {boxes.tolist()[:2]}"
        )
    return boxes.reshape(count, 2, 2)


def _check_inside(corners: Tensor, pictures: Sequence[np.ndarray], factors: Tensor) -> None:
    """ValueError for a box that has nothing of its picture in it."""
    for box, picture, factor in zip(corners, pictures, factors, strict=True):
        size = torch.tensor(picture.shape[1::-1]) * factor
        if not bool((box[0] < size).all() and (box[1] > 0).all()):
            width, height = size.round().int().tolist()
            raise ValueError(f"the box {box.flatten().tolist()} lies outside of its picture, {width}×{height} px")


def _entries(images: Any) -> list[Any]:
    """What was given, as a list of single pictures."""
    single = isinstance(images, str | Path) or callable(images) or is_pillows(images)
    single = single or (isinstance(images, np.ndarray | Tensor) and images.ndim != 4)
    entries = [images] if single else list(images)
    if not entries:
        raise ValueError("no pictures were given")
    return entries


def _batches(entries: Sequence[Any], batch_size: int) -> Iterator[tuple[list[np.ndarray], Tensor]]:
    """Pictures in parts that fit in memory, with how many px of its file one px of each is wide and high: (N, 2)."""
    pictures, factors, pixels = [], [], 0
    for number, entry in enumerate(entries):
        picture, factor = _reduced(entry, f"picture {number}")
        pictures.append(picture)
        factors.append(factor)
        pixels += picture.shape[0] * picture.shape[1]
        if len(pictures) == batch_size or pixels >= MOST_PIXELS_AT_ONCE:
            yield pictures, torch.tensor(factors)
            pictures, factors, pixels = [], [], 0
    if pictures:
        yield pictures, torch.tensor(factors)


def _resized(points: Tensor, factors: Tensor) -> Tensor:
    """Points (N, P, 2) of pictures that become (N, 2) times as large."""
    return torch.where(factors[:, None] == 1, points, (points + 0.5) * factors[:, None] - 0.5)


def _reduced(entry: Any, name: str) -> tuple[np.ndarray, tuple[float, float]]:
    """As `as_array`, but large files are read small; with how much smaller in width and height."""
    return read_reduced(entry) if isinstance(entry, str | Path) else (as_array(entry, name), (1.0, 1.0))
