"""Plays Colab: a fake `google.colab`, an empty folder, a wheel of this tree, and a notebook's first cells run twice."""

import json
import os
import re
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))

# Colab's own module is loaded before the first cell. Its pip would fetch the repository; here it gets the wheel.
COLAB = """
import google.colab, json, os, subprocess, sys
import numpy, torch
before = [(module.__version__, module.__file__) for module in (numpy, torch)]
commands = []

def system(command):
    commands.append(command)
    wheel, site = os.environ["TEST_WHEEL"], os.environ["TEST_SITE"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--upgrade", "--target", site, wheel], check=True)

get_ipython().system = system
"""
REPORT = """
import handpose_lib, importlib, json
after = [(module.__version__, module.__file__) for module in map(importlib.import_module, ("numpy", "torch"))]
print("REPORT" + json.dumps({"commands": commands, "library": handpose_lib.__file__, "same": before == after,
                             "root": str(course.root), "runs": str(course.runs), "preset": course.preset}))
"""


def code_cells(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def colab(wheel: Path, tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to work in, a place for packages, and `google.colab`."""
    for folder in ("content", "site", "fake/google/colab", "cache"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "fake/google/colab/__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(tmp_path / "fake")]))
    monkeypatch.setenv("TEST_WHEEL", str(wheel))
    monkeypatch.setenv("TEST_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HANDPOSE_PRESET", raising=False)
    return tmp_path


def test_the_first_cells_run_twice_in_an_empty_folder(colab: Path):
    setup, imports = code_cells(NOTEBOOKS[1])[:2]
    sources = [COLAB, setup, imports, setup, imports, REPORT]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    resources = {"metadata": {"path": str(colab / "content")}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert printed.count("Chapter 1 · preset quick") == 2
    report = json.loads(printed.split("REPORT")[1])
    assert len(report["commands"]) == 2 and len(set(report["commands"])) == 1
    assert report["same"], "the set-up replaced torch or numpy"
    assert Path(report["library"]).is_relative_to(colab / "site"), "the checkout was used instead of the wheel"
    assert Path(report["root"]).is_relative_to(colab / "cache")
    assert Path(report["runs"]) == colab / "content" / "runs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_set_up_cell_asks_pip_for_this_library_only(path: Path):
    setup = code_cells(path)[0]
    assert 'if "google.colab" in sys.modules:' in setup
    (command,) = re.findall(r"pip install [^\"\n]+", setup)
    assert re.fullmatch(r"pip install -q 'handpose-lib @ git\+https://github\.com/[\w./-]+'", command)


def test_the_wheel_asks_for_no_other_torch_or_numpy_than_a_new_enough_one(wheel: Path):
    """A lower bound that a Colab runtime meets leaves its torch and numpy alone; pins and upper bounds would not."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    needed = [line for line in re.findall(r"Requires-Dist: (.+)", metadata) if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in needed} >= {"torch", "torchvision", "numpy"}
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in needed)
