"""Adaptive Wing loss: a heatmap loss that is lenient on the background and strict on the peak.

Explained in notebook 05. Source: Wang, Bo and Fuxin, "Adaptive Wing Loss for Robust Face Alignment via Heatmap
Regression", ICCV 2019 (equations 2 and 3; section 4.3 for the weight map).
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from handpose_lib.fields import as_numbers, is_positive

# On a CPU the maps go through the formula in pieces of this many pixels per thread, so that the dozen temporaries stay
# in the processor's cache.
PIECE = 2**16
REDUCTIONS = ("mean", "sum", "none")
LARGEST_ERROR = 1e20  # an error beyond it is taken for it, so that the sum over a batch still fits float32


def adaptive_wing_constants(
    target: Tensor, alpha: float = 2.1, omega: float = 14.0, epsilon: float = 1.0, theta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Slope A and offset C of the linear branch, A*delta - C, which make loss and slope continuous at theta.

    With p = alpha - target and r = theta / epsilon::

        A = omega * 1/(1 + r^p) * p * r^(p-1) / epsilon        C = theta*A - omega*ln(1 + r^p)

    Args:
        target: heatmap values y, any shape.

    Returns:
        A and C, each of the shape of `target`.

    >>> slope, offset = adaptive_wing_constants(torch.tensor([0.0, 1.0]))
    >>> [round(a, 3) for a in slope.tolist()], [round(c, 3) for c in offset.tolist()]
    ([11.121, 9.798], [2.625, -0.462])
    """
    _check_settings(alpha, omega, epsilon, theta, 0.0, "mean")
    exponent = alpha - target
    ratio = theta / epsilon
    slope = omega / (1 + ratio**exponent) * exponent * ratio ** (exponent - 1) / epsilon
    return slope, theta * slope - omega * torch.log1p(ratio**exponent)


def _value_and_slope(
    pred: Tensor, target: Tensor, alpha: float, omega: float, epsilon: float, theta: float
) -> tuple[Tensor, Tensor]:
    """The loss of every pixel and its derivative by the prediction; autograd is not involved.

    The paper, with delta = |target - pred| and p = alpha - target::

        delta <  theta:   omega * ln(1 + (delta/epsilon)^p)
        delta >= theta:   A*delta - C                               (A, C: `adaptive_wing_constants`)

    Here both branches are one expression. A is the slope of the curved branch at theta, and C makes the two meet, so
    with d = min(delta, theta) and u = (d/epsilon)^p::

        slope = omega * p * u / (d * (1 + u))        loss = omega * ln(1 + u) + slope * (delta - d)

    The power costs one logarithm and one exponential. p is kept within 1..alpha + 1, which is no change for targets
    from -1 to alpha - 1; beyond them the paper's slope grows without bound as delta goes to 0.

    Args:
        pred, target: same shape, float32 or float64.

    Returns:
        loss and slope * sign(pred - target), both of the shape of `pred`; 0 and 0 where pred == target.
    """
    difference = pred - target
    exponent = (alpha - target).clamp_(1, alpha + 1)
    delta = difference.abs().clamp_(torch.finfo(pred.dtype).tiny, LARGEST_ERROR)
    inner = delta.clamp(max=theta)
    power = inner.log().sub_(math.log(epsilon)).mul_(exponent).exp_()
    slope = exponent.mul_(power).div_(torch.addcmul(inner, inner, power)).mul_(omega)
    loss = power.log1p_().mul_(omega).addcmul_(slope, delta.sub_(inner))
    return loss, slope.mul_(difference.sign_())


def _weighted(
    pred: Tensor, target: Tensor, foreground_weight: float, curve: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """The loss of every pixel of (..., H, W) and its gradient, both times the paper's weight map."""
    loss, gradient = _value_and_slope(pred, target, *curve)
    if foreground_weight:
        weight = _dilated(target > 0.2).to(loss.dtype).mul_(foreground_weight).add_(1)
        loss, gradient = loss.mul_(weight), gradient.mul_(weight)
    return loss, gradient


def _sum_and_gradient(
    pred: Tensor, target: Tensor, visible: Tensor | None, foreground_weight: float, curve: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Sum of the loss over the visible maps of (..., H, W), and its gradient of the same shape."""
    loss, gradient = _weighted(pred, target, foreground_weight, curve)
    if visible is None:
        return loss.sum(), gradient
    return loss.sum((-2, -1)).masked_fill(~visible, 0).sum(), gradient.masked_fill_(~visible[..., None, None], 0)


def _dilated(mask: Tensor) -> Tensor:
    """The 3x3 dilation of a mask (..., H, W): true where the pixel or one of its eight neighbours is true.

    First along each row, then along each column. To dilate the mask `target > 0.2` gives the same pixels as the
    paper's way, which dilates the grey target first and then compares it with 0.2.
    """
    wide = mask.clone()
    wide[..., 1:] |= mask[..., :-1]
    wide[..., :-1] |= mask[..., 1:]
    tall = wide.clone()
    tall[..., 1:, :] |= wide[..., :-1, :]
    tall[..., :-1, :] |= wide[..., 1:, :]
    return tall


def _sum_in_pieces(pred: Tensor, target: Tensor, visible: Tensor | None, gradient: Tensor | None, *settings) -> float:
    """The sum over maps (N, H, W); writes their gradient to `gradient`, if there is one."""
    step = max(1, PIECE * torch.get_num_threads() // max(1, pred.shape[-2:].numel()))
    dtype = _dtype(pred, target)
    sums = []
    for first in range(0, len(pred), step):
        maps = slice(first, first + step)
        mask = None if visible is None else visible[maps]
        total, slope = _sum_and_gradient(pred[maps].to(dtype), target[maps].to(dtype), mask, *settings)
        sums.append(total.item())
        if gradient is not None:
            gradient[maps] = slope
    return math.fsum(sums)


def _dtype(pred: Tensor, target: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)


class _AdaptiveWingSum(torch.autograd.Function):
    """Loss and gradient in one pass over the maps; all that is kept for backward is the gradient."""

    @staticmethod
    def forward(ctx, pred, target, visible, foreground_weight, curve):
        dtype = _dtype(pred, target)
        if pred.device.type != "cpu" or torch.compiler.is_compiling():
            total, gradient = _sum_and_gradient(pred.to(dtype), target.to(dtype), visible, foreground_weight, curve)
        else:
            gradient = torch.empty(pred.shape, dtype=dtype) if ctx.needs_input_grad[0] else None
            maps = [t if t is None else t.reshape(-1, *pred.shape[-2:]) for t in (pred, target, gradient)]
            mask = visible if visible is None else visible.reshape(-1)
            total = _sum_in_pieces(maps[0], maps[1], mask, maps[2], foreground_weight, curve)
            total = torch.tensor(total, dtype=dtype)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient)
        ctx.pred_dtype = pred.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.pred_dtype), None, None, None, None


class _AdaptiveWingEach(torch.autograd.Function):
    """The loss of each pixel; all that is kept for backward is its derivative."""

    @staticmethod
    def forward(ctx, pred, target, visible, foreground_weight, curve):
        dtype = _dtype(pred, target)
        loss, gradient = _weighted(pred.to(dtype), target.to(dtype), foreground_weight, curve)
        if visible is not None:
            loss, gradient = (t.masked_fill_(~visible[..., None, None], 0) for t in (loss, gradient))
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient)
        ctx.pred_dtype = pred.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.pred_dtype), None, None, None, None


def adaptive_wing(
    pred: Tensor,
    target: Tensor,
    visible: Tensor | None = None,
    *,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
    foreground_weight: float = 0.0,
    num_maps: Tensor | float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Adaptive Wing loss as a function, in the way of `torch.nn.functional`; `AdaptiveWingLoss` is its module.

    Computed in float32 whatever autocast says (in float64 if an input is), so 16-bit inputs are fine. Value and
    gradient are finite for every finite input. The gradient flows to `pred` only, and cannot be differentiated again.

    Args:
        pred, target: (B, K, H, W), in any memory layout. Without `visible`, any shape.
        visible: (B, K) bool; a map with False counts neither in the sum nor in the number of pixels, and gets no
            gradient. None: every map counts. With no visible map the loss is 0.
        alpha: exponent on the background; alpha - 1 on the peak. At least 2, so that the exponent is 1 or more.
        omega: height of the curved part.
        epsilon: width of the curved part. (The usual bug divides delta by omega instead.)
        theta: error from which on the loss is linear.
        foreground_weight: w of the paper's weight map: the loss of pixels in the 3x3 grey dilation of the target
            above 0.2 counts w + 1 times. 0 turns it off; the paper takes 10. The mean still divides by the number
            of pixels, as in the paper.
        num_maps: for "mean": what the sum is divided by, times H*W, instead of the number of visible maps. In
            distributed training, pass the mean of that number over the processes: then the gradients that they
            average are those of the whole batch.
        reduction: "mean" over the pixels of the maps that count, their "sum", or "none".

    Returns:
        a scalar, or the loss of each pixel in the shape of `pred` for "none" (0 on maps that are not visible).

    Raises:
        ValueError: shapes that differ, a target that requires a gradient, `visible` of floats, settings out of range.

    >>> adaptive_wing(torch.zeros(2), torch.tensor([0.1, 1.0]), reduction="none").round(decimals=4)
    tensor([ 0.1393, 10.2594])
    """
    _check_settings(alpha, omega, epsilon, theta, foreground_weight, reduction)
    pred, target = as_numbers("pred", pred, flags=True), as_numbers("target", target, flags=True)
    if pred.shape != target.shape:
        raise ValueError(f"pred is {tuple(pred.shape)} but target is {tuple(target.shape)}: they must be equal")
    if target.requires_grad:
        raise ValueError("target requires a gradient, but the loss has one for pred only: pass target.detach()")
    if visible is not None:
        visible = as_numbers("visible", visible, flags=True)
        if visible.shape != pred.shape[:-2]:
            raise ValueError(f"visible is {tuple(visible.shape)}, maps of {tuple(pred.shape)}: one entry per map")
        if visible.is_floating_point():
            raise ValueError(f"visible is {visible.dtype}, it says yes or no for each map: give it as bool")
        if visible.dtype != torch.bool and visible.device.type == "cpu" and bool((visible * (visible - 1)).any()):
            raise ValueError("visible has other numbers than 0 and 1, it says yes or no for each map: give it as bool")
        visible = visible.to(pred.device, torch.bool)
    if num_maps is not None and not isinstance(num_maps, Tensor) and not (is_positive(num_maps) or num_maps == 0):
        raise ValueError(f"num_maps is {num_maps}, it is how many maps are visible: it must not be negative")
    shape = pred.shape
    pred, target = torch.atleast_2d(pred), torch.atleast_2d(target)
    curve = (alpha, omega, epsilon, theta)
    with torch.autocast(pred.device.type, enabled=False):
        if reduction == "none":
            return _AdaptiveWingEach.apply(pred, target, visible, foreground_weight, curve).reshape(shape)
        total = _AdaptiveWingSum.apply(pred, target, visible, foreground_weight, curve)
        if reduction == "sum":
            return total
        if num_maps is None:
            num_maps = math.prod(pred.shape[:-2]) if visible is None else visible.sum()
        pixels = num_maps * math.prod(pred.shape[-2:])
        if isinstance(pixels, Tensor):
            return total / torch.where(pixels > 0, pixels, 1)  # nothing visible: 0 / 1
        return total / (pixels or 1)


def _check_settings(
    alpha: float, omega: float, epsilon: float, theta: float, foreground_weight: float, reduction: str
) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, it must be one of {', '.join(REDUCTIONS)}")
    if not is_positive(alpha) or alpha < 2:
        raise ValueError(f"alpha is {alpha}; it must be at least 2, so that alpha - target is 1 or more on a peak")
    positive = all(map(is_positive, (omega, epsilon, theta)))
    if not positive or not (is_positive(foreground_weight) or foreground_weight == 0):
        raise ValueError(
            f"omega, epsilon and theta must be positive and foreground_weight not negative, "
            f"not {omega}, {epsilon}, {theta} and {foreground_weight}"
        )


class AdaptiveWingLoss(nn.Module):
    """Adaptive Wing loss, averaged over all pixels of the maps that count: `adaptive_wing` with settings.

    Args:
        alpha, omega, epsilon, theta, foreground_weight: see `adaptive_wing`.
        reduction: "mean", "sum" or "none".

    Shape:
        pred, target: (B, K, H, W), in any memory layout. Without `visible`, any shape.
        visible: (B, K) bool, see `adaptive_wing`.
        returns: scalar, or the shape of `pred` for "none".

    Raises:
        ValueError: shapes that differ, a target that requires a gradient, settings out of range.

    >>> loss = AdaptiveWingLoss()
    >>> round(loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)).item(), 4)
    0.1393
    """

    def __init__(
        self,
        alpha: float = 2.1,
        omega: float = 14.0,
        epsilon: float = 1.0,
        theta: float = 0.5,
        foreground_weight: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        _check_settings(alpha, omega, epsilon, theta, foreground_weight, reduction)
        self.alpha, self.omega, self.epsilon, self.theta = alpha, omega, epsilon, theta
        self.foreground_weight = foreground_weight
        self.reduction = reduction

    def forward(
        self, pred: Tensor, target: Tensor, visible: Tensor | None = None, num_maps: Tensor | float | None = None
    ) -> Tensor:
        return adaptive_wing(
            pred, target, visible,
            alpha=self.alpha, omega=self.omega, epsilon=self.epsilon, theta=self.theta,
            foreground_weight=self.foreground_weight, num_maps=num_maps, reduction=self.reduction,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"alpha={self.alpha}, omega={self.omega}, epsilon={self.epsilon}, theta={self.theta}, "
            f"foreground_weight={self.foreground_weight}, reduction={self.reduction!r}"
        )
