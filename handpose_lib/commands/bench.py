"""`handpose bench`: what the training engine costs here, as ratios."""

import argparse
from pathlib import Path

import torch

from handpose_lib import bench
from handpose_lib.datasets import find_data
from handpose_lib.storage import check_target


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose bench`."""
    parser.add_argument("--root", type=Path, help="data set in FreiHAND's layout (default: the bundled sample)")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    parser.add_argument("--cpu-only", action="store_true", help="leave the GPU out")


def run(options: argparse.Namespace) -> None:
    """Measure and write the report."""
    check_target(options.json)  # measuring takes minutes
    devices = [torch.device("cpu")]
    if torch.cuda.is_available() and not options.cpu_only:
        devices.insert(0, torch.device("cuda"))
    report = bench.run(options.root or find_data("quick")[0], options.json, devices)
    print(f"{report['minutes']:.1f} minutes; written to {options.json}")
