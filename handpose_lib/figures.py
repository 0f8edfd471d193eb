"""`handpose figures`: the README's pictures and tables, redrawn from the small files in `figures/`.

    the bundled weights         -> answers.jpg                 on hands of the bundled sample, which they never saw
    weights_per_keypoint.csv    -> weights_per_keypoint.png    scores of the bundled weights
    per_keypoint_accuracy.csv   -> per_keypoint_accuracy.png   the learner's own run, by chapter 07
    the bundled sample          -> hands.jpg
    bench_cpu.json, _gpu.json   -> the README's table `bench`   by `handpose bench`
    weights.json                -> the table `weights`          scores of the bundled weights
    ablation.csv                -> the table `ablation`         chapter 09's trainings
    rehearsal.json              -> the table `rehearsal`        by benchmarks/rehearsal.py

A table stands in its page between `<!-- table: bench -->` and `<!-- /table -->`. A picture carries a hash of what it
was drawn from, so that a test can tell an old one. What has no file is said to be not measured.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from handpose_lib import plots
from handpose_lib.evaluate import make_report, mean_hand
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.storage import atomic_path
from handpose_lib.synthhand import sample_root
from handpose_lib.synthhand.sample import SAMPLE_SHA256

RESULTS = ("per_keypoint_accuracy.csv",)  # what chapter 07 leaves in runs/results and the README draws from
SHOWN = {"gs": (0, 40, 80), "hom": (10, 50, 90), "sample": (20, 60, 100), "auto": (30, 70, 110)}  # hands of the sample
ANSWERED = range(0, 32, 4)  # hands of the sample's test part: every fourth, so none was picked by hand
NOT_MEASURED = "not measured"
SCORE = "pck_0.2_bbox"  # what the plots of a CSV show
HASH = "Source"  # the name of a picture's note


def write_all(pages: Sequence[Path], folder: Path, results: Path | None = None) -> list[Path]:
    """Redraw all pictures in `folder` and all tables of the pages; returns the files that were written.

    Args:
        pages: the README, and the card of the bundled weights.
        folder: `figures/`.
        results: where chapter 07 left its CSV, which is then copied into `folder` first.

    Raises:
        FileNotFoundError: a CSV that a picture needs is nowhere.
        ValueError: an unknown table in the README, or a file that is not what it should be; it names the file.
    """
    for name in RESULTS if results else ():
        if not (results / name).is_file():
            raise FileNotFoundError(f"{results / name} is not there: `make notebooks CHAPTER=07` writes it")
        TableScores.read(results / name)  # what is in `folder` stays where the new one can't be used
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(results / name, temporary)
    plots.use_style()
    for name, draw in PICTURES.items():
        figure, note = draw(folder), source_hash(name, folder)
        jpeg = {"pil_kwargs": {"comment": note, "quality": 88}}
        with atomic_path(folder / name) as temporary:
            figure.savefig(temporary, **(jpeg if name.endswith(".jpg") else {"metadata": {HASH: note}}))
        plt.close(figure)
    for page in pages:
        text = with_tables(page.read_text(encoding="utf-8"), folder)
        with atomic_path(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*(folder / name for name in PICTURES), *pages]


def source_hash(name: str, folder: Path) -> str:
    """Hash of what the picture `name` is drawn from: the bundled sample, and the weights or the CSV beside it."""
    digest = hashlib.sha256(SAMPLE_SHA256.encode())
    if name == "answers.jpg":
        digest.update(bundled_weights().read_bytes())
    table = (folder / name).with_suffix(".csv")
    if table.is_file():
        digest.update(table.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def noted_hash(picture: Path) -> str:
    """The hash that a picture carries; empty when it carries none."""
    with Image.open(picture) as opened:
        note = opened.info.get("comment" if picture.suffix == ".jpg" else HASH, "")
    return note.decode() if isinstance(note, bytes) else note


def draw_hands(folder: Path) -> plt.Figure:
    """Twelve hands of the bundled sample with their keypoints, three of each version."""
    images, keypoints = [], []
    for column in range(3):
        for version, hands in SHOWN.items():
            image, target = FreiHAND(sample_root(), "train", versions=version)[hands[column]]
            images.append(image)
            keypoints.append(target["keypoints"])
    return plots.image_grid(images, keypoints, columns=6, side=1.7)


def draw_answers(folder: Path) -> plt.Figure:
    """What the bundled weights answer on eight hands that they never saw, two of each version."""
    pictures = []
    for number, hand in enumerate(ANSWERED):
        dataset = FreiHAND(sample_root(), "test", versions=list(SHOWN)[number % len(SHOWN)])
        pictures.append(dataset.read(min(hand, len(dataset) - 1)))
    found, _ = HandPosePredictor.from_pretrained()([picture.permute(1, 2, 0).numpy() for picture in pictures])
    return plots.image_grid(pictures, found, columns=4, side=2.5)


class TableScores:
    """A per-keypoint CSV in the place of a `Report`, for the plots that ask for PCK only."""

    def __init__(self, table: pd.DataFrame):
        self.table = table

    @classmethod
    def read(cls, path: Path) -> "TableScores":
        """The scores in a CSV of `handpose evaluate` or chapter 07; ValueError that names it where it is none."""
        table = _read_csv(path)
        todo = "write it again (`handpose evaluate`, or `make notebooks CHAPTER=07`)"
        for name in ("keypoint", SCORE):
            if name not in table:
                raise ValueError(f"{path} has no column {name!r}: {todo}")
        if table["keypoint"].tolist() != list(KEYPOINT_NAMES):
            raise ValueError(f"{path} does not have one line per keypoint in the order of `keypoints.py`: {todo}")
        shares = pd.to_numeric(table[SCORE], errors="coerce")
        if not shares.between(0, 1).all():
            row = int((~shares.between(0, 1)).argmax())
            raise ValueError(f"{path}, line {row + 2}: {SCORE} is {table[SCORE][row]}, not from 0 to 1: {todo}")
        return cls(table)

    def pck(self, threshold: float = 0.2, normalizer: str = "bbox") -> Tensor:
        """PCK of each keypoint (21,), from the column of that threshold and normaliser."""
        return torch.from_numpy(self.table[f"pck_{threshold:g}_{normalizer}"].to_numpy(np.float64, copy=True))


def draw_per_keypoint(folder: Path) -> plt.Figure:
    """The per-keypoint accuracy plot of chapter 07's CSV, as `_bars` draws it."""
    return _bars("U-Net", folder / "per_keypoint_accuracy.csv")


def draw_weights_per_keypoint(folder: Path) -> plt.Figure:
    """The same of the bundled weights."""
    return _bars("bundled weights", folder / "weights_per_keypoint.csv")


def _bars(name: str, path: Path) -> plt.Figure:
    """The per-keypoint accuracy of a CSV, beside the mean hand's where the CSV counts the sample's test hands."""
    scores, sample = TableScores.read(path), sample_root()
    guess = make_report(FreiHAND(sample, "test"), mean_hand(FreiHAND(sample, "train")))
    same = list(scores.table.get("count", ())) == list(guess.table["count"])
    return plots.per_keypoint_bars({name: scores} | ({"mean hand": guess} if same else {}))


PICTURES: dict[str, Callable[[Path], plt.Figure]] = {
    "answers.jpg": draw_answers,
    "weights_per_keypoint.png": draw_weights_per_keypoint,
    "hands.jpg": draw_hands,
    "per_keypoint_accuracy.png": draw_per_keypoint,
}


def with_tables(text: str, folder: Path) -> str:
    """The text with each table between its markers rewritten from the files in `folder`.

    Raises:
        ValueError: an unknown table, or one whose file is damaged.
    """

    def table(match: re.Match) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"no table is called {match[1]!r}: there are {', '.join(TABLES)}")
        try:
            lines = TABLES[match[1]](folder)
        except (KeyError, TypeError, AttributeError, IndexError) as error:  # what JSON of another shape leads to
            raise ValueError(
                f"the table {match[1]!r} can't be made, its file in {folder} is not what it should be ({error!r}): "
                "restore it, or measure again"
            ) from error
        return f"<!-- table: {match[1]} -->\n{lines}\n<!-- /table -->"

    return re.sub(r"<!-- table: (\S+) -->\n.*?<!-- /table -->", table, text, flags=re.DOTALL)


ONLY_ON = {"cpu": "ghijklmn", "cuda": "f"}  # rows of the bench that the other kind of device has not
GPU_OVER_CPU = "(f) training images/s on the GPU ÷ on its CPU, the same network"


def _bench_reports(folder: Path) -> Iterator[tuple[str, str, dict | None]]:
    """Kind, torch's name of it, and the bench's report: a CPU, a GPU and its CPU; None where it was not measured."""
    for kind, device, file in (("CPU", "cpu", "bench_cpu.json"), ("GPU", "cuda", "bench_gpu.json")):
        report = _read_json(folder / file)
        yield kind, device, report if report and device in report["devices"] else None
    if report and "cpu" in report["devices"]:
        yield "the GPU's CPU", "cpu", report


def bench_table(folder: Path) -> str:
    """`bench_cpu.json` and, where a GPU was available, `bench_gpu.json`: ratios with their middle half."""
    columns: dict[str, dict[str, str]] = {}  # head -> row -> cell
    nothing: dict[str, str] = {}  # head -> letters of the rows that its device can't have
    for kind, device, report in _bench_reports(folder):
        others = ONLY_ON["cpu" if device == "cuda" else "cuda"]
        if report is None:
            columns[f"a {kind}"], nothing[f"a {kind}"] = {}, others
            continue
        measured = report["devices"][device]
        name = measured["name"] if device == "cuda" else f"{report['cpu']}, {report['cpu_threads']} threads"
        settings = measured["settings"]
        head = f"{name}; width {settings['width']}, batch {settings['batch_size']}, {settings['image_size']} px"
        cells = {f"({row['row']}) {row['what'].replace(' / ', ' ÷ ')}": _ratio(row) for row in measured["rows"]}
        if "gpu_over_cpu" in report and device == "cuda":
            cells[GPU_OVER_CPU] = f"{report['gpu_over_cpu']:.0f}"
        columns[head], nothing[head] = cells, others
    names = dict.fromkeys([name for cells in columns.values() for name in cells] + [GPU_OVER_CPU])
    letters = sorted(names, key=lambda name: name[:3])  # "(a)"; the order within a letter stays
    rows = [
        [name, *(cells.get(name, "–" if name[1] in nothing[head] else NOT_MEASURED) for head, cells in columns.items())]
        for name in letters
    ]
    return _markdown(["ratio (middle half of its repetitions)", *columns], rows)


def profile_table(folder: Path) -> str:
    """What a training step consists of, from the same files: operations of torch by their share of its time."""
    rows = []
    for name, device, report in _bench_reports(folder):
        shares = report["devices"][device].get("profile", {}) if report else {}
        listed = ", ".join(f"`{operation}` {100 * share:.0f} %" for operation, share in shares.items())
        rows.append([name, listed or NOT_MEASURED])
    return _markdown(["on a", "largest parts of a training step"], rows)


def _ratio(row: dict) -> str:
    """A bench row as "6.79 (6.55–7.14)", with the two figures that were divided where they are known."""
    shown = f"{row['ratio']:.3g}"
    if row["low"] != row["high"]:
        shown += f" ({row['low']:.3g}–{row['high']:.3g})"
    notes = []
    for name, unit, factor in (("seconds", "ms", 1e3), ("ms_each", "ms each", 1), ("megabytes", "MB", 1),
                               ("flops", "GFLOP/s", 1e-9), ("images_per_second", "images/s", 1),
                               ("hands_per_second", "hands/s", 1)):  # fmt: skip
        if name in row and not (name == "seconds" and "ms_each" in row):
            values = row[name] if isinstance(row[name], list) else [row[name]]
            notes.append(" ÷ ".join(_three_digits(factor * value) for value in values) + f" {unit}")
    return f"{shown}: {', '.join(notes)}" if notes else shown


def weights_table(folder: Path) -> str:
    """`weights.json`: what the bundled weights score, and how it was measured.

    {"rows": [{"data": "real photographs, ...", "images": 12, "hands": 8, "pck_0.2_bbox": 0.9, "epe": 3.2,
    "unit": "px of 128", "how": "whole image, two passes"}, ...], "settings": {...}}; `images`, `hands` and `how` may be
    left out, and `interval` ([low, high] of the PCK) may be given.
    """
    report = _read_json(folder / "weights.json")
    if report is None:
        return f"*The bundled weights: {NOT_MEASURED} yet.*"
    rows = []
    for row in report["rows"]:
        pck = f"{row['pck_0.2_bbox']:.3f}"
        if row.get("interval"):
            pck += " ({:.3f}–{:.3f})".format(*row["interval"])
        counts = [f"{row[name]:,} {name}" for name in ("images", "hands") if row.get(name)]
        how = "; ".join(text for text in (", ".join(counts), row.get("how")) if text)
        rows.append([row["data"], pck, f"{row['epe']:.2f} {row['unit']}", how])
    return _markdown(["scored on", "PCK@0.2 (bbox)", "mean error", "how"], rows)


def ablation_table(folder: Path) -> str:
    """`ablation.csv`, one line per training and data set: `row`, `seed`, `data`, `pck_0.2_bbox`, `epe_px128`.

    The card shows the mean over the seeds with lowest and highest, one column per data set, rows in the file's order.
    """
    path = folder / "ablation.csv"
    if not path.is_file():
        return f"*The ablation: {NOT_MEASURED} yet.*"
    table = _read_csv(path)
    names, sets = list(dict.fromkeys(table["row"])), list(dict.fromkeys(table["data"]))
    rows = []
    for name in names:
        cells = []
        for data in sets:
            part = table[(table["row"] == name) & (table["data"] == data)]
            hits, error = part["pck_0.2_bbox"], part["epe_px128"].mean()
            cells.append(f"{hits.mean():.3f} ({hits.min():.3f}–{hits.max():.3f}), {error:.1f} px" if len(part) else "–")
        rows.append([name, str(table.loc[table["row"] == name, "seed"].nunique()), *cells])
    return _markdown(["trained", "seeds", *(f"{data}: PCK@0.2 (bbox), error at 128" for data in sets)], rows)


def rehearsal_table(folder: Path) -> str:
    """`rehearsal.json`: what each stage of the way to FreiHAND's plot took, at FreiHAND's size, on a processor."""
    report = _read_json(folder / "rehearsal.json")
    if report is None:
        command = "python benchmarks/rehearsal.py --hands 32560 --chapters 7 --json figures/rehearsal.json"
        return f"*The rehearsal at FreiHAND's size: {NOT_MEASURED} yet; `{command}` measures it.*"
    sizes, rows = ("peak_mb", "machine_mb", "drive_mb"), []
    for row in report["stages"]:
        cells = [f"{row[name] / 60:.1f} min" if name in row else "" for name in ("seconds", "cpu_seconds")]
        cells += [f"{row[name] / 1e3:.1f} GB" if row.get(name) else "" for name in sizes]
        rows.append([row["stage"].replace("_", " "), *cells])
    head = ["stage", "time", "of its processor", "peak memory", "on the machine's disk", "in the Drive"]
    return _markdown(head, rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "bench": bench_table,
    "profile": profile_table,
    "weights": weights_table,
    "ablation": ablation_table,
    "rehearsal": rehearsal_table,
}


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _read_json(path: Path) -> dict | None:
    """A report; None where there is no such file. ValueError that names a damaged one."""
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or measure again") from error
    if not isinstance(report, dict) or not report:
        raise ValueError(f"{path} holds no report: restore it, or measure again")
    return report


def _read_csv(path: Path) -> pd.DataFrame:
    """A table; ValueError that names a file that holds none."""
    try:
        return pd.read_csv(path)
    except ValueError as error:  # pandas' own errors and those of its decoding are of this kind
        raise ValueError(f"{path} can't be read as a table ({error}): restore it, or measure again") from error


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
