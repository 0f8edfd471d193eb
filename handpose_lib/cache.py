"""What is computed from a data set's files once and kept on disk, and how one knows that it still holds.

An entry has a fingerprint of all that it was computed from, and a checksum of its content. Where either does not fit,
whatever the reason, it is computed again. One process at a time does so, the others wait; the file takes its name when
it is whole and on the disk.
"""

import errno
import hashlib
import json
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from handpose_lib.storage import atomic_path, check_space, lock_for

VERSION = 3  # raise it when entries of the same sources begin to have another content
CHUNK = 1 << 24  # bytes


def fingerprint(files: Iterable[Path], *facts: Any) -> str:
    """A hash of `facts` (JSON values) and of each file's name, size and time of change.

    Raises:
        FileNotFoundError: a file is gone.
    """
    digest = hashlib.sha256(json.dumps([VERSION, *facts]).encode())
    for path in files:
        try:
            stat = os.stat(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is gone since the data set was opened: open it again") from None
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cached_arrays(path: Path, mark: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, from the file `path` (.npz) or from `make()`.

    Args:
        path: the entry; the zip format that it is in has checksums of its own.
        mark: its `fingerprint`.
        make: computes the arrays; what it raises leaves no entry.
    """
    with lock_for(path):
        arrays = _read_arrays(path, mark)
        if arrays is None:
            arrays = make()
            with atomic_path(path) as temporary:
                np.savez(temporary, fingerprint=np.array(mark), **arrays)
    return arrays


def _read_arrays(path: Path, mark: str) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return arrays if str(arrays.pop("fingerprint")) == mark else None
    except Exception:  # not there, half written, of another format: in any case it is rebuilt
        return None


def cached_bytes(
    path: Path, mark: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], None], what: str
) -> np.ndarray:
    """A large uint8 array, memory-mapped from the file `path` (.npy), which `fill` computes where it must.

    Args:
        path: the entry; its note with fingerprint and checksum lies beside it (.json).
        mark: its `fingerprint`.
        shape: of the array.
        fill: writes the content into the array that it is given; what it raises leaves no entry.
        what: the entry in words, for errors.

    Returns:
        The array, copy-on-write, so that the file never changes.

    Raises:
        OSError: the disk has no room for it.
    """
    with lock_for(path):
        if not _is_current(path, mark, shape):
            check_space(path.parent, math.prod(shape), what)
            with atomic_path(path) as temporary:
                array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                _reserve(temporary, array.offset)
                fill(array)
                array.flush()
                del array  # the file must be closed before it can be moved on Windows
                checksum = _checksum(temporary)
            with atomic_path(path.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps({"fingerprint": mark, "checksum": checksum}))
        return np.load(path, mmap_mode="c")


def _is_current(path: Path, mark: str, shape: tuple[int, ...]) -> bool:
    """Whether an entry is there, computed from what is there now, and as it was written."""
    try:
        note = json.loads(path.with_suffix(".json").read_text())
        if note["fingerprint"] != mark:
            return False
        array = np.load(path, mmap_mode="r")
        if array.shape == shape and array.dtype == np.uint8 and note["checksum"] == _checksum(path):
            return True
    except FileNotFoundError:
        return False
    except Exception:  # cut, garbled, of another format: in any case it is computed again
        pass
    warnings.warn(f"{path} was damaged: it will be rebuilt", stacklevel=4)
    return False


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            total = zlib.crc32(block, total)
    return total


def _reserve(path: Path, start: int) -> None:
    """Takes a file's space on the disk before it is mapped; a mapped page without space would kill the process."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        file.seek(start)
        for first in range(start, size, CHUNK):
            file.write(bytes(min(CHUNK, size - first)))
