"""Tables that a recipe fills run by run: what is in the CSV file already is not run again."""

import csv
from pathlib import Path

from handpose_lib.storage import atomic_path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_rows` wrote; none where it is not there yet."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict[str, str]], path: Path) -> None:
    """Write the table, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
