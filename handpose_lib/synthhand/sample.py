"""The small SynthHAND that comes with the project: where it is, and how it is built.

`sample_root()` is all that a reader needs. `python -m handpose_lib.synthhand.sample --rebuild` rebuilds the zip.
"""

import argparse
import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from ..checksums import differing, keep_checksums, read_checksums
from ..storage import SET_CACHE, atomic_path, bundled_file, checkout_root, lock_for, make_folder, user_cache
from .dataset import write_dataset

SAMPLE_SHA256 = "9485c23ae0ae52462ee87d28aa1cd42eda3f87a95d1d7912ef1c59734c03a7b6"
SAMPLE_HANDS, SAMPLE_EVALUATION_HANDS, SAMPLE_QUALITY = 400, 32, 80
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def bundled_zip() -> Path:
    """The zip in `data/` of a checkout, or in the installed package; FileNotFoundError where it is in neither."""
    return bundled_file("data/synthhand.zip")


def sample_root() -> Path:
    """Folder with the sample in FreiHAND's layout, unpacked on first use.

    It is `runs/synthhand-<hash>/` in a checkout and lies in `user_cache()` otherwise.

    Raises:
        ValueError: the zip is not the one that this version of the library was made with.
        OSError: there is no place for it; it says how to name one.
    """
    parent = (checkout_root() / "runs") if checkout_root() else user_cache()
    target = parent / f"synthhand-{SAMPLE_SHA256[:8]}"
    if target not in _found_whole and not _is_whole(target):
        if checkout_root() is None:
            make_folder(parent, SET_CACHE)
            if not os.access(parent, os.W_OK):
                raise OSError(f"{parent} can't be written: {SET_CACHE}")
        with lock_for(target):
            for left in parent.glob(f".{target.name}.*.unpacking"):  # by processes that were killed
                shutil.rmtree(left, ignore_errors=True)
            if not _is_whole(target):
                _unpack(bundled_zip(), target)
    _found_whole.add(target)
    return target


_found_whole: set[Path] = set()  # samples that this process has looked at


def _is_whole(target: Path) -> bool:
    """Whether every file of an unpacked sample is there as it was written."""
    if not (target / "training_K.json").is_file():
        return False
    try:
        sums = read_checksums(target) or _sums_in(bundled_zip())
    except FileNotFoundError:  # neither checksums nor the zip: nothing that says otherwise
        return True
    return not differing(target, sums)


def _sums_in(archive: Path) -> dict[str, int]:
    """The checksums that a zip has of its files."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return {entry.filename: entry.CRC for entry in opened.infolist() if not entry.is_dir()}
    except zipfile.BadZipFile:
        return {}


def _unpack(archive: Path, target: Path) -> None:
    """Checks the zip and unpacks it beside `target`, then renames."""
    found = sha256(archive)
    if found != SAMPLE_SHA256:
        raise ValueError(
            f"{archive} is damaged or of another version: its SHA-256 is {found[:16]}..., expected "
            f"{SAMPLE_SHA256[:16]}.... Restore it with `git checkout -- data/synthhand.zip`, or reinstall the package."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = {"dir": target.parent, "prefix": f".{target.name}.", "suffix": ".unpacking"}
    with tempfile.TemporaryDirectory(**beside) as temporary:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(Path(temporary) / "set")
        keep_checksums(Path(temporary) / "set", _sums_in(archive))
        if target.is_dir():  # left behind half unpacked by something else
            shutil.rmtree(target)
        (Path(temporary) / "set").rename(target)


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def make_sample(
    out_zip: str | Path,
    hands: int = SAMPLE_HANDS,
    evaluation_hands: int = SAMPLE_EVALUATION_HANDS,
    workers: int | None = None,
    quality: int = SAMPLE_QUALITY,
) -> str:
    """Renders the sample into a zip and returns its SHA-256; the same machine makes the same bytes again."""
    out_zip = Path(out_zip)
    out_zip.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="synthhand.") as temporary:
        root = write_dataset(
            Path(temporary) / "set", hands, workers=workers, evaluation_hands=evaluation_hands, quality=quality
        )
        with atomic_path(out_zip) as partial:
            pack(root, partial)
    return sha256(out_zip)


def pack(root: Path, out_zip: Path) -> None:
    """Zips a folder with sorted names and fixed times, without hidden files; JPEG files are stored as they are."""
    with zipfile.ZipFile(out_zip, "w") as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if path.suffix == ".jpg" else zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="The sample that comes with the project: find it or rebuild it.")
    parser.add_argument("--rebuild", action="store_true", help="render data/synthhand.zip again")
    parser.add_argument("--workers", type=int, help="processes (default: all cores)")
    arguments = parser.parse_args()
    if not arguments.rebuild:
        print(sample_root())
        return
    root = checkout_root()
    if root is None:
        parser.error("--rebuild needs a checkout of the project: an installed package has no data/ to write to")
    path = root / "data" / "synthhand.zip"
    digest = make_sample(path, workers=arguments.workers)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    print(f'Set SAMPLE_SHA256 = "{digest}" in {Path(__file__).name}.')


if __name__ == "__main__":
    main()
