"""FreiHAND's annotation files: read, checked entry by entry, and kept as arrays until a file changes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handpose_lib.cache import cached_arrays, fingerprint
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.reading import named_errors, refuse_special
from handpose_lib.storage import derived_folder

FARTHEST = 1e6  # px; focal lengths and projections beyond it can't be meant
FARTHEST_HAND = 100.0  # m; nor can points farther from the camera
LONGEST_HAND, SHORTEST_HAND = 1.0, 0.005  # m; nor can a hand that is longer, or shorter
UNPACK_AGAIN = (
    "the data set is incomplete or damaged; unpack it again (`handpose data freihand` does it), or make rendered hands "
    "again (`handpose data synth` with the same numbers)"
)


def project(xyz: Any, K: Any) -> Any:
    """Pixel positions of points seen by a pinhole camera: uv = (K xyz) / z.

    Args:
        xyz: (..., P, 3) in metres, camera coordinates; a tensor or a numpy array.
        K: (..., 3, 3) in pixels, of the same kind.

    Returns:
        (..., P, 2) x and y in pixels, of the same kind as `xyz`.

    Raises:
        ValueError: a point that is not in front of the camera (z <= 0 or NaN), which it names; a K that is none.

    >>> project(np.array([[0.1, 0.0, 0.5]]), np.array([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]])).tolist()
    [[212.0, 112.0]]
    """
    if not any(isinstance(xyz, kind) and isinstance(K, kind) for kind in (torch.Tensor, np.ndarray)):
        raise ValueError(
            f"xyz and K must both be tensors or both be arrays, not {type(xyz).__name__} and {type(K).__name__}"
        )
    if xyz.shape[-1:] != (3,) or K.shape[-2:] != (3, 3):
        raise ValueError(f"xyz must be (..., P, 3) and K (..., 3, 3), not {tuple(xyz.shape)} and {tuple(K.shape)}")
    if xyz.ndim > 2 and K.ndim > 2 and 1 != len(K) != len(xyz) != 1:
        raise ValueError(f"there are {len(xyz)} hands and {len(K)} cameras: give one K per hand, or one for all")
    z = xyz[..., 2:]
    if not bool((z > 0).all()):
        depth = np.asarray(z.detach().cpu() if isinstance(z, torch.Tensor) else z)[..., 0]
        first = tuple(np.argwhere(~(depth > 0))[0].tolist())
        where = ", ".join(map(str, first))
        raise ValueError(f"xyz[{where}] has z = {depth[first]:g}: a point must lie in front of the camera, z > 0")
    if not bool((K[..., 2, :2] == 0).all() and (K[..., 2, 2] == 1).all()):
        raise ValueError("the last row of K must be 0, 0, 1: is it transposed?")
    return xyz @ K[..., :2, :].mT / z  # (..., P, 3) @ (..., 3, 2)


def load_annotations(root: Path, part: str) -> dict[str, np.ndarray]:
    """Arrays K (N, 3, 3), xyz (N, 21, 3), occluded (N, 21) in float64 of those files that are there.

    Parsed and checked once, then read from a cached array file until a JSON file's size or time changes.
    """
    sources = _annotation_files(root, part)
    path = derived_folder(root) / f"annotations_{part}.npz"
    return cached_arrays(path, fingerprint(sources.values()), partial(_parse, sources))


def _annotation_files(root: Path, part: str) -> dict[str, Path]:
    """The JSON files by name, optional ones only where they are there."""
    refuse_special(root)
    if root.is_file():
        raise ValueError(f"{root} is a file: give the folder of a data set in FreiHAND's layout")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not there: give FreiHAND's folder, or get it with `handpose data freihand`")
    files = {name: root / f"{part}_{name}.json" for name in ("K", "xyz", "occluded")}
    needed = ("K",) if part == "evaluation" else ("K", "xyz")  # evaluation's labels were published years later
    for name in needed:
        if not files[name].is_file():
            near = [place for place in (*sorted(root.iterdir()), root.parent) if (place / files[name].name).is_file()]
            todo = f"did you mean {near[0]}?" if near else f"is this FreiHAND's folder? If so, {UNPACK_AGAIN}"
            raise FileNotFoundError(f"{files[name]} is not there: {todo}")
    return {name: path for name, path in files.items() if path.is_file()}


def _parse(sources: dict[str, Path]) -> dict[str, np.ndarray]:
    joints = len(KEYPOINT_NAMES)
    shapes = {"K": (3, 3), "xyz": (joints, 3), "occluded": (joints,)}
    arrays = {name: _read_numbers(path, shapes[name], flags=name == "occluded") for name, path in sources.items()}
    for name, array in arrays.items():
        if len(array) != len(arrays["K"]):
            counts = f"{sources[name].name} has {len(array):,} entries, {sources['K'].name} {len(arrays['K']):,}"
            raise ValueError(f"{sources['K'].parent}: {counts}: {UNPACK_AGAIN}")
    K = arrays["K"]
    unusable = (K[:, [0, 1], [0, 1]] <= 0).any(-1) | (K[:, 2] != (0, 0, 1)).any(-1) | (np.abs(K) > FARTHEST).any((1, 2))
    unusable |= (K[:, 1, 0] != 0) | (np.abs(K[:, 0, 1]) > K[:, 0, 0])
    if unusable.any():
        where = f"{sources['K']}, entry {int(unusable.argmax())}"
        raise ValueError(
            f"{where} is not a camera matrix: focal lengths must be positive, what is below them 0, the last row "
            f"0 0 1: {UNPACK_AGAIN}"
        )
    if "xyz" in arrays:
        _check_points(arrays["xyz"], K, sources["xyz"])
    if "occluded" in arrays:
        odd = np.argwhere((arrays["occluded"] != 0) & (arrays["occluded"] != 1))
        if len(odd):
            value = arrays["occluded"][tuple(odd[0])]
            where = f"{sources['occluded']}, entry {odd[0][0]}, keypoint {odd[0][1]} ({KEYPOINT_NAMES[odd[0][1]]})"
            raise ValueError(f"{where} is {value:g}, it must be 0 or 1: {UNPACK_AGAIN}")
    return arrays


def _check_points(xyz: np.ndarray, K: np.ndarray, path: Path) -> None:
    """ValueError that names the first keypoint which is behind the camera, or so far off that it can't be meant."""

    def refuse(found: np.ndarray, what: Callable[[int, int], str]) -> None:
        if len(found):
            entry, joint = found[0][:2].tolist()
            where = f"{path}, entry {entry}, keypoint {joint} ({KEYPOINT_NAMES[joint]})"
            raise ValueError(f"{where}: {what(entry, joint)}: {UNPACK_AGAIN}")

    z = xyz[..., 2]
    refuse(np.argwhere(z <= 0), lambda i, k: f"z is {z[i, k]:g} m, not in front of the camera (z > 0)")
    far = np.abs(xyz).max(-1)
    refuse(np.argwhere(far > FARTHEST_HAND), lambda i, k: f"it is {far[i, k]:g} m away; are these metres?")
    with np.errstate(over="ignore"):
        uv = project(xyz, K)
    off = np.abs(uv).max(-1)
    refuse(np.argwhere(~(off < FARTHEST)), lambda i, k: f"its projection is not finite, or {off[i, k]:g} px off")
    sides = np.ptp(xyz, axis=1).max(-1)
    unlike = np.argwhere((sides > LONGEST_HAND) | (sides < SHORTEST_HAND))
    if len(unlike):
        entry = int(unlike[0, 0])
        what = f"its keypoints span {sides[entry]:g} m; are these metres?" if sides[entry] else "all are in one place"
        raise ValueError(f"{path}, entry {entry} is no hand, {what}: {UNPACK_AGAIN}")


def _read_numbers(path: Path, shape: tuple[int, ...], flags: bool = False) -> np.ndarray:
    """A JSON list of equal arrays as float64 (N, *shape); ValueError naming the entry that is not one.

    `flags` says that true and false are meant where they stand; they are no numbers elsewhere.
    """
    expected = "×".join(map(str, shape))
    try:
        with named_errors(path):
            text = path.read_text(encoding="utf-8")
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, character {error.pos:,} of {len(error.doc):,}"
        raise ValueError(f"{path} breaks off or is damaged at {where} ({error.msg}): {UNPACK_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text at byte {error.start:,}: {UNPACK_AGAIN}") from error
    except (ValueError, RecursionError) as error:  # absurdly long numbers, absurdly deep lists
        raise ValueError(f"{path} can't be read ({str(error).splitlines()[0]}): {UNPACK_AGAIN}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} is not a list of {expected} arrays, one per hand: {UNPACK_AGAIN}")
    array = _as_numbers(entries)
    if not flags and ("true" in text or "false" in text):
        entry = next((i for i, each in enumerate(entries) if set("tf") & set(json.dumps(each))), 0)
        raise ValueError(f"{path}, entry {entry} holds true or false where a number belongs: {UNPACK_AGAIN}")
    if array is None or array.shape[1:] != shape:
        for index, entry in enumerate(entries):
            found = _as_numbers(entry)
            if found is None or found.shape != shape:
                kind = "no array of numbers" if found is None else "×".join(map(str, found.shape)) or "one number"
                raise ValueError(f"{path}, entry {index} is {kind}, not {expected} numbers: {UNPACK_AGAIN}")
    if not np.isfinite(array).all():
        index = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{path}, entry {index[0]} holds NaN or infinity (at {index[1:]}): {UNPACK_AGAIN}")
    return array


def _as_numbers(nested: Any) -> np.ndarray | None:
    try:
        array = np.asarray(nested)
    except ValueError:  # ragged
        return None
    return array.astype(np.float64) if array.dtype.kind in "bfiu" else None  # text and null are not numbers
