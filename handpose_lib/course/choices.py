"""What was chosen in chapter 00, in a small file in the runs folder, so that every other chapter finds it again.

`choose` writes the file, `start` reads it by `recall`. It becomes the environment variables that the rest of the
library knows, for this process and the commands that its cells start. Where HANDPOSE_PRESET is set already, by hand,
the file is left alone: then the environment decides everything, and `choose` says so where it decides otherwise.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handpose_lib.course.colab import mount_drive, on_colab
from handpose_lib.download import MARKER, TERMS, fetch_freihand, is_fetched
from handpose_lib.settings import NOTEBOOK_PRESETS
from handpose_lib.storage import atomic_path, base_folder, drive_folder, is_remote, runs_folder, work_folder

FILE = "session.json"
KINDS = {"preset": str, "freihand": str, "runs": str, "accept_terms": bool, "zips": list}  # what FILE holds
VARIABLES = {"preset": "HANDPOSE_PRESET", "freihand": "HANDPOSE_FREIHAND_ROOT", "runs": "HANDPOSE_RUNS"}
_TAKEN: dict[str, str] = {}  # the variables that this process has set, with their values


def choose(
    preset: str = "quick",
    freihand: bool | str | Path = False,
    accept_terms: bool = False,
    runs: str | Path | None = None,
    zips: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Write down what the chapters are to run on, and put it in force here.

    Args:
        preset: "quick" or "full".
        freihand: True for FreiHAND in `data/FreiHAND_pub_v2`, or the folder where it is or shall be; it belongs on this
            machine's own disk. False: rendered hands, unless FreiHAND is in `data/` already.
        accept_terms: you have read FreiHAND's terms (`handpose_lib.download.TERMS`) and keep to them.
        runs: where results and this file go: "drive" (`handpose/` in your Google Drive, on Colab), a folder, or None
            for `runs/` on this machine.
        zips: FreiHAND's zips, where you have them already.

    Returns:
        What was written.

    Raises:
        ValueError: an unknown preset, or a folder for FreiHAND on a network drive.
        PermissionError: FreiHAND is to be fetched, and its terms are not accepted.
    """
    if preset not in NOTEBOOK_PRESETS:
        raise ValueError(f"preset is {preset!r}: choose one of {', '.join(NOTEBOOK_PRESETS)}")
    if not isinstance(accept_terms, bool):
        raise ValueError(f"accept_terms is {accept_terms!r}, it must be True or False")
    for name, given in (("freihand", freihand), ("runs", "" if runs is None else runs)):
        if not isinstance(given, str | Path) and not (name == "freihand" and isinstance(given, bool)):
            raise ValueError(f"{name} is {given!r}, it must be a folder{', True or False' * (name == 'freihand')}")
    zips = [zips] if isinstance(zips, str | Path) else zips  # one path is not a list of letters
    root = base_folder() / ("data/FreiHAND_pub_v2" if freihand is True else Path(freihand or "").expanduser())
    if freihand and is_remote(root):
        raise ValueError(
            f"{root} is on a network drive, which fails at FreiHAND's 130,000 small files: choose a folder on this "
            "machine's own disk (freihand=True), and keep the zips on the drive, if you like (zips=[...])"
        )
    if freihand and not accept_terms and not is_fetched(root):
        raise PermissionError(f"{TERMS}\nIf you agree, set accept_terms=True; nothing was downloaded.")
    taken = "HANDPOSE_RUNS" in _TAKEN  # an earlier choice; a variable set by hand stands
    usual = work_folder() if taken else runs_folder()
    folder = usual if runs is None else _folder(runs)
    chosen = {
        "preset": preset,
        "freihand": str(root) if freihand else "",
        "runs": str(folder),
        "accept_terms": accept_terms,
        "zips": [str(path) for path in zips],
    }
    if _set_by_hand():
        by_hand = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
        if by_hand | {"runs": str(runs_folder())} != {name: chosen[name] for name in VARIABLES}:
            print(f"HANDPOSE_PRESET is set to {by_hand['preset']} and takes precedence: nothing was written")
        return chosen
    # A chapter that is not told of the folder looks where results go otherwise, and finds the way there.
    for place in {folder} if runs == "drive" else {folder, usual}:
        place.mkdir(parents=True, exist_ok=True)
        with atomic_path(place / FILE) as temporary:
            temporary.write_text(json.dumps(chosen, indent=1))
    _put_in_force(chosen)
    return chosen


def recall(runs: str | Path | None = None) -> dict[str, Any]:
    """Put in force what `choose` wrote earlier, on this machine or on one that is gone; {} where nothing was written.

    Args:
        runs: as in `choose`; with it, FreiHAND is fetched again where it was chosen and this machine lacks it.

    Raises:
        FileNotFoundError: `runs` is named, and no choice was written there. ValueError: the file is damaged.
    """
    if runs is None and _set_by_hand():
        return {}
    path = _folder(runs) / FILE
    drive = drive_folder() / "MyDrive" / "handpose" / FILE
    if runs is None and on_colab() and not path.is_file() and drive.is_file():
        path = drive
    if not path.is_file():
        if runs is None:
            return {}
        raise FileNotFoundError(f"{path} is not there: choose first, in chapter 00, and give the same place here")
    chosen = _read(path)
    elsewhere = Path(chosen["runs"]) / FILE
    if runs is None and path.parent == runs_folder() and elsewhere.is_file():
        path, chosen = elsewhere, _read(elsewhere)
    chosen["runs"] = str(path.parent)  # the folder may have moved, or the Drive be mounted elsewhere
    _put_in_force(chosen)
    if runs is not None:
        get_data(chosen)
    return chosen


def _read(path: Path) -> dict[str, Any]:
    """What `choose` wrote into a file; ValueError where it is damaged."""
    try:
        chosen = json.loads(path.read_text())
        chosen = {name: chosen[name] for name in KINDS}
        for name, kind in KINDS.items():
            if not isinstance(chosen[name], kind):
                raise TypeError(f"{name} is {chosen[name]!r}")
        if chosen["preset"] not in NOTEBOOK_PRESETS or not all(isinstance(path, str) for path in chosen["zips"]):
            raise ValueError(f"preset is {chosen['preset']!r} and zips are {chosen['zips']}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): run chapter 00 again, which rewrites it") from error
    return chosen


def get_data(chosen: dict[str, Any], progress: bool = True) -> None:
    """Fetch FreiHAND to this machine's disk, if it was chosen and is not there; continues where it stopped.

    Raises:
        PermissionError: the terms were not accepted.
        OSError, ValueError: as `fetch_freihand`.
    """
    root = chosen["freihand"]
    if not root:
        print("rendered hands: nothing to fetch")
    elif is_fetched(root):
        print(f"FreiHAND is there: {root}")
        if (Path(root) / MARKER).exists() and not (Path(root) / "evaluation_xyz.json").exists():
            print(f"its evaluation set is not: `handpose data freihand --root {root}` adds it")
    else:
        zips = [path for path in chosen["zips"] if Path(path).expanduser().is_file()]
        for path in [path for path in chosen["zips"] if path not in zips]:
            otherwise = "the others are taken" if zips else "FreiHAND is downloaded instead"
            print(f"{path} is not there, {otherwise}: stop this cell if the path is wrong or your Drive isn't mounted")
        fetch_freihand(root, accept_terms=chosen["accept_terms"], keep_zip=bool(zips), progress=progress, zips=zips)


def _folder(runs: str | Path | None) -> Path:
    """The runs folder that is meant."""
    if runs == "drive":
        return mount_drive()
    return runs_folder() if runs is None else base_folder() / Path(runs).expanduser()


def _set_by_hand() -> bool:
    preset = os.environ.get("HANDPOSE_PRESET")
    return bool(preset) and preset != _TAKEN.get("HANDPOSE_PRESET")


def _put_in_force(chosen: dict[str, Any]) -> None:
    for name, variable in VARIABLES.items():
        if os.environ.get(variable) == _TAKEN.get(variable):  # not set, or by us
            os.environ.pop(variable, None)
            _TAKEN.pop(variable, None)
            if chosen[name]:
                os.environ[variable] = _TAKEN[variable] = chosen[name]
