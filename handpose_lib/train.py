"""Training: a loop that can be stopped anywhere and goes on exactly, and a history in a CSV.

`handpose train` runs it in one process, `torchrun --nproc_per_node=N -m handpose_lib.train` in N, one a device.
Told in `notebooks/06_gpu_training.ipynb`.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import math
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from handpose_lib.devices import half_precision, keep_freed_memory, pick_device
from handpose_lib.evaluate import make_report, predict_keypoints
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.loader import Batch, HandBatches
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.settings import PRECISIONS, PRESETS, TrainSettings, learning_rate_at, sigma_at
from handpose_lib.storage import atomic_path, is_remote, lock_for, replace, runs_folder
from handpose_lib.unet import UNet2DHandPose, load_model, save_model

HistoryRow = dict[str, float | str]  # a line of `history.csv`


class Trainer:
    """One run in one folder: `checkpoint.pt` (all state), `best.safetensors` (weights), `history.csv`.

    Args:
        settings: what to learn and how.
        train_set, val_set: labelled data sets; the epoch with the lowest error on `val_set` is kept.
        folder: where the run lives; one that holds a checkpoint of the same settings and data can be resumed.
        device: see `pick_device`.
        compiled: let `torch.compile` fuse the network; weights and checkpoints are the same without it.
        sync_batchnorm: with several GPUs, normalise over the whole batch instead of each process's part.
        checkpoint_minutes: longest time between two checkpoints. There is one at the end of each epoch, too, but not in
            a folder on a network file system: Google Drive keeps what is overwritten in its bin, where a hundred
            checkpoints of 125 MB would fill it.

    The run is a function of (settings, data): order, augmentation and schedules depend on the step alone, so that a
    run that was stopped and resumed ends with the weights of an unbroken one (on one kind of device). Where
    `torch.distributed` is initialised, each process takes its part of every batch and process 0 alone writes.
    """

    def __init__(
        self,
        settings: TrainSettings,
        train_set: FreiHAND,
        val_set: FreiHAND,
        folder: str | Path,
        device: torch.device | str | None = None,
        compiled: bool = False,
        sync_batchnorm: bool = False,
        checkpoint_minutes: float = 10.0,
    ):
        self.settings = settings
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = device = pick_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        self.rank, self.processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        shared = {
            "framing": settings.framing, "source_size": settings.source_size, "seed": settings.seed, "device": device,
            "rank": self.rank, "processes": self.processes,
        }  # fmt: skip
        for name, dataset in (("train_set", train_set), ("val_set", val_set)):
            if dataset.keypoints is None:
                raise ValueError(f"{name} ({dataset.root}, {dataset.split}) has no keypoints, and training needs them")
        self.batches = HandBatches(
            train_set, batch_size=settings.batch_size, augmentation=settings.augmentation,
            one_version=settings.one_version, **shared,
        )  # fmt: skip
        self.val_set = val_set
        whole = max(1, len(val_set) // self.processes) * self.processes
        self.val_batches = HandBatches(val_set, batch_size=min(settings.batch_size, whole), **shared)
        self.name = run_name(settings, train_set)
        self.total_steps = settings.epochs * len(self.batches)
        self.checkpoint_minutes = checkpoint_minutes
        self.remote = is_remote(self.folder)
        self.saved_at = time.perf_counter()  # the last checkpoint, or the start

        torch.manual_seed(settings.seed)
        model = UNet2DHandPose(settings.width, settings.depth, framing=settings.framing)
        if sync_batchnorm and self.processes > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.to(device, memory_format=torch.channels_last)  # the layout that convolutions are fast in
        self.average = deepcopy(self.model).requires_grad_(False).eval()
        self.network: nn.Module = torch.compile(self.model) if compiled else self.model
        if self.processes > 1:
            self.network = DistributedDataParallel(self.network, [device] if device.type == "cuda" else None)
        self.criterion = AdaptiveWingLoss(foreground_weight=settings.foreground_weight)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]  # batch normalisation, biases
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=device.type in ("cuda", "cpu"))
        self.precision = half_precision(device, settings.precision)
        # float16 has a narrow range: gradients are scaled up before, and down after, they pass through it.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)

        self.targets: Tensor | None = None  # the heatmaps' memory, used again in every step

        # Where the run is: plain values, saved with the tensors.
        self.epoch = 0  # of the next batch
        self.batch = 0  # number of the next batch in it
        self.losses = torch.zeros(len(self.batches), device=device)  # of this epoch's batches so far
        self.seconds = 0.0
        self.best_error = math.inf
        self.history: list[HistoryRow] = []
        # Looking at a value on the GPU makes the processor wait for it, so that is done now and then only.
        self.look_every = 20 if device.type == "cuda" else 1

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
            # A run that was stopped on the last batch of an epoch has the epoch's end still before it.
            while self.step < until or self.batch == len(self.batches):
                self._run_epoch(until, stopped, progress and self.rank == 0)
        return self

    def _run_epoch(self, until: int, stopped: list[int], progress: bool) -> None:
        started = time.perf_counter()
        self.model.train()
        batches = self.batches.epoch(self.epoch, first=self.batch)
        label = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        hidden = None if progress else True  # None: a bar on a terminal only
        with tqdm(batches, label, len(self.batches), initial=self.batch, disable=hidden, leave=False) as bar:
            for batch in bar:
                self.losses[self.batch] = self._train_step(batch)
                self.batch += 1
                last = self.step == until or self.batch == len(self.batches)
                if not last and self.batch % self.look_every:
                    continue
                number = self._look(stopped[0] if stopped else 0)
                if number or self._is_due() or (last and self.batch < len(self.batches)):
                    self.seconds += time.perf_counter() - started
                    started = time.perf_counter()
                    self.save_checkpoint()
                if number:
                    raise (KeyboardInterrupt if number == signal.SIGINT else SystemExit)(
                        f"stopped after step {self.step:,} of {self.total_steps:,}; the state is saved in "
                        f"{self.folder}: run it again (`handpose train`: with --resume) to go on"
                    )
                if last:
                    break
        if self.batch == len(self.batches):
            self._end_epoch(started, progress)

    def _train_step(self, batch: Batch) -> Tensor:
        """One optimiser step; the loss, on the device and averaged over this process's part of the batch."""
        share = self.step / self.total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(share, self.settings)
        self.targets = render_heatmaps(
            batch.keypoints, self.batches.framing.size, sigma_at(share, self.settings), out=self.targets
        )
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            heatmaps = self.network(images)
        num_maps = batch.visible.sum().float()
        if self.processes > 1:  # the same denominator everywhere: averaged gradients are then the whole batch's
            dist.all_reduce(num_maps)
            num_maps /= self.processes
        loss = self.criterion(heatmaps, self.targets, batch.visible, num_maps)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # A young average forgets faster, or it would drag the random start along.
        update_average(self.average, self.model, min(self.settings.ema_decay, (1 + self.step) / (10 + self.step)))
        return loss.detach()

    def _look(self, signal_number: int) -> int:
        """Agree with all processes that the losses are finite, and on the signal to stop by (0: none)."""
        losses = self.losses[: self.batch].clone()
        news = torch.tensor([signal_number], device=self.device)
        if self.processes > 1:
            dist.all_reduce(losses)
            dist.all_reduce(news, dist.ReduceOp.MAX)
        if not bool(losses.isfinite().all()):
            number = int((~losses.isfinite()).float().argmax())
            ids = self.batches.ids[self.batches.items(self.epoch, number)].tolist()
            raise FloatingPointError(
                f"the loss is {float(self.losses[number])} at epoch {self.epoch}, batch {number}, image ids {ids}; "
                f"{self.folder / 'checkpoint.pt'} holds the last good state: look at these images, "
                "or lower learning_rate"
            )
        return int(news)

    def _end_epoch(self, started: float, progress: bool) -> None:
        settings = self.settings
        share = (self.step - 1) / self.total_steps
        loss = self.losses.mean()  # the epoch's mean, not its last batch's
        if self.processes > 1:
            dist.all_reduce(loss)
            loss /= self.processes
        boxes = "truth" if settings.framing.crop else "none"
        summary = make_report(self.val_set, *self._predict_validation(), boxes=boxes).summary
        self.seconds += time.perf_counter() - started
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "seconds": round(self.seconds, 2),
            "learning_rate": learning_rate_at(share, settings),
            "sigma_px": sigma_at(share, settings),
            "train_loss": loss.item(),
            "val_pck_0.2_bbox": summary["pck_0.2_bbox"],
            "val_epe_px128": summary["epe_px128"],
            "val_boxes": boxes,
        }
        self.history.append(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self.losses.zero_()
        better = row["val_epe_px128"] < self.best_error
        self.best_error = min(self.best_error, row["val_epe_px128"])
        if self.rank == 0:
            if better:
                with atomic_path(self.folder / "best.safetensors") as temporary:
                    save_model(self.average, temporary, epoch=self.epoch)
            write_history(self.history, self.folder / "history.csv")
            if not self.remote or self._is_due() or self.step == self.total_steps:
                self.save_checkpoint()
        if progress:
            around = "  (crops around the true boxes)" if boxes == "truth" else ""
            tqdm.write(
                f"epoch {self.epoch:3d}/{settings.epochs}  loss {row['train_loss']:.4f}  val PCK@0.2 (bbox) "
                f"{row['val_pck_0.2_bbox']:.3f}  val error {row['val_epe_px128']:.2f} px of 128{around}  "
                f"{self.seconds:.0f} s"
            )

    def _predict_validation(self) -> tuple[Tensor, Tensor]:
        """The averaged weights' predictions on the whole validation set, of which each process makes its part."""
        if self.processes == 1:
            return predict_keypoints(self.average, self.val_batches)
        for buffer in self.average.buffers():  # each process has its own batch-normalisation statistics
            dist.broadcast(buffer, src=0)
        parts: list[tuple[Tensor, Tensor]] = [()] * self.processes
        dist.all_gather_object(parts, predict_keypoints(self.average, self.val_batches))
        keypoints, confidence = (torch.cat(each) for each in zip(*parts, strict=True))
        return keypoints, confidence

    def _is_due(self) -> bool:
        return time.perf_counter() - self.saved_at > 60 * self.checkpoint_minutes

    def save_checkpoint(self) -> None:
        """Write all state, whole or not at all; process 0 alone does.

        On a network file system the checkpoint before stays beside it, in case the machine ends while a rename is
        still on its way.
        """
        self.saved_at = time.perf_counter()
        if self.rank:
            return
        state = {
            "settings": self.settings.to_json(),
            "run": self.name,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "where": {name: getattr(self, name) for name in WHERE},
        }
        newest, previous = (self.folder / name for name in CHECKPOINTS)
        with atomic_path(newest) as temporary:
            torch.save(state, temporary)
            if self.remote and newest.is_file():
                replace(newest, previous)

    def resume(self) -> "Trainer":
        """Go back to the folder's checkpoint; FileNotFoundError without one, ValueError if another run's."""
        path, state = _read_checkpoint(self.folder, self.device)
        if state["settings"] != self.settings.to_json():
            theirs, ours = state["settings"], self.settings.to_json()
            changed = [name for name in ours if theirs.get(name) != ours[name]]
            raise ValueError(f"{path} was written with another {', '.join(changed)}: use the same, or another folder")
        if state["run"] != self.name:
            raise ValueError(f"{path} was written with other training hands: use the same, or another folder")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for name in WHERE:
            setattr(self, name, state["where"][name])
        return self

    def start_from(self, weights: str | Path) -> "Trainer":
        """Begin with the weights of an earlier run, as `save_model` wrote them; ValueError if another network's."""
        model, _ = load_model(weights, self.device)
        ours, theirs = ({"width": one.width, "depth": one.depth} for one in (self.settings, model))
        if theirs != ours:
            raise ValueError(f"{weights} holds a network of {theirs}, the settings ask for {ours}: make them the same")
        self.model.load_state_dict(model.state_dict())
        self.average.load_state_dict(model.state_dict())
        return self


WHERE = ("epoch", "batch", "losses", "seconds", "best_error", "history")
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # the second on a network file system only


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed from this folder."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def _read_checkpoint(folder: Path, device: torch.device) -> tuple[Path, dict]:
    """The last checkpoint and its file; where it is gone or damaged, the one before, with a line that says so."""
    paths = [folder / name for name in CHECKPOINTS if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(f"{folder / CHECKPOINTS[0]} is not there: nothing to resume; train without --resume")
    if len(paths) > 1:
        try:
            return paths[0], torch.load(paths[0], map_location=device, weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
            print(f"{paths[0]} is damaged: going on from {paths[1].name}, which was written before it")
    return paths[-1], torch.load(paths[-1], map_location=device, weights_only=True)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move averaged weights a step of (1 - decay) towards the model's; counters are copied."""
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    torch._foreach_lerp_(means, values, 1 - decay)  # a few kernels for all tensors, as in torch.optim.swa_utils
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


def write_history(rows: list[HistoryRow], path: Path) -> None:
    """One CSV line per epoch, from which the curves are drawn."""
    columns = dict.fromkeys(name for row in rows for name in row)  # rows of an older version may have fewer
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
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
    """A folder name that says what was trained on what: equal names mean equal settings, image ids and keypoints."""
    hands = hashlib.sha256(train_set.keypoints.tobytes()).hexdigest()
    data = [train_set.root.name, train_set.split, train_set.num_hands, list(train_set.versions), hands]
    text = json.dumps([settings.to_json(), data], sort_keys=True)
    return f"unet{settings.width}_{settings.framing.image_size}px_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


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
    device = pick_device(device)
    with lock_for(folder):
        history = read_history(folder / "history.csv")
        if len(history) < settings.epochs:
            trainer = Trainer(settings, train_set, val_set, folder, device)
            if has_checkpoint(folder):
                trainer.resume()
            trainer.run(progress)
    return load_model(folder / "best.safetensors", device)[0], folder


def read_history(path: str | Path) -> list[HistoryRow]:
    """The rows of a history file; none where it is not there yet."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value if name == "val_boxes" else float(value) for name, value in row.items()} for row in rows]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose train`, among them one a setting."""
    add_setting_arguments(parser, "quick")
    parser.add_argument("--root", type=Path, help="data set in FreiHAND's layout (default: the preset's)")
    parser.add_argument("--out", type=Path, help="folder of the run (default: one under runs/, named by its settings)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the run's folder")
    parser.add_argument("--start-from", type=Path, metavar="WEIGHTS", help="begin with these instead of random weights")
    parser.add_argument("--compile", action="store_true", help="let torch.compile fuse the network")
    parser.add_argument("--sync-batchnorm", action="store_true", help="several GPUs: normalise over the whole batch")


def add_setting_arguments(parser: argparse.ArgumentParser, preset: str) -> None:
    """Options that `chosen_settings` reads: a preset, and one for each setting."""
    parser.add_argument("--preset", choices=PRESETS, default=preset, help=f"settings to start from (default: {preset})")
    for option in (*dataclasses.fields(Framing), *dataclasses.fields(TrainSettings)):
        flag = f"--{option.name.replace('_', '-')}"
        if option.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help="instead of the preset's")
        elif option.type in (int, float):
            parser.add_argument(flag, type=option.type, help="instead of the preset's")
        elif option.type is str:
            parser.add_argument(flag, choices=PRECISIONS, help="instead of the preset's")


def chosen_settings(options: argparse.Namespace) -> TrainSettings:
    """The preset of these options, with what else they say."""
    preset = PRESETS[options.preset]
    framing = dataclasses.replace(preset.framing, **_given(options, Framing))
    return dataclasses.replace(preset, framing=framing, **_given(options, TrainSettings))


def _given(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """What the options say of a dataclass's fields."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def run_command(options: argparse.Namespace) -> None:
    """Train as the options say; started by torchrun, together with the other processes."""
    if options.resume and options.start_from:
        raise ValueError("--resume goes on with the run's own weights: leave --start-from out")
    if options.start_from and not options.out:
        raise ValueError(
            "--start-from needs --out: a run's own folder is for a network that begins with random weights"
        )
    settings = chosen_settings(options)
    device = pick_device(options.device)
    if "RANK" in os.environ:  # torchrun
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train_set, val_set = FreiHAND(options.root, "train"), FreiHAND(options.root, "val")
        folder = options.out or runs_folder() / run_name(settings, train_set)
        if has_checkpoint(folder) and not options.resume:
            raise FileExistsError(f"{folder} already holds a run: add --resume to go on, or give another --out")
        trainer = Trainer(settings, train_set, val_set, folder, device, options.compile, options.sync_batchnorm)
        if options.start_from:
            trainer.start_from(options.start_from)
        if trainer.rank == 0:
            print(
                f"{len(train_set):,} images of {options.root} on {trainer.processes} x {device}; "
                f"the run's folder is {folder}"
            )
        (trainer.resume() if options.resume else trainer).run()
        if trainer.rank == 0:
            weights = folder / "best.safetensors"
            print(f"lowest validation error {trainer.best_error:.2f} px of 128; weights in {weights}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def main() -> None:
    """`python -m handpose_lib.train`: the options of `handpose train`, but `--root` must be given."""
    parser = argparse.ArgumentParser("handpose_lib.train", description="Train a U-Net; see `handpose train`.")
    add_arguments(parser)
    options = parser.parse_args()
    if options.root is None:
        parser.error("--root is needed: a folder in FreiHAND's layout (`handpose train` finds or renders one)")
    run_command(options)


if __name__ == "__main__":
    main()
