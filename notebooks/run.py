"""Execute the notebooks: `make course` (into runs/notebooks/) and `make notebooks` (outputs stored in place).

What is stored is always the `quick` preset's. A notebook says in its metadata, under `handpose`, with which preset,
device and data it was executed, and how many minutes that took.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from handpose_lib.storage import atomic_path, runs_folder

HERE = Path(__file__).resolve().parent
STORED_PRESET = "quick"
STARTED = re.compile(r"Chapter \d+ · preset (?P<preset>\w+) · (?P<device>\S+) · (?P<data>.+?), (?P<hands>[\d,]+) hands")


def execute(path: Path) -> tuple[nbformat.NotebookNode, Exception | None]:
    """Run one notebook in the folder of the notebooks; returns it as far as it ran, and the error of a failed cell."""
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
    try:
        client.execute()
    except CellExecutionError as error:
        failure = error
    minutes = round((time.perf_counter() - started) / 60, 1)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # when a cell ran is noise in a diff
        cell.metadata.pop("execution", None)
    notebook.metadata["handpose"] = {**in_force(notebook), "minutes": minutes}
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
    for path in paths:
        print(f"{path.name} ...", end=" ", flush=True)
        notebook, failure = execute(path)
        used = notebook.metadata["handpose"].get("preset")
        store = options.store and failure is None and used == STORED_PRESET
        write(notebook, (HERE if store else aside) / path.name)
        if failure is not None:
            print("failed", f"{failure}", f"the notebook as far as it ran: {aside / path.name}", sep="\n")
            return 1
        if options.store and not store:
            print(f"not stored: it ran with the preset {used}, see {aside / path.name}", file=sys.stderr)
            return 2
        print(f"{notebook.metadata['handpose']['minutes']:.1f} min")
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
