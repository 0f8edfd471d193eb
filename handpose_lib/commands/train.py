"""`handpose train`: options and settings; under torchrun, one process among several."""

import argparse
import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from handpose_lib.commands.evaluate import add_root
from handpose_lib.datasets import find_data, open_data
from handpose_lib.devices import pick_device
from handpose_lib.framing import Framing
from handpose_lib.predict import named_weights
from handpose_lib.runs import BEST, has_checkpoint, run_name, settings_of
from handpose_lib.settings import PRECISIONS, PRESETS, TrainSettings
from handpose_lib.storage import runs_folder
from handpose_lib.train import Trainer
from handpose_lib.weights import fine_tuning

EXAMPLES = """examples:
  handpose train --preset quick
  handpose train --root my_hands --start-from bundled --out tuned
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose train`, one per setting among them."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_setting_options(parser)
    add_root(parser, "the preset's")
    parser.add_argument("--out", type=Path, help="folder of the run (default: one under runs/, named by its settings)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best that is there)")
    parser.add_argument(
        "--resume", action="store_true",
        help="go on from the checkpoint in the run's folder; with --out, its settings need not be said again",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", type=named_weights, metavar="WEIGHTS",
        help="begin with these instead of random weights: a file, or the word bundled",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="let torch.compile fuse the network")
    parser.add_argument("--sync-batchnorm", action="store_true", help="several GPUs: normalise over the whole batch")


def add_setting_options(parser: argparse.ArgumentParser, preset: str | None = None) -> None:
    """Options that `chosen_settings` reads: a preset, and one for each setting."""
    default = f"default: {preset or 'quick; with --start-from, what suits the weights and few pictures'}"
    parser.add_argument("--preset", choices=PRESETS, default=preset, help=f"settings to start from ({default})")
    for option in (*dataclasses.fields(Framing), *dataclasses.fields(TrainSettings)):
        flag = f"--{option.name.replace('_', '-')}"
        if option.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help="replaces the preset's value")
        elif option.type in (int, float):
            parser.add_argument(flag, type=option.type, help="replaces the preset's value")
        elif option.type is str:
            parser.add_argument(flag, choices=PRECISIONS, help="replaces the preset's value")


def chosen_settings(options: argparse.Namespace) -> TrainSettings:
    """The preset of these options, with what else they say; without one, the settings of the run that goes on."""
    preset = _base(options)
    framing = dataclasses.replace(preset.framing, **_given(options, Framing))
    given = _given(options, TrainSettings)
    if preset.decoder and "depth" in given:
        given |= _levels(preset, given["depth"])
    return dataclasses.replace(preset, framing=framing, **given)


def _base(options: argparse.Namespace) -> TrainSettings:
    weights, resumed = (getattr(options, name, None) for name in ("start_from", "resume"))
    if not options.preset:
        if resumed and options.out and has_checkpoint(options.out):
            return settings_of(options.out)
        if weights:
            return fine_tuning(weights)
    return PRESETS[options.preset or "quick"]


def _levels(preset: TrainSettings, depth: int) -> dict[str, tuple[int, ...]]:
    """The decoder of a preset, cut or continued for another depth; without any level, the course's U-Net."""
    if depth < 2:
        return {"decoder": (), "refine": ()}
    more = (preset.decoder[-1],) * max(0, depth - preset.depth)
    return {"decoder": (*preset.decoder, *more)[: depth - 1]}


def _given(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """What the options say of a dataclass's fields."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def _check_new(folder: Path) -> None:
    """FileExistsError where a run, or files of its names, would be replaced."""
    if has_checkpoint(folder):
        raise FileExistsError(f"{folder} already holds a run: add --resume to go on, or give another --out")
    for name in (BEST, "history.csv"):
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder / name} is there without a checkpoint to go on from, and would be replaced: give another "
                "--out, or move it away"
            )


def _check_torchrun() -> None:
    """ValueError where only some of the variables are set by which torchrun tells each process its place."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not os.environ.get(name)]
    numbers = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
    whole = all(number.isascii() and number.isdecimal() for number in numbers)
    if missing or not whole or int(numbers[0]) >= int(numbers[1]):
        wrong = f"{missing[0]} is not" if missing else f"process {numbers[0]} of {numbers[1]} can't be meant"
        raise ValueError(
            f"RANK is set in the environment, as torchrun does it, but {wrong}: unset RANK, or start with torchrun"
        )


def run(options: argparse.Namespace) -> None:
    """Train as the options say; started by torchrun, together with the other processes."""
    if options.start_from and not options.out:
        raise ValueError(
            "--start-from needs --out: a run's own folder is for a network that begins with random weights"
        )
    root = options.root or find_data(options.preset or "quick")[0]
    settings = chosen_settings(options)
    device = pick_device(options.device)
    if "RANK" in os.environ:  # torchrun
        _check_torchrun()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train_set, val_set = (open_data(root, split, options.share) for split in ("train", "val"))
        folder = options.out or runs_folder() / run_name(settings, train_set)
        if not options.resume:
            _check_new(folder)
        trainer = Trainer(settings, train_set, val_set, folder, device, options.compile, options.sync_batchnorm)
        if options.start_from and not options.resume:  # which goes on with the run's own weights
            trainer.start_from(options.start_from)
        if trainer.rank == 0:
            print(
                f"{len(train_set):,} images of {root} on {trainer.processes} x {device}; the run's folder is {folder}"
            )
        (trainer.resume() if options.resume else trainer).run()
        if trainer.rank == 0:
            weights = folder / "best.safetensors"
            error = f"{trainer.best_error:.2f} px of 128"
            if not math.isfinite(trainer.best_error):
                error = "unknown, it was a number in no epoch: the last epoch's weights count as the best"
            print(f"lowest validation error {error}; weights in {weights}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
