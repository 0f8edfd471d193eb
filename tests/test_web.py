"""`handpose web`: how the page is put together and served; what it does in a browser is tested in test_web_page.py."""

import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handpose_lib import track
from handpose_lib.cli import main
from handpose_lib.commands import web
from handpose_lib.web import place, runtime
from handpose_lib.web.server import page_server

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def serving(folder: Path, **options) -> Iterator[str]:
    with page_server(folder, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.address
        server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file of each kind that the page has, and one outside of it."""
    folder = tmp_path / "page"
    (folder / "ort").mkdir(parents=True)
    for name in ("index.html", "style.css", "app.js", "icon.svg", "ort/a.mjs", "ort/a.wasm", "a.onnx", "facts.json"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_every_kind_of_file_has_the_type_that_browsers_ask_for(files: Path):
    types = {
        "": "text/html; charset=utf-8", "style.css": "text/css", "app.js": "text/javascript",
        "icon.svg": "image/svg+xml", "ort/a.mjs": "text/javascript", "ort/a.wasm": "application/wasm",
        "a.onnx": "application/octet-stream",
        "facts.json": "application/json",
    }  # fmt: skip
    with serving(files) as address:
        assert address.startswith("http://127.0.0.1:")
        for name, kind in types.items():
            with urllib.request.urlopen(address + name) as answer:
                assert answer.headers["Content-Type"] == kind, name
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("isolated", [True, False])
def test_only_an_isolated_page_gets_the_headers_that_give_it_threads(files: Path, isolated: bool):
    with serving(files, isolated=isolated) as address, urllib.request.urlopen(address) as answer:
        assert (answer.headers["Cross-Origin-Opener-Policy"] == "same-origin") == isolated
        assert (answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp") == isolated


@pytest.mark.parametrize("path", ["ort/", "none.js", "../secret.txt", "%2e%2e/secret.txt"])
def test_nothing_but_the_pages_files_is_served(files: Path, path: str):
    with serving(files) as address, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address + path)
    assert refused.value.code == 404


def error_of(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and "\n" not in error
    return error


@pytest.fixture
def built(tmp_path: Path, monkeypatch) -> Path:
    """A page that seems to be up to date, where `handpose web` looks for it."""
    folder = tmp_path / "built"
    (folder / "models").mkdir(parents=True)
    facts = {"format": place.FORMAT, "bundled": True, "weights": place.bundled_fingerprints()}
    (folder / place.FACTS).write_text(json.dumps(facts))
    monkeypatch.setattr(web, "page_folder", lambda: folder)
    return folder


def test_a_port_that_is_taken_is_said_in_one_line(built: Path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        error = error_of(["web", "--no-browser", "--port", str(port)], capsys)
    assert f"port {port}" in error and "--port" in error


def test_a_page_that_is_not_built_is_said_in_one_line(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(web, "page_folder", lambda: tmp_path / "none")
    error = error_of(["web", "--no-browser"], capsys)
    assert "no built page" in error and place.BUILD in error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 0}, "another version"),
        ({"weights": place.bundled_fingerprints() | {"landmark": "0"}}, "other weights"),
        ({"weights": place.bundled_fingerprints() | {"finder": "0"}}, "other weights"),
    ],
)
def test_a_page_that_is_out_of_date_is_not_served(built: Path, changed, message, capsys):
    facts = json.loads((built / place.FACTS).read_text())
    (built / place.FACTS).write_text(json.dumps(facts | changed))
    assert message in error_of(["web", "--no-browser"], capsys)
    (built / place.FACTS).write_text(json.dumps(facts | {"weights": "0", "bundled": False}))
    assert place.problem_of(built) is None  # of weights of one's own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--port", "70000"], "65535"), (["--out", "x"], "--build"), (["--weights", "w"], "--build")],
)
def test_options_that_make_no_sense_are_refused(built: Path, arguments, message, capsys):
    assert message in error_of(["web", "--no-browser", *arguments], capsys)


def test_the_page_is_served_with_its_source_of_now_and_without_torch(built: Path):
    """As `handpose web` does it, in a process of its own: an address, then the files, until it is stopped."""
    (built / "index.html").write_text("of another day")
    code = (
        "import sys; from pathlib import Path\n"
        "from handpose_lib.commands import web; from handpose_lib.cli import main\n"
        f"web.page_folder = lambda: Path({str(built)!r})\n"
        "web.threading.Timer = lambda *_: sys.exit('a browser was opened')\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "main(['web', '--no-browser', '--port', '0'])"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), process.stderr.read()
            with urllib.request.urlopen(line.split()[0]) as answer:
                assert answer.read() == (ROOT / "web" / "index.html").read_bytes()
        finally:
            process.terminate()


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["web", "--help"])
    assert "example: handpose web --build" in capsys.readouterr().out


def test_the_wheel_brings_the_pages_source(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("handpose_lib/bundled/web/") for name in archive.namelist() if "/web/" in name}
    assert {path.name for path in (ROOT / "web").iterdir()} <= inside


# --- the runtime ------------------------------------------------------------------------------------------------------


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path):
    names = [f"package/dist/{name}" for name in runtime.FILES]
    other_version = packed(tmp_path / "a.tgz", dict.fromkeys(names, b"other"))
    other_package = packed(tmp_path / "b.tgz", {"package/package.json": b"{}"})
    no_package = tmp_path / "c.tgz"
    no_package.write_text("text")
    for number, (package, message) in enumerate(
        [(other_version, "give that version"), (other_package, "is not the npm package"), (no_package, "c.tgz is not")]
    ):
        with pytest.raises(ValueError, match=message):
            runtime.write_runtime(tmp_path / str(number), package)


def test_a_package_that_breaks_off_or_is_damaged_is_refused_in_one_line(tmp_path: Path, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: it is in the extra `export`")
    whole = packed(tmp_path / "whole.tgz", {f"package/dist/{name}": os.urandom(100_000) for name in runtime.FILES})
    tar, press = gzip.decompress(whole.read_bytes()), zlib.compressobj(wbits=31)
    begin = press.compress(tar[:50_000]) + press.flush(zlib.Z_FULL_FLUSH)
    # The second goes on with a block of a kind that there is not.
    for name, content in {"cut.tgz": begin, "damaged.tgz": begin + b"\x07"}.items():
        (tmp_path / name).write_bytes(content)
        arguments = ["web", "--build", "--out", str(tmp_path / "page"), "--runtime", str(tmp_path / name)]
        assert f"{name} is not the npm package" in error_of(arguments, capsys)
    assert not (tmp_path / "page").exists()


def test_where_npm_is_absent_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"onnxruntime-web 1\.30\.0.*install Node\.js.*--runtime"):
        runtime.packed_runtime()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a shell script")
def test_npm_is_asked_once_for_the_pinned_version(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "cache"))
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\n[ "$1 $2" = "pack onnxruntime-web@1.30.0" ] && echo content > "$5/package.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm))
    file = runtime.packed_runtime()
    assert file.read_text() == "content\n"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    assert runtime.packed_runtime() == file
    file.unlink()
    with pytest.raises(ValueError, match=r"could not get.*npm error network"):
        runtime.packed_runtime()
    assert list(file.parent.iterdir()) == []


# --- the build --------------------------------------------------------------------------------------------------------


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: it is in the extra `export`")
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds other files" in error_of(["web", "--build", "--out", str(tmp_path)], capsys)
    assert "is a file" in error_of(["web", "--build", "--out", str(tmp_path / "mine.txt")], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_a_file_manager_leaves_is_nobodys_content(tmp_path: Path, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: it is in the extra `export`")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / ".DS_Store").write_text("of Finder")
    runtime = str(tmp_path / "none.tgz")
    assert "none.tgz" in error_of(["web", "--build", "--out", str(tmp_path / "page"), "--runtime", runtime], capsys)


def test_the_page_moves_a_look_on_as_far_as_python_does():
    script = (ROOT / "web" / "tracker.js").read_text(encoding="utf-8")
    assert re.findall(r"^const FARTHEST = ([\d.]+);", script, re.MULTILINE) == [str(track.FARTHEST)]
