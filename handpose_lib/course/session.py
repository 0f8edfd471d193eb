"""The start of a notebook: one visible word decides what it runs on, `quick` (a laptop) or `full` (a GPU)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from handpose_lib.course.choices import FILE, recall
from handpose_lib.course.colab import CHOOSE_GPU, on_colab
from handpose_lib.datasets import find_data
from handpose_lib.devices import pick_device
from handpose_lib.download import find_tree
from handpose_lib.freihand import FreiHAND
from handpose_lib.plots import use_style
from handpose_lib.settings import NOTEBOOK_PRESETS, PRESETS, TrainSettings, rehearsal
from handpose_lib.storage import base_folder, is_remote, runs_folder
from handpose_lib.train import train_or_load
from handpose_lib.unet import UNet2DHandPose

# Minutes that a chapter takes with `quick` on two CPU cores, the training that 06 and 07 share included.
MINUTES = {0: 0.5, 1: 0.5, 2: 0.5, 3: 1, 4: 1, 5: 1, 6: 2.5, 7: 2.5, 8: 1, 9: 1, 10: 1.5}


@dataclass(frozen=True)
class Course:
    """What the notebooks share: the preset in force, the device, the data and the folder for results."""

    preset: str
    settings: TrainSettings
    device: torch.device
    root: Path  # of the data set
    runs: Path
    data: str  # SynthHAND sample, SynthHAND or FreiHAND

    def dataset(self, split: str, **options) -> FreiHAND:
        """The course's data set: split "train", "val", "test" or "evaluation"."""
        return FreiHAND(self.root, split, **options)

    def trained_model(self) -> tuple[UNet2DHandPose, Path]:
        """The preset's model and its run folder: trained at the first call, loaded from then on."""
        parts = self.dataset("train"), self.dataset("val")
        often = 0.0 if rehearsing() else 10.0  # minutes: a rehearsal is over before a checkpoint would be due
        return train_or_load(self.settings, *parts, self.runs, self.device, checkpoint_minutes=often)


def preset_name() -> str:
    """The word in `$HANDPOSE_PRESET`, `quick` where it is not set."""
    name = os.environ.get("HANDPOSE_PRESET", "quick")
    if name not in NOTEBOOK_PRESETS:
        raise ValueError(f"HANDPOSE_PRESET is {name!r}: choose one of {', '.join(NOTEBOOK_PRESETS)}")
    return name


def start(chapter: int, runs: str | Path | None = None) -> Course:
    """Set a notebook up, and say what is in force, where results go, and what to do where something is missing.

    Args:
        chapter: its number.
        runs: where chapter 00 was told to keep results, to come back to it on a machine that knows nothing of it yet:
            "drive" for your Google Drive on Colab, or a folder. FreiHAND is fetched again where it was chosen.

    Raises:
        FileNotFoundError: FreiHAND was chosen and is not on this machine, or nothing was chosen in `runs`.
    """
    if chapter not in MINUTES:
        raise ValueError(f"chapter is {chapter!r}: there are chapters {min(MINUTES)} to {max(MINUTES)}")
    use_style()
    chosen = recall(runs)
    name = preset_name()
    root, data = find_data(name)
    if find_tree(root) is None:
        raise FileNotFoundError(
            f"FreiHAND is not in {root} on this machine: run chapter 00 again, which fetches it, or "
            f"`handpose data freihand --root {root} --accept-terms`"
        )
    settings = rehearsal(PRESETS[name]) if rehearsing() else PRESETS[name]
    course = Course(name, settings, pick_device(), root, runs_folder(), data)
    hands = course.dataset("train").num_hands
    time = f"about {MINUTES[chapter]:g} min on two CPU cores" if name == "quick" else "made for a GPU"
    print(f"Chapter {chapter} · preset {name} · {course.device} · {data}, {hands:,} hands · {time}")
    for line in _notes(course, chapter, bool(chosen)):
        print(line)
    return course


def rehearsing() -> bool:
    """Whether `$HANDPOSE_REHEARSAL` asks for few steps of a narrow network, to try the whole way out."""
    return os.environ.get("HANDPOSE_REHEARSAL", "0") not in ("", "0")


def _notes(course: Course, chapter: int, chosen: bool) -> Iterator[str]:
    """What else a reader should know before the chapter runs."""
    folder = course.runs.relative_to(base_folder()) if course.runs.is_relative_to(base_folder()) else course.runs
    yield f"results go to {folder}/" + (f", as chosen in chapter 00 ({folder / FILE})" if chosen else "")
    if rehearsing():
        yield "HANDPOSE_REHEARSAL is set: few steps of a narrow network, whose scores mean nothing"
    if on_colab() and not is_remote(course.runs):
        yield (
            "which is lost when Colab takes this machine back. If you chose your Drive in chapter 00, make it "
            f'start({chapter}, runs="drive") here'
        )
    if course.preset == "full" and course.device.type == "cpu" and not rehearsing():
        yield "no GPU is in use, and full would train for weeks on a processor"
        if on_colab():
            yield CHOOSE_GPU
    if course.preset == "full" and course.data != "FreiHAND":
        yield "rendered hands, since FreiHAND is not here: chapter 00 says how to get it"
