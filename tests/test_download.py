"""Downloads from a loopback server that can be told to misbehave."""

import http.server
import io
import socket
import struct
import threading
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from trees import make_tree

from handpose_lib import checksums, storage, zips
from handpose_lib import download as module
from handpose_lib.download import EVALUATION_ZIP, TERMS, TRAINING_ZIP, download, fetch_freihand, is_fetched, unpack
from handpose_lib.freihand import FreiHAND

BODY = np.random.default_rng(0).bytes(300_000)


class Server:
    """Files by name, and what goes wrong. `requests` keeps (method, path, Range, If-Range) of each."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"one"'
        self.date: str | None = None  # Last-Modified
        self.ranges = True  # honours Range at all
        self.if_range = True  # honours If-Range
        self.cut: list[int] = []  # bytes after which the next answers break off
        self.status: list[int] = []  # error codes that the next answers have
        self.requests: list[tuple] = []
        self.url = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        headers = handler.headers
        self.requests.append((handler.command, handler.path, headers.get("Range"), headers.get("If-Range")))
        body = self.files.get(handler.path.lstrip("/"))
        if body is None or (self.status and handler.command == "GET"):
            handler.send_error(self.status.pop(0) if self.status else 404)
            return
        start = 0
        if (
            self.ranges
            and headers.get("Range")
            and (not self.if_range or headers.get("If-Range") in (self.etag, self.date))
        ):
            start = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.date:
            handler.send_header("Last-Modified", self.date)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body[start:][: self.cut.pop(0) if self.cut else None])


@pytest.fixture
def server(monkeypatch):
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "BACK_OFF", 0.001)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        told.url = f"http://127.0.0.1:{served.server_port}/"
        told.files["a.bin"] = BODY
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        served.shutdown()
        thread.join()


def get(server: Server, folder: Path) -> bytes:
    return download(server.url + "a.bin", folder / "a.bin", progress=False).read_bytes()


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock"))


def test_a_whole_download_has_the_right_bytes_and_leaves_nothing_beside(server, tmp_path):
    assert get(server, tmp_path) == BODY
    assert leftovers(tmp_path) == ["a.bin"]
    assert len(server.requests) == 1


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.requests) == 1


def test_progress_is_shown_when_asked_for(server, tmp_path, capsys):
    server.cut = [1000]
    download(server.url + "a.bin", tmp_path / "a.bin", progress=True)
    out, err = capsys.readouterr()
    assert "100%" in out and "download a.bin" in out and not err
    assert "broke off" in out


def test_a_broken_connection_is_continued_with_range(server, tmp_path):
    server.cut = [100_000, 50_000]
    assert get(server, tmp_path) == BODY
    asked = [(span, condition) for _, _, span, condition in server.requests]
    assert asked == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]


def test_a_second_run_continues_what_the_first_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 0)
    server.cut = [100_000]
    with pytest.raises(ConnectionError, match=r"a\.bin\.part keeps the 100,000 bytes.*run it again"):
        get(server, tmp_path)
    assert not (tmp_path / "a.bin").exists()
    assert get(server, tmp_path) == BODY
    assert server.requests[-1][2] == "bytes=100000-"


def test_without_a_connection_nothing_is_said_to_have_been_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACK_OFF", 0.0)
    with pytest.raises(ConnectionError, match=r"a\.bin broke off .* nothing has arrived; is this machine online\?"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", progress=False)  # where nobody answers
    assert not (tmp_path / "a.bin.part").exists()


def test_a_part_that_was_whole_but_not_renamed_is_taken_as_it_is(server, tmp_path):
    get(server, tmp_path)
    (tmp_path / "a.bin").rename(tmp_path / "a.bin.part")
    note = f'{{"url": "{server.url}a.bin", "validator": "\\"one\\"", "length": {len(BODY)}}}'
    (tmp_path / "a.bin.part.json").write_text(note)
    assert get(server, tmp_path) == BODY
    assert len(server.requests) == 1


def test_a_server_without_range_sends_all_of_it_again(server, tmp_path):
    server.ranges = False
    server.cut = [100_000]
    assert get(server, tmp_path) == BODY
    assert len(server.requests) == 2


def test_without_etag_and_date_nothing_is_continued(server, tmp_path):
    server.etag = None
    server.cut = [100_000]
    assert get(server, tmp_path) == BODY
    assert [span for _, _, span, _ in server.requests] == [None, None]


def test_a_date_serves_where_the_etag_is_weak(server, tmp_path):
    server.etag, server.date = 'W/"one"', "Tue, 10 Sep 2019 12:00:00 GMT"
    server.cut = [100_000]
    assert get(server, tmp_path) == BODY
    assert server.requests[1][2:] == ("bytes=100000-", server.date)


@pytest.mark.parametrize("if_range", [True, False], ids=["server honours If-Range", "server ignores If-Range"])
@pytest.mark.parametrize("length", [300_000, 280_000, 60_000])
def test_a_file_that_changed_between_attempts_starts_anew(server, tmp_path, monkeypatch, if_range, length):
    monkeypatch.setattr(module, "ATTEMPTS", 0)
    server.if_range = if_range
    server.cut = [100_000]
    with pytest.raises(ConnectionError):
        get(server, tmp_path)
    monkeypatch.setattr(module, "ATTEMPTS", 4)
    changed = np.random.default_rng(1).bytes(length)
    server.files["a.bin"], server.etag = changed, '"two"'
    assert get(server, tmp_path) == changed


def test_a_part_of_unknown_origin_is_not_trusted(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    assert get(server, tmp_path) == BODY
    (tmp_path / "a.bin").unlink()
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    (tmp_path / "a.bin.part.json").write_text('{"url": "cut off')
    assert get(server, tmp_path) == BODY


def test_answers_that_are_always_short_end_in_one_clear_error(server, tmp_path):
    server.ranges = False
    server.cut = [1000] * 50
    with pytest.raises(ConnectionError, match=r"1,000 of 300,000 bytes arrived.*keeps the 1,000 bytes"):
        get(server, tmp_path)
    assert len(server.requests) == 1 + module.ATTEMPTS
    assert leftovers(tmp_path) == ["a.bin.part", "a.bin.part.json"]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.status = [503, 429]
    assert get(server, tmp_path) == BODY
    assert len(server.requests) == 3
    with pytest.raises(OSError, match="HTTP 404"):
        download(server.url + "nothing.bin", tmp_path / "nothing.bin", progress=False)
    assert len(server.requests) == 4


def test_a_full_disk_is_noticed_before_anything_is_written(server, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="make room"):
        get(server, tmp_path)
    assert not (tmp_path / "a.bin.part").exists()


# --- the data set -----------------------------------------------------------------------------------------------------


def zipped(tree: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            archive.write(path, prefix + path.relative_to(tree).as_posix())
    return buffer.getvalue()


@pytest.fixture
def freihand_server(server, tmp_path):
    server.files[TRAINING_ZIP] = zipped(make_tree(tmp_path / "t", hands=5))
    server.files[EVALUATION_ZIP] = zipped(make_tree(tmp_path / "e", hands=0, evaluation=3))
    return server


def fetch(server: Server, root: Path, **options) -> Path:
    return fetch_freihand(root, accept_terms=True, base_url=server.url, progress=False, **options)


def test_terms_that_are_not_accepted_stop_everything(freihand_server, tmp_path):
    assert "research" in TERMS and "commercial" in TERMS and "ICCV 2019" in TERMS
    with pytest.raises(PermissionError, match="research purposes only"):
        fetch_freihand(tmp_path / "data", base_url=freihand_server.url)
    assert not freihand_server.requests and not (tmp_path / "data").exists()


def test_what_is_fetched_opens_and_a_second_run_asks_for_nothing(freihand_server, tmp_path, capsys):
    root = fetch(freihand_server, tmp_path / "data" / "FreiHAND_pub_v2")
    assert len(FreiHAND(root, "train")) == 12
    assert len(FreiHAND(root, "evaluation")) == 3
    said = capsys.readouterr().out
    assert str(root) in said and "training_K.json" in said and "FreiHAND(" in said
    count = len(freihand_server.requests)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    fetch(freihand_server, root)
    assert len(freihand_server.requests) == count
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}


def test_without_evaluation_only_the_training_zip_is_fetched(freihand_server, tmp_path):
    root = fetch(freihand_server, tmp_path / "d", evaluation=False, keep_zip=False)
    assert {path for _, path, *_ in freihand_server.requests} == {f"/{TRAINING_ZIP}"}
    assert not list(root.glob("*.zip"))
    fetch(freihand_server, root)
    assert (root / "evaluation_K.json").exists()


def test_a_fetch_that_broke_off_between_the_zips_is_not_done_until_it_went_on(freihand_server, tmp_path):
    whole = freihand_server.files.pop(EVALUATION_ZIP)
    with pytest.raises(OSError, match="HTTP 404"):
        fetch(freihand_server, tmp_path / "d")
    assert len(FreiHAND(tmp_path / "d", "train")) == 12 and not is_fetched(tmp_path / "d")
    fetch(freihand_server, tmp_path / "d", evaluation=False)  # it is not wanted any more
    assert is_fetched(tmp_path / "d")
    with pytest.raises(OSError, match="HTTP 404"):
        fetch(freihand_server, tmp_path / "d")
    freihand_server.files[EVALUATION_ZIP] = whole
    fetch(freihand_server, tmp_path / "d")
    assert is_fetched(tmp_path / "d") and len(FreiHAND(tmp_path / "d", "evaluation")) == 3


def test_the_training_zip_alone_is_enough_where_no_more_was_asked_for(freihand_server, tmp_path):
    (tmp_path / "mine.zip").write_bytes(freihand_server.files[TRAINING_ZIP])
    assert is_fetched(fetch(freihand_server, tmp_path / "d", evaluation=False))
    assert is_fetched(fetch(freihand_server, tmp_path / "e", zips=[tmp_path / "mine.zip"]))


def turned(data: bytes) -> bytes:
    """The same length, another content, still a JPEG."""
    other = cv2.imencode(".jpg", np.zeros((224, 224, 3), np.uint8))[1].tobytes()
    return (other + bytes(len(data)))[: len(data)] if len(other) <= len(data) else data[::-1]


DAMAGES = {
    "deleted image": ("training/rgb/00000007.jpg", None),
    "deleted image, and a file of the system beside it": ("training/rgb/00000007.jpg", None),
    "empty image": ("training/rgb/00000007.jpg", lambda data: b""),
    "cut image": ("training/rgb/00000007.jpg", lambda data: data[:-100]),
    "another image of the same length": ("training/rgb/00000007.jpg", turned),
    "one bit": ("training/rgb/00000007.jpg", lambda data: data[:900] + bytes([data[900] ^ 1]) + data[901:]),
    "cut annotations": ("training_xyz.json", lambda data: b"[["),
    "one byte of the annotations": ("training_xyz.json", lambda data: data[:4000] + b"x" + data[4001:]),
    "zeros": ("evaluation_K.json", lambda data: bytes(len(data))),
    "a folder in its place": ("evaluation/rgb/00000001.jpg", "folder"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_comes_back_from_the_kept_zip(freihand_server, tmp_path, damage):
    root = fetch(freihand_server, tmp_path / "d")
    count = len(freihand_server.requests)
    name, change = DAMAGES[damage]
    whole = (root / name).read_bytes()
    if change is None or change == "folder":
        (root / name).unlink()
        (root / name).parent.joinpath(".DS_Store").write_bytes(b"x" if "beside" in damage else b"")
    else:
        (root / name).write_bytes(change(whole))
    if change == "folder":
        (root / name).mkdir()
        with pytest.raises(OSError, match=r"00000001\.jpg of .*zip can't be written to"):
            fetch(freihand_server, root)
        return
    fetch(freihand_server, root)
    assert (root / name).read_bytes() == whole
    assert len(FreiHAND(root, "train")) and len(freihand_server.requests) == count


def test_without_the_kept_zip_what_is_damaged_is_downloaded_anew(freihand_server, tmp_path):
    root = fetch(freihand_server, tmp_path / "d", evaluation=False, keep_zip=False)
    assert not (root / TRAINING_ZIP).exists()
    count = len(freihand_server.requests)
    fetch(freihand_server, root, evaluation=False, keep_zip=False)
    assert len(freihand_server.requests) == count
    (root / "training/rgb/00000007.jpg").write_bytes(b"")
    fetch(freihand_server, root, evaluation=False, keep_zip=False)
    assert len(freihand_server.requests) > count and FreiHAND(root, "train")[7]


def test_the_data_set_notices_what_no_decoder_can(freihand_server, tmp_path):
    root = fetch(freihand_server, tmp_path / "d", evaluation=False)
    path = root / "training/rgb/00000000.jpg"
    other = (root / "training/rgb/00000001.jpg").read_bytes()
    path.write_bytes(other)  # a whole JPEG of another hand
    with pytest.raises(ValueError, match=r"00000000\.jpg .*it is not as it was written"):
        FreiHAND(root, "train")[0]
    (root / checksums.NAME).write_text("[]")  # without checksums it can't be noticed
    assert FreiHAND(root, "train")[0]


def test_an_unpacking_that_was_interrupted_goes_on(freihand_server, tmp_path, monkeypatch):
    real, calls = zips._write, []

    def stops_at_the_seventh(archive, info, target, zip_path):
        calls.append(target)
        if len(calls) == 7:
            target.write_bytes(b"begun")
            raise KeyboardInterrupt
        real(archive, info, target, zip_path)

    monkeypatch.setattr(zips, "_write", stops_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        fetch(freihand_server, tmp_path / "d", evaluation=False)
    fetch(freihand_server, tmp_path / "d", evaluation=False)
    assert len(calls) == 22 + 1  # 20 images and two JSON files; only the cut one is written twice
    assert all(image.shape == (3, 224, 224) for image, _ in FreiHAND(tmp_path / "d", "train"))


def test_a_single_folder_around_everything_is_dropped(freihand_server, tmp_path):
    freihand_server.files[TRAINING_ZIP] = zipped(tmp_path / "t", prefix="FreiHAND_pub_v2/")
    root = fetch(freihand_server, tmp_path / "d")
    assert len(FreiHAND(root, "train")) == 12


def test_a_damaged_member_is_named_and_nothing_is_unpacked(freihand_server, tmp_path):
    whole = freihand_server.files[TRAINING_ZIP]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        info = archive.getinfo("training/rgb/00000003.jpg")
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    freihand_server.files[TRAINING_ZIP] = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
    with pytest.raises(ValueError, match=r"training/rgb/00000003\.jpg is damaged.*delete the zip and run again"):
        fetch(freihand_server, tmp_path / "d")
    assert not (tmp_path / "d" / "training").exists()
    (tmp_path / "d" / TRAINING_ZIP).unlink()
    freihand_server.files[TRAINING_ZIP] = whole
    assert len(FreiHAND(fetch(freihand_server, tmp_path / "d"), "train")) == 12


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"\n<!DOCTYPE html>", b'{"error": 1}', b""])
@pytest.mark.parametrize("begun", [False, True])
def test_a_page_in_place_of_the_zip_is_refused_and_costs_nothing_that_arrived(freihand_server, tmp_path, page, begun):
    whole = freihand_server.files[TRAINING_ZIP]
    if begun:
        freihand_server.cut = [1000, 0, 0, 0, 0, 0]
        with pytest.raises(ConnectionError):
            fetch(freihand_server, tmp_path / "d", evaluation=False)
        freihand_server.cut, freihand_server.ranges = [], False
    freihand_server.files[TRAINING_ZIP] = page or b"x"
    with pytest.raises(
        (OSError, ValueError), match=r"answers with (a web page|something that is not a zip file)|not a complete zip"
    ):
        fetch(freihand_server, tmp_path / "d", evaluation=False)
    part = tmp_path / "d" / f"{TRAINING_ZIP}.part"
    assert (part.stat().st_size if part.exists() else 0) == (1000 if begun else 0)
    (tmp_path / "d" / TRAINING_ZIP).unlink(missing_ok=True)  # as the message says
    freihand_server.files[TRAINING_ZIP], freihand_server.ranges = whole, True
    assert len(FreiHAND(fetch(freihand_server, tmp_path / "d", evaluation=False), "train")) == 12


def test_what_arrived_before_a_reset_is_kept(tmp_path, monkeypatch):
    data, asked = np.random.default_rng(1).bytes(3_000_000), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            asked.append(start)
            self.send_response(206 if start else 200)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start : start + 700_000])
            self.wfile.flush()
            time.sleep(0.3)  # what was sent is read before the reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, *arguments: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "BACK_OFF", 0.001)
    with Quiet(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}).start()
        path = download(f"http://127.0.0.1:{served.server_port}/f", tmp_path / "f", progress=False)
        served.shutdown()
    assert path.read_bytes() == data and len(asked) < 12 and asked == sorted(asked)


def header_field(data: bytes, name: str, local: dict[int, bytes], central: dict[int, bytes]) -> bytes:
    """A zip with other bytes at these places of a member's two headers."""
    changed = bytearray(data)
    for mark, length_at, name_at, fields in ((b"PK\3\4", 26, 30, local), (b"PK\1\2", 28, 46, central)):
        place = changed.find(mark)
        while changed[place + name_at : place + name_at + len(name)] != name.encode():
            place = changed.find(mark, place + 4)
        assert struct.unpack("<H", changed[place + length_at : place + length_at + 2])[0] == len(name)
        for at, value in fields.items():
            changed[place + at : place + at + len(value)] = value
    return bytes(changed)


def short(value: int) -> bytes:
    return struct.pack("<H", value)


def added(data: bytes, name: str) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(name, "x")
    return out.getvalue()


NAME = "training_K.json"
ODD_ZIPS = {
    "encrypted": (lambda z: header_field(z, NAME, {6: short(1)}, {8: short(1)}), "is encrypted"),
    "unknown method": (lambda z: header_field(z, NAME, {8: short(99)}, {10: short(99)}), "is damaged"),
    "of a later version": (lambda z: header_field(z, NAME, {4: short(99)}, {6: short(99)}), "not a complete zip file"),
    "a name that is no text": (
        lambda z: header_field(
            added(z, "aXb"), "aXb", {6: short(0x800), 30: b"a\xff"}, {8: short(0x800), 46: b"a\xff"}
        ),
        "not a complete zip file",
    ),
    "a file where a folder is": (lambda z: added(z, "training"), "does not belong to the data set"),
    "itself": (lambda z: added(z, TRAINING_ZIP), "does not belong to the data set"),
    "empty": (lambda z: b"PK\5\6" + bytes(18), "not FreiHAND's zip"),
    "another": (lambda z: added(b"PK\5\6" + bytes(18), "readme.txt"), "not FreiHAND's zip"),
    "cut": (lambda z: z[:-30], "not a complete zip file"),
    "wrong checksum": (lambda z: header_field(z, NAME, {14: b"abcd"}, {16: b"abcd"}), "is damaged"),
    "wrong place": (
        lambda z: header_field(z, NAME, {}, {42: struct.pack("<I", 2**31 - 1)}),
        "is damaged|not a complete zip",
    ),
}


@pytest.mark.parametrize("kind", ODD_ZIPS)
def test_a_zip_that_is_not_as_it_should_be_is_named_in_one_sentence(freihand_server, tmp_path, kind):
    change, words = ODD_ZIPS[kind]
    freihand_server.files[TRAINING_ZIP] = change(freihand_server.files[TRAINING_ZIP])
    with pytest.raises(ValueError, match=rf"(?s)FreiHAND_pub_v2\.zip.*({words})") as caught:
        fetch(freihand_server, tmp_path / "d", evaluation=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d" / "training").exists()


def test_hidden_files_and_the_current_folder_in_a_zip_are_passed_over(freihand_server, tmp_path):
    for name in (".", "./", ".unpacked.json", ".checksums.json", "__MACOSX/._x.jpg", "training/.DS_Store"):
        freihand_server.files[TRAINING_ZIP] = added(freihand_server.files[TRAINING_ZIP], name)
    root = fetch(freihand_server, tmp_path / "d", evaluation=False)
    assert len(FreiHAND(root, "train")) == 12
    assert not (root / "__MACOSX").exists() and not (root / "training" / ".DS_Store").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "c:/outside.txt"])
def test_members_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("training_K.json", "[]")
        archive.writestr(name, "x")
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match="leads out of the folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "root", progress=False)
    assert not list((tmp_path / "root").iterdir())
    assert not list(tmp_path.rglob("outside.txt"))


def test_too_little_space_is_said_before_the_download(freihand_server, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="make room"):
        fetch(freihand_server, tmp_path / "d")
    assert {method for method, *_ in freihand_server.requests} == {"HEAD"}


# --- from a notebook, and with zips that are there already ------------------------------------------------------------


def test_zips_that_are_there_are_unpacked_and_nothing_is_downloaded(freihand_server, tmp_path, capsys):
    for name in (TRAINING_ZIP, EVALUATION_ZIP):
        (tmp_path / f"my {name}").write_bytes(freihand_server.files[name])
    mine = [tmp_path / f"my {TRAINING_ZIP}", tmp_path / f"my {EVALUATION_ZIP}"]
    root = fetch(freihand_server, tmp_path / "d", zips=mine[:1], evaluation=True)
    assert f"not unpacked, since no zip was given: {EVALUATION_ZIP}" in capsys.readouterr().out
    assert len(FreiHAND(root, "train")) == 12 and mine[0].is_file() and not list(root.glob("*.zip"))
    fetch(freihand_server, root, zips=mine[1:], keep_zip=False)
    assert len(FreiHAND(root, "evaluation")) == 3 and not mine[1].exists()
    assert not freihand_server.requests


def test_one_zip_of_everything_stands_for_both(freihand_server, tmp_path, capsys):
    tree = make_tree(tmp_path / "both", hands=5, evaluation=3)
    (tmp_path / "all.zip").write_bytes(zipped(tree, "FreiHAND_pub_v2/"))
    root = fetch(freihand_server, tmp_path / "d", zips=[tmp_path / "all.zip"])
    assert len(FreiHAND(root, "evaluation")) == 3 and "not unpacked" not in capsys.readouterr().out
    fetch(freihand_server, root)
    assert not freihand_server.requests


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>", "not a complete zip file"), (None, "is not there"), ("other", "it is not FreiHAND's zip")],
)
def test_a_given_file_that_is_not_freihands_zip_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.zip"
    if content == "other":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("holiday.jpg", b"")
    elif content:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fetch_freihand(tmp_path / "d", accept_terms=True, zips=[path])
    assert not (tmp_path / "d").exists()


def test_a_tree_one_folder_too_deep_is_found(tmp_path):
    assert module.find_tree(tmp_path / "nowhere") is None and module.find_tree(tmp_path) is None
    inner = make_tree(tmp_path / "FreiHAND_pub_v2" / "FreiHAND_pub_v2", hands=3, images=False)
    assert module.find_tree(inner) == inner == module.find_tree(inner.parent)
    make_tree(inner.parent / "another", hands=3, images=False)
    assert module.find_tree(inner.parent) is None, "which of two is meant can't be known"


def test_another_server_can_be_named_in_the_environment(freihand_server, tmp_path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_FREIHAND_URL", freihand_server.url)
    root = fetch_freihand(tmp_path / "d", accept_terms=True, progress=False)
    assert len(FreiHAND(root, "train")) == 12
