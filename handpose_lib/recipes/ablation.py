"""What makes rendered hands teach something about real ones: leave one thing out, train again, score both.

    python -m handpose_lib.recipes.ablation --out figures/ablation.csv --real FOLDER --real FOLDER

Every row sees the same number of samples of the same hands, with three seeds. It is scored on rendered hands that it
never saw (the bundled sample, with nothing left out), and on the labelled photographs that are at hand. Rows that are
in the file already are not run again. Explained in `notebooks/09_synthetic_to_real.ipynb`.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handpose_lib.evaluate import evaluate
from handpose_lib.freihand import FreiHAND
from handpose_lib.predict import HandPosePredictor
from handpose_lib.recipes.photographs import LabelledPhotographs, labelled_photographs, score
from handpose_lib.recipes.tables import read_rows, write_rows
from handpose_lib.runs import read_history
from handpose_lib.settings import PRESETS, TrainSettings
from handpose_lib.storage import runs_folder, work_folder
from handpose_lib.synthhand import sample_root, write_dataset
from handpose_lib.train import Trainer

HANDS, DATA_SEED, SEEDS = 1500, 11, (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """One line of the table: what is left out of the rendering, and of the augmentation."""

    name: str
    without: tuple[str, ...] = ()
    colour_jitter: bool = True

    def settings(self, seed: int) -> TrainSettings:
        """The preset `weights`, with a smaller network on smaller images; the bundled weights come from `stacked`."""
        base = PRESETS["weights"]
        augmentation = base.augmentation
        if not self.colour_jitter:
            augmentation = replace(augmentation, brightness=0.0, contrast=0.0, saturation=0.0, tint=0.0)
        return replace(
            base, framing=replace(base.framing, image_size=48), source_size=96, width=16, depth=3, epochs=8,
            sigma_start=4.0, sigma_end=1.5, ema_decay=0.99, augmentation=augmentation, seed=seed,
        )  # fmt: skip


ROWS = (
    Row("everything"),
    Row("no forearm", ("forearm",)),
    Row("no photographs behind", ("photographs",)),
    Row("no lighting, no shadows", ("lighting",)),
    Row("no colour augmentation", colour_jitter=False),
)


def run(out: Path, photographs: LabelledPhotographs | None, rows: Sequence[Row] = ROWS, seeds: Sequence[int] = SEEDS,
        hands: int = HANDS, settings: dict | None = None) -> None:  # fmt: skip
    """Fill the CSV `out` with the runs that it lacks; `settings` replace those of `Row.settings` (for a trial)."""
    done = read_rows(out)
    for seed in seeds:
        for row in rows:
            if any(line["row"] == row.name and line["seed"] == str(seed) for line in done):
                continue
            started = time.perf_counter()
            wanted = replace(row.settings(seed), **(settings or {}))
            done += _one(row, wanted, hands, photographs)
            write_rows(done, out)
            print(f"{row.name}, seed {seed}: {done[-2:]}, {time.perf_counter() - started:.0f} s", flush=True)


def _one(
    row: Row, settings: TrainSettings, hands: int, photographs: LabelledPhotographs | None
) -> list[dict[str, str]]:
    """Render (once), train and score; one line per data set, every value as the CSV holds it."""
    name = "-".join(("ablation", str(hands), *row.without))
    root = write_dataset(work_folder() / name, hands, seed=DATA_SEED, without=row.without)
    train_set, val_set = FreiHAND(root, "train"), FreiHAND(root, "val")
    folder = runs_folder() / f"{name}-{'jitter' if row.colour_jitter else 'plain'}-{settings.seed}"
    Trainer(settings, train_set, val_set, folder).run(progress=False)
    samples = int(read_history(folder / "history.csv")[-1]["step"]) * settings.batch_size
    predictor = HandPosePredictor.from_pretrained(folder / "best.safetensors")
    shutil.rmtree(folder)
    rendered = evaluate(predictor, FreiHAND(sample_root(), "train", versions="auto"))
    results = {"rendered hands": (len(rendered.predictions), rendered.summary)}
    if photographs is not None:
        results["real hands"] = (len(photographs.files), score(predictor, photographs))
    common = {"row": row.name, "seed": str(settings.seed), "samples": str(samples)}
    return [
        {**common, "data": data, "images": str(images)}
        | {name: f"{summary[name]:.4f}" for name in ("pck_0.2_bbox", "epe_px128")}
        for data, (images, summary) in results.items()
    ]


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to fill")
    parser.add_argument("--real", type=Path, action="append", default=[], help="folder of labelled photographs")
    parser.add_argument("--leave-out", nargs="*", default=[], help="file names with wrong labels")
    options = parser.parse_args()
    photographs = None
    for folder in options.real:
        found = labelled_photographs(folder, options.leave_out)
        photographs = found if photographs is None else photographs + found
    run(options.out, photographs)


if __name__ == "__main__":
    main()
