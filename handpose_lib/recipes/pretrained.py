"""How the bundled weights came about: one command, which can be stopped and started again.

    python -m handpose_lib.recipes.pretrained

renders the hands (half an hour on two cores), trains on them in three stages (many hours on a CPU) and a finder beside
them, fits what the confidence means on the validation hands, and writes

    data/weights/handpose.safetensors    the averaged weights of the best epoch, in 16 bits
    data/weights/finder.safetensors      those of the network that looks first
    figures/weights_history.csv          how the training went
    figures/weights.json                 what they score, and how that was measured
    figures/weights_per_keypoint.csv     the same per keypoint, on the bundled sample's test hands

`--score` only scores the weights that are there; `--real FOLDER` adds labelled photographs.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from handpose_lib.calibration import WITHIN, fit_calibration
from handpose_lib.devices import pick_device
from handpose_lib.evaluate import evaluate
from handpose_lib.freihand import FreiHAND
from handpose_lib.layout import IMAGE_SIZE
from handpose_lib.metrics import correct, epe, pck
from handpose_lib.predict import HandPosePredictor
from handpose_lib.recipes.photographs import labelled_photographs, score
from handpose_lib.runs import HistoryRow, read_history, write_history
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import atomic_path, checkout_root, runs_folder, work_folder
from handpose_lib.synthhand import sample_root, write_dataset
from handpose_lib.train import Trainer
from handpose_lib.weights import load_model, save_model


@dataclass(frozen=True)
class Stage:
    """A run that begins with the weights of the one before it."""

    name: str  # of its folder under runs/
    hands: int  # of which the split's 84 % are trained on; the first hands of a larger set are those of a smaller one
    settings: TrainSettings


# The first stage was still learning when its schedule ended. The second goes on with twice the hands, on a cosine of
# its own (a warm restart: Loshchilov and Hutter, "SGDR", ICLR 2017), lower than the first, and with narrow targets. The
# third is the network that is bundled: it takes the encoder of the second, for images of twice the side.
STAGES = (
    Stage("weights", 14_000, PRESETS["weights"]),
    Stage("weights-2", 28_000, replace(PRESETS["weights"], epochs=5, learning_rate=1.5e-3, sigma_start=1.75)),
    Stage("weights-3", 28_000, PRESETS["stacked"]),
)
FINDER = Stage("finder", 28_000, PRESETS["finder"])


def train(device: str | None = None) -> list[Path]:
    """Train all stages and the finder, or go on where they were stopped; returns their folders, the finder's last."""
    folders: list[Path] = []
    for stage in (*STAGES, FINDER):
        root = rendered_hands(stage)
        folder = runs_folder() / stage.name
        train_set, val_set = FreiHAND(root, "train"), FreiHAND(root, "val")
        trainer = Trainer(stage.settings, train_set, val_set, folder, pick_device(device))
        if (folder / "checkpoint.pt").is_file():
            trainer.resume()
        elif folders and stage is not FINDER:
            trainer.start_from(folders[-1] / "best.safetensors")
        trainer.run()
        folders.append(folder)
    return folders


def rendered_hands(stage: Stage) -> Path:
    """The folder of a stage's hands, rendered where they are missing."""
    return write_dataset(work_folder() / f"synthhand-{stage.hands}", stage.hands, seed=7)


def calibrate(model: nn.Module, finder: nn.Module, hands: FreiHAND) -> None:
    """Fit the model's `calibration` on rendered hands that it was not trained on."""
    model.calibration = ()
    predictor = HandPosePredictor(model, finder=finder)
    found, peaks = predictor([hands.image_path(index) for index in range(len(hands))])
    model.calibration = fit_calibration(peaks, correct(found, hands.keypoints, WITHIN) == 1)


def export(folders: list[Path], project: Path) -> None:
    """Copy the weights, in 16 bits and calibrated, and the history of all stages into the project."""
    model, finder = (load_model(folder / "best.safetensors")[0] for folder in folders[-2:])
    calibrate(model, finder, FreiHAND(rendered_hands(STAGES[-1]), "val"))
    for network, name in ((model, "handpose"), (finder, "finder")):
        with atomic_path(project / "data" / "weights" / f"{name}.safetensors") as temporary:
            save_model(network, temporary, half=True)
    rows: list[HistoryRow] = []
    for folder in folders[:-1]:
        before = rows[-1] if rows else {}
        for row in read_history(folder / "history.csv"):
            added = {name: round(row[name] + before.get(name, 0), 2) for name in ("epoch", "step", "seconds")}
            rows.append(row | added)
    write_history(rows, project / "figures" / "weights_history.csv")


def score_rendered(predictor: HandPosePredictor) -> dict:
    """Scores on all hands of the bundled sample, which come from another seed than those of the training."""
    parts = [FreiHAND(sample_root(), split) for split in ("train", "val", "test")]
    found = torch.cat([predictor([part.image_path(i) for i in range(len(part))])[0] for part in parts])
    truth = np.concatenate([part.keypoints for part in parts])
    return {
        "data": "rendered hands that it never saw (the bundled sample)",
        "images": len(truth), "hands": parts[0].num_hands,
        "pck_0.2_bbox": float(pck(found, truth).mean()), "pck_0.1_bbox": float(pck(found, truth, 0.1).mean()),
        "epe": float(epe(found, truth).mean()) * 128 / IMAGE_SIZE, "unit": "px of 128",
        "how": f"whole images through HandPosePredictor, {predictor.passes} looks",
    }  # fmt: skip


def write_per_keypoint(predictor: HandPosePredictor, path: Path) -> None:
    """The per-keypoint table on the bundled sample's test hands, those that chapter 07 scores the learner's run on."""
    table = evaluate(predictor, FreiHAND(sample_root(), "test")).table
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f")


def score_real(predictor: HandPosePredictor, folders: list[Path], leave_out: list[str]) -> dict:
    """Scores on the labelled photographs of all folders together, with a 95 % interval over scenes."""
    photographs = labelled_photographs(folders[0], leave_out)
    for folder in folders[1:]:
        photographs += labelled_photographs(folder, leave_out)
    result = score(predictor, photographs)
    return {
        "data": "real photographs: images of FreiHAND with right labels",
        "images": result["images"], "scenes": result["scenes"],
        "pck_0.2_bbox": result["pck_0.2_bbox"], "pck_0.1_bbox": result["pck_0.1_bbox"],
        "interval": [result["low"], result["high"]], "epe": result["epe"], "unit": "px of 224",
        "how": f"whole images, no box, {predictor.passes} looks; {result['scenes']} scenes, 95 % interval over them",
    }  # fmt: skip


def score_row(predictor: HandPosePredictor, name: str, folder: Path) -> dict:
    """Scores on one folder of labelled photographs in a row of its own, called `name`."""
    result = score(predictor, labelled_photographs(folder))
    return {
        "data": name, "images": result["images"], "scenes": result["scenes"],
        "pck_0.2_bbox": result["pck_0.2_bbox"], "pck_0.1_bbox": result["pck_0.1_bbox"],
        "interval": [result["low"], result["high"]], "epe": result["epe_px128"], "unit": "px of 128",
        "how": f"whole pictures, no box, {predictor.passes} looks; {result['scenes']} scenes, 95 % interval over them",
    }  # fmt: skip


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--score", action="store_true", help="train nothing, score the weights that are there")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best available)")
    parser.add_argument("--real", type=Path, action="append", default=[], help="folder of labelled photographs")
    parser.add_argument("--leave-out", nargs="*", default=[], help="file names with wrong labels")
    parser.add_argument(
        "--row", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER"),
        help="a folder of labelled photographs that is scored by itself, and what it is called",
    )  # fmt: skip
    options = parser.parse_args()
    project = checkout_root()
    if project is None:
        parser.error("this needs a checkout of the project: an installed package has no data/ and figures/ to write to")
    if not options.score:
        export(train(options.device), project)
    predictor = HandPosePredictor.from_pretrained(device=pick_device(options.device))
    rows = [score_rendered(predictor)]
    if options.real:
        rows.append(score_real(predictor, options.real, options.leave_out))
    rows += [score_row(predictor, name, Path(folder)) for name, folder in options.row]
    report = {"rows": rows, "settings": {stage.name: stage.settings.to_json() for stage in (*STAGES, FINDER)}}
    with atomic_path(project / "figures" / "weights.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    write_per_keypoint(predictor, project / "figures" / "weights_per_keypoint.csv")
    for row in rows:
        print(f"{row['data']}: PCK@0.2 (bbox) {row['pck_0.2_bbox']:.3f}, mean error {row['epe']:.2f} {row['unit']}")


if __name__ == "__main__":
    main()
