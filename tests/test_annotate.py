"""The page on which labels are made: what its server refuses, what it saves, and a person's hand on it in Chromium."""

import contextlib
import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from dots import dot_predictor, draw_dots, hand_of_dots

from handpose_lib.annotate.server import MOST_BYTES, AnnotationServer
from handpose_lib.annotate.store import LabelChangedError, LabelStore
from handpose_lib.cli import main
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.labels import GROUP_KEYS, read_labels
from handpose_lib.storage import atomic_path, runs_folder
from handpose_lib.web.server import page_server

SIZE = (360, 480)  # (H, W)
HANDS = [hand_of_dots((240 + 20 * k, 180), 220, 15 * k) for k in range(3)]
LABEL = {"keypoints": HANDS[0].tolist(), "side": "", "group": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "anna").mkdir(parents=True)
    for k, name in enumerate(("0.png", "1.png", "anna/2.png")):
        cv2.imwrite(str(tmp_path / "mine" / name), draw_dots([HANDS[k]], SIZE, 5)[..., ::-1])
    return tmp_path / "mine"


@pytest.fixture
def server(folder: Path) -> Iterator[AnnotationServer]:
    with AnnotationServer(LabelStore(folder, dot_predictor())) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def asked(server: AnnotationServer, path: str, method: str = "GET", body=None, token: str | None = None, **headers):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{server.token if token is None else token}/{path}", body, names)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def put(server: AnnotationServer, number: int, label, **headers):
    headers = {"Content_Type": "application/json"} | headers
    return asked(server, f"hand/{number}", "PUT", json.dumps(label).encode(), **headers)


def labels_in(folder: Path) -> list[dict]:
    return json.loads((folder / "keypoints.json").read_text())


# --- the labels -------------------------------------------------------------------------------------------------------


def write_labels(folder: Path, *entries: dict) -> None:
    (folder / "keypoints.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("written", ["./anna/2.png", "anna\\2.png", "anna//2.png", "images/../anna/2.png", "2.png"])
def test_a_picture_is_labelled_however_its_entry_names_it(folder: Path, written: str):
    (folder / "images").mkdir()
    number = 2
    if written == "2.png":  # pictures in `images` may be named without it
        (folder / "anna" / "2.png").rename(folder / "images" / "2.png")
    write_labels(folder, {"file": written, "keypoints": HANDS[2].tolist(), "group": "carl"})
    store = LabelStore(folder, dot_predictor())
    assert [picture["done"] for picture in store.overview()["pictures"]] == [False, False, True]
    assert store.hand(number)["saved"] and store.hand(number)["group"] == "carl"
    assert store.save(number, LABEL | {"group": "carl"})["done"] == 1
    assert [entry["file"] for entry in labels_in(folder)] == [written]
    assert len(KeypointFolder(folder, "all")) == 1, "which refuses a picture that has two entries"
    assert store.save(0, LABEL)["done"] == 2 and store.remove(number)["done"] == 1
    assert [entry["file"] for entry in labels_in(folder)] == ["0.png"]


@pytest.mark.parametrize(("key", "value", "shown"), [
    ("group", "anna", "anna"), ("scene", "kitchen", "kitchen"), ("unique_id", "u1", "u1"), ("unique_id", 7, "7"),
    ("group", 0, "0"), ("scene", 3.0, "3"),
])  # fmt: skip
def test_a_group_is_shown_and_kept_under_whichever_key_it_stands(folder: Path, key: str, value, shown: str):
    write_labels(folder, {"file": "0.png", "keypoints": HANDS[0].tolist(), key: value})
    store = LabelStore(folder, dot_predictor())
    assert store.hand(0)["group"] == shown == store.hand(1)["group"] == read_labels(store.path)[0].group
    store.save(0, LABEL | {"group": shown})
    assert labels_in(folder)[0][key] == value
    store.save(0, LABEL | {"group": "bob"})
    assert {k: v for k, v in labels_in(folder)[0].items() if k in GROUP_KEYS} == {"group": "bob"}
    write_labels(folder, {"file": "0.png", "keypoints": HANDS[0].tolist(), key: value, "unique_id": "u1"})
    assert store.save(0, LABEL | {"group": ""})["done"] == 1 and read_labels(store.path)[0].group is None


def test_what_the_page_does_not_edit_is_kept(folder: Path):
    points = [[*point, 1] for point in HANDS[0].astype(float).tolist()]
    points[3], points[4], points[5] = None, [7, 7, 0], [50.123456, 60.5, 1]
    old = {"file": "0.png", "uv": points, "side": "Left", "width": 480, "height": 360, "by": {"tool": 1}}
    write_labels(folder, old)
    store = LabelStore(folder, dot_predictor())
    shown = store.hand(0)
    assert shown["side"] == "left" and shown["keypoints"][3:6] == [None, None, [50.123456, 60.5]]
    label = {"keypoints": shown["keypoints"], "side": "left", "group": ""}
    store.save(0, label)
    kept = {key: value for key, value in old.items() if key != "uv"} | {"keypoints": points}
    assert labels_in(folder) == [kept]
    label["keypoints"][0] = [100, 90.5]
    label["keypoints"][1] = None
    label["keypoints"][3] = [70.0, 80.0]
    store.save(0, label | {"side": ""})
    del kept["side"]
    kept["keypoints"] = [[100, 90.5, 2], None, points[2], [70, 80, 2], *points[4:]]
    assert labels_in(folder) == [kept]
    assert store.remove(0)["done"] == 0 and labels_in(folder) == []
    assert store.save(0, label | {"side": "", "undone": True})["done"] == 1 and labels_in(folder) == [kept]
    store.remove(0)
    store.save(0, label | {"side": ""})
    (new,) = labels_in(folder)
    assert new.keys() == {"file", "keypoints"} and {len(point or (0, 0)) for point in new["keypoints"]} == {2}


def test_a_writer_in_between_is_not_passed_over(folder: Path, monkeypatch):
    """Who writes between the look at the file and its content, or just after a write, keeps the label."""
    write_labels(folder)
    read = LabelStore._read

    def read_before_another_writes(store: LabelStore) -> list:
        entries = read(store)
        write_labels(folder, {"file": "1.png", "keypoints": HANDS[1].tolist()})
        return entries

    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "_read", read_before_another_writes)
        store = LabelStore(folder, dot_predictor())
    assert store.save(0, LABEL)["done"] == 2

    @contextlib.contextmanager
    def path_before_another_writes(path: Path) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            yield temporary
        write_labels(folder, *labels_in(folder), {"file": "anna/2.png", "keypoints": HANDS[2].tolist()})

    with monkeypatch.context() as patch:
        patch.setattr("handpose_lib.annotate.store.atomic_path", path_before_another_writes)
        store.save(0, LABEL)
    assert store.remove(1)["done"] == 2
    assert [entry["file"] for entry in labels_in(folder)] == ["0.png", "anna/2.png"]


def test_proposals_are_rounded_to_tenths(folder: Path):
    keypoints = torch.full((1, 21, 2), 20.88)
    hand = LabelStore(folder, lambda file: (keypoints, torch.full((1, 21), 0.1234))).hand(0)
    assert hand["keypoints"] == [[20.9, 20.9]] * 21 and hand["confidence"] == [0.123] * 21


# --- the server -------------------------------------------------------------------------------------------------------


def test_two_people_who_label_one_folder_keep_each_others_labels(folder: Path):
    first, second = (LabelStore(folder, dot_predictor()) for _ in range(2))
    assert first.save(0, LABEL)["done"] == 1
    assert second.save(1, LABEL | {"group": "bob"})["done"] == 2
    assert first.save(2, LABEL)["done"] == 3
    labels = {entry["file"]: entry.get("group") for entry in json.loads((folder / "keypoints.json").read_text())}
    assert labels == {"0.png": None, "1.png": "bob", "anna/2.png": None}
    assert first.hand(1)["saved"] and second.remove(0)["done"] == 2 and first.remove(1)["done"] == 1
    (folder / "keypoints.json").write_text("half of a fi")
    with pytest.raises(ValueError, match=r"keypoints\.json is not valid JSON"):
        first.save(0, LABEL)
    assert (folder / "keypoints.json").read_text() == "half of a fi"


def test_a_label_that_was_changed_elsewhere_is_not_passed_over(folder: Path):
    mine, theirs = (LabelStore(folder, dot_predictor()) for _ in range(2))
    seen = mine.hand(0)["version"]
    first = theirs.save(0, LABEL | {"group": "bob"}, theirs.hand(0)["version"])["version"]
    change = r"the label of 0\.png was changed elsewhere .+: load the page again"
    for work in (lambda: mine.save(0, LABEL, seen), lambda: mine.remove(0, seen)):
        with pytest.raises(LabelChangedError, match=change):
            work()
    assert labels_in(folder)[0]["group"] == "bob"
    shown = mine.hand(0)
    assert shown["version"] == first != seen and shown["group"] == "bob"
    second = mine.save(0, LABEL | {"group": "carl"}, first)
    assert second["version"] not in (first, seen)
    with pytest.raises(LabelChangedError, match=change):
        theirs.remove(0, first)
    assert theirs.remove(0, second["version"]) == {"done": 0, "version": seen}
    with pytest.raises(LabelChangedError, match=change):
        mine.save(0, LABEL, second["version"])
    assert labels_in(folder) == [] and mine.remove(0, "whatever there was")["done"] == 0


def test_a_window_whose_answers_are_lost_may_go_on(folder: Path):
    store = LabelStore(folder, dot_predictor())
    seen = store.hand(0)["version"]
    store.save(0, LABEL, seen, "mine")
    store.save(0, LABEL | {"group": "carl"}, seen, "mine")
    with pytest.raises(LabelChangedError):
        store.save(0, LABEL, seen, "theirs")
    removed = store.remove(0, seen, "mine")["version"]
    assert store.save(0, LABEL | {"undone": True}, "long ago", "mine")["done"] == 1
    LabelStore(folder, dot_predictor()).save(0, LABEL | {"group": "dora"})
    with pytest.raises(LabelChangedError):
        store.save(0, LABEL, removed, "mine")
    assert labels_in(folder)[0]["group"] == "dora"


def test_an_undo_after_somebody_else_has_labelled_the_picture_makes_no_second_entry(folder: Path):
    store = LabelStore(folder, dot_predictor())
    store.save(0, LABEL)
    store.remove(0)
    LabelStore(folder, dot_predictor()).save(0, LABEL | {"group": "dora"})
    assert store.save(0, LABEL | {"undone": True})["done"] == 1
    assert [entry["file"] for entry in labels_in(folder)] == ["0.png"]


def test_a_change_of_another_version_than_the_one_that_is_there_is_a_failed_precondition(server: AnnotationServer):
    first = json.loads(put(server, 0, LABEL, If_Match="none", Window="mine")[2])["version"]
    for window, status in (("theirs", 412), ("mine", 200)):
        assert put(server, 0, LABEL, If_Match="none", Window=window)[0] == status
        assert asked(server, "hand/0", "DELETE", If_Match="other", Window=window)[0] == status
    assert put(server, 0, LABEL, If_Match=first)[0] == 412


def test_what_another_process_has_labelled_is_seen_on_the_overview(folder: Path):
    store = LabelStore(folder, dot_predictor())
    LabelStore(folder, dot_predictor()).save(1, LABEL)
    assert [picture["done"] for picture in store.overview()["pictures"]] == [False, True, False]


def test_a_picture_has_a_proposal_until_its_label_is_saved(server: AnnotationServer, folder: Path):
    state = json.loads(asked(server, "state")[2])
    assert [p["name"] for p in state["pictures"]] == ["0.png", "1.png", "anna/2.png"] and len(state["keypoints"]) == 21
    hand = json.loads(asked(server, "hand/1")[2])
    assert hand["size"] == [480, 360] and not hand["saved"] and not (folder / "keypoints.json").exists()
    assert np.linalg.norm(np.array(hand["keypoints"]) - HANDS[1], axis=-1).mean() < 3
    assert json.loads(asked(server, "hand/2")[2])["group"] == "anna", "the picture's folder"
    label = LABEL | {"keypoints": [None, *LABEL["keypoints"][1:]], "side": "left", "group": " bob "}
    assert json.loads(put(server, 0, label)[2])["done"] == 1
    again = json.loads(asked(server, "hand/0")[2])
    assert again["saved"] and again["keypoints"][0] is None and (again["side"], again["group"]) == ("left", "bob")
    assert np.allclose(again["keypoints"][5], HANDS[0][5], atol=0.01)
    assert json.loads(asked(server, "hand/1")[2])["group"] == "bob", "that of the picture before"
    dataset = KeypointFolder(folder, "all")
    assert len(dataset) == 1 and dataset.version_names.tolist() == ["left"]
    assert json.loads(asked(server, "hand/0", "DELETE")[2]) == {"done": 0, "version": "none"}
    assert json.loads((folder / "keypoints.json").read_text()) == []


def test_labels_are_kept_in_the_pictures_order_and_those_of_other_pictures_stay(server: AnnotationServer, folder: Path):
    for number in (2, 0, 1):
        assert put(server, number, LABEL)[0] == 200
    entries = json.loads((folder / "keypoints.json").read_text())
    assert [entry["file"] for entry in entries] == ["0.png", "1.png", "anna/2.png"]
    (folder / "0.png").unlink()
    store = LabelStore(folder, dot_predictor())
    assert [p["done"] for p in store.overview()["pictures"]] == [True, True]
    assert store.remove(0)["done"] == 1
    assert [entry["file"] for entry in json.loads((folder / "keypoints.json").read_text())] == ["anna/2.png", "0.png"]


def test_the_page_and_its_pictures_come_with_strict_headers(server: AnnotationServer):
    for path, kind in (
        ("", "text/html"),
        ("page.js", "text/javascript"),
        ("page.css", "text/css"),
        ("picture/0", "image/jpeg"),
    ):
        status, headers, content = asked(server, path)
        assert status == 200 and headers.get_content_type() == kind and len(content) > 500
        assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (*SIZE, 3)


def test_whoever_is_not_the_page_is_refused(server: AnnotationServer, folder: Path):
    (folder.parent / "secret.png").write_bytes((folder / "0.png").read_bytes())
    assert asked(server, "state", token="guess")[0] == 404
    assert asked(server, "state", token="")[0] == 404
    assert asked(server, "state", Host="evil.example")[0] == 403
    assert asked(server, "state", Host=f"evil.example:{server.server_port}")[0] == 403
    assert asked(server, "state", Host=f"localhost:{server.server_port}")[0] == 200
    assert put(server, 0, LABEL, Origin="http://evil.example")[0] == 403
    assert put(server, 0, LABEL, Origin="null")[0] == 403
    for path in (
        "../secret.png",
        "picture/../../secret.png",
        "picture/3",
        "picture/-1",
        "store.py",
        "hand/9999999",
        "%2e%2e/",
    ):
        assert asked(server, path)[0] == 404, path
    assert not (folder / "keypoints.json").exists()


def test_sizes_are_limited_and_labels_are_looked_at(server: AnnotationServer, folder: Path):
    assert put(server, 0, LABEL, Content_Type="text/plain")[0] == 415
    big = asked(server, "hand/0", "PUT", b" " * (MOST_BYTES + 1), Content_Type="application/json")
    assert big[0] == 413
    points = LABEL["keypoints"]
    for label, message in (
        ({}, "21 keypoints"),
        (LABEL | {"keypoints": points[:20]}, "21 keypoints"),
        (LABEL | {"keypoints": [[1, "x"], *points[1:]]}, "wrist must be"),
        (LABEL | {"keypoints": [[True, 1], *points[1:]]}, "wrist must be"),
        (LABEL | {"keypoints": [[1e9, 1], *points[1:]]}, "wrist is far off"),
        (LABEL | {"side": "up"}, "side must be"),
        (LABEL | {"group": "x" * 101}, "at most 100"),
    ):
        status, _, content = put(server, 0, label)
        assert status == 422 and message in content.decode()
    assert asked(server, "hand/0", "PUT", b"{", Content_Type="application/json")[0] == 422
    assert not (folder / "keypoints.json").exists()


def test_what_goes_wrong_is_told_on_the_page_and_in_the_terminal(server: AnnotationServer, monkeypatch, capsys):
    def failing(number: int) -> dict:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore of it")

    monkeypatch.setattr(server.store, "hand", failing)
    status, headers, content = asked(server, "hand/0")
    assert status == 500 and headers.get_content_type() == "text/plain"
    assert "CUDA out of memory. Tried to allocate 2 GiB" in content.decode() and b"\n" not in content
    assert "Traceback" in (error := capsys.readouterr().err) and "more of it" in error


def test_a_browser_that_goes_away_is_no_error(server: AnnotationServer, monkeypatch, capsys):
    monkeypatch.setattr(server.store, "overview", mock.Mock(side_effect=ConnectionResetError))
    with pytest.raises(http.client.HTTPException):
        asked(server, "state")
    assert capsys.readouterr().err == ""


def test_neither_server_asks_for_this_computers_name(folder: Path, monkeypatch):
    monkeypatch.setattr("socket.getfqdn", lambda *name: pytest.fail("a name server may take long"))
    with AnnotationServer(LabelStore(folder, dot_predictor())) as labels, page_server(folder) as page:
        assert labels.server_name == page.server_name == "127.0.0.1"


def test_a_link_that_leads_out_of_the_folder_is_not_shown(folder: Path):
    outside = folder.parent / "outside.png"
    outside.write_bytes((folder / "0.png").read_bytes())
    (folder / "link.png").symlink_to(outside)
    assert "link.png" not in LabelStore(folder, dot_predictor()).names


def test_a_picture_that_is_damaged_is_one_sentence(folder: Path):
    (folder / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0\.png can't be read as a picture"):
        LabelStore(folder, dot_predictor()).hand(0)


def stopped_with(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and error.startswith("handpose: ") and "\n" not in error
    return error


def test_folders_that_can_not_be_labelled_are_one_sentence(folder: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("handpose_lib.predict.HandPosePredictor.from_pretrained", lambda *a, **k: dot_predictor())
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in stopped_with(["annotate", str(tmp_path / "empty")], capsys)
    assert "is not a folder" in stopped_with(["annotate", str(tmp_path / "nowhere")], capsys)
    assert "--port is 70000" in stopped_with(["annotate", str(folder), "--port", "70000"], capsys)
    (folder / "keypoints.json").write_text('{"0.png": {"keypoints": [], "confidence": []}}')
    assert "answers of `handpose predict`" in stopped_with(["annotate", str(folder)], capsys)
    (folder / "keypoints.json").unlink()
    folder.chmod(0o555)
    try:
        error = stopped_with(["annotate", str(folder)], capsys)
    finally:
        folder.chmod(0o755)
    assert "keypoints.json can't be written, and the labels go there: make the folder writable" in error


def test_a_port_that_is_taken_is_one_sentence(server: AnnotationServer, folder: Path, monkeypatch, capsys):
    monkeypatch.setattr("handpose_lib.predict.HandPosePredictor.from_pretrained", lambda *a, **k: dot_predictor())
    error = stopped_with(["annotate", str(folder), "--port", str(server.server_port), "--no-browser"], capsys)
    assert f"port {server.server_port} of 127.0.0.1 can't be used" in error and "--port" in error


# --- the page ---------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture
def browser():
    if not Path(CHROMIUM).is_file():
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: it is in the dev extra"
    )
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield browser
        browser.close()


def opened(browser, server: AnnotationServer, width: int = 1280, height: int = 800):
    """The page when its first hand is drawn; what it complains about, and whom it asks, are gathered."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    page.complaints, page.asked = [], []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(server.address)
    page.locator(".point").nth(20).wait_for()
    return page


def place_of(page, keypoint: int) -> np.ndarray:
    """Where a point is on the screen."""
    box = page.locator(f".point[data-point='{keypoint}']").bounding_box()
    return np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def drag(page, start: np.ndarray, by: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*np.add(start, by) / 2 + start / 2, steps=4)
    page.mouse.move(*np.add(start, by), steps=4)
    page.mouse.up()


def expected(page, selector: str):
    """What is expected of a part of the page, sooner or later; the page lets no other script run in it."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    return expect(page.locator(selector))


def wait_until_saved(page) -> None:
    expected(page, "#status").to_have_text("saved")


def keep(page, name: str) -> None:
    picture = runs_folder() / name
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)


def test_a_point_is_dragged_and_is_there_after_a_reload(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    tip = KEYPOINT_NAMES.index("index_tip")
    before = place_of(page, tip)
    hand = page.locator("#hand").bounding_box()
    per_px = 480 / hand["width"]
    drag(page, before, (60, 30))
    wait_until_saved(page)
    (entry,) = labels_in(folder)
    moved = np.array(entry["keypoints"][tip]) - np.array(server.store.hand(0)["proposed"][tip])
    assert moved == pytest.approx(per_px * np.array([60, 30]), abs=1.5)
    others = np.delete(np.array(entry["keypoints"]) - np.array(server.store.hand(0)["proposed"]), tip, 0)
    assert np.abs(others).max() < 0.01
    keep(page, "annotate_1280.png")
    page.reload()
    page.locator(".point").nth(20).wait_for()
    assert place_of(page, tip) == pytest.approx(np.add(before, (60, 30)), abs=1)
    wait_until_saved(page)
    assert "1 labelled" in page.locator("#progress-text").text_content()
    assert page.complaints == [] and all(url.startswith((server.address, "data:")) for url in page.asked)


def test_the_later_of_two_windows_is_told_and_passes_nothing_over(server: AnnotationServer, folder: Path, browser):
    first, second = (opened(browser, server) for _ in range(2))
    for page, name in ((first, "bob"), (second, "carl")):
        page.fill("#group", name)
        page.keyboard.press("Tab")
        expected(page, "#status").to_have_text(
            re.compile("saved$" if page is first else "not saved: .*elsewhere .*is lost$")
        )
    assert [entry["group"] for entry in labels_in(folder)] == ["bob"]
    second.keyboard.press("n")  # what is not saved keeps the page on its picture
    expected(second, "#progress-text").to_have_text(re.compile("^picture 1 of 3"))
    second.on("dialog", lambda dialog: dialog.accept())  # yes, leave what was not saved
    second.reload()
    second.locator(".point").nth(20).wait_for()
    expected(second, "#group").to_have_value("bob")
    for name in ("carl", "dora"):  # one after the other: each answer says what the next change is of
        second.fill("#group", name)
        second.keyboard.press("Tab")
        wait_until_saved(second)
        assert [entry["group"] for entry in labels_in(folder)] == [name]


def test_all_of_it_works_by_keyboard(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    page.locator(".point[data-point='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    wait_until_saved(page)
    proposed = np.array(server.store.hand(0)["proposed"])
    assert np.array(labels_in(folder)[0]["keypoints"][0]) - proposed[0] == pytest.approx([1, 10], abs=0.02)
    page.keyboard.press("Tab")
    page.keyboard.press("Delete")
    expected(page, ".point").to_have_count(20)
    wait_until_saved(page)
    assert labels_in(folder)[0]["keypoints"][1] is None
    for presses, count in ((1, 21), (2, 21)):  # undo: the point is back; then the moves
        for _ in range(presses):
            page.keyboard.press("u")
        expected(page, ".point").to_have_count(count)
    expected(page, "#status").to_have_text("no label is saved")
    assert labels_in(folder) == []
    page.keyboard.press("l")
    wait_until_saved(page)
    page.locator("body").press("Enter")
    expected(page, "#name").to_contain_text("1.png")
    page.locator(".point").nth(20).wait_for()
    page.keyboard.press("p")
    expected(page, "#name").to_contain_text("0.png")
    page.locator(".point").nth(20).wait_for()
    assert page.locator("#side").input_value() == "left" == labels_in(folder)[0]["side"]
    assert page.complaints == []


def test_the_group_is_saved_and_zoom_keeps_points_on_the_picture(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    page.locator("#group").fill("anna")
    page.locator("#group").press("Tab")
    wait_until_saved(page)
    assert labels_in(folder)[0]["group"] == "anna"
    shown = page.locator("#picture").bounding_box()
    share = (place_of(page, 3) - (shown["x"], shown["y"])) / shown["width"]
    page.locator("#larger").click()
    larger = page.locator("#picture").bounding_box()
    assert larger["width"] == pytest.approx(1.5 * shown["width"], abs=2)
    assert (place_of(page, 3) - (larger["x"], larger["y"])) / larger["width"] == pytest.approx(share, abs=0.003)


def test_it_fits_a_phone(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server, 390, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#accept").bounding_box()["height"] >= 40
    page.locator("#accept").click()
    expected(page, "#name").to_contain_text("1.png")
    page.locator(".point").nth(20).wait_for()
    keep(page, "annotate_390.png")
    assert [entry["file"] for entry in labels_in(folder)] == ["0.png"]


def test_a_label_that_can_not_be_saved_is_told(server: AnnotationServer, folder: Path, browser, monkeypatch):
    page = opened(browser, server)

    def full(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(server.store, "save", full)
    tip = KEYPOINT_NAMES.index("index_tip")
    before = place_of(page, tip)
    drag(page, before, (40, 20))
    expected(page, "#status").to_contain_text("not saved: the disk is full")
    for way in ("#accept", "#next"):
        page.locator(way).click()
        expected(page, "#status").to_contain_text("not saved: the disk is full")
        assert "0.png" in page.locator("#name").text_content(), "it stays where it is"
    assert place_of(page, tip) == pytest.approx(np.add(before, (40, 20)), abs=1), "and keeps the points"
    monkeypatch.undo()
    page.locator("#next").click()  # it saves them first
    expected(page, "#name").to_contain_text("1.png")
    (entry,) = labels_in(folder)
    moved = np.array(entry["keypoints"][tip]) - np.array(server.store.hand(0)["proposed"][tip])
    assert np.linalg.norm(moved) > 10 and entry["file"] == "0.png"


def test_a_folder_that_became_read_only_is_told_on_the_page(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    with mock.patch("handpose_lib.annotate.store.atomic_path", side_effect=PermissionError(13, "Permission denied")):
        page.locator("#accept").click()
        expected(page, "#status").to_contain_text("keypoints.json can't be written")
    assert not (folder / "keypoints.json").exists()


def test_a_drag_that_is_going_on_ends_where_the_next_picture_begins(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    tip = KEYPOINT_NAMES.index("index_tip")
    before = place_of(page, tip)
    page.mouse.move(*before)
    page.mouse.down()
    page.mouse.move(*np.add(before, (30, 15)), steps=4)
    page.keyboard.press("n")
    expected(page, "#name").to_contain_text("1.png")
    page.locator(".point").nth(20).wait_for()
    page.mouse.move(*np.add(before, (60, 90)), steps=4)  # the button is still down
    page.mouse.up()
    expected(page, "#status").to_contain_text("not saved yet")
    (entry,) = labels_in(folder)
    assert entry["file"] == "0.png", "the point as it was, saved where it belongs"
    moved = np.array(entry["keypoints"][tip]) - np.array(server.store.hand(0)["proposed"][tip])
    assert np.linalg.norm(moved) > 10
    assert page.complaints == []


def test_accept_pressed_twice_goes_on_by_one_picture_at_a_time(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    # Both at once: a second one that comes after the next picture is shown would rightly accept that.
    page.evaluate(
        "for (let i = 0; i < 2; i += 1) "
        "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))"
    )
    expected(page, "#name").to_contain_text("1.png")
    expected(page, "#status").to_contain_text("not saved yet")
    page.wait_for_timeout(300)
    assert "1.png" in page.locator("#name").text_content()


class Gate:
    """Holds what the page saves and removes until it is opened; `came` tells what came through."""

    def __init__(self, store: LabelStore, monkeypatch: pytest.MonkeyPatch):
        self.opened, self.came = threading.Event(), []
        for name in ("save", "remove"):
            monkeypatch.setattr(store, name, partial(self._held, name, getattr(store, name)))

    def _held(self, name: str, way, *arguments) -> int:
        assert self.opened.wait(60)
        try:
            return way(*arguments)
        finally:
            self.came.append(name)

    def wait_for(self, page, *came: str) -> None:
        self.opened.set()
        for _ in range(600):
            if len(self.came) >= len(came):
                break
            page.wait_for_timeout(50)
        page.wait_for_timeout(200)
        assert self.came == list(came)


def test_an_undo_before_the_answer_takes_back_one_change(server: AnnotationServer, folder: Path, browser, monkeypatch):
    page = opened(browser, server)
    gate = Gate(server.store, monkeypatch)
    page.locator(".point[data-point='0']").focus()
    for key in ("ArrowRight", "ArrowRight", "u"):
        page.keyboard.press(key)
    gate.wait_for(page, "save", "save", "save")
    wait_until_saved(page)
    moved = np.array(labels_in(folder)[0]["keypoints"][0]) - server.store.hand(0)["proposed"][0]
    assert moved == pytest.approx([1, 0], abs=0.02)
    gate.opened.clear()
    page.keyboard.press("u")
    page.keyboard.press("ArrowDown")  # before the label is away
    page.keyboard.press("u")
    gate.wait_for(page, *["save"] * 3, "remove", "save", "remove")
    expected(page, "#status").to_have_text("no label is saved")
    assert labels_in(folder) == []


def test_a_label_is_removed_though_its_first_change_is_still_being_saved(
    server: AnnotationServer, folder: Path, browser, monkeypatch
):
    page = opened(browser, server)
    gate = Gate(server.store, monkeypatch)
    expected(page, "#remove").to_be_disabled()
    drag(page, place_of(page, 8), (40, 20))
    expected(page, "#remove").to_be_enabled()
    page.keyboard.press("x")
    expected(page, "#remove").to_be_disabled()
    gate.wait_for(page, "save", "remove")
    expected(page, "#status").to_have_text("no label is saved")
    assert labels_in(folder) == []
    page.keyboard.press("u")  # the label is back, with its point where it was dragged to
    wait_until_saved(page)
    moved = np.array(labels_in(folder)[0]["keypoints"][8]) - server.store.hand(0)["proposed"][8]
    assert np.linalg.norm(moved) > 10


def test_after_a_save_that_failed_undo_and_remove_do_what_they_say(
    server: AnnotationServer, folder: Path, browser, monkeypatch
):
    page = opened(browser, server)

    def fails(method: str, key: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(server.store, method, mock.Mock(side_effect=OSError("the disk is full")))
            page.keyboard.press(key)
            expected(page, "#status").to_have_text("not saved: the disk is full")

    page.locator(".point[data-point='0']").focus()
    fails("save", "ArrowRight")
    page.keyboard.press("u")
    expected(page, "#status").to_have_text("no label is saved")
    page.keyboard.press("ArrowRight")
    wait_until_saved(page)
    fails("remove", "x")
    page.keyboard.press("x")
    expected(page, "#status").to_have_text("no label is saved")
    assert labels_in(folder) == []
    page.keyboard.press("u")
    wait_until_saved(page)
    moved = np.array(labels_in(folder)[0]["keypoints"][0]) - server.store.hand(0)["proposed"][0]
    assert moved == pytest.approx([1, 0], abs=0.02)


def test_undo_takes_back_the_side_and_the_group_before_the_points(server: AnnotationServer, folder: Path, browser):
    page = opened(browser, server)
    page.locator(".point[data-point='0']").focus()
    page.keyboard.press("ArrowRight")
    wait_until_saved(page)
    page.keyboard.press("l")
    page.locator("#group").fill("anna")
    page.locator("#group").press("Tab")
    for side, group in (("left", ""), ("", "")):
        page.locator("#undo").click()
        expected(page, "#group").to_have_value(group)
        expected(page, "#side").to_have_value(side)
        wait_until_saved(page)
    moved = np.array(labels_in(folder)[0]["keypoints"][0]) - server.store.hand(0)["proposed"][0]
    assert moved == pytest.approx([1, 0], abs=0.02)
    page.locator("#undo").click()
    expected(page, "#status").to_have_text("no label is saved")


def test_a_page_that_is_left_before_all_is_saved_asks(server: AnnotationServer, browser, monkeypatch):
    page = opened(browser, server)
    gate, questions = Gate(server.store, monkeypatch), []
    page.on("dialog", lambda dialog: (questions.append(dialog.type), dialog.dismiss()))
    page.locator(".point[data-point='0']").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    with contextlib.suppress(Exception):  # the page stays, which Playwright takes for an error
        page.goto("about:blank")
    assert questions == ["beforeunload"] and page.url.startswith(server.address)
    gate.wait_for(page, "save", "save")
    page.goto("about:blank")
    assert questions == ["beforeunload"]


def test_a_network_that_fails_is_told_on_the_page(server: AnnotationServer, browser, monkeypatch):
    page = opened(browser, server)
    monkeypatch.setattr(server.store, "_proposal", mock.Mock(side_effect=RuntimeError("CUDA out of memory")))
    page.locator("#next").click()
    expected(page, "#status").to_contain_text("CUDA out of memory")
    assert "no longer running" not in page.locator("#status").text_content()
