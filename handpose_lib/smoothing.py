"""The One-Euro filter: steady where the hand rests, quick where it moves; and two numbers that say at what price.

G. Casiez, N. Roussel and D. Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems", CHI 2012.
"""

import math

import torch
from torch import Tensor

from handpose_lib.fields import as_numbers, is_number, is_positive

# Chosen on rendered films of 300 frames: jitter falls to 0.35 of what it is without the filter, and the answers come
# 47 ms late. `benchmarks/tracking.py` measures both; `figures/tracking.json` has its figures.
MIN_CUTOFF = 2.5  # Hz
BETA = 0.4  # Hz for each hand length per second
SPEED_CUTOFF = 1.0  # Hz, the paper's
FRAME_SECONDS = 1 / 30  # between two frames of which nobody says the time
LONGEST_LAG = 0.3  # s, the largest delay that `lag` tries


class OneEuro:
    """Smooths keypoints of a video: a low-pass filter whose cutoff rises with the speed of each keypoint.

    A low cutoff takes the trembling out of a hand at rest; a hand that moves is seen to move, so there the cutoff rises
    and the answer does not trail behind. Speed is measured in hand lengths per second, so that the same values serve
    a hand that is near and one that is far, in pictures of any size.

    Args:
        min_cutoff: Hz, for a keypoint at rest; lower is steadier.
        beta: Hz by which the cutoff rises for each hand length per second; higher trails less.
        speed_cutoff: Hz, of the filter that the speed itself goes through.

    Raises:
        ValueError: a cutoff that is not above 0, a negative beta, or one that is infinite.

    >>> filtered = OneEuro()
    >>> filtered(torch.zeros(21, 2), 0.0, 100.0).shape
    torch.Size([21, 2])
    """

    def __init__(self, min_cutoff: float = MIN_CUTOFF, beta: float = BETA, speed_cutoff: float = SPEED_CUTOFF):
        if not (is_positive(min_cutoff) and is_positive(speed_cutoff) and (is_positive(beta) or beta == 0)):
            raise ValueError(
                f"the cutoffs must be above 0 and beta not negative, not {min_cutoff}, {speed_cutoff} and {beta}"
            )
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self.reset()

    def to_json(self) -> dict[str, float]:
        """The filter's values, in Hz, as plain JSON values."""
        return {"min_cutoff": self.min_cutoff, "beta": self.beta, "speed_cutoff": self.speed_cutoff}

    def reset(self) -> None:
        """Forget what was before, as for another hand or after a cut."""
        self._last: tuple[Tensor, Tensor, float] | None = None

    def __call__(self, keypoints: Tensor, time: float, length: float) -> Tensor:
        """The filtered keypoints (K, 2) of one frame.

        Args:
            keypoints: (K, 2) in px.
            time: s; must be later than that of the frame before.
            length: of the hand, px, such as the longer side of its box.

        Raises:
            ValueError: a time that is not later than the one before, keypoints of another shape, a negative length, or
                anything that is NaN or infinite: it would stay in all later answers.
        """
        keypoints = as_numbers("keypoints", keypoints)
        keypoints = keypoints if keypoints.is_floating_point() else keypoints.float()
        if keypoints.dim() != 2 or keypoints.shape[1] != 2:
            raise ValueError(f"keypoints must be (K, 2), those of one hand, not {tuple(keypoints.shape)}")
        if not (bool(keypoints.isfinite().all()) and is_number(time) and is_number(length)):
            raise ValueError(f"keypoints, time ({time}) and length ({length}) must be finite: leave such a frame out")
        if length < 0:
            raise ValueError(f"length is {length}, it is that of a hand in px: it must not be negative")
        if self._last is None:
            self._last = keypoints.clone(), torch.zeros(len(keypoints), 1, device=keypoints.device), time
            return keypoints.clone()
        before, speed, then = self._last
        if before.shape != keypoints.shape:
            raise ValueError(
                f"{len(keypoints)} keypoints came after {len(before)}: call reset() before those of something else"
            )
        step = time - then
        if not step > 0:
            raise ValueError(f"a frame at {time:g} s came after one at {then:g} s: give frames in the order of time")
        moved = (keypoints - before).norm(dim=-1, keepdim=True) / max(length, 1e-6) / step  # (K, 1) lengths per second
        speed = speed + _share(self.speed_cutoff, step) * (moved - speed)
        cutoff = self.min_cutoff + self.beta * speed
        filtered = before + _share(cutoff, step) * (keypoints - before)
        self._last = filtered, speed, time
        return filtered


def _share(cutoff: Tensor | float, step: float) -> Tensor | float:
    """How far an exponential filter with this cutoff in Hz goes towards the new value in a step of so many seconds."""
    return 1 - 1 / (1 + 2 * math.pi * cutoff * step)


def _films(found: Tensor, truth: Tensor, fewest: int = 2) -> tuple[Tensor, Tensor]:
    """Both as float64; ValueError where they are no two films of the same keypoints, or hold what is no place."""
    found, truth = (as_numbers(name, film).double() for name, film in (("found", found), ("truth", truth)))
    if found.shape != truth.shape or found.ndim != 3 or len(found) < fewest:
        raise ValueError(
            f"found and truth must both be (T, K, 2) with T of at least {fewest}, not {tuple(found.shape)} and "
            f"{tuple(truth.shape)}"
        )
    for name, film in (("found", found), ("truth", truth)):
        if not bool(film.isfinite().all()):
            frame = int((~film.isfinite()).flatten(1).any(1).float().argmax())
            raise ValueError(f"{name} holds NaN or infinity in frame {frame}: leave out frames without a hand")
    return found, truth


def jitter(found: Tensor, truth: Tensor) -> float:
    """How much the answers tremble: the mean distance of an error from the middle of those before and after it, px.

    A steady error of any size is no jitter, nor is one that grows or shrinks evenly, such as that of an answer that
    trails behind: see `lag`. This is half of the acceleration error by which others judge filters for poses, such as
    Zeng et al., "SmoothNet", ECCV 2022.

    Args:
        found, truth: (T, K, 2) in px, T of at least 3.

    Raises:
        ValueError: shapes that differ, or fewer than three frames.
    """
    found, truth = _films(found, truth, fewest=3)
    error = found - truth
    return float((error[1:-1] - (error[:-2] + error[2:]) / 2).norm(dim=-1).mean())


def lag(found: Tensor, truth: Tensor, times: Tensor) -> float:
    """By how many seconds the answers trail behind: the delay of the truth that brings the two closest together.

    Args:
        found, truth: (T, K, 2) in px.
        times: (T,) s, evenly spaced.

    Raises:
        ValueError: shapes that differ, fewer than two frames, times that do not rise evenly.
    """
    found, truth = _films(found, truth)
    times = as_numbers("times", times, lists=torch.float64).double()
    steps = times.diff()
    if (
        len(times) != len(found)
        or not bool((steps > 0).all())
        or float(steps.max() - steps.min()) > 0.1 * float(steps.mean())
    ):
        raise ValueError("times must be (T,), one per frame, and rise by the same step from frame to frame")
    step = float(times[-1] - times[0]) / (len(times) - 1)
    reach = min(round(LONGEST_LAG / step), len(times) - 2)
    errors = []
    for delay in range(-reach, reach + 1):  # negative: ahead of the truth
        earlier, later = (truth, found) if delay >= 0 else (found, truth)
        shift = abs(delay)
        errors.append(float((later[shift:] - earlier[: len(earlier) - shift]).norm(dim=-1).mean()))
    best = min(range(len(errors)), key=errors.__getitem__)
    if 0 < best < len(errors) - 1:  # between the frames, from a parabola through the three lowest
        low, mid, high = errors[best - 1 : best + 2]
        best += 0.5 * (low - high) / max(low - 2 * mid + high, 1e-12)
    return (best - reach) * step
