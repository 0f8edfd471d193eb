"""Checksums of a data set's files, kept in its folder by the program that wrote them, so that any damage is noticed."""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from handpose_lib.storage import atomic_path

NAME = ".checksums.json"  # in the data set's folder: path below it -> CRC-32 of the file


def checksum(data: bytes) -> int:
    """CRC-32, as zip files have it."""
    return zlib.crc32(data)


def read_checksums(root: str | Path) -> dict[str, int]:
    """The checksums that were kept in a folder; none where there are none, or where they can't be read."""
    try:
        found = json.loads((Path(root) / NAME).read_text())
    except (OSError, ValueError):
        return {}
    good = isinstance(found, dict) and all(type(value) is int for value in found.values())
    return found if good else {}


def keep_checksums(root: str | Path, sums: Mapping[str, int]) -> None:
    """Adds checksums to those that are kept in a folder."""
    merged = read_checksums(root) | dict(sums)
    with atomic_path(Path(root) / NAME) as temporary:
        temporary.write_text(json.dumps(merged))


def differing(root: str | Path, sums: Mapping[str, int], names: Iterable[str] | None = None) -> list[str]:
    """Those of the files that are missing below `root`, or have another content than `sums` say."""
    return [name for name in (sums if names is None else names) if _sum_of(Path(root) / name) != sums[name]]


def _sum_of(path: Path) -> int | None:
    try:
        return checksum(path.read_bytes())
    except OSError:
        return None
