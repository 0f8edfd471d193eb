"""A process killed at any moment of a write leaves the old file or the new one; the next run works and cleans up.

The moments are seeded: before one of the child's operations on files (an audit hook ends it there), or in the middle
of a file, at a byte beyond which the system lets it write nothing and ends it.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from writers import WRITERS, content, leftovers

resource = pytest.importorskip("resource", reason="limits of POSIX systems")
WATCHED = ("open", "os.rename", "os.chmod", "os.remove", "os.mkdir", "os.truncate")
DRAWING = ("pictures", "scores")  # which takes longer
MOMENTS = int(os.environ.get("HANDPOSE_KILLS", "4"))  # per writer: half before an operation, half within a file


def in_a_child(writer: str, folder: Path, before: int, limit: int) -> tuple[int, int]:
    """Write version 2 in a child process that dies before so many operations, or when a file gets that large.

    Returns:
        Its exit status, negative for a signal, and the number of operations that it came to where it was not killed.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1), os.dup2(devnull, 2)
            done = [0]

            def watch(event: str, arguments: tuple) -> None:
                if event in WATCHED and str(arguments[0]).startswith(str(folder)):
                    done[0] += 1
                    if done[0] == before:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(watch)
            if limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            WRITERS[writer](folder, 2)
            os.write(write, str(done[0]).encode())
            os._exit(0)
        os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        operations = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(operations or 0)


def answer_requests() -> None:
    """Serve `in_a_child` line by line, in a process that has no threads yet: a fork has only the one that forks."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for line in sys.stdin:
        request = json.loads(line)
        status = in_a_child(request["writer"], Path(request["folder"]), request["before"], request["limit"])
        print(json.dumps(status), flush=True)


@pytest.fixture(scope="module")
def killed():
    """Ask a fresh process to write, with a child that dies on the way."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def ask(writer: str, folder: Path, before: int = 0, limit: int = 0) -> tuple[int, int]:
            print(
                json.dumps({"writer": writer, "folder": str(folder), "before": before, "limit": limit}),
                file=server.stdin,
                flush=True,
            )
            return tuple(json.loads(server.stdout.readline()))

        yield ask
        server.stdin.close()


@pytest.mark.parametrize("writer", WRITERS)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(writer: str, tmp_path: Path, killed):
    chance = random.Random(f"{writer} {os.environ.get('HANDPOSE_FUZZ_SEED', 0)}")
    (tmp_path / "old").mkdir()
    if writer != "rendered":
        WRITERS[writer](tmp_path / "old", 1)
    old = content(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    status, operations = killed(writer, tmp_path / "new")
    new = content(tmp_path / "new")
    assert status == 0 and operations > 3 and new != old and not leftovers(tmp_path / "new")
    changed = [len(data) for name, data in new.items() if old.get(name) != data]
    for moment in range(MOMENTS if writer not in DRAWING else max(2, MOMENTS // 2)):
        folder = tmp_path / "at_work"
        shutil.copytree(tmp_path / "old", folder)
        if moment % 2:
            kill, ending = {"before": chance.randrange(1, operations + 1)}, -signal.SIGKILL
        else:
            kill, ending = {"limit": chance.randrange(1, max(changed))}, -signal.SIGXFSZ
        assert killed(writer, folder, **kill)[0] == ending, kill
        found = content(folder)
        assert old.keys() <= found.keys() <= old.keys() | new.keys(), kill
        for name, data in found.items():
            begun = (
                name == "set/synthhand.json" and b'"generator"' in data and data.endswith(b"}")
            )  # its own first word
            assert data in (old.get(name), new.get(name)) or begun, (kill, name)
        WRITERS[writer](folder, 2)
        assert content(folder) == new and not leftovers(folder), kill
        shutil.rmtree(folder)


if __name__ == "__main__":
    answer_requests()
