"""Execute the notebooks: `make course` (into runs/notebooks/) and `make notebooks` (outputs stored in place).

On a processor two chapters run side by side, each with half of the cores: small networks don't use more of them well.
Chapter 06 comes first, since its training is the longest and 07 waits for it.

What is stored is always the `quick` preset's. A notebook says in its metadata, under `handpose`, with which preset,
device and data it was executed, how many minutes that took, and how many the whole course took when it was last run.
"""

import argparse
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from handpose_lib.devices import pick_device
from handpose_lib.storage import atomic_path, runs_folder

HERE = Path(__file__).resolve().parent
STORED_PRESET = "quick"
LONGEST = "06"
STARTED = re.compile(r"Chapter \d+ · preset (?P<preset>\w+) · (?P<device>\S+) · (?P<data>.+?), (?P<hands>[\d,]+) hands")


def execute(path: Path, threads: int | None = None) -> tuple[nbformat.NotebookNode, Exception | None]:
    """Run one notebook in the folder of the notebooks; returns it as far as it ran, and the error of a failed cell.

    Args:
        path: of the notebook.
        threads: that its kernel computes with; None: as many as the machine has cores.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        coalesce_streams=True,  # what a cell prints is one output, however its pieces arrive
        resources={"metadata": {"path": str(HERE)}},
        extra_arguments=["--Application.log_level=40"],  # a kernel's warnings about its transport are not the course's
    )
    failure = None
    started = time.perf_counter()
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        failure = error
    minutes = round((time.perf_counter() - started) / 60, 1)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # when a cell ran is noise in a diff
        cell.metadata.pop("execution", None)
    before = notebook.metadata.get("handpose", {})
    kept = {name: before[name] for name in ("course_minutes",) if name in before}
    notebook.metadata["handpose"] = {**in_force(notebook), "minutes": minutes, **kept}
    return notebook, failure


def in_force(notebook: nbformat.NotebookNode) -> dict[str, str | int]:
    """Preset, device, data and number of hands, as the set-up cell printed them; empty if it did not get that far."""
    printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    found = STARTED.search(printed)
    return {**found.groupdict(), "hands": int(found["hands"].replace(",", ""))} if found else {}


def write(notebook: nbformat.NotebookNode, out: Path) -> None:
    with atomic_path(out) as temporary:
        nbformat.write(notebook, temporary)


def chosen(chapters: list[str]) -> list[Path]:
    """The notebooks of these chapters, all when none is named; FileNotFoundError for a chapter that is not there."""
    paths = {path.name[:2]: path for path in sorted(HERE.glob("[0-9][0-9]_*.ipynb"))}
    missing = [chapter for chapter in chapters if chapter.zfill(2) not in paths]
    if missing:
        raise FileNotFoundError(f"no chapter {', '.join(missing)} in {HERE}: there are {', '.join(paths)}")
    return [path for number, path in paths.items() if not chapters or number in {c.zfill(2) for c in chapters}]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def record_total(paths: list[Path], minutes: float) -> None:
    """Write into all notebooks how long the whole course took."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["handpose"]["course_minutes"] = minutes
        write(notebook, path)
    print(f"the whole course: {minutes:.1f} min")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="numbers such as 05; all when none is given")
    parser.add_argument("--store", action="store_true", help="store the outputs in notebooks/ itself")
    options = parser.parse_args(arguments)
    preset = os.environ.setdefault("HANDPOSE_PRESET", STORED_PRESET)
    if options.store and preset != STORED_PRESET:
        print(f"stored outputs are always {STORED_PRESET}'s: unset HANDPOSE_PRESET, which is {preset}", file=sys.stderr)
        return 2
    try:
        paths = chosen(options.chapters)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    aside = runs_folder() / "notebooks"
    started = time.perf_counter()
    beside = 2 if len(paths) > 1 and cores() > 1 and preset == STORED_PRESET and pick_device().type == "cpu" else 1
    paths.sort(key=lambda path: (path.name[:2] != LONGEST, path.name))
    with ThreadPoolExecutor(beside) as pool:
        running = {pool.submit(execute, path, cores() // beside): path for path in paths}
        for done in as_completed(running):
            path = running[done]
            notebook, failure = done.result()
            used = notebook.metadata["handpose"].get("preset")
            store = options.store and failure is None and used == STORED_PRESET
            write(notebook, (HERE if store else aside) / path.name)
            problem = 0
            if failure is not None:
                print(f"{path.name} failed", failure, f"the notebook as far as it ran: {aside / path.name}", sep="\n")
                problem = 1
            elif options.store and not store:
                print(f"not stored: it ran with the preset {used}, see {aside / path.name}", file=sys.stderr)
                problem = 2
            if problem:
                pool.shutdown(cancel_futures=True)
                return problem
            print(f"{path.name} {notebook.metadata['handpose']['minutes']:.1f} min", flush=True)
    if options.store and not options.chapters:
        record_total(paths, round((time.perf_counter() - started) / 60, 1))
    results = runs_folder() / "results"
    for label, place in (
        ("per-keypoint plot", results / "per_keypoint_accuracy.png"),
        ("its numbers", results / "per_keypoint_accuracy.csv"),
        ("executed notebooks", HERE if options.store else aside),
    ):
        if place.exists():
            print(f"{label}: {place}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
