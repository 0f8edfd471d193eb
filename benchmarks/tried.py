"""CONTRIBUTING's table "What was tried": counted from what pytest collects, and from the results beside this file.

python benchmarks/tried.py        writes the table; `tests/test_tried.py` holds the page to it
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from mutants import NOTICED, RESULTS, ROOT, put_table, read
from sabotages import RESULTS as SABOTAGED

# What was tried, the tests that try it (file, and a pattern of names), and how each must end.
KINDS: tuple[tuple[str, str, str, str], ...] = (
    (
        "seeded damage to trees, pictures, caches, weights and runs", "test_fuzz.py", "",
        "as before, or one sentence that names the file (`make fuzz` tries 2,000)",
    ),
    (
        "damaged or foreign checkpoints, weights and caches", "test_train.py test_unet.py test_storage.py",
        "damage|lost_beside|garbled|flipped_bit|does_not_fit|that_failed|other_files",
        "named in one sentence, never executed; caches are rebuilt",
    ),
    ("damaged, turned and odd pictures", "test_pictures.py", "", "read as viewers show them, or refused by name"),
    (
        "downloads that break off, stall or are replaced, and damaged zips", "test_download.py", "",
        "resumed, or one sentence",
    ),
    (
        "annotations and labels that can't be meant", "test_freihand.py test_keypoint_folder.py",
        "refus|named|wrong|damag|error|missing|bad_|one_sentence|cannot|can_not|broken|not_there",
        "refused with file and entry",
    ),
    (
        "arguments, labels, pipes and our own output taken for input", "test_meant.py test_meant_commands.py", "",
        "refused in one sentence",
    ),
    (
        "files of others where results go, links, gaps, odd names, closed streams, signals", "test_meant_files.py", "",
        "kept, read, or refused in one sentence",
    ),
    (
        "writers that are killed at seeded moments of a write", "test_kills.py", "",
        "the old file or the new one; the next run works and cleans up",
    ),
    ("writers on a full disk", "test_full_disk.py", "", "one sentence that names the file; the old files stay"),
    (
        "properties of any input, each with up to 60 drawn examples", "test_properties.py", "", "hold",
    ),
    (
        "exercises solved wrongly in a likely way", "test_exercises.py", "", "the right hint",
    ),
)  # fmt: skip


def collected(files: Sequence[str]) -> list[str]:
    """The tests in some files, as pytest names them; none is run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HANDPOSE_FUZZ": "200"}
    paths = [f"tests/{file}" for file in files]
    done = subprocess.run([*command, *paths], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def table(tests: Sequence[str] | None = None) -> str:
    """What was tried, how often, where, and how it must end, as Markdown.

    Args:
        tests: names of all tests, from who has collected them already; None: they are collected now.
    """
    if tests is None:
        tests = collected(sorted({file for _, files, _, _ in KINDS for file in files.split()}))
    rows = []
    for what, files, pattern, end in KINDS:
        names = [name for name in tests if name.split("::")[0].removeprefix("tests/") in files.split()]
        count = sum(bool(re.search(pattern, name.split("::", 1)[1])) for name in names)
        rows.append((what, f"{count:,}", " ".join(f"`{file}`" for file in files.split()), end))
    sabotaged = read(SABOTAGED)
    noticed = sum(row["outcome"] == "noticed" for row in sabotaged)
    rows.append(
        (
            "promised behaviour that is broken on purpose",
            f"{len(sabotaged)}",
            "`benchmarks/sabotages.py`",
            f"{noticed} noticed by a named test",
        )
    )
    faults = read(RESULTS)
    noticed = sum(row["outcome"] in NOTICED for row in faults)
    rows.append(
        (
            "small faults drawn by chance",
            f"{len(faults)}",
            "`benchmarks/mutants.py`",
            f"{noticed} noticed, see the next table",
        )
    )
    head = "| what was tried | how many | where | and how it ends |\n| --- | --- | --- | --- |\n"
    return head + "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    put_table("tried", table())
