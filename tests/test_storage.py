"""Files are written whole or not at all, caches are trusted only while they hold, and no lock waits for ever."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from handpose_lib import cache, reading, storage
from handpose_lib.storage import atomic_path, is_remote, lock_for, runs_folder, work_folder

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and signals of POSIX systems")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock"))


def killed_while_writing(path: Path, locked: bool = False) -> None:
    """Leaves what a process leaves that is killed while it writes `path`."""
    code = (
        "import contextlib, os, signal, sys\n"
        "from handpose_lib.storage import atomic_path, lock_for\n"
        f"with {'lock_for' if locked else 'contextlib.nullcontext'}(sys.argv[1]), atomic_path(sys.argv[1]) as t:\n"
        "    t.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(names(path.parent)) >= 1


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert names(tmp_path) == ["a.txt"] and path.read_text() == "old"


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_gets_the_mode_that_the_umask_gives_whatever_wrote_it(tmp_path, umask, mode):
    def private(temporary: Path) -> None:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a.bin") as temporary:
            private(temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    killed_while_writing(tmp_path / "a.npy")
    killed_while_writing(tmp_path / "b.npy")
    assert len(names(tmp_path)) == 2
    with atomic_path(tmp_path / "a.npy") as temporary:
        temporary.write_bytes(b"whole")
    assert len(names(tmp_path)) == 2 and "a.npy" in names(tmp_path), "only its own are removed"


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "a.npy") as first:
        with atomic_path(tmp_path / "a.npy") as second:
            second.write_bytes(b"second")
        first.write_bytes(b"first")
    assert (tmp_path / "a.npy").read_bytes() == b"first"


@posix
def test_under_a_lock_whatever_is_left_is_removed_even_from_another_computer(tmp_path):
    killed_while_writing(tmp_path / "a.npy", locked=True)
    (tmp_path / f".a.{os.getpid()}-0123ab.89abcdef.npy").write_bytes(b"from elsewhere")
    (tmp_path / f".a.{os.getpid()}.89abcdef.npy").write_bytes(b"from an earlier version")
    with lock_for(tmp_path / "a.npy"):
        assert names(tmp_path) == []


@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left")])
def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path, raised):
    message = r"a\.npy could not be written, the disk is full"
    with pytest.raises(OSError, match=message) as caught, atomic_path(tmp_path / "a.npy"):
        raise raised
    assert "\n" not in str(caught.value) and names(tmp_path) == []


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_that_another_holds_is_waited_for_and_named(tmp_path, capfd):
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_for(tmp_path / "a"):
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"\.a\.lock: wait until it is done"), lock_for(tmp_path / "a", 0.5):
        pass
    assert time.monotonic() - started < 10
    done.set()
    thread.join()
    with lock_for(tmp_path / "a", 0.5):
        pass


WAIT = """
import os, sys
from handpose_lib import storage
real = storage.fcntl.flock
def flock(descriptor, operation):
    if sys.argv[1] in os.readlink(f"/proc/self/fd/{descriptor}"):
        raise OSError(int(sys.argv[2]), "not here")
    real(descriptor, operation)
storage.fcntl.flock = flock
with storage.lock_for(sys.argv[1] + "/a", 0.3):
    pass
"""


@posix
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_disk_that_cannot_lock_is_used_all_the_same(tmp_path, monkeypatch, number, everywhere):
    real = storage.fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if everywhere or str(tmp_path) in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor, operation)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc: the disk of a descriptor can't be told")
    with lock_for(tmp_path / "a"):
        pass  # leaves the lock file
    monkeypatch.setattr(storage.fcntl, "flock", flock)
    if everywhere:
        with pytest.warns(UserWarning, match="can't lock"), lock_for(tmp_path / "a"):
            pass
        return
    with lock_for(tmp_path / "a"):
        waited = subprocess.run(
            [sys.executable, "-c", WAIT, str(tmp_path), str(number)], capture_output=True, text=True, timeout=60
        )
    assert "TimeoutError" in waited.stderr, "it locks in the folder for temporary files"


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_cache_that_can_not_be_made_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"file/cache/data-\w+ can't be made .*: set HANDPOSE_CACHE to a folder"):
        storage.derived_folder(tmp_path / "data")


def test_the_cache_may_be_named_from_the_home_folder(monkeypatch):
    monkeypatch.setenv("HANDPOSE_CACHE", "~/somewhere")
    assert storage.user_cache() == Path.home() / "somewhere"


# --- caches -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path) -> Path:
    return tmp_path / "bytes.npy"


def fetch(path: Path, mark: str = "mark", seed: int = 1) -> np.ndarray:
    content = np.random.default_rng(seed).integers(0, 256, (40, 300), np.uint8)
    return cache.cached_bytes(path, mark, content.shape, lambda array: np.copyto(array, content), "random bytes")


def test_bytes_are_computed_once_and_again_for_another_mark(entry):
    first = np.array(fetch(entry, seed=1))
    assert np.array_equal(fetch(entry, seed=2), first)
    assert not np.array_equal(fetch(entry, "other", seed=2), first)
    assert names(entry.parent) == ["bytes.json", "bytes.npy"]


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    note = path.with_suffix(".json")
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[:-100])
        case "zeros behind the header":
            path.write_bytes(whole[:128] + bytes(len(whole) - 128))
        case "zeros":
            path.write_bytes(bytes(len(whole)))
        case "garbled":
            path.write_bytes(b"x" * len(whole))
        case "one bit":
            path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:])
        case "gone":
            path.unlink()
        case "a folder":
            note.unlink()
            note.mkdir()
        case _:
            note.write_text(how)


@pytest.mark.filterwarnings("ignore:.*was damaged")
@pytest.mark.parametrize(
    "how",
    [
        *("empty", "cut", "zeros behind the header", "zeros", "garbled", "one bit", "gone"),
        *("", "null", "[]", "1", "{}", '{"fingerprint": "mark"}', '{"fingerprint": "mark", "checksum": null}', "\0\0"),
    ],
)
def test_a_damaged_entry_is_computed_anew(entry, how):
    whole = np.array(fetch(entry))
    damage(entry, how)
    assert np.array_equal(fetch(entry), whole)
    assert np.array_equal(fetch(entry, seed=2), whole), "the new one holds"


def test_damage_is_said_in_one_line(entry):
    fetch(entry)
    damage(entry, "one bit")
    with pytest.warns(UserWarning, match=r"bytes\.npy was damaged: it will be rebuilt"):
        fetch(entry)


def test_an_entry_without_room_is_refused_before_anything_is_written(entry, monkeypatch):
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="random bytes needs"):
        fetch(entry)
    assert names(entry.parent) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system can't reserve space by a call")
def test_a_disk_that_fills_up_meanwhile_is_an_error_and_no_bus_error(entry, monkeypatch):
    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="the disk is full"):
        fetch(entry)
    assert names(entry.parent) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_can_not_reserve_is_written_full_first(entry, monkeypatch, number):
    def refuse(*arguments) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    content = np.array(fetch(entry))
    assert entry.stat().st_blocks * 512 >= content.nbytes
    assert np.array_equal(fetch(entry, seed=2), content)


def test_what_fails_to_be_computed_leaves_nothing(entry):
    def fail(array: np.ndarray) -> None:
        raise ValueError("picture 3")

    with pytest.raises(ValueError, match="picture 3"):
        cache.cached_bytes(entry, "mark", (3, 4), fail, "pictures")
    assert names(entry.parent) == []


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x05\x06" + bytes(18), bytes(1000)])
def test_damaged_arrays_are_computed_anew(tmp_path, content):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    assert cache.cached_arrays(path, "mark", lambda: {"a": np.full(3, 1)})["a"].tolist() == [1, 1, 1]
    assert cache.cached_arrays(path, "mark", lambda: {"a": np.full(3, 9)})["a"].tolist() == [1, 1, 1]


def test_a_fingerprint_changes_with_file_facts_and_version(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([1]))
    marks = [cache.fingerprint([path], 128), cache.fingerprint([path], 64)]
    os.utime(path, ns=(1, 1))
    marks.append(cache.fingerprint([path], 128))
    path.write_text(json.dumps([1, 2]))
    os.utime(path, ns=(1, 1))  # another size alone
    marks.append(cache.fingerprint([path], 128))
    path.rename(tmp_path / "b.json")  # another name alone
    marks.append(cache.fingerprint([tmp_path / "b.json"], 128))
    (tmp_path / "b.json").rename(path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    marks.append(cache.fingerprint([path], 128))
    assert len(set(marks)) == 6


# --- network file systems ---------------------------------------------------------------------------------------------


@pytest.fixture
def drive(tmp_path: Path, monkeypatch) -> Path:
    """A folder that passes for a mounted Google Drive, on which nobody waits long for a rename."""
    monkeypatch.setenv("HANDPOSE_DRIVE", str(tmp_path / "drive"))
    monkeypatch.setattr(storage, "RENAME_PAUSES", (0.0, 0.0, 0.0))
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    return tmp_path / "drive" / "MyDrive"


def test_results_go_where_the_environment_says(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("HANDPOSE_RUNS", raising=False)
    assert runs_folder() == work_folder() == storage.checkout_root() / "runs"
    monkeypatch.setenv("HANDPOSE_RUNS", str(tmp_path))
    assert runs_folder() == tmp_path and work_folder() == storage.checkout_root() / "runs"
    monkeypatch.setenv("HANDPOSE_RUNS", "elsewhere/runs")
    assert runs_folder() == storage.checkout_root() / "elsewhere" / "runs"
    monkeypatch.setenv("HANDPOSE_RUNS", "~/runs")
    assert runs_folder() == Path.home() / "runs"


@pytest.mark.parametrize(
    ("place", "remote"),
    [("/mnt/share/a", True), ("/mnt/share", True), ("/mnt/my disk/a", True), ("/mnt/sharesmore", False), ("/", False)],
)
def test_a_network_file_system_is_known_by_its_mount(monkeypatch, place, remote):
    mounts = "overlay / overlay rw\nserver:/x /mnt/share nfs4 rw\nd /mnt/my\\040disk fuse.drive rw\n"
    monkeypatch.setattr(storage.Path, "read_text", lambda self, **_: mounts)
    assert is_remote(place) == remote


def test_a_rename_that_fails_for_a_moment_is_tried_again_on_a_drive_only(drive: Path, tmp_path: Path, monkeypatch):
    real, failures = os.replace, [OSError(5, "Input/output error")] * 2

    def replace(source, target):
        if failures:
            raise failures.pop()
        real(source, target)

    monkeypatch.setattr(storage.os, "replace", replace)
    with atomic_path(drive / "a.txt") as temporary:
        temporary.write_text("whole")
    assert (drive / "a.txt").read_text() == "whole" and not failures
    failures.append(OSError(5, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["drive"]


def test_a_lock_for_a_drive_lies_on_the_machines_own_disk(drive: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "gettempdir", lambda: str(tmp_path))
    with lock_for(drive / "run"), pytest.raises(TimeoutError), lock_for(drive / "run", patience=0):
        pass
    assert not list(drive.iterdir())
    with lock_for(drive / "other"), lock_for(drive / "run"):
        assert len(list(tmp_path.glob("handpose-*.lock"))) == 2


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users have no numbers here")
@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError("No username set")])
def test_a_lock_for_a_drive_bears_the_users_name_or_the_number_of_one_without(drive, tmp_path, monkeypatch, error):
    def nameless() -> str:
        raise error

    monkeypatch.setattr(storage.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(storage.getpass, "getuser", lambda: "ada")
    with lock_for(drive / "run"):
        (named,) = tmp_path.glob("handpose-*.lock")
    monkeypatch.setattr(storage.getpass, "getuser", nameless)
    monkeypatch.setattr(storage.os, "getuid", lambda: 4711)
    with lock_for(drive / "run"):
        (numbered,) = set(tmp_path.glob("handpose-*.lock")) - {named}
    assert named.name.startswith("handpose-ada-") and numbered.name == named.name.replace("ada", "4711")


# --- what is said, and how long one waits -----------------------------------------------------------------------------


class Held:
    """A lock that another process holds; it notes how long one waits for it."""

    def __init__(self, waited: list[float], given_after: int):
        self.waited, self.given_after = waited, given_after

    def acquire(self, timeout: float) -> None:
        self.waited.append(timeout)
        if len(self.waited) <= self.given_after:
            raise storage.Timeout("held")

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("patience", "given_after", "waited"), [(60.0, 1, [5, 55]), (5.5, 1, [5, 0.5]), (2.0, 9, [2]), (9.0, 9, [5, 4])]
)
def test_one_waits_for_a_lock_as_long_as_one_has_patience_and_says_so_after_5_s(
    tmp_path, monkeypatch, capsys, patience, given_after, waited
):
    asked: list[float] = []
    monkeypatch.setattr(storage, "FileLock", lambda file: Held(asked, given_after))
    if given_after == 1:
        with lock_for(tmp_path / "a", patience):
            pass
    else:
        with (
            pytest.raises(TimeoutError, match=r"another process holds .*\.a\.lock"),
            lock_for(tmp_path / "a", patience),
        ):
            pass
    assert asked == waited
    assert ("waiting for another process" in capsys.readouterr().err) == (len(waited) > 1)


def test_where_there_is_no_flock_every_disk_is_taken_to_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "fcntl", None)  # as on Windows
    assert storage._lock_file(tmp_path / "a") == tmp_path / ".a.lock"


def test_a_folder_that_cannot_be_made_is_named_with_the_cause_and_the_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"folder can't be made \(Not a directory\): do without"):
        storage.make_folder(tmp_path / "file" / "folder", "do without")


def test_a_file_of_the_project_is_found_in_the_checkout_or_said_to_be_gone(monkeypatch, tmp_path):
    assert storage.bundled_file("data/synthhand.zip") == storage.checkout_root() / "data" / "synthhand.zip"
    monkeypatch.setattr(storage, "INSTALLED", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"nothing\.bin comes with the project, but is not at .*{tmp_path}"):
        storage.bundled_file("data/nothing.bin")
    (tmp_path / "nothing.bin").touch()
    assert storage.bundled_file("data/nothing.bin") == tmp_path / "nothing.bin"


def test_a_file_a_folder_and_nothing_are_let_pass(tmp_path):
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path, tmp_path / "nowhere"):
        reading.refuse_special(path)
    with pytest.raises(ValueError, match="null is a pipe or a device"):
        reading.refuse_special("/dev/null")


def test_the_pauses_before_a_rename_is_tried_again_grow_to_seconds():
    assert list(storage.RENAME_PAUSES) == sorted(storage.RENAME_PAUSES) and 4 <= sum(storage.RENAME_PAUSES) <= 10


def dead_process() -> int:
    """The number of a process that is not there, below ours."""
    for number in range(os.getpid() - 1, 1, -1):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return number
        except OSError:
            continue
    pytest.skip("every number is taken")


@posix
def test_only_what_a_dead_process_of_this_machine_left_is_taken_away(tmp_path):
    dead, here = dead_process(), storage._host()
    left = {
        f".a.{dead}-{here}.89abcdef.npy": False,
        f".a.{os.getpid()}-{here}.89abcdef.npy": True,  # a thread of ours writes it
        f".a.{dead}-0123ab.89abcdef.npy": True,  # another machine's process may be alive
        ".a.npy": True,
    }
    for name in left:
        (tmp_path / name).touch()
    storage.remove_leftovers(tmp_path, "a")
    assert {name: (tmp_path / name).exists() for name in left} == left


def test_a_process_that_one_may_not_ask_is_taken_to_run(monkeypatch):
    def refuse(number: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert storage._is_running(1)


def test_a_file_that_may_not_become_so_large_is_named(tmp_path):
    words = r"a\.bin could not be written, no file may be so large there: make room, or choose"
    with pytest.raises(OSError, match=words), atomic_path(tmp_path / "a.bin"):
        raise OSError(errno.EFBIG, "File too large")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / ".a.lock").mkdir()
    with pytest.raises(OSError, match=r"\.a\.lock can't be written \(Is a directory\)"), lock_for(tmp_path / "a"):
        pass


def test_what_is_derived_lies_beside_the_data_unless_a_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("HANDPOSE_CACHE")
    assert storage.derived_folder(tmp_path) == tmp_path / ".handpose"
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "cache"))
    assert storage.derived_folder(tmp_path).parent == tmp_path / "cache"
