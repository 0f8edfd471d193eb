"""The road from Colab's badge to the per-keypoint plot on FreiHAND, in short; `make rehearsal` is the long form."""

import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import rehearsal  # noqa: E402  (benchmarks/rehearsal.py)


def test_from_the_badge_to_the_plot_with_a_kill_in_between(tmp_path: Path, wheel: Path):
    rows = rehearsal.rehearse(tmp_path, hands=60, chapters=[7], wheel=wheel, short=True)
    assert [row["stage"][:8] for row in rows[1:]] == [
        "00_setup", "06_gpu_t", "00_setup", "06_gpu_t", "an unbro", "07_per_k",
    ]  # fmt: skip
    assert max(row.get("peak_mb", 0) for row in rows) < 6000


def test_what_the_rehearsal_changes_in_the_cells_is_what_the_reader_is_told_to_change():
    notebook = nbformat.read(ROOT / "notebooks" / "00_setup.ipynb", as_version=4)
    chapter = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## On Colab")[1].split("\n## ")[0]
    for told in (*rehearsal.CHANGES.values(), 'course = start(6, runs="drive")'):
        for page in (chapter, readme):
            assert f"`{told}`" in page, f"nobody tells the reader of {told}"
