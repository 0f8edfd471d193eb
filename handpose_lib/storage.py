"""Where derived files live, and how they are written: whole or not at all."""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock

INSTALLED = Path(__file__).resolve().parent / "bundled"  # where a wheel has them


def checkout_root() -> Path | None:
    """Folder of the repository that the package runs from; None after a plain `pip install`."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def bundled_file(name: str) -> Path:
    """A file of a checkout, or its copy in the installed package; FileNotFoundError where it is in neither.

    Args:
        name: path in the checkout; a wheel holds all such files in one folder (see `pyproject.toml`).
    """
    root = checkout_root()
    candidates = [root / name] if root else []
    candidates.append(INSTALLED / Path(name).name)
    for path in candidates:
        if path.is_file():
            return path
    places = " nor ".join(str(path) for path in candidates)
    raise FileNotFoundError(
        f"{Path(name).name} comes with the project, but is not at {places}: restore it, or reinstall the package"
    )


def user_cache() -> Path:
    """`$HANDPOSE_CACHE` where it is set, else the operating system's cache folder for this user."""
    return Path(os.environ.get("HANDPOSE_CACHE") or platformdirs.user_cache_path("handpose"))


def runs_folder() -> Path:
    """`runs/` of the checkout; without a checkout, `runs/` of the folder one works in."""
    return (checkout_root() or Path.cwd()) / "runs"


def derived_folder(root: str | Path) -> Path:
    """Existing folder for what is computed from the data set at `root`.

    Beside the data, as `root/.handpose`. Under `user_cache()` where `$HANDPOSE_CACHE` asks for it or `root` is
    read-only (by its mode bits too: an administrator could write there, and should not).
    """
    root = Path(root).resolve()
    writable = os.access(root, os.W_OK) and root.stat().st_mode & 0o222
    if writable and not os.environ.get("HANDPOSE_CACHE"):
        with contextlib.suppress(OSError):
            (root / ".handpose").mkdir(exist_ok=True)
            if os.access(root / ".handpose", os.W_OK):
                return root / ".handpose"
    folder = user_cache() / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_space(folder: str | Path, needed: float, what: str) -> None:
    """OSError where fewer than `needed` bytes are free on the disk of `folder`; `what` they are for."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: make room, or choose "
            "a folder on another disk"
        )


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def lock_for(path: str | Path) -> FileLock:
    """A lock that one process at a time holds while it makes `path`; released even when the process dies."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))
