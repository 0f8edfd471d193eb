"""The checks of chapter 05: Adaptive Wing's two constants, its value, its weight map, and a mean that leaves out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from handpose_lib.course.exercises.checking import Check


def _constants(y, alpha, omega, epsilon, theta, by=None, exponent=None, factor=1.0, sign=1.0, log=True):
    """A and C; the arguments after theta make the mistakes."""
    p = alpha - y if exponent is None else exponent(alpha, y)
    r = theta / (omega if by == "omega" else epsilon)
    A = factor * omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, sign * (theta * A - (omega * math.log1p(r**p) if log else 0))


def _but(**mistake) -> Callable[..., tuple[float, float]]:
    return lambda *case: _constants(*case, **mistake)


check_constants = Check(
    truth=_constants,
    cases=lambda: [(0.0, 2.1, 14.0, 1.0, 0.5), (0.7, 2.1, 14.0, 0.8, 0.5), (1.0, 2.4, 10.0, 0.5, 0.3)],
    mistakes={
        "divided by ω where ε belongs": _but(by="omega"),
        "A lacks a factor: δ/ε differentiated by δ leaves 1/ε": lambda y, alpha, omega, epsilon, theta: _constants(
            y, alpha, omega, epsilon, theta, factor=epsilon
        ),
        "the exponent does not depend on the target": _but(exponent=lambda alpha, y: alpha),
        "A is right; C has the wrong sign": _but(sign=-1),
        "A is right; C lacks the logarithm, so line and curve do not meet at θ": _but(log=False),
        "A and C are swapped": lambda *case: _constants(*case)[::-1],
    },
    right="right: line and curve meet at θ, with the same slope",
)


def _curve(delta: Tensor, p: Tensor, by: float = 1.0) -> Tensor:
    return 14 * torch.log1p((delta / by) ** p)


def _line(delta: Tensor, p: Tensor, sign: float = -1.0) -> Tensor:
    A = 14 / (1 + 0.5**p) * p * 0.5 ** (p - 1)
    return A * delta + sign * (0.5 * A - 14 * torch.log1p(0.5**p))


def _awing(pred: Tensor, target: Tensor, by: float = 1.0, exponent: Callable = lambda y: 2.1 - y, sign: float = -1.0):
    delta, p = (target - pred).abs(), exponent(target)
    return torch.where(delta < 0.5, _curve(delta, p, by), _line(delta, p, sign))


def _signed(pred: Tensor, target: Tensor) -> Tensor:
    delta, p = target - pred, 2.1 - target  # a negative number to a broken power is NaN
    return torch.where(delta < 0.5, _curve(delta, p), _line(delta, p))


def _pixels() -> list[tuple]:
    target = torch.tensor([0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0], dtype=torch.float64)
    error = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64).repeat(3)
    return [(target - error, target), (target + error, target)]


check_awing = Check(
    truth=_awing,
    cases=_pixels,
    mistakes={
        "below θ, δ is divided by ω instead of ε: the loss jumps there": lambda p, t: _awing(p, t, by=14.0),
        "the curve goes on beyond θ, where the straight line should take over": lambda p, t: _curve(
            (t - p).abs(), 2.1 - t
        ),
        "the straight line is used everywhere, below θ too": lambda p, t: _line((t - p).abs(), 2.1 - t),
        "the exponent is α alone, so peak and background are treated alike": lambda p, t: _awing(
            p, t, exponent=lambda y: 2.1 + 0 * y
        ),
        "the exponent has the wrong sign: it is α minus the target": lambda p, t: _awing(
            p, t, exponent=lambda y: y - 2.1
        ),
        "the error has kept its sign; answers above the target count differently": _signed,
        "C is added where it should be subtracted": lambda p, t: _awing(p, t, sign=1.0),
        "each pixel's loss is wanted, not their mean": lambda p, t: _awing(p, t).mean(),
    },
    right="right: lenient on the background, strict on the peak, and no jump at θ",
)


def _weights(target: Tensor, kernel: int = 3, extra: float = 10.0, base: float = 1.0, padding: bool = True) -> Tensor:
    near = max_pool2d(target, kernel, stride=1, padding=kernel // 2 if padding else 0) > 0.2
    return base + extra * near


def _maps() -> list[tuple]:
    axis = torch.arange(12.0)
    # One whole peak, and one that the border cuts off.
    peaks = [torch.exp(-((axis[:, None] - y).square() + (axis - x).square()) / 4) for x, y in ((5.3, 6.1), (0.2, 11.4))]
    return [(torch.stack(peaks)[None],), (torch.stack(peaks)[:, None] * 0.5,)]


check_weights = Check(
    truth=_weights,
    cases=_maps,
    mistakes={
        "the dilation is missing: the rim around the peak counts as well": lambda t: _weights(t, kernel=1),
        "the map has shrunk: the 3×3 window needs a padding of 1": lambda t: _weights(t, padding=False),
        "near a peak a pixel counts w + 1 times, not w": lambda t: torch.where(_weights(t) > 1, 10.0, 1.0),
        "far from any peak a pixel counts 0 times; it should count once": lambda t: _weights(t, base=0.0),
        "the window is wider than 3×3": lambda t: _weights(t, kernel=5),
        "that is a minimum over the window, so the peak shrinks instead of growing": lambda t: (
            1 + 10 * (-max_pool2d(-t, 3, 1, 1) > 0.2)
        ),
        "you use the dilated target itself as the weight; ask where it exceeds 0.2": lambda t: (
            1 + 10 * max_pool2d(t, 3, 1, 1)
        ),
    },
    right="right: the peak and a rim of dark pixels around it",
)


def _mean(values: Tensor, visible: Tensor) -> Tensor:
    return values[visible].mean()


def _hidden_to_zero(values: Tensor, visible: Tensor) -> Tensor:
    return values * visible[..., None, None]


def _values_and_visible() -> list[tuple]:
    values = torch.arange(2 * 3 * 2 * 2, dtype=torch.float64).reshape(2, 3, 2, 2) ** 2
    return [
        (values, torch.tensor([[True, False, True], [False, False, True]])),
        (values.flip(0), torch.tensor([[True, True, True], [False, True, False]])),
    ]


check_mean = Check(
    truth=_mean,
    cases=_values_and_visible,
    mistakes={
        "the mask is ignored": lambda values, visible: values.mean(),
        "hidden maps are out of the sum, but still in the number of pixels": lambda values, visible: _hidden_to_zero(
            values, visible
        ).mean(),
        "divided by the number of maps, not of their pixels": lambda values, visible: (
            _hidden_to_zero(values, visible).sum() / visible.sum()
        ),
        "the mask is upside down: these are the maps to leave out": lambda values, visible: values[~visible].mean(),
        "one number for each map is left; take their mean too": lambda values, visible: values[visible].mean((-2, -1)),
        "averaged over each hand first, so a hand with few visible keypoints counts too much": lambda values, visible: (
            torch.stack([one[seen].mean() for one, seen in zip(values, visible, strict=True)]).mean()
        ),
    },
    right="right: hidden maps are out of the sum and out of the count",
)
