"""Which data a preset uses: FreiHAND where it is, else rendered hands that are unpacked or rendered on first use."""

import os
from pathlib import Path

from handpose_lib.download import find_tree
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.storage import base_folder, work_folder
from handpose_lib.synthhand import sample_root, write_dataset
from handpose_lib.synthhand.dataset import SETTINGS_FILE

NAME_FILE = "name.txt"  # in the folder of a data set that is neither FreiHAND nor rendered here
FULL_SYNTH_HANDS = 8_000  # rendered where `full` finds no FreiHAND: 32,000 images


def freihand_root() -> Path | None:
    """FreiHAND's folder: `$HANDPOSE_FREIHAND_ROOT`, else `data/FreiHAND_pub_v2` if it holds a data set, else None.

    In either, the data set may lie one folder deeper, as a zip unpacked by hand leaves it.
    """
    named = os.environ.get("HANDPOSE_FREIHAND_ROOT")
    if named:
        root = base_folder() / Path(named).expanduser()
        return find_tree(root) or root
    return find_tree(base_folder() / "data" / "FreiHAND_pub_v2")


def data_name(preset: str) -> str:
    """What the data of a preset are called, in messages and claims.

    SynthHAND sample, SynthHAND or FreiHAND; a data set of another origin has its name in the file `name.txt`.
    """
    if preset == "quick":
        return "SynthHAND sample"
    real = freihand_root()
    if real and (real / NAME_FILE).is_file():
        return (real / NAME_FILE).read_text(encoding="utf-8").strip()
    return "FreiHAND" if real and not (real / SETTINGS_FILE).is_file() else "SynthHAND"


def find_data(preset: str) -> tuple[Path, str]:
    """Folder and name of the data that a preset uses; renders or unpacks them on first use."""
    if preset == "quick":
        return sample_root(), data_name(preset)
    root = freihand_root()
    if root is None:  # rendered on this machine's own disk: a Drive fails at so many files
        root = work_folder() / f"synthhand-{FULL_SYNTH_HANDS}"
        write_dataset(root, FULL_SYNTH_HANDS, seed=1)
    return root, data_name(preset)


def open_data(root: str | Path, split: str, share: float = 0.0) -> FreiHAND | KeypointFolder:
    """The data set at a path: a folder in FreiHAND's layout, else pictures with 2D labels.

    Args:
        root: a folder, or a file of labels.
        split: see `FreiHAND` and `KeypointFolder`.
        share: for pictures with 2D labels only, see `KeypointFolder`.

    Raises:
        FileNotFoundError, ValueError: what the class raises; a share for a folder in FreiHAND's layout.
    """
    root = Path(root).expanduser()
    if not holds_labels(root):
        if root.is_dir() and not any(any(root.glob(f"{part}*")) for part in ("training", "evaluation")):
            raise FileNotFoundError(
                f"{root} holds neither FreiHAND's files (training_K.json, ...) nor labels of your own (keypoints.json, "
                f"a COCO JSON or a CSV): `handpose annotate {root}` makes labels for pictures in it"
            )
        if share:
            raise ValueError(f"{root} is in FreiHAND's layout, whose pictures are used whole: leave out --share")
        return FreiHAND(root, split)
    return KeypointFolder(root, split, share)


def holds_labels(root: Path) -> bool:
    """Whether a path means pictures with 2D labels: a file, or a folder without FreiHAND's files that has one."""
    if root.is_file():
        return True
    if any(root.glob("training*")) or any(root.glob("evaluation*")):
        return False
    return any(any(place.glob(f"*.{end}")) for place in (root, root / "annotations") for end in ("json", "csv"))
