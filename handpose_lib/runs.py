"""A run beside its training loop: its folder's name, and the checkpoints and history there."""

import csv
import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from handpose_lib.fields import counted, is_positive
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.settings import TrainSettings
from handpose_lib.stopping import Stopped
from handpose_lib.storage import atomic_path, lock_for, remove_leftovers, replace
from handpose_lib.trusted import load_state
from handpose_lib.weights import save_model

BEST = "best.safetensors"  # the averaged weights of the epoch with the lowest validation error
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # the second on a network file system only
KEYS = ("settings", "run", "model", "average", "optimizer", "scaler", "where")  # of a checkpoint
WHERE = ("epoch", "batch", "losses", "seconds", "best_error", "best_epoch", "history")  # what it holds as plain values
HistoryRow = dict[str, float | str]  # a line of `history.csv`


def run_name(settings: TrainSettings, train_set: FreiHAND | KeypointFolder) -> str:
    """A folder name that says what was trained on what, wherever that lies.

    Equal names mean equal settings, image ids and keypoints, and images of the same sizes in bytes: pictures of the
    same hands that were rendered in another way differ in that.
    """
    text = json.dumps([settings.to_json(), content_of(train_set)], sort_keys=True)
    return f"unet{settings.width}_{settings.framing.image_size}px_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def content_of(dataset: FreiHAND | KeypointFolder) -> list:
    """What a data set shows, as JSON values that are equal for equal hands and images, wherever they lie."""
    hands = hashlib.sha256(dataset.keypoints.tobytes())
    for index in range(len(dataset)):
        hands.update(dataset.image_path(index).stat().st_size.to_bytes(8, "little"))
    return [dataset.split, dataset.num_hands, list(dataset.versions), hands.hexdigest()]


def check_arguments(
    settings: TrainSettings,
    train_set: FreiHAND | KeypointFolder,
    val_set: FreiHAND | KeypointFolder,
    minutes: float,
    compiled: bool,
    sync_batchnorm: bool,
) -> None:
    """ValueError for what a run can't begin with; notes on hands in both sets, and on transforms, which do nothing."""
    if not isinstance(settings, TrainSettings):
        kind = type(settings).__name__
        raise ValueError(f"settings is a {kind}, it must be TrainSettings, such as PRESETS['quick']")
    for name, value in (("compiled", compiled), ("sync_batchnorm", sync_batchnorm)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, it must be true or false")
    if not (is_positive(minutes) or minutes == 0):
        raise ValueError(f"checkpoint_minutes is {minutes}, it must be a number, and not negative")
    for name, dataset in (("train_set", train_set), ("val_set", val_set)):
        if not hasattr(dataset, "keypoints") or not hasattr(dataset, "split"):
            raise ValueError(f"{name} is a {type(dataset).__name__}: open it first, with open_data(root, split)")
        if dataset.keypoints is None:
            raise ValueError(f"{name} ({dataset.root}, {dataset.split}) has no keypoints, and training needs them")
        if getattr(dataset, "transforms", None) is not None:
            warnings.warn(f"{name} has transforms, which training leaves out: see settings.augmentation", stacklevel=4)
    same = type(train_set) is type(val_set) and train_set.root.resolve() == val_set.root.resolve()
    same = same and (train_set.split == "evaluation") == (val_set.split == "evaluation")
    both = np.intersect1d(train_set.hand_ids, val_set.hand_ids) if same else ()
    if len(both):
        warnings.warn(
            f"val_set shows {counted(len(both), 'hand')} or groups of train_set, so its errors say little about others",
            stacklevel=4,
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lets one process at a time train in a folder, and removes what killed ones left; ValueError for a second."""
    try:
        with lock_for(folder / "run", patience=0):
            remove_leftovers(folder, certain=True)
            yield
    except TimeoutError as error:
        if "another process holds" not in str(error):
            raise
        raise ValueError(
            f"another training is running in {folder}: wait until it is done, stop it, or give another --out"
        ) from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed from this folder."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def write_checkpoint(state: dict, folder: Path, keep_previous: bool = False) -> None:
    """Write a run's state, whole or not at all.

    Args:
        state: what `torch.save` takes, and `torch.load` gives back with `weights_only`.
        folder: of the run.
        keep_previous: leave the checkpoint before beside it, for a network file system, where the machine may end
            while a rename is still on its way.
    """
    newest, previous = (folder / name for name in CHECKPOINTS)
    with atomic_path(newest) as temporary:
        content = io.BytesIO()  # so that a full disk is an error of the disk, not of a zip
        torch.save(state, content)
        temporary.write_bytes(content.getbuffer())
        if keep_previous and newest.is_file():
            replace(newest, previous)


def read_checkpoint(folder: Path, device: torch.device, settings: TrainSettings, name: str, validation: list) -> dict:
    """The state of a run's last checkpoint.

    Args:
        folder: of the run.
        device: where the tensors go.
        settings, name: of the run that continues; see `run_name`.
        validation: what its validation set shows; see `content_of`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is one of other settings or other data.
    """
    path, state = _last_state(folder, device)
    theirs, ours = state["settings"], settings.to_json()
    if theirs != ours:
        changed = [field for field in ours if theirs.get(field) != ours[field]]
        raise ValueError(f"{path} was written with another {', '.join(changed)}: use the same, or another folder")
    if state["run"] != name:
        raise ValueError(f"{path} was written with other training hands: use the same, or another folder")
    if "validation" in state and state["validation"] != validation:  # older ones do not say
        raise ValueError(
            f"{path} was written with another validation set, so its errors can't be compared: use the same, or "
            "another folder"
        )
    return state


def settings_of(folder: Path) -> TrainSettings:
    """The settings of the run in a folder, as its last checkpoint has them.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is damaged, or of a later version.
    """
    path, state = _last_state(folder, torch.device("cpu"))
    try:
        return TrainSettings.from_json(state["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} can't be gone on from ({error})") from error


def _last_state(folder: Path, device: torch.device) -> tuple[Path, dict]:
    """The last checkpoint and its file; where it is gone or damaged, the one before, with a line that says so."""
    paths = [folder / name for name in CHECKPOINTS if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(f"{folder / CHECKPOINTS[0]} is not there: nothing to resume; train without --resume")
    if len(paths) > 1:
        try:
            return paths[0], load_state(paths[0], device, KEYS)
        except ValueError:
            print(f"{paths[0]} is damaged: going on from {paths[1].name}, which was written before it")
    return paths[-1], load_state(paths[-1], device, KEYS)


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights as they are now, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def write_best(model: nn.Module, weights: dict[str, Tensor], folder: Path, epoch: int) -> None:
    """Writes best.safetensors: `weights` for a network like `model`, of that epoch."""
    best = deepcopy(model).cpu()
    best.load_state_dict(weights)
    with atomic_path(folder / BEST) as temporary:
        save_model(best, temporary, epoch=epoch)


def restore_history(rows: list[HistoryRow], folder: Path) -> None:
    """Writes a run's history from its checkpoint's rows where the file is missing or damaged, and says so."""
    if finished_epochs(folder) < len(rows):
        print(f"{folder / 'history.csv'} was missing or damaged: restored from the checkpoint")
        write_history(rows, folder / "history.csv")


def stopped_error(step: int, steps: int, folder: Path, number: int) -> Stopped:
    """What a run ends with that the signal of this number stopped after so many steps."""
    return Stopped(
        f"stopped after step {step:,} of {steps:,}; the state is saved in {folder}: run it again (`handpose train`: "
        "with --resume) to go on",
        number,
    )


def loss_error(loss: float, ids: list[int], epoch: int, batch: int, folder: Path) -> FloatingPointError:
    """The error for a batch whose loss is not a number, in this process or in another; all processes ask together.

    Args:
        loss: of this process's part of the batch.
        ids: the images in it.
        epoch, batch: counted from 0.
        folder: of the run.
    """
    parts = [(loss, ids)]
    if dist.is_initialized():
        parts *= dist.get_world_size()
        dist.all_gather_object(parts, (loss, ids))
    guilty = [part for part in parts if not math.isfinite(part[0])] or parts
    images = [image for _, part in guilty for image in part]
    state = f"{folder / CHECKPOINTS[0]} holds the last good state" if has_checkpoint(folder) else "start again"
    return FloatingPointError(
        f"the loss is {guilty[0][0]} at epoch {epoch + 1}, batch {batch + 1}, image ids {images}: look at these "
        f"images, or lower learning_rate; {state}"
    )


def history_line(row: HistoryRow, epochs: int) -> str:
    """A row of the history as a line of text, printed while a training runs."""
    around = "  (true boxes)" if row["val_boxes"] == "truth" else ""
    return (
        f"epoch {row['epoch']:3d}/{epochs}  loss {row['train_loss']:.4f}  "
        f"val PCK@0.2 (bbox) {row['val_pck_0.2_bbox']:.3f}  "
        f"val error {row['val_epe_px128']:5.2f} px of 128{around}  {row['seconds']:4.0f} s"
    )


def write_history(rows: list[HistoryRow], path: Path) -> None:
    """One CSV line per epoch, from which the curves are drawn."""
    columns = dict.fromkeys(name for row in rows for name in row)  # rows of an older version may have fewer
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: str | Path) -> list[HistoryRow]:
    """The rows of a history file; none where it is not there yet, ValueError that names a damaged one."""
    if not Path(path).is_file():
        return []
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return [{name: value if name == "val_boxes" else float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        todo = "resume the run, which restores it from its checkpoint"
        raise ValueError(f"{path} is damaged ({error}): {todo}") from error


def finished_epochs(folder: Path) -> int:
    """How many epochs a run's history holds; 0 where it can't be read."""
    try:
        return len(read_history(folder / "history.csv"))
    except ValueError:
        return 0


def optimizer_of(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW for a network that is on its device already; weights decay, batch normalisation and biases do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # batch normalisation, biases
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = decayed[0].device.type in ("cuda", "cpu")
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)


def following(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """How `AveragedModel` moves its tensors, given by kind, towards the model's; the third argument counts models."""

    def follow(averages: list[Tensor], values: list[Tensor], number: Tensor) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)  # a few kernels for all tensors, as torch's own do
        else:  # the counters of batch normalisation
            torch._foreach_copy_(averages, values)

    return follow
