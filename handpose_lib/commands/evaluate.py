"""`handpose evaluate`: per-keypoint accuracy of a trained U-Net, as a table and a plot."""

import argparse
from pathlib import Path

from torch import nn

from handpose_lib.commands import weights_file
from handpose_lib.datasets import find_data, open_data
from handpose_lib.devices import pick_device
from handpose_lib.evaluate import BOXES, evaluate, make_report, mean_hand
from handpose_lib.freihand import SPLITS, FreiHAND
from handpose_lib.heatmaps import METHODS
from handpose_lib.keypoint_folder import FOLDER_SPLITS, KeypointFolder
from handpose_lib.predict import bundled_weights
from handpose_lib.storage import atomic_path, check_target, make_folder
from handpose_lib.weights import load_model

EXAMPLES = """examples:
  handpose evaluate --split val --out scores
  handpose evaluate tuned/best.safetensors --root my_hands --split test
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose evaluate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "weights",
        type=weights_file,
        nargs="?",
        help="best.safetensors of a run (default: bundled)",
    )
    add_root(parser)
    parser.add_argument("--split", choices=tuple(dict.fromkeys((*SPLITS, *FOLDER_SPLITS))), default="test")
    parser.add_argument("--method", choices=METHODS, default="local_peak", help="how heatmaps become points")
    parser.add_argument(
        "--boxes", choices=BOXES, default="found", help="for weights trained on crops: found ones, or true ones"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best available)")
    parser.add_argument("--out", type=Path, help="folder for CSV and PNG (default: beside the weights, or here)")


def add_root(parser: argparse.ArgumentParser, default: str = "the bundled sample") -> None:
    """Which data set: the options `--root` and `--share`."""
    parser.add_argument(
        "--root", type=Path,
        help="data set in FreiHAND's layout, or a folder of pictures with keypoints.json, a COCO JSON or a CSV; or "
        f"that file (default: {default})",
    )  # fmt: skip
    add_share(parser)


def add_share(parser: argparse.ArgumentParser) -> None:
    """The option `--share`, see `KeypointFolder`."""
    parser.add_argument(
        "--share", type=float, default=0.0,
        help="pictures with 2D labels: how much of a square around it each hand fills (default: 0, whole pictures)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Score the weights on a data set."""
    model, _ = load_model(options.weights or bundled_weights(), pick_device(options.device))
    root = options.root or find_data("quick")[0]
    dataset = open_data(root, options.split, options.share)
    train_set = open_data(root, "train", options.share) if options.split in ("val", "test") else None
    folder = options.out or (options.weights.parent if options.weights else Path.cwd())
    check_scores(folder, dataset)
    write_scores(model, dataset, folder, train_set, method=options.method, boxes=options.boxes)


def check_scores(folder: Path, dataset: FreiHAND | KeypointFolder) -> None:
    """OSError where `write_scores` could not write, which would be found out after all its work."""
    for ending in ("csv", "png"):
        check_target(folder / f"per_keypoint_{dataset.split}.{ending}")


def write_scores(
    model: nn.Module,
    dataset: FreiHAND | KeypointFolder,
    folder: Path,
    train_set: FreiHAND | KeypointFolder | None = None,
    **options: str,
) -> None:
    """Write the per-keypoint table and plot of a data set, and print what matters in them.

    Args:
        model: the network.
        dataset: what it is scored on.
        folder: where the files go.
        train_set: whose mean hand is scored for comparison; None: no comparison.
        options: of `evaluate`.
    """
    report = evaluate(model, dataset, **options)
    reports = {"model": report}
    if train_set is not None:
        reports["mean hand"] = make_report(dataset, mean_hand(train_set))
    make_folder(folder)
    name = f"per_keypoint_{dataset.split}"
    with atomic_path(folder / f"{name}.csv") as temporary:
        report.table.to_csv(temporary, index=False)
    from handpose_lib import plots  # `train`, which shares options with this module, draws nothing

    plots.use_style()
    plots.save(plots.per_keypoint_bars(reports), folder / f"{name}.png")
    columns = ["keypoint", "pck_0.2_bbox", "epe_px128", "epe_px224", "count"]
    print(report.table[columns].to_string(index=False, float_format="{:.3f}".format))
    for label, each in reports.items():
        s = each.summary
        scores = f"PCK@0.2 (bbox) {s['pck_0.2_bbox']:.3f}, error {s['epe_px128']:.2f} px of 128"
        shown = {"none": "", "found": ", boxes found", "truth": ", true boxes"}[each.boxes]
        print(f"{label}: {scores}, {dataset.split} split of {dataset.root}{shown}")
    print(f"table and plot: {folder / name}.csv and .png")
