"""Which data a preset uses: FreiHAND where it is, else rendered hands that are unpacked or rendered on first use."""

import os
from pathlib import Path

from handpose_lib.download import find_tree
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.labels import LABELS
from handpose_lib.storage import base_folder, work_folder
from handpose_lib.synthhand import sample_root, write_dataset
from handpose_lib.synthhand.dataset import SETTINGS_FILE

PARTS = ("training", "evaluation")  # of FreiHAND's files
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
        check_tree(root)
        if share:
            raise ValueError(f"{root} is in FreiHAND's layout, whose pictures are used whole: leave out --share")
        return FreiHAND(root, split)
    return KeypointFolder(root, split, share)


def check_tree(root: Path) -> None:
    """FileNotFoundError for a folder that has nothing of FreiHAND's layout; what else is wrong, `FreiHAND` says."""
    if not root.is_dir() or _is_tree(root):
        return
    near = next((place for place in (find_tree(root), root.parent) if place and _is_tree(place)), None)
    todo = f"did you mean {near}?" if near else f"`handpose annotate {root}` makes labels for pictures in it"
    raise FileNotFoundError(
        f"{root} holds neither FreiHAND's files (training_K.json, ...) nor labels of your own (keypoints.json, a COCO "
        f"JSON or a CSV): {todo}"
    )


def holds_labels(root: Path) -> bool:
    """Whether a path means pictures with 2D labels: a file, or a folder without FreiHAND's files that has one."""
    if root.is_file():
        return True
    if (root / LABELS).is_file() and not any((root / f"{part}_K.json").is_file() for part in PARTS):
        return True
    if _is_tree(root):
        return False
    return any(any(place.glob(f"*.{end}")) for place in (root, root / "annotations") for end in ("json", "csv"))


def _is_tree(root: Path) -> bool:
    """Whether a folder has anything of FreiHAND's layout; a folder `training_pictures` is nothing of it."""
    return any((root / part).is_dir() or any(root.glob(f"{part}_*.json")) for part in PARTS)
