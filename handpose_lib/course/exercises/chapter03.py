"""Checks of chapter 03: maps about a centre, points that follow them, mirrors, and the end of the image."""

import torch
from torch import Tensor

from handpose_lib.course.exercises.checking import Check
from handpose_lib.framing import inverse, on_image, warp_keypoints

TURN = torch.tensor([[0.9, -0.5], [0.4, 1.1]])
MAP = torch.cat([TURN, torch.tensor([[12.0], [-3.0]])], dim=1)  # (2, 3)


def _points() -> Tensor:
    return torch.tensor([[10.0, 20.0], [100.0, 50.0], [0.0, 0.0]])


check_warp = Check(
    truth=warp_keypoints,
    cases=lambda: [(_points(), MAP)],
    mistakes={
        "each point is a row here, and A was multiplied as if it were a column": lambda p, m: p @ m[:, :2] + m[:, 2],
        "the offset b is missing": lambda p, m: p @ m[:, :2].T,
        "that is the inverse: it goes from the output to the input": lambda p, m: warp_keypoints(p, inverse(m)),
        "b was added before A was applied": lambda p, m: (p + m[:, 2]) @ m[:, :2].T,
        "x and y are exchanged": lambda p, m: warp_keypoints(p, m).flip(-1),
    },
    right="right: this is what every augmented keypoint goes through",
)


def _about(A: Tensor, centre: Tensor) -> Tensor:
    return torch.cat([A, (centre - A @ centre)[:, None]], dim=1)


def _centre(size: tuple[int, int]) -> Tensor:
    return torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])  # x, y


check_about_centre = Check(
    truth=lambda A, size: _about(A, _centre(size)),
    cases=lambda: [(TURN, (96, 128)), (TURN, (160, 224))],
    mistakes={
        "half a pixel off: where are the centres of the first and the last pixel?": lambda A, size: _about(
            A, _centre(size) + 0.5
        ),
        "size is (height, width), a centre is (x, y)": lambda A, size: _about(A, _centre(size).flip(0)),
        "it turns about the top left pixel: b is 0": lambda A, size: _about(A, torch.zeros(2)),
        "b is the centre itself: where does A take the centre?": (
            lambda A, size: torch.cat([A, _centre(size)[:, None]], dim=1)
        ),
        "b has the wrong sign": lambda A, size: torch.cat([A, -_about(A, _centre(size))[:, 2:]], dim=1),
    },
    right="right: the centre stays where it is",
)


def _mirror(keypoints: Tensor, width: int, first: int = 0) -> Tensor:
    mirrored = keypoints.clone()
    mirrored[:, 0] = width - 1 + first - keypoints[:, 0]
    return mirrored


def _fingers_exchanged(keypoints: Tensor, width: int) -> Tensor:
    order = [0, *range(17, 21), *range(13, 17), *range(9, 13), *range(5, 9), *range(1, 5)]
    return _mirror(keypoints, width)[order]


check_mirror = Check(
    truth=_mirror,
    cases=lambda: [
        (width * torch.rand(21, 2, generator=torch.Generator().manual_seed(0)), width) for width in (128, 224)
    ],
    mistakes={
        "off by one: the last pixel of a row is number width - 1": lambda k, width: _mirror(k, width, first=1),
        "y is mirrored instead of x": lambda k, width: _mirror(k.flip(-1), width).flip(-1),
        "x is negative now: the mirror stands in the middle of the image": lambda k, width: k * torch.tensor([-1, 1]),
        "the fingers are exchanged, but a mirrored thumb is still a thumb": _fingers_exchanged,
        "the rows of the array are turned round, not the picture": lambda k, width: k.flip(0),
    },
    right="right: and no keypoint has changed its number",
)


def _between(keypoints: Tensor, low: float, size: tuple[int, int]) -> Tensor:
    """Is low <= x < width + low, and y likewise: (K, 2) bool."""
    return (keypoints >= low) & (keypoints < torch.tensor([size[1], size[0]]) + low)


def _edges() -> Tensor:
    # A point for each way to be on the image or off it; 96 pixels high, 128 wide.
    x = torch.tensor([64.0, -0.3, -0.6, 127.2, 127.7, 64.0, 64.0, 64.0, 64.0, 110.0, 140.0, -30.0, 64.0, -0.5, 127.5])
    y = torch.tensor([48.0, 48.0, 48.0, 48.0, 48.0, -0.2, -4.0, 95.3, 95.8, 100.0, 120.0, -8.0, -0.6, 48.0, 48.0])
    return torch.stack([x, y], dim=1)


check_visible = Check(
    truth=on_image,
    cases=lambda: [(_edges(), (96, 128)), (_edges(), (48, 64))],
    mistakes={
        "the first pixel reaches from -1/2 to 1/2: half a pixel is missing": (
            lambda k, size: _between(k, 0.0, size).all(-1)
        ),
        "the last pixel is number W - 1 and reaches half a pixel further": (
            lambda k, size: ((k >= 0) & (k <= torch.tensor([size[1] - 1, size[0] - 1]))).all(-1)
        ),
        "size is (height, width), a keypoint is (x, y)": lambda k, size: on_image(k, size[::-1]),
        "one coordinate on the image is not enough": lambda k, size: _between(k, -0.5, size).any(-1),
        "one answer for each keypoint is wanted, not one for x and one for y": lambda k, size: _between(k, -0.5, size),
        "only the right and the lower edge were looked at": (
            lambda k, size: (k < torch.tensor([size[1], size[0]]) - 0.5).all(-1)
        ),
        "that is the opposite: those that are off the image": lambda k, size: ~on_image(k, size),
    },
    right="right: what is False counts neither in the loss nor in the score",
)
