"""Which data a preset uses: FreiHAND where it is, else rendered hands that are unpacked or rendered on first use."""

import os
from pathlib import Path

from handpose_lib.storage import checkout_root, runs_folder
from handpose_lib.synthhand import sample_root, write_dataset

FULL_SYNTH_HANDS = 8_000  # rendered where `full` finds no FreiHAND: 32,000 images


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
