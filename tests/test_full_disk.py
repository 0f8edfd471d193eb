"""On a disk that is full every write ends in one sentence that names a file, the old files stay, and room helps.

The disk is a small one in memory, which only an administrator may mount; elsewhere these tests are skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from writers import WRITERS, content, leftovers

SIZE = 4 << 20  # bytes


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path_factory.mktemp("disk")
    mount = shutil.which("mount")
    if not mount or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only an administrator may mount a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes on a disk."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - free)))
    return filler


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("free", [0, 8192])
def test_a_full_disk_is_one_sentence_and_costs_no_old_file(disk: Path, tmp_path: Path, writer: str, free: int):
    folder = disk / "work" / "folder"
    shutil.rmtree(disk / "work", ignore_errors=True)
    folder.mkdir(parents=True)
    if writer != "rendered":
        WRITERS[writer](folder, 1)
    old = content(folder)
    filler = fill(disk, free)
    said = ""
    try:
        WRITERS[writer](folder, 2)
    except OSError as error:
        said = str(error)
    except ValueError as error:  # a film that can't be begun
        said = str(error)
    finally:
        filler.unlink()
    found = content(folder)
    assert old.keys() <= found.keys()
    assert not leftovers(folder)
    WRITERS[writer](folder, 2)
    new = content(folder)
    for name, data in found.items():
        assert data in (old.get(name), new[name]) or name == "set/synthhand.json", name
    if found != new:
        assert str(folder) in said and "\n" not in said, said or "nothing was said"
