"""Labelled photographs of hands, to see what a network that saw only rendered hands is worth; none is bundled.

A folder holds either FreiHAND's layout, or pictures and a `keypoints.json`, as `handpose annotate` writes it (see
`labels.py`). Pictures of one group, such as a person or a video, are not independent: they are one scene here, and
intervals are over scenes. Without a group each picture is its own scene. What is not labelled counts nowhere.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from handpose_lib.freihand import SPLITS, FreiHAND, split_rows
from handpose_lib.keypoint_folder import FEWEST
from handpose_lib.labels import LABELS, picture_of, read_labels
from handpose_lib.metrics import bootstrap_interval, distances, normalizer_lengths
from handpose_lib.predict import read_picture


@dataclass(frozen=True)
class LabelledPhotographs:
    """Picture files, their keypoints (N, 21, 2) in px, NaN where not labelled, and the scene (N,) that each shows."""

    files: list[Path]
    keypoints: Tensor
    scenes: np.ndarray

    def __add__(self, other: "LabelledPhotographs") -> "LabelledPhotographs":
        scenes = np.concatenate([self.scenes, other.scenes + (self.scenes.max() + 1 if len(self.scenes) else 0)])
        return LabelledPhotographs(self.files + other.files, torch.cat((self.keypoints, other.keypoints)), scenes)


def labelled_photographs(folder: str | Path, leave_out: Sequence[str] = ()) -> LabelledPhotographs:
    """The labelled photographs of a folder, less the file names in `leave_out` (wrong labels).

    A hand with fewer than `FEWEST` labelled keypoints has no box to measure errors by, and is left out with a warning.

    Raises:
        FileNotFoundError: there is neither `keypoints.json` nor FreiHAND's layout.
        ValueError: something is wrong in the labels; it names file and entry.
    """
    folder = Path(folder)
    if (folder / "training_K.json").is_file():
        files, keypoints, scenes = _from_layout(folder)
    elif (folder / LABELS).is_file():
        files, keypoints, scenes = _from_labels(folder / LABELS)
    else:
        raise FileNotFoundError(f"{folder} has neither {LABELS} nor training_K.json: nothing labelled is there")
    kept = [i for i, file in enumerate(files) if file.name not in set(leave_out)]
    _, numbers = np.unique(np.array([str(scenes[i]) for i in kept]), return_inverse=True)
    points = torch.tensor(np.array([keypoints[i] for i in kept]), dtype=torch.float32).reshape(-1, 21, 2)
    return LabelledPhotographs([files[i] for i in kept], points, numbers)


def _from_layout(folder: Path) -> tuple[list[Path], list, list]:
    files, keypoints, scenes = [], [], []
    with warnings.catch_warnings():  # a part of a set may lack versions
        warnings.simplefilter("ignore")
        hands = FreiHAND(folder, "train").num_hands
        datasets = [FreiHAND(folder, split) for split in SPLITS[:3] if split_rows(hands, split)]
    for dataset in datasets:
        files += [dataset.image_path(i) for i in range(len(dataset))]
        keypoints += list(dataset.keypoints)
        scenes += list(dataset.hand_ids)
    return files, keypoints, scenes


def _from_labels(path: Path) -> tuple[list[Path], list, list]:
    hands = read_labels(path)
    usable = [hand for hand in hands if np.isfinite(hand.keypoints).all(-1).sum() >= FEWEST]
    if len(usable) < len(hands):
        left_out = f"{len(hands) - len(usable)} of {len(hands)} hands"
        warnings.warn(f"{path}: {left_out} have fewer than {FEWEST} labelled keypoints and are left out", stacklevel=3)
    files = [picture_of(path.parent, hand.file) or path.parent / hand.file for hand in usable]
    return files, [hand.keypoints for hand in usable], [hand.group or hand.file for hand in usable]


def score(
    predictor: Callable[[list[np.ndarray]], tuple[Tensor, Tensor]],
    photographs: LabelledPhotographs,
    resamples: int = 2000,
) -> dict[str, float]:
    """PCK@0.2 and @0.1 (bbox), the first with a 95 % interval over scenes (low, high), and the mean error.

    `epe` is in px of the pictures, `epe_px128` in px of a picture whose longer side is 128. Each picture counts the
    same, however many of its keypoints are labelled.
    """
    pictures = [read_picture(file) for file in photographs.files]
    predictions = predictor(pictures)[0]
    labelled = photographs.keypoints.isfinite().all(-1)  # (N, 21)
    errors = distances(predictions, photographs.keypoints, labelled).numpy()
    sides = np.array([max(picture.shape[:2]) for picture in pictures])
    relative = errors / normalizer_lengths(photographs.keypoints).numpy()[:, None]
    within = {share: _filled(np.where(labelled, relative < share, np.nan)) for share in (0.2, 0.1)}
    errors = _filled(errors)
    hits = within[0.2].mean(1)  # of each picture
    low, high = bootstrap_interval(hits, photographs.scenes, resamples=resamples)
    return {
        "images": len(errors), "scenes": len(np.unique(photographs.scenes)),
        "pck_0.2_bbox": float(hits.mean()), "low": float(low), "high": float(high),
        "pck_0.1_bbox": float(within[0.1].mean()), "epe": float(errors.mean()),
        "epe_px128": float((errors * 128 / sides[:, None]).mean()),
    }  # fmt: skip


def _filled(values: np.ndarray) -> np.ndarray:
    """Values (N, 21) with the mean of their row in place of NaN: the mean over all is then the mean over the rows'."""
    return np.where(np.isnan(values), np.nanmean(values, 1, keepdims=True), values)
