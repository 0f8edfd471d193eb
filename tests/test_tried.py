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


@pytest.mark.parametrize(("name", "table"), [("mutants", mutants.table), ("tried", tried.table)])
def test_the_tables_are_what_the_results_and_the_tests_say(name: str, table):
    (shown,) = re.findall(rf"<!-- table: {name} -->\n(.*?)\n<!-- /table -->", PAGE, re.DOTALL)
    assert shown == table(), "write it anew: python benchmarks/tried.py, python benchmarks/mutants.py table"


def test_enough_faults_were_tried_in_every_module_and_most_were_noticed():
    assert len(FAULTS) >= 300 and {row["module"] for row in FAULTS} == set(mutants.OWN_TESTS)
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


def test_faults_are_drawn_the_same_way_each_time_and_none_is_in_a_type_hint():
    pytest.importorskip("cosmic_ray", reason="the extra `mutants` is not installed")
    source = "def half(x: int | None) -> float | None:\n    return x / 2 if x is not None and x > 0 else None\n"
    first, again = (mutants.mutants_of("half", source, 20, seed=3) for _ in range(2))
    assert first == again and len(first) >= 4
    assert all(mutant.after.startswith("return") and mutant.line == 2 for mutant in first)
