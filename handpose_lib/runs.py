"""A run beside its training loop: its folder's name, checkpoints and history there, and the signal to stop."""

import csv
import hashlib
import json
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from handpose_lib.freihand import FreiHAND
from handpose_lib.settings import TrainSettings
from handpose_lib.storage import atomic_path, replace

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # the second on a network file system only
HistoryRow = dict[str, float | str]  # a line of `history.csv`


def run_name(settings: TrainSettings, train_set: FreiHAND) -> str:
    """A folder name that says what was trained on what: equal names mean equal settings, image ids and keypoints."""
    hands = hashlib.sha256(train_set.keypoints.tobytes()).hexdigest()
    data = [train_set.root.name, train_set.split, train_set.num_hands, list(train_set.versions), hands]
    text = json.dumps([settings.to_json(), data], sort_keys=True)
    return f"unet{settings.width}_{settings.framing.image_size}px_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


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
        torch.save(state, temporary)
        if keep_previous and newest.is_file():
            replace(newest, previous)


def read_checkpoint(folder: Path, device: torch.device, settings: TrainSettings, name: str) -> dict:
    """The state of a run's last checkpoint.

    Args:
        folder: of the run.
        device: where the tensors go.
        settings, name: of the run that goes on; see `run_name`.

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
    return state


def _last_state(folder: Path, device: torch.device) -> tuple[Path, dict]:
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


def history_line(row: HistoryRow, epochs: int) -> str:
    """A row of the history in words, for the one who waits."""
    around = "  (crops around the true boxes)" if row["val_boxes"] == "truth" else ""
    return (
        f"epoch {row['epoch']:3d}/{epochs}  loss {row['train_loss']:.4f}  val PCK@0.2 (bbox) "
        f"{row['val_pck_0.2_bbox']:.3f}  val error {row['val_epe_px128']:.2f} px of 128{around}  {row['seconds']:.0f} s"
    )


def write_history(rows: list[HistoryRow], path: Path) -> None:
    """One CSV line per epoch, from which the curves are drawn."""
    columns = dict.fromkeys(name for row in rows for name in row)  # rows of an older version may have fewer
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: str | Path) -> list[HistoryRow]:
    """The rows of a history file; none where it is not there yet."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value if name == "val_boxes" else float(value) for name, value in row.items()} for row in rows]


@contextmanager
def stop_signal() -> Iterator[list[int]]:
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
