"""From any photograph of a hand to 21 keypoints in its own pixels: look at the whole, then look closer.

    predictor = HandPosePredictor.from_pretrained()
    keypoints, confidence = predictor("my_hand.jpg")      # (1, 21, 2) px, (1, 21)

One hand per picture is expected, anywhere in it and turned any way. A small network, the finder, looks at the whole
picture and says roughly where the hand is and where it points; the large one then looks at a square around it, turned
until the fingers point up, as it saw most hands in training. Where there is no finder, or what it found does not look
like a hand, the large network looks at the whole picture itself, in all four quarter turns. Explained in
`notebooks/08_inference.ipynb`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.augment import normalize
from handpose_lib.calibration import calibrated, calibration_of
from handpose_lib.decoding import ALIKE, check_keypoints, decoding_of, framing_of, points_on_input, sigma_of
from handpose_lib.devices import half_precision, pick_device
from handpose_lib.fields import as_numbers, is_whole
from handpose_lib.framing import Framing, as_points, crop_matrices, cut, inverse, warp_keypoints
from handpose_lib.inputs import Picture, batches_of, check_inside, corners_of, entries_of, resized
from handpose_lib.keypoints import KEYPOINT_NAMES, look_like_shares
from handpose_lib.onnx_look import OnnxLook, look_of, quick_look_of
from handpose_lib.pictures import as_array, picture_files, read_picture
from handpose_lib.track import LOST, HandTracker, TrackedHand
from handpose_lib.unet import check_heatmaps, evaluating, fuse_batch_norm
from handpose_lib.weights import bundled_finder, bundled_weights, load_model, named_weights

__all__ = [
    "HandPosePredictor", "bundled_finder", "bundled_weights", "decoding_of", "framing_of", "named_weights",
    "picture_files", "points_on_input", "read_picture", "sigma_of",
]  # fmt: skip

SMALLEST_BOX = 8.0  # px; nobody looks closer than that
CLOSER = 0.7  # where a closer look is less sure than this share of the look before, the look before stands
TURNS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))  # what points up in the first looks
FOLLOWED = 0.65  # share that a hand fills where it was seen a moment ago, since the look is sure to be in the middle
GIVEN_BOX = 0.55  # share that a given box fills where the network saw whole pictures in training


class HandPosePredictor:
    """Keypoints of one hand in each picture.

    Args:
        model: a trained U-Net; see `from_pretrained`.
        device: where it runs; the model's own device when None.
        framing: how a closer look is cropped; the model's own when None.
        passes: how often it looks; each pass after the first takes a square around what the one before found. None:
            three times, or once where the framing shows whole pictures. With a finder it looks twice at least.
        turned: look at the whole picture in its four quarter turns, and keep the turn that the network is surest of.
            None: where the framing crops.
        finder: a network for whole pictures in any turn, which takes over the first pass; the four turns are then only
            looked at where the hand that it found is not one. None: no finder.
        mirrored: with the last look, look at the mirror image as well, and take the mean of both heatmaps.
        method: how heatmaps become points, see `decode_heatmaps`.
        batch_size: pictures that go through the network at once.
        followed: how a look is cropped that follows a hand through a video. None: as the others are, but closer.

    Raises:
        ValueError: passes or batch_size below 1, several passes or `followed` without a crop, a model that does not say
            how it is framed, or that finds another number of keypoints than a hand has.
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
        finder: nn.Module | None = None,
        followed: Framing | None = None,
    ):
        check_keypoints(model)
        for name, value in (("mirrored", mirrored), ("turned", False if turned is None else turned)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, it must be true or false")
        if finder is not None and not isinstance(finder, nn.Module):
            raise ValueError(f"finder is {finder!r}, it must be a network, such as load_model(path)[0], or None")
        self.framing = framing if isinstance(framing, Framing) else framing_of(model)
        crops = self.framing.crop > 0
        self.passes = (3 if crops else 1) if passes is None else passes
        self.turned = crops if turned is None else turned
        if framing is not None and not isinstance(framing, Framing):
            raise ValueError(f"framing is {framing!r}, it must be a Framing")
        if followed is not None and not (isinstance(followed, Framing) and crops and followed.crop):
            raise ValueError(f"followed is {followed!r}, it must be a Framing with a crop, as the network's own has")
        if not (is_whole(self.passes) and is_whole(batch_size)):
            raise ValueError(f"passes and batch_size must be at least 1, not {self.passes} and {batch_size}")
        if self.passes > 1 and not crops:
            raise ValueError(
                f"passes is {self.passes}, but this network was trained on whole pictures: look once, or give a "
                "framing with a crop"
            )
        self.device = pick_device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device)
        self.mirrored, self.method, self.batch_size = mirrored, method, batch_size
        self.finder = None
        if finder is not None and crops:
            options = {"passes": 1, "turned": False, "mirrored": False, "method": method, "batch_size": batch_size}
            self.finder = HandPosePredictor(finder, self.device, **options)
        if followed is None and crops:
            own = self.framing.crop
            followed = replace(self.framing, crop=max(own, min(FOLLOWED, ALIKE * own)))
        self.followed = followed or self.framing
        # What runs; from_pretrained, which owns the model, makes it faster.
        self._network, self._onnx = self.model, None
        self._quick: OnnxLook | None = None  # for hands that are followed
        self._asks_for_quick = False

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: torch.device | str | None = None,
        engine: str | None = None,
        **options: Any,
    ) -> "HandPosePredictor":
        """The predictor with the bundled weights, or with others.

        Args:
            path: a file that `save_model` wrote; None takes the bundled weights, which needs no network.
            device: None is the CPU.
            engine: what looks at single pictures: "pytorch", or "onnxruntime", in half the time on a CPU and, by
                `local_peak`, with the same answers to rounding. None: the latter where it is installed and can run the
                network, see `onnx_look.look_of`; it then follows hands in 8 bits where that is quicker, see
                `onnx_look.quick_look_of`.
            options: those of the class. The weights bring the framing that they were trained with. The finder is the
                bundled one unless `finder` names another, or None.

        Raises:
            FileNotFoundError, ValueError: there are no such weights.
            ModuleNotFoundError: ONNX Runtime is asked for, and not installed.
        """
        model, _ = load_model(path or bundled_weights(), device or "cpu")
        if "finder" not in options:
            options["finder"] = bundled_finder(device or "cpu")
        predictor = cls(model, **options)
        for one in (predictor, predictor.finder):
            if one is not None:
                one._network, one._onnx = fuse_batch_norm(one.model), look_of(one.model, engine)
        predictor._asks_for_quick = engine is None and predictor._onnx is not None
        return predictor

    def __getstate__(self) -> dict[str, Any]:
        """Without the looks in 8 bits: another computer's processor may not be made for them."""
        return self.__dict__ | {"_quick": None, "_asks_for_quick": self._asks_for_quick or self._quick is not None}

    @property
    def engine(self) -> str:
        """What the network looks at single pictures by, "onnxruntime" or "pytorch"; the finder has its own."""
        return "pytorch" if self._onnx is None else "onnxruntime"

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
        entries = entries_of(images)
        corners = None if boxes is None else corners_of(boxes, len(entries))
        keypoints, confidence = [], []
        done = 0
        for pictures, factors in batches_of(entries, self.batch_size):
            part = slice(done, done + len(pictures))
            done += len(pictures)
            if corners is not None:
                check_inside(corners[part], pictures, factors)
            own = None if corners is None else resized(corners[part], 1 / factors)
            found, sure = self._all_looks(pictures, own)
            keypoints.append(resized(found, factors))
            confidence.append(sure)
        return torch.cat(keypoints), torch.cat(confidence)

    def search(self, picture: Picture, box: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """The hand anywhere in one picture, or in a box: keypoints (21, 2) in px and confidence (21,), on the CPU."""
        keypoints, confidence = self(picture, None if box is None else [box])
        if len(keypoints) != 1:
            raise ValueError(f"a search is for one picture, not {len(keypoints)}: call the predictor with a list")
        return keypoints[0], confidence[0]

    def follow(self, picture: Picture, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """One look at a picture around where the hand was a moment ago, the cheap way through a video.

        It is closer than other looks: where one knows so well where the hand is, the square need not hold much else.

        Args:
            picture: as for a call.
            keypoints: (21, 2) in px, such as the answer to the frame before.

        Returns:
            keypoints (21, 2) in px of the picture and confidence (21,), on the CPU.
        """
        pixels = as_array(picture, "the frame")
        keypoints = as_points(keypoints).float()
        if keypoints.shape != (len(KEYPOINT_NAMES), 2):
            raise ValueError(f"keypoints must be (21, 2), where the hand was, not {tuple(keypoints.shape)}")
        if look_like_shares(keypoints):
            raise ValueError("keypoints look like shares of the picture: give them in px, where the hand was")
        if self.framing.crop:
            view = self.followed.around(keypoints[None], SMALLEST_BOX)
        else:
            view = self.framing.whole(pixels.shape[:2])[None]
        if self._asks_for_quick:  # not before it is needed: to start it takes time
            self._quick, self._asks_for_quick = quick_look_of(self.model, self.followed), False
        keypoints, confidence = self._look([pixels], view, False, self.followed, self._quick or self._onnx)
        return keypoints[0], confidence[0]

    def track(self, frames: Iterable[Picture], **options: Any) -> Iterator[TrackedHand]:
        """The hand in each frame of a video, one after the other, as `HandTracker` finds it.

        Args:
            frames: pictures in the order of time, or pairs of a picture and its time in seconds.
            options: those of `HandTracker`; for two hands see `HandsTracker`.
        """
        if isinstance(frames, str | Path) or getattr(frames, "ndim", 4) != 4:
            raise ValueError("frames is one picture or path: give a list of pictures, or video.read_video(path)")
        tracker = HandTracker(self, **options)
        for frame in frames:
            yield tracker(*frame) if isinstance(frame, tuple) else tracker(frame)

    def _all_looks(self, pictures: list[np.ndarray], corners: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.finder is None or corners is not None:
            return self._closer(pictures, *self._first_look(pictures, corners), looks=self.passes - 1)
        rough, _ = self.finder._first_look(pictures, None)
        first = self.look(pictures, self.framing.around(rough, SMALLEST_BOX), self.mirrored and self.passes <= 2)
        keypoints, confidence = (part.clone() for part in self._closer(pictures, *first, looks=self.passes - 2))
        unsure = confidence.mean(1) < LOST
        if unsure.any():
            doubted = [picture for picture, doubt in zip(pictures, unsure, strict=True) if doubt]
            again, certain = self._closer(doubted, *self._first_look(doubted, None), looks=self.passes - 1)
            better = certain.mean(1) > confidence[unsure].mean(1)
            keypoints[unsure] = torch.where(better[:, None, None], again, keypoints[unsure])
            confidence[unsure] = torch.where(better[:, None], certain, confidence[unsure])
        return keypoints, confidence

    def _closer(
        self, pictures: list[np.ndarray], keypoints: Tensor, confidence: Tensor, looks: int
    ) -> tuple[Tensor, Tensor]:
        """Look again at squares around what was found, `looks` times."""
        for number in range(1, looks + 1):
            views = self.framing.around(keypoints, SMALLEST_BOX)
            closer, certain = self.look(pictures, views, self.mirrored and number == looks)
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
            keypoints, confidence = self.look(pictures, views, self.mirrored and self.passes == 1)
            if best is not None:
                surer = confidence.mean(1) > best[1].mean(1)
                keypoints = torch.where(surer[:, None, None], keypoints, best[0])
                confidence = torch.where(surer[:, None], confidence, best[1])
            best = keypoints, confidence
        return best

    def look(
        self,
        pictures: Sequence[np.ndarray],
        views: Tensor,
        mirrored: bool | None = None,
        framing: Framing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One look: keypoints (N, 21, 2) in px of the pictures and confidence (N, 21), on the CPU.

        Args:
            pictures: N RGB arrays (H, W, 3), uint8.
            views: (N, 2, 3) similarities from each picture to the network's square, such as `framing.around` gives.
            mirrored: whether the mirror images are looked at as well; None: as the predictor was told.
            framing: that of the views; None: the predictor's.
        """
        mirrored = self.mirrored if mirrored is None else mirrored
        return self._look(pictures, views, mirrored, framing or self.framing, self._onnx)

    @torch.inference_mode()
    def _look(
        self, pictures: Sequence[np.ndarray], views: Tensor, mirrored: bool, framing: Framing, onnx: OnnxLook | None
    ) -> tuple[Tensor, Tensor]:
        """See `look`; `onnx` looks where it can."""
        pictures = [as_array(picture, f"picture {number}") for number, picture in enumerate(pictures)]
        views = as_numbers("views", views).double()
        back = inverse(views)
        if not pictures or views.shape != (len(pictures), 2, 3):
            raise ValueError(f"views must be (N, 2, 3), one per picture, not {tuple(views.shape)} for {len(pictures)}")
        keypoints, confidence = [], []
        for first in range(0, len(pictures), self.batch_size):
            part = slice(first, first + self.batch_size)
            pairs = zip(pictures[part], views[part].numpy(), strict=True)
            squares = np.stack([cut(picture, view, framing.image_size) for picture, view in pairs])
            found, peak = self._answers(squares, mirrored, framing, onnx)
            keypoints.append(warp_keypoints(found.cpu().double(), back[part]).float())
            confidence.append(calibrated(peak.cpu(), calibration_of(self.model)))
        return torch.cat(keypoints), torch.cat(confidence)

    def _answers(
        self, squares: np.ndarray, mirrored: bool, framing: Framing, onnx: OnnxLook | None
    ) -> tuple[Tensor, Tensor]:
        """Keypoints (B, 21, 2) in px of the squares (B, S, S, 3) that the network is shown, and heights of peaks."""
        decoding = decoding_of(self.model, framing)
        if onnx is None or not onnx.takes(squares):
            images = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
            heatmaps = self._heatmaps(normalize(images.float() / 255), mirrored)
        elif self.method == "local_peak" and decoding == onnx.decoding:
            return onnx(squares, mirrored)
        else:
            heatmaps = onnx.heatmaps(squares, mirrored)
        return points_on_input(heatmaps, framing, self.method, **decoding)

    def _heatmaps(self, images: Tensor, mirrored: bool) -> Tensor:
        """Heatmaps (B, 21, H, W) float32 of images (B, 3, S, S), or their mean with those of the mirror images."""
        half = half_precision(self.device)
        total = 0
        for flipped in (False, True) if mirrored else (False,):
            view = images.flip(-1) if flipped else images
            with evaluating(self._network), torch.autocast(self.device.type, half, enabled=half is not None):
                seen = check_heatmaps(self._network(view.contiguous(memory_format=torch.channels_last)), len(view))
            total = total + (seen.flip(-1) if flipped else seen)
        return total / (2 if mirrored else 1)
