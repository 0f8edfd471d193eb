"""Checks of chapter 07: PCK by the box, the mean error at 128 px, AUC, and the bootstrap over hands."""

import torch
from torch import Tensor

from handpose_lib.course.exercises.checking import Check


def _points(seed: int, hands: int = 9, spread: float = 12.0) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions and keypoints (N, 21, 2) px of 224, and visible (N, 21), about three quarters of it True."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(hands, 1, 2, generator=generator) * 90 + 50  # px
    target = torch.rand(hands, 21, 2, generator=generator) * sides + 30
    pred = target + torch.randn(hands, 21, 2, generator=generator) * spread
    visible = torch.rand(hands, 21, generator=generator) < 0.75
    return pred, target, visible


def _over_hands(values: Tensor, visible: Tensor, dim: int = 0) -> Tensor:
    """Mean over `dim` of those values (N, 21) that count."""
    return values.double().masked_fill(~visible, torch.nan).nanmean(dim)


# --- PCK: errors (N, 21) px, target (N, 21, 2) px, visible (N, 21), threshold -> (21,)


def _pck_cases() -> list[tuple]:
    cases = []
    for seed, threshold in ((0, 0.2), (1, 0.1)):
        pred, target, visible = _points(seed)
        cases.append(((pred - target).norm(dim=-1), target, visible, threshold))
    target = torch.zeros(2, 21, 2)  # boxes of 50 x 30 px, so that an error of 10 px lies on the bound
    target[:, 1] = torch.tensor([50.0, 30.0])
    errors = torch.full((2, 21), 10.0)
    errors[0, 3] = 9.0
    return [*cases, (errors, target, torch.ones(2, 21, dtype=torch.bool), 0.2)]


def _sides(target: Tensor) -> Tensor:
    return target.amax(1) - target.amin(1)  # (N, 2)


def _box_of_visible(target: Tensor, visible: Tensor) -> Tensor:
    out = ~visible[..., None]
    sides = target.masked_fill(out, -torch.inf).amax(1) - target.masked_fill(out, torch.inf).amin(1)
    return sides.amax(-1, keepdim=True)


def _hits(errors: Tensor, target: Tensor, threshold: float) -> Tensor:
    return errors < threshold * _sides(target).amax(-1, keepdim=True)


check_pck = Check(
    truth=lambda e, g, v, t: _over_hands(_hits(e, g, t), v),
    cases=_pck_cases,
    mistakes={
        "an error equal to the bound is a miss: is your comparison strict?": (
            lambda e, g, v, t: _over_hands(e <= t * _sides(g).amax(-1, keepdim=True), v)
        ),
        "you count keypoints that are not visible: they are neither hits nor misses": (
            lambda e, g, v, t: _hits(e, g, t).double().mean(0)
        ),
        "you count the hits among the visible, but divide by all hands": (
            lambda e, g, v, t: (_hits(e, g, t) & v).double().mean(0)
        ),
        "that is a mean over the keypoints of each hand: take it over the hands": (
            lambda e, g, v, t: _over_hands(_hits(e, g, t), v, dim=1)
        ),
        "that is one number: a share for each of the 21 keypoints is wanted": (
            lambda e, g, v, t: _hits(e, g, t)[v].double().mean()
        ),
        "that is PCK by the diagonal of the box, not by its longer side": (
            lambda e, g, v, t: _over_hands(e < t * _sides(g).norm(dim=-1, keepdim=True), v)
        ),
        "that is PCK by the shorter side of the box": (
            lambda e, g, v, t: _over_hands(e < t * _sides(g).amin(-1, keepdim=True), v)
        ),
        "that is PCK by the width of the box: many hands are taller than wide": (
            lambda e, g, v, t: _over_hands(e < t * _sides(g)[:, :1], v)
        ),
        "that is PCK by the height of the box: some hands are wider than tall": (
            lambda e, g, v, t: _over_hands(e < t * _sides(g)[:, 1:], v)
        ),
        "that is PCK by the whole image, however large the hand is": (lambda e, g, v, t: _over_hands(e < t * 224, v)),
        "each hand has a length of its own: you divide the errors of all hands by one": (
            lambda e, g, v, t: _over_hands(e < t * _sides(g).max(), v)
        ),
        "your box holds the visible keypoints only: the length is that of the box of all 21": (
            lambda e, g, v, t: _over_hands(e < t * _box_of_visible(g, v), v)
        ),
    },
    right="right: a strict comparison, each hand's own box, and only keypoints that are on the image",
)


# --- Mean error at 128 px: pred, target (N, 21, 2) px of 224, visible (N, 21) -> (21,)


def _lengths(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).norm(dim=-1)


check_epe = Check(
    truth=lambda p, g, v: _over_hands(_lengths(p, g), v) * 128 / 224,
    cases=lambda: [_points(2), _points(3, hands=5, spread=4.0)],
    mistakes={
        "that is the error at 224 px: a distance shrinks with the image": (
            lambda p, g, v: _over_hands(_lengths(p, g), v)
        ),
        "your error grew, though the image of 128 px is the smaller one": (
            lambda p, g, v: _over_hands(_lengths(p, g), v) * 224 / 128
        ),
        "the half pixel belongs to positions: in the difference of two it drops out": (
            lambda p, g, v: (_over_hands(_lengths(p, g), v) + 0.5) * 128 / 224 - 0.5
        ),
        "you count keypoints that are not visible: leave them out": (
            lambda p, g, v: _lengths(p, g).mean(0) * 128 / 224
        ),
        "what is not visible counts as an error of 0 with you: divide by the number of those that are": (
            lambda p, g, v: (_lengths(p, g) * v).mean(0) * 128 / 224
        ),
        "that is a mean over the keypoints of each hand: take it over the hands": (
            lambda p, g, v: _over_hands(_lengths(p, g), v, dim=1) * 128 / 224
        ),
        "that adds the errors in x and in y: a distance is shorter than the way around the corner": (
            lambda p, g, v: _over_hands((p - g).abs().sum(-1), v) * 128 / 224
        ),
        "that is the root of the mean square, which a few large errors rule: average the distances themselves": (
            lambda p, g, v: _over_hands((p - g).square().sum(-1), v).sqrt() * 128 / 224
        ),
        "that is the length of the mean error, in which left and right cancel": (
            lambda p, g, v: _over_hands(p - g, v[..., None]).norm(dim=-1) * 128 / 224
        ),
    },
    right="right: lengths first, then the mean over those that count, then from 224 to 128 px",
)


# --- AUC by mmpose's convention: errors (M,) px, max_error px -> a number


def _auc(errors: Tensor, largest: float, first: int = 0, last: int = 19, at_most: bool = False) -> float:
    bounds = torch.arange(first, last + 1, dtype=torch.float64) * largest / 20
    below = errors[:, None] <= bounds if at_most else errors[:, None] < bounds
    return below.double().mean().item()


def _trapezoid(errors: Tensor, largest: float) -> float:
    bounds = torch.linspace(0, largest, 21, dtype=torch.float64)
    return (torch.trapezoid((errors[:, None] < bounds).double().mean(0), bounds) / largest).item()


def _auc_cases() -> list[tuple]:
    some = torch.rand(50, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 40
    on_a_threshold = torch.tensor([0.0, 5.0, 8.0], dtype=torch.float64)
    return [(torch.zeros(3, dtype=torch.float64), 30.0), (some, 30.0), (some, 20.0), (on_a_threshold, 20.0)]


check_auc = Check(
    truth=_auc,
    cases=_auc_cases,
    mistakes={
        "an error equal to the threshold is a miss here: compare strictly": lambda e, m: _auc(e, m, at_most=True),
        "your thresholds start at 1/20: the first is 0, below which nothing can be": lambda e, m: _auc(e, m, 1, 20),
        "you have 21 thresholds: the last is 19/20 of max_error": lambda e, m: _auc(e, m, 0, 20),
        "your twenty thresholds reach max_error, 1/19 of it apart: they are 0/20 to 19/20 of it": (
            lambda e, m: (e[:, None] < torch.linspace(0, m, 20, dtype=torch.float64)).double().mean().item()
        ),
        "that is the trapezoidal rule: in this convention a perfect model scores 0.95, not more": _trapezoid,
        "your thresholds end near 30 px whatever max_error is": lambda e, m: _auc(e, 30.0),
        "that is an area in pixels: it must not depend on the unit of the errors": lambda e, m: _auc(e, m) * m,
        "that is the sum of the twenty shares: take their mean": lambda e, m: _auc(e, m) * 20,
    },
    right="right: and a perfect model scores 0.95",
    atol=1e-6,
)


# --- Bootstrap: hits (N,), hand (N,) 0..H-1, drawn (R, H) hands -> (R,)


def _sums(hits: Tensor, hand: Tensor, drawn: Tensor) -> Tensor:
    """Sum of the hits of each drawn hand, (R, H)."""
    return torch.zeros(drawn.shape[1], dtype=hits.dtype).index_add_(0, hand, hits)[drawn]


def _numbers(hand: Tensor, drawn: Tensor) -> Tensor:
    """Number of images of each drawn hand, (R, H)."""
    return torch.bincount(hand, minlength=drawn.shape[1])[drawn]


def _bootstrap_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(5)
    hand = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 0, 0])  # two to five images per hand
    hits = torch.rand(len(hand), generator=generator, dtype=torch.float64)
    return [(hits, hand, torch.randint(6, (rows, 6), generator=generator)) for rows in (7, 4)]


check_bootstrap = Check(
    truth=lambda h, g, d: _sums(h, g, d).sum(1) / _numbers(g, d).sum(1),
    cases=_bootstrap_cases,
    mistakes={
        "you draw images: `drawn` holds hands, and a hand brings all of its images": lambda h, g, d: h[d].mean(1),
        "you average the hands' means: an image of a hand with many images then weighs too little": (
            lambda h, g, d: (_sums(h, g, d) / _numbers(g, d)).mean(1)
        ),
        "a hand that was drawn twice must count twice": (
            lambda h, g, d: torch.stack([h[torch.isin(g, row)].mean() for row in d])
        ),
        "you go down the columns: each row of `drawn` is one draw": (
            lambda h, g, d: _sums(h, g, d).sum(0) / _numbers(g, d).sum(0)
        ),
        "that is one number: a mean for each row of `drawn` is wanted": (
            lambda h, g, d: (_sums(h, g, d).sum(1) / _numbers(g, d).sum(1)).mean()
        ),
        "that is the sum of the hits: divide by the number of images in the draw": lambda h, g, d: _sums(h, g, d).sum(
            1
        ),
        "you divide by the number of all images: each draw has a number of its own": (
            lambda h, g, d: _sums(h, g, d).sum(1) / len(h)
        ),
    },
    right="right: hands are drawn, and their images come along",
    atol=1e-6,
)
