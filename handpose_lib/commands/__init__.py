"""The commands of `handpose`, one module each: `add_options(parser)`, and `run(options)` where it is one command."""

from pathlib import Path


def weights_file(name: str) -> Path | None:
    """The file with weights that an option names; None, as where the option is left out, for the word bundled."""
    return None if name == "bundled" else Path(name)
