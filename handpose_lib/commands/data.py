"""`handpose data show | synth | freihand`: get, render and look at data sets."""

import argparse
import contextlib
import os
import sys
import warnings
from pathlib import Path

from handpose_lib import download, plots
from handpose_lib.commands.evaluate import add_share
from handpose_lib.datasets import check_tree, holds_labels, open_data
from handpose_lib.fields import counted
from handpose_lib.freihand import SPLITS, VERSIONS, FreiHAND, split_rows
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.pictures import is_drawing
from handpose_lib.synthhand import write_dataset
from handpose_lib.synthhand.dataset import PARTS

MOST_SHOWN = 600  # images of 390 px, four in a row: no PNG may be higher than 65,535 px


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose data`: a command of its own for each thing that it does."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="draw hands with their keypoints into a PNG")
    show.add_argument("root", type=Path, help="folder in FreiHAND's layout, or of pictures with 2D labels")
    show.add_argument("--out", type=Path, required=True, help="the PNG to write")
    show.add_argument("--split", choices=SPLITS, help="train, val, test or evaluation (default: all three of training)")
    show.add_argument("--versions", nargs="+", choices=VERSIONS, default=VERSIONS)
    show.add_argument(
        "--count", type=int, default=16, help="images to draw, each hand once before any twice (default: 16)"
    )
    add_share(show)
    show.set_defaults(run=_show)

    synth = commands.add_parser("synth", help="render hands in FreiHAND's layout")
    synth.add_argument("--hands", type=int, required=True, help="unique hands, each in four versions")
    synth.add_argument("--out", type=Path, required=True)
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--workers", type=int, help="processes (default: one per core)")
    synth.add_argument("--without", nargs="+", choices=PARTS, default=(), help="leave these out, to see what they do")
    synth.set_defaults(
        run=lambda o: print(write_dataset(o.out, o.hands, seed=o.seed, workers=o.workers, without=o.without))
    )

    real = commands.add_parser("freihand", help="download, check and unpack FreiHAND (4.4 GB)")
    real.add_argument("--root", type=Path, default=Path("data/FreiHAND_pub_v2"))
    real.add_argument("--accept-terms", "--yes", action="store_true", help="you have read the terms and keep to them")
    real.add_argument("--no-evaluation", action="store_true", help="leave the evaluation set out")
    real.add_argument(
        "--zip",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="unpack this zip of FreiHAND's instead of downloading it; give it twice for both zips",
    )
    real.add_argument(
        "--remove-zip", action="store_true", help="delete each zip once it is unpacked (those of --zip, too)"
    )
    real.set_defaults(run=_freihand)


def _show(options: argparse.Namespace) -> None:
    if options.count < 1:
        raise ValueError(f"--count is {options.count}, it must be at least 1")
    datasets = _shown(options)
    _check_drawing(options.out, options.root)
    # Every hand in its first version, then every hand in the next.
    items = [
        (dataset, index)
        for version in dict.fromkeys(version for dataset in datasets for version in dataset.version_names)
        for dataset in datasets
        for index in (dataset.version_names == version).nonzero()[0]
    ]
    if min(options.count, len(items)) > MOST_SHOWN:
        raise ValueError(f"--count is {options.count}: at most {MOST_SHOWN} images fit into one picture")
    images, keypoints, titles = [], [], []
    for dataset, index in items[: options.count]:
        image, target = dataset[index]
        images.append(image)
        keypoints.append(target.get("keypoints"))
        titles.append(f"{dataset.version_names[index]} {target['id']} ({dataset.split})")
    labelled = keypoints if keypoints[0] is not None else None
    plots.use_style()
    figure = plots.image_grid(images, labelled, titles, columns=min(4, len(images)), side=3)
    plots.save(figure, options.out)
    print(f"{counted(len(images), 'image')} {'with' if labelled else 'without'} keypoints drawn in {options.out}")


def _check_drawing(out: Path, root: Path) -> None:
    """ValueError where a drawing would replace a file of the data set that it shows."""
    folder = root if root.is_dir() else root.parent
    if out.is_file() and out.resolve().is_relative_to(folder.resolve()) and not is_drawing(out):
        raise ValueError(f"{out} is a file of the data set: give another --out")


def _shown(options: argparse.Namespace) -> list[FreiHAND | KeypointFolder]:
    """The data sets to draw hands of."""
    if holds_labels(options.root) or options.share:
        return [open_data(options.root, options.split or "all", options.share)]
    check_tree(options.root)
    datasets = [FreiHAND(options.root, options.split or "train", options.versions)]
    if not options.split:  # one or two hands are all train
        others = [split for split in ("val", "test") if split_rows(datasets[0].num_hands, split)]
        datasets += [FreiHAND(options.root, split, options.versions) for split in others]
    return datasets


def _freihand(options: argparse.Namespace) -> None:
    print(download.TERMS, flush=True)
    accepted = options.accept_terms
    if not accepted and _somebody_can_answer():
        with contextlib.suppress(EOFError, OSError):  # Ctrl-D, or a terminal that is gone: no answer
            accepted = input("Do you accept these terms? [y/N] ").strip().lower() in ("y", "yes")
    if not accepted:
        raise ValueError(
            "the terms were not accepted, so nothing was downloaded: run again with --accept-terms to accept them"
        )
    root = download.find_tree(options.root) or options.root
    if not options.zip and _is_whole_though_unpacked_by_hand(root):
        print(
            f"FreiHAND lies in {root} already, so nothing was downloaded. To check every file of it: "
            f"handpose data freihand --root {root} --zip FILE"
        )
        return
    download.fetch_freihand(
        root,
        evaluation=not options.no_evaluation,
        accept_terms=True,
        keep_zip=not options.remove_zip,
        zips=options.zip,
    )
    whole = download.find_tree(root)
    if whole:  # the zip may have been whole, and yet not have everything
        FreiHAND(whole, "train")


def _is_whole_though_unpacked_by_hand(root: Path) -> bool:
    """Whether a tree that this command has not unpacked, and keeps no zip of, can be used as it is."""
    if download.find_tree(root) != root or any((root / name).exists() for name in download.OWN_FILES):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions that are not there
            return FreiHAND(root, "train").versions == VERSIONS
    except (OSError, ValueError):
        return False


def _somebody_can_answer() -> bool:
    """Whether a question on standard input can be answered.

    A notebook's `!command` has a terminal that nobody can type into; its kernel sets one of these variables.
    """
    in_notebook = any(name in os.environ for name in ("JPY_PARENT_PID", "COLAB_RELEASE_TAG", "COLAB_JUPYTER_IP"))
    return sys.stdin is not None and sys.stdin.isatty() and not in_notebook
