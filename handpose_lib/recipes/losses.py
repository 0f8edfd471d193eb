"""Losses compared for longer, and with more seeds, than chapter 05 has time for.

    python -m handpose_lib.recipes.losses --out figures/losses.csv

Two experiments on the bundled sample, as the chapter describes them: four hands by heart from noisy first maps, and 256
hands from empty ones, scored on 80 others. All runs of one experiment and length take equal steps at equal rates; only
the loss and the seed differ. Runs that are in the file already are not done again. Explained in
`notebooks/05_adaptive_wing_loss.ipynb`.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, mse_loss

from handpose_lib.augment import normalize
from handpose_lib.framing import on_image, resize_matrix, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.metrics import pck
from handpose_lib.recipes.tables import read_rows, write_rows
from handpose_lib.storage import bundled_file
from handpose_lib.synthhand import sample_root
from handpose_lib.unet import UNet2DHandPose

SIDE, SIGMA, WIDTH, RATE = 32, 1.5, 8, 1e-2  # px, px, channels, highest learning rate
TRAINED, UNSEEN = 256, 80  # hands
FOUR = (0, 1, 3, 4)  # hands to learn by heart
STEPS = {"by heart": (100, 400), "new hands": (384,)}  # longer than in the chapter
SEEDS = (0, 1, 2)
Loss = Callable[[Tensor, Tensor], Tensor]


def mse_with_map(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error with Adaptive Wing's weight map: maps (M, H, W) -> scalar."""
    near = max_pool2d(target[:, None], kernel_size=3, stride=1, padding=1)[:, 0] > 0.2
    return ((1 + 10 * near) * (pred - target) ** 2).mean()


LOSSES: dict[str, Loss] = {
    "MSE": mse_loss,
    "Adaptive Wing": AdaptiveWingLoss(),
    "MSE, map": mse_with_map,
    "Adaptive Wing, map": AdaptiveWingLoss(foreground_weight=10),
}


def learn(
    criterion: Loss, inputs: Tensor, wanted: Tensor, visible: Tensor, batches: Sequence[Tensor], empty: bool, seed: int
) -> tuple[UNet2DHandPose, Tensor]:
    """A small U-Net after one step on each batch, and its visible maps (M, SIDE, SIDE) of the last one."""
    torch.manual_seed(seed)
    network = UNet2DHandPose(width=WIDTH)
    if not empty:
        network.head.reset_parameters()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=len(batches))
    for rows in batches:
        seen = visible[rows]
        maps = network(inputs[rows])[seen]
        optimizer.zero_grad()
        criterion(maps, wanted[rows][seen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval(), maps.detach()


def run(out: Path, steps: Mapping[str, Sequence[int]] = STEPS, seeds: Sequence[int] = SEEDS) -> None:
    """Fill the CSV `out` with the runs that it lacks."""
    dataset = FreiHAND(sample_root(), "train", versions="gs")
    images, keypoints = small_hands(dataset, TRAINED + UNSEEN, SIDE)
    parts = normalize(images), render_heatmaps(keypoints, (SIDE, SIDE), SIGMA), on_image(keypoints, (SIDE, SIDE))
    done = read_rows(out)
    for seed, experiment in itertools.product(seeds, steps):
        for count, loss in itertools.product(steps[experiment], LOSSES):
            row = {"experiment": experiment, "loss": loss, "steps": str(count), "seed": str(seed)}
            if any(row.items() <= line.items() for line in done):
                continue
            started = time.perf_counter()
            by_heart = experiment == "by heart"
            batches = batches_of(experiment, count, seed)
            network, maps = learn(LOSSES[loss], *parts, batches, empty=not by_heart, seed=seed)
            score = ""
            if not by_heart:
                maps, score = on_unseen(network, parts[0][TRAINED:], keypoints[TRAINED:])
            peaks = maps.amax((-2, -1))
            row |= {"median_peak": f"{peaks.median():.3f}", "above_half": f"{(peaks > 0.5).float().mean():.3f}"}
            done.append(row | {"pck_0.2_bbox": score})
            write_rows(done, out)
            print(*done[-1].values(), f"{time.perf_counter() - started:.0f} s", flush=True)


def batches_of(experiment: str, steps: int, seed: int) -> list[Tensor]:
    """The rows of each step: the same four hands, or sixteen of `TRAINED`, all shown before any is shown again."""
    if experiment == "by heart":
        return [torch.tensor(FOUR)] * steps
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-steps * 16 // TRAINED)
    return [rows for _ in range(epochs) for rows in torch.randperm(TRAINED, generator=generator).split(16)][:steps]


@torch.inference_mode()
def on_unseen(network: UNet2DHandPose, inputs: Tensor, keypoints: Tensor) -> tuple[Tensor, str]:
    """The network's maps (N, 21, SIDE, SIDE) of hands that it never saw, and their PCK@0.2 (bbox)."""
    maps = network(inputs)
    found = decode_heatmaps(maps, sigma=SIGMA)[0]
    return maps, f"{pck(found, keypoints, 0.2, 'bbox', on_image(keypoints, (SIDE, SIDE))).nanmean():.4f}"


def small_hands(dataset: FreiHAND, count: int, size: int) -> tuple[Tensor, Tensor]:
    """The first hands of a data set: images (count, 3, size, size) in [0, 1], keypoints (count, 21, 2) in their px."""
    images = torch.stack([torch.as_tensor(dataset.read(row)) for row in range(count)])
    shrink = resize_matrix(images.shape[-2:], (size, size))
    images = interpolate(images.float() / 255, size=(size, size), mode="bilinear", antialias=True)
    return images, warp_keypoints(torch.from_numpy(dataset.keypoints[:count]), shrink)


def recorded_losses() -> pd.DataFrame:
    """What `run` wrote, from the checkout or the installed package; FileNotFoundError where it is in neither."""
    return pd.read_csv(bundled_file("figures/losses.csv"))


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to fill")
    run(parser.parse_args().out)


if __name__ == "__main__":
    main()
