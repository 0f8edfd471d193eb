"""What every stored notebook must be; their outputs are compared by nbval (`make test`)."""

import ast
import json
import re
import sys
import tomllib
from pathlib import Path
from statistics import median

import nbformat
import pytest
import torch
from test_mutations import bound_and_read

from handpose_lib.synthhand.sample import SAMPLE_HANDS

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
sys.path.append(str(ROOT / "notebooks"))

import run  # noqa: E402  (notebooks/run.py)

REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# Chapter 00 sets a machine up; it has a question, but nothing to exercise and nothing to compare.
each_lesson = pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict]:
    chosen = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]
    return [c for c in chosen if "".join(c["source"]).strip()]


def source(cell: dict) -> str:
    return "".join(cell["source"])


CHAPTERS = (
    "00_setup", "01_freihand", "02_heatmaps", "03_augmentation", "04_unet", "05_adaptive_wing_loss", "06_gpu_training",
    "07_per_keypoint_accuracy", "08_inference", "09_synthetic_to_real", "10_your_own_hands",
)  # fmt: skip


def checked(path: Path) -> list[dict]:
    """The cells whose output nbval compares."""
    return [cell for cell in cells(path, "code") if "nbval-check-output" in cell["metadata"].get("tags", [])]


def uncompared(cell: dict) -> str:
    """Why nbval would pass over a checked cell in silence; empty if it would not."""
    if cell["execution_count"] is None:
        return "it is stored without an execution count"
    if not [o for o in cell["outputs"] if o["output_type"] == "stream" or "text/plain" in o.get("data", {})]:
        return "it has no text output"
    return ""


def test_all_chapters_are_there():
    assert tuple(path.stem for path in NOTEBOOKS) == CHAPTERS


def test_nbval_compares_at_least_60_cells():
    compared = [cell["id"] for path in NOTEBOOKS for cell in checked(path) if not uncompared(cell)]
    assert len(compared) >= 60


def test_a_checked_cell_that_nbval_would_pass_over_is_noticed():
    stream = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    picture = {"output_type": "display_data", "data": {"image/png": "..."}}
    assert uncompared({"execution_count": 3, "outputs": [stream]}) == ""
    assert "execution count" in uncompared({"execution_count": None, "outputs": [stream]})
    assert "no text" in uncompared({"execution_count": 3, "outputs": [picture]})


@each_notebook
def test_cell_ids_and_stored_format_are_those_of_a_valid_notebook(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    ids = [cell["id"] for cell in notebook.cells]
    assert len(ids) == len(set(ids))


@each_notebook
def test_cells_are_stored_executed_in_order(path: Path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


@each_notebook
def test_no_fact_that_the_text_rests_on_is_stored_as_false(path: Path):
    for cell in cells(path, "code"):
        printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
        assert not re.search(r"^NO |: False$", printed, flags=re.MULTILINE), f"{path.name} [{cell['id']}]: {printed}"


@each_lesson
def test_a_checked_cell_has_an_output_that_can_be_compared(path: Path):
    assert len(checked(path)) >= 5, "the story rests on no checked output"
    for cell in checked(path):
        assert not uncompared(cell), f"{path.name}: nbval never compares {cell['id']}, {uncompared(cell)}"


@each_notebook
def test_what_is_stored_is_quicks_and_says_where_it_ran(path: Path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    ran = notebook["metadata"].get("handpose")
    assert ran, f"{path.name} does not say how it was executed: `make notebooks CHAPTER={path.name[:2]}`"
    assert ran["preset"] == "quick" and ran["device"] == "cpu" and ran["data"] == "SynthHAND sample"
    assert ran["hands"] == SAMPLE_HANDS and 0 <= ran["minutes"] < 10


def test_the_whole_course_took_at_most_ten_minutes():
    stored = [json.loads(path.read_text(encoding="utf-8"))["metadata"].get("handpose", {}) for path in NOTEBOOKS]
    assert all(ran.get("course_minutes", 99) <= 10 for ran in stored), "execute all chapters: `make notebooks`"
    assert all(ran["minutes"] <= ran["course_minutes"] for ran in stored)


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


@each_lesson
def test_the_skeleton_is_kept(path: Path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    headings = ("# ", "*What you will be able to do*", "*Time and hardware*", "## Your turn", "## What to remember")
    for needed in (*headings, "## Questions", "## Further reading"):
        assert needed in text, f"{path.name} lacks {needed}"
    assert text.count("<details>") >= 2  # solutions
    assert f"start({int(path.name[:2])})" in source(cells(path, "code")[0])


def test_chapter_00_keeps_what_of_the_skeleton_makes_sense():
    text = "\n".join(source(cell) for cell in cells(NOTEBOOKS[0], "markdown"))
    for needed in (
        "# 00",
        "*What you will be able to do*",
        "*Time and hardware*",
        "After a disconnect",
        "FreiHAND's terms",
    ):
        assert needed in text
    code = [source(cell) for cell in cells(NOTEBOOKS[0], "code")]
    assert "start(0)" in "".join(code) and "accept_terms=False" in "".join(code), (
        "nobody's consent is taken for granted"
    )
    assert text.index("## FreiHAND's terms") < text.index("## Choose")


def test_the_two_parts_of_chapter_06_can_be_run_alone():
    (path,) = [path for path in NOTEBOOKS if path.name.startswith("06")]
    part, bound = "set-up", {"set-up": set(), "A": set(), "B": set()}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        heading = re.search(r"^## (?:Part (A|B)|Your turn)", source(cell), re.MULTILINE)
        if cell["cell_type"] == "markdown":
            part = (heading[1] or "end") if heading else part
        elif part != "end":
            binds, reads = bound_and_read(source(cell))
            # A name that the cell binds itself may be read further down in it.
            foreign = bound["A"] - bound["set-up"] - bound["B"] - binds if part == "B" else set()
            assert not reads & foreign, f"{cell['id']} of part B needs {reads & foreign} of part A"
            bound[part] |= binds
    assert bound["A"] and bound["B"]


@each_notebook
def test_the_set_up_cell_has_at_most_three_statements_beside_its_imports(path: Path):
    body = ast.parse(source(cells(path, "code")[0])).body
    inner = [each for statement in body for each in ast.walk(statement) if isinstance(each, ast.stmt)]
    assert sum(not isinstance(each, ast.Import | ast.ImportFrom) for each in inner) <= 3


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


def small_notebook(folder: Path, preset: str, then: str = "print(1)") -> Path:
    """A notebook of two cells, the first of which prints what `start` prints."""
    line = f"Chapter 1 · preset {preset} · cpu · SynthHAND sample, 1,400 hands · about 1 min"
    first, second = nbformat.v4.new_code_cell(f"print({line!r})"), nbformat.v4.new_code_cell(then)
    path = folder / "01_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[first, second]), path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder of notebooks, and one for what is not stored, at `run.py`'s hands."""
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "runs_folder", lambda: tmp_path / "runs")
    monkeypatch.setenv("HANDPOSE_PRESET", "quick")
    return tmp_path


def test_run_records_preset_device_data_and_minutes(folder: Path):
    path = small_notebook(folder, "quick")
    assert run.main(["1", "--store"]) == 0
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "1\n"
    recorded = stored.metadata["handpose"]
    assert 0 <= recorded.pop("minutes") < 5
    assert recorded == {"preset": "quick", "device": "cpu", "data": "SynthHAND sample", "hands": 1400}


def test_a_run_of_all_chapters_takes_them_side_by_side_and_records_the_time_of_all(folder: Path, monkeypatch):
    threads = "import os\nprint(os.environ['OMP_NUM_THREADS'])"
    for number in ("02", "06"):
        small_notebook(folder, "quick", threads).rename(folder / f"{number}_x.ipynb")
    monkeypatch.setattr(run, "cores", lambda: 4)
    monkeypatch.setattr(run, "pick_device", lambda: torch.device("cpu"))
    order, execute = [], run.execute
    monkeypatch.setattr(run, "execute", lambda path, threads: (order.append(path.name), execute(path, threads))[1])
    assert run.main(["--store"]) == 0
    assert order == ["06_x.ipynb", "02_x.ipynb"]
    for path in sorted(folder.glob("*.ipynb")):
        stored = nbformat.read(path, as_version=4)
        assert stored.cells[1].outputs[0].text == "2\n"  # half of the four cores
        assert 0 <= stored.metadata["handpose"]["minutes"] <= stored.metadata["handpose"]["course_minutes"] + 0.1
    assert run.main(["2", "--store"]) == 0  # alone: the time of the whole course stays
    assert "course_minutes" in nbformat.read(folder / "02_x.ipynb", as_version=4).metadata["handpose"]


@pytest.mark.parametrize(("preset", "then"), [("full", "print(1)"), ("quick", "1 / 0")])
def test_what_failed_or_ran_with_another_preset_is_not_stored(folder: Path, capsys, preset: str, then: str):
    path = small_notebook(folder, preset, then)
    before = path.read_bytes()
    assert run.main(["--store"]) != 0
    assert path.read_bytes() == before
    assert (folder / "runs" / "notebooks" / path.name).is_file()


def test_run_refuses_to_store_under_another_preset_and_names_a_missing_chapter(folder: Path, monkeypatch, capsys):
    path = small_notebook(folder, "quick")
    before = path.read_bytes()
    assert run.main(["12"]) == 2
    assert "no chapter 12" in capsys.readouterr().err
    monkeypatch.setenv("HANDPOSE_PRESET", "full")
    assert run.main(["--store"]) == 2
    assert "always quick's" in capsys.readouterr().err and path.read_bytes() == before
