"""Change a constant that a chapter's story rests on, and the chapter's checked cells must object.

Each change is made in a copy of the package, which a kernel then imports afresh. Of the chapter only those checked
cells run that speak of the changed function, each with the cells that it needs; cells that train are left out.
"""

import ast
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TRAINS = re.compile(r"trained_model|optim\.|from_pretrained|evaluate\(")
MOST_CELLS = 3  # checked cells that are run for one change


@dataclass(frozen=True)
class Change:
    """A constant of the library, another value for it, and the chapter that must notice."""

    file: str
    old: str
    new: str
    chapter: str
    speaks_of: str  # what the source of a checked cell, or of a cell that it needs, must name

    def __str__(self) -> str:
        return f"{self.speaks_of} in {self.chapter}"


CHANGES = (
    Change("heatmaps.py", "sigma: float = 2.0, out", "sigma: float = 2.5, out", "05", "render_heatmaps"),
    Change("losses.py", "theta: float = 0.5", "theta: float = 0.4", "05", "AdaptiveWingLoss"),
    Change("metrics.py", '"image"] = "bbox"', '"image"] = "image"', "07", "pck"),
    Change("freihand.py", "27_440", "27_000", "01", "split_rows"),
)
each_change = pytest.mark.parametrize("change", CHANGES, ids=str)


def notebook_of(chapter: str) -> Path:
    (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
    return path


def bound_and_read(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell binds or alters, and names that it reads before it has bound them itself."""
    bound: set[str] = set()
    read: set[str] = set()
    for statement in ast.parse(re.sub(r"^%.*$", "", source, flags=re.MULTILINE)).body:
        nodes = list(ast.walk(statement))
        inner = {node.arg for node in nodes if isinstance(node, ast.arg)}  # of functions, loops and comprehensions
        loops = [node.target for node in nodes if isinstance(node, ast.For | ast.comprehension)]
        scopes = [*loops, *(node for node in nodes if isinstance(node, ast.FunctionDef))]
        inner |= {
            name.id for scope in scopes for name in ast.walk(scope) if isinstance(name, ast.Name) and stores(name)
        }
        names = {node.id for node in nodes if isinstance(node, ast.Name) and not stores(node)}
        names |= {node.target.id for node in nodes if isinstance(node, ast.AugAssign) and hasattr(node.target, "id")}
        read |= names - inner - bound
        for node in nodes:
            bound |= names_bound_by(node)
    return bound, read


def stores(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def names_bound_by(node: ast.AST) -> set[str]:
    """The names that a single node of a syntax tree binds, or whose objects it alters."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Name) and stores(node):
        return {node.id}
    if isinstance(node, ast.Subscript | ast.Attribute) and stores(node):  # a[0] = ..., a.b = ...
        return {inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # a.sort()
        function = node.value.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            return {function.value.id}
    return set()


def needed_for(target: int, sources: list[str]) -> set[int]:
    """The cells before `target` that bind a name which it, or a cell that it needs, reads; and itself."""
    cells = [bound_and_read(source) for source in sources]
    chosen, wanted = {target}, set(cells[target][1])
    for number in range(target - 1, -1, -1):
        bound, read = cells[number]
        if bound & wanted:
            chosen.add(number)
            wanted |= read
    return chosen


def cells_to_run(chapter: str, speaks_of: str) -> tuple[list, set[int], list[int]]:
    """A notebook's code cells, the numbers of those to run, and the numbers of the checked ones among them."""
    notebook = nbformat.read(notebook_of(chapter), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    sources = [cell.source for cell in code]
    run, targets = {0}, []
    for number, cell in enumerate(code):
        if "nbval-check-output" not in cell.metadata.get("tags", []) or len(targets) == MOST_CELLS:
            continue
        needed = needed_for(number, sources)
        story = "\n".join(sources[n] for n in needed if not re.match(r"import|from|%", sources[n]))
        if re.search(rf"\b{speaks_of}\(", story) and not TRAINS.search(story):
            run |= needed
            targets.append(number)
    assert targets, f"no checked cell of chapter {chapter} that does not train speaks of {speaks_of}"
    return code, run, targets


FRESH = """
%reset -f
import importlib, os, sys
import numpy, torch
for name in [name for name in sys.modules if name.partition(".")[0] == "handpose_lib"]:
    del sys.modules[name]
importlib.invalidate_caches()
sys.path.insert(0, PACKAGE)
os.chdir(PACKAGE + "/notebooks")
torch.manual_seed(0), numpy.random.seed(0)
import handpose_lib; print(handpose_lib.__file__)
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[NotebookClient]:
    """One kernel for all packages, because to import PyTorch takes longest; `FRESH` has it forget the last package."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=300, kernel_name="python3", allow_errors=True)
    with client.setup_kernel():
        yield client


def objections(package: Path, chapter: str, functions: set[str], kernel: NotebookClient) -> list[str]:
    """Run a chapter's checked cells with the package in a folder: the cells whose output is not the stored one."""
    run, targets = set(), set()
    for speaks_of in functions:
        code, needed, checked = cells_to_run(chapter, speaks_of)
        run, targets = run | needed, targets | set(checked)
    where = nbformat.v4.new_code_cell(FRESH.replace("PACKAGE", repr(str(package))))
    fresh = [nbformat.v4.new_code_cell(code[n].source, metadata=code[n].metadata) for n in sorted(run)]
    kernel.nb = nbformat.v4.new_notebook(cells=[where, *fresh])
    kernel.reset_execution_trackers()
    for number, cell in enumerate(kernel.nb.cells):
        kernel.execute_cell(cell, number)
    assert printed(where).startswith(str(package)), "the kernel imported another copy of the package"
    errors = [o.ename for cell in fresh for o in cell.outputs if o.output_type == "error"]
    assert set(errors) <= {"AssertionError"}, f"cells crashed, which is no objection: {errors}"
    executed = zip(sorted(run), fresh, strict=True)
    return [code[n].get("id", str(n)) for n, cell in executed if n in targets and printed(cell) != printed(code[n])]


def printed(cell: nbformat.NotebookNode) -> str:
    """What nbval compares of a cell: its text, pictures aside."""
    texts = [o.get("text") or o.get("data", {}).get("text/plain") or o.get("evalue", "") for o in cell.outputs]
    kinds = [o.output_type for o in cell.outputs]
    return "".join(text for text, kind in zip(texts, kinds, strict=True) if kind != "display_data")


@pytest.fixture
def package(tmp_path: Path, bundled_root: Path) -> Path:
    """A copy of the package in what looks like a checkout; the bundled sample is linked, not unpacked again."""
    half_written = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(ROOT / "handpose_lib", tmp_path / "handpose_lib", ignore=half_written)
    for name in ("notebooks", "runs"):
        (tmp_path / name).mkdir()
    for name in ("pyproject.toml", "data", "figures"):
        os.symlink(ROOT / name, tmp_path / name)
    os.symlink(bundled_root, tmp_path / "runs" / bundled_root.name)
    return tmp_path


@each_change
def test_a_changed_constant_is_noticed(change: Change, package: Path, kernel: NotebookClient):
    path = package / "handpose_lib" / change.file
    text = path.read_text(encoding="utf-8")
    assert change.old in text, f"{change.file} no longer reads {change.old!r}"
    path.write_text(text.replace(change.old, change.new), encoding="utf-8")
    assert objections(package, change.chapter, {change.speaks_of}, kernel), (
        f"chapter {change.chapter} does not notice {change.new!r} in {change.file}"
    )


@pytest.mark.parametrize("chapter", sorted({change.chapter for change in CHANGES}))
def test_the_checked_cells_agree_with_the_package_as_it_is(chapter: str, package: Path, kernel: NotebookClient):
    """In the same kernel, after the changes: so it was those that were noticed."""
    functions = {change.speaks_of for change in CHANGES if change.chapter == chapter}
    assert objections(package, chapter, functions, kernel) == []


def test_the_cells_that_a_cell_needs_are_those_that_bind_its_names():
    sources = ["import torch", "a = torch.ones(3)\nother = 1", "b = 2", "a[0] = b", "print(other)", "print(a)"]
    assert needed_for(5, sources) == {0, 1, 2, 3, 5}
    assert needed_for(4, sources) == {0, 1, 4}
    own = "for name in 'ab':\n    print(name)\nx = 3\nprint(x, [y for y in 'ab'])"  # needs no cell but itself
    assert needed_for(2, ["name = 1", "x = y = 2", own]) == {2}
    assert needed_for(2, ["x = 2", "x += 1", "x"]) == {0, 1, 2}
