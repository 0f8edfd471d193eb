"""The checks of chapter 04: a block, what it costs, how far it sees, and the joint of a skip connection."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, interpolate, relu

from handpose_lib.course.exercises.checking import Check


def _normalised(x: Tensor) -> Tensor:
    return batch_norm(x, None, None, training=True)


def _block(x: Tensor, weights: list[Tensor], padding: int = 1) -> Tensor:
    for weight in weights:
        x = relu(_normalised(conv2d(x, weight, padding=padding)))
    return x


def _relu_first(x: Tensor, weights: list[Tensor]) -> Tensor:
    for weight in weights:
        x = _normalised(relu(conv2d(x, weight, padding=1)))
    return x


def _no_last_relu(x: Tensor, weights: list[Tensor]) -> Tensor:
    return _normalised(conv2d(_block(x, weights[:1]), weights[1], padding=1))


def _no_relu_between(x: Tensor, weights: list[Tensor]) -> Tensor:
    return _block(_normalised(conv2d(x, weights[0], padding=1)), weights[1:])


def _not_normalised(x: Tensor, weights: list[Tensor]) -> Tensor:
    for weight in weights:
        x = relu(conv2d(x, weight, padding=1))
    return x


def _pictures_and_weights() -> list[tuple]:
    generator = torch.Generator().manual_seed(4)
    sizes = [(3, 4, 6), (2, 2, 8)]  # channels in, channels out, side in pixels
    return [
        (
            torch.randn(2, inputs, side, side, generator=generator),
            [torch.randn(outputs, channels, 3, 3, generator=generator) for channels in (inputs, outputs)],
        )
        for inputs, outputs, side in sizes
    ]


check_block = Check(
    truth=_block,
    cases=_pictures_and_weights,
    mistakes={
        "the picture shrinks: each convolution eats a border unless it is padded": lambda x, w: _block(x, w, padding=0),
        "that is only the first of the two convolutions": lambda x, w: _block(x, w[:1]),
        "the ReLU comes before the normalisation; it should see what is normalised": _relu_first,
        "the ReLU at the end is missing": _no_last_relu,
        "the ReLU between the two convolutions is missing": _no_relu_between,
        "the batch normalisation is missing": _not_normalised,
    },
    right="right: a bias would change nothing, since the normalisation would subtract it",
)


def _parameters(bias: int = 0, norm: int = 2, first_again: bool = False, kernel: int = 9) -> Callable[[int, int], int]:
    def count(inputs: int, outputs: int) -> int:
        second = inputs if first_again else outputs
        return kernel * inputs * outputs + kernel * second * outputs + 2 * (bias + norm) * outputs

    return count


check_parameters = Check(
    truth=_parameters(),
    cases=lambda: [(3, 64), (64, 128), (768, 256)],
    mistakes={
        "a bias is counted for each convolution, but these have none": _parameters(bias=1),
        "the batch normalisations have parameters too: a scale and a shift for each channel": _parameters(norm=0),
        "a scale or a shift is missing: each of the two normalisations has both, for each channel": _parameters(norm=1),
        "the running mean and variance are counted, but those are measured, not learned": _parameters(norm=4),
        "the second convolution reads what the first one puts out, not the block's input": _parameters(
            first_again=True
        ),
        "a kernel of 3×3 has more than 3 weights": _parameters(kernel=3),
        "that is one convolution with its normalisation; a block has two": lambda i, o: 9 * i * o + 2 * o,
    },
    right="right: the square of the width decides, so twice the channels cost about four times the parameters",
)


def _field(convolutions: int = 2, step: int = 2, pooling: float = 0.5, start: int = 1) -> Callable[[int], float]:
    """Side of the field at level `depth`; a level's step is step**level, a pooling adds that share of it."""

    def side(depth: int) -> float:
        convolved = sum(convolutions * 2 * step**level for level in range(depth + 1))
        return start + convolved + sum(pooling * step**level for level in range(1, depth + 1))

    return side


check_field = Check(
    truth=_field(),
    cases=lambda: [(depth,) for depth in range(5)],
    mistakes={
        "each pooling takes in a neighbour as well": _field(pooling=0),
        "a pooling takes in a neighbour on the level above it, which is 2**(level - 1) pixels away": _field(pooling=1),
        "on deeper levels a step is more than one pixel of the picture": lambda depth: 1 + 4 * (depth + 1),
        "half of the steps are missing: a block has two convolutions, and each adds one on either side": _field(
            convolutions=1
        ),
        "one value sees one pixel before the first convolution: the count starts at 1": _field(start=0),
    },
    right="right: the same sides that the gradient found",
)


def _twice(x: Tensor, **options) -> Tensor:
    return interpolate(x, scale_factor=2, **options)


def _smooth(x: Tensor) -> Tensor:
    return _twice(x, mode="bilinear", align_corners=False)


def _skips_and_bottoms() -> list[tuple]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(2, 3, 4, 4), (1, 2, 6, 4)]  # equal channels, so that adding or joining elsewhere is possible too
    return [
        (
            torch.randn(batch, channels, 2 * height, 2 * width, generator=generator),
            torch.randn(batch, channels, height, width, generator=generator),
        )
        for batch, channels, height, width in shapes
    ]


check_join = Check(
    truth=lambda skip, below: torch.cat((skip, _smooth(below)), dim=1),
    cases=_skips_and_bottoms,
    mistakes={
        "added up, the two can't be told apart any more; put their channels on top of each other": lambda s, b: (
            s + _smooth(b)
        ),
        "the order is swapped: the skip connection's channels come first": lambda s, b: torch.cat((_smooth(b), s), 1),
        "nearest neighbours repeat each pixel; bilinear is wanted": lambda s, b: torch.cat((s, _twice(b)), 1),
        "the corners are aligned, which moves everything in between by up to half a pixel": lambda s, b: torch.cat(
            (s, _twice(b, mode="bilinear", align_corners=True)), 1
        ),
        "joined along the batch, as if these were more pictures": lambda s, b: torch.cat((s, _smooth(b)), 0),
        "joined along the height, so the picture has grown; channels are the dimension before": lambda s, b: torch.cat(
            (s, _smooth(b)), 2
        ),
        "nothing of the skip connection is in it": lambda s, b: _smooth(b),
    },
    right="right: the place from across, the meaning from below",
)
