"""What every stored notebook must be; their outputs are compared by nbval (`make test`)."""

import json
import re
import tomllib
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict]:
    chosen = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]
    return [c for c in chosen if "".join(c["source"]).strip()]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_the_chapters_are_numbered_without_a_gap():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) >= 7


@each_notebook
def test_cells_are_stored_executed_in_order(path: Path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


@each_notebook
def test_a_checked_cell_has_an_output_that_can_be_compared(path: Path):
    checked = [cell for cell in cells(path, "code") if "nbval-check-output" in cell["metadata"].get("tags", [])]
    assert len(checked) >= 5, "the story rests on no checked output"
    for cell in checked:
        assert cell["execution_count"] is not None, f"{path.name}: nbval never compares {cell['id']}"
        text = [o for o in cell["outputs"] if o["output_type"] == "stream" or "text/plain" in o.get("data", {})]
        assert text, f"{path.name}: {cell['id']} has no text output, so its check is empty"


@each_notebook
def test_outputs_hold_no_error_no_warning_no_widget_and_no_path_of_a_machine(path: Path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", f"{path.name}: {cell['id']}"
            assert output.get("name") != "stderr", f"{path.name}: {cell['id']} writes to stderr: {output.get('text')}"
            assert "image/svg+xml" not in output.get("data", {})
            assert not re.search(r"/(home|root|work|tmp|Users)/", json.dumps(output.get("text", ""))), cell["id"]


@each_notebook
def test_a_notebook_is_small_enough_for_github_to_show(path: Path):
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_code_cells_are_short(path: Path):
    lengths = [len(source(cell).splitlines()) for cell in cells(path, "code")]
    assert median(lengths) <= 10 and max(lengths) <= 40


@each_notebook
def test_the_skeleton_is_kept(path: Path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    headings = ("# ", "*What you will be able to do*", "*Time and hardware*", "## Your turn", "## What to remember")
    for needed in (*headings, "## Questions", "## Further reading"):
        assert needed in text, f"{path.name} lacks {needed}"
    assert text.count("<details>") >= 2  # solutions
    assert f"start({int(path.name[:2])})" in source(cells(path, "code")[0])


@each_notebook
def test_the_badge_opens_this_very_file(path: Path):
    slug = REPOSITORY.removeprefix("https://github.com/")
    badge = source(cells(path, "markdown")[0])
    assert f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{path.name})" in badge
    assert f"git+{REPOSITORY}'" in source(cells(path, "code")[0])


@each_notebook
def test_pictures_travel_with_the_notebook(path: Path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", source(cell)):
            assert target.startswith("https://colab.research.google.com/assets/"), f"{path.name} links {target}"
