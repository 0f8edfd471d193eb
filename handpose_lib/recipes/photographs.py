"""Labelled photographs of hands, to see what a network that saw only rendered hands is worth; none is bundled.

A folder holds either FreiHAND's layout, or pictures and a `keypoints.json`: a list of
{"file": "hand.jpg", "uv": [[x, y], ... 21 times], "scene": anything}. Pictures of one scene are not independent, so
intervals are over scenes; without "scene" (or "unique_id") each picture is its own.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from handpose_lib.freihand import SPLITS, FreiHAND, split_rows
from handpose_lib.metrics import bootstrap_interval, distances, normalizer_lengths
from handpose_lib.predict import read_picture


@dataclass(frozen=True)
class LabelledPhotographs:
    """Picture files, their keypoints (N, 21, 2) in px, and the scene (N,) that each shows."""

    files: list[Path]
    keypoints: Tensor
    scenes: np.ndarray

    def __add__(self, other: "LabelledPhotographs") -> "LabelledPhotographs":
        scenes = np.concatenate([self.scenes, other.scenes + (self.scenes.max() + 1 if len(self.scenes) else 0)])
        return LabelledPhotographs(self.files + other.files, torch.cat((self.keypoints, other.keypoints)), scenes)


def labelled_photographs(folder: str | Path, leave_out: Sequence[str] = ()) -> LabelledPhotographs:
    """The labelled photographs of a folder, less the file names in `leave_out` (wrong labels).

    Raises:
        FileNotFoundError: there is neither `keypoints.json` nor FreiHAND's layout.
        ValueError: an entry without 21 keypoints.
    """
    folder = Path(folder)
    if (folder / "training_K.json").is_file():
        files, keypoints, scenes = _from_layout(folder)
    elif (folder / "keypoints.json").is_file():
        files, keypoints, scenes = _from_list(folder)
    else:
        raise FileNotFoundError(f"{folder} has neither keypoints.json nor training_K.json: nothing labelled is there")
    kept = [i for i, file in enumerate(files) if file.name not in set(leave_out)]
    _, numbers = np.unique(np.array([str(scenes[i]) for i in kept]), return_inverse=True)
    points = torch.tensor(np.array([keypoints[i] for i in kept]), dtype=torch.float32).reshape(-1, 21, 2)
    return LabelledPhotographs([files[i] for i in kept], points, numbers)


def _from_layout(folder: Path) -> tuple[list[Path], list, list]:
    files, keypoints, scenes = [], [], []
    hands = len(json.loads((folder / "training_K.json").read_text()))
    for split in SPLITS[:3]:
        if not len(split_rows(hands, split)):
            continue
        with warnings.catch_warnings():  # a part of a set may lack versions
            warnings.simplefilter("ignore")
            dataset = FreiHAND(folder, split)
        files += [dataset.image_path(i) for i in range(len(dataset))]
        keypoints += list(dataset.keypoints)
        scenes += list(dataset.hand_ids)
    return files, keypoints, scenes


def _from_list(folder: Path) -> tuple[list[Path], list, list]:
    path = folder / "keypoints.json"
    entries = json.loads(path.read_text())
    for number, entry in enumerate(entries):
        if np.shape(entry.get("uv")) != (21, 2):
            raise ValueError(f"{path}, entry {number}: uv must be 21 pairs, it is {np.shape(entry.get('uv'))}")
    scenes = [entry.get("scene", entry.get("unique_id", entry["file"])) for entry in entries]
    return [folder / entry["file"] for entry in entries], [entry["uv"] for entry in entries], scenes


def score(
    predictor: Callable[[list[np.ndarray]], tuple[Tensor, Tensor]],
    photographs: LabelledPhotographs,
    resamples: int = 2000,
) -> dict[str, float]:
    """PCK@0.2 and @0.1 (bbox), the first with a 95 % interval over scenes (low, high), and the mean error.

    `epe` is in px of the pictures, `epe_px128` in px of a picture whose longer side is 128.
    """
    pictures = [read_picture(file) for file in photographs.files]
    predictions = predictor(pictures)[0]
    errors = distances(predictions, photographs.keypoints).numpy()  # (N, 21)
    sides = np.array([max(picture.shape[:2]) for picture in pictures])
    relative = errors / normalizer_lengths(photographs.keypoints).numpy()[:, None]
    hits = (relative < 0.2).mean(1)  # of each picture
    low, high = bootstrap_interval(hits, photographs.scenes, resamples=resamples)
    return {
        "images": len(errors), "scenes": len(np.unique(photographs.scenes)),
        "pck_0.2_bbox": float(hits.mean()), "low": float(low), "high": float(high),
        "pck_0.1_bbox": float((relative < 0.1).mean()), "epe": float(errors.mean()),
        "epe_px128": float((errors * 128 / sides[:, None]).mean()),
    }  # fmt: skip
