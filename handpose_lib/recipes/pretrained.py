"""How the bundled weights came about: one command, on a computer with a GPU.

    python -m handpose_lib.recipes.pretrained --minutes 9

renders hands on all cores and trains both networks of the predictor on them at the same time, for as long as it is
told. Then it fits what the confidence means, on rendered hands that were held out, and writes

    data/weights/handpose.safetensors    the averaged weights, in 16 bits
    data/weights/finder.safetensors      those of the network that looks first
    data/weights/graphs/                 how both compute, for ONNX Runtime (where the extra `export` is installed)
    figures/weights_history.csv          how the training went
    figures/weights.json                 what they score, and how that was measured
    figures/weights_per_keypoint.csv     the same per keypoint, on the bundled sample's test hands

`--score` only scores the weights that are there; `--real FOLDER` adds labelled photographs. `--graphs` only writes the
graphs of the weights that are there, on a computer that has the extra.

    python -m handpose_lib.recipes.pretrained --minutes 9 --start-from bundled --seed 2027

trains the network on from its bundled weights, on hands that it has not seen, and leaves the finder as it is.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.calibration import WITHIN, fit_calibration
from handpose_lib.chains import fit_bones
from handpose_lib.devices import pick_device
from handpose_lib.evaluate import evaluate
from handpose_lib.export import write_graph
from handpose_lib.framing import warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.layout import IMAGE_SIZE
from handpose_lib.metrics import correct, epe, pck
from handpose_lib.onnx_graph import write_decoder
from handpose_lib.onnx_look import DECODER
from handpose_lib.predict import HandPosePredictor, named_weights
from handpose_lib.recipes.photographs import labelled_photographs, score
from handpose_lib.recipes.stream import PICTURE_BYTES, HandStream
from handpose_lib.recipes.streamed import Learner, Reporter, train_networks
from handpose_lib.runs import write_history
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import atomic_path, checkout_root
from handpose_lib.synthhand import sample_root
from handpose_lib.weights import load_model, save_model

NETWORK = replace(PRESETS["stacked"], batch_size=256, weight_decay=0.02, warmup=0.02, sigma_until=0.4)
FINDER = replace(PRESETS["finder"], batch_size=256, warmup=0.02, sigma_until=0.4)
# The last tenth of the time: smaller steps, narrow targets, and pictures that are disturbed less.
LAST = replace(
    NETWORK, learning_rate=4e-4, sigma_start=NETWORK.sigma_end, ema_decay=0.995, augmentation=replace(
        NETWORK.augmentation, spectrum=0.0, wear=0.3, occluders=0.05, brightness=0.2, contrast=0.2, saturation=0.3,
        tint=0.08,
    ),
)  # fmt: skip
LAST_SHARE = 0.1
# Where the network has learned before.
AGAIN = replace(NETWORK, learning_rate=1e-3, sigma_start=NETWORK.sigma_end)
SEED = 2026  # of the hands of the bundled weights
EMPTY = {"handpose": 1 / 64, "finder": 0.08}  # shares of the pictures that show no hand
FIRST = 4_000  # pictures that must have come before the training begins
MOST = 400_000  # pictures that are kept: 31 GB on the device
VALIDATION = 1_500  # held-out pictures that the confidence is fitted on


def settings_for(batch_size: int = NETWORK.batch_size, start: Path | None = None) -> dict[str, TrainSettings]:
    """How each network is trained, by name; from weights that are there, the network alone."""
    settings = {"handpose": NETWORK, "handpose, last": LAST, "finder": FINDER}
    if start is not None:
        settings = {"handpose": AGAIN, "handpose, last": LAST}
    return {name: replace(each, batch_size=batch_size) for name, each in settings.items()}


def train(
    minutes: float,
    device: torch.device,
    workers: int,
    settings: dict[str, TrainSettings],
    folder: Path | None = None,
    start: Path | None = None,
    seed: int = SEED,
) -> tuple[dict[str, Learner], list[dict], tuple[Tensor, Tensor]]:
    """Train network and finder side by side, then the network alone on less disturbed pictures.

    From weights that are there, the network alone is trained on, with smaller steps and narrow peaks from the first.

    Args:
        minutes: of training, to which the first hands' rendering and the scoring come.
        workers: processes that render.
        settings: what `settings_for` says; where they have no finder, none is trained.
        folder: where rendered hands are kept and found again, see `HandStream`.
        start: weights of such a network to begin with; None: random ones.
        seed: of the hands.

    Returns:
        The learners by the names of their weight files, rows for `write_history`, and the held-out pictures
        (N, 3, S, S) with their keypoints (N, 21, 2).
    """
    rows: list[dict] = []
    with HandStream(room_for(device), device, workers, seed=seed, folder=folder) as stream:
        stream.wait_for(FIRST)
        learners = {"handpose": Learner(settings["handpose"], EMPTY["handpose"], device, start)}
        if "finder" in settings:
            learners["finder"] = Learner(settings["finder"], EMPTY["finder"], device)
        seconds = 60 * minutes * (1 - LAST_SHARE)
        report = Reporter(rows, "handpose", learners["handpose"], stream)
        train_networks(learners, stream, seconds, {"handpose": 1, "finder": 2}, report)
        last = Learner(settings["handpose, last"], EMPTY["handpose"], device, start=learners["handpose"])
        seconds = 60 * minutes * LAST_SHARE
        report = Reporter(rows, "handpose", last, stream)
        train_networks({"handpose": last}, stream, seconds, {"handpose": 1}, report, reports=1)
        held_out = stream.held_out
    return learners | {"handpose": last}, rows, held_out


def room_for(device: torch.device) -> int:
    """How many pictures may be kept on a device: at most half of its free memory, and no more than `MOST`."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else 4 * 2**30
    return min(MOST, free // 2 // PICTURE_BYTES)


def calibrate(model: nn.Module, finder: nn.Module, images: Tensor, keypoints: Tensor) -> None:
    """Fit the model's `bones` and `calibration` on pictures of rendered hands that it was not trained on.

    Args:
        model: is changed.
        finder: of the predictor.
        images: (N, 3, S, S) uint8.
        keypoints: (N, 21, 2) in their px.
    """
    crops = warp_keypoints(keypoints, model.framing.around(keypoints))
    model.bones, model.calibration = fit_bones(crops, model.framing.image_size), ()
    predictor = HandPosePredictor(model, finder=finder)
    found, peaks = predictor(list(images))
    model.calibration = fit_calibration(peaks, correct(found, keypoints, WITHIN) == 1)


def export(learners: dict[str, Learner], rows: list[dict], held_out: tuple[Tensor, Tensor], project: Path) -> None:
    """Write the weights, in 16 bits and calibrated, and the history of the training into the project.

    A finder that was not trained is the one that lies there.
    """
    networks = {name: learner.average.cpu() for name, learner in learners.items()}
    finder = networks.get("finder") or load_model(project / "data" / "weights" / "finder.safetensors")[0]
    calibrate(networks["handpose"], finder, *(each[:VALIDATION] for each in held_out))
    for name, network in networks.items():
        with atomic_path(project / "data" / "weights" / f"{name}.safetensors") as temporary:
            save_model(network, temporary, half=True)
    write_history(rows, project / "figures" / "weights_history.csv")


def write_graphs(project: Path) -> None:
    """Write the graphs of the bundled networks anew, see `onnx_look`; those of earlier networks are removed."""
    folder = project / "data" / "weights" / "graphs"
    network, finder = (load_model(project / "data" / "weights" / f"{n}.safetensors")[0] for n in ("handpose", "finder"))
    large = write_graph(network, folder)
    decoder = large.with_suffix(DECODER)
    with atomic_path(decoder) as temporary:
        write_decoder(large, temporary)
    written = {large, decoder, write_graph(finder, folder), write_graph(network, folder, eight_bit=True)}
    for path in set(folder.glob("*.onnx")) - written:
        path.unlink()


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
    parser.add_argument("--graphs", action="store_true", help="only write the graphs of the weights that are there")
    parser.add_argument("--minutes", type=float, default=9.0, help="how long to train (default: 9, meant for a GPU)")
    parser.add_argument("--batch-size", type=int, default=NETWORK.batch_size, help="samples per step (default: 256)")
    parser.add_argument("--workers", type=int, help="processes that render (default: all cores but one)")
    parser.add_argument("--hands", type=Path, help="folder where rendered hands are kept for another training")
    parser.add_argument(
        "--start-from", type=named_weights, metavar="WEIGHTS",
        help="train the network on from these: a file, or the word bundled; the finder stays as it is",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the rendered hands (default: {SEED})")
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
    if options.graphs:
        write_graphs(project)
        return
    path = project / "figures" / "weights.json"
    settings = json.loads(path.read_text(encoding="utf-8"))["settings"] if path.is_file() else {}
    if not options.score:
        workers = options.workers or max(1, (os.cpu_count() or 2) - 1)
        device = pick_device(options.device)
        start, seed = options.start_from, options.seed
        used = settings_for(options.batch_size, start)
        export(*train(options.minutes, device, workers, used, options.hands, start, seed), project)
        # Those of a finder that was not trained stay.
        settings |= {name: each.to_json() for name, each in used.items()}
    predictor = HandPosePredictor.from_pretrained(device=pick_device(options.device))
    rows = [score_rendered(predictor)]
    if options.real:
        rows.append(score_real(predictor, options.real, options.leave_out))
    rows += [score_row(predictor, name, Path(folder)) for name, folder in options.row]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"rows": rows, "settings": settings}, indent=1) + "\n", encoding="utf-8")
    write_per_keypoint(predictor, project / "figures" / "weights_per_keypoint.csv")
    for row in rows:
        print(f"{row['data']}: PCK@0.2 (bbox) {row['pck_0.2_bbox']:.3f}, mean error {row['epe']:.2f} {row['unit']}")
    if not options.score:
        try:
            write_graphs(project)
        except (ModuleNotFoundError, ValueError) as error:
            print(f"no graphs were written ({error}): write them elsewhere, with --graphs")


if __name__ == "__main__":
    main()
