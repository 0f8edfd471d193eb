"""Both networks of the predictor, trained at once on a stream of rendered hands, for as long as one can wait."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from handpose_lib import runs
from handpose_lib.augment import NO_AUGMENTATION
from handpose_lib.devices import half_precision
from handpose_lib.framing import warp_keypoints
from handpose_lib.heatmaps import decode_heatmaps, render_heatmaps
from handpose_lib.losses import AdaptiveWingLoss
from handpose_lib.recipes.stream import DRAWS, HandStream, framed
from handpose_lib.settings import TrainSettings, learning_rate_at, sigma_at
from handpose_lib.weights import begin_with, network_of

LOOK_EVERY = 50  # steps between two looks at the new hands
CLIP = 5.0  # largest norm of a gradient
SCORED = 1000  # held-out pictures that a report scores
SCORED_AT_ONCE = 250


class Learner:
    """A network, its optimiser and the average of its weights.

    Args:
        settings: what to learn and how; `epochs` and `source_size` say nothing here.
        empty: share of the samples that show a backdrop without a hand.
        device: where it trains.
        start: a learner whose averaged weights this one begins with, or a file, see `weights.begin_with`; None: random
            weights.
    """

    def __init__(
        self, settings: TrainSettings, empty: float, device: torch.device, start: "Learner | Path | None" = None
    ):
        self.settings, self.device = settings, device
        self.empty = max(1, round(empty * settings.batch_size)) if empty else 0
        torch.manual_seed(settings.seed)
        self.model = network_of(settings).to(device, memory_format=torch.channels_last).train()
        if isinstance(start, Learner):
            self.model.load_state_dict(start.average.state_dict())
        elif start is not None:
            begin_with(self.model, start, device)
        self.averaged = AveragedModel(self.model, use_buffers=True)
        self.averaged.requires_grad_(False).eval()
        self.averaged.n_averaged += 1  # the start is the first model in the average
        self.optimizer = runs.optimizer_of(self.model, settings)
        self.precision = half_precision(device, settings.precision)
        self.criterion = AdaptiveWingLoss(foreground_weight=settings.foreground_weight)
        self.steps = 0

    @property
    def average(self) -> nn.Module:
        """The network with the averaged weights."""
        return self.averaged.module

    def step(self, stream: HandStream, progress: float) -> Tensor:
        """One optimiser step; `progress` from 0 to 1 says where the schedules are. Returns the loss, on the device."""
        settings, framing = self.settings, self.settings.framing
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(progress, settings)
        images, points, visible = stream.batch(settings.batch_size, framing, settings.augmentation, self.empty)
        stride = self.model.stride
        size = (framing.image_size // stride, framing.image_size // stride)
        points = warp_keypoints(points, framing.to_heatmaps(size).to(points))
        targets = render_heatmaps(points, size, sigma_at(progress, settings) / stride)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            heatmaps = self.model(images, every_stage=True)
        loss = sum(self.criterion(stage, targets, visible) for stage in heatmaps)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.steps += 1
        self.averaged.multi_avg_fn = runs.following(min(settings.ema_decay, (1 + self.steps) / (10 + self.steps)))
        self.averaged.update_parameters(self.model)
        return loss.detach()

    @torch.inference_mode()
    def errors(self, images: Tensor, keypoints: Tensor) -> Tensor:
        """How far the averaged network is off in squares around the true keypoints.

        Args:
            images: (N, 3, S, S) uint8.
            keypoints: (N, 21, 2) in their px.

        Returns:
            (N, 21) on the CPU, px of the network's square.
        """
        framing = self.settings.framing
        found = []
        for part in zip(images.split(SCORED_AT_ONCE), keypoints.split(SCORED_AT_ONCE), strict=True):
            pictures, truth = (each.to(self.device) for each in part)
            unchanged = torch.full((len(pictures), DRAWS), 0.5, device=self.device)
            shown, truth, _ = framed(pictures, truth, framing, NO_AUGMENTATION, unchanged)
            heatmaps = self.average(shown.contiguous(memory_format=torch.channels_last))
            points, _ = decode_heatmaps(heatmaps)
            points = warp_keypoints(points, framing.from_heatmaps(heatmaps.shape[-2:]).to(points))
            found.append((points - truth).norm(dim=-1).cpu())
        return torch.cat(found)


class Reporter:
    """Rows for `write_history`, and a line on the screen for each of them.

    Args:
        rows: the row of each call is added to them; counts go on from the last that is there.
        name: of the learner that is reported on.
        learner: it.
        stream: whose held-out pictures are scored.
    """

    def __init__(self, rows: list[dict], name: str, learner: Learner, stream: HandStream):
        self.rows, self.name, self.learner, self.stream = rows, name, learner, stream
        self.before = rows[-1] if rows else {"step": 0, "seconds": 0.0}

    def __call__(self, progress: float, seconds: float, losses: dict[str, float]) -> None:
        learner, settings = self.learner, self.learner.settings
        images, keypoints = (each[:SCORED] for each in self.stream.held_out)
        error = learner.errors(images, keypoints)  # (N, 21) px of the square
        near = 0.2 * settings.framing.crop * settings.framing.image_size
        row = {
            "step": self.before["step"] + learner.steps,
            "seconds": round(self.before["seconds"] + seconds, 2),
            "pictures": self.stream.taken,
            "learning_rate": learning_rate_at(progress, settings),
            "sigma_px": sigma_at(progress, settings),
            "train_loss": round(losses[self.name], 5),
            "val_pck_0.2_bbox": round(float((error < near).float().mean()), 5),
            "val_error_px_of_crop": round(float(error.mean()), 4),
            "val_boxes": "truth",
        }
        self.rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def train_networks(
    learners: dict[str, Learner],
    stream: HandStream,
    seconds: float,
    turns: dict[str, int],
    report: Callable[[float, float, dict[str, float]], None],
    reports: int = 16,
) -> None:
    """Train all networks on the stream until the time is over.

    Args:
        learners: by their names.
        seconds: how long; the schedules of learning rate and sigma follow the clock.
        turns: how often each has its turn: every so many steps of the loop.
        report: called with progress, the seconds so far and the mean losses, `reports` times, the last at the end.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    began = time.perf_counter()
    losses: dict[str, list[Tensor]] = {name: [] for name in learners}
    reported = step = 0
    while reported < reports:
        progress = min(1.0, (time.perf_counter() - began) / seconds)
        for name, learner in learners.items():
            if step % turns[name] == 0:
                losses[name].append(learner.step(stream, progress))
        step += 1
        if step % LOOK_EVERY and progress < 1:
            continue
        stream.take_in(4)
        if progress * reports >= reported + 1:
            means = {name: torch.stack(each).mean().item() for name, each in losses.items() if each}
            for name, mean in means.items():
                if not math.isfinite(mean):
                    raise FloatingPointError(f"the loss of {name} is {mean} after {learners[name].steps} steps")
            report(progress, time.perf_counter() - began, means)
            reported = int(progress * reports)
            losses = {name: [] for name in learners}
