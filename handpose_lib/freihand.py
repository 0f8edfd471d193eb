"""FreiHAND from its own files: images, camera, 3D keypoints, and the 2D keypoints that follow from them.

FreiHAND (Zimmermann et al., ICCV 2019) shows each of N hands in four versions of the background. Image
`training/rgb/%08d.jpg` of hand n and version k has the id n + N*k, and the JSON files have one entry per hand.
SynthHAND is written in the same layout, so this module reads both. Explained in `notebooks/01_freihand.ipynb`.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.datasets import VisionDataset

from handpose_lib.annotations import UNPACK_AGAIN, load_annotations, project
from handpose_lib.checksums import checksum, read_checksums
from handpose_lib.fields import checked_index, is_whole
from handpose_lib.layout import IMAGE_SIZE, SPLITS, VERSIONS
from handpose_lib.pictures import decode_jpeg, orientation
from handpose_lib.reading import refuse_special


def split_rows(num_hands: int, split: str) -> range:
    """Rows of the annotation files that form a split: blocks of hands, in FreiHAND's proportions.

    Of FreiHAND's 32,560 hands, rows 0-27,439 are train, 27,440-29,999 val, 30,000-32,559 test. Other sizes are cut
    in the same proportions, each part with at least one hand from three hands on. One or two hands are all train,
    val and test then are empty ranges. `evaluation` is a set of its own: all rows.
    """
    _check_split(split)
    if not is_whole(num_hands):
        raise ValueError(f"num_hands is {num_hands}: a data set has at least one hand")
    if split == "evaluation":
        return range(num_hands)
    # Rounded in whole numbers; all versions of a hand are on one side because rows are hands.
    train_end, val_end = ((num_hands * row + 16_280) // 32_560 for row in (27_440, 30_000))
    if num_hands >= 3:
        val_end = min(val_end, num_hands - 1)
        train_end = min(train_end, val_end - 1)
    return {"train": range(train_end), "val": range(train_end, val_end), "test": range(val_end, num_hands)}[split]


def read_image(path: str | Path, expected: int | None = None) -> torch.Tensor:
    """One image of the set as it is stored.

    Args:
        path: a JPEG of 224×224 px.
        expected: the file's CRC-32, where it is known.

    Returns:
        uint8 (3, 224, 224) RGB.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged, of another size, or turned by an EXIF entry: keypoints are of the stored pixels, and
            a viewer that follows the entry would show another picture.
    """
    refuse_special(path)
    try:
        encoded = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: {UNPACK_AGAIN}") from None
    except OSError as error:
        raise OSError(f"{path} can't be read ({error.strerror}): {UNPACK_AGAIN}") from error
    try:
        if expected is not None and checksum(encoded) != expected:
            raise ValueError("it is not as it was written")
        image = decode_jpeg(encoded)
        turn = orientation(encoded)
    except Exception as error:
        raise ValueError(f"{path} ({len(encoded):,} bytes, {error}) is not a complete JPEG: {UNPACK_AGAIN}") from error
    if turn != 1:
        raise ValueError(
            f"{path} has the EXIF orientation {turn}, so viewers turn it and its keypoints don't fit what they show: "
            "store the pixels as they should be seen, without the entry"
        )
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        size = f"{image.shape[1]}×{image.shape[0]}"
        raise ValueError(f"{path} is {size}, not {IMAGE_SIZE}×{IMAGE_SIZE}: it does not belong to this data set")
    # In numpy: on busy cores torch's threads would make this copy take ten times as long as the decoding.
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (H, W, 3) -> (3, H, W)


class FreiHAND(VisionDataset):
    """FreiHAND or SynthHAND as a torchvision data set of (image, target) pairs.

    Args:
        root: folder that holds `training/`, `training_K.json` and so on (`FreiHAND_pub_v2`).
        split: "train", "val" or "test" (see `split_rows`), or "evaluation", the official set.
        versions: those of "gs", "hom", "sample", "auto" to show. One without any image is left out with a warning.
            Ignored by "evaluation", which has one version, called "evaluation".
        transforms: applied to image and target together, as `torchvision.transforms.v2` does.

    An item is a `tv_tensors.Image` uint8 (3, 224, 224) RGB, and a dict with

    - `keypoints` tv_tensors.KeyPoints (21, 2) float32, px of the 224 image; `xyz` (21, 3) float32, m;
    - `K` (3, 3) float32, px; `id` int, the image's number; `version` str;
    - `occluded` (21,) bool where `training_occluded.json` is there (SynthHAND has it).

    An evaluation set without its labels (`evaluation_xyz.json`) has no `keypoints` and no `xyz`.

    Attributes, one entry per item, in the order of the image ids:
        ids (M,) int64; hand_ids (M,) int64, the row in the JSON files; version_names (M,) str; K (M, 3, 3) float32;
        xyz (M, 21, 3) float32 or None; keypoints (M, 21, 2) float32 or None; occluded (M, 21) bool or None.
        num_hands: N, the hands in the annotation files, of all splits. versions: those that are there, a tuple.

    Raises:
        FileNotFoundError: something is not there; it names the file. Images are only checked to be there; a damaged one
            is an error when its item is asked for.
        ValueError: something is wrong in a file; it names file and entry.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        versions: str | Sequence[str] = VERSIONS,
        transforms: Callable | None = None,
    ) -> None:
        super().__init__(Path(root).expanduser(), transforms=transforms)
        _check_split(split)
        self.split = split
        self._part = "evaluation" if split == "evaluation" else "training"
        known = ("evaluation",) if split == "evaluation" else VERSIONS
        wanted = known if split == "evaluation" else _checked_versions(versions)

        hands = load_annotations(self.root, self._part)
        self.num_hands = len(hands["K"])
        rows = np.asarray(split_rows(self.num_hands, split), dtype=np.int64)
        if not len(rows):
            raise ValueError(f"{self.root} has {self.num_hands} hands, too few for a {split} part: it takes 3")
        self.versions = _versions_there(self.root / self._part / "rgb", self.num_hands, known, wanted)

        blocks = np.array([known.index(version) for version in self.versions], dtype=np.int64)
        self.ids = (blocks[:, None] * self.num_hands + rows).ravel()  # (V, R) -> (M,)
        self.hand_ids = np.tile(rows, len(blocks))
        self.version_names = np.repeat(np.array(self.versions), len(rows))
        self.K = hands["K"][self.hand_ids].astype(np.float32)
        self.xyz = self.keypoints = self.occluded = None
        if "xyz" in hands:
            uv = project(hands["xyz"][rows], hands["K"][rows])  # in float64, once per hand
            _check_on_image(uv, rows, self.root / f"{self._part}_K.json")
            self.xyz = hands["xyz"][self.hand_ids].astype(np.float32)
            self.keypoints = np.tile(uv.astype(np.float32), (len(blocks), 1, 1))
        if "occluded" in hands:
            self.occluded = hands["occluded"][self.hand_ids].astype(bool)

    def __len__(self) -> int:
        return len(self.ids)

    def image_path(self, index: int) -> Path:
        """File of an item's image."""
        return self.root / self._part / "rgb" / f"{self.ids[index]:08d}.jpg"

    def read(self, index: int) -> torch.Tensor:
        """An item's image, uint8 (3, 224, 224) RGB; see `read_image`."""
        path = self.image_path(index)
        return read_image(path, self._checksums.get(f"{self._part}/rgb/{path.name}"))

    @cached_property
    def _checksums(self) -> dict[str, int]:
        return read_checksums(self.root)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        index = checked_index(index, len(self))
        image = tv_tensors.Image(self.read(index))
        target: dict[str, Any] = {"id": int(self.ids[index]), "version": str(self.version_names[index])}
        target["K"] = torch.tensor(self.K[index])
        if self.keypoints is not None:
            keypoints = torch.tensor(self.keypoints[index])
            target["keypoints"] = tv_tensors.KeyPoints(keypoints, canvas_size=(IMAGE_SIZE, IMAGE_SIZE))
            target["xyz"] = torch.tensor(self.xyz[index])
        if self.occluded is not None:
            target["occluded"] = torch.tensor(self.occluded[index])
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def extra_repr(self) -> str:
        labels = "with" if self.keypoints is not None else "without"
        return f"Split: {self.split}, versions {', '.join(self.versions)}, {labels} keypoints"


def _check_on_image(uv: np.ndarray, rows: np.ndarray, path: Path) -> None:
    """ValueError where most hands (N, 21, 2) have no keypoint on their image; a note where some have none."""
    off = ~((uv >= -0.5) & (uv < IMAGE_SIZE - 0.5)).all(-1).any(-1)
    if not off.any():
        return
    what = f"{path}: {off.sum():,} of {len(off):,} hands have no keypoint on their image, the first is entry "
    what += f"{rows[off.argmax()]}: are camera and keypoints of images of {IMAGE_SIZE}×{IMAGE_SIZE} px?"
    if off.mean() > 0.5:
        raise ValueError(what)
    warnings.warn(what, stacklevel=3)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")


def _checked_versions(versions: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(versions, str | Iterable):
        raise ValueError(f"versions is {versions!r}: choose from {', '.join(VERSIONS)}")
    asked = (versions,) if isinstance(versions, str) else tuple(versions)
    unknown = [version for version in asked if version not in VERSIONS]
    if unknown or not asked:
        found = f"unknown version {unknown[0]!r}" if unknown else "no version asked for"
        raise ValueError(f"{found}: choose from {', '.join(VERSIONS)}")
    return asked


def _versions_there(folder: Path, num_hands: int, known: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted versions that have an image for every hand; in the order of the ids."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: {UNPACK_AGAIN}")
    # One listing: 130,240 files take a tenth of a second, asking for each of them takes many.
    names = (name for name in os.listdir(folder) if len(name) == 12 and name.endswith(".jpg"))
    ids = np.array([int(name[:8]) for name in names if name.isascii() and name[:8].isdecimal()], dtype=np.int64)
    limit = num_hands * len(known)
    if len(ids) and ids.max() >= limit:
        raise ValueError(
            f"{folder} holds {ids.max():08d}.jpg, but the annotations have {num_hands:,} entries, so the last image "
            f"is {limit - 1:08d}.jpg: images and annotations do not belong together, or {UNPACK_AGAIN}"
        )
    there = np.zeros(limit, dtype=bool)
    there[ids] = True
    there = there.reshape(len(known), num_hands)  # (V, N)
    present, absent = [], []
    for block, version in enumerate(known):
        if version not in wanted:
            continue
        if there[block].any() and not there[block].all():
            missing = num_hands * block + int(there[block].argmin())
            count = num_hands - int(there[block].sum())
            raise FileNotFoundError(
                f"{folder / f'{missing:08d}.jpg'} is not there, the first of {count:,} missing images of version "
                f"{version!r}: {UNPACK_AGAIN}"
            )
        (present if there[block].any() else absent).append(version)
    if not present:
        raise FileNotFoundError(f"{folder} holds no image of version {', '.join(absent)}: {UNPACK_AGAIN}")
    if absent:
        warnings.warn(f"{folder} holds no image of version {', '.join(absent)}: left out", stacklevel=3)
    return tuple(present)
