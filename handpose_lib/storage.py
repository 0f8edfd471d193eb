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
import errno
import getpass
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows, where every disk can lock
    fcntl = None

REMOTE = ("fuse.", "drive", "nfs", "cifs", "smb", "9p", "lustre", "ceph")  # how their types of mounts begin
RENAME_PAUSES = (0.1, 0.3, 1.0, 3.0)  # s between the attempts to rename on a network file system
SET_CACHE = "set HANDPOSE_CACHE to a folder that can be written"
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
    return Path(os.environ.get("HANDPOSE_CACHE") or platformdirs.user_cache_path("handpose")).expanduser()


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
    make_folder(folder, SET_CACHE)
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} can't be written: {SET_CACHE}")
    return folder


def check_space(folder: str | Path, needed: float, what: str) -> None:
    """OSError where fewer than `needed` bytes are free on the disk of `folder`; `what` they are for."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{what} needs {_amount(needed)} in {folder}, where {_amount(free)} are free: make room, or choose "
            "a folder on another disk"
        )


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def make_folder(folder: str | Path, remedy: str = "choose another folder") -> Path:
    """Makes a folder where it is not there yet; OSError that names it, and what to do, where that can't be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} can't be made ({error.strerror or error}): {remedy}") from error
    return folder


def refuse_target(path: str | Path) -> None:
    """OSError where a file can't take the place of what is at `path`: a folder, or a pipe or a device."""
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise OSError(f"{path} is {kind}, and a file is to be written there: give another name")


def check_target(path: str | Path) -> None:
    """OSError where a file could not be written to `path`: to be asked before the work that makes its content."""
    refuse_target(path)
    there = next(place for place in Path(path).absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise OSError(f"{path} can't be written, {there} takes no files ({error.strerror}): choose another") from error


@contextlib.contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and removed when it does not.

    Args:
        path: the file to write; it gets the permissions that the process gives to its files (umask).
        durable: wait until the content is on the disk before it takes the name, so that a power cut leaves the old
            file or the new one; and remove what killed processes left of this file. False for thousands of small files.

    Raises:
        OSError: the disk is full, or a folder, a pipe or a device is there; it names `path`.
    """
    path = Path(path)
    refuse_target(path)
    make_folder(path.parent)
    if durable:
        remove_leftovers(path.parent, path.stem)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{_host()}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with _named_disk_errors(path, temporary):
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            if temporary.stat().st_mode != mode:  # some libraries write files that nobody else may read
                temporary.chmod(mode)
            if durable:
                _to_disk(temporary)
            replace(temporary, path)
            if durable:
                _to_disk(path.parent)
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


def _to_disk(path: Path) -> None:
    """Waits until a file or a folder's list of names is on the disk; some systems can't say that of folders."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def _named_disk_errors(path: Path, temporary: Path) -> Iterator[None]:
    """Turns the many ways in which libraries say that a disk is full into one sentence, and names `path` in others."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.strerror and error.filename == str(temporary):
            error.filename = str(path)  # nobody knows the temporary one
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and "No space left" not in str(error):
            raise
        cause = "no file may be so large there" if getattr(error, "errno", 0) == errno.EFBIG else "the disk is full"
        raise OSError(f"{path} could not be written, {cause}: make room, or choose a folder on another disk") from error


def remove_leftovers(folder: str | Path, stem: str | None = None, certain: bool = False) -> None:
    """Removes temporary files that killed processes left in a folder.

    Args:
        folder: where `atomic_path` wrote.
        stem: of the file that they were for; None: of any.
        certain: nobody writes there now, because a lock is held; otherwise a file goes only if its process is gone.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if not found or (stem is not None and found["stem"] != stem):
                continue
            if certain or (found["host"] == _host() and not _is_running(int(found["process"]))):
                Path(entry.path).unlink(missing_ok=True)


_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<process>\d+)(-(?P<host>[0-9a-f]{6}))?\.[0-9a-f]{8}(\.[^.]*)?")


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _is_running(process: int) -> bool:
    if os.name == "nt" or process == os.getpid():  # on Windows, to ask would be to kill
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def lock_for(path: str | Path, patience: float = 3600.0) -> Iterator[None]:
    """Lets one process at a time make `path`; a process that dies gives the lock back.

    Whoever holds it removes what killed processes left of `path`. The lock is a file beside `path`; on a network file
    system, or a disk that can't lock, it lies in this machine's folder for temporary files, and where that can't lock
    either, there is a warning and no lock.

    Args:
        path: what is made under the lock.
        patience: seconds to wait for another process; after 5 s a line says what is waited for.

    Raises:
        TimeoutError: another process holds it for too long; it names the lock file.
        OSError: the lock file can't be made.
    """
    path = Path(path)
    make_folder(path.parent)
    file = _lock_file(path)
    if file is None:
        warnings.warn(f"{path.parent} is on a disk that can't lock: start no second process there", stacklevel=3)
        yield
        return
    lock = FileLock(str(file))
    try:
        lock.acquire(timeout=min(5.0, patience))
    except Timeout:
        _wait(lock, file, patience - 5.0)
    try:
        remove_leftovers(path.parent, path.stem, certain=True)
        yield
    finally:
        lock.release()


def _wait(lock: FileLock, file: Path, patience: float) -> None:
    if patience > 0:
        print(f"handpose: waiting for another process, which holds {file}", file=sys.stderr, flush=True)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=patience)
            return
    raise TimeoutError(f"another process holds {file}: wait until it is done, or stop it, and run again")


def _lock_file(path: Path) -> Path | None:
    """The file that stands for the lock: beside `path`, or where locking works; None where it does nowhere."""
    beside = path.with_name(f".{path.name}.lock")
    if not is_remote(path.parent) and _can_lock(beside):
        return beside
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    elsewhere = Path(tempfile.gettempdir()) / f"handpose-{_user()}-{name}.lock"
    return elsewhere if _can_lock(elsewhere) else None


def _user() -> str:
    """The user's name; the number of one without a name, as containers have."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return str(os.getuid())


def _can_lock(file: Path) -> bool:
    if fcntl is None:
        return True
    try:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OSError(f"{file} can't be written ({error.strerror}): choose another folder") from error
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)  # it can: another process has it now
    finally:
        os.close(number)
