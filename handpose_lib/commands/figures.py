"""`handpose figures`: the README's pictures and tables, redrawn from the files in `figures/`."""

import argparse
from pathlib import Path

from handpose_lib import figures
from handpose_lib.storage import checkout_root


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose figures`."""
    parser.add_argument("--results", type=Path, help="first copy chapter 07's CSV from here, as in runs/results")


def run(options: argparse.Namespace) -> None:
    """Write all pictures and tables, and name the files."""
    root = checkout_root()
    if root is None:
        raise ValueError("figures/ and the README are in a checkout of the project, and this is an installed package")
    pages = [root / "README.md", root / "data" / "weights" / "README.md"]
    for path in figures.write_all(pages, root / "figures", options.results):
        print(path.relative_to(root))
