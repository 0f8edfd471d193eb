"""The page on which labels are made: what its server refuses, what it saves, and a person's hand on it in Chromium."""

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from dots import dot_predictor, draw_dots, hand_of_dots

from handpose_lib.annotate.server import MOST_BYTES, AnnotationServer
from handpose_lib.annotate.store import LabelStore
from handpose_lib.cli import main
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.storage import runs_folder

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


# --- the server -------------------------------------------------------------------------------------------------------


def test_two_people_who_label_one_folder_keep_each_others_labels(folder: Path):
    first, second = (LabelStore(folder, dot_predictor()) for _ in range(2))
    assert first.save(0, LABEL) == 1
    assert second.save(1, LABEL | {"group": "bob"}) == 2
    assert first.save(2, LABEL) == 3
    labels = {entry["file"]: entry.get("group") for entry in json.loads((folder / "keypoints.json").read_text())}
    assert labels == {"0.png": None, "1.png": "bob", "anna/2.png": None}
    assert first.hand(1)["saved"] and second.remove(0) == 2 and first.remove(1) == 1
    (folder / "keypoints.json").write_text("half of a fi")
    with pytest.raises(ValueError, match=r"keypoints\.json is not valid JSON"):
        first.save(0, LABEL)
    assert (folder / "keypoints.json").read_text() == "half of a fi"


def test_a_picture_has_a_proposal_until_its_label_is_saved(server: AnnotationServer, folder: Path):
    state = json.loads(asked(server, "state")[2])
    assert [p["name"] for p in state["pictures"]] == ["0.png", "1.png", "anna/2.png"] and len(state["keypoints"]) == 21
    hand = json.loads(asked(server, "hand/1")[2])
    assert hand["size"] == [480, 360] and not hand["saved"] and not (folder / "keypoints.json").exists()
    assert np.linalg.norm(np.array(hand["keypoints"]) - HANDS[1], axis=-1).mean() < 3
    assert json.loads(asked(server, "hand/2")[2])["group"] == "anna", "the picture's folder"
    label = LABEL | {"keypoints": [None, *LABEL["keypoints"][1:]], "side": "left", "group": " bob "}
    assert json.loads(put(server, 0, label)[2]) == {"done": 1}
    again = json.loads(asked(server, "hand/0")[2])
    assert again["saved"] and again["keypoints"][0] is None and (again["side"], again["group"]) == ("left", "bob")
    assert np.allclose(again["keypoints"][5], HANDS[0][5], atol=0.01)
    assert json.loads(asked(server, "hand/1")[2])["group"] == "bob", "that of the picture before"
    dataset = KeypointFolder(folder, "all")
    assert len(dataset) == 1 and dataset.version_names.tolist() == ["left"]
    assert json.loads(asked(server, "hand/0", "DELETE")[2]) == {"done": 0}
    assert json.loads((folder / "keypoints.json").read_text()) == []


def test_labels_are_kept_in_the_pictures_order_and_those_of_other_pictures_stay(server: AnnotationServer, folder: Path):
    for number in (2, 0, 1):
        assert put(server, number, LABEL)[0] == 200
    entries = json.loads((folder / "keypoints.json").read_text())
    assert [entry["file"] for entry in entries] == ["0.png", "1.png", "anna/2.png"]
    (folder / "0.png").unlink()
    store = LabelStore(folder, dot_predictor())
    assert [p["done"] for p in store.overview()["pictures"]] == [True, True]
    assert store.remove(0) == 1
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


def labels_in(folder: Path) -> list[dict]:
    return json.loads((folder / "keypoints.json").read_text())


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
