"""`handpose predict`: keypoints of the hand in each photograph, as JSON and drawn."""

import argparse
from pathlib import Path

from handpose_lib.answers import answer_files, files_of
from handpose_lib.devices import pick_device
from handpose_lib.predict import HandPosePredictor


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose predict`."""
    parser.add_argument("images", type=Path, nargs="+", help="picture files, or folders of them")
    parser.add_argument("--weights", type=Path, help="best.safetensors of a run (default: the bundled weights)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    parser.add_argument("--out", type=Path, required=True, help="folder for keypoints.json and the drawn pictures")


def run(options: argparse.Namespace) -> None:
    """Find and draw the hands; what can't be read is left out and said at the end."""
    out = options.out.expanduser()
    files = files_of(options.images, out)
    predictor = HandPosePredictor.from_pretrained(options.weights, pick_device(options.device))
    count, failures = answer_files(files, predictor, out)
    print(f"{count} pictures: keypoints.json (px of each picture) and drawings in {out}")
    if failures:
        raise ValueError(f"{len(failures)} pictures left out: {'; '.join(failures)}")
