"""Checks of chapter 02: drawing a keypoint, and two ways to find it again."""

import torch
from torch import Tensor

from handpose_lib.course.exercises.checking import Check
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps


def _gaussian(u: float, v: float, height: int, width: int, sigma: float) -> Tensor:
    return render_heatmaps(torch.tensor([[[u, v]]]), (height, width), sigma)[0, 0]


check_gaussian = Check(
    truth=_gaussian,
    cases=lambda: [(9.3, 4.6, 12, 20, 1.5), (3.7, 10.2, 16, 11, 2.2)],
    mistakes={
        "x and y are exchanged: rows go down with y": lambda u, v, h, w, sigma: _gaussian(v, u, h, w, sigma),
        "width and height are exchanged: an array has its rows first": (
            lambda u, v, h, w, sigma: _gaussian(u, v, h, w, sigma).T
        ),
        "the 2 of 2σ² is missing": lambda u, v, h, w, sigma: _gaussian(u, v, h, w, sigma) ** 2,
        "σ is not squared": lambda u, v, h, w, sigma: _gaussian(u, v, h, w, sigma**0.5),
        "the point was rounded": lambda u, v, h, w, sigma: _gaussian(round(u), round(v), h, w, sigma),
        "the point was cut down to whole numbers": lambda u, v, h, w, sigma: _gaussian(int(u), int(v), h, w, sigma),
        "pixels have their centres at whole numbers, not at halves": (
            lambda u, v, h, w, sigma: _gaussian(u - 0.5, v - 0.5, h, w, sigma)
        ),
        "its volume is 1, and its height must be": (
            lambda u, v, h, w, sigma: _gaussian(u, v, h, w, sigma) / _gaussian(u, v, h, w, sigma).sum()
        ),
    },
    right="right: a bell of height 1, centred between the pixels",
)


def _decoded(h: Tensor, method: str, **options: float) -> Tensor:
    return decode_heatmaps(h[None, None], method, **options)[0][0, 0]


def _a_softmax_a_row(h: Tensor, beta: float) -> Tensor:
    weights = (beta * h).softmax(-1)
    x = (weights * torch.arange(h.shape[1])).sum() / h.shape[0]
    y = (weights.sum(1) * torch.arange(h.shape[0])).sum() / h.shape[0]
    return torch.stack([x, y])


check_soft_argmax = Check(
    truth=lambda h, beta: _decoded(h, "softmax", beta=beta),
    cases=lambda: [(_gaussian(14.4, 5.7, 12, 20, 2.0), 20.0), (_gaussian(3.2, 8.9, 12, 20, 2.0), 10.0)],
    mistakes={
        "x and y are exchanged: x counts columns, y counts rows": (
            lambda h, beta: _decoded(h, "softmax", beta=beta).flip(0)
        ),
        "β is missing, and the background wins": lambda h, beta: _decoded(h, "softmax", beta=1.0),
        "that is the centre of mass: its weights are not exponentials": (
            lambda h, beta: _decoded(h, "center_of_mass", threshold=0.0)
        ),
        "that is the highest pixel: nothing was averaged": lambda h, beta: _decoded(h, "argmax"),
        "the softmax was taken over each row by itself": _a_softmax_a_row,
    },
    right="right: and a gradient can go through it",
)


def _window(h: Tensor, radius: int, corner: bool = False, rows_first: bool = False, closed: bool = True) -> Tensor:
    """Centroid of the window about the peak; the options are mistakes."""
    row, column = divmod(int(h.argmax()), h.shape[1])
    top, left = max(0, row - radius), max(0, column - radius)
    part = h[top : row + radius + closed, left : column + radius + closed]
    x = (part.sum(0) * torch.arange(part.shape[1])).sum() / part.sum()
    y = (part.sum(1) * torch.arange(part.shape[0])).sum() / part.sum()
    answer = torch.stack([x, y]) if corner else torch.stack([x + left, y + top])
    return answer.flip(0) if rows_first else answer


def _negative_slice(h: Tensor, radius: int) -> Tensor:
    row, column = divmod(int(h.argmax()), h.shape[1])
    if min(row, column) >= radius:
        return _window(h, radius)
    return torch.full((2,), torch.nan)


def _two_peaks() -> Tensor:
    return _gaussian(20.4, 9.3, 24, 40, 2.0) + 0.6 * _gaussian(33.0, 15.0, 24, 40, 2.0)


check_window = Check(
    truth=_window,
    cases=lambda: [
        (_two_peaks(), 4),
        *((_gaussian(x, y, 24, 40, 2.0), 5) for x, y in ((1.3, 12.2), (12.2, 1.3), (38.6, 22.5))),
    ],
    mistakes={
        "the centre of mass of the whole map: a second peak pulls at it": (
            lambda h, radius: _decoded(h, "center_of_mass", threshold=0.0)
        ),
        "x and y are exchanged: x counts columns, y counts rows": lambda h, radius: _window(h, radius, rows_first=True),
        "that is a place in the window, not in the map": lambda h, radius: _window(h, radius, corner=True),
        "the window ends one pixel too early: a slice leaves its end out": (
            lambda h, radius: _window(h, radius, closed=False)
        ),
        "at the border the slice begins at a negative number, which counts from the end": _negative_slice,
        "that is the highest pixel: nothing was averaged": lambda h, radius: _decoded(h, "argmax"),
    },
    right="right: what lies outside the window no longer matters; local_peak starts from such a window",
)
