"""Proof of the `full` recipe without its data: a tree as large as FreiHAND is opened, cached, split and trained on.

    python benchmarks/full_proof.py --json figures/full_proof.json

The tree's images are those of the bundled sample, hard-linked under all 130,240 ids; its labels are the sample's, each
time a little shifted. So it says what FreiHAND's size costs in time, memory and disk, and nothing about accuracy.
It needs about 8 GB of free disk and cleans up behind itself.
"""

import argparse
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from handpose_lib.bench import processor_name
from handpose_lib.freihand import FreiHAND
from handpose_lib.loader import decoded_images
from handpose_lib.settings import PRESETS
from handpose_lib.storage import derived_folder, runs_folder
from handpose_lib.synthhand import sample_root
from handpose_lib.train import Trainer

FREIHAND_HANDS = 32_560


def build_tree(source: Path, root: Path, hands: int) -> None:
    """Write a tree of `hands` hands in four versions whose images are hard links to those of the tree `source`."""
    labels = {name: json.loads((source / f"training_{name}.json").read_text()) for name in ("K", "xyz", "scale")}
    there = len(labels["K"])
    (root / "training" / "rgb").mkdir(parents=True)
    for version in range(4):
        for hand in range(hands):
            image = source / "training" / "rgb" / f"{hand % there + version * there:08d}.jpg"
            os.link(image, root / "training" / "rgb" / f"{hand + version * hands:08d}.jpg")
    for name, entries in labels.items():
        repeated = np.array([entries[hand % there] for hand in range(hands)])
        if name == "xyz":  # up to 2 mm aside, a little more in every round through the sample
            repeated[..., 0] += 0.002 * (np.arange(hands) // there / max(1, hands // there))[:, None]
        (root / f"training_{name}.json").write_text(json.dumps(repeated.round(8).tolist()))


class Stages:
    """What each stage took: seconds, megabytes at its peak and of its own at its end, and bytes on the disk."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    @contextmanager
    def stage(self, name: str, folder: Path | None = None) -> Iterator[dict]:
        """Measures a block; `folder` is where it writes. The block may add notes to the dict that it is given."""
        before = 0 if folder is None else size_of(folder)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        row: dict = {"stage": name}
        begin = time.perf_counter()
        yield row
        row["seconds"] = round(time.perf_counter() - begin, 2)
        row["peak_mb"], row["own_mb_after"] = memory("VmHWM"), memory("RssAnon")
        if folder is not None:
            row["written_mb"] = round((size_of(folder) - before) / 1e6)
        self.rows.append(row)
        print(json.dumps(row), flush=True)


def memory(field: str) -> int:
    """A number of /proc/self/status in MB; `VmHWM` counts the pages of mapped files too, `RssAnon` does not."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6)


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def prove(root: Path, hands: int, width: int, batch_size: int, steps: int) -> list[dict]:
    """Run all stages on a tree at `root`, which does not exist yet; returns a row per stage."""
    stages = Stages()
    with stages.stage("hard links and labels") as row:
        build_tree(sample_root(), root, hands)
        row |= {"hands": hands, "images": 4 * hands}
    cache = derived_folder(root)
    with stages.stage("open: labels read and checked for the first time", cache):
        FreiHAND(root, "train")
    with stages.stage("open again: train, val and test") as row:
        parts = {split: FreiHAND(root, split) for split in ("train", "val", "test")}
        row |= {split: len(np.unique(dataset.hand_ids)) for split, dataset in parts.items()}
    with stages.stage("decode one version of each training hand at 128 px", cache) as row:
        row["images"] = len(decoded_images(FreiHAND(root, "train", versions="gs"), 128, progress=False))
    with stages.stage("decode all four versions of each training hand at 128 px", cache) as row:
        row["images"] = len(decoded_images(parts["train"], 128, progress=False))
    with stages.stage("the same again, from the cache", cache):
        decoded_images(parts["train"], 128, progress=False)

    settings = dataclasses.replace(PRESETS["full"], width=width, batch_size=batch_size)
    with tempfile.TemporaryDirectory() as run:
        with stages.stage("trainer set up, validation images decoded", cache):
            trainer = Trainer(settings, parts["train"], parts["val"], run, "cpu")
        with stages.stage("training steps of the full preset, and a checkpoint", Path(run)) as row:
            trainer.run(progress=False, until_step=steps)
            row |= {"steps": steps, "width": width, "batch_size": batch_size, "steps_of_a_run": trainer.total_steps}
            row["losses_finite"] = bool(trainer.losses[:steps].isfinite().all())
    return stages.rows


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    parser.add_argument("--hands", type=int, default=FREIHAND_HANDS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8, help="a CPU's patience and memory, not the preset's")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    parent = runs_folder()
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="full-proof-"))  # where hard links to the sample can be made
    try:
        rows = prove(folder / "tree", options.hands, options.width, options.batch_size, options.steps)
    finally:
        shutil.rmtree(folder)
    report = {"cpu": processor_name(), "cpu_threads": torch.get_num_threads(), "stages": rows}
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
