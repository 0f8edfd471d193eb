"""Training: a settings object, a loop that can be stopped anywhere and goes on exactly, and a history in a CSV.

`handpose train` runs it. Told in `notebooks/06_gpu_training.ipynb`.
"""

import csv
import dataclasses
import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from handpose_lib.augment import Augmentation
from handpose_lib.evaluate import make_report, predict_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.loader import Batch, HandBatches
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.storage import atomic_path, lock_for
from handpose_lib.unet import UNet2DHandPose, load_model, save_model


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a training run learns; the defaults are for FreiHAND on a GPU."""

    image_size: int = 128  # px; the rebuilt system's, and 1.6 GB for FreiHAND's 32,560 hands
    width: int = 64  # channels at full resolution: 7.8 M parameters
    depth: int = 3  # poolings; the receptive field then spans a hand
    batch_size: int = 128  # large enough to fill a GPU, small enough for thousands of steps
    epochs: int = 100
    one_version: bool = False  # an epoch shows each hand in one version drawn anew, instead of in all four
    learning_rate: float = 2e-3  # AdamW with batch normalisation bears this at batch 128
    weight_decay: float = 1e-2  # on convolution weights only
    warmup: float = 0.03  # share of the steps in which the rate rises from 0; Adam's first steps are noisy
    sigma_start: float = 5.0  # px of the network's image: a wide target is found from anywhere ...
    sigma_end: float = 2.0  # ... and a narrow one is precise
    sigma_until: float = 0.7  # share of the steps after which sigma stays at its end
    foreground_weight: float = 10.0  # the paper's weight map: heatmaps are 99.8 % background
    ema_decay: float = 0.999  # of the averaged weights that are scored and kept
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "image_size",
            "width",
            "depth",
            "batch_size",
            "epochs",
            "learning_rate",
            "sigma_start",
            "sigma_end",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be positive")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainSettings":
        """The settings that `to_json` wrote."""
        return cls(**values | {"augmentation": Augmentation(**values["augmentation"])})


def learning_rate_at(progress: float, settings: TrainSettings) -> float:
    """Warm-up, then half a cosine down to zero; progress from 0 to 1 over all steps."""
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    rest = (progress - settings.warmup) / (1 - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


def sigma_at(progress: float, settings: TrainSettings) -> float:
    """Geometrically from sigma_start to sigma_end, px of the network's image; progress from 0 to 1."""
    share = min(1.0, progress / settings.sigma_until)
    return settings.sigma_start * (settings.sigma_end / settings.sigma_start) ** share


def pick_device(name: str | None = None) -> torch.device:
    """The named device, or the best that is there: cuda, then mps, then cpu."""
    if name:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Trainer:
    """One run in one folder: `checkpoint.pt` (all state), `best.safetensors` (weights), `history.csv`.

    Args:
        settings: what to learn and how.
        train_set, val_set: labelled data sets; the epoch with the lowest error on `val_set` is kept.
        folder: where the run lives; one that holds a checkpoint of the same settings and data can be resumed.
        device: see `pick_device`.

    The run is a function of (settings, data): order, augmentation and schedules depend on the step alone, so that a
    run that was stopped and resumed ends with the weights of an unbroken one (on one kind of device).
    """

    def __init__(
        self,
        settings: TrainSettings,
        train_set: FreiHAND,
        val_set: FreiHAND,
        folder: str | Path,
        device: torch.device | str | None = None,
    ):
        self.settings = settings
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = device = pick_device(str(device) if device else None)
        shared = {"image_size": settings.image_size, "seed": settings.seed, "device": device}
        self.batches = HandBatches(
            train_set, batch_size=settings.batch_size, augmentation=settings.augmentation,
            one_version=settings.one_version, **shared,
        )  # fmt: skip
        self.val_set = val_set
        self.val_batches = HandBatches(val_set, batch_size=min(settings.batch_size, len(val_set)), **shared)
        self.total_steps = settings.epochs * len(self.batches)

        torch.manual_seed(settings.seed)
        model = UNet2DHandPose(settings.width, settings.depth)
        self.model = model.to(device, memory_format=torch.channels_last)  # the layout that convolutions are fast in
        self.average = deepcopy(self.model).requires_grad_(False).eval()
        self.criterion = AdaptiveWingLoss(foreground_weight=settings.foreground_weight)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]  # batch normalisation, biases
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)

        # Where the run is: plain values, saved with the tensors.
        self.epoch = 0  # of the next batch
        self.batch = 0  # number of the next batch in it
        self.loss_sum = 0.0  # over the batches of this epoch so far
        self.seconds = 0.0
        self.best_error = math.inf
        self.history: list[dict[str, float]] = []

    @property
    def step(self) -> int:
        """Optimiser steps taken so far."""
        return self.epoch * len(self.batches) + self.batch

    def run(self, progress: bool = True, until_step: int | None = None) -> "Trainer":
        """Train to the end, or until so many steps were taken in all, and save a checkpoint.

        Ctrl-C and SIGTERM let the step at work finish, save a checkpoint and then stop the program.
        """
        until = self.total_steps if until_step is None else min(until_step, self.total_steps)
        with _stop_signal() as stopped:
            while self.step < until:
                self._run_epoch(until, stopped, progress)
        return self

    def _run_epoch(self, until: int, stopped: list[int], progress: bool) -> None:
        started = time.perf_counter()
        self.model.train()
        batches = self.batches.epoch(self.epoch, first=self.batch)
        label = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        hidden = None if progress else True  # None: a bar on a terminal only
        with tqdm(batches, label, len(self.batches), initial=self.batch, disable=hidden, leave=False) as bar:
            for batch in bar:
                loss = self._train_step(batch)
                if not math.isfinite(loss):
                    ids = self.batches.ids[batch.index].tolist()
                    raise FloatingPointError(
                        f"the loss is {loss} at epoch {self.epoch}, batch {self.batch}, image ids {ids}; "
                        f"{self.folder / 'checkpoint.pt'} holds the last good state: look at these images, "
                        "or lower learning_rate"
                    )
                self.loss_sum += loss
                self.batch += 1
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                if stopped or self.step == until != self.total_steps:
                    self.seconds += time.perf_counter() - started
                    self.save_checkpoint()
                    if not stopped:
                        return
                    raise (KeyboardInterrupt if stopped[0] == signal.SIGINT else SystemExit)(
                        f"stopped after step {self.step:,} of {self.total_steps:,}; the state is saved in "
                        f"{self.folder}: go on with --resume"
                    )
        self._end_epoch(started, progress)

    def _train_step(self, batch: Batch) -> float:
        share = self.step / self.total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(share, self.settings)
        targets = render_heatmaps(batch.keypoints, self.batches.size, sigma_at(share, self.settings))
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            heatmaps = self.model(images)
        loss = self.criterion(heatmaps, targets, batch.visible)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # A young average forgets faster, or it would drag the random start along.
        update_average(self.average, self.model, min(self.settings.ema_decay, (1 + self.step) / (10 + self.step)))
        return loss.item()

    def _end_epoch(self, started: float, progress: bool) -> None:
        settings = self.settings
        share = (self.step - 1) / self.total_steps
        report = make_report(self.val_set, *predict_keypoints(self.average, self.val_batches))
        self.seconds += time.perf_counter() - started
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "seconds": round(self.seconds, 2),
            "learning_rate": learning_rate_at(share, settings),
            "sigma_px": sigma_at(share, settings),
            "train_loss": self.loss_sum / len(self.batches),  # the epoch's mean, not its last batch's
            "val_pck_0.2_bbox": report.summary["pck_0.2_bbox"],
            "val_epe_px128": report.summary["epe_px128"],
        }
        self.history.append(row)
        self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
        if row["val_epe_px128"] < self.best_error:
            self.best_error = row["val_epe_px128"]
            with atomic_path(self.folder / "best.safetensors") as temporary:
                save_model(self.average, temporary, image_size=settings.image_size, epoch=self.epoch)
        self.save_checkpoint()
        write_history(self.history, self.folder / "history.csv")
        if progress:
            tqdm.write(
                f"epoch {self.epoch:3d}/{settings.epochs}  loss {row['train_loss']:.4f}  val PCK@0.2 (bbox) "
                f"{row['val_pck_0.2_bbox']:.3f}  val error {row['val_epe_px128']:.2f} px of 128  {self.seconds:.0f} s"
            )

    def save_checkpoint(self) -> None:
        """Write all state, whole or not at all."""
        state = {
            "settings": self.settings.to_json(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "where": {name: getattr(self, name) for name in WHERE},
        }
        with atomic_path(self.folder / "checkpoint.pt") as temporary:
            torch.save(state, temporary)

    def resume(self) -> "Trainer":
        """Go back to the folder's checkpoint; FileNotFoundError without one, ValueError if another run's."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: nothing to resume; train without --resume")
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != self.settings.to_json():
            theirs, ours = state["settings"], self.settings.to_json()
            changed = [name for name in ours if theirs.get(name) != ours[name]]
            raise ValueError(f"{path} was written with another {', '.join(changed)}: use the same, or another folder")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in WHERE:
            setattr(self, name, state["where"][name])
        return self


WHERE = ("epoch", "batch", "loss_sum", "seconds", "best_error", "history")


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move averaged weights a step of (1 - decay) towards the model's; counters are copied."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def write_history(rows: list[dict[str, float]], path: Path) -> None:
    """One CSV line an epoch, from which the curves are drawn."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """A list that is filled when the process is asked to stop, so that the step at work can end first."""
    received: list[int] = []
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            previous[number] = signal.signal(number, lambda caught, frame: received.append(caught))
        except ValueError:  # not the main thread: signals stay with whoever has them
            break
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_name(settings: TrainSettings, train_set: FreiHAND) -> str:
    """A folder name that says what was trained on what: equal names mean equal settings and data."""
    data = [train_set.root.name, train_set.split, train_set.num_hands, list(train_set.versions)]
    text = json.dumps([settings.to_json(), data], sort_keys=True)
    return f"unet{settings.width}_{settings.image_size}px_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def train_or_load(
    settings: TrainSettings,
    train_set: FreiHAND,
    val_set: FreiHAND,
    runs: str | Path,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple[UNet2DHandPose, Path]:
    """The model of these settings and data: loaded if it was trained before, else trained (or resumed) now.

    Returns: the best model in evaluation mode on `device`, and the run's folder. Processes that ask for the same run
    at the same time wait for the one that trains.
    """
    folder = Path(runs) / run_name(settings, train_set)
    device = pick_device(str(device) if device else None)
    with lock_for(folder):
        history = read_history(folder / "history.csv")
        if len(history) < settings.epochs:
            trainer = Trainer(settings, train_set, val_set, folder, device)
            if (folder / "checkpoint.pt").is_file():
                trainer.resume()
            trainer.run(progress)
    return load_model(folder / "best.safetensors", device)[0], folder


def read_history(path: str | Path) -> list[dict[str, float]]:
    """The rows of a history file; none where it is not there yet."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
