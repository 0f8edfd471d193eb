"""Every exercise of every chapter: its solution passes, its blank says "not yet", each hint is earned.

An exercise is three cells of a notebook: `turn-<slug>` (tag `exercise`) defines `my_<slug>`, `turn-<slug>-check` calls
`check_<slug>(my_<slug>)`, `turn-<slug>-solution` holds the solution. The checks are in
`handpose_lib/course/exercises/chapterNN.py`, the wrong answers that must earn their hints in
`tests/wrong_answers/chapterNN.py`.
"""

import ast
import functools
import importlib
import json
import re
import runpy
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from handpose_lib.course.exercises.checking import NOT_YET, Check

TESTS = Path(__file__).resolve().parent
NOTEBOOKS = sorted((TESTS.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))[1:]  # 00 has no exercises
CHECKS = TESTS.parent / "handpose_lib" / "course" / "exercises"
NUMBERS = sorted(path.stem.removeprefix("chapter") for path in CHECKS.glob("chapter[0-9][0-9].py"))
CHAPTERS = 9  # in the whole course


def source(cell: dict) -> str:
    return "".join(cell["source"])


class Exercise(NamedTuple):
    """Where an exercise stands: a notebook and the number of its first cell."""

    path: Path
    at: int

    @property
    def cells(self) -> list[dict]:
        """The exercise, its check and its solution."""
        return read_cells(self.path)[self.at : self.at + 3]

    @property
    def slug(self) -> str:
        return self.cells[0]["id"].removeprefix("turn-").replace("-", "_")

    @property
    def chapter(self) -> str:
        return self.path.name[:2]

    @property
    def solution(self) -> str:
        blocks = re.findall(r"```python\n(.*?)```", source(self.cells[2]), flags=re.DOTALL)
        assert len(blocks) == 1, f"{self.cells[2]['id']} holds {len(blocks)} blocks of Python, wanted is one"
        return blocks[0]

    def function(self, text: str) -> Any:
        """The learner's function: `text` run where the notebook's imports were run, and nothing else was."""
        names = imported_names(self.path)
        exec(compile(text, f"<{self.path.name}: {self.slug}>", "exec"), names)
        return names[f"my_{self.slug}"]


@functools.cache
def read_cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def imported_names(path: Path) -> dict[str, Any]:
    """A namespace in which all imports of a notebook were run."""
    names: dict[str, Any] = {}
    for imports in compiled_imports(path):
        exec(imports, names)
    return names


@functools.cache
def compiled_imports(path: Path) -> list[CodeType]:
    """The imports of each of a notebook's cells."""
    found = []
    for cell in read_cells(path):
        if cell["cell_type"] == "code":
            lines = [line for line in source(cell).splitlines() if not line.startswith(("%", "!"))]
            imports = [n for n in ast.parse("\n".join(lines)).body if isinstance(n, ast.Import | ast.ImportFrom)]
            found.append(compile(ast.Module(imports, []), path.name, "exec"))
    return found


def is_exercise(cell: dict) -> bool:
    return cell["cell_type"] == "code" and "exercise" in cell["metadata"].get("tags", [])


def checks_of(number: str) -> dict[str, Check]:
    module = importlib.import_module(f"handpose_lib.course.exercises.chapter{number}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Check)}


@functools.cache
def wrong_answers(number: str) -> dict[str, dict[str, str]]:
    """check -> hint -> the source of a wrong answer, of one chapter."""
    file = TESTS / "wrong_answers" / f"chapter{number}.py"
    return runpy.run_path(str(file))["WRONG"] if file.is_file() else {}


EXERCISES = [Exercise(path, at) for path in NOTEBOOKS for at, cell in enumerate(read_cells(path)) if is_exercise(cell)]
HINTS = [(n, name, hint) for n in NUMBERS for name, check in checks_of(n).items() for hint in check.mistakes]

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.cells[0]["id"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_has_at_least_two_exercises(path: Path):
    mine = [exercise for exercise in EXERCISES if exercise.path == path]
    assert len(mine) >= 2, f"{path.name} has {len(mine)} cells tagged `exercise`"
    text = [source(cell) for cell in read_cells(path) if cell["cell_type"] == "markdown"]
    assert any("## Your turn" in cell for cell in text)


def test_the_course_has_at_least_twenty_exercises():
    if len(NOTEBOOKS) < CHAPTERS:
        pytest.skip(f"{len(NOTEBOOKS)} of {CHAPTERS} chapters are here")
    assert len(EXERCISES) >= 20


@each_exercise
def test_an_exercise_is_three_cells_that_belong_together(exercise: Exercise):
    cells, slug = exercise.cells, exercise.slug
    turn = cells[0]["id"]
    assert [cell["id"] for cell in cells] == [turn, f"{turn}-check", f"{turn}-solution"]
    assert [cell["cell_type"] for cell in cells] == ["code", "code", "markdown"]
    assert source(cells[1]).strip() == f"check_{slug}(my_{slug})"
    assert "nbval-check-output" in cells[1]["metadata"]["tags"]
    assert re.fullmatch(r"<details><summary>Solution</summary>\n\n.*</details>\n*", source(cells[2]), re.DOTALL)
    blank, solution = (ast.parse(text).body for text in (source(cells[0]), exercise.solution))
    for body in (blank, solution):
        assert len(body) == 1 and isinstance(body[0], ast.FunctionDef) and body[0].name == f"my_{slug}"
    assert ast.dump(blank[0].args) == ast.dump(solution[0].args), "blank and solution take different arguments"


@each_exercise
def test_the_check_is_the_chapters_own(exercise: Exercise):
    name = f"check_{exercise.slug}"
    assert exercise.function(source(exercise.cells[0])) is not None
    assert imported_names(exercise.path).get(name) is checks_of(exercise.chapter)[name]


@each_exercise
def test_the_solution_is_right(exercise: Exercise):
    check = checks_of(exercise.chapter)[f"check_{exercise.slug}"]
    assert check.verdict(exercise.function(exercise.solution)) == check.right


@each_exercise
def test_the_blank_says_not_yet_and_does_so_in_the_notebook(exercise: Exercise):
    check = checks_of(exercise.chapter)[f"check_{exercise.slug}"]
    assert check.verdict(exercise.function(source(exercise.cells[0]))) == NOT_YET
    stored = "".join("".join(output.get("text", "")) for output in exercise.cells[1]["outputs"])
    assert stored == f"{NOT_YET}\n", f"{exercise.cells[1]['id']} is stored with the output {stored!r}"


@pytest.mark.parametrize("number, name, hint", HINTS)
def test_a_wrong_answer_earns_exactly_its_hint(number: str, name: str, hint: str):
    answer = wrong_answers(number).get(name, {}).get(hint)
    assert answer, f"tests/wrong_answers/chapter{number}.py: {name} has no wrong answer for {hint!r}"
    slug = name.removeprefix("check_")
    (exercise,) = [one for one in EXERCISES if one.chapter == number and one.slug == slug]
    assert checks_of(number)[name].verdict(exercise.function(answer)) == f"not right: {hint}"


@pytest.mark.parametrize("number", [path.name[:2] for path in NOTEBOOKS])
def test_no_check_and_no_wrong_answer_is_left_over(number: str):
    checks = checks_of(number) if number in NUMBERS else {}
    used = {f"check_{exercise.slug}" for exercise in EXERCISES if exercise.chapter == number}
    assert set(checks) == used, "each check belongs to one exercise of its notebook"
    wrong = {(name, hint) for name, hints in wrong_answers(number).items() for hint in hints}
    assert wrong == {(name, hint) for name, check in checks.items() for hint in check.mistakes}


def test_the_cases_of_a_check_are_the_same_each_time():
    for number in NUMBERS:
        for name, check in checks_of(number).items():
            first, second = ([check.truth(*case) for case in check.cases()] for _ in range(2))
            for one, other in zip(first, second, strict=True):
                one, other = (value if isinstance(value, tuple) else (value,) for value in (one, other))
                for a, b in zip(one, other, strict=True):
                    assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True), f"chapter {number}: {name}"


# The framework itself, on an exercise of one line: the sum of a vector and a number.
def halves(vector: torch.Tensor, number: float) -> torch.Tensor:
    return (vector + number) / 2


check_halves = Check(
    truth=halves,
    cases=lambda: [(torch.tensor([1.0, 2.0]), 3.0), (torch.tensor([0.0]), 1.0)],
    mistakes={"the half is missing": lambda vector, number: vector + number},
    right="right: half of the sum",
)


def test_a_right_answer_earns_the_checks_own_words(capsys):
    check_halves(halves)
    assert capsys.readouterr().out == "right: half of the sum\n"


def test_an_answer_may_be_a_list_an_array_or_of_another_precision():
    for kind in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.double):
        assert check_halves.verdict(lambda v, n, kind=kind: kind(halves(v, n))) == "right: half of the sum"


@pytest.mark.parametrize("blank", [None, ...])
def test_a_blank_says_not_yet(blank):
    assert check_halves.verdict(lambda vector, number: blank) == "not yet"


def test_an_array_that_is_read_backwards_is_an_answer_like_any_other():
    check = Check(truth=lambda points: points[:, ::-1], cases=lambda: [(np.arange(6.0).reshape(3, 2),)])
    assert check.verdict(lambda points: points[:, ::-1]) == check.verdict(lambda points: points[:, [1, 0]]) == "right"


def test_a_mistake_is_named_by_its_hint():
    assert check_halves.verdict(lambda vector, number: number + vector) == "not right: the half is missing"


def test_a_wrong_shape_is_named_beside_the_wanted_one():
    verdict = check_halves.verdict(lambda vector, number: halves(vector, number)[:, None])
    assert verdict == "not right: its shape is (2, 1), wanted is (2,)"


def test_wrong_numbers_of_the_right_shape_show_the_first_that_differs():
    verdict = check_halves.verdict(lambda vector, number: halves(vector, number) + torch.arange(len(vector)))
    assert verdict == "not right: the shape is right, but the number at [1] is 3.5 and should be 2.5"


def test_a_single_wrong_number_is_shown_without_a_place():
    check = Check(truth=lambda a, b: (a, a + b), cases=lambda: [(1.0, 2.0)])
    assert check.verdict(lambda a, b: (a, a - b)) == (
        "not right: the shape is right, but the number is -1 and should be 3"
    )


def test_an_answer_that_is_nan_is_not_right():
    assert check_halves.verdict(lambda vector, number: vector * torch.nan).startswith("not right")


def test_an_exception_is_reported_and_does_not_stop_the_notebook():
    verdict = check_halves.verdict(lambda vector, number: vector @ vector[:, None, None])
    assert verdict.startswith("not right: it raises RuntimeError: ")
    assert check_halves.verdict(lambda vector: vector).startswith("not right: it raises TypeError: ")


@pytest.mark.parametrize("answer, kind", [("five", "str"), ({"a": 1}, "dict"), ([[1.0], [1.0, 2.0]], "list")])
def test_an_answer_of_the_wrong_kind_is_named(answer, kind):
    verdict = check_halves.verdict(lambda vector, number: answer)
    assert verdict == f"not right: it returns {kind}, where numbers or a tensor are wanted"


def test_an_answer_that_changes_its_arguments_does_not_spoil_the_check():
    def in_place(vector, number):
        return vector.add_(number).div_(2)

    assert check_halves.verdict(in_place) == "right: half of the sum"
