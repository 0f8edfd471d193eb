"""How files of others are read: nobody waits for a pipe, and an error of the disk names the file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def refuse_special(path: str | Path) -> None:
    """ValueError for a pipe or a device, of which reading may have no end; nothing where a file or none is there."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is a pipe or a device, not a file: save what it gives, and give that file")


def refuse_no_text(path: str | Path) -> None:
    """ValueError for a name with bytes that are no letters: libraries written in C crash at it, or find no file."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} has bytes in its name that are no letters in UTF-8: rename it") from None


@contextlib.contextmanager
def named_errors(path: str | Path) -> Iterator[None]:
    """Has errors of the disk in the block name the file: a read that fails on the way does not say of what."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or not error.errno:
            raise
        raise OSError(f"{path} can't be read ({error.strerror}): is its disk or its Drive still connected?") from error


def sentence_of(error: Exception) -> str:
    """What an error says, in one line; Python's own words for an error of the disk are put in another order.

    >>> sentence_of(IsADirectoryError(21, "Is a directory", "a.json"))
    "a.json can't be used (Is a directory): give another path"
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename} can't be used ({error.strerror}): give another path"
    else:
        text = str(error)
    return " ".join(text.split())
