"""The road from Colab's badge to the per-keypoint plot, rehearsed without Colab, without a GPU and without FreiHAND.

    python benchmarks/rehearsal.py                                    400 hands, all chapters
    python benchmarks/rehearsal.py --hands 32560 --chapters 7 --json figures/rehearsal.json    FreiHAND's own size

FreiHAND's place is taken by rendered hands in FreiHAND's own files and no others, spoilt so that the bundled weights
find them hard; Freiburg's by a server on this machine that breaks off once; Colab's by a fake `google.colab`, an empty
folder and a wheel of this checkout; the Drive's by a folder. Each chapter runs in a kernel of its own, with its cells
as they stand, except for lines that chapter 00 tells the reader to change, and HANDPOSE_REHEARSAL cuts `full` short.
In the middle of chapter 06, on a machine of its own, the kernel is killed and the disk wiped. Scores mean nothing here.
"""

import argparse
import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import nbformat
import numpy as np
import torch
from full_proof import size_of  # benchmarks/full_proof.py
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from handpose_lib.bench import processor_name
from handpose_lib.download import EVALUATION_ZIP, TRAINING_ZIP
from handpose_lib.storage import checkout_root, work_folder
from handpose_lib.synthhand import sample_root

HARDER = 25.0  # grey levels of noise that are laid over the pictures, after they were blurred
CHANGES = {  # what chapter 00 tells a reader on Colab to change
    'preset="quick"': 'preset="full"',
    "freihand=False": "freihand=True",
    "accept_terms=False": "accept_terms=True",
    "runs=None": 'runs="drive"',
}
COLAB = """
import google.colab, os, subprocess, sys

def system(command):
    assert "pip install -q 'handpose-lib @ git+https://" in command, command
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    site, wheel = os.environ["REHEARSAL_SITE"], os.environ["REHEARSAL_WHEEL"]
    subprocess.run([*pip, "--upgrade", "--target", site, wheel], check=True)

get_ipython().system = system
"""
USED = """
import handpose_lib, json, os, resource
from pathlib import Path

def used():
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return json.dumps({"cpu_seconds": round(sum(each.ru_utime + each.ru_stime for each in (own, others)), 1),
                       "peak_mb": round(own.ru_maxrss * 1024 / 1e6), "library": handpose_lib.__file__})
"""
KILL = """
import os, signal
from handpose_lib.train import Trainer

def save(self, original=Trainer.save_checkpoint):
    original(self)
    if self.step >= self.total_steps // 2:
        Path(os.environ["REHEARSAL_SITE"], "killed.json").write_text(used())
        os.kill(os.getpid(), signal.SIGKILL)

Trainer.save_checkpoint = save
"""
# Chapter 06 in the short form: the cells of its visit that is killed, and a stopwatch that takes one step, not five.
STRAIGHT_TO_THE_TRAINING = ("setup", "imports", "data", "train")
ONE_STEP = ("def measure(stages, steps=5):", "def measure(stages, steps=1):")
LAST = 'print("REPORT" + used())'
UNBROKEN = """
import sys, torch
from handpose_lib.course import start

course = start(6)
_, run = course.trained_model()
wanted = torch.load(run / "checkpoint.pt", weights_only=True)
found = torch.load(sys.argv[1] + "/" + run.name + "/checkpoint.pt", weights_only=True)
equal = all(
    torch.equal(value, found[part][name]) for part in ("model", "average") for name, value in wanted[part].items()
)
print("steps", wanted["where"]["epoch"], found["where"]["epoch"], "equal", equal and len(wanted["model"]) > 0)
"""


def make_zips(folder: Path, hands: int, evaluation: int = 8) -> None:
    """Write the two zips of a FreiHAND look-alike into `folder`: the sample's hands, repeated where it has too few."""
    source = sample_root()
    labels = {name: json.loads((source / f"training_{name}.json").read_text()) for name in ("K", "xyz", "scale")}
    there = len(labels["K"])
    with zipfile.ZipFile(folder / TRAINING_ZIP, "w") as archive:
        for name, entries in labels.items():
            archive.writestr(
                f"FreiHAND_pub_v2/training_{name}.json", json.dumps([entries[i % there] for i in range(hands)])
            )
        for name, entry in (("mano", [[0.0] * 61]), ("verts", [[0.0] * 3] * 778)):
            archive.writestr(f"FreiHAND_pub_v2/training_{name}.json", json.dumps([entry] * min(hands, 100)))
        spoilt = {
            (hand, version): spoil(source / "training" / "rgb" / f"{hand + version * there:08d}.jpg", hand)
            for hand in range(min(hands, there))
            for version in range(4)
        }
        for version in range(4):
            for hand in range(hands):
                name = f"FreiHAND_pub_v2/training/rgb/{hand + version * hands:08d}.jpg"
                archive.writestr(name, spoilt[hand % there, version])
        for hand in range(hands):
            mask = source / "training" / "mask" / f"{hand % there:08d}.jpg"
            archive.writestr(f"FreiHAND_pub_v2/training/mask/{hand:08d}.jpg", mask.read_bytes())
        write_evaluation(archive, source, evaluation, "FreiHAND_pub_v2/", ("K", "scale"))
    with zipfile.ZipFile(folder / EVALUATION_ZIP, "w") as archive:
        write_evaluation(archive, source, evaluation, "", ("K", "scale", "xyz"))


def write_evaluation(archive: zipfile.ZipFile, source: Path, count: int, top: str, names: Sequence[str]) -> None:
    """The evaluation set, as it lies in either zip."""
    for name in names:
        entries = json.loads((source / f"evaluation_{name}.json").read_text())[:count]
        archive.writestr(f"{top}evaluation_{name}.json", json.dumps(entries))
    for i in range(count):
        archive.writestr(f"{top}evaluation/rgb/{i:08d}.jpg", spoil(source / "evaluation" / "rgb" / f"{i:08d}.jpg", i))


def spoil(path: Path, seed: int) -> bytes:
    """A picture, blurred and noisy, as JPEG."""
    image = cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 3)
    noise = np.random.default_rng(seed).normal(0, HARDER, image.shape)
    return cv2.imencode(".jpg", np.clip(image + noise, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])[
        1
    ].tobytes()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A server for a folder's files that breaks off in the middle of the first; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / Path(self.path).name
            size = path.stat().st_size
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("ETag", f'"{size}"')
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            if self.command == "GET":
                asked.append(f"{path.name} from {start}")
                with path.open("rb") as file:
                    file.seek(start)
                    shutil.copyfileobj(file, self.wfile) if len(asked) > 1 else self.wfile.write(file.read(size // 2))

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()


class Colab:
    """A machine that is lent, in `folder`, and a Drive that stays, beside it."""

    def __init__(self, folder: Path, wheel: Path, url: str) -> None:
        self.machine, self.drive = folder / "machine", folder / "drive"
        self.drive.mkdir(parents=True)
        self.wheel, self.url = wheel, url
        self.new_machine()

    def new_machine(self) -> None:
        """Wipe the machine's disk, and lend another."""
        shutil.rmtree(self.machine, ignore_errors=True)
        fake = self.machine / "fake" / "google" / "colab"
        for place in (self.machine / "content", self.machine / "site", fake):
            place.mkdir(parents=True)
        mount = f"import os\n\ndef mount(place):\n    os.path.exists(place) or os.symlink({str(self.drive)!r}, place)\n"
        (fake / "drive.py").write_text(mount)
        (fake / "__init__.py").write_text("")
        (self.drive / "MyDrive").mkdir(exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process on the machine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HANDPOSE_")}
        return kept | {
            "PYTHONPATH": os.pathsep.join([str(self.machine / "site"), str(self.machine / "fake")]),
            "PYTHONSAFEPATH": "1",
            "HANDPOSE_CACHE": "",
            "XDG_CACHE_HOME": str(self.machine / "cache"),
            "HANDPOSE_DRIVE": str(self.machine / "content" / "drive"),
            "HANDPOSE_FREIHAND_URL": self.url,
            "HANDPOSE_REHEARSAL": "1",
            "REHEARSAL_SITE": str(self.machine / "site"),
            "REHEARSAL_WHEEL": str(self.wheel),
            "no_proxy": "*",
        }

    def run(self, path: Path, kill: bool = False, short: bool = False) -> tuple[str, dict]:
        """Execute a chapter as a reader would; what it printed, and the kernel's processor time and peak memory.

        `kill` has the kernel killed in the middle of the training; nothing more is printed then. `short` is for chapter
        06 alone.
        """
        notebook = nbformat.read(path, as_version=4)
        if short and kill:
            notebook.cells = [cell for cell in notebook.cells if cell.id in STRAIGHT_TO_THE_TRAINING]
        elif short:
            (stopwatch,) = (cell for cell in notebook.cells if ONE_STEP[0] in cell.source)
            stopwatch.source = stopwatch.source.replace(*ONE_STEP)
        for cell in notebook.cells:
            cell.source = as_told(cell.source) if cell.cell_type == "code" else cell.source
        for number in [i for i, cell in enumerate(notebook.cells) if kill and "course.trained_model()" in cell.source]:
            notebook.cells[number].source = USED + KILL + notebook.cells[number].source
        notebook.cells = [nbformat.v4.new_code_cell(COLAB), *notebook.cells, nbformat.v4.new_code_cell(USED + LAST)]
        resources = {"metadata": {"path": str(self.machine / "content")}}
        client = NotebookClient(
            notebook, timeout=3600, kernel_name="python3", resources=resources,
            extra_arguments=["--Application.log_level=50"],
        )  # fmt: skip
        try:
            client.execute(env=self.environment)
        except DeadKernelError:
            if not kill:
                raise
            printed, report = "", json.loads((self.machine / "site" / "killed.json").read_text())
        else:
            if kill:
                raise RuntimeError(f"{path.name} ended before its kernel was killed")
            printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
            report = json.loads(printed.split("REPORT")[1])
        if not Path(library := report.pop("library")).is_relative_to(self.machine):
            raise RuntimeError(f"{path.name} used {library} instead of the wheel")
        return printed, report

    def equals_an_unbroken_run(self) -> bool:
        """Train without a break, elsewhere, and compare with the Drive's checkpoint."""
        drive = str(self.drive / "MyDrive" / "handpose")
        chosen = json.loads((Path(drive) / "session.json").read_text())
        own = {
            "HANDPOSE_PRESET": "full", "HANDPOSE_FREIHAND_ROOT": chosen["freihand"],
            "HANDPOSE_RUNS": str(self.machine / "unbroken"),
        }  # fmt: skip
        command = [sys.executable, "-c", UNBROKEN, drive]
        done = subprocess.run(
            command,
            env=self.environment | own,
            cwd=self.machine / "content",
            capture_output=True,
            text=True,
            check=True,
        )
        return bool(re.search(r"steps (\d+) \1 equal True", done.stdout))


def as_told(source: str) -> str:
    """A cell as chapter 00 tells its reader to change it."""
    if "chosen = choose(" in source:
        for old, new in CHANGES.items():
            if source.count(old) != 1:
                raise ValueError(f"chapter 00's cell does not read {old}")
            source = source.replace(old, new)
    return re.sub(r"^course = start\(([1-9]\d?)\)$", r'course = start(\1, runs="drive")', source, flags=re.MULTILINE)


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(checkout_root()),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def rehearse(
    folder: Path, hands: int, chapters: Sequence[int], wheel: Path | None = None, short: bool = False
) -> list[dict]:
    """Walk the road in `folder`, which is empty, and print each stage.

    In the short form, chapter 06 goes straight to its training where it is killed there; all of its cells run when it
    resumes, with fewer steps for its stopwatch.

    A row per stage: seconds, the kernel's processor seconds and its peak memory (files that it maps count, too), and
    what lies on the machine's disk and in the Drive when it ends.
    """
    rows: list[dict] = []
    paths = {int(path.name[:2]): path for path in sorted((checkout_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    (folder / "served").mkdir()

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[dict]:
        row, begin = {"stage": name}, time.perf_counter()
        yield row
        row["seconds"] = round(time.perf_counter() - begin, 1)
        row |= {f"{place}_mb": round(size_of(folder / place) / 1e6) for place in ("machine", "drive")}
        rows.append(row)
        print(json.dumps(row), flush=True)

    with stage("zips of the look-alike") as row:
        make_zips(folder / "served", hands)
        row |= {"hands": hands, "zip_mb": round((folder / "served" / TRAINING_ZIP).stat().st_size / 1e6)}
    with serve(folder / "served") as (url, asked):
        colab = Colab(folder, wheel or build_wheel(folder), url)

        def chapter(number: int, what: str = "", kill: bool = False) -> str:
            with stage(f"{paths[number].stem}{what}") as row:
                printed, report = colab.run(paths[number], kill, short and number == 6)
                row |= report
            return printed

        printed = chapter(0, ": download that breaks off, unpacking")
        expect("broke off" in printed and f"{TRAINING_ZIP} from 0" in asked, "the download did not break off")
        expect(len([line for line in asked if line.startswith(f"{TRAINING_ZIP} from")]) == 2, f"not resumed: {asked}")
        for number in [n for n in chapters if n < 6]:
            chapter(number)
        colab.new_machine()  # as each notebook has that is opened from its badge: 06 fetches the data for itself
        chapter(6, ": another machine, killed in the middle of training", kill=True)
        runs = colab.drive / "MyDrive" / "handpose"
        expect(len(list(runs.glob("unet*/checkpoint.pt"))) == 1, "no checkpoint in the Drive")
        colab.new_machine()
        chapter(0, ", again: another machine, the same Drive")
        chapter(6, ": resumed")
        with stage("an unbroken run, and a comparison of all weights"):
            expect(colab.equals_an_unbroken_run(), "the resumed run is not the unbroken one")
        for number in [n for n in chapters if n > 6]:
            printed = chapter(number)
            expect(
                "Nothing is claimed" in printed or number != 7, "a claim was made for data that it was not measured on"
            )
        expect((runs / "results" / "per_keypoint_accuracy.png").is_file(), "chapter 07 left no plot in the Drive")
    return rows


def expect(holds: bool, otherwise: str) -> None:
    """AssertionError with these words, unless it holds."""
    if not holds:
        raise AssertionError(otherwise)


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=int, default=400, help="unique hands of the look-alike (FreiHAND: 32,560)")
    parser.add_argument(
        "--chapters", type=int, nargs="*", default=[*range(1, 6), *range(7, 11)], help="beside 00 and 06"
    )
    parser.add_argument("--json", type=Path, help="also write the stages here")
    options = parser.parse_args()
    work_folder().mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=work_folder(), prefix="rehearsal-"))
    try:
        rows = rehearse(folder, options.hands, sorted({*options.chapters, 7}))
    finally:
        shutil.rmtree(folder)
    if options.json:
        report = {"cpu": processor_name(), "cpu_threads": torch.get_num_threads(), "stages": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("rehearsed: from the badge to the per-keypoint plot, killed and resumed, bit for bit the unbroken run")


if __name__ == "__main__":
    main()
