"""What fine-tuning on twenty labelled pictures of other hands gains there, and what it costs on the old test set.

    python -m handpose_lib.recipes.own_hands --seeds 1 2 3 --out figures/own_hands.csv

renders the pictures of "someone else's camera", trains the bundled weights on with each seed, and writes one line per
seed and set. It does so twice, the second time without the gloves: a control, which shows what the gloves have to do
with the rest. Told in `notebooks/10_your_own_hands.ipynb`.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from handpose_lib.evaluate import Report, evaluate
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.labels import LABELS
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.settings import TrainSettings
from handpose_lib.storage import atomic_path, bundled_file
from handpose_lib.synthhand import sample_root
from handpose_lib.synthhand.clip import render_clip
from handpose_lib.synthhand.skin import Skin, glove
from handpose_lib.train import Trainer
from handpose_lib.weights import fine_tuning

PERSONS, PICTURES = 12, 4  # of the stand-in; four pictures per person
PARTS = (5 / 12, 2 / 12, 5 / 12)  # twenty pictures to learn from, eight to choose the epoch, twenty held out
FIRST_SEED = 3000  # of the persons: none that another data set here has, or that the settings were tried on
SIZE = (240, 320)  # (H, W) px of the pictures
GLOVE = glove(30, 70, 170)  # the network knows skin in all its tones, and no glove
NEW, BARE, OLD = "gloves, held-out people", "the same without gloves", "old test set"
LEARNED = {"gloves": GLOVE, "bare hands": None}  # what the twenty pictures show


def write_stand_in(folder: str | Path, persons: int = PERSONS, skin: Skin | None = GLOVE) -> Path:
    """Pictures and labels of "someone else's camera" in a folder: `keypoints.json` and a folder per person.

    Rendered hands in thin blue gloves, as a workshop or a laboratory has them. Every other person holds up the left
    hand. What is there already is left as it is. With another `skin`, or None for one of each person's own, all else
    is the same.
    """
    folder = Path(folder)
    if (folder / LABELS).is_file():
        return folder
    entries = []
    for person in range(persons):
        name, left = f"person{person:02d}", bool(person % 2)
        (folder / name).mkdir(parents=True, exist_ok=True)
        # More than a second from picture to picture: another pose.
        frames = render_clip(PICTURES, seed=FIRST_SEED + person, size=SIZE[1], fps=0.8, skin=skin)
        for number, frame in enumerate(frames):
            image, keypoints = _landscape(frame.image, frame.keypoints)
            if left:
                image, keypoints = image[:, ::-1], np.stack([SIZE[1] - 1 - keypoints[:, 0], keypoints[:, 1]], 1)
            file = f"{name}/{number}.jpg"
            encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
            (folder / file).write_bytes(encoded.tobytes())
            on = (keypoints[:, 1] >= 0) & (keypoints[:, 1] <= SIZE[0] - 1)
            points = [p if seen else None for p, seen in zip(keypoints.round(1).tolist(), on.tolist(), strict=True)]
            entries.append({"file": file, "keypoints": points, "side": "left" if left else "right", "group": name})
    with atomic_path(folder / LABELS) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")
    return folder


def _landscape(image: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a square frame that has the hand in it and is as high as the pictures shall be."""
    middle = (keypoints[:, 1].min() + keypoints[:, 1].max()) / 2
    top = int(np.clip(middle - SIZE[0] / 2, 0, len(image) - SIZE[0]))
    return image[top : top + SIZE[0]], keypoints - np.array([0, top])


def train_on(folder: Path, settings: TrainSettings, run: Path, device: torch.device | str = "cpu") -> Trainer:
    """The bundled weights, trained on with the stand-in's train part."""
    parts = (KeypointFolder(folder, split, parts=PARTS) for split in ("train", "val"))
    return Trainer(settings, *parts, run, device).start_from(bundled_weights()).run(progress=False)


def scores(report: Report) -> dict[str, float]:
    """What the table holds of a report."""
    return {name: report.summary[name] for name in ("pck_0.2_bbox", "epe_px128", "median_px224")}


def compare(seeds: Sequence[int], folder: Path, settings: TrainSettings) -> pd.DataFrame:
    """One line per training and set, the first ones for the weights as they come, which learned from nothing here.

    Args:
        seeds: of the training's order and augmentation.
        folder: for the pictures and the runs.
        settings: of the training; the seed is replaced.
    """
    hands = {name: write_stand_in(folder / name, skin=skin) for name, skin in LEARNED.items()}
    held_out = (KeypointFolder(each, "test", parts=PARTS) for each in hands.values())
    sets = dict(zip((NEW, BARE, OLD), (*held_out, FreiHAND(sample_root(), "test", versions="auto")), strict=True))
    rows = []

    def add(predictor: HandPosePredictor, **training: str | int) -> None:
        rows.extend(training | {"data": name} | scores(evaluate(predictor, data)) for name, data in sets.items())

    add(HandPosePredictor.from_pretrained(), learned="nothing", seed=0, epochs=0)
    for name, seed in itertools.product(hands, seeds):
        run = folder / "runs" / name / str(seed)
        used = time.process_time()
        trainer = train_on(hands[name], replace(settings, seed=seed), run)
        used = time.process_time() - used
        after = HandPosePredictor.from_pretrained(run / "best.safetensors")
        add(after, learned=name, seed=seed, epochs=trainer.best_epoch)
        print(
            f"{name}, seed {seed}: {used:.0f} s of processor time",
            pd.DataFrame(rows).round(3).to_string(),
            sep="\n",
            flush=True,
        )
    return pd.DataFrame(rows)


def recorded_runs() -> pd.DataFrame:
    """What this recipe wrote, from the checkout or the installed package; FileNotFoundError where it is in neither."""
    return pd.read_csv(bundled_file("figures/own_hands.csv"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="instead of what `fine_tuning` says")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    options = parser.parse_args(arguments)
    changes = {} if options.epochs is None else {"epochs": options.epochs}
    with tempfile.TemporaryDirectory() as temporary:
        table = compare(options.seeds, Path(temporary), fine_tuning(bundled_weights(), **changes))
    with atomic_path(options.out) as path:
        table.round(5).to_csv(path, index=False)


if __name__ == "__main__":
    main()
