import os
from pathlib import Path

import pytest

from handpose_lib import storage
from handpose_lib.storage import atomic_path, is_remote, lock_for, runs_folder, work_folder


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
    with lock_for(drive / "run"), pytest.raises(TimeoutError):
        lock_for(drive / "run").acquire(timeout=0)
    assert not list(drive.iterdir())
    with lock_for(drive / "other"), lock_for(drive / "run"):
        assert len(list(tmp_path.glob("handpose-*.lock"))) == 2
