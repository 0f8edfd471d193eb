"""Two mends to nbval: wait for a cell's output as long as for the cell, and stop a notebook at its first failure.

Stored outputs are those of `quick`, whatever was chosen in chapter 00 of this checkout.
"""

import os
from collections.abc import Iterator

import pytest

# Chapter 06 trains the network that 07 begins with: the longest of the others are taken between the two, and the
# shortest at the end.
FIRST = ("06", "04", "05", "08", "07", "10", "03", "09")
os.environ.setdefault("HANDPOSE_PRESET", "quick")
failed_notebooks: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which two processes take the chapters, so that neither waits for the other."""
    place = {chapter: number for number, chapter in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name[:2], len(FIRST)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    if outcome.get_result().failed and item.path.suffix == ".ipynb":
        failed_notebooks.add(str(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.suffix != ".ipynb":
        return
    item.output_timeout = 600  # nbval waits 5 s for what a slow cell prints at its end
    if str(item.path) in failed_notebooks:
        pytest.skip("an earlier cell of this notebook failed")
