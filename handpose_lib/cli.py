"""The command line: `handpose data | train | evaluate | predict | reproduce | bench | figures`."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from handpose_lib import bench, download, figures, plots
from handpose_lib import train as train_command
from handpose_lib.answers import answer_files, files_of
from handpose_lib.datasets import find_data, freihand_root
from handpose_lib.devices import pick_device
from handpose_lib.evaluate import BOXES, evaluate, make_report, mean_hand
from handpose_lib.freihand import SPLITS, VERSIONS, FreiHAND, split_rows
from handpose_lib.heatmaps import METHODS
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.storage import checkout_root, runs_folder
from handpose_lib.synthhand import write_dataset
from handpose_lib.synthhand.dataset import PARTS
from handpose_lib.train import chosen_settings, train_or_load
from handpose_lib.unet import UNet2DHandPose, load_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():  # restores how warnings are shown: here, as one line
            warnings.showwarning = lambda message, *where: print(f"handpose: note: {message}", file=sys.stderr)
            options.run(options)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"handpose: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        print(f"handpose: {str(stop) or 'stopped'}", file=sys.stderr)
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("handpose", description="2D hand-pose estimation: data, training, evaluation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="get, render and look at data sets")
    _add_data_commands(data.add_subparsers(required=True, metavar="COMMAND"))

    train = commands.add_parser("train", help="train a U-Net")
    train_command.add_arguments(train)
    train.set_defaults(run=_train)

    score = commands.add_parser("evaluate", help="per-keypoint accuracy of a trained U-Net: a table and a plot")
    score.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="best.safetensors of a run (default: the bundled weights)",
    )
    _add_root(score)
    score.add_argument("--split", choices=SPLITS, default="test")
    score.add_argument("--method", choices=METHODS, default="local_peak", help="how heatmaps become points")
    score.add_argument(
        "--boxes", choices=BOXES, default="found", help="for weights trained on crops: found ones, or true ones"
    )
    score.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    score.add_argument("--out", type=Path, help="folder for the CSV and the PNG (default: beside the weights, or here)")
    score.set_defaults(run=_evaluate)

    guess = commands.add_parser("predict", help="keypoints of the hand in each of your photographs")
    guess.add_argument("images", type=Path, nargs="+", help="picture files, or folders of them")
    guess.add_argument("--weights", type=Path, help="best.safetensors of a run (default: the bundled weights)")
    guess.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    guess.add_argument("--out", type=Path, required=True, help="folder for keypoints.json and the drawn pictures")
    guess.set_defaults(run=_predict)

    whole = commands.add_parser("reproduce", help="FreiHAND from its files to the per-keypoint table of its test rows")
    train_command.add_setting_arguments(whole, "full")
    whole.add_argument("--root", type=Path, help="FreiHAND (default: HANDPOSE_FREIHAND_ROOT or data/FreiHAND_pub_v2)")
    whole.add_argument("--runs", type=Path, default=runs_folder(), help="where the run's folder goes (default: runs/)")
    whole.add_argument("--results", type=Path, help="folder for the CSV and the PNG (default: runs/results)")
    whole.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    whole.set_defaults(run=_reproduce)

    bench_parser = commands.add_parser("bench", help="measure the training engine here: ratios")
    _add_root(bench_parser)
    bench_parser.add_argument("--json", type=Path, required=True, help="the file to write")
    bench_parser.add_argument("--cpu-only", action="store_true", help="leave the GPU out")
    bench_parser.set_defaults(run=_bench)

    drawn = commands.add_parser("figures", help="make the README's pictures and tables anew from the files in figures/")
    drawn.add_argument("--results", type=Path, help="first copy chapter 07's CSV from here, as in runs/results")
    drawn.set_defaults(run=_figures)
    return parser


def _add_data_commands(commands: argparse._SubParsersAction) -> None:
    show = commands.add_parser("show", help="draw hands with their keypoints into a PNG")
    show.add_argument("root", type=Path, help="folder in FreiHAND's layout")
    show.add_argument("--out", type=Path, required=True, help="the PNG to write")
    show.add_argument("--split", choices=SPLITS, help="train, val, test or evaluation (default: all three of training)")
    show.add_argument("--versions", nargs="+", choices=VERSIONS, default=VERSIONS)
    show.add_argument(
        "--count", type=int, default=16, help="images to draw, each hand once before any twice (default: 16)"
    )
    show.set_defaults(run=_show)

    synth = commands.add_parser("synth", help="render hands in FreiHAND's layout")
    synth.add_argument("--hands", type=int, required=True, help="unique hands, each in four versions")
    synth.add_argument("--out", type=Path, required=True)
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--workers", type=int, help="processes (default: one a core)")
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


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, help="data set in FreiHAND's layout (default: the bundled sample)")


def _show(options: argparse.Namespace) -> None:
    if options.count < 1:
        raise ValueError(f"--count is {options.count}, it must be at least 1")
    datasets = [FreiHAND(options.root, options.split or "train", options.versions)]
    if not options.split:  # one or two hands are all train
        others = [split for split in ("val", "test") if split_rows(datasets[0].num_hands, split)]
        datasets += [FreiHAND(options.root, split, options.versions) for split in others]
    # Every hand in its first version, then every hand in the next.
    items = [
        (dataset, index)
        for version in datasets[0].versions
        for dataset in datasets
        for index in (dataset.version_names == version).nonzero()[0]
    ]
    images, keypoints, titles = [], [], []
    for dataset, index in items[: options.count]:
        image, target = dataset[index]
        images.append(image)
        keypoints.append(target.get("keypoints"))
        titles.append(f"{target['version']} {target['id']} ({dataset.split})")
    labelled = keypoints if keypoints[0] is not None else None
    plots.use_style()
    figure = plots.image_grid(images, labelled, titles, columns=min(4, len(images)), side=3)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out)
    print(f"{len(images)} images {'with' if labelled else 'without'} keypoints drawn in {options.out}")


def _freihand(options: argparse.Namespace) -> None:
    print(download.TERMS, flush=True)
    accepted = options.accept_terms
    if not accepted and _somebody_can_answer():
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
    return sys.stdin.isatty() and not in_notebook


def _train(options: argparse.Namespace) -> None:
    options.root = options.root or find_data(options.preset)[0]
    train_command.run_command(options)


def _bench(options: argparse.Namespace) -> None:
    devices = [torch.device("cpu")]
    if torch.cuda.is_available() and not options.cpu_only:
        devices.insert(0, torch.device("cuda"))
    report = bench.run(options.root or find_data("quick")[0], options.json, devices)
    print(f"{report['minutes']:.1f} minutes; written to {options.json}")


def _predict(options: argparse.Namespace) -> None:
    out = options.out.expanduser()
    files = files_of(options.images, out)
    predictor = HandPosePredictor.from_pretrained(options.weights, pick_device(options.device))
    count, failures = answer_files(files, predictor, out)
    print(f"{count} pictures: keypoints.json (px of each picture) and drawings in {out}")
    if failures:
        raise ValueError(f"{len(failures)} pictures left out: {'; '.join(failures)}")


def _figures(options: argparse.Namespace) -> None:
    root = checkout_root()
    if root is None:
        raise ValueError("figures/ and the README are in a checkout of the project, and this is an installed package")
    pages = [root / "README.md", root / "data" / "weights" / "README.md"]
    for path in figures.write_all(pages, root / "figures", options.results):
        print(path.relative_to(root))


def _evaluate(options: argparse.Namespace) -> None:
    model, _ = load_model(options.weights or bundled_weights(), pick_device(options.device))
    dataset = FreiHAND(options.root or find_data("quick")[0], options.split)
    folder = options.out or (options.weights.parent if options.weights else Path.cwd())
    _score(model, dataset, folder, method=options.method, boxes=options.boxes)


def _score(model: UNet2DHandPose, dataset: FreiHAND, folder: Path, **options: str) -> None:
    """Writes the per-keypoint table and plot of a data set, and prints what matters in them."""
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


def _reproduce(options: argparse.Namespace) -> None:
    """Trains (goes on with, or loads) the preset on FreiHAND and scores it on the test rows."""
    root = options.root or freihand_root()
    if root is None:
        raise FileNotFoundError(
            "no FreiHAND in data/FreiHAND_pub_v2: get it with `handpose data freihand`, or name its folder by "
            "--root or HANDPOSE_FREIHAND_ROOT"
        )
    train_set, val_set, test_set = (FreiHAND(root, split) for split in ("train", "val", "test"))
    model, run = train_or_load(chosen_settings(options), train_set, val_set, options.runs, options.device)
    print(f"weights: {run / 'best.safetensors'}")
    _score(model, test_set, options.results or runs_folder() / "results")


if __name__ == "__main__":
    main()
