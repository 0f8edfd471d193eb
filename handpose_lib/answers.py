"""What `handpose predict` does: many picture files in, `keypoints.json` and drawings out, whatever some of them are."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from handpose_lib import plots
from handpose_lib.pictures import picture_files, read_reduced
from handpose_lib.predict import MOST_PIXELS_AT_ONCE, HandPosePredictor
from handpose_lib.storage import atomic_path, make_folder

DRAWN = 800  # px; a drawing shows no more


def files_of(given: Sequence[Path], out: Path) -> list[Path]:
    """The picture files that are meant by files and folders, each once, without those in `out`.

    Raises:
        ValueError: a folder without pictures, or `out` is itself a folder of pictures.
    """
    if any(path.is_dir() and path.resolve() == out.resolve() for path in given):
        raise ValueError(f"--out {out} is the folder of the pictures: the next run would take its drawings for hands")
    return list(dict.fromkeys(file for path in given for file in picture_files(path, besides=out)))


def answer_files(files: Sequence[Path], predictor: HandPosePredictor, out: Path) -> tuple[int, list[str]]:
    """Writes keypoints.json (px of each picture) and a drawing of each picture that can be read.

    What is done is written in any case, after Ctrl-C too.

    Returns:
        How many pictures were answered, and what is wrong with the others.
    """
    make_folder(out)
    plots.use_style()
    found: dict[str, dict] = {}
    failures: list[str] = []
    try:
        _answer(files, predictor, out, found, failures)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped: {len(found)} of {len(files)} pictures are done, see {out}") from None
    finally:
        with atomic_path(out / "keypoints.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1))
    return len(found), failures


def _answer(
    files: Sequence[Path], predictor: HandPosePredictor, out: Path, found: dict[str, dict], failures: list[str]
) -> None:
    """Adds the answers on files to `found`, and what is wrong with the others to `failures`."""
    waiting: dict[Path, tuple[np.ndarray, tuple[float, float]]] = {}
    for number, file in enumerate(files, 1):
        try:
            waiting[file] = read_reduced(file)
        except (OSError, ValueError) as error:
            failures.append(str(error))
        pixels = sum(picture.shape[0] * picture.shape[1] for picture, _ in waiting.values())
        if number < len(files) and len(waiting) < predictor.batch_size and pixels < MOST_PIXELS_AT_ONCE:
            continue
        answers = predictor([picture for picture, _ in waiting.values()]) if waiting else ((), ())
        for (name, (picture, factors)), keypoints, confidence in zip(waiting.items(), *answers, strict=True):
            drawing = out / f"{len(found):04d}_{name.stem}.png"
            own = (keypoints + 0.5) * torch.tensor(factors) - 0.5 if factors != (1.0, 1.0) else keypoints
            found[str(name)] = {
                "keypoints": own.numpy().round(2).tolist(),
                "confidence": confidence.numpy().round(3).tolist(),
            }
            try:
                title = f"{name.name}, confidence {confidence.mean():.2f}"
                _draw(picture, keypoints, title, drawing)
            except OSError as error:
                failures.append(f"the drawing of {name} ({error})")
        waiting = {}


def _draw(picture: np.ndarray, keypoints: Tensor, title: str, path: Path) -> None:
    """A picture with its keypoints, of no more pixels than the drawing has."""
    step = max(1, max(picture.shape[:2]) // DRAWN)
    if step > 1:
        size = max(1, picture.shape[1] // step), max(1, picture.shape[0] // step)
        shares = torch.tensor([size[0] / picture.shape[1], size[1] / picture.shape[0]])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        keypoints = (keypoints + 0.5) * shares - 0.5
    figure, ax = plt.subplots(figsize=(6, 6))
    try:
        plots.draw_hand(picture, keypoints, ax, title)
        figure.savefig(path)
    finally:
        plt.close(figure)
