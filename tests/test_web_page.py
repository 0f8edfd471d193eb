"""The page in a browser: it answers what the Python predictor answers, follows a camera, and talks to nobody."""

import base64
import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from handpose_lib.bench import processor_name
from handpose_lib.calibration import calibrated, calibration_of
from handpose_lib.decoding import decoding_of, points_on_input
from handpose_lib.export import example_squares
from handpose_lib.framing import Framing, crop_matrices, cut
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro
from handpose_lib.storage import user_cache
from handpose_lib.synthhand.clip import render_clip
from handpose_lib.track import HandTracker
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.web import build, place, runtime
from handpose_lib.web.server import page_server

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
if not Path(CHROMIUM).is_file():
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the dev extra")

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--force-color-profile=srgb")  # fmt: skip
FIGURES = os.environ.get("HANDPOSE_WEB_FIGURES")
PACKAGE = Path(os.environ.get("HANDPOSE_WEB_RUNTIME") or user_cache() / f"{runtime.RUNTIME}-{runtime.VERSION}.tgz")
PATIENCE = 120_000  # ms, on a machine that does something else too
HANDS = (1, 2, 3)[: 1 if FIGURES else 3]  # seeds of the clips in the camera's film; where one is measured, no cuts
STEPS = 16  # frames of a clip there, and as many back
HELD = 3  # thirtieths of a second that each of them stays, since a busy machine looks a few times per second
CAMERA = (640, 480)
FILM = 160  # px, before it is enlarged: to render it takes a while
NO_8_BITS = "this page was put together without a network in 8 bits; make web adds it"
BITS = 8  # of a frame's number, as blocks below one another

# What the page answers, with the number that is drawn into a frame as blocks along its right side.
COLLECT = """
window.answers = [];
document.addEventListener("handpose", ({ detail }) => {
  const { keypoints, confidence, found, searched, milliseconds, bitmap, kind, seconds, size } = detail;
  const blocks = new OffscreenCanvas(1, bitmap.height).getContext("2d", { willReadFrequently: true });
  blocks.drawImage(bitmap, bitmap.width / 32 - bitmap.width, 0);
  const { data } = blocks.getImageData(0, 0, 1, bitmap.height);
  let number = 0;
  for (let bit = 0; bit < 8; bit += 1) {
    number += (data[4 * Math.floor((bit + 0.5) * bitmap.height / 8) + 1] > 127) << bit;
  }
  const { width } = bitmap;
  window.answers.push({ number, width, keypoints, confidence, found, searched, milliseconds, kind, seconds, size });
});
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, traced_once) -> Path:
    """The page: this checkout's own if it is up to date, else one that is put together now, without 8 bits."""
    folder, built = tmp_path_factory.mktemp("web") / "page", place.page_folder()
    place.copy_source(folder)
    if place.problem_of(built) is None:
        for name in ("ort", "models", "examples"):
            (folder / name).symlink_to(built / name)
    elif PACKAGE.is_file():
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: it is in the extra `export`")
        runtime.write_runtime(folder / "ort", PACKAGE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "traced", traced_once)
            build.write_models(folder / "models", eight_bit=False)
        build.write_examples(folder / "examples")
    else:
        pytest.skip(f"there is no page that `make web` built, and no {PACKAGE} (HANDPOSE_WEB_RUNTIME may name one)")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Served as a plain host does it, without the headers that give a page several threads."""
    with page_server(folder, isolated=False) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.address
        server.shutdown()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray], np.ndarray]:
    """A camera's film of three rendered hands, each there and back, with its frames (H, W, 3) and keypoints (T, 21, 2).

    A frame's number is drawn into it as blocks along its right side.
    """
    (width, height), frames, truth, order = CAMERA, [], [], []
    for seed in HANDS:
        clip = range(len(frames), len(frames) + STEPS)
        order += [number for number in (*clip, *reversed(clip)) for _ in range(HELD)]
        for frame in render_clip(STEPS, seed=seed, size=FILM):
            image = np.full((height, width, 3), 60, np.uint8)
            image[:, :height] = cv2.resize(frame.image, (height, height), interpolation=cv2.INTER_CUBIC)
            for bit in range(BITS):
                block = slice(bit * height // BITS, (bit + 1) * height // BITS)
                image[block, width - width // 16 :] = 255 * (len(frames) >> bit & 1)
            frames.append(image)
            truth.append((frame.keypoints + 0.5) * height / FILM - 0.5)
    jpegs = [as_the_camera_reads_it(frame) for frame in frames]
    path = tmp_path_factory.mktemp("film") / "film.mjpeg"
    path.write_bytes(b"".join(jpegs[number] for number in order))
    return path, frames, np.array(truth)


def as_the_camera_reads_it(frame: np.ndarray) -> bytes:
    """A JPEG of a frame (H, W, 3) that Chromium's fake camera shows in the frame's own colours.

    It takes a JPEG's brightness of 0 to 255 for a video's, where black is 16 and white 235, and so shows a plain JPEG
    with a tenth more contrast.
    """
    colours = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    colours = colours * np.divide((219, 224, 224), 255) + (16, 128 * 31 / 255, 128 * 31 / 255)
    picture = cv2.cvtColor(np.rint(colours).astype(np.uint8), cv2.COLOR_YCrCb2BGR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.fixture(scope="module")
def browser(film) -> Iterator[playwright.Browser]:
    camera = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
              f"--use-file-for-fake-video-capture={film[0]}")  # fmt: skip
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*QUIET, *camera])
        yield browser
        browser.close()


class Visit:
    """A page that is open, with all that it asked for and complained about."""

    def __init__(self, browser: playwright.Browser, **options):
        self.context = browser.new_context(**options)
        self.context.add_init_script(COLLECT)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def open(self, address: str) -> "Visit":
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")
        return self

    def choose(self, precision: str) -> None:
        """The arithmetic to compute in; waits until its network is loaded."""
        if self.page.get_attribute("body", "data-ready") != precision:
            self.page.select_option("#precision", precision)
            self.page.wait_for_selector(f"body[data-ready={precision}]")

    def until(self, condition: str) -> None:
        """Waits for a condition; Playwright's own way to do so is forbidden by the page's security policy."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(condition):
            if time.monotonic() > deadline:
                pytest.fail(f"not so after {PATIENCE / 1000:.0f} s: {condition}; the page says {self.errors}")
            self.page.wait_for_timeout(50)

    def answers(self, count: int) -> list[dict]:
        """The first `count` answers, or more if there are."""
        self.until(f"window.answers.length >= {count}")
        return self.page.evaluate("window.answers")

    def message(self, part: str) -> str:
        """The page's message, as soon as it contains `part`."""
        self.until(f"document.getElementById('message').textContent.includes({json.dumps(part)})")
        return self.page.inner_text("#message")

    def drop(self, name: str, kind: str, content: str) -> None:
        transfer = self.page.evaluate_handle(
            "([name, type, content]) => { const t = new DataTransfer();"
            "t.items.add(new File([content], name, { type })); return t; }",
            [name, kind, content],
        )
        self.page.dispatch_event("#stage", "drop", {"dataTransfer": transfer})


@pytest.fixture(scope="module")
def visit(browser: playwright.Browser, address: str) -> Iterator[Visit]:
    """One visit for most of the tests, because to load the network takes longest; it must end without any error."""
    visit = Visit(browser, viewport={"width": 1280, "height": 900})
    yield visit.open(address)
    visit.context.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, bundled_root: Path) -> list[Path]:
    """Twenty rendered hands: whole ones, and wide pictures in which the hand is small and at one side."""
    folder, files = tmp_path_factory.mktemp("pictures"), []
    dataset = FreiHAND(bundled_root, "test", versions="sample")
    for number in range(20):
        image = dataset[number * len(dataset) // 20][0].numpy().transpose(1, 2, 0)[..., ::-1]
        if number % 4 == 3:
            wide = np.full((300, 400 + 20 * number, 3), 90, np.uint8)
            wide[30:254, 9 * number : 9 * number + 224] = image
            image = wide
        files.append(folder / f"{number}.png")
        cv2.imwrite(str(files[-1]), image)
    return files


# --- modules that need no network -------------------------------------------------------------------------------------


def run_module(visit: Visit, script: str, values: object) -> object:
    return visit.page.evaluate(f"async (values) => {{ {script} }}", values)


def test_a_square_is_cut_as_in_python(visit: Visit):
    """Mostly within one grey level: larger and smaller than their part, turned, beyond the border, black and white."""
    rng = np.random.default_rng(0)
    script = """
      const { cut } = await import("./cut.js"); const { cropMap } = await import("./geometry.js");
      const { pixels, width, height, points, share, size, up } = values;
      const part = (left, top, w, h) => {
        const rgba = new Uint8ClampedArray(w * h * 4);
        for (let y = 0; y < h; y += 1) for (let x = 0; x < w; x += 1) for (let c = 0; c < 3; c += 1)
          rgba[(y * w + x) * 4 + c] = pixels[((top + y) * width + left + x) * 3 + c];
        return rgba;
      };
      const map = cropMap(points, share, size, up);
      return { map, square: Array.from(cut({ width, height, part }, map, size)) };
    """
    sizes = (
        (45, 60, 20, 48),
        (60, 75, 70, 24),
        (35, 20, 30, 32),
        (100, 16, 95, 16),
        (300, 240, 280, 24),
        (90, 70, 80, 8),
    )
    for width, height, span, size in sizes:
        image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5), 0)
        if width == 300:
            image = 255 * rng.integers(0, 2, (height, width, 3), dtype=np.uint8)
        elif width == 90:
            image[:] = 255
        points = (rng.uniform(-0.5, 0.5, (21, 2)) * span + (width / 2, height / 2)).astype(np.float32)
        up = rng.normal(size=2)
        wanted = crop_matrices(torch.from_numpy(points)[None], 0.55, (size, size), torch.tensor(up).float()[None])[0]
        facts = {"pixels": image.ravel().tolist(), "width": width, "height": height, "points": points.tolist()}
        answer = run_module(visit, script, facts | {"share": 0.55, "size": size, "up": up.tolist()})
        np.testing.assert_allclose(np.reshape(answer["map"], (2, 3)), wanted, rtol=1e-3, atol=1e-3)
        square = np.reshape(answer["square"], (size, size, 3)).astype(int)
        off = np.abs(square - cut(image, np.reshape(answer["map"], (2, 3)), size))
        assert off.max() <= 2 and (off <= 1).mean() > 0.99, (off.max(), (off <= 1).mean())


@pytest.mark.parametrize(("sigma", "size", "upright"), [(1.25, 32, True), (2.0, 24, True), (1.25, 32, False)])
def test_heatmaps_are_decoded_as_in_python(visit: Visit, sigma: float, size: int, upright: bool):
    """Peaks between pixels, at and beyond the border, narrow and wide ones, several per map, flat and damaged maps."""
    rng = np.random.default_rng(7)
    model = HandPosePredictor.from_pretrained().model
    bundled, calibration = decoding_of(model)["bones"], calibration_of(model)
    hands = torch.from_numpy(rng.uniform(-1, size, (12, 21, 2))).float()
    heatmaps = render_heatmaps(hands, (size, size), sigma=sigma)
    for _ in range(2):  # others, of which some are higher
        aside = render_heatmaps(torch.from_numpy(rng.uniform(0, size, (12, 21, 2))).float(), (size, size), sigma=sigma)
        heatmaps += aside * torch.from_numpy(rng.uniform(0, 1.2, (12, 21, 1, 1))).float()
    heatmaps[1] = render_heatmaps(hands[1:2], (size, size), sigma=0.8 * sigma)[0]
    heatmaps[2] = render_heatmaps(hands[2:3], (size, size), sigma=1.4 * sigma)[0]
    heatmaps += 0.02 * torch.from_numpy(rng.normal(size=heatmaps.shape)).float()
    heatmaps[3, 5], heatmaps[3, 6] = 0, -heatmaps[3, 6].abs()
    heatmaps[4, 7, 3, 3], heatmaps[4, 8, 2, 2], heatmaps[4, 15, 0, 0] = torch.nan, torch.inf, torch.nan
    framing = Framing(4 * size, crop=0.55 if upright else 0.0, upright=upright)
    keypoints, peaks = points_on_input(heatmaps, framing, sigma=sigma, bones=bundled if upright else ())
    script = """
      const { decode } = await import("./decode.js");
      return values.maps.map((map) => {
        const numbers = map.map((each) => ({ nan: NaN, inf: Infinity })[each] ?? each);
        const heatmaps = { values: Float32Array.from(numbers), side: values.side };
        return decode(heatmaps, values.network, values.facts);
      });
    """
    facts = json.loads(visit.page.evaluate("fetch('models/facts.json').then((answer) => answer.text())"))
    network = {"image_size": 4 * size, "sigma": sigma, "bones": bundled if upright else [], "calibration": calibration}
    maps = [[each if np.isfinite(each) else str(each) for each in hand] for hand in heatmaps.flatten(1).tolist()]
    found = run_module(visit, script, {"maps": maps, "side": size, "network": network, "facts": facts})
    usual = torch.ones(12, 21, dtype=torch.bool)
    if upright:
        usual[3:5, 5:9] = False  # where nothing is high, the place has no meaning, and the finger depends on it
    else:
        usual[4, 7] = usual[4, 15] = False  # without chains, a NaN leaves no place with a meaning in Python
    off = (torch.tensor([each["keypoints"] for each in found]) - keypoints).norm(dim=-1)
    assert off[usual].max() < 0.01 and off.isfinite().all(), off
    sure = torch.tensor([each["confidence"] for each in found])
    healthy = torch.tensor([number != 4 for number in range(12)])
    torch.testing.assert_close(sure[healthy], calibrated(peaks, calibration)[healthy], atol=1e-5, rtol=0)
    assert ((sure >= 0) & (sure <= 1)).all()


def test_keypoints_are_filtered_as_in_python(visit: Visit):
    rng = np.random.default_rng(1)
    points = np.cumsum(rng.normal(size=(12, 21, 2)), 0).astype(np.float32) * 4
    times = np.cumsum(rng.uniform(0.02, 0.08, 12))
    script = """
      const { OneEuro } = await import("./tracker.js");
      const filter = new OneEuro(values.facts);
      return values.points.map((each, index) => filter.next(each, values.times[index], 80));
    """
    facts = json.loads(visit.page.evaluate("fetch('models/facts.json').then((answer) => answer.text())"))["smoothing"]
    found = run_module(visit, script, {"facts": facts, "points": points.tolist(), "times": times.tolist()})
    smoothing = OneEuro()
    wanted = [smoothing(torch.from_numpy(p), t, 80.0).numpy() for p, t in zip(points, times.tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-2)
    assert np.abs(np.array(found) - points).max() > 1  # it does filter


def test_a_hand_is_followed_to_the_same_places_as_in_python(visit: Visit):
    """Where each look of a film is taken, with uneven times, a leap and a frame in which the hand is lost."""
    rng = np.random.default_rng(2)
    hand = rng.uniform(0, 60, (21, 2))
    places = np.cumsum(rng.normal(0, 6, (14, 2)), 0)
    places[9:] += (0, 90)  # farther than a look is moved on
    answers = (hand + places[:, None]).astype(np.float32)
    times = np.cumsum(rng.uniform(0.02, 0.12, 14))
    sure = [0.9] * 14
    sure[5] = 0.1
    script = """
      const { Tracker } = await import("./tracker.js");
      const asked = [];
      let frame = 0;
      const answer = (kind, keypoints) => {
        asked.push([kind, keypoints]);
        const confidence = new Array(21).fill(kind === "search" ? 0.9 : values.sure[frame]);
        return { keypoints: values.answers[frame], confidence };
      };
      const predictor = { search: () => answer("search", null), follow: (picture, points) => answer("follow", points) };
      const tracker = new Tracker(predictor, 0.5);
      for (; frame < values.times.length; frame++) await tracker.next(null, values.times[frame]);
      return asked;
    """
    found = run_module(visit, script, {"answers": answers.tolist(), "times": times.tolist(), "sure": sure})
    wanted: list[tuple] = []
    now = [0]

    class Scripted:
        def search(self, picture, box=None):
            wanted.append(("search", None))
            return torch.from_numpy(answers[now[0]]), torch.full((21,), 0.9)

        def follow(self, picture, keypoints):
            wanted.append(("follow", keypoints.numpy()))
            return torch.from_numpy(answers[now[0]]), torch.full((21,), sure[now[0]])

    tracker = HandTracker(Scripted())
    for now[0], second in enumerate(times.tolist()):
        tracker(np.zeros((8, 8, 3), np.uint8), second)
    assert [kind for kind, _ in found] == [kind for kind, _ in wanted]
    for (kind, points), (_, around) in zip(found, wanted, strict=True):
        if kind == "follow":
            np.testing.assert_allclose(points, around, atol=1e-2)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("upright", [True, False])
def test_a_look_that_follows_a_hand_is_as_close_as_in_python(visit: Visit, upright: bool, small: bool):
    framing = Framing(image_size=128, crop=0.4, upright=upright)
    model = UNet2DHandPose(width=4, depth=2, framing=framing)
    squares = build.small_squares(HandPosePredictor(model)) if small else None
    predictor = HandPosePredictor(model, followed=squares)
    hand = np.random.default_rng(5).uniform(10, 90, (21, 2)).astype(np.float32)
    script = """
      const { Predictor } = await import("./predictor.js");
      const predictor = new Predictor(values.facts, values.facts.networks);
      predictor.look = async (role, picture, map, mirrored = false) => [role, mirrored, map];
      predictor.small = values.small;
      return await predictor.follow(null, values.hand);
    """
    facts = {
        "networks": {"landmark": framing.to_json()} | ({"follower": squares.to_json()} if small else {}),
        "search": build.search_facts(predictor),
        "tracking": build.tracking_facts(predictor),
    }
    *how, view = run_module(visit, script, {"facts": facts, "hand": hand.tolist(), "small": small})
    assert how == ["follower" if small else "landmark", False]
    wanted = predictor.followed.around(torch.from_numpy(hand)[None])[0]
    np.testing.assert_allclose(np.reshape(view, (2, 3)), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize(
    "sure",
    [
        [0.9] * 9,  # found at once
        [0.9, 0.8, 0.3, 0.2, 0.9, 0.7, 0.8, 0.9, 0.9],  # closer looks that are much less sure do not stand
        [0.9, 0.2, 0.3, 0.1, 0.3, 0.6, 0.4, 0.7, 0.6],  # what the finder found is no hand, a turn shows one
        [0.9, 0.4, 0.4, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1],  # none does
    ],
)
@pytest.mark.parametrize("with_finder", [True, False])
def test_a_picture_is_searched_as_in_python(visit: Visit, passes: int, sure: list[float], with_finder: bool):
    """Look by look: which network, which square, mirrored or not, where the answers of all looks are given."""
    framing = Framing(image_size=32, crop=0.55, upright=True)
    finder = UNet2DHandPose(width=4, depth=2, framing=Framing(image_size=16)) if with_finder else None
    model = UNet2DHandPose(width=4, depth=2, framing=framing)
    predictor = HandPosePredictor(model, passes=passes, finder=finder)
    hands = np.random.default_rng(3).uniform(10, 90, (len(sure), 21, 2)).astype(np.float32)
    asked: list[tuple] = []

    def scripted(role: str):
        def look(pictures, views, mirrored=None):
            number = len(asked)
            asked.append((role, bool(mirrored), views[0].numpy()))
            return torch.from_numpy(hands[number][None]), torch.full((1, 21), sure[number])

        return look

    predictor.look = scripted("landmark")
    if with_finder:
        predictor.finder.look = scripted("finder")
    wanted = predictor.search(np.zeros((80, 120, 3), np.uint8))
    networks = {"landmark": framing.to_json()} | ({"finder": finder.framing.to_json()} if with_finder else {})
    script = """
      const { Predictor } = await import("./predictor.js");
      const predictor = new Predictor(values.facts, values.facts.networks);
      const asked = [];
      predictor.look = async (role, picture, map, mirrored = false) => {
        const number = asked.push([role, mirrored, map]) - 1;
        return { keypoints: values.hands[number], confidence: Array(21).fill(values.sure[number]) };
      };
      const { keypoints, confidence } = await predictor.search({ width: 120, height: 80 });
      return { asked, keypoints, confidence };
    """
    facts = {"networks": networks, "search": build.search_facts(predictor)}
    found = run_module(visit, script, {"facts": facts, "hands": hands.tolist(), "sure": sure})
    assert [tuple(each[:2]) for each in found["asked"]] == [each[:2] for each in asked]
    for (*_, map_), (*_, view) in zip(found["asked"], asked, strict=True):
        np.testing.assert_allclose(np.reshape(map_, (2, 3)), view, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["keypoints"], wanted[0])
    np.testing.assert_allclose(found["confidence"], wanted[1], rtol=1e-6)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "precision", "largest", "median"),
    [("landmark", "exact", 0.1, 0.01), ("landmark", "fast", np.inf, 0.5), ("follower", "fast", np.inf, 0.5)],
)
def test_single_looks_say_what_python_says_of_the_same_square(visit: Visit, role, precision, largest, median):
    facts = json.loads(visit.page.evaluate("fetch('models/facts.json').then((answer) => answer.text())"))
    if precision not in facts["networks"].get(role, {}):
        pytest.skip(NO_8_BITS)
    predictor = HandPosePredictor.from_pretrained(mirrored=False)
    framing = build.small_squares(predictor) if role == "follower" else predictor.framing
    squares, _ = example_squares(framing, 20, "test")
    script = """
      const { decode } = await import("./decode.js"); const { Network } = await import("./runtime.js");
      const network = await Network.load(values.network, values.exact);
      const answers = [];
      for (const square of values.squares) {
        const bytes = Uint8Array.from(atob(square), (each) => each.charCodeAt(0));
        answers.push(decode(await network.run([bytes]), values.network, values.facts));
      }
      return answers;
    """
    encoded = [base64.b64encode(square.tobytes()).decode() for square in squares]
    network = facts["networks"][role]
    values = {"network": network, "exact": precision == "exact", "squares": encoded, "facts": facts}
    answers = run_module(visit, script, values)
    views = torch.eye(2, 3).expand(len(squares), 2, 3)
    keypoints, confidence = predictor.look(list(squares), views, framing=framing)
    off = np.linalg.norm([a["keypoints"] for a in answers] - keypoints.numpy(), axis=-1)  # (20, 21) px of the square
    assert off.max() < largest and np.median(off) < median, (off.max(), np.median(off))
    if precision == "exact":
        np.testing.assert_allclose([a["confidence"] for a in answers], confidence, atol=1e-3)


def test_pictures_get_the_keypoints_that_python_gives_them(visit: Visit, pictures: list[Path]):
    """All but those few of whose heatmap two places are equally high: a single grey level decides between them.

    Where that is so in an earlier look, the next square is another one, and the whole picture is left out.
    """
    visit.choose("exact")
    visit.page.evaluate("window.answers.length = 0")
    for number, file in enumerate(pictures, 1):
        visit.page.set_input_files("#picture-file", file)
        answers = visit.answers(number)
    predictor = HandPosePredictor.from_pretrained(engine="pytorch")
    looked, heatmaps_of = [], predictor._heatmaps
    predictor._heatmaps = lambda *given: looked.append(heatmaps_of(*given)) or looked[-1]
    keypoints, confidence, tied, parted = [], [], [], []
    for file in pictures:
        looked.clear()
        for values, answer in zip((keypoints, confidence), predictor(file), strict=True):
            values.append(answer[0].numpy())
        tied.append(ties(looked[-1])[0].numpy())  # of the last look, which is the one that mostly stands
        parted.append(any(bool(ties(each).any()) for each in looked[:-1]))
    found, sure = (np.array([a[name] for a in answers]) for name in ("keypoints", "confidence"))
    assert np.mean(tied) < 0.03 and sum(parted) <= 3, (tied, parted)
    off = np.linalg.norm(found - keypoints, axis=-1)[~np.array(parted)]  # (17 or more, 21) px
    off = np.ma.array(off, mask=np.array(tied)[~np.array(parted)])
    assert off.mean(1).max() < 1 and np.ma.median(off) < 0.1, (off.mean(1).round(2), off.max(1).round(2))
    assert np.abs(sure - confidence).mean(1)[~np.array(parted)].max() < 0.02


def ties(heatmaps: torch.Tensor) -> torch.Tensor:
    """Which keypoints (B, K) have a second place in their heatmap, more than 2 px away, as high to half a percent."""
    width = heatmaps.shape[-1]
    peak, index = heatmaps.flatten(2).max(-1)
    y, x = torch.meshgrid(*map(torch.arange, heatmaps.shape[2:]), indexing="ij")
    right, down = x - (index % width)[..., None, None], y - (index // width)[..., None, None]
    away = right.square() + down.square() > 4
    return torch.where(away, heatmaps, 0).amax((-2, -1)) > 0.995 * peak


def test_nothing_is_cut_off_on_small_screens(visit: Visit, pictures: list[Path]):
    visit.page.evaluate("window.answers.length = 0")
    visit.page.set_input_files("#picture-file", pictures[0])
    visit.answers(1)
    size = visit.page.viewport_size
    for width in (320, 390, 1000, size["width"]):
        visit.page.set_viewport_size({"width": width, "height": size["height"]})
        visit.page.wait_for_timeout(100)
        assert farthest_right(visit.page) <= width - 10
    visit.page.set_viewport_size(size)


def farthest_right(page: playwright.Page) -> float:
    """Where the page's content ends, px of the screen."""
    script = "Math.max(...[...document.querySelectorAll('main *')].map((each) => each.getBoundingClientRect().right))"
    return page.evaluate(script)


def test_every_keypoint_has_its_confidence_on_the_page(visit: Visit, pictures: list[Path]):
    visit.page.evaluate("window.answers.length = 0")
    visit.page.set_input_files("#picture-file", pictures[0])
    (answer,) = visit.answers(1)
    for name, sure in zip(KEYPOINT_NAMES, answer["confidence"], strict=True):
        label = visit.page.get_attribute(f"[data-keypoint={name}]", "aria-label")
        assert label == f"{name.replace('_', ' ')}: {int(100 * sure + 0.5)} percent"


def test_the_skeleton_the_heatmaps_and_the_mirror_change_the_drawing(visit: Visit, pictures: list[Path]):
    def drawing() -> bytes:
        return visit.page.locator("#canvas").screenshot()

    visit.page.evaluate("window.answers.length = 0")
    visit.page.set_input_files("#picture-file", pictures[0])
    visit.answers(1)
    visit.page.locator("#canvas").click()  # nothing that could be typed into has the focus
    plain = drawing()
    visit.page.keyboard.press("h")
    heated = drawing()
    assert visit.page.get_attribute("#heatmaps", "aria-pressed") == "true" and heated != plain
    visit.page.keyboard.press("h")
    visit.page.keyboard.press("m")
    mirrored = cv2.imdecode(np.frombuffer(drawing(), np.uint8), cv2.IMREAD_COLOR).astype(int)
    visit.page.keyboard.press("m")
    back = drawing()
    assert back == plain
    back = cv2.imdecode(np.frombuffer(back, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert np.abs(mirrored[:, ::-1] - back).mean() < 3 < np.abs(mirrored - back).mean()


def test_a_mirror_stays_as_it_was_chosen_and_the_keyboard_where_it_was(browser, address: str, pictures: list[Path]):
    """For files and for the camera each; an example that is opened by keyboard vanishes with its button."""
    visit = Visit(browser).open(address)
    visit.page.keyboard.press("m")
    visit.page.focus("[data-example]")
    visit.page.keyboard.press("Enter")
    visit.answers(1)
    assert visit.page.evaluate("document.activeElement.id") == "canvas"
    found = []
    for source in ("file", "camera", "file", "camera"):
        visit.page.evaluate("window.answers.length = 0")
        if source == "file":
            visit.page.set_input_files("#picture-file", pictures[0])
        else:
            visit.page.click("#camera")
        kind = {"file": "picture", "camera": "frame"}[source]
        visit.until(f"window.answers.at(-1)?.kind === '{kind}'")
        found.append(visit.page.get_attribute("#mirror", "aria-pressed"))
        if found == ["true", "true"]:  # the camera's usual mirror is switched off
            visit.page.keyboard.press("m")
    assert found == ["true", "true", "true", "false"]
    visit.context.close()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("notes.txt", "text/plain", "notes.txt is neither a picture nor a video"),
        ("broken.png", "image/png", "broken.png can't be read as a picture"),
        ("broken.mp4", "video/mp4", "broken.mp4 can't be played"),
    ],
)
def test_what_is_no_picture_gets_a_message(visit: Visit, name: str, kind: str, message: str):
    visit.drop(name, kind, "text")
    assert visit.message(message).endswith(".")
    assert "bad" in visit.page.get_attribute("#message", "class")


def test_a_veil_is_there_while_files_are_dragged_over_the_page(visit: Visit):
    script = """
      const transfer = new DataTransfer();
      if (values.files) transfer.items.add(new File(["x"], "x.png"));
      else transfer.setData("text/plain", "x");
      return ["dragenter", "dragenter", "dragleave", "dragleave"].map((name) => {
        document.getElementById("stage").dispatchEvent(new DragEvent(name, { bubbles: true, dataTransfer: transfer }));
        return !document.getElementById("drop").hidden;
      });
    """
    assert run_module(visit, script, {"files": True}) == [True, True, True, False]
    assert run_module(visit, script, {"files": False}) == [False] * 4


def test_the_page_follows_the_system_until_a_theme_is_chosen(browser, address: str):
    page = browser.new_page(color_scheme="dark")
    page.goto(address)

    def paper() -> int:
        return max(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))

    found = [paper()]
    page.emulate_media(color_scheme="light")
    found.append(paper())
    page.click("#theme")
    found.append(paper())
    page.emulate_media(color_scheme="dark")
    page.click("#theme")
    found.append(paper())
    page.emulate_media(color_scheme="dark")
    page.reload()
    found.append(paper())
    assert [value < 60 for value in found] == [True, False, True, False, False]
    page.close()


def test_a_large_picture_is_shrunk_and_its_memory_is_given_back(visit: Visit):
    script = """
      const { readPicture } = await import("./media.js");
      const closed = [];
      const close = ImageBitmap.prototype.close;
      ImageBitmap.prototype.close = function () { closed.push([this.width, this.height]); close.call(this); };
      const canvas = new OffscreenCanvas(60, 40);
      canvas.getContext("2d").fillRect(0, 0, 60, 40);
      const blob = await canvas.convertToBlob();
      const sizes = [];
      for (const longest of [60, 30]) {
        const bitmap = await readPicture(blob, longest);
        sizes.push([bitmap.width, bitmap.height]);
      }
      ImageBitmap.prototype.close = close;
      return { sizes, closed };
    """
    assert run_module(visit, script, None) == {"sizes": [[60, 40], [30, 20]], "closed": [[60, 40]]}


def test_squares_are_small_where_looks_take_too_long(visit: Visit):
    """24 looks decide; whole ones, which take twice as long here, come back where they leave time to spare."""
    script = """
      const { Pace } = await import("./tracker.js");
      const pace = new Pace(0.5);
      return values.map(([milliseconds, small]) => pace.next(milliseconds, small));
    """
    quick, slow = [*[21.0] * 14, *[90.0] * 10], [*[23.0] * 14, *[1.0] * 10]
    # Whole squares go on until the network for small ones is there.
    whole = [(time, False) for time in (*quick, *slow, *[18.5] * 24, *[17.0] * 24, *slow)]
    small = [(time, True) for time in (*[9.5] * 24, *[8.0] * 24)]
    found = np.reshape(run_module(visit, script, [*whole, *small, *whole[:24]]), (-1, 24))
    assert found[:, -1].tolist() == [False, True, True, False, True, True, False, False]
    assert not (found[1:, :-1] != found[:-1, -1:]).any(), "it changes after 24 looks alone"


# --- video and camera -------------------------------------------------------------------------------------------------


@pytest.fixture
def video(film, tmp_path: Path) -> Path:
    """Fifteen frames of a rendered hand, 10 per second."""
    path = tmp_path / "film.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 10, CAMERA)
    if not writer.isOpened():
        pytest.skip("this OpenCV can't write VP8")
    for frame in film[1][:15]:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def test_a_video_is_followed_and_can_be_paused(visit: Visit, video: Path):
    visit.page.evaluate("window.answers.length = 0")
    visit.page.evaluate("document.getElementById('player-video').defaultPlaybackRate = 0.1")  # for slow machines
    visit.page.set_input_files("#video-file", video)
    answers = visit.answers(3)
    assert {a["kind"] for a in answers} == {"frame"} and answers[0]["searched"] and not answers[1]["searched"]
    assert visit.page.is_visible("#speed") and "frames/s" in visit.page.inner_text("#speed")
    visit.page.evaluate("document.activeElement.blur()")
    was_paused = visit.page.evaluate("document.getElementById('player-video').paused")  # it may have come to its end
    for paused in (not was_paused, was_paused):
        visit.page.keyboard.press(" ")
        visit.until(f"document.getElementById('player-video').paused === {str(paused).lower()}")
        visit.until(f"document.getElementById('pause').textContent === '{'Play' if paused else 'Pause'}'")


def test_a_paused_video_shows_the_place_that_was_chosen(visit: Visit, video: Path):
    visit.page.evaluate("window.answers.length = 0")
    visit.page.set_input_files("#video-file", video)
    visit.page.wait_for_selector("#player:visible")
    visit.page.evaluate("document.getElementById('player-video').pause()")
    for chosen in ([3], [1, 12, 7], [9, 2, 14, 5]):  # frames, one soon after the other, as a slider is dragged
        for frame in chosen:
            visit.page.evaluate(
                """(seconds) => {
                const [seek, { duration }] = [document.getElementById("seek"), document.getElementById("player-video")];
                seek.value = seconds / duration;
                seek.dispatchEvent(new Event("input"));
                }""",
                (frame + 0.5) / 10,
            )
            visit.page.wait_for_timeout(20)
        visit.until(f"window.answers.at(-1)?.number === {chosen[-1]}")
        assert visit.page.is_visible("#player") and visit.page.inner_text("#message") == ""


def test_other_networks_look_at_a_paused_video_again(visit: Visit, video: Path):
    if not visit.page.locator("#precision option[value=fastest]:enabled").count():
        pytest.skip(NO_8_BITS)
    visit.page.evaluate("window.answers.length = 0")
    visit.page.set_input_files("#video-file", video)
    visit.page.wait_for_selector("#player:visible")
    visit.answers(1)
    visit.page.evaluate("document.getElementById('player-video').pause()")
    visit.page.wait_for_timeout(500)
    for _ in range(2):
        count = len(visit.page.evaluate("window.answers"))
        for precision in ("fastest", "exact", "fast", "exact", "fastest"):  # as somebody runs through them by keyboard
            visit.page.select_option("#precision", precision)
        visit.page.wait_for_selector("body[data-ready=fastest]")
        answers = visit.answers(count + 1)
        assert answers[-1]["number"] == answers[count - 1]["number"]
        shown = visit.page.locator("#fingers span").all_inner_texts()
        assert len(shown) == len(KEYPOINT_NAMES) and "–" not in shown
        visit.choose("exact")
        visit.answers(count + 2)


def test_a_video_that_breaks_after_its_start_gets_a_message(visit: Visit, video: Path):
    content = bytearray(video.read_bytes())
    size = rb"(?:[\x80-\xff]|[\x40-\x7f].|[\x20-\x3f]..|[\x10-\x1f]...)"
    frames = list(re.finditer(rb"\xa3" + size + rb"\x81..[\x00\x80]", content, re.DOTALL))  # where each one's head ends
    assert len(frames) >= 15
    for frame in frames[-4:]:
        content[frame.end() : frame.end() + 20] = 20 * b"\xff"
    video.write_bytes(content)
    visit.page.set_input_files("#video-file", video)
    assert visit.message("film.webm can't be played any further").endswith(".")
    assert "bad" in visit.page.get_attribute("#message", "class") and not visit.page.is_visible("#player")


@pytest.mark.parametrize("precision", ["exact", "fastest"])
def test_a_camera_is_followed(visit: Visit, film, precision: str):
    """Three hands, one after the other, as Python's tracker follows them through the frames that the page saw."""
    _, frames, truth = film
    predictor = HandPosePredictor.from_pretrained(engine="pytorch")
    if precision == "fastest":
        if not visit.page.locator("#precision option[value=fastest]:enabled").count():
            pytest.skip(NO_8_BITS)
        predictor.followed = build.small_squares(predictor)
    if visit.page.get_attribute("#smooth", "aria-pressed") == "true":
        visit.page.click("#smooth")
    visit.choose(precision)
    visit.page.evaluate("window.answers.length = 0")
    visit.page.click("#camera")
    visit.until(f"new Set(window.answers.map((each) => each.number >> {STEPS.bit_length() - 1})).size === {len(HANDS)}")
    answers = visit.answers(40)
    assert visit.page.get_attribute("#mirror", "aria-pressed") == "true"
    visit.page.click("#camera")
    assert (
        visit.message("Camera off") and visit.page.evaluate("document.getElementById('player-video').srcObject") is None
    )
    numbers = [a["number"] for a in answers]
    assert len(set(numbers)) > 10 and max(numbers) < len(frames)
    seen = [(frames[answer["number"]], answer["seconds"]) for answer in answers]
    followed = list(predictor.track(seen))
    pairs = list(zip(answers, followed, strict=True))
    assert np.mean([answer["found"] == (hand.keypoints is not None) for answer, hand in pairs]) >= 0.95
    assert np.mean([a["searched"] for a in answers]) < 0.3
    both = [
        (answer, hand.keypoints.numpy()) for answer, hand in pairs if answer["found"] and hand.keypoints is not None
    ]
    off = {number // STEPS: [] for number in numbers}
    for answer, wanted in both:
        off[answer["number"] // STEPS].append(np.linalg.norm(answer["keypoints"] - wanted, axis=-1).mean())
    assert len(off) == len(HANDS)
    # Each look starts from the last one's answer, so where two places are equally high, two trackers part for a while.
    assert np.mean(np.concatenate(list(off.values())) < 5) >= 0.95, off  # px of 640
    assert all(np.median(each) < 2 for each in off.values()), off
    own, python = (
        np.mean([np.linalg.norm(each[0] - truth[a["number"]], axis=-1).mean() for a, *each in pairs])
        for pairs in ([(a, a["keypoints"]) for a, _ in both], both)
    )
    assert own < 1.1 * python + 1, (own, python)


@pytest.fixture
def paced(browser) -> Iterator[Visit]:
    """A visit of its own, not opened yet."""
    visit = Visit(browser)
    yield visit
    visit.context.close()


def open_paced(visit: Visit, address: str, verdict: str = "() => true") -> None:
    """Opens the page with other verdicts of its `Pace`, a JavaScript function; skips where the page has none."""
    source = (ROOT / "web" / "tracker.js").read_text(encoding="utf-8") + f"Pace.prototype.next = {verdict};\n"
    visit.page.route("**/tracker.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    visit.open(address)
    if visit.page.get_attribute("body", "data-ready") != "auto":
        pytest.skip(NO_8_BITS)


def followed_in(visit: Visit, side: int, count: int = 10) -> None:
    """Waits for so many frames in which a hand was followed in squares of this side."""
    visit.page.evaluate("window.answers.length = 0")
    visit.until(f"window.answers.filter((each) => each.size === {side} && !each.searched).length >= {count}")


def test_squares_are_small_on_a_slow_computer_by_themselves(paced: Visit, address: str):
    """The network for them is fetched where it is needed, and whole squares are looked at until it is there."""
    asked: list[playwright.Route] = []
    paced.page.route("**/models/follower*", lambda route: asked.append(route))
    open_paced(paced, address)
    assert paced.page.input_value("#precision") == "auto" and not asked
    paced.page.click("#camera")
    followed_in(paced, 128, count=20)
    assert len(asked) == 1, "it is asked for once, and nothing waits for it"
    asked[0].continue_()
    followed_in(paced, 96)
    paced.until("document.getElementById('side').textContent === '96 px'")
    answers = paced.page.evaluate("window.answers")
    sides = [each["size"] for each in answers if not each["searched"]]
    assert np.mean([each["found"] for each in answers]) > 0.8 and set(sides[sides.index(96) :]) == {96}
    paced.choose("exact")
    followed_in(paced, 128)
    assert {each["size"] for each in paced.page.evaluate("window.answers")[3:]} == {128}
    paced.choose("auto")
    followed_in(paced, 128)
    assert len(asked) == 2
    asked[1].continue_()
    followed_in(paced, 96)
    assert paced.errors == []


FIVE_EACH = """
function (milliseconds, small) {
  this.wanted ??= { small: true, count: 0 };
  if (small === this.wanted.small) this.wanted.count += 1;
  if (this.wanted.count === 5) this.wanted = { small: !small, count: 0 };
  return this.wanted.small;
}
"""


def test_whole_squares_come_back_where_there_is_time(paced: Visit, address: str):
    open_paced(paced, address, FIVE_EACH)
    paced.page.click("#camera")
    followed = "window.answers.filter((each) => !each.searched).map((each) => each.size).join()"
    paced.until(f"/96,(128,){{4,6}}96/.test({followed})")


def test_whole_squares_stay_where_the_network_for_small_ones_does_not_come(paced: Visit, address: str):
    asked: list[str] = []

    def refuse(route: playwright.Route) -> None:
        asked.append(route.request.url)
        route.abort()

    paced.page.route("**/models/follower*", refuse)
    open_paced(paced, address)
    paced.page.click("#camera")
    followed_in(paced, 128, count=30)
    assert len(asked) == 1 and "bad" not in paced.page.get_attribute("#message", "class")


@pytest.mark.parametrize(("fast", "value", "others"), [(True, "fast", ["exact"]), (False, "exact", [])])
def test_networks_that_the_page_was_built_without_can_not_be_chosen(paced: Visit, address, fast, value, others):
    def facts_without(route: playwright.Route) -> None:
        facts = json.loads(route.fetch().text())
        facts["networks"].pop("follower", None)
        if not fast:
            facts["networks"]["landmark"].pop("fast", None)
        route.fulfill(json=facts)

    paced.page.route("**/models/facts.json", facts_without)
    paced.open(address)
    if fast and paced.page.get_attribute("body", "data-ready") == "exact":
        pytest.skip(NO_8_BITS)
    assert paced.page.input_value("#precision") == value == paced.page.get_attribute("body", "data-ready")
    enabled = paced.page.locator("#precision option:enabled").evaluate_all("(all) => all.map(({ value }) => value)")
    assert sorted(enabled) == sorted([value, *others])


@pytest.mark.skipif(not FIGURES, reason="HANDPOSE_WEB_FIGURES may name a file to write the page's times to")
def test_what_a_tracked_frame_costs(visit: Visit):
    """No bounds, because other programs run too: CPU of the page's process per frame, and frames per second."""
    if visit.page.get_attribute("#smooth", "aria-pressed") == "false":
        visit.page.click("#smooth")
    rows = {"exact": [], "fast": [], "fastest": [], "auto": []}
    for precision in [*rows] * 3:
        visit.choose(precision)
        visit.page.evaluate("window.answers.length = 0")
        visit.page.click("#camera")
        visit.answers(60 if precision == "auto" else 5)  # by which time it has chosen its squares
        before, cpu, start = len(visit.page.evaluate("window.answers")), renderer_seconds(), time.monotonic()
        visit.page.wait_for_timeout(10_000)
        answers, cpu, wall = visit.page.evaluate("window.answers"), renderer_seconds() - cpu, time.monotonic() - start
        visit.page.click("#camera")
        answers = answers[before:]
        rows[precision].append({
            "frames_per_second": len(answers) / wall,
            "cpu_ms_per_frame": 1000 * cpu / len(answers),
            "searched": np.mean([a["searched"] for a in answers]),
            "side": np.median([a["size"] for a in answers]),
            "shortest_ms": min(a["milliseconds"] for a in answers if not a["searched"]),
        })  # fmt: skip
    names = rows["exact"][0]
    medians = {
        kind: {name: float(np.median([row[name] for row in each])) for name in names} for kind, each in rows.items()
    }
    Path(FIGURES).write_text(json.dumps({"cpu": processor_name(), "rounds": 3, **medians}, indent=1) + "\n")
    assert all(row["frames_per_second"] > 0.5 for each in rows.values() for row in each), rows


def renderer_seconds() -> float:
    """CPU time so far of the renderers that this process's browser has started, all of their threads."""
    parents, renderers = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = int(fields[1])
            if b"--type=renderer" in (folder / "cmdline").read_bytes():
                renderers.append((int(folder.name), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))

    def is_mine(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return sum(seconds for process, seconds in renderers if is_mine(process))


# --- the page itself --------------------------------------------------------------------------------------------------


def test_nothing_left_the_origin_and_nothing_went_wrong(visit: Visit, address: str):
    """After all of the tests above: pictures, videos and the camera were used in this very page."""
    assert visit.asked and all(url.startswith((address, "blob:", "data:")) for url in visit.asked), visit.asked
    assert visit.errors == []


NOISE = """
const read = OffscreenCanvasRenderingContext2D.prototype.getImageData;
OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...place) {
  const pixels = read.apply(this, place);
  pixels.data.forEach((value, at) => { pixels.data[at] = value + (Math.random() - 0.5) * SPREAD; });
  return pixels;
};
"""


@pytest.mark.parametrize(("spread", "hidden"), [(2, False), (512, True)])
def test_a_browser_that_hides_pixels_is_told_of(browser, address: str, spread: int, hidden: bool):
    """As Firefox does under resistFingerprinting, and others by a grey level or two."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    source = (ROOT / "web" / "worker.js").read_text(encoding="utf-8")
    noisy = source + NOISE.replace("SPREAD", str(spread))
    page.route("**/worker.js", lambda route: route.fulfill(body=noisy, content_type="text/javascript"))
    page.goto(address)
    page.wait_for_selector("#message.bad" if hidden else "body[data-ready]")
    page.evaluate("document.getElementById('message').className = 'message'")
    page.click("[data-example]")
    page.wait_for_selector("#message.bad" if hidden else "#verdict[data-found=true]")
    assert ("protection against fingerprinting" in page.text_content("#message")) == hidden
    page.close()


def test_the_browser_itself_forbids_the_page_to_send_anything_elsewhere(visit: Visit, folder: Path):
    with page_server(folder) as other:  # which would answer
        threading.Thread(target=other.serve_forever, daemon=True).start()
        sent = "(url) => fetch(url, { mode: 'no-cors' }).then(() => 'sent', () => 'refused')"
        assert visit.page.evaluate(sent, other.address) == "refused"
        visit.errors.clear()
        other.shutdown()


SLOW = """
([size, wait]) => {
  const decode = window.createImageBitmap;
  window.createImageBitmap = async (source, ...options) => {
    if (source.size === size) await new Promise((resolve) => setTimeout(resolve, wait));
    return decode(source, ...options);
  };
}
"""


def test_what_was_chosen_last_is_shown(browser, address: str, pictures: list[Path]):
    """Also where a picture that was chosen before takes longer, and while other networks are loaded."""
    visit = Visit(browser).open(address)
    slow, quick = pictures[3], pictures[0]  # 460 and 224 px wide
    visit.page.evaluate(SLOW, [slow.stat().st_size, 1000])
    visit.page.set_input_files("#picture-file", slow)
    visit.page.set_input_files("#picture-file", quick)
    visit.answers(1)
    visit.page.wait_for_timeout(2000)
    assert [answer["width"] for answer in visit.page.evaluate("window.answers")] == [224]
    other = "fast" if visit.page.get_attribute("body", "data-ready") == "exact" else "exact"
    if visit.page.locator(f"#precision option[value={other}]:enabled").count():
        held: list[playwright.Route] = []
        visit.page.route("**/models/facts.json", lambda route: held.append(route))
        visit.page.select_option("#precision", other)
        visit.page.set_input_files("#picture-file", pictures[7])
        visit.page.wait_for_timeout(500)
        held[0].continue_()
        visit.page.wait_for_selector(f"body[data-ready={other}]")
        visit.until("window.answers.at(-1).width > 224")
        visit.page.wait_for_timeout(1000)
        assert [answer["width"] for answer in visit.page.evaluate("window.answers")] == [224, 540]
    assert visit.errors == []
    visit.context.close()


def test_networks_that_do_not_come_leave_those_that_are_there(browser, address: str, pictures: list[Path]):
    visit = Visit(browser)
    held: list[playwright.Route] = []
    visit.page.route("**/*.wasm", lambda route: held.append(route))  # so slow that somebody drops a file meanwhile
    visit.page.goto(address)
    visit.drop("note.txt", "text/plain", "no hand")
    visit.message("neither a picture nor a video")
    visit.until("performance.now() > 1000")
    for _ in range(600):
        visit.page.wait_for_timeout(50)
        if held:
            break
    held[0].continue_()
    visit.page.wait_for_selector("body[data-ready]")
    assert visit.message("neither a picture nor a video"), "what is ready says so only where nothing else was said"
    used = visit.page.get_attribute("body", "data-ready")
    if visit.page.locator("#precision option[value=fast]:enabled").count():  # else there is one precision alone
        visit.page.route("**/models/**", lambda route: route.abort())
        visit.page.select_option("#precision", "fast" if used == "exact" else "exact")
        visit.message("server does not answer")
        visit.page.wait_for_selector(f"body[data-ready={used}]")
        assert visit.page.input_value("#precision") == used
    visit.page.set_input_files("#picture-file", pictures[0])
    assert visit.answers(1)[0]["width"] == 224
    visit.page.route("**/examples/**", lambda route: route.abort())
    visit.page.evaluate("document.querySelector('[data-example]').click()")
    visit.message("server does not answer")
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_the_page_in_light_and_dark(browser, scheme: str):
    """The page's source alone: to look at it needs no network, and that none is there is said."""
    server = page_server(place.source_folder())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    visit = Visit(browser, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    page = visit.page
    page.goto(server.address)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(paper) < 60) if scheme == "dark" else (min(paper) > 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert button.inner_text() or button.get_attribute("aria-label") or button.locator("img").get_attribute("alt")
    page.keyboard.press("t")
    changed = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(changed) > 200) if scheme == "dark" else (max(changed) < 60)
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    assert "make web" in visit.message("could not be started")
    visit.drop(f"Screenshot_{90 * 'x'}.jpg", "image/jpeg", "junk")
    visit.message("can't be read as a picture")
    for width in (390, 320, 1000, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert farthest_right(page) <= width - 10, "a margin is left"
    visit.context.close()
    server.shutdown()


def test_an_isolated_page_uses_threads_and_answers_the_same(browser, visit: Visit, folder: Path, pictures: list[Path]):
    assert visit.page.inner_text("#threads").startswith("One thread")
    visit.choose("exact")
    with page_server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        second = Visit(browser).open(f"{server.address}?threads=2")
        assert second.page.inner_text("#threads").startswith("2 threads")
        second.choose("exact")
        found = []
        for each in (visit, second):
            each.page.evaluate("window.answers.length = 0")
            each.page.set_input_files("#picture-file", pictures[1])
            found.append(each.answers(1)[0]["keypoints"])
        np.testing.assert_allclose(*found, atol=0.01)
        second.context.close()
        server.shutdown()


def test_the_page_is_of_the_bundled_weights(folder: Path):
    assert json.loads((folder / place.FACTS).read_text())["weights"] == place.bundled_fingerprints()


@pytest.mark.parametrize(
    ("size", "crop", "expected"),
    [(128, 0.55, (96, 0.8)), (128, 0.4, (96, 0.6)), (128, 0.9, (96, 0.9)), (64, 0.55, None), (96, 0.55, None)],
)
def test_small_squares_are_a_quarter_smaller_and_closer(size, crop, expected):
    framing = Framing(size, crop, upright=True)
    found = build.small_squares(HandPosePredictor(UNet2DHandPose(width=4, depth=2, framing=framing)))
    if expected is None:
        assert found is None
    else:
        assert found.upright and (found.image_size, found.crop) == pytest.approx(expected)


def test_the_network_for_small_squares_is_the_same_one_with_longer_bones(tmp_path: Path, monkeypatch, capsys):
    predictor = HandPosePredictor.from_pretrained(engine="pytorch")
    small, written = build.small_squares(predictor), []
    monkeypatch.setattr(build, "export_onnx", lambda model, file, **options: written.append((model, file, options)))
    monkeypatch.setattr(build, "cut_decoder", written.append)
    facts = build._write_follower(tmp_path, predictor, small)
    decoding = decoding_of(predictor.model, small) | {"calibration": calibration_of(predictor.model)}
    assert facts == {"follower": {"fast": "follower.int8.onnx", **small.to_json(), **decoding}}
    (model, file, options), cut_file = written
    assert cut_file == file == tmp_path / "follower.int8.onnx" and options == {"eight_bit": True}
    assert model.framing == small and predictor.model.framing == predictor.framing
    assert decoding_of(model) == decoding_of(predictor.model, small) != decoding_of(predictor.model)
    square = torch.rand(1, 3, 96, 96)
    assert torch.equal(model.eval()(square), predictor.model.eval()(square))

    def refuse(*given, **options):
        raise ValueError("in 8 bits the score falls")

    monkeypatch.setattr(build, "export_onnx", refuse)
    assert build._write_follower(tmp_path, predictor, small) == {}
    assert "the page follows hands in no smaller squares: in 8 bits the score falls" in capsys.readouterr().out
