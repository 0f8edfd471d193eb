"""The same settings trained with other seeds: what chapter 07 compares the reader's own network with.

    python -m handpose_lib.recipes.seeds --seeds 1 2 3 --out figures/seeds_quick.csv

trains each (or loads it, if that was done before), scores it on the test hands and writes one line per keypoint.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from handpose_lib.datasets import find_data
from handpose_lib.evaluate import evaluate
from handpose_lib.freihand import FreiHAND
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import atomic_path, bundled_file, runs_folder
from handpose_lib.train import train_or_load

COLUMNS = ("seed", "keypoint", "pck_0.2_bbox", "epe_px128", "count")
SEEDS_FILE = "seeds_quick.csv"


def score_seeds(settings: TrainSettings, root: Path, runs: Path, seeds: Sequence[int]) -> pd.DataFrame:
    """Train `settings` once per seed on the data at `root` and score each on its test hands.

    Returns:
        A row for each seed and keypoint, with COLUMNS; PCK as a share, errors in px of 128.
    """
    train_set, val_set, test_set = (FreiHAND(root, split) for split in ("train", "val", "test"))
    tables = []
    for seed in seeds:
        model, _ = train_or_load(replace(settings, seed=seed), train_set, val_set, runs)
        report = evaluate(model, test_set)
        tables.append(report.table.assign(seed=seed)[list(COLUMNS)])
    return pd.concat(tables, ignore_index=True)


def recorded_seeds() -> pd.DataFrame:
    """What `score_seeds` wrote for the quick preset and seeds 1, 2 and 3, from the checkout or the installed package.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    return pd.read_csv(bundled_file(f"figures/{SEEDS_FILE}"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    options = parser.parse_args(arguments)
    table = score_seeds(PRESETS["quick"], find_data("quick")[0], runs_folder(), options.seeds)
    with atomic_path(options.out) as temporary:
        table.round(5).to_csv(temporary, index=False)
    print(table.groupby("seed")[["pck_0.2_bbox", "epe_px128"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
