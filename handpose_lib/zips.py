"""Unpacking a data set's zip: nothing leads out of the folder, everything is checked, what is whole is left alone."""

import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from handpose_lib.checksums import keep_checksums, read_checksums
from handpose_lib.storage import atomic_path, check_space, remove_leftovers

CHUNK = 1 << 20  # bytes
FEWEST_OTHERS = 3  # files of another content that are not taken for damage
AGAIN = "delete the zip and run again; it will be downloaded again"


def progress_line(what: str, shown: bool = True, **options: Any) -> tqdm:
    """A bar on standard output, one line of text that is written over: in a terminal, and below a notebook's cell.

    Where nobody looks (a log file), it is written every ten seconds only.
    """
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    pause = 0.5 if watched else 10.0
    return tqdm(desc=what, disable=not shown, file=sys.stdout, mininterval=pause, ncols=100, **options)


def restore(zip_path: Path, root: Path, progress: bool, forbidden: Iterable[str] = ()) -> set[PurePosixPath]:
    """Unpacks those of a zip's files that are not in `root` with the content that they have in the zip.

    Args:
        zip_path: the zip; every file in it is checked before the first one is written.
        root: where to; the files' checksums are kept there.
        progress: show bars.
        forbidden: names in `root` that a zip must not write.

    Returns:
        The files, as paths below `root`.

    Raises:
        ValueError: a file in it is damaged, can't be read or leads out of `root`; it names the zip and the file. Or
            another data set lies in `root`.
    """
    try:
        with zipfile.ZipFile(zip_path) as archive:
            targets = _targets(archive, zip_path, set(forbidden))
            _check_members(archive, zip_path, progress)
            missing = [(info, path) for info, path in targets if _crc_of(root / path, info.file_size) != info.CRC]
            _refuse_others(missing, len(targets) - len(missing), root)
            check_space(root, sum(info.file_size for info, _ in missing), f"unpacking {zip_path.name}")
            for folder in {(root / path).parent for _, path in missing}:
                remove_leftovers(folder, certain=True)
            for info, path in progress_line(f"unpack {zip_path.name}", progress, iterable=missing, unit="file"):
                _write(archive, info, root / path, zip_path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{zip_path} is not a complete zip file ({error}): {AGAIN}") from error
    keep_checksums(root, {path.as_posix(): info.CRC for info, path in targets})
    return {path for _, path in targets}


def _refuse_others(missing: list[tuple[zipfile.ZipInfo, PurePosixPath]], whole: int, root: Path) -> None:
    """ValueError where most files at the places of the zip's were never those: another data set lies there.

    Args:
        missing: files that are not there as the zip has them.
        whole: how many are.
        root: where they belong.
    """
    known = read_checksums(root)
    there = [(info, path) for info, path in missing if (root / path).is_file() and (root / path).stat().st_size]
    others = [path for info, path in there if known.get(path.as_posix()) != info.CRC]
    if len(others) >= FEWEST_OTHERS and len(others) > (whole + len(there)) / 2:
        raise ValueError(
            f"{root} holds another data set: {others[0]} and {len(others) - 1:,} more files are not those of the zip, "
            "and would be replaced: give another --root, or delete them"
        )


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, zip_path: Path) -> None:
    try:
        with (
            atomic_path(target, durable=False) as temporary,
            temporary.open("wb") as file,
            archive.open(info) as source,
        ):
            shutil.copyfileobj(source, file, CHUNK)
            file.flush()
    except OSError as error:
        raise OSError(f"{info.filename} of {zip_path} can't be written to {target} ({error})") from error


def _targets(
    archive: zipfile.ZipFile, zip_path: Path, forbidden: set[str]
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Members that are files, each with its path below the root; none leads out of it, hidden ones are left out."""
    members = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or any(mark in info.filename for mark in "\\:"):
            raise ValueError(f"{zip_path} holds {info.filename!r}, which leads out of the folder: nothing was unpacked")
        hidden = not path.parts or any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if not info.is_dir() and not hidden:
            members.append(info)
    paths = [PurePosixPath(info.filename) for info in members]
    tops = {path.parts[0] for path in paths}
    if len(tops) == 1 and not tops & {"training", "evaluation"} and all(len(path.parts) > 1 for path in paths):
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    folders = {parent for path in paths for parent in path.parents}
    for path in paths:
        if path in folders or path.as_posix() in forbidden:
            raise ValueError(
                f"{zip_path} holds {path.as_posix()!r}, which does not belong to the data set: download it again"
            )
    last = dict(zip(paths, members, strict=True))  # of several with one name the last counts
    return [(info, path) for path, info in last.items()]


def _check_members(archive: zipfile.ZipFile, zip_path: Path, progress: bool) -> None:
    """`ZipFile.testzip` with a progress bar, and an error for whatever can be wrong with a member."""
    total = sum(info.file_size for info in archive.infolist())
    with progress_line(f"check {zip_path.name}", progress, total=total, unit="B", unit_scale=True) as bar:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise ValueError(f"{zip_path}: {info.filename} is encrypted, and FreiHAND's files are not: {AGAIN}")
            try:
                with archive.open(info) as member:
                    while block := member.read(CHUNK):
                        bar.update(len(block))
            except Exception as error:  # zlib's, lzma's, zipfile's, NotImplementedError for an unknown method
                raise ValueError(f"{zip_path}: {info.filename} is damaged ({error}): {AGAIN}") from error


def _crc_of(path: Path, size: int) -> int | None:
    """CRC-32 of a file of that size; None where there is none."""
    try:
        if path.stat().st_size != size:
            return None
        total = 0
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                total = zlib.crc32(block, total)
        return total
    except OSError:
        return None
