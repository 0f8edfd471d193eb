"""PCK, AUC, EPE and the swap rate, each with its convention named, and how sure one can be of them.

Explained in notebook 07. Every function takes tensors or arrays and computes on the CPU in float64. `visible`
(N, K) says which keypoints count (None: all); a keypoint that counts must have finite coordinates in `target`.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from handpose_lib.fields import as_flags, as_numbers, is_positive, is_whole
from handpose_lib.keypoints import FINGERS, KEYPOINT_NAMES, look_like_shares
from handpose_lib.layout import IMAGE_SIZE

NORMALIZERS = ("bbox", "diagonal", "image")
CONVENTIONS = ("mmpose", "trapezoid")
MOST_RESAMPLES = 1_000_000
FAR_FROM_SHARES = 8.0  # px; a point that far out is in px


def distances(pred: Any, target: Any, visible: Any = None) -> Tensor:
    """Distance of each prediction from its keypoint, in pixels of the inputs.

    Args:
        pred, target: (N, K, 2).
        visible: (N, K) bool or None.

    Returns:
        (N, K); NaN where not visible, infinite where `pred` is NaN or infinite.

    Raises:
        ValueError: shapes that differ, a visible keypoint whose target is not finite, one in px and the other in
            shares of the image.

    >>> distances([[[3.0, 4.0], [0.0, 1.0]]], torch.zeros(1, 2, 2), visible=[[True, False]])
    tensor([[5., nan]], dtype=torch.float64)
    """
    pred, target = _points("pred", pred), _points("target", target)
    if pred.shape != target.shape:
        raise ValueError(f"pred is {tuple(pred.shape)} but target is {tuple(target.shape)}: they must be equal")
    visible = torch.ones(pred.shape[:2], dtype=torch.bool) if visible is None else as_flags("visible", visible).cpu()
    if visible.shape != pred.shape[:2]:
        raise ValueError(
            f"visible is {tuple(visible.shape)}; keypoints {tuple(pred.shape)} need {tuple(pred.shape[:2])}"
        )
    unknown = visible & ~target.isfinite().all(-1)
    if unknown.any():
        hand, keypoint = unknown.nonzero()[0].tolist()
        raise ValueError(f"target of hand {hand}, keypoint {keypoint} is not finite, but it is marked as visible")
    for name, one, other in (("pred", pred, target), ("target", target, pred)):
        if look_like_shares(one) and bool((other.abs() > FAR_FROM_SHARES).any()):
            raise ValueError(f"{name} looks like shares of the image, and the other is in px: give both in px")
    errors = torch.linalg.vector_norm(pred - target, dim=-1)
    errors = torch.where(pred.isfinite().all(-1), errors, torch.inf)
    return torch.where(visible, errors, torch.nan)


def normalizer_lengths(target: Any, normalizer: str = "bbox", image_size: float = IMAGE_SIZE) -> Tensor:
    """The length of each hand that PCK measures its errors by.

    Args:
        target: (N, K, 2); keypoints that are not finite are left out of the box, those off the image are in it.
        normalizer: `bbox`, the longer side of the box of all keypoints of the hand; `diagonal`, that box's diagonal;
            `image`, `image_size` for every hand.
        image_size: side of the image in the pixels of `target`.

    Returns:
        (N,) in the pixels of `target`; 0 for a hand whose keypoints are all in one place.

    >>> hand = [[[10.0, 10.0], [40.0, 50.0]]]
    >>> [normalizer_lengths(hand, name).item() for name in ("bbox", "diagonal", "image")]
    [40.0, 50.0, 224.0]
    """
    target = _points("target", target)
    if normalizer not in NORMALIZERS:
        raise ValueError(f"unknown normalizer {normalizer!r}; it must be one of {', '.join(NORMALIZERS)}")
    _check_positive(image_size=image_size)
    if normalizer == "image":
        _refuse_shares(target, f"image_size is {image_size}", image_size)
        beyond = (target > image_size).any(-1)[target.isfinite().all(-1)]
        if len(beyond) and beyond.double().mean() > 0.5:
            raise ValueError(f"image_size is {image_size}, and most keypoints of target lie beyond it: give theirs")
        return torch.full(target.shape[:1], float(image_size), dtype=torch.float64)
    known = target.isfinite().all(-1, keepdim=True)
    sides = torch.where(known, target, -torch.inf).amax(1) - torch.where(known, target, torch.inf).amin(1)  # (N, 2)
    sides = sides.clamp(min=0)  # no keypoint known: 0
    return sides.amax(-1) if normalizer == "bbox" else torch.linalg.vector_norm(sides, dim=-1)


def correct(
    pred: Any,
    target: Any,
    threshold: float = 0.2,
    normalizer: str = "bbox",
    visible: Any = None,
    image_size: float = IMAGE_SIZE,
) -> Tensor:
    """1 where the error is below `threshold` times the hand's length (strictly), else 0; NaN where not visible.

    The hits that `pck` averages, with the same arguments: (N, K), ready for `bootstrap_interval`.
    """
    _check_positive(threshold=threshold)
    if threshold > 1:
        raise ValueError(
            f"threshold is {threshold}, it is a share of the hand's length, from 0 to 1, not px or percent"
        )
    errors = distances(pred, target, visible)
    return _within(errors, float(threshold) * normalizer_lengths(target, normalizer, image_size)[:, None])


def pck(
    pred: Any,
    target: Any,
    threshold: float = 0.2,
    normalizer: Literal["bbox", "diagonal", "image"] = "bbox",
    visible: Any = None,
    image_size: float = IMAGE_SIZE,
) -> Tensor:
    """Percentage of correct keypoints as a share: how many errors are below `threshold` times the hand's length.

    Args:
        pred, target: (N, K, 2). A prediction that is NaN is wrong.
        threshold: share of the length; an error must be strictly below.
        normalizer, image_size: the length; see `normalizer_lengths`. On a hand without size everything is wrong.
        visible: (N, K) bool or None.

    Returns:
        (K,), for each keypoint the mean over the hands that show it; NaN for one that none shows. The customary
        single figure is its `.nanmean()`.

    Source: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", TPAMI 2013.
    """
    return correct(pred, target, threshold, normalizer, visible, image_size).nanmean(0)


def auc(
    pred: Any,
    target: Any,
    max_error: float = 30.0,
    visible: Any = None,
    convention: Literal["mmpose", "trapezoid"] = "mmpose",
) -> float:
    """Area under the curve of the share of correct keypoints over the error allowed, from 0 to `max_error` pixels.

    Args:
        pred, target: (N, K, 2). A prediction that is NaN is wrong.
        max_error: in pixels of the inputs; customary are 30 at 224.
        visible: (N, K) bool or None.
        convention: `mmpose`, the mean of the shares strictly below i/20 of `max_error`, i = 0..19 (a perfect model
            scores 0.95: nothing is strictly below 0); `trapezoid`, the trapezoidal rule over 100 evenly spaced
            thresholds from 0 to `max_error`, both included, with "at most" in place of "below", divided by
            `max_error`, as FreiHAND's own evaluation does with errors in 3D, from 0 to 0.05 m (a perfect model
            scores 1).

    Returns:
        The mean over the keypoints that any hand shows; NaN if there is none.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; it must be one of {', '.join(CONVENTIONS)}")
    _check_positive(max_error=max_error)
    max_error = float(max_error)
    errors = distances(pred, target, visible)
    _refuse_shares(_points("target", target), f"max_error is {max_error}", max_error)
    if convention == "mmpose":
        # Divided first, and i/20 not a sum of steps: an error on a threshold then falls as it does in mmpose.
        shares = torch.stack([_within(errors / max_error, i / 20).nanmean(0).nanmean() for i in range(20)])
        return shares.mean().item()
    thresholds = torch.linspace(0, max_error, 100, dtype=torch.float64)
    shares = torch.stack([_within(errors, t, inclusive=True).nanmean(0).nanmean() for t in thresholds])
    return (torch.trapezoid(shares, thresholds) / max_error).item()


def epe(pred: Any, target: Any, visible: Any = None) -> Tensor:
    """Mean distance between prediction and keypoint (end-point error), in pixels of the inputs: name the resolution.

    Args:
        pred, target: (N, K, 2).
        visible: (N, K) bool or None.

    Returns:
        (K,), the mean over the hands that show the keypoint; NaN for one that none shows, infinite for one with a
        prediction that is NaN or infinite.
    """
    errors = distances(pred, target, visible)
    _refuse_shares(_points("target", target), "errors are in px")
    return errors.nanmean(0)


def swapped(pred: Any, target: Any, visible: Any = None) -> Tensor:
    """1 where a prediction lies nearer to the same joint of another finger than to its own, else 0.

    A tip is compared with the five true tips, a knuckle with the five true knuckles, and so on. Two equal distances are
    no swap, and neither is a prediction that is NaN or infinite. A prediction between two fingers that are close
    together is soon nearer to the wrong one, so the rate of a network that is never 0 px off is never 0 either.

    Args:
        pred, target: (N, 21, 2), in the order of `KEYPOINT_NAMES`.
        visible: (N, 21) bool or None. A joint that is not visible is neither counted nor compared with.

    Returns:
        (N, 21); NaN where not visible, and for the wrist, of which there is only one.

    Raises:
        ValueError: not 21 keypoints, and as `distances` does.
    """
    errors = distances(pred, target, visible)
    if errors.shape[1] != len(KEYPOINT_NAMES):
        raise ValueError(f"swaps are between fingers, so 21 keypoints per hand are needed, not {errors.shape[1]}")
    fingers = torch.tensor(list(FINGERS.values()))  # (5, 4)
    seen = ~errors[:, fingers].isnan()  # (N, 5, 4)
    places, truth = _double(pred)[:, fingers], _double(target)[:, fingers]  # (N, 5, 4, 2)
    far = torch.linalg.vector_norm(places[:, :, None] - truth[:, None], dim=-1)  # (N, 5 predicted, 5 true, 4)
    far = torch.where(seen[:, None], far, torch.inf)
    own = far.diagonal(dim1=1, dim2=2).movedim(-1, 1)  # (N, 5, 4)
    result = torch.full_like(errors, torch.nan)
    result[:, fingers] = torch.where(seen, (far.amin(2) < own).double(), torch.nan)
    return result


def swap_rate(pred: Any, target: Any, visible: Any = None) -> Tensor:
    """How often a predicted keypoint lies nearer to the same joint of another finger than to its own; see `swapped`.

    Returns:
        (21,), for each keypoint the mean over the hands that show it; NaN for the wrist. The single figure is its
        `.nanmean()`.

    >>> target = torch.zeros(1, 21, 2)
    >>> target[0, [4, 8, 12, 16, 20], 0] = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0])  # the tips, in a row
    >>> pred = target.clone()
    >>> pred[0, 8, 0] = 18.0  # the tip of the index lies beside that of the middle finger
    >>> swap_rate(pred, target)[[4, 8, 12]].tolist()
    [0.0, 1.0, 0.0]
    """
    return swapped(pred, target, visible).nanmean(0)


def bootstrap_means(values: Any, groups: Any = None, resamples: int = 1000, seed: int = 0) -> Tensor:
    """What the mean over hands might have been with other hands: draw as many again, with replacement, and average.

    All versions of one hand stand or fall together, so what is drawn is the hand, not the image.

    Args:
        values: (N, ...), one row per image; NaN entries are left out. What `distances` or `correct` return, say, or
            the difference of two models' on the same images.
        groups: (N,) the hand of each image, any integers or names; None: each image is a hand of its own.
        resamples: how often to draw.
        seed: of the generator; the same seed, the same draws.

    Returns:
        (resamples, ...), the mean of each draw. For the mean over keypoints take `.nanmean(1)` of it.

    Raises:
        ValueError: groups of another length than values, nothing to draw from, infinite values.
    """
    values = _double(values)
    if not is_whole(resamples) or resamples > MOST_RESAMPLES:
        raise ValueError(f"resamples is {resamples}, it must be a whole number from 1 to {MOST_RESAMPLES:,}")
    if not is_whole(seed, least=-(2**63)):
        raise ValueError(f"seed is {seed!r}, it must be a whole number")
    if values.dim() == 0 or len(values) == 0:
        raise ValueError(f"values is {tuple(values.shape)}, it must have a row for each image: (N, ...)")
    hands = torch.arange(len(values)) if groups is None else _numbered(groups)
    if hands.shape != values.shape[:1]:
        raise ValueError(f"groups is {tuple(hands.shape)}; it must hold one hand for each row of {tuple(values.shape)}")
    if values.isinf().any():
        raise ValueError("values holds infinite entries, whose mean means nothing: leave them out as NaN, or clip them")
    count = int(hands.max()) + 1
    known = ~values.isnan()
    flat = torch.stack([torch.where(known, values, 0), known.double()], dim=1).flatten(1)
    totals = torch.zeros(count, flat.shape[1], dtype=torch.float64).index_add_(0, hands, flat)  # sums and numbers
    generator = torch.Generator().manual_seed(seed)
    means = []
    for block in torch.arange(resamples).split(max(1, 2**22 // count)):  # 32 MB of weights at a time
        drawn = torch.randint(count, (len(block), count), generator=generator)
        weights = torch.zeros(len(block), count, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones((), dtype=torch.float64).expand(drawn.shape))
        sums, numbers = (weights @ totals).unflatten(1, (2, -1)).unbind(1)
        means.append(sums / numbers)  # a draw without a single known entry: 0/0, NaN
    return torch.cat(means).view(resamples, *values.shape[1:])


def bootstrap_interval(
    values: Any, groups: Any = None, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Percentile bootstrap interval of the mean over hands; see `bootstrap_means`.

    Returns:
        Lower and upper end, each of the shape of one row of `values`.

    Raises:
        ValueError: as `bootstrap_means`, and where all rows are of one hand.

    >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0, 1.0, 1.0]).repeat(25))
    >>> bool(0.6 < low < 0.75 < high < 0.9)
    True
    """
    if not is_positive(level) or level >= 1:
        raise ValueError(f"level is {level}, it must be a share between 0 and 1")
    if (len(_double(values)) if groups is None else len(_numbered(groups).unique())) == 1:
        raise ValueError("an interval needs two hands or more, and all values are of one: how sure it is can't be told")
    means = bootstrap_means(values, groups, resamples, seed)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(means, ends, dim=0)
    return low, high


def _numbered(groups: Any) -> Tensor:
    """The number (N,) of each image's group, of whole numbers or names."""
    names = groups.detach().cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    whole = names.dtype.kind in "biuU" or (names.dtype.kind == "f" and bool((names == np.floor(names)).all()))
    if not whole:
        raise ValueError("groups must be whole numbers or names, one for each hand, and some of these are not")
    return torch.from_numpy(np.unique(names, return_inverse=True)[1]).reshape(names.shape)


def _double(values: Any, name: str = "values", flags: bool = True) -> Tensor:
    """To float64 on the CPU: the only device that has it everywhere, and the numbers are few."""
    return as_numbers(name, values, flags, lists=torch.float64).detach().cpu().double()


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not is_positive(value):
            raise ValueError(f"{name} is {value}, it must be a positive number")


def _points(name: str, given: Any) -> Tensor:
    points = _double(given, name, flags=False)
    if points.dim() != 3 or points.shape[-1] != 2:
        raise ValueError(f"{name} must be (N, K, 2), not {tuple(points.shape)}")
    return points


def _refuse_shares(target: Tensor, what: str, length: float = math.inf) -> None:
    """ValueError for a target in shares of the image where a length that goes with it is in px."""
    if length > 1 and look_like_shares(target):
        raise ValueError(f"target looks like shares of the image, and {what}: give keypoints in px")


def _within(errors: Tensor, bound: Tensor | float, inclusive: bool = False) -> Tensor:
    """1 for errors (N, K) below a bound, 0 for others, NaN for NaN."""
    below = errors <= bound if inclusive else errors < bound
    return torch.where(errors.isnan(), torch.nan, below.double())
