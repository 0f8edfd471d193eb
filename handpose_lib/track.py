"""A hand through a video: searched for once, then followed from frame to frame.

    tracker = HandTracker(HandPosePredictor.from_pretrained(), smoothing=OneEuro())
    for frame, time in frames:
        hand = tracker(frame, time)        # hand.keypoints (21, 2) px, or None

To search a whole picture takes many looks. A hand moves little from one frame to the next, so one look around the last
answer is enough, until the network is no longer sure of what it sees there; then the frame is searched anew.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from handpose_lib.smoothing import OneEuro

LOST = 0.35  # mean confidence below which nothing was found
FRAME_SECONDS = 1 / 30  # between two frames of which nobody says the time


class Predictor(Protocol):
    """What a tracker asks of `HandPosePredictor`."""

    def search(self, picture: np.ndarray) -> tuple[Tensor, Tensor]: ...
    def follow(self, picture: np.ndarray, keypoints: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class TrackedHand:
    """What a tracker says about one frame."""

    keypoints: Tensor | None  # (21, 2) px of the frame; None where there is no hand
    confidence: Tensor  # (21,) from 0 to 1, of the keypoints or of what was not good enough
    time: float  # s
    searched: bool  # the whole frame was looked at


class HandTracker:
    """One hand in the frames of a video, which are given in the order of time.

    Args:
        predictor: a `HandPosePredictor`.
        threshold: mean confidence below which a look has found no hand. A frame in which the hand is lost is searched
            at once; if that finds none either, its answer has no keypoints.
        smoothing: a filter for the keypoints that are returned; the next look is taken around the unfiltered ones,
            which do not trail behind. None: no filter.
    """

    def __init__(self, predictor: Predictor, threshold: float = LOST, smoothing: OneEuro | None = None):
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold is {threshold}, it must be at least 0 and below 1")
        self.predictor, self.threshold, self.smoothing = predictor, threshold, smoothing
        self.reset()

    def reset(self) -> None:
        """Forget the hand, as for another video."""
        self._last: Tensor | None = None
        self._time: float | None = None
        if self.smoothing:
            self.smoothing.reset()

    def __call__(self, frame: np.ndarray, time: float | None = None) -> TrackedHand:
        """The hand in the next frame.

        Args:
            frame: RGB (H, W, 3) uint8, or what else the predictor takes.
            time: s; must rise from frame to frame. None: a thirtieth of a second after the frame before.
        """
        if time is None:
            time = 0.0 if self._time is None else self._time + FRAME_SECONDS
        if self._time is not None and not time > self._time:
            raise ValueError(
                f"a frame at {time:g} s came after one at {self._time:g} s: give frames in the order of time, "
                "or call reset() before another video"
            )
        self._time = time
        found = self._followed(frame)
        searched = found is None
        if searched:
            keypoints, confidence = self.predictor.search(frame)
            if self.smoothing:
                self.smoothing.reset()
            if not self._sure(confidence):
                self._last = None
                return TrackedHand(None, confidence, time, True)
        else:
            keypoints, confidence = found
        self._last = keypoints
        if self.smoothing:
            keypoints = self.smoothing(keypoints, time, hand_length(keypoints))
        return TrackedHand(keypoints, confidence, time, searched)

    def _followed(self, frame: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """What a look around the last answer finds; None where there is none or it finds nothing."""
        if self._last is None:
            return None
        keypoints, confidence = self.predictor.follow(frame, self._last)
        return (keypoints, confidence) if self._sure(confidence) else None

    def _sure(self, confidence: Tensor) -> bool:
        return float(confidence.mean()) >= self.threshold


def hand_length(keypoints: Tensor) -> float:
    """Longer side of the box of keypoints (21, 2), px."""
    return float((keypoints.amax(0) - keypoints.amin(0)).amax())
