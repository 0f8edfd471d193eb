"""What CONTRIBUTING says was tried is what there is: its tables, the faults that were drawn, and the sabotages."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import mutants  # noqa: E402
import sabotages  # noqa: E402
import tried  # noqa: E402

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FAULTS = mutants.read(mutants.RESULTS)
EQUIVALENT = mutants.read(mutants.EQUIVALENT)


def shown(name: str) -> list[list[str]]:
    """The cells of a table of the page."""
    (text,) = re.findall(rf"<!-- table: {name} -->\n(.*?)\n<!-- /table -->", PAGE, re.DOTALL)
    return cells(text)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_table_of_faults_is_what_the_results_say():
    assert shown("mutants") == cells(mutants.table()), "write it anew: python benchmarks/mutants.py table"


def collected_here(request: pytest.FixtureRequest) -> list[str] | None:
    """The tests that this very run has collected, where it leaves out none of those files."""
    option, items = request.config.option, request.session.items
    chosen = option.keyword or option.markexpr or option.deselect or getattr(option, "lf", False)
    files = {file for _, files, _, _ in tried.KINDS for file in files.split()}
    if chosen or any("::" in name for name in request.config.args) or files - {item.path.name for item in items}:
        return None
    return [item.nodeid for item in items]


def test_what_was_tried_is_there_to_be_tried_again(request):
    there = cells(tried.table(collected_here(request)))
    assert [row[0] for row in shown("tried")] == [row[0] for row in there], "write it anew: python benchmarks/tried.py"
    for row, now in zip(shown("tried")[2:], there[2:], strict=True):
        stated, count = (int(cell[1].replace(",", "")) for cell in (row, now))
        assert row[2:3] == now[2:3] and 0.8 * count <= stated <= count, f"{row[0]}: {stated} stated, {count} are there"


def test_enough_faults_were_tried_and_most_were_noticed():
    assert len(FAULTS) >= 280 and {row["module"] for row in FAULTS} <= set(mutants.OWN_TESTS)
    noticed = sum(row["outcome"] in mutants.NOTICED for row in FAULTS)
    assert noticed >= 0.85 * len(FAULTS)


def test_each_fault_that_was_not_noticed_has_a_reason():
    reasons = {(row["module"], row["before"], row["after"]): row["reason"] for row in EQUIVALENT}
    for row in FAULTS:
        if row["outcome"] not in mutants.NOTICED:
            key = row["module"], row["before"], row["after"]
            assert len(reasons.get(key, "")) > 20, f"a test or a reason is missing: {key}"


@pytest.mark.parametrize("sabotage", sabotages.SABOTAGES, ids=lambda sabotage: sabotage.what)
def test_a_sabotage_can_still_be_applied_and_was_noticed(sabotage):
    source = (ROOT / "handpose_lib" / f"{sabotage.module}.py").read_text(encoding="utf-8")
    assert source.count(sabotage.before) == 1, f"{sabotage.module}.py no longer has {sabotage.before!r} once"
    file, _, name = sabotage.test.partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8") or not name
    (row,) = (row for row in mutants.read(sabotages.RESULTS) if row["what"] == sabotage.what)
    assert row["outcome"] == "noticed" and row["test"] == sabotage.test


def test_the_table_counts_the_sabotages():
    count = len(sabotages.SABOTAGES)
    assert f"| {count} | `benchmarks/sabotages.py` | {count} noticed by a named test |" in PAGE


def test_faults_are_drawn_the_same_way_each_time_and_none_is_in_a_type_hint():
    pytest.importorskip("cosmic_ray", reason="the extra `mutants` is not installed")
    source = "def half(x: int | None) -> float | None:\n    return x / 2 if x is not None and x > 0 else None\n"
    first, again = (mutants.mutants_of("half", source, 20, seed=3) for _ in range(2))
    assert first == again and len(first) >= 4
    assert all(mutant.after.startswith("return") and mutant.line == 2 for mutant in first)
