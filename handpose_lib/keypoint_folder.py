"""Your own pictures with 2D labels as a data set: no camera, no depth, any size, keypoints may be missing.

    KeypointFolder("my_hands", split="train")       # keypoints.json, a COCO JSON or a CSV; see `labels.py`

`Trainer`, `evaluate` and `handpose train --root` take it as they take `FreiHAND`: each item is a square of 224 px, the
whole picture or a part around the hand. Explained in `notebooks/10_your_own_hands.ipynb`.
"""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.datasets import VisionDataset

from handpose_lib.fields import checked_index, counted, is_positive
from handpose_lib.framing import crop_matrices, cut, warp_keypoints
from handpose_lib.keypoints import with_gaps_filled
from handpose_lib.labels import LabelledHand, find_labels, picture_of, read_labels
from handpose_lib.layout import IMAGE_SIZE
from handpose_lib.pictures import picture_size, read_picture

FOLDER_SPLITS = ("train", "val", "test", "all")
PARTS = (0.6, 0.2, 0.2)  # of the groups: train, val, test; a small set needs a larger test part than FreiHAND
FEWEST = 2  # labelled keypoints that a hand needs: fewer have no box
MANY_LOST = 0.1  # of the keypoints: more that are off their pictures are worth a note
SMALL = 0.25  # of the square; hands whose boxes are smaller lose detail when whole pictures are shown


def _check_once(labels: Path, hands: list[LabelledHand], files: list[Path]) -> None:
    """ValueError for a hand that is there twice, which would count twice."""
    seen: dict[tuple[Path, bytes], str] = {}
    for hand, file in zip(hands, files, strict=True):
        before = seen.setdefault((file.resolve(), hand.keypoints.tobytes()), hand.entry)
        if before != hand.entry and np.isfinite(hand.keypoints).any():
            raise ValueError(f"{labels}, {hand.entry}: it is the hand of {before} once more: leave one of them out")


class KeypointFolder(VisionDataset):
    """Pictures with 2D labels of hands as a torchvision data set of (image, target) pairs.

    Args:
        root: the folder of the pictures and of their labels (see `labels.find_labels`), or the file of labels.
        split: "train", "val" or "test", which are whole groups (persons, videos), in an order that depends on the
            groups' names alone; or "all". Without groups in the labels, pictures in several folders have the folder for
            a group. Where there is no group at all, each picture is one, with a warning.
        share: how much of the square the longer side of the hand's box fills, in the middle; 0 shows whole pictures,
            the longer side resized to 224 px. Pictures with several hands need a share.
        transforms: applied to image and target together, as `torchvision.transforms.v2` does.
        parts: shares of the groups that are train, val and test; from three groups on, each gets at least one.

    An item is a `tv_tensors.Image` uint8 (3, 224, 224) RGB, and a dict with

    - `keypoints` tv_tensors.KeyPoints (21, 2) float32, px of the square, NaN where not labelled or off the picture;
    - `visible` (21,) bool, the others; `side` and `group` str; `id` int, the hand's number in the file of labels.

    Attributes, one entry per item:
        files, a list of paths; keypoints (M, 21, 2) float32, as in the items; squares (M, 2, 3) float64, the maps from
        px of the pictures to px of the squares; ids (M,) int64; hand_ids (M,) int64, the group's number;
        group_names (M,) str; version_names (M,) str, "left", "right" or "unmarked".
        num_hands: in the file, of all splits. labels: the file.

    Raises:
        FileNotFoundError: labels or pictures are not there.
        ValueError: something is wrong in the labels, with file and entry, or a split has no group.
    """

    versions = ("picture",)  # of each hand there is one picture
    occluded = None  # not told

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        share: float = 0.0,
        transforms: Callable | None = None,
        parts: tuple[float, float, float] = PARTS,
    ) -> None:
        self.labels = find_labels(root)
        super().__init__(self.labels.parent, transforms=transforms)
        if split not in FOLDER_SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(FOLDER_SPLITS)}")
        if not (is_positive(share) and share < 1) and share != 0:
            raise ValueError(f"share is {share}, it must be from 0 to below 1")
        three = isinstance(parts, Sequence) and len(parts) == 3 and all(map(is_positive, parts))
        if not three or abs(sum(parts) - 1) > 1e-6:
            raise ValueError(f"parts are {parts}: they must be three positive shares whose sum is 1")
        self.split, self.share, self.parts = split, share, parts
        hands = read_labels(self.labels)
        self.num_hands = len(hands)
        files = [self._picture(hand) for hand in hands]
        sizes = {file: picture_size(file) for file in dict.fromkeys(files)}
        keypoints = np.stack([self._on_picture(hand, sizes[file]) for hand, file in zip(hands, files, strict=True)])
        self._note_lost(hands, keypoints)
        usable = np.isfinite(keypoints).all(-1).sum(1) >= FEWEST
        if not usable.all():
            first = hands[int(usable.argmin())].entry
            warnings.warn(
                f"{self.labels}: {(~usable).sum()} hands have fewer than {FEWEST} labelled keypoints and are left out, "
                f"the first is {first}",
                stacklevel=2,
            )
        if not usable.any():
            raise ValueError(
                f"{self.labels}: no hand has {FEWEST} labelled keypoints on its picture: label more, or check that "
                "the labels were made for pictures of this size"
            )
        names = self._groups(hands, files)
        rows = np.array([row for row in self._rows_of(names) if usable[row]], dtype=np.int64)
        if not len(rows):
            raise ValueError(
                f"{self.labels} has {counted(len(set(names)), 'group')}, none for {split}: from 3 groups on "
                "(persons or videos), each split has one"
            )
        self._check_one_hand([files[row] for row in rows])
        _check_once(self.labels, hands, files)

        self.ids, self.files = rows, [files[row] for row in rows]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        self.group_names = np.array([names[row] for row in rows])
        self.hand_ids = np.array([numbers[names[row]] for row in rows], dtype=np.int64)
        self.version_names = np.array([hands[row].side or "unmarked" for row in rows])
        points = torch.from_numpy(keypoints[rows])
        self.squares = self._squares(points, [sizes[file] for file in self.files]).numpy()
        self.keypoints = warp_keypoints(points, torch.from_numpy(self.squares)).float().numpy()
        self._note_small_hands()

    def _picture(self, hand: LabelledHand) -> Path:
        """Where a hand's picture is."""
        file = picture_of(self.root, hand.file)
        if file is None:
            raise FileNotFoundError(f"{self.labels}, {hand.entry}: the picture is not in {self.root}: put it there")
        return file

    def _on_picture(self, hand: LabelledHand, size: tuple[int, int]) -> np.ndarray:
        """Its keypoints, NaN where they are off the picture of size (H, W)."""
        if hand.size is not None and hand.size != size[::-1]:
            raise ValueError(
                f"{self.labels}, {hand.entry}: the labels are of a picture of {hand.size[0]}×{hand.size[1]} px, and "
                f"the file has {size[1]}×{size[0]}, as viewers show it: give the picture that was labelled"
            )
        known = np.isfinite(hand.keypoints).all(-1)
        on = known & (hand.keypoints >= -0.5).all(-1) & (hand.keypoints < np.array(size[::-1]) + 0.5).all(-1)
        if known.any() and not on.any():
            raise ValueError(
                f"{self.labels}, {hand.entry}: no keypoint is on the picture of {size[1]}×{size[0]} px: were the "
                "labels made for another size?"
            )
        return np.where(on[:, None], hand.keypoints, np.nan)

    def _note_lost(self, hands: list[LabelledHand], keypoints: np.ndarray) -> None:
        """A note where many labels are off their pictures, as those are that were made for larger ones."""
        labelled = np.isfinite([hand.keypoints for hand in hands]).all(-1)  # (M, 21)
        off = labelled & ~np.isfinite(keypoints).all(-1)
        if off.sum() > MANY_LOST * labelled.sum():
            first = hands[int(off.any(1).argmax())].entry
            warnings.warn(
                f"{self.labels}: {off.sum()} of {labelled.sum()} keypoints are off their pictures and left out, the "
                f"first of {first}: were the labels made for pictures of another size?",
                stacklevel=3,
            )

    def _groups(self, hands: list[LabelledHand], files: list[Path]) -> list[str]:
        """The group of each hand by name."""
        if all(hand.group for hand in hands):
            if self.split != "all":
                self._check_groups(hands, files)
            return [str(hand.group) for hand in hands]
        without = next(hand for hand in hands if not hand.group)
        if any(hand.group for hand in hands):
            raise ValueError(f"{self.labels}, {without.entry}: it has no group, and others have one: give it one")
        folders = [self._name(file.parent) for file in files]
        if len(set(folders)) > 1:
            return folders
        if self.split != "all":
            warnings.warn(
                f"{self.labels} names no groups (person or video), so each picture is split on its own: if several "
                "show the same person or moment, the scores are too good",
                stacklevel=3,
            )
        return [self._name(file) for file in files]

    def _name(self, path: Path) -> str:
        """A path as seen from the labels, which is the same on every computer."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def _check_groups(self, hands: list[LabelledHand], files: list[Path]) -> None:
        """ValueError for a picture in two groups, which may be in two splits; a note on names that differ in case."""
        first: dict[Path, LabelledHand] = {}
        for hand, file in zip(hands, files, strict=True):
            other = first.setdefault(file.resolve(), hand)
            if other.group != hand.group:
                raise ValueError(
                    f"{self.labels}, {hand.entry}: its picture is in the groups {other.group!r} and {hand.group!r}, so "
                    "training and test could both show it: give all hands of a picture one group"
                )
        folded = Counter(group.casefold() for group in {str(hand.group) for hand in hands})
        name, count = folded.most_common(1)[0]
        if count > 1:
            warnings.warn(
                f"{self.labels} has {count} groups {name!r} in other letters: are they one person?", stacklevel=4
            )

    def _rows_of(self, names: list[str]) -> list[int]:
        """The hands of this split, in the order of the file."""
        if self.split == "all":
            return list(range(len(names)))
        # By a hash of the name: the order of persons or videos in an alphabet may mean something.
        groups = sorted(set(names), key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest())
        train_end, val_end = round(len(groups) * self.parts[0]), round(len(groups) * (1 - self.parts[2]))
        if len(groups) >= 3:
            val_end = min(max(val_end, 2), len(groups) - 1)
            train_end = min(max(train_end, 1), val_end - 1)
        else:
            train_end = val_end = len(groups)
        ends = {"train": (0, train_end), "val": (train_end, val_end), "test": (val_end, len(groups))}
        chosen = set(groups[slice(*ends[self.split])])
        return [row for row, name in enumerate(names) if name in chosen]

    def _check_one_hand(self, files: list[Path]) -> None:
        seen: set[Path] = set()
        twice = next((file for file in files if file in seen or seen.add(file)), None)
        if twice is not None and not self.share:
            raise ValueError(
                f"{self.labels}: {twice.name} shows several labelled hands, and a network that sees all of it can't "
                "know which is meant: give a share (share=0.4, or --share 0.4), which shows a square around each"
            )

    def _squares(self, points: torch.Tensor, sizes: list[tuple[int, int]]) -> torch.Tensor:
        """Maps (M, 2, 3) from px of the pictures, of sizes (H, W), to those of the squares."""
        square = (IMAGE_SIZE, IMAGE_SIZE)
        if self.share:
            return crop_matrices(with_gaps_filled(points), self.share, square)
        corners = [[[-0.5, -0.5], [width - 0.5, height - 0.5]] for height, width in sizes]
        return crop_matrices(torch.tensor(corners, dtype=points.dtype), 1.0, square)

    def _note_small_hands(self) -> None:
        sides = np.nanmax(self.keypoints, 1) - np.nanmin(self.keypoints, 1)  # (M, 2)
        fills = float(np.median(sides.max(-1))) / IMAGE_SIZE
        if fills < SMALL and not self.share:
            warnings.warn(
                f"{self.labels}: half of the hands fill less than {fills:.0%} of their pictures, which are shrunk to "
                f"{IMAGE_SIZE} px: with a share (--share 0.4) they keep their detail",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self.ids)

    def image_path(self, index: int) -> Path:
        """File of an item's picture."""
        return self.files[index]

    def picture(self, index: int) -> np.ndarray:
        """The picture itself, RGB uint8 (H, W, 3), turned as viewers show it."""
        return read_picture(self.files[index])

    def read(self, index: int) -> torch.Tensor:
        """An item's square, uint8 (3, 224, 224) RGB, black beyond the picture."""
        square = cut(self.picture(index), self.squares[index], IMAGE_SIZE)
        return torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))  # (H, W, 3) -> (3, H, W)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        index = checked_index(index, len(self))
        keypoints = torch.from_numpy(self.keypoints[index].copy())
        target = {
            "keypoints": tv_tensors.KeyPoints(keypoints, canvas_size=(IMAGE_SIZE, IMAGE_SIZE)),
            "visible": keypoints.isfinite().all(-1),
            "side": str(self.version_names[index]),
            "group": str(self.group_names[index]),
            "id": int(self.ids[index]),
        }
        image = tv_tensors.Image(self.read(index))
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def extra_repr(self) -> str:
        return f"Split: {self.split}, {len(set(self.group_names))} groups, labels in {self.labels.name}"
