"""Checks of chapter 06: the learning rate, the number of steps, an epoch's loss, averaged weights."""

import math

import torch
from torch import Tensor

from handpose_lib.course.exercises.checking import Check
from handpose_lib.settings import TrainSettings, learning_rate_at


def rate(share: float, peak: float, warmup: float) -> float:
    """Warm-up to `peak`, then half a cosine down to 0."""
    return learning_rate_at(share, TrainSettings(learning_rate=peak, warmup=warmup))


def _half_cosine(share: float, peak: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * share))


check_rate = Check(
    truth=rate,
    cases=lambda: (
        [(share, 2.0, 0.1) for share in (0.0, 0.05, 0.1, 0.3, 0.55, 0.9, 1.0)]
        + [(0.2, 0.5, 0.4), (0.7, 0.5, 0.4), (1 / 3, 3.0, 0.2)]
    ),
    mistakes={
        "the rate should start at 0 and rise; yours starts at its peak": lambda share, peak, warmup: _half_cosine(
            share, peak
        ),
        "does your cosine start where the warm-up ends? The rate must not jump there": lambda share, peak, warmup: (
            peak * share / warmup if share < warmup else _half_cosine(share, peak)
        ),
        "your rate becomes negative: a cosine runs from 1 to -1, the rate from its peak to 0": (
            lambda share, peak, warmup: (
                peak * share / warmup if share < warmup else peak * math.cos(math.pi * (share - warmup) / (1 - warmup))
            )
        ),
        "the rise is right, but the fall is a straight line": lambda share, peak, warmup: (
            peak * share / warmup if share < warmup else peak * (1 - share) / (1 - warmup)
        ),
        "the rise is too slow: at the end of the warm-up the rate should be at its peak": lambda share, peak, warmup: (
            peak * share if share < warmup else rate(share, peak, warmup)
        ),
    },
    right="right: a gentle start, and a gentle end",
)

check_steps = Check(
    truth=lambda samples, batch, epochs: samples // batch * epochs,
    cases=lambda: [(1000, 128, 10), (1348, 16, 3), (96, 32, 2)],
    mistakes={
        "you count the incomplete last batch of an epoch, which is left out": lambda samples, batch, epochs: (
            math.ceil(samples / batch) * epochs
        ),
        "an incomplete batch is left out in every epoch, not once at the end": lambda samples, batch, epochs: (
            samples * epochs // batch
        ),
        "a step is a whole batch: your number has a fraction": lambda samples, batch, epochs: samples / batch * epochs,
        "these are the steps of one epoch": lambda samples, batch, epochs: samples // batch,
    },
    right="right: whole batches of an epoch, times epochs",
)


def epoch_loss(losses: Tensor, counts: Tensor) -> Tensor:
    """Mean over the samples of an epoch of which the batches' means are known."""
    return (losses * counts).sum() / counts.sum()


check_epoch_loss = Check(
    truth=epoch_loss,
    cases=lambda: [
        (torch.tensor([1.0, 0.5, 2.0]), torch.tensor([16.0, 16.0, 4.0])),
        (torch.tensor([0.3, 0.9]), torch.tensor([32.0, 8.0])),
    ],
    mistakes={
        "that is the loss of the last batch, and shows its luck": lambda losses, counts: losses[-1],
        "a small batch must not weigh as much as a large one": lambda losses, counts: losses.mean(),
        "that is a sum: it would grow with the size of the data set": lambda losses, counts: (losses * counts).sum(),
        "divide by the number of samples, not of batches": lambda losses, counts: (losses * counts).mean(),
    },
    right="right: every sample counts once",
)

check_average = Check(
    truth=lambda average, weights, decay: decay * average + (1 - decay) * weights,
    cases=lambda: [
        (torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]), 0.9),
        (torch.tensor([[0.5]]), torch.tensor([[0.1]]), 0.99),
    ],
    mistakes={
        "the roles are swapped: your average forgets nearly everything in one step": lambda average, weights, decay: (
            (1 - decay) * average + decay * weights
        ),
        "your average grows without end: the two shares must add up to 1": lambda average, weights, decay: (
            decay * average + weights
        ),
        "that weighs old and new alike, whatever decay says": lambda average, weights, decay: (average + weights) / 2,
    },
    right="right: it moves a step of 1 - decay towards the new weights",
)
