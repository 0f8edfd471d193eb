"""`handpose evaluate`: per-keypoint accuracy of a trained U-Net, as a table and a plot."""

import argparse
from pathlib import Path

from handpose_lib import plots
from handpose_lib.datasets import find_data
from handpose_lib.devices import pick_device
from handpose_lib.evaluate import BOXES, evaluate, make_report, mean_hand
from handpose_lib.freihand import SPLITS, FreiHAND
from handpose_lib.heatmaps import METHODS
from handpose_lib.predict import bundled_weights
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import load_model


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose evaluate`."""
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="best.safetensors of a run (default: the bundled weights)",
    )
    add_root(parser)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--method", choices=METHODS, default="local_peak", help="how heatmaps become points")
    parser.add_argument(
        "--boxes", choices=BOXES, default="found", help="for weights trained on crops: found ones, or true ones"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    parser.add_argument("--out", type=Path, help="folder for CSV and PNG (default: beside the weights, or here)")


def add_root(parser: argparse.ArgumentParser) -> None:
    """The option `--root`."""
    parser.add_argument("--root", type=Path, help="data set in FreiHAND's layout (default: the bundled sample)")


def run(options: argparse.Namespace) -> None:
    """Score the weights on a data set."""
    model, _ = load_model(options.weights or bundled_weights(), pick_device(options.device))
    dataset = FreiHAND(options.root or find_data("quick")[0], options.split)
    folder = options.out or (options.weights.parent if options.weights else Path.cwd())
    write_scores(model, dataset, folder, method=options.method, boxes=options.boxes)


def write_scores(model: UNet2DHandPose, dataset: FreiHAND, folder: Path, **options: str) -> None:
    """Write the per-keypoint table and plot of a data set, and print what matters in them."""
    report = evaluate(model, dataset, **options)
    reports = {"model": report}
    if dataset.split in ("val", "test"):
        reports["mean hand"] = make_report(dataset, mean_hand(FreiHAND(dataset.root, "train")))
    folder.mkdir(parents=True, exist_ok=True)
    name = f"per_keypoint_{dataset.split}"
    report.table.to_csv(folder / f"{name}.csv", index=False)
    plots.use_style()
    plots.per_keypoint_bars(reports).savefig(folder / f"{name}.png")
    columns = ["keypoint", "pck_0.2_bbox", "epe_px128", "epe_px224", "count"]
    print(report.table[columns].to_string(index=False, float_format="{:.3f}".format))
    for label, each in reports.items():
        s = each.summary
        scores = f"PCK@0.2 (bbox) {s['pck_0.2_bbox']:.3f}, error {s['epe_px128']:.2f} px of 128"
        shown = {"none": "", "found": ", boxes found", "truth": ", true boxes"}[each.boxes]
        print(f"{label}: {scores}, {dataset.split} split of {dataset.root}{shown}")
    print(f"table and plot: {folder / name}.csv and .png")
