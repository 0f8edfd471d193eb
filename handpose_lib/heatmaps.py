"""Keypoints to heatmaps and back, to a fraction of a pixel.

Explained in notebook 02. Coordinates are (x, y) in pixels of the map, whole numbers at pixel centres, so pixel
(row, column) = (3, 5) lies at x = 5, y = 3 (drawn in `keypoints.py`). All functions are vectorised over the maps, work
on every device, and let gradients through where a method has them.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from handpose_lib.fields import as_numbers, is_positive, is_whole

FAR = 1e6  # pixels; no map reaches there, and its square still fits float32
LARGEST = 65_536  # px, of a map's side
HIGH = 1e30  # heatmap values are taken for at most this, so that their sums fit float32


def render_heatmaps(keypoints: Tensor, size: tuple[int, int], sigma: float = 2.0, out: Tensor | None = None) -> Tensor:
    """Draw each keypoint as a Gaussian of height 1 whose centre lies between the pixels where the keypoint does.

    A Gaussian is the product of one in x and one in y: H + W exponentials per keypoint, and one outer product.

    Args:
        keypoints: (B, K, 2), x and y in pixels of the map. One off the map still shows the part of its Gaussian that
            reaches in (leave it out of the loss by `visible`); one that is NaN gives a map of zeros.
        size: (H, W).
        sigma: standard deviation in pixels.
        out: (B, K, H, W) to write into, where the same memory is to serve batch after batch; no gradient then.

    Returns:
        (B, K, H, W), float32 (float64 for float64 keypoints).

    >>> render_heatmaps(torch.tensor([[[2.0, 0.0]]]), size=(2, 4), sigma=1.0)[0, 0].round(decimals=2)
    tensor([[0.1400, 0.6100, 1.0000, 0.6100],
            [0.0800, 0.3700, 0.6100, 0.3700]])
    """
    keypoints = as_numbers("keypoints", keypoints)
    if keypoints.dim() != 3 or keypoints.shape[-1] != 2:
        raise ValueError(f"keypoints must be (B, K, 2), not {tuple(keypoints.shape)}")
    _check_positive(sigma=sigma)
    if not isinstance(size, Sequence) or len(size) != 2 or not all(is_whole(side) and side <= LARGEST for side in size):
        raise ValueError(f"size must be (H, W) in whole pixels, not {size}: of {LARGEST:,} at most")
    height, width = size
    shape = (*keypoints.shape[:2], height, width)
    if out is not None and (tuple(out.shape) != shape or not out.is_floating_point()):
        raise ValueError(f"out is {tuple(out.shape)} {out.dtype}, these heatmaps are {shape} and fractions")
    keypoints = torch.nan_to_num(_at_least_float32(keypoints), nan=FAR, posinf=FAR, neginf=-FAR)
    columns = torch.arange(width, dtype=keypoints.dtype, device=keypoints.device)
    rows = torch.arange(height, dtype=keypoints.dtype, device=keypoints.device)
    along_x = _gaussian(columns - keypoints[..., 0, None], sigma)  # (B, K, W)
    along_y = _gaussian(rows - keypoints[..., 1, None], sigma)  # (B, K, H)
    return torch.mul(along_y[..., :, None], along_x[..., None, :], out=out)  # (B, K, H, W)


def _gaussian(offset: Tensor, sigma: float) -> Tensor:
    """exp(-offset^2 / (2 sigma^2)), and 0 where that is below 1e-19.

    A product of two smaller ones could be a denormal number, which takes a CPU a hundred times as long as any other;
    so does the exponential of a number so low that its own result would be one, hence the clamp.
    """
    value = (offset.square() / (-2 * sigma**2)).clamp(min=-50).exp()
    return torch.where(value < 1e-19, 0, value)


def decode_heatmaps(heatmaps: Tensor, method: str = "local_peak", **options: float) -> tuple[Tensor, Tensor]:
    """Find the keypoint of each heatmap by one of the decoders of this module, which are functions of their own.

    `argmax`, `quarter_offset`, `softmax`, `center_of_mass`, `local_peak` (the default) and `dark`: their docstrings say
    how they work, where they come from, and which options they take.

    Args:
        heatmaps: (B, K, H, W).
        method: the decoder's name.
        options: what that decoder takes by keyword, such as `sigma` for `local_peak` or `beta` for `softmax`.

    Returns:
        keypoints (B, K, 2), x and y in pixels of the map, and confidence (B, K), the highest value clipped to 0..1;
        both float32 (float64 for float64 heatmaps). Both are finite always. A map with nothing positive in it has
        confidence 0 and the coordinates of its highest pixel, the first of them if they are several (`softmax`: the
        middle of a flat map). A map with a NaN in it has confidence 0 and coordinates without a meaning.

    Raises:
        ValueError: an unknown method, a shape that is not (B, K, H, W), an option out of range.
        TypeError: an option that the method does not have.

    >>> heatmaps = render_heatmaps(torch.tensor([[[5.3, 8.6]]]), size=(16, 16))
    >>> decode_heatmaps(heatmaps, "argmax")[0]
    tensor([[[5., 9.]]])
    >>> decode_heatmaps(heatmaps)[0].round(decimals=3)
    tensor([[[5.3000, 8.6000]]])
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"unknown method {method!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[method](heatmaps, **options)


def argmax(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel; up to half a pixel off. Args and Returns: see `decode_heatmaps`."""
    heatmaps, peak, confidence = _highest(heatmaps)
    return peak.to(heatmaps.dtype), confidence


def quarter_offset(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel, moved by 1/4 towards the higher neighbour in x and in y, but never at the border.

    Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016. Args and Returns: see
    `decode_heatmaps`.
    """
    heatmaps, peak, confidence = _highest(heatmaps)
    values, x, y = _windows(heatmaps, peak, radius=1)
    slope = torch.stack([values[..., 1, 2] - values[..., 1, 0], values[..., 2, 1] - values[..., 0, 1]], dim=-1)
    rows, columns = heatmaps.shape[-2:]
    both = torch.stack([_inside(x, columns).all(-1), _inside(y, rows).all(-1)], dim=-1)  # no step at the border
    return peak + 0.25 * slope.sign() * both, confidence


def softmax(heatmaps: Tensor, *, beta: float = 100.0) -> tuple[Tensor, Tensor]:
    """Mean position under softmax(beta * heatmap), also called soft-argmax.

    At beta = 100 it hardly leaves the highest pixel; at beta = 10 the whole map's background pulls at it.

    Args:
        heatmaps: (B, K, H, W).
        beta: sharpness; positive.

    Returns:
        See `decode_heatmaps`.
    """
    _check_positive(beta=beta)
    heatmaps, peak, confidence = _highest(heatmaps)
    logits = beta * torch.nan_to_num(heatmaps, nan=0.0).clamp(-HIGH, HIGH)
    return _mean_position(logits.flatten(2).softmax(-1).view_as(heatmaps), peak), confidence


def center_of_mass(heatmaps: Tensor, *, threshold: float = 0.4) -> tuple[Tensor, Tensor]:
    """Mean position of what exceeds `threshold` times the maximum. A second mode moves it.

    Args:
        heatmaps: (B, K, H, W).
        threshold: share of the maximum, from 0 (all that is positive) to below 1.

    Returns:
        See `decode_heatmaps`.
    """
    if not (is_positive(threshold) or threshold == 0) or threshold >= 1:
        raise ValueError(f"threshold must be a share of the maximum from 0 to below 1, not {threshold}")
    heatmaps, peak, confidence = _highest(heatmaps)
    heatmaps = torch.nan_to_num(heatmaps, nan=0.0).clamp(0, HIGH)
    floor = threshold * heatmaps.amax((-2, -1), keepdim=True)
    return _mean_position(torch.where(heatmaps > floor, heatmaps, 0), peak), confidence


def local_peak(
    heatmaps: Tensor, *, sigma: float = 2.0, window: int | None = None, rounds: int = 6, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Centroid of a Gaussian window around the peak, moved until the window sits on the peak's centre.

    Exact for any Gaussian of 0.75 to 1.5 times `sigma`, cut off by the border too, and unmoved by what lies elsewhere
    in the map.

    The centroid of a window that stays put is drawn towards the window's middle, and at the border inwards. So each
    round weighs the pixels by a Gaussian about the current position, takes their centroid, and compares it with what
    a Gaussian peak *at* that position would show in the very same pixels. The difference, divided by how fast that
    centroid follows the peak, is the step: Newton's method. The width of that peak starts as `sigma` and is fitted
    likewise, by the mean square distance from the position. Any Gaussian ends at its true centre, cut off by the
    border or not; any other symmetric peak inside the map at its axis of symmetry. (Without the border this is what
    astronomers call a windowed centroid, SExtractor's XWIN and YWIN.)

    Args:
        heatmaps: (B, K, H, W).
        sigma: width of the Gaussians that the network was trained on, px.
        window: side of the window in pixels, odd; None: 3 sigma to each side, 13 at sigma 2.
        rounds: steps of Newton's method.
        start: (B, K, 2) pixels, integers, x and y, of the peaks that are meant; None: the highest of each map.

    Returns:
        See `decode_heatmaps`.
    """
    _check_positive(sigma=sigma)
    window = 2 * math.ceil(3 * sigma) + 1 if window is None else window
    _check_odd("window", window)
    if not is_whole(rounds, 0):
        raise ValueError(f"rounds is {rounds}, it must be a whole number and not negative")
    heatmaps, peak, confidence = _highest(heatmaps)
    if start is not None:
        peak = _pixels_of(start, heatmaps)
        index = peak[..., 1:] * heatmaps.shape[3] + peak[..., :1]  # (B, K, 1)
        confidence = torch.nan_to_num(heatmaps.flatten(2).gather(-1, index).squeeze(-1), nan=0.0).clamp(0, 1)
    radius = window // 2
    rows, columns = heatmaps.shape[-2:]
    values, x, y = _windows(heatmaps, peak, radius)
    values = values.clamp(0, HIGH)
    places = torch.stack([x, y], dim=-2)  # (B, K, 2, S)
    inside = torch.stack([_inside(x, columns), _inside(y, rows)], dim=-2)
    middle = peak.to(heatmaps.dtype)[..., None]  # (B, K, 2, 1)
    position = middle
    narrowness = torch.full_like(middle[..., :1, :], 1 / sigma**2)  # 1 / width^2, the same in x and y: (B, K, 1, 1)
    for _ in range(rounds):
        offset = places - position
        square = offset.square()
        weights = torch.exp(square / (-2 * sigma**2)) * inside
        across = values * weights[..., 1, :, None], values * weights[..., 0, None, :]  # (B, K, S, S) each
        seen = _shares(weights * torch.stack([across[0].sum(-2), across[1].sum(-1)], dim=-2))  # along x, along y
        expected = _shares(weights * torch.exp(square * narrowness / -2))
        mean, mean_square = _mean(offset, expected), _mean(square, expected)  # (B, K, 2, 1)
        spread = (mean_square - mean.square()).clamp(min=0.01)  # variance of the offset,
        skew = _mean(square * offset, expected) - mean * mean_square  # its covariance with its square,
        tail = _mean(square.square(), expected) - mean_square.square()  # the variance of the square
        shift, wider = _mean(offset, seen) - mean, _mean(square, seen) - mean_square
        lean = skew / spread
        stiffness = (tail - lean * skew).sum(-2, keepdim=True).clamp(min=0.01)
        narrower = -2 * (wider - lean * shift).sum(-2, keepdim=True) / stiffness
        narrower = (narrowness + narrower).clamp(1 / (2 * sigma) ** 2, 1 / (sigma / 2) ** 2) - narrowness
        step = (shift + skew * narrower / 2) / (narrowness * spread)
        narrowness = narrowness + narrower
        step = torch.where(seen.sum(-1, keepdim=True) > 0, step, 0).clamp(-1, 1)
        position = (position + step).clamp(middle - radius, middle + radius)
    position = position[..., 0]
    x, y = position[..., 0].clamp(-0.5, columns - 0.5), position[..., 1].clamp(-0.5, rows - 0.5)
    return torch.stack([x, y], dim=-1), confidence


def dark(heatmaps: Tensor, *, sigma: float = 2.0, kernel: int | None = None) -> tuple[Tensor, Tensor]:
    """One Newton step on log(blurred heatmap), whose derivatives are differences over 1 and 2 pixels.

    Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020. Peaks within
    2 px of the border stay at the highest pixel, as in the paper's code.

    Args:
        heatmaps: (B, K, H, W).
        sigma: width of the Gaussians that the network was trained on, px.
        kernel: side of the blur in pixels, odd; None: 6 sigma - 1, which is 11 at sigma 2 and 17 at sigma 3.

    Returns:
        See `decode_heatmaps`.
    """
    _check_positive(sigma=sigma)
    kernel = max(3, 2 * round(3 * sigma - 1) + 1) if kernel is None else kernel
    _check_odd("kernel", kernel)
    heatmaps, peak, confidence = _highest(heatmaps)
    rows, columns = heatmaps.shape[-2:]
    values, _, _ = _windows(heatmaps, peak, radius=kernel // 2 + 2)  # what the blur of 5 x 5 pixels needs
    # OpenCV's rule for a blur of which only the side is given: 2.0 for 11, 2.9 for 17.
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    taps = torch.arange(kernel, dtype=values.dtype, device=values.device) - kernel // 2
    taps = torch.softmax(taps.square() / (-2 * sigma**2), dim=0)
    values = (values.unfold(-1, kernel, 1) * taps).sum(-1)  # (B, K, S, 5)
    values = (values.unfold(-2, kernel, 1) * taps).sum(-1)  # (B, K, 5, 5)
    log = values.clamp(min=1e-10).log()
    dx, dy = (log[..., 2, 3] - log[..., 2, 1]) / 2, (log[..., 3, 2] - log[..., 1, 2]) / 2
    dxx = (log[..., 2, 4] - 2 * log[..., 2, 2] + log[..., 2, 0]) / 4
    dyy = (log[..., 4, 2] - 2 * log[..., 2, 2] + log[..., 0, 2]) / 4
    dxy = (log[..., 3, 3] - log[..., 1, 3] - log[..., 3, 1] + log[..., 1, 1]) / 4
    determinant = dxx * dyy - dxy.square()
    curved = determinant != 0
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1)
    step = step / torch.where(curved, determinant, 1)[..., None]
    x, y = peak.unbind(-1)
    room = (x >= 2) & (x < columns - 2) & (y >= 2) & (y < rows - 2)
    # A step off the 5 x 5 pixels means that they are no peak: the parabola says nothing there.
    use = (room & curved)[..., None] & (step.abs() <= 2).all(-1, keepdim=True)
    return peak + torch.where(use, step, 0), confidence


METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    each.__name__: each for each in (argmax, quarter_offset, softmax, center_of_mass, local_peak, dark)
}


def _highest(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maps in float32 or 64, their highest pixel (B, K, 2) as x and y, and the confidence (B, K)."""
    heatmaps = as_numbers("heatmaps", heatmaps, flags=True)
    if heatmaps.dim() != 4 or 0 in heatmaps.shape[2:]:
        raise ValueError(f"heatmaps must be (B, K, H, W), each of a pixel or more, not {tuple(heatmaps.shape)}")
    heatmaps = _at_least_float32(heatmaps)
    value, index = heatmaps.flatten(2).max(dim=-1)  # (B, K)
    peak = torch.stack([index % heatmaps.shape[3], index // heatmaps.shape[3]], dim=-1)  # (B, K, 2)
    return heatmaps, peak, torch.nan_to_num(value, nan=0.0).clamp(0, 1)


def _pixels_of(start: Tensor, heatmaps: Tensor) -> Tensor:
    """One pixel per map, (B, K, 2); ValueError for anything else."""
    start = as_numbers("start", start)
    if start.is_floating_point() or start.shape != (*heatmaps.shape[:2], 2):
        raise ValueError(f"start must be whole px of each map, (B, K, 2), not {tuple(start.shape)} {start.dtype}")
    start = start.long().to(heatmaps.device)
    if torch.compiler.is_compiling() or start.is_meta:  # an exported program has no branches
        return start
    if bool(((start < 0) | (start >= start.new_tensor(heatmaps.shape[:1:-1]))).any()):
        raise ValueError(f"start has a pixel off the maps, which are (H, W) {tuple(heatmaps.shape[2:])}")
    return start


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not is_positive(value):
            raise ValueError(f"{name} must be positive, not {value}")
        if not 1e-9 < value < 1e9:
            raise ValueError(f"{name} is {value}, of which the square is no number that can be used here")


def _check_odd(name: str, side: int) -> None:
    if not is_whole(side) or side % 2 == 0:
        raise ValueError(f"{name} must be odd and positive, so that it has a middle pixel, not {side}")


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _windows(heatmaps: Tensor, peak: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the square of 2*radius + 1 pixels around each peak out of its map: values (B, K, S, S), x, y (B, K, S).

    Pixels off the map are 0, as are NaN and infinite ones.
    """
    rows, columns = heatmaps.shape[-2:]
    steps = torch.arange(-radius, radius + 1, device=heatmaps.device)
    x, y = peak[..., 0, None] + steps, peak[..., 1, None] + steps  # (B, K, S)
    index = y.clamp(0, rows - 1)[..., :, None] * columns + x.clamp(0, columns - 1)[..., None, :]  # (B, K, S, S)
    values = heatmaps.flatten(2).gather(-1, index.flatten(2)).view(index.shape)
    inside = _inside(y, rows)[..., :, None] & _inside(x, columns)[..., None, :]
    return torch.where(inside & values.isfinite(), values, 0), x, y


def _inside(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)


def _mean_position(weights: Tensor, otherwise: Tensor) -> Tensor:
    """Mean (x, y) of a map of weights (B, K, H, W); where all are 0, the position given instead."""
    columns, rows = weights.sum(-2), weights.sum(-1)  # (B, K, W), (B, K, H)
    x, y = (torch.arange(side.shape[-1], dtype=side.dtype, device=side.device) for side in (columns, rows))
    total = columns.sum(-1)
    some = total > 0
    total = torch.where(some, total, 1)
    mean = torch.stack([(columns * x).sum(-1) / total, (rows * y).sum(-1) / total], dim=-1)
    return torch.where(some[..., None], mean, otherwise.to(mean.dtype))


def _shares(weights: Tensor) -> Tensor:
    """Weights (..., S), none negative, divided by their sum; zeros where all are 0."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def _mean(values: Tensor, shares: Tensor) -> Tensor:
    """The mean (..., 1) of values (..., S) that have these shares (..., S)."""
    return (values * shares).sum(-1, keepdim=True)
