"""Files with 2D labels of hands: the project's `keypoints.json`, COCO's keypoint JSON, and CSV tables.

`keypoints.json` is a list with one entry per hand, in px of the picture as viewers show it, and is what
`handpose annotate` writes::

    [{"file": "anna/0001.jpg",                    path from the folder of keypoints.json
      "keypoints": [[101.5, 88.0], null, ...],    21 of them, in the order of `keypoints.py`; null: not labelled
      "side": "left",                             "left" or "right"; may be left out
      "group": "anna"}]                           person or video; may be left out

A CSV has a line per hand and the columns `file`, `wrist_x`, `wrist_y`, `thumb_cmc_x`, ... in any order, and `side` and
`group` where they are known; a cell that is empty or NaN is not labelled. COCO's keypoints of visibility 0 are not
labelled either. Coordinates are taken as they stand: the centre of a pixel has whole-number coordinates here.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.storage import refuse_special

LABELS = "keypoints.json"
SIDES = ("left", "right")
COUNT = len(KEYPOINT_NAMES)
# How mmpose and others call the joints of a finger: forefinger1 is the one at the palm.
_FINGERS = {"forefinger": "index", "index_finger": "index", "middle_finger": "middle", "ring_finger": "ring"}
_FINGERS |= {"pinky_finger": "pinky", "little_finger": "pinky", "little": "pinky"}
_JOINTS = {"thumb": ("cmc", "mcp", "ip", "tip")}


@dataclass(frozen=True)
class LabelledHand:
    """One hand of a picture, as a file of labels has it."""

    file: str  # of the picture, as it stands in the file
    keypoints: np.ndarray  # (21, 2) float64, px; NaN where not labelled
    side: str | None  # "left", "right", or not known
    group: str | None  # person or video, where the file says so
    entry: str  # where in the file, for errors


def find_labels(root: str | Path) -> Path:
    """The file of labels that a path means: itself, or the one in a folder (or in the folder `annotations` in it).

    Raises:
        FileNotFoundError: the path is not there, or no labels are.
        ValueError: there are several files, and none is called keypoints.json.
    """
    root = Path(root).expanduser()
    if root.is_file():
        return root
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not there: give the folder of the pictures, or the file of their labels")
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


def read_labels(path: str | Path) -> list[LabelledHand]:
    """The hands that a file of labels describes, in its order.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged, of another kind, or about another number of keypoints; it names file and entry.
    """
    path = Path(path)
    refuse_special(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file ({error.reason}): give a JSON file or a CSV") from error
    hands = _from_table(path, text) if path.suffix.lower() == ".csv" else _from_json(path, text)
    for hand in hands:
        _refuse_what_cannot_be_meant(path, hand)
    if not hands:
        raise ValueError(f"{path} has no labelled hand in it: label some with `handpose annotate {path.parent}`")
    return hands


def _refuse_what_cannot_be_meant(path: Path, hand: LabelledHand) -> None:
    """ValueError for numbers that are no places in a picture, though each alone could be one."""
    points = hand.keypoints[np.isfinite(hand.keypoints).all(-1)]
    if len(points) < 2:
        return
    at_zero = int((points == 0).all(-1).sum())
    if at_zero > 2:
        raise ValueError(f"{path}, {hand.entry}: {at_zero} keypoints are at 0, 0: write null where one is unlabelled")
    if (points >= 0).all() and (points <= 1).all():
        raise ValueError(f"{path}, {hand.entry}: its keypoints look like shares of the picture: give them in px")
    if (points == points[0]).all():
        raise ValueError(f"{path}, {hand.entry}: its {len(points)} keypoints are all in one place: label it again")


def _from_json(path: Path, text: str) -> list[LabelledHand]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): write it again") from error
    if isinstance(content, list):
        return [_hand(path, f"entry {number}", entry) for number, entry in enumerate(content)]
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return _from_coco(path, content)
    if isinstance(content, dict) and any(isinstance(e, dict) and "confidence" in e for e in content.values()):
        raise ValueError(
            f"{path} holds answers of `handpose predict`, which nobody has checked: label with `handpose annotate`"
        )
    raise ValueError(
        f"{path} is neither a list of hands, as `handpose annotate` writes it, nor a COCO file with images and "
        "annotations: give another file"
    )


def _hand(path: Path, name: str, entry: Any) -> LabelledHand:
    """An entry of `keypoints.json`; `uv` and `scene` are older names of keypoints and group."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise ValueError(f'{path}, {name}: it must be an object with "file" and "keypoints"')
    points = entry.get("keypoints", entry.get("uv"))
    if not isinstance(points, list) or len(points) != COUNT:
        count = len(points) if isinstance(points, list) else "no"
        raise ValueError(f"{path}, {name} ({entry['file']}): it has {count} keypoints, a hand has {COUNT}")
    group = entry.get("group", entry.get("scene", entry.get("unique_id")))
    where = f"{name} ({entry['file']})"
    rows = [point if isinstance(point, list) else [] for point in points]
    for point, row, keypoint in zip(points, rows, KEYPOINT_NAMES, strict=True):
        if point is not None and len(row) not in (2, 3):
            raise ValueError(f"{path}, {where}: {keypoint} must be [x, y] or null, it is {point!r}")
    keypoints = _points(path, where, [_row(path, where, row) for row in rows])
    return LabelledHand(
        entry["file"], keypoints, _side(path, where, entry.get("side")), _text(path, where, group), where
    )


def _row(path: Path, where: str, values: Sequence[Any]) -> tuple[Any, Any]:
    """x and y of [x, y], [x, y, visibility] or nothing."""
    if len(values) == 3 and values[2] not in (0, 1, 2, None):
        raise ValueError(
            f"{path}, {where}: the third number of a keypoint is its visibility, 0, 1 or 2, not {values[2]!r}: a depth "
            "or a confidence must be left out"
        )
    return (None, None) if not values or (len(values) == 3 and not values[2]) else (values[0], values[1])


def _points(path: Path, where: str, pairs: Iterable[tuple[Any, Any]], text: bool = False) -> np.ndarray:
    """Keypoints (21, 2) of pairs of numbers, NaN where one is None, NaN or empty; numbers as `text`, as in a CSV."""
    keypoints = np.full((COUNT, 2), np.nan)
    for k, pair in enumerate(pairs):
        try:
            x, y = (math.nan if value in (None, "") else float(value) for value in pair)
        except (TypeError, ValueError, OverflowError):
            x = y = math.inf
        odd = not text and any(isinstance(value, str | bool) for value in pair)
        if odd or math.isinf(x) or math.isinf(y):
            raise ValueError(f"{path}, {where}: {KEYPOINT_NAMES[k]} must be two numbers, it is {list(pair)!r}")
        if not (math.isnan(x) or math.isnan(y)):
            keypoints[k] = x, y
    return keypoints


def _side(path: Path, where: str, value: Any) -> str | None:
    side = _text(path, where, value)
    if side is not None and side.lower() not in SIDES:
        raise ValueError(f"{path}, {where}: side must be left or right, or be left out; it is {value!r}")
    return side and side.lower()


def _text(path: Path, where: str, value: Any) -> str | None:
    if isinstance(value, list | dict):
        raise ValueError(f"{path}, {where}: side and group must be text or a number, not {value!r}")
    return None if value is None or str(value).strip() == "" else str(value).strip()


# --- COCO -------------------------------------------------------------------------------------------------------------


def _from_coco(path: Path, content: Mapping[str, Any]) -> list[LabelledHand]:
    """The hands of a COCO file; what has no keypoints, such as a box, is passed over."""
    try:
        images = {image["id"]: image for image in content["images"]}
        if len(images) < len(content["images"]):
            twice = Counter(image["id"] for image in content["images"]).most_common(1)[0][0]
            raise ValueError(f"{path}: several images have the id {twice!r}, so it is not clear which labels are whose")
        categories = {kind["id"]: kind for kind in content.get("categories") or []}
        marked = [a for a in content["annotations"] if a.get("keypoints")]
        orders = {number: _order(path, kind) for number, kind in categories.items() if _names(kind)}
        whole = [a for a in marked if len(a["keypoints"]) == 3 * COUNT]
        kinds = {a.get("category_id") for a in whole}  # a skeleton of another kind, such as a body's, is no hand
        odd = [a for a in marked if len(a["keypoints"]) != 3 * COUNT and (not whole or a.get("category_id") in kinds)]
        if odd:
            _refuse(path, odd[0], categories)
        return [_coco_hand(path, a, images, categories, orders) for a in whole]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what a COCO keypoint file should be ({error!r}): export it again") from error


def _refuse(path: Path, annotation: Mapping[str, Any], categories: Mapping[Any, Mapping[str, Any]]) -> None:
    kind = categories.get(annotation.get("category_id"), {})
    names = ", ".join(str(name) for name in _names(kind)[:2])
    of = f" of {kind['name']!r}" if kind.get("name") else ""
    raise ValueError(
        f"{path}, annotation {annotation.get('id')}: the skeleton{of} has {len(annotation['keypoints']) // 3} keypoints"
        f"{f' ({names}, ...)' if names else ''}, and a hand has {COUNT}: export labels of hands"
    )


def _names(kind: Mapping[str, Any]) -> list[Any]:
    return list(kind.get("keypoints") or [])


def _order(path: Path, kind: Mapping[str, Any]) -> list[int] | None:
    """Where each of our keypoints stands in a category's list; None for a skeleton of another size.

    Names that are numbers, or unknown, are taken to be in our order.
    """
    names = [_our_name(str(name)) for name in _names(kind)]
    if len(names) != COUNT:
        return None
    known = [name in KEYPOINT_NAMES for name in names]
    if all(known) and len(set(names)) == COUNT:
        return [names.index(name) for name in KEYPOINT_NAMES]
    if any(known) and sum(known) > 1:
        strange = _names(kind)[known.index(False)] if not all(known) else "one of them twice"
        raise ValueError(
            f"{path}, category {kind.get('name')!r}: of its keypoints, {strange!r} is not known: call them "
            f"{', '.join(KEYPOINT_NAMES[:3])}, ... or number them in this order"
        )
    return list(range(COUNT))


def _our_name(name: str) -> str:
    """A keypoint's name as `keypoints.py` has it: `Forefinger 1`, `index_finger_mcp` and `indexMCP` are index_mcp."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    plain = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    plain = re.sub(r"^(left|right)_(?:hand_)?|_(left|right)$", "", plain)
    found = re.fullmatch(r"([a-z_]+?)_?(\d|[a-z]{2,3})", plain)
    if plain in KEYPOINT_NAMES or not found:
        return plain
    finger, joint = _FINGERS.get(found[1], found[1]), found[2]
    if joint in "1234":
        joint = _JOINTS.get(finger, ("mcp", "pip", "dip", "tip"))[int(joint) - 1]
    return f"{finger}_{joint}"


def _coco_hand(
    path: Path,
    annotation: Mapping[str, Any],
    images: Mapping[Any, Mapping[str, Any]],
    categories: Mapping[Any, Mapping[str, Any]],
    orders: Mapping[Any, list[int] | None],
) -> LabelledHand:
    where = f"annotation {annotation.get('id')}"
    image = images.get(annotation.get("image_id"))
    if image is None:
        raise ValueError(f"{path}, {where}: there is no image {annotation.get('image_id')!r} in the file")
    if not isinstance(image["file_name"], str):
        raise ValueError(f"{path}, {where}: the file_name of its image must be text, not {image['file_name']!r}")
    where = f"{where} ({image['file_name']})"
    values = annotation["keypoints"]
    order = orders.get(annotation.get("category_id")) or range(COUNT)
    keypoints = _points(path, where, [_row(path, where, values[3 * k : 3 * k + 3]) for k in order])
    extra = annotation.get("attributes") or {}
    kind = str(categories.get(annotation.get("category_id"), {}).get("name", "")).lower()
    named = [side for side in SIDES if re.search(rf"(^|[^a-z]){side}", kind)]
    side = _first((annotation, extra), ("side", "hand_type", "hand_side", "handedness")) or (named or [None])[0]
    group = _first((annotation, extra, image), ("group", "person", "subject", "video", "video_id"))
    return LabelledHand(image["file_name"], keypoints, _side(path, where, side), _text(path, where, group), where)


def _first(places: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    return next((place[name] for name in names for place in places if place.get(name) not in (None, "")), None)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _from_table(path: Path, text: str) -> list[LabelledHand]:
    reader = csv.DictReader(text.splitlines())
    if {"frame", "time", "hand"} <= set(reader.fieldnames or ()):
        raise ValueError(
            f"{path} holds answers of `handpose predict` on a video, which nobody has checked: label pictures with "
            "`handpose annotate`"
        )
    columns = [f"{name}_{axis}" for name in KEYPOINT_NAMES for axis in "xy"]
    missing = [name for name in ("file", *columns) if name not in (reader.fieldnames or ())]
    if missing and len(reader.fieldnames or ()) == 1 and ";" in reader.fieldnames[0]:
        raise ValueError(f"{path} has its cells separated by semicolons: save it with commas, and numbers with points")
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} columns, {', '.join(missing[:3])} among them: its first line must name file, "
            "wrist_x, wrist_y, thumb_cmc_x and so on"
        )
    hands = []
    for row in _whole_rows(path, reader):
        where = f"line {reader.line_num} ({row['file']})"
        if not row["file"]:
            raise ValueError(f"{path}, line {reader.line_num}: it names no file")
        pairs = [(row[f"{name}_x"], row[f"{name}_y"]) for name in KEYPOINT_NAMES]
        side = _side(path, where, row.get("side"))
        hands.append(
            LabelledHand(
                row["file"], _points(path, where, pairs, text=True), side, _text(path, where, row.get("group")), where
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
