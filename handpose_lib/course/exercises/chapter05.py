"""The checks of chapter 05: Adaptive Wing's two constants, its value, its weight map, and a mean that leaves out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from handpose_lib.course.exercises.checking import Check
from handpose_lib.losses import adaptive_wing_constants


def _exponent(alpha, y):
    return alpha - y


def _constants(
    y, alpha, omega, epsilon, theta, *, by=None, exponent=_exponent, missing=None, lower=1, sign=1.0, log=math.log1p
):
    """A and C; the named arguments make the mistakes."""
    p = exponent(alpha, y)
    r = theta / (omega if by == "omega" else epsilon)
    A = omega / (1 + r**p) * (1 if missing == "p" else p) * r ** (p - lower) / (1 if missing == "epsilon" else epsilon)
    return A, sign * (theta * A - omega * log(r**p))


def _but(**mistake) -> Callable[..., tuple[float, float]]:
    return lambda *case: _constants(*case, **mistake)


check_constants = Check(
    truth=_constants,
    cases=lambda: [(0.0, 2.1, 14.0, 1.0, 0.5), (0.7, 2.1, 14.0, 0.8, 0.5), (1.0, 2.4, 10.0, 0.5, 0.3)],
    mistakes={
        "divided by ω where ε belongs": _but(by="omega"),
        "A lacks a factor: δ/ε differentiated by δ leaves 1/ε": _but(missing="epsilon"),
        "A lacks a factor: a power p differentiated leaves p": _but(missing="p"),
        "in A, the power that is left after differentiating is p − 1": _but(lower=0),
        "the exponent does not depend on the target": _but(exponent=lambda alpha, y: alpha),
        "A is right; C has the wrong sign": _but(sign=-1),
        "A is right; C lacks the logarithm, so line and curve do not meet at θ": _but(log=lambda power: 0.0),
        "A is right; the 1 is in C twice: log1p adds one of its own": _but(log=lambda power: math.log1p(1 + power)),
        "A is right; the 1 is missing in C's logarithm": _but(log=math.log),
        "A and C are swapped": lambda *case: _constants(*case)[::-1],
        "two numbers are wanted: return A, C": lambda *case: torch.tensor(_constants(*case)),
    },
    right="right: line and curve meet at θ, with the same slope",
)

DEFAULTS = (2.1, 14.0, 1.0, 0.5)  # α, ω, ε and θ


def _error(pred: Tensor, target: Tensor) -> Tensor:
    return (target - pred).abs()


def _awing(
    pred, target, alpha, omega, epsilon, theta, *, by=None, error=_error, exponent=_exponent, sign=-1.0, only=None
) -> Tensor:
    """The loss of each pixel; the named arguments make the mistakes."""
    delta, p = error(pred, target), exponent(alpha, target)
    curve = omega * torch.log1p((delta / (omega if by == "omega" else epsilon)) ** p)
    A, C = adaptive_wing_constants(alpha - p, alpha, omega, epsilon, theta)  # of any exponent p
    line = A * delta + sign * C
    return {"curve": curve, "line": line}.get(only, torch.where(delta < theta, curve, line))


def _mistaken(**mistake) -> Callable[..., Tensor]:
    return lambda *case: _awing(*case, **mistake)


def _pixels() -> list[tuple]:
    target = torch.tensor([0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0], dtype=torch.float64)
    error = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64).repeat(3)
    return [
        (target - error, target, *DEFAULTS),
        (target + error, target, *DEFAULTS),
        (target + error, target, 2.4, 10.0, 0.5, 0.3),
    ]


check_awing = Check(
    truth=_awing,
    cases=_pixels,
    mistakes={
        "below θ, δ is divided by ω instead of ε: the loss jumps there": _mistaken(by="omega"),
        "the curve goes on beyond θ, where the straight line should take over": _mistaken(only="curve"),
        "the straight line is used everywhere, below θ too": _mistaken(only="line"),
        "the exponent is α alone, so peak and background are treated alike": _mistaken(
            exponent=lambda alpha, y: alpha + 0 * y
        ),
        "the exponent has the wrong sign: it is α minus the target": _mistaken(exponent=lambda alpha, y: y - alpha),
        # A negative number to a broken power is NaN.
        "the error has kept its sign; answers above the target count differently": _mistaken(error=lambda p, t: t - p),
        "the error has kept its sign; answers below the target count differently": _mistaken(error=lambda p, t: p - t),
        "C is added where it should be subtracted": _mistaken(sign=1.0),
        "each pixel's loss is wanted, not their mean": lambda *case: _awing(*case).mean(),
        "with other α, ω, ε and θ it is wrong: use the arguments": lambda p, t, *rest: _awing(p, t, *DEFAULTS),
        "with another ε it is wrong: both δ and θ are divided by it": lambda p, t, alpha, omega, epsilon, theta: _awing(
            p, t, alpha, omega, 1.0, theta
        ),
    },
    right="right: lenient on the background, strict on the peak, and no jump at θ",
)


def _weights(target: Tensor, w: float = 10.0, *, kernel: int = 3, base: float = 1.0, padding: bool = True) -> Tensor:
    near = max_pool2d(target, kernel, stride=1, padding=kernel // 2 if padding else 0) > 0.2
    return base + w * near


def _maps() -> list[tuple]:
    axis = torch.arange(12.0)
    # One whole peak, and one that the border cuts off.
    peaks = [torch.exp(-((axis[:, None] - y).square() + (axis - x).square()) / 4) for x, y in ((5.3, 6.1), (0.2, 11.4))]
    return [
        (torch.stack(peaks)[None], 10.0),
        (torch.stack(peaks)[:, None] * 0.5, 10.0),
        (torch.stack(peaks)[None], 4.0),
    ]


check_weights = Check(
    truth=_weights,
    cases=_maps,
    mistakes={
        "the dilation is missing: the rim around the peak counts as well": lambda t, w: _weights(t, w, kernel=1),
        "the map has shrunk: the 3×3 window needs a padding of 1": lambda t, w: _weights(t, w, padding=False),
        "near a peak a pixel counts w + 1 times, not w": lambda t, w: torch.where(_weights(t) > 1, w, 1.0),
        "far from any peak a pixel counts 0 times; it should count once": lambda t, w: _weights(t, w, base=0.0),
        "the window is wider than 3×3": lambda t, w: _weights(t, w, kernel=5),
        "that is a minimum over the window, so the peak shrinks instead of growing": lambda t, w: (
            1 + w * (-max_pool2d(-t, 3, 1, 1) > 0.2)
        ),
        "you use the dilated target itself as the weight; ask where it exceeds 0.2": lambda t, w: (
            1 + w * max_pool2d(t, 3, 1, 1)
        ),
        "it does not depend on w": lambda t, w: _weights(t),
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
