"""Training: a loop that can be stopped anywhere and goes on exactly, and a history in a CSV.

`handpose train` runs it in one process, `torchrun --nproc_per_node=N -m handpose_lib.cli train` in N, one per device.
Explained in `notebooks/06_gpu_training.ipynb`.
"""

import math
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from handpose_lib import runs, stopping
from handpose_lib.devices import half_precision, keep_freed_memory, pick_device
from handpose_lib.evaluate import make_report, predict_keypoints
from handpose_lib.fields import is_whole
from handpose_lib.framing import warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.loader import Batch, HandBatches
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.settings import TrainSettings, learning_rate_at, sigma_at
from handpose_lib.storage import check_target, is_remote, lock_for
from handpose_lib.trusted import holds_weights
from handpose_lib.weights import begin_with, load_model, network_of


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
    `torch.distributed` is initialised, each process takes its part of every batch and process 0 alone writes. On a CPU,
    the process keeps the memory that it frees, from then on (see `devices.keep_freed_memory`).
    """

    def __init__(
        self,
        settings: TrainSettings,
        train_set: FreiHAND | KeypointFolder,
        val_set: FreiHAND | KeypointFolder,
        folder: str | Path,
        device: torch.device | str | None = None,
        compiled: bool = False,
        sync_batchnorm: bool = False,
        checkpoint_minutes: float = 10.0,
    ):
        runs.check_arguments(settings, train_set, val_set, checkpoint_minutes, compiled, sync_batchnorm)
        self.settings = settings
        self.folder = Path(folder)
        check_target(self.folder / runs.CHECKPOINTS[0])
        self.device = device = pick_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        self.rank, self.processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        shared = {
            "framing": settings.framing, "source_size": settings.source_size, "seed": settings.seed, "device": device,
            "rank": self.rank, "processes": self.processes,
        }  # fmt: skip
        self.batches = HandBatches(
            train_set, batch_size=settings.batch_size, augmentation=settings.augmentation,
            one_version=settings.one_version, **shared,
        )  # fmt: skip
        self.val_set = val_set
        whole = max(1, len(val_set) // self.processes) * self.processes
        self.val_batches = HandBatches(val_set, batch_size=min(settings.batch_size, whole), **shared)
        self.name, self.validation = runs.run_name(settings, train_set), runs.content_of(val_set)
        self.total_steps = settings.epochs * len(self.batches)
        self.checkpoint_minutes = checkpoint_minutes
        self.remote = is_remote(self.folder)
        self.saved_at = time.perf_counter()  # the last checkpoint, or the start

        torch.manual_seed(settings.seed)
        model = network_of(settings)
        if sync_batchnorm and self.processes > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.to(device, memory_format=torch.channels_last)  # the layout that convolutions are fast in
        self.average = AveragedModel(self.model, use_buffers=True)
        self.average.requires_grad_(False).eval()
        self.average.n_averaged += 1  # the random start is the first model in the average
        if compiled:
            self.model.compile()  # in place: names of weights stay as they are
        self.network: nn.Module = self.model
        if self.processes > 1:
            self.network = DistributedDataParallel(self.model, [device] if device.type == "cuda" else None)
        self.criterion = AdaptiveWingLoss(foreground_weight=settings.foreground_weight)
        self.optimizer = runs.optimizer_of(self.model, settings)
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
        self.best: dict[str, Tensor] | None = None  # the averaged weights of the best epoch, on the CPU
        self.best_epoch = 0
        self.history: list[runs.HistoryRow] = []
        # Looking at a value on the GPU makes the processor wait for it, so that is done now and then only.
        self.look_every = 20 if device.type == "cuda" else 1

    @property
    def step(self) -> int:
        """Optimiser steps taken so far."""
        return self.epoch * len(self.batches) + self.batch

    def run(self, progress: bool = True, until_step: int | None = None) -> "Trainer":
        """Train to the end, or until so many steps were taken in all, and save a checkpoint.

        Ctrl-C, SIGTERM and SIGHUP let the current step or validation finish, save a checkpoint and raise `Stopped`.

        Raises:
            FloatingPointError: a loss is not a number.
            ValueError: another process trains in the folder.
        """
        if until_step is not None and not is_whole(until_step, 0):
            raise ValueError(f"until_step is {until_step!r}, it must be a whole number of steps")
        until = self.total_steps if until_step is None else min(until_step, self.total_steps)
        with runs.only_one(self.folder) if self.rank == 0 else nullcontext(), stopping.stop_signal() as stopped:
            # A run that was stopped on the last batch of an epoch has the epoch's end still before it.
            while self.step < until or self.batch == len(self.batches):
                self._run_epoch(until, stopped, progress and self.rank == 0)
                self._stop_if(self._look(stopped))  # while it validated
        return self

    def _stop_if(self, number: int) -> None:
        """Ends the run by the signal of this number (0: none)."""
        if number:
            self.save_checkpoint()
            raise runs.stopped_error(self.step, self.total_steps, self.folder, number)

    def _run_epoch(self, until: int, stopped: list[int], progress: bool) -> None:
        started = time.perf_counter()
        self.model.train()
        batches = self.batches.epoch(self.epoch, first=self.batch)
        label = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        hidden = None if progress else True  # None: a bar on a terminal only
        with tqdm(batches, label, len(self.batches), initial=self.batch, disable=hidden, leave=False) as bar:
            for batch in bar:
                self.losses[self.batch] = self.train_step(batch)
                self.batch += 1
                last = self.step == until or self.batch == len(self.batches)
                if not last and self.batch % self.look_every:
                    continue
                number = self._look(stopped)
                if number or self._is_due() or (last and self.batch < len(self.batches)):
                    now = time.perf_counter()
                    self.seconds, started = self.seconds + now - started, now
                    self.save_checkpoint()
                self._stop_if(number)
                if last:
                    break
        if self.batch == len(self.batches):
            self._end_epoch(started, progress)

    def train_step(self, batch: Batch) -> Tensor:
        """One optimiser step on a batch, at the learning rate and sigma of `step`.

        Returns:
            The loss, on the device and averaged over this process's part of the batch.
        """
        share = self.step / self.total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(share, self.settings)
        stride, framing = self.model.stride, self.batches.framing
        size = (framing.image_size // stride, framing.image_size // stride)
        points = warp_keypoints(batch.keypoints, framing.to_heatmaps(size).to(batch.keypoints))
        self.targets = render_heatmaps(points, size, sigma_at(share, self.settings) / stride, out=self.targets)
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            # A stacked network answers once per stage, and each answer is held to the targets.
            heatmaps = self.network(images, every_stage=True) if self.settings.decoder else [self.network(images)]
        num_maps = batch.visible.sum().float()
        if self.processes > 1:  # the same denominator everywhere: averaged gradients are then the whole batch's
            dist.all_reduce(num_maps)
            num_maps /= self.processes
        loss = sum(self.criterion(each, self.targets, batch.visible, num_maps) for each in heatmaps)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # A young average forgets faster, or it would drag the random start along.
        self.average.multi_avg_fn = runs.following(min(self.settings.ema_decay, (1 + self.step) / (10 + self.step)))
        self.average.update_parameters(self.model)
        return loss.detach()

    def _look(self, stopped: list[int]) -> int:
        """Agree with all processes that the losses are finite, and on the signal to stop by (0: none)."""
        losses = self.losses[: self.batch].clone()
        news = torch.tensor([stopped[0] if stopped else 0], device=self.device)
        if self.processes > 1:
            dist.all_reduce(losses)
            dist.all_reduce(news, dist.ReduceOp.MAX)
        if not bool(losses.isfinite().all()):
            number = int((~losses.isfinite()).float().argmax())
            ids = self.batches.ids[self.batches.items(self.epoch, number)].tolist()
            raise runs.loss_error(float(self.losses[number]), ids, self.epoch, number, self.folder)
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
        # As long as no epoch has an error that is a number, the last one counts as the best.
        better = row["val_epe_px128"] < self.best_error or math.isinf(self.best_error)
        if row["val_epe_px128"] < self.best_error:
            self.best_error = row["val_epe_px128"]
        if self.rank == 0:
            if better:
                self.best, self.best_epoch = runs.copied(self.average.module), self.epoch
                runs.write_best(self.average.module, self.best, self.folder, self.best_epoch)
            runs.write_history(self.history, self.folder / "history.csv")
            if not self.remote or self._is_due() or self.step == self.total_steps:
                self.save_checkpoint()
        if progress:
            tqdm.write(runs.history_line(row, settings.epochs))

    def _predict_validation(self) -> tuple[Tensor, Tensor]:
        """The averaged weights' predictions on the whole validation set, of which each process makes its part."""
        if self.processes == 1:
            return predict_keypoints(self.average.module, self.val_batches)
        for buffer in self.average.module.buffers():  # each process has its own batch-normalisation statistics
            dist.broadcast(buffer, src=0)
        parts: list[tuple[Tensor, Tensor]] = [()] * self.processes
        dist.all_gather_object(parts, predict_keypoints(self.average.module, self.val_batches))
        keypoints, confidence = (torch.cat(each) for each in zip(*parts, strict=True))
        return keypoints, confidence

    def _is_due(self) -> bool:
        return time.perf_counter() - self.saved_at > 60 * self.checkpoint_minutes

    def save_checkpoint(self) -> None:
        """Write all state, whole or not at all; process 0 alone does."""
        self.saved_at = time.perf_counter()
        if self.rank:
            return
        state = {
            "settings": self.settings.to_json(),
            "run": self.name,
            "validation": self.validation,
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "bones": self.model.bones,
            "where": {name: getattr(self, name) for name in runs.WHERE},
        }
        runs.write_checkpoint(state, self.folder, keep_previous=self.remote)

    def resume(self) -> "Trainer":
        """Go back to the folder's checkpoint, and restore what else of the run is missing or damaged there.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is damaged, or another run's.
        """
        state = runs.read_checkpoint(self.folder, self.device, self.settings, self.name, self.validation)
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where it was written without float16
            self.scaler.load_state_dict(state["scaler"])
        for name in runs.WHERE:
            setattr(self, name, state["where"].get(name, getattr(self, name)))
        self.best = state.get("best")
        self.model.bones = self.average.module.bones = state.get("bones", ())
        if self.rank == 0:
            runs.restore_history(self.history, self.folder)
            if self.history and not holds_weights(self.folder / runs.BEST):
                self.best = self.best or runs.copied(self.average.module)  # an earlier version kept none
                print(f"{self.folder / runs.BEST} was missing or damaged: restored from the checkpoint")
                runs.write_best(self.average.module, self.best, self.folder, self.best_epoch)
        return self

    def start_from(self, weights: str | Path) -> "Trainer":
        """Begin with the weights of an earlier run, see `weights.begin_with`; ValueError if another network's."""
        begin_with(self.model, weights, self.device)
        self.average.module.load_state_dict(self.model.state_dict())
        self.average.module.bones = self.model.bones
        return self


def train_or_load(
    settings: TrainSettings,
    train_set: FreiHAND | KeypointFolder,
    val_set: FreiHAND | KeypointFolder,
    parent: str | Path,
    device: torch.device | str | None = None,
    progress: bool = True,
    checkpoint_minutes: float = 10.0,
) -> tuple[nn.Module, Path]:
    """The model of these settings and data: loaded if it was trained before, else trained (or resumed) now.

    Processes that ask for the same run at the same time wait for the one that trains.

    Returns:
        The best model in evaluation mode on `device`, and the run's folder.
    """
    folder = Path(parent) / runs.run_name(settings, train_set)
    device = pick_device(device)
    with lock_for(folder, patience=24 * 3600.0):
        if runs.finished_epochs(folder) < settings.epochs or not holds_weights(folder / runs.BEST):
            trainer = Trainer(settings, train_set, val_set, folder, device, checkpoint_minutes=checkpoint_minutes)
            if runs.has_checkpoint(folder):
                trainer.resume()
            trainer.run(progress)
    return load_model(folder / runs.BEST, device)[0], folder
