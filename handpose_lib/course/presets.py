"""One visible word decides what the notebooks run on: `quick` (a laptop) or `full` (a GPU and a large data set)."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from handpose_lib.devices import pick_device
from handpose_lib.freihand import FreiHAND
from handpose_lib.plots import use_style
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import checkout_root, runs_folder
from handpose_lib.synthhand import sample_root, write_dataset
from handpose_lib.train import train_or_load
from handpose_lib.unet import UNet2DHandPose

NOTEBOOK_PRESETS = ("quick", "full")
FULL_SYNTH_HANDS = 8_000  # rendered where `full` finds no FreiHAND: 32,000 images

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


def freihand_root() -> Path | None:
    """FreiHAND's folder: `$HANDPOSE_FREIHAND_ROOT`, else `data/FreiHAND_pub_v2` if it holds a data set, else None."""
    base = checkout_root() or Path.cwd()  # a notebook's own folder is another than the one it was started from
    named = os.environ.get("HANDPOSE_FREIHAND_ROOT")
    if named:
        return base / Path(named).expanduser()
    local = base / "data" / "FreiHAND_pub_v2"
    return local if (local / "training_K.json").is_file() else None


def find_data(preset: str) -> tuple[Path, str]:
    """Folder and name of the data that a preset uses; renders or unpacks them on first use."""
    if preset == "quick":
        return sample_root(), "SynthHAND sample"
    real = freihand_root()
    if real is not None:
        return real, "FreiHAND"
    large = runs_folder() / f"synthhand-{FULL_SYNTH_HANDS}"
    write_dataset(large, FULL_SYNTH_HANDS, seed=1)
    return large, "SynthHAND"


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
