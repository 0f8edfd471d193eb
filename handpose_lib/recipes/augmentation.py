"""A small network trained with and without augmentation, for longer and with more seeds than chapter 03 has time for.

    python -m handpose_lib.recipes.augmentation --out figures/augmentation.csv

All runs see the same hands of the bundled sample in the same order, for equal steps at equal rates; what differs is
whether each batch is moved and recoloured at random, and the seed. Each is scored on the hands that it trained on and
on others. Runs that are in the file already are not done again. Explained in `notebooks/03_augmentation.ipynb`.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from handpose_lib.augment import (
    Augmentation,
    affine_matrices,
    colour_matrices,
    jitter_colours,
    keyed_uniform,
    normalize,
)
from handpose_lib.framing import on_image, warp_images, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.metrics import pck
from handpose_lib.recipes.losses import small_hands
from handpose_lib.recipes.tables import read_rows, write_rows
from handpose_lib.storage import bundled_file
from handpose_lib.synthhand import sample_root
from handpose_lib.unet import UNet2DHandPose, evaluating

SIDE, SIGMA, WIDTH, BATCH, RATE = 32, 1.5, 8, 16, 1e-2  # px, px, channels, hands per step, highest learning rate
TRAINED = 240  # hands; the rest of the training rows are those that the network never sees
STEPS, SEEDS = (150, 600), (0, 1)
ARMS: dict[str, Augmentation | None] = {"without": None, "with": Augmentation()}


def change(images: Tensor, keypoints: Tensor, ids: Tensor, epoch: int, settings: Augmentation, seed: int) -> tuple:
    """Move and recolour a batch at random: images (B, 3, S, S) in [0, 1], keypoints (B, 21, 2) -> the same shapes."""
    uniform = keyed_uniform(seed, epoch, ids)  # (B, 11)
    matrices = affine_matrices(uniform, settings, images.shape[-2:])
    colours = colour_matrices(uniform[:, 5:], settings)
    return jitter_colours(warp_images(images, matrices), colours), warp_keypoints(keypoints, matrices)


def learn(
    images: Tensor, keypoints: Tensor, settings: Augmentation | None, steps: int, seed: int = 0
) -> UNet2DHandPose:
    """A small U-Net after `steps` batches of these hands, all of them shown before any is shown again.

    Args:
        images: (N, 3, S, S) in [0, 1].
        keypoints: (N, 21, 2), px.
        settings: of the augmentation; None shows the hands as they are.
        steps: number of batches.
        seed: of the network, the order and the augmentation.
    """
    torch.manual_seed(seed)
    network = UNet2DHandPose(width=WIDTH).to(memory_format=torch.channels_last)
    criterion = AdaptiveWingLoss(foreground_weight=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    per_epoch = len(images) // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator)
        rows = order[step % per_epoch * BATCH :][:BATCH]
        seen, points = images[rows], keypoints[rows]
        if settings is not None:
            seen, points = change(seen, points, rows, step // per_epoch, settings, seed)
        size = seen.shape[-2:]
        maps = network(normalize(seen).contiguous(memory_format=torch.channels_last))  # (B, 21, S, S)
        loss = criterion(maps, render_heatmaps(points, size, SIGMA), on_image(points, size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


@torch.inference_mode()
def score(network: UNet2DHandPose, images: Tensor, keypoints: Tensor) -> float:
    """PCK@0.2 (bbox) of a network on images (N, 3, S, S) in [0, 1] with keypoints (N, 21, 2)."""
    with evaluating(network):
        found = decode_heatmaps(network(normalize(images)), sigma=SIGMA)[0]
    return pck(found, keypoints, 0.2, "bbox", on_image(keypoints, images.shape[-2:])).nanmean().item()


def run(out: Path, steps: Sequence[int] = STEPS, seeds: Sequence[int] = SEEDS) -> None:
    """Fill the CSV `out` with the runs that it lacks."""
    dataset = FreiHAND(sample_root(), "train", versions="gs")
    images, keypoints = small_hands(dataset, len(dataset), SIDE)
    known, unseen = (images[:TRAINED], keypoints[:TRAINED]), (images[TRAINED:], keypoints[TRAINED:])
    done = read_rows(out)
    for seed, count, arm in itertools.product(seeds, steps, ARMS):
        row = {"augmentation": arm, "steps": str(count), "seed": str(seed)}
        if any(row.items() <= line.items() for line in done):
            continue
        started = time.perf_counter()
        network = learn(*known, ARMS[arm], count, seed)
        scores = {name: f"{score(network, *part):.4f}" for name, part in (("trained", known), ("unseen", unseen))}
        done.append(row | {f"pck_0.2_bbox_{name}": value for name, value in scores.items()})
        write_rows(done, out)
        print(*done[-1].values(), f"{time.perf_counter() - started:.0f} s", flush=True)


def recorded_runs() -> pd.DataFrame:
    """What `run` wrote, from the checkout or the installed package; FileNotFoundError where it is in neither."""
    return pd.read_csv(bundled_file("figures/augmentation.csv"))


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to fill")
    run(parser.parse_args().out)


if __name__ == "__main__":
    main()
