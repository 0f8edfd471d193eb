"""Files with 2D labels of hands: the project's `keypoints.json`, COCO's keypoint JSON, and CSV tables.

`keypoints.json` is a list with one entry per hand, in px of the picture as viewers show it, and is what
`handpose annotate` writes::

    [{"file": "anna/0001.jpg",                    path from the folder of keypoints.json
      "keypoints": [[101.5, 88.0], null, ...],    21 of them, in the order of `keypoints.py`; null: not labelled
      "side": "left",                             "left" or "right"; may be left out
      "group": "anna"}]                           person or video; may be left out, as may width and height, px

A CSV has a line per hand and the columns `file`, `wrist_x`, `wrist_y`, `thumb_cmc_x`, ... in any order, and `side` and
`group` where they are known; a cell that is empty or NaN is not labelled. COCO's keypoints of visibility 0 are not
labelled either. Coordinates are taken as they stand: the centre of a pixel has whole-number coordinates here.
"""

import contextlib
import csv
import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from handpose_lib.coco import hands_of_coco
from handpose_lib.fields import counted
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.label_parts import COUNT, SIDES, LabelledHand, points_of, row_of, side_of, size_of, text_of
from handpose_lib.reading import named_errors, refuse_special

__all__ = ["GROUP_KEYS", "LABELS", "SIDES", "LabelledHand", "find_labels", "hand_of", "picture_of", "read_labels"]

LABELS = "keypoints.json"
GROUP_KEYS = ("group", "scene", "unique_id")  # the first that an entry has is its group; the others are older names
FAR_FROM_ZERO = 0.3  # of the longer side of the hand's box


def find_labels(root: str | Path) -> Path:
    """The file of labels that a path means: itself, or the one in a folder (or in the folder `annotations` in it).

    Raises:
        FileNotFoundError: the path is not there, or no labels are.
        ValueError: there are several files, and none is called keypoints.json.
    """
    root = Path(root).expanduser()
    refuse_special(root)
    if root.is_file():
        return root
    if not root.is_dir():
        seen = "" if root.is_absolute() else f", seen from {Path.cwd()}"  # which a notebook's reader may not know
        todo = "give the folder of the pictures, or the file of their labels"
        raise FileNotFoundError(f"{root} is not there{seen}: {todo}")
    if (root / LABELS).is_file():
        return root / LABELS
    places = [root, root / "annotations"]
    found = [path for place in places for end in ("json", "csv") for path in sorted(place.glob(f"[!.]*.{end}"))]
    found = [path for path in found if not _is_our_table(path)]
    if not found:
        raise FileNotFoundError(
            f"{root} holds no labels ({LABELS}, a COCO JSON or a CSV): make them with `handpose annotate {root}`"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found[:4])
        raise ValueError(f"{root} holds several files that may be its labels ({names}): give the file, not the folder")
    return found[0]


def _is_our_table(path: Path) -> bool:
    """Whether a CSV holds scores, a training's history or a video's answers: what commands leave in a folder."""
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).startswith((b"keypoint,group,", b"epoch,step,", b"frame,time,hand,"))


def picture_of(folder: Path, name: str) -> Path | None:
    """The picture that a label names: in the `folder` of the labels, or where CVAT and mmpose put it; None: nowhere."""
    above = folder.parent if folder.name == "annotations" else folder
    places = dict.fromkeys([folder, above, above / "images", above / "images" / "default"])
    names = dict.fromkeys([name, name.replace("\\", "/")])  # as Windows writes paths
    for place, way in product(places, names):
        with contextlib.suppress(OSError, ValueError):  # names that no file can have
            if (place / way).is_file():
                return place / way
    return None


def read_labels(path: str | Path) -> list[LabelledHand]:
    """The hands that a file of labels describes, in its order.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged, of another kind, or about another number of keypoints; it names file and entry.
    """
    path = Path(path)
    text = _text_of(path)
    hands = _from_table(path, text) if path.suffix.lower() == ".csv" else _from_json(path, text)
    for hand in hands:
        _refuse_what_cannot_be_meant(path, hand)
    if not hands:
        raise ValueError(f"{path} has no labelled hand in it: label some with `handpose annotate {path.parent}`")
    return hands


def _text_of(path: Path) -> str:
    """The text of a file; ValueError where it is none, which is found out before all of a large one is read."""
    refuse_special(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and labels are a file: rename it, or give the file")
    try:
        with named_errors(path), path.open("rb") as file:
            begin = file.read(4096)
            if begin.startswith(b"PK\3\4"):
                raise ValueError(f"{path} is a zip: unpack it (FreiHAND's: `handpose data freihand --zip {path}`)")
            if b"\0" in begin:
                raise ValueError(f"{path} is not a text file: give a JSON file or a CSV")
            return (begin + file.read()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error.reason}): give a JSON file or a CSV") from error


def check_entry(path: Path, entry: dict[str, Any], name: str) -> None:
    """ValueError for an entry of `keypoints.json` that `read_labels` would refuse, to be asked before it is written."""
    _refuse_what_cannot_be_meant(path, hand_of(path, name, entry))


def _refuse_what_cannot_be_meant(path: Path, hand: LabelledHand) -> None:
    """ValueError for numbers that are no places in a picture, though each alone could be one."""
    points = hand.keypoints[np.isfinite(hand.keypoints).all(-1)]
    if len(points) < 2:
        return
    zero = (points == 0).all(-1)
    others = np.linalg.norm(points[~zero], axis=-1)
    # One at 0, 0 may lie in the corner of the picture, beside others of its hand.
    if zero.sum() > 2 or (zero.any() and len(others) and others.min() > FAR_FROM_ZERO * np.ptp(points, axis=0).max()):
        count = counted(int(zero.sum()), "keypoint")
        raise ValueError(f"{path}, {hand.entry}: {count} at 0, 0, far from the others: write null where unlabelled")
    in_corner = ((points >= 0) & (points <= 1)).all(-1)
    if in_corner.all() or in_corner.sum() > 2:
        raise ValueError(f"{path}, {hand.entry}: its keypoints look like shares of the picture: give them in px")
    if (points == points[0]).all():
        raise ValueError(f"{path}, {hand.entry}: its {len(points)} keypoints are all in one place: label it again")


def _from_json(path: Path, text: str) -> list[LabelledHand]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): write it again") from error
    if isinstance(content, list):
        return [hand_of(path, f"entry {number}", entry) for number, entry in enumerate(content)]
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return hands_of_coco(path, content)
    if isinstance(content, dict) and any(isinstance(e, dict) and "confidence" in e for e in content.values()):
        raise ValueError(
            f"{path} holds answers of `handpose predict`, which nobody has checked: label with `handpose annotate`"
        )
    raise ValueError(
        f"{path} is neither a list of hands, as `handpose annotate` writes it, nor a COCO file with images and "
        "annotations: give another file"
    )


def hand_of(path: Path, name: str, entry: Any) -> LabelledHand:
    """The hand of an entry of `keypoints.json`, called `name` in errors; `uv` is an older name of keypoints."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise ValueError(f'{path}, {name}: it must be an object with "file" and "keypoints"')
    if "confidence" in entry:
        raise ValueError(
            f"{path}, {name} ({entry['file']}): it has a confidence, as answers have that nobody has checked: label "
            "with `handpose annotate`, or leave it out"
        )
    points = entry.get("keypoints", entry.get("uv"))
    if not isinstance(points, list) or len(points) != COUNT:
        count = len(points) if isinstance(points, list) else "no"
        raise ValueError(f"{path}, {name} ({entry['file']}): it has {count} keypoints, a hand has {COUNT}")
    group = next((entry[key] for key in GROUP_KEYS if key in entry), None)
    where = f"{name} ({entry['file']})"
    rows = [point if isinstance(point, list) else [] for point in points]
    for point, row, keypoint in zip(points, rows, KEYPOINT_NAMES, strict=True):
        if point is not None and len(row) not in (2, 3):
            raise ValueError(f"{path}, {where}: {keypoint} must be [x, y] or null, it is {point!r}")
    keypoints = points_of(path, where, [row_of(path, where, row) for row in rows])
    side, group = side_of(path, where, entry.get("side")), text_of(path, where, group)
    return LabelledHand(entry["file"], keypoints, side, group, where, size_of(entry))


_OF_KEYPOINTS = tuple(f"{name}_" for name in KEYPOINT_NAMES)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _from_table(path: Path, text: str) -> list[LabelledHand]:
    reader = csv.DictReader(text.splitlines())
    if reader.fieldnames:
        reader.fieldnames = [name.strip() for name in reader.fieldnames]
    if {"frame", "time", "hand"} <= set(reader.fieldnames or ()):
        raise ValueError(
            f"{path} holds answers of `handpose predict` on a video, which nobody has checked: label pictures with "
            "`handpose annotate`"
        )
    columns = [f"{name}_{axis}" for name in KEYPOINT_NAMES for axis in "xy"]
    twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
    if twice and "file" in reader.fieldnames:
        raise ValueError(f"{path} has several columns {twice[0]!r}: it is not clear which is meant, leave one")
    missing = [name for name in ("file", *columns) if name not in (reader.fieldnames or ())]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if missing and len(reader.fieldnames or ()) == 1 and separator in reader.fieldnames[0]:
            raise ValueError(f"{path} has its cells separated by {name}: save it with commas, and numbers with points")
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} columns, {', '.join(missing[:3])} among them: its first line must name file, "
            "wrist_x, wrist_y, thumb_cmc_x and so on"
        )
    strange = [name for name in reader.fieldnames if name.startswith(_OF_KEYPOINTS) and name not in columns]
    if strange:
        raise ValueError(
            f"{path} has a column {strange[0]!r}, and a keypoint has x and y alone here: leave it out, and empty the "
            "cells of what is not labelled"
        )
    hands = []
    for row in _whole_rows(path, reader):
        where = f"line {reader.line_num} ({row['file']})"
        if not row["file"]:
            raise ValueError(f"{path}, line {reader.line_num}: it names no file")
        pairs = [(row[f"{name}_x"], row[f"{name}_y"]) for name in KEYPOINT_NAMES]
        side = side_of(path, where, row.get("side"))
        hands.append(
            LabelledHand(
                row["file"],
                points_of(path, where, pairs, text=True),
                side,
                text_of(path, where, row.get("group")),
                where,
            )
        )
    return hands


def _whole_rows(path: Path, reader: csv.DictReader) -> Iterator[dict[str, str]]:
    """The lines of a table; ValueError for one with fewer or more cells than the first, as a decimal comma makes."""
    try:
        for row in reader:
            if None in row or None in row.values():
                count = sum(len(cell) if isinstance(cell, list) else cell is not None for cell in row.values())
                raise ValueError(
                    f"{path}, line {reader.line_num}: it has {count} cells and the first line has "
                    f"{len(reader.fieldnames)}: write numbers with points, and leave unknown cells empty"
                )
            yield row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} can't be read as a row ({error}): write it again") from error
