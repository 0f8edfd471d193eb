"""COCO's keypoint JSON, as CVAT, mmpose and others write it, as labelled hands."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handpose_lib.fields import is_number
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.label_parts import COUNT, SIDES, LabelledHand, points_of, row_of, side_of, size_of, text_of

# How mmpose and others call the joints of a finger: forefinger1 is the one at the palm.
_FINGERS = {"forefinger": "index", "index_finger": "index", "middle_finger": "middle", "ring_finger": "ring"}
_FINGERS |= {"pinky_finger": "pinky", "little_finger": "pinky", "little": "pinky"}
_JOINTS = {"thumb": ("cmc", "mcp", "ip", "tip")}


def hands_of_coco(path: Path, content: Mapping[str, Any]) -> list[LabelledHand]:
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
    if categories and annotation.get("category_id") not in categories:
        raise ValueError(f"{path}, {where}: there is no category {annotation.get('category_id')!r} in the file")
    order = orders.get(annotation.get("category_id")) or range(COUNT)
    keypoints = points_of(path, where, [row_of(path, where, values[3 * k : 3 * k + 3]) for k in order])
    _check_box(path, where, annotation.get("bbox"), keypoints)
    extra = annotation.get("attributes") or {}
    kind = str(categories.get(annotation.get("category_id"), {}).get("name", "")).lower()
    named = [side for side in SIDES if re.search(rf"(^|[^a-z]){side}", kind)]
    side = _first((annotation, extra), ("side", "hand_type", "hand_side", "handedness")) or (named or [None])[0]
    group = _first((annotation, extra, image), ("group", "person", "subject", "video", "video_id"))
    side, group = side_of(path, where, side), text_of(path, where, group)
    return LabelledHand(image["file_name"], keypoints, side, group, where, size_of(image))


def _check_box(path: Path, where: str, box: Any, keypoints: np.ndarray) -> None:
    """ValueError where no keypoint lies in the annotation's box, or within half its sides around it."""
    numbers = isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box)
    if not numbers or min(box[2:]) <= 0:
        return  # not told
    corner, sides = np.array(box[:2]), np.array(box[2:])
    known = keypoints[np.isfinite(keypoints).all(-1)]
    if len(known) and not ((known >= corner - sides / 2) & (known <= corner + 1.5 * sides)).all(-1).any():
        raise ValueError(
            f"{path}, {where}: none of its keypoints is in its bbox {box}: are they in px of a part of the picture?"
        )


def _first(places: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    return next((place[name] for name in names for place in places if place.get(name) not in (None, "")), None)
