"""What a confidence means: the chance that a keypoint lies within a tenth of the box, learnt from rendered hands.

The height of a heatmap's peak says how sure a network is, but not on what scale. Platt's answer ("Probabilistic outputs
for support vector machines", 1999) is a logistic function of it, fitted on hands that the network was not trained on.
Two heights enter: the keypoint's own, and the mean over the hand, since a finger is more often right on a hand that is
seen well. Shown in `notebooks/08_inference.ipynb`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handpose_lib.fields import as_flags, as_numbers, is_whole

WITHIN = 0.1  # of the longer side of the hand's box


def calibrated(peaks: Tensor, weights: Sequence[float]) -> Tensor:
    """Confidence (B, K) from 0 to 1 of peaks (B, K), the heights that `decode_heatmaps` gives.

    Args:
        peaks: (B, K); what lies outside of [0, 1] is clamped.
        weights: (bias, of the keypoint's own peak, of the mean over the hand's K peaks), from `fit_calibration`.
            Empty: the peaks themselves are the confidence.
    """
    peaks = as_numbers("peaks", peaks)
    if peaks.ndim != 2:
        raise ValueError(f"peaks must be (B, K), one row per hand, not {tuple(peaks.shape)}")
    peaks = peaks.clamp(0, 1)
    if not weights:
        return peaks
    if len(weights) != 3 or not all(isinstance(each, float | int) and math.isfinite(each) for each in weights):
        raise ValueError(f"weights must be the three numbers that `fit_calibration` gives, not {weights}")
    bias, own, hand = weights
    return torch.sigmoid(bias + own * peaks + hand * peaks.mean(1, keepdim=True))


def calibration_of(model: nn.Module) -> tuple[float, ...]:
    """How a network's peaks become confidence, see `calibrated`; empty for one that does not say."""
    return getattr(model, "calibration", ())


def fit_calibration(peaks: Tensor, right: Tensor) -> tuple[float, float, float]:
    """The weights with which `calibrated` is most likely to say what came true (Newton's method on the log loss).

    Args:
        peaks: (M, K) heights of the peaks on hands that were not trained on.
        right: (M, K) bool, whether each keypoint came within `WITHIN` of the box of its true place.

    Returns:
        bias, weight of the keypoint's own peak, weight of the hand's mean peak.

    Raises:
        ValueError: the shapes differ, or all keypoints are right, or all wrong: then there is nothing to fit.
    """
    peaks, right = as_numbers("peaks", peaks), as_flags("right", right)
    if peaks.shape != right.shape or peaks.ndim != 2:
        raise ValueError(f"peaks and right must both be (M, K), got {tuple(peaks.shape)} and {tuple(right.shape)}")
    if not bool(peaks.isfinite().all()):
        raise ValueError("peaks must be finite, and some are NaN or infinite: leave these hands out")
    truth = right.double().flatten()
    if not 0 < truth.mean() < 1:
        raise ValueError(
            "there is nothing to fit, all keypoints are right or all wrong: give hands that are partly missed"
        )
    peaks = peaks.double().clamp(0, 1)
    hand = peaks.mean(1, keepdim=True).expand_as(peaks)
    features = torch.stack((torch.ones_like(peaks), peaks, hand), dim=-1).reshape(-1, 3)  # (M * K, 3)
    weights = torch.zeros(3, dtype=torch.float64)
    for _ in range(50):
        chance = torch.sigmoid(features @ weights)
        slope = features.T @ (truth - chance) - 1e-3 * weights
        curve = (features * (chance * (1 - chance))[:, None]).T @ features + 1e-3 * torch.eye(3, dtype=torch.float64)
        step = torch.linalg.solve(curve, slope)
        weights = weights + step.clamp(-5, 5)
        if float(step.abs().max()) < 1e-9:
            break
    return tuple(float(weight) for weight in weights)


def reliability(confidence: Tensor, right: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """How often the answers of each range of confidence were right.

    Args:
        confidence: any shape, from 0 to 1.
        right: bool, of the same shape.
        bins: how many ranges of equal width.

    Returns:
        mean confidence, share that was right, and number of answers, each (bins,); NaN where a range holds none.
    """
    confidence, right = as_numbers("confidence", confidence), as_flags("right", right)
    if confidence.shape != right.shape or not is_whole(bins):
        raise ValueError(
            f"confidence and right must have one shape and bins be at least 1, got {tuple(confidence.shape)}, "
            f"{tuple(right.shape)} and {bins}"
        )
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError("confidence must be from 0 to 1, as a predictor gives it (percent: divide by 100)")
    confidence, right = confidence.flatten().double(), right.flatten().double()
    place = (confidence * bins).long().clamp(0, bins - 1)
    count = torch.bincount(place, minlength=bins)
    stated = torch.bincount(place, confidence, minlength=bins) / count
    seen = torch.bincount(place, right, minlength=bins) / count
    return stated.float(), seen.float(), count
