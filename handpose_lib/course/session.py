"""The start of a notebook: one visible word decides what it runs on, `quick` (a laptop) or `full` (a GPU)."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from handpose_lib.datasets import find_data
from handpose_lib.devices import pick_device
from handpose_lib.freihand import FreiHAND
from handpose_lib.plots import use_style
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import runs_folder
from handpose_lib.train import train_or_load
from handpose_lib.unet import UNet2DHandPose

NOTEBOOK_PRESETS = ("quick", "full")

# Minutes that a chapter takes with `quick` on two CPU cores, the training that 06 and 07 share included.
MINUTES = {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5, 5: 1, 6: 2.5, 7: 2.5, 8: 1, 9: 1}


@dataclass(frozen=True)
class Course:
    """What the notebooks share: the preset in force, the device, the data and the folder for results."""

    preset: str
    settings: TrainSettings
    device: torch.device
    root: Path  # of the data set
    runs: Path

    def dataset(self, split: str, **options) -> FreiHAND:
        """The course's data set: split "train", "val", "test" or "evaluation"."""
        return FreiHAND(self.root, split, **options)

    def trained_model(self) -> tuple[UNet2DHandPose, Path]:
        """The preset's model and its run folder: trained by the first who asks, loaded by all others."""
        return train_or_load(self.settings, self.dataset("train"), self.dataset("val"), self.runs, self.device)


def preset_name() -> str:
    """The word in `$HANDPOSE_PRESET`, `quick` where it is not set."""
    name = os.environ.get("HANDPOSE_PRESET", "quick")
    if name not in NOTEBOOK_PRESETS:
        raise ValueError(f"HANDPOSE_PRESET is {name!r}: choose one of {', '.join(NOTEBOOK_PRESETS)}")
    return name


def start(chapter: int) -> Course:
    """Set a notebook up, and say which preset, device and data are in force and how long it will take."""
    use_style()
    name = preset_name()
    root, data = find_data(name)
    course = Course(name, PRESETS[name], pick_device(), root, runs_folder())
    hands = course.dataset("train").num_hands
    time = f"about {MINUTES[chapter]:g} min on two CPU cores" if name == "quick" else "made for a GPU"
    print(f"Chapter {chapter} · preset {name} · {course.device} · {data}, {hands:,} hands · {time}")
    return course
