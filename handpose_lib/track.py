"""Hands through a video: searched for once, then followed from frame to frame.

    tracker = HandTracker(HandPosePredictor.from_pretrained(), smoothing=OneEuro())
    for frame, time in frames:
        hand = tracker(frame, time)        # hand.keypoints (21, 2) px, or None

To search a whole picture takes many looks. A hand moves little from one frame to the next, so one look around the last
answer, moved on as the hand moved before, is enough, until the network is no longer sure of what it sees there; then
the whole frame is searched again.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from handpose_lib.fields import is_number, is_whole
from handpose_lib.smoothing import FRAME_SECONDS, OneEuro

LOST = 0.5  # mean confidence below which nothing was found: 97 of 100 hands lie above it, 1 of 200 other pictures does
SEARCH_EVERY = 10  # frames between two searches for a hand that is missing beside another
MOST_HANDS = 20  # that may be followed: each costs a look per frame
FARTHEST = 0.5  # lengths of the hand by which a look is moved on at most
SAME_HAND = 0.25  # two answers that are closer than this, in lengths of the hand, are of one hand

Box = Sequence[float]  # left, top, right, bottom in px


class Predictor(Protocol):
    """What a tracker asks of `HandPosePredictor`."""

    def search(self, picture: np.ndarray, box: Box | None = None) -> tuple[Tensor, Tensor]: ...
    def follow(self, picture: np.ndarray, keypoints: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class TrackedHand:
    """What a tracker says about one frame."""

    keypoints: Tensor | None  # (21, 2) px of the frame; None where there is no hand
    confidence: Tensor  # (21,) from 0 to 1, of the keypoints or of what was not good enough
    time: float  # s
    searched: bool  # the whole frame, or a given box, was looked at


class HandTracker:
    """One hand in the frames of a video, which are given in the order of time.

    Args:
        predictor: a `HandPosePredictor`.
        threshold: mean confidence below which a look has found no hand. A frame in which the hand is lost is searched
            at once; if that finds none either, its answer has no keypoints.
        smoothing: a filter for the keypoints that are returned; the next look follows the unfiltered ones, which do
            not trail behind. None: no filter.

    Raises:
        ValueError: a threshold that is not in [0, 1).
    """

    def __init__(self, predictor: Predictor, threshold: float = LOST, smoothing: OneEuro | None = None):
        if not is_number(threshold) or not 0 <= threshold < 1:
            raise ValueError(f"threshold is {threshold}, it must be at least 0 and below 1")
        if isinstance(smoothing, type) or (smoothing is not None and not hasattr(smoothing, "reset")):
            raise ValueError(f"smoothing is {smoothing!r}, it must be a filter such as OneEuro(), or None")
        if not (hasattr(predictor, "search") and hasattr(predictor, "follow")):
            raise ValueError(f"predictor is a {type(predictor).__name__}, it must be a HandPosePredictor")
        self.predictor, self.threshold, self.smoothing = predictor, threshold, smoothing
        self.reset()

    def reset(self) -> None:
        """Forget the hand, as for another video."""
        self._last: Tensor | None = None  # (21, 2) px, of the frame at `_seen`
        self._seen = 0.0  # s
        self._motion = torch.zeros(2)  # px per second
        self._clock = Clock()
        if self.smoothing:
            self.smoothing.reset()

    def __call__(self, frame: np.ndarray, time: float | None = None, box: Box | None = None) -> TrackedHand:
        """The hand in the next frame.

        Args:
            frame: RGB (H, W, 3) uint8, or what else the predictor takes.
            time: s; must rise from frame to frame. None: a thirtieth of a second after the frame before.
            box: where the hand is, if somebody knows: a search then looks there. The hand before is forgotten.

        Raises:
            ValueError: a time that is not later than the one before.
        """
        time = self._clock(time)
        if box is not None:
            self._last = None
        return self._followed(frame, time) or self._searched(frame, time, box)

    def _followed(self, frame: np.ndarray, time: float) -> TrackedHand | None:
        """What a look around the last answer finds; None where there is no last answer, or the look finds nothing."""
        if self._last is None:
            return None
        keypoints, confidence = self.predictor.follow(frame, self._expected(time))
        if not float(confidence.mean()) >= self.threshold:
            return None
        return self._kept(keypoints, confidence, time, searched=False)

    def _searched(self, frame: np.ndarray, time: float, box: Box | None = None) -> TrackedHand:
        keypoints, confidence = self.predictor.search(frame, box)
        if self.smoothing:
            self.smoothing.reset()
        if not float(confidence.mean()) >= self.threshold:
            self._last = None
            return TrackedHand(None, confidence, time, True)
        return self._kept(keypoints, confidence, time, searched=True)

    def _expected(self, time: float) -> Tensor:
        """Where the hand should be by now, had it gone on as before: (21, 2) px."""
        way = self._motion * (time - self._seen)
        return self._last + way * min(1.0, FARTHEST * hand_length(self._last) / max(float(way.norm()), 1e-9))

    def _kept(self, keypoints: Tensor, confidence: Tensor, time: float, searched: bool) -> TrackedHand:
        if searched or self._last is None:
            self._motion = torch.zeros(2)
        else:
            self._motion = (keypoints - self._last).mean(0) / (time - self._seen)
        self._last, self._seen = keypoints, time
        if self.smoothing:
            keypoints = self.smoothing(keypoints, time, hand_length(keypoints))
        return TrackedHand(keypoints, confidence, time, searched)


class HandsTracker:
    """Up to `max_hands` hands in the frames of a video, each followed on its own.

    The network answers one hand per look. So the first is searched for in the frame, and each further one in the frame
    with the hands that are already known painted over. Where fewer hands are known than there may be, that is tried
    again every `SEARCH_EVERY` frames. Two hands that cover each other are beyond this: one of them is lost, and found
    again when they part.

    Args:
        predictor, threshold, smoothing: see `HandTracker`; every hand has a filter of its own.
        max_hands: how many hands there may be.

    Raises:
        ValueError: max_hands below 1 or above `MOST_HANDS`.
    """

    def __init__(
        self, predictor: Predictor, max_hands: int = 2, threshold: float = LOST, smoothing: OneEuro | None = None
    ):
        if not is_whole(max_hands) or max_hands > MOST_HANDS:
            raise ValueError(f"max_hands is {max_hands}, it must be from 1 to {MOST_HANDS}")
        self.predictor, self.threshold, self.smoothing = predictor, threshold, smoothing
        self._trackers = [HandTracker(predictor, threshold, deepcopy(smoothing)) for _ in range(max_hands)]
        self.reset()

    def reset(self) -> None:
        """Forget the hands and the time, as for another video."""
        self._clock = Clock()
        self.forget()

    def forget(self) -> None:
        """Forget the hands, as after a cut: all are searched for in the next frame."""
        for tracker in self._trackers:
            tracker.reset()
        self._until_search = 0

    def to_json(self) -> dict[str, Any]:
        """How hands are followed, as plain JSON values."""
        smoothing = None if self.smoothing is None else self.smoothing.to_json()
        return {"max_hands": len(self._trackers), "threshold": self.threshold, "smoothing": smoothing}

    def __call__(
        self, frame: np.ndarray, time: float | None = None, boxes: Sequence[Box] | None = None
    ) -> list[TrackedHand | None]:
        """The hands in the next frame, one entry per hand; a hand keeps its place in the list, None where it is gone.

        Args:
            frame: RGB (H, W, 3) uint8.
            time: see `HandTracker`.
            boxes: where the hands are, if somebody knows; all hands before are forgotten.

        Raises:
            ValueError: more boxes than hands, or a time that is not later than the one before.
        """
        time = self._clock(time)
        if boxes is not None:
            if len(boxes) > len(self._trackers):
                raise ValueError(f"{len(boxes)} boxes were given for max_hands={len(self._trackers)}")
            for tracker in self._trackers:
                tracker._last = None
            starts = [tracker._searched(frame, time, box) for tracker, box in zip(self._trackers, boxes, strict=False)]
            hands = [*starts, *[None] * (len(self._trackers) - len(starts))]
        else:
            hands = [tracker._followed(frame, time) for tracker in self._trackers]
            self._drop_doubles(hands)
            self._search_missing(frame, time, hands)
        return [hand if hand is not None and hand.keypoints is not None else None for hand in hands]

    def _drop_doubles(self, hands: list[TrackedHand | None]) -> None:
        """Of two trackers that came to follow one hand, the less sure one loses it."""
        for i, first in enumerate(hands):
            for j, second in enumerate(hands[:i]):
                if first is not None and second is not None and same_hand(first.keypoints, second.keypoints):
                    weaker = i if first.confidence.mean() <= second.confidence.mean() else j
                    hands[weaker] = self._trackers[weaker]._last = None
                    first = hands[i]

    def _search_missing(self, frame: np.ndarray, time: float, hands: list[TrackedHand | None]) -> None:
        """Searches for one missing hand where the others are not, if it is time to."""
        missing = [place for place, hand in enumerate(hands) if hand is None]
        alone = len(missing) == len(hands)
        self._until_search -= 1
        if not missing or (self._until_search > 0 and not alone):
            return
        self._until_search = SEARCH_EVERY
        for place in missing:
            known = [tracker._last for tracker in self._trackers if tracker._last is not None]
            hands[place] = self._trackers[place]._searched(painted_over(frame, known), time)
            if hands[place].keypoints is None:
                return


class Clock:
    """The times of frames, which must rise; frames without one come a thirtieth of a second after the one before."""

    def __init__(self) -> None:
        self._last: float | None = None

    def __call__(self, time: float | None) -> float:
        if time is None:
            time = 0.0 if self._last is None else self._last + FRAME_SECONDS
        time = time.item() if isinstance(time, Tensor) and time.numel() == 1 else time
        if not is_number(time):
            raise ValueError(f"the time of a frame is {time}, it must be a number of seconds")
        if self._last is not None and not time > self._last:
            raise ValueError(
                f"a frame at {time:g} s came after one at {self._last:g} s: give frames in the order of time, "
                "or call reset() before another video"
            )
        self._last = time
        return time


def hand_length(keypoints: Tensor) -> float:
    """Longer side of the box of keypoints (21, 2), px."""
    return float((keypoints.amax(0) - keypoints.amin(0)).amax())


def same_hand(first: Tensor, second: Tensor) -> bool:
    """Whether two answers (21, 2) are so close that they are of one hand."""
    apart = float((first - second).norm(dim=-1).mean())
    return apart < SAME_HAND * max(hand_length(first), hand_length(second))


def painted_over(frame: np.ndarray, hands: Sequence[Tensor]) -> np.ndarray:
    """A copy of a frame (H, W, 3) with its mean colour on the box of each hand (21, 2) and a fifth around it."""
    if not hands:
        return frame
    result = frame.copy()
    for keypoints in hands:
        margin = 0.2 * hand_length(keypoints)
        left, top = (keypoints.amin(0) - margin).clamp(min=0).int().tolist()
        right, bottom = (keypoints.amax(0) + margin + 1).clamp(min=0).int().tolist()
        result[top:bottom, left:right] = frame.mean((0, 1))
    return result
