"""Execute the notebooks: `make course` (into runs/notebooks/) and `make notebooks` (outputs stored in place)."""

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from handpose_lib.storage import atomic_path, runs_folder

HERE = Path(__file__).resolve().parent


def execute(path: Path, out: Path) -> float:
    """Run one notebook in the folder of the notebooks, write it to `out` even if a cell fails; returns the seconds."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        coalesce_streams=True,  # what a cell prints is one output, however its pieces arrive
        resources={"metadata": {"path": str(HERE)}},
        extra_arguments=["--Application.log_level=40"],  # a kernel's warnings about its transport are not the course's
    )
    started = time.perf_counter()
    try:
        client.execute()
    finally:
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:  # when a cell ran is noise in a diff
            cell.metadata.pop("execution", None)
        with atomic_path(out) as temporary:
            nbformat.write(notebook, temporary)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", help="numbers such as 05; all when none is given")
    parser.add_argument("--store", action="store_true", help="store the outputs in notebooks/ itself")
    options = parser.parse_args()
    paths = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    if options.chapters:
        paths = [path for path in paths if path.name[:2] in {chapter.zfill(2) for chapter in options.chapters}]
    if not paths:
        print(f"no notebook of {HERE} matches {' '.join(options.chapters)}", file=sys.stderr)
        return 2
    os.environ.setdefault("HANDPOSE_PRESET", "quick")
    folder = HERE if options.store else runs_folder() / "notebooks"
    for path in paths:
        print(f"{path.name} ...", end=" ", flush=True)
        try:
            print(f"{execute(path, folder / path.name):.0f} s")
        except CellExecutionError as error:
            print("failed", f"{error}", f"the notebook as far as it ran: {folder / path.name}", sep="\n")
            return 1
    results = runs_folder() / "results"
    for label, place in (
        ("per-keypoint plot", results / "per_keypoint_accuracy.png"),
        ("its numbers", results / "per_keypoint_accuracy.csv"),
        ("executed notebooks", folder),
    ):
        if place.exists():
            print(f"{label}: {place}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
