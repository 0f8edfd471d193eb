"""Where derived files live, and how they are written: whole or not at all.

Results may lie on a network file system, such as a Google Drive that is mounted on Colab. What such a file system
lacks, and what is done about it:

- no hard links: nothing here makes any; a file is written under another name and then renamed;
- slow renames, which may fail for a moment: `atomic_path` tries again for some seconds, and `Trainer` keeps the
  checkpoint before the last beside it;
- no locks, or such that wait for ever: `lock_for` puts the lock on the machine's own disk instead. It then holds
  between the processes of this machine, which are all that a Drive is mounted for.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock

REMOTE = ("fuse.", "drive", "nfs", "cifs", "smb", "9p", "lustre", "ceph")  # how their types of mounts begin
RENAME_PAUSES = (0.1, 0.3, 1.0, 3.0)  # s between the attempts to rename on a network file system
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


def base_folder() -> Path:
    """Where relative places begin: the checkout; without one, the folder one works in."""
    return checkout_root() or Path.cwd()


def work_folder() -> Path:
    """`runs/` of `base_folder()`, on this machine's own disk: for what is large and can be made again."""
    return base_folder() / "runs"


def runs_folder() -> Path:
    """Where results go: `$HANDPOSE_RUNS` where it is set (a folder on a Drive, say), else `work_folder()`."""
    named = os.environ.get("HANDPOSE_RUNS")
    return base_folder() / Path(named).expanduser() if named else work_folder()


def drive_folder() -> Path:
    """Where Google Drive is mounted: `$HANDPOSE_DRIVE` where it is set, else Colab's usual place."""
    return Path(os.environ.get("HANDPOSE_DRIVE") or "/content/drive")


def is_remote(folder: str | Path) -> bool:
    """Whether a folder lies on a network file system: on a mounted Drive, or as Linux's list of mounts says."""
    folder = Path(folder).expanduser().absolute()
    if folder.is_relative_to(drive_folder().absolute()):
        return True
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return False
    mounts = [(line.split()[1].replace("\\040", " "), line.split()[2]) for line in lines if len(line.split()) > 2]
    holding = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    return bool(holding) and max(holding)[1].startswith(REMOTE)


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
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """`os.replace`, which on a network file system is tried again when it fails for a moment."""
    for pause in RENAME_PAUSES if is_remote(target.parent) else ():
        try:
            return os.replace(source, target)
        except OSError:
            time.sleep(pause)
    os.replace(source, target)


def lock_for(path: str | Path) -> FileLock:
    """A lock that one process at a time holds while it makes `path`; released even when the process dies.

    It lies beside `path`; for one on a network file system, in this machine's folder for temporary files.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(path.parent):
        place = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
        return FileLock(Path(tempfile.gettempdir()) / f"handpose-{place}.lock")
    return FileLock(path.with_name(f".{path.name}.lock"))
