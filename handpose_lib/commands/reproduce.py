"""`handpose reproduce`: FreiHAND from its files to the per-keypoint table of its test rows."""

import argparse
from pathlib import Path

from handpose_lib.commands.evaluate import check_scores, write_scores
from handpose_lib.commands.train import add_setting_options, chosen_settings
from handpose_lib.datasets import freihand_root
from handpose_lib.freihand import FreiHAND
from handpose_lib.storage import runs_folder
from handpose_lib.train import train_or_load


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose reproduce`."""
    add_setting_options(parser, "full")
    parser.add_argument("--root", type=Path, help="FreiHAND (default: HANDPOSE_FREIHAND_ROOT or data/FreiHAND_pub_v2)")
    parser.add_argument("--runs", type=Path, default=runs_folder(), help="where the run's folder goes (default: runs/)")
    parser.add_argument("--results", type=Path, help="folder for the CSV and the PNG (default: runs/results)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best available)")


def run(options: argparse.Namespace) -> None:
    """Train (go on with, or load) the preset on FreiHAND and score it on the test rows."""
    root = options.root or freihand_root()
    if root is None:
        raise FileNotFoundError(
            "no FreiHAND in data/FreiHAND_pub_v2: get it with `handpose data freihand`, or name its folder by "
            "--root or HANDPOSE_FREIHAND_ROOT"
        )
    train_set, val_set, test_set = (FreiHAND(root, split) for split in ("train", "val", "test"))
    results = options.results or runs_folder() / "results"
    check_scores(results, test_set)
    model, run = train_or_load(chosen_settings(options), train_set, val_set, options.runs, options.device)
    print(f"weights: {run / 'best.safetensors'}")
    write_scores(model, test_set, results, train_set)
