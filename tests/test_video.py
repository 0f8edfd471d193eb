"""Videos in and out, `handpose predict` on them, and `handpose camera` with a camera and a window that are played."""

import csv
import json
import signal
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import BACKGROUND, dot_predictor, draw_dots, film_of_dots, hand_of_dots

from handpose_lib import answers, video
from handpose_lib.cli import main
from handpose_lib.commands import camera
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro
from handpose_lib.stopping import Stopped
from handpose_lib.track import LOST, HandsTracker

SIZE = (480, 640)
EMPTY = np.full((*SIZE, 3), BACKGROUND, np.uint8)


def grey(value: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def write_film(path: Path, frames: list[np.ndarray], fps: float = 20.0) -> Path:
    writer = video.VideoWriter(path, frames[0].shape[:2], fps)
    for number, frame in enumerate(frames):
        writer.write(frame, number / fps)
    writer.close()
    return path


def write_with_pyav(path: Path, codec: str, times: list[float], size: tuple[int, int] = (120, 160)) -> Path:
    """A video as browsers and telephones write it: each frame at a time of its own, grey level 8 per frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25 if "av1" in codec else 1000)
        stream.width, stream.height, stream.pix_fmt = *size[::-1], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(16 + 8 * number, size), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def dots(monkeypatch) -> None:
    """`handpose predict` and `camera` look with the network that sees dots."""
    monkeypatch.setattr(HandPosePredictor, "from_pretrained", lambda *_, **options: dot_predictor())


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> tuple[Path, np.ndarray]:
    frames, truth = film_of_dots(12, SIZE, radius=9)
    return write_film(tmp_path_factory.mktemp("film") / "waving.mp4", frames), truth


def stopped_with(arguments: list[str], capsys, code: int = 2) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == code and error.startswith("handpose: ") and "\n" not in error
    return error


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", video.CODECS)
def test_what_is_written_is_read_again_with_its_times(tmp_path: Path, ending: str, capfd):
    path = write_film(tmp_path / f"film{ending}", [grey(20 + 20 * k) for k in range(10)], fps=10)
    read = list(video.read_video(path))
    assert [time for _, time in read] == pytest.approx([k / 10 for k in range(10)], abs=1e-3)
    assert [int(frame.mean()) for frame, _ in read] == pytest.approx([20 + 20 * k for k in range(10)], abs=4)
    assert read[0][0].shape == (120, 160, 3) and video.video_facts(path).fps == pytest.approx(10, rel=1e-3)
    assert capfd.readouterr().err == ""


def test_colours_are_red_green_blue(tmp_path: Path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    (frame, _), *_ = video.read_video(write_film(tmp_path / "red.avi", [red] * 2))
    assert frame[..., 0].mean() > 150 > 50 > frame[..., 2].mean()


@pytest.mark.parametrize(("name", "codec"), [("browser.webm", "libvpx-vp9"), ("phone.mp4", "libx264")])
def test_frames_have_the_streams_own_times_whatever_the_file_says_about_its_rate(tmp_path: Path, name: str, codec: str):
    times = [0.0, 0.033, 0.1, 0.133, 0.166, 0.4, 0.433]
    path = write_with_pyav(tmp_path / name, codec, times)
    assert [time for _, time in video.read_video(path)] == pytest.approx(times, abs=1e-3)
    assert video.video_facts(path).fps == pytest.approx(1 / 0.033, rel=0.02)


def test_av1_is_read_through_pyav_and_named_where_that_is_missing(tmp_path: Path, monkeypatch, capfd):
    path = write_with_pyav(tmp_path / "new.mp4", "libsvtav1", [0.0, 0.04, 0.08])
    capfd.readouterr()  # the encoder talks
    read = list(video.read_video(path))
    assert [time for _, time in read] == pytest.approx([0, 0.04, 0.08], abs=1e-3)
    assert [int(frame.mean()) for frame, _ in read] == pytest.approx([16, 24, 32], abs=4)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"OpenCV decodes no frame of .*new\.mp4 \(its codec is AV1\): install PyAV"):
        list(video.read_video(path))
    assert capfd.readouterr().err == ""


def test_a_damaged_av1_video_is_read_as_far_as_it_goes_with_a_note(tmp_path: Path, capfd):
    path = write_with_pyav(tmp_path / "new.webm", "libsvtav1", [0.04 * number for number in range(29)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(video.read_video(path))) == 29
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"only \d+ frames of .*new\.webm could be read, up to 0\.\d s: it is damaged"):
        assert 0 < len(list(video.read_video(path))) < 29
    capfd.readouterr()  # the encoder talks


@pytest.mark.parametrize("pyav", [True, False])
def test_what_is_no_video_is_refused_by_name(tmp_path: Path, monkeypatch, pyav: bool):
    if not pyav:
        monkeypatch.setitem(sys.modules, "av", None)
    whole = write_film(tmp_path / "whole.mp4", [grey(9)] * 3).read_bytes()
    for name, content in (("text.mp4", b"no video at all"), ("cut.mp4", whole[: len(whole) // 3]), ("none.avi", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.*damaged, or no video"):
            next(video.read_video(tmp_path / name))
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4 is not there"):
        next(video.read_video(tmp_path / "nothing.mp4"))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        next(video.read_video(tmp_path))


def test_times_that_do_not_rise_are_made_to(tmp_path: Path):
    times = [time for _, time in video._rising((EMPTY, t) for t in (0.0, 0.0, 0.0, 1.0, 0.5))]
    assert times == pytest.approx([0, 1 / 30, 2 / 30, 1, 1 + 1 / 30])


def test_a_film_lasts_as_long_as_what_was_filmed(tmp_path: Path):
    writer = video.VideoWriter(tmp_path / "film.avi", (120, 160), 10)
    for value, time in ((50, 3.0), (100, 3.4), (101, 3.41), (150, 3.5), (200, 3.9)):
        writer.write(grey(value), time)
    writer.close()
    values = [round(float(frame.mean()), -1) for frame, _ in video.read_video(tmp_path / "film.avi")]
    assert values == [50, 50, 50, 50, 100, 150, 150, 150, 150, 200]


def test_odd_sides_lose_a_pixel_and_other_endings_are_refused(tmp_path: Path):
    path = write_film(tmp_path / "odd.mp4", [grey(90, (121, 163))] * 2)
    assert next(video.read_video(path))[0].shape == (120, 162, 3)
    with pytest.raises(ValueError, match=r"film\.mov .*end it in \.mp4, \.avi, \.webm"):
        video.VideoWriter(tmp_path / "film.mov", (120, 160), 10)
    with pytest.raises(ValueError, match=r"film\.mp4 can't be written"):
        video.VideoWriter(tmp_path / "nowhere" / "film.mp4", (120, 160), 10)


def test_a_skeleton_is_drawn_where_the_hand_is_and_nowhere_else():
    picture, hand = EMPTY.copy(), hand_of_dots((320, 240), 200)
    video.draw_skeleton(picture, hand, np.ones(21))
    changed = np.argwhere((picture != BACKGROUND).any(-1))[:, ::-1]
    assert len(changed) > 500
    assert (changed.min(0) > hand.min(0) - 12).all() and (changed.max(0) < hand.max(0) + 12).all()
    video.draw_skeleton(picture, hand + 1e7, np.ones(21))  # far off the picture


# --- handpose predict -------------------------------------------------------------------------------------------------


def test_predict_writes_table_json_and_film_of_a_video(film, tmp_path: Path, dots, capsys):
    path, truth = film
    out = tmp_path / "out"
    main(["predict", str(path), "--out", str(out), "--no-smooth"])
    assert f"{path}: a hand in 12 frames" in capsys.readouterr().out
    answer = json.loads((out / "waving.json").read_text())
    assert answer["size"] == [640, 480] and answer["fps"] == pytest.approx(20)
    assert answer["tracker"] == {"max_hands": 1, "threshold": LOST, "smoothing": None}
    found = np.array([frame["hands"][0]["keypoints"] for frame in answer["frames"]])
    assert np.linalg.norm(found - truth, axis=-1).mean() < 2
    assert [frame["time"] for frame in answer["frames"]] == pytest.approx([k / 20 for k in range(12)], abs=1e-3)
    with open(out / "waving.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and len(rows[0]) == 3 + 3 * 21
    assert [float(rows[5][f"{name}_y"]) for name in KEYPOINT_NAMES] == pytest.approx(found[5, :, 1].tolist())
    drawn = video.video_facts(out / "waving_hands.mp4")
    assert len(drawn.times) == 12 and drawn.size == SIZE


def test_the_filter_is_on_unless_one_says_no_and_is_named(film, tmp_path: Path, dots):
    main(["predict", str(film[0]), "--out", str(tmp_path), "--film", ".avi"])
    answer = json.loads((tmp_path / "waving.json").read_text())
    assert answer["tracker"]["smoothing"] == OneEuro().to_json()
    assert (tmp_path / "waving_hands.avi").is_file()


def test_pictures_and_videos_of_a_folder_are_answered_together(film, tmp_path: Path, dots, capsys):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    content = film[0].read_bytes()
    (folder / "waving.mp4").write_bytes(content)
    (folder / "deep" / "waving.mp4").write_bytes(content)
    (folder / "broken.webm").write_bytes(b"x")
    cv2.imwrite(str(folder / "hand.png"), draw_dots([hand_of_dots((200, 200), 150)], SIZE)[..., ::-1])
    error = stopped_with(["predict", str(folder), "--out", str(folder / "out")], capsys)
    assert "1 file left out" in error and "broken.webm" in error
    assert (folder / "out" / "keypoints.json").is_file()
    videos = {json.loads((folder / "out" / name).read_text())["video"] for name in ("waving.json", "waving_2.json")}
    assert videos == {str(folder / "waving.mp4"), str(folder / "deep" / "waving.mp4")}
    before = sorted((folder / "out").iterdir())
    stopped_with(["predict", str(folder), "--out", str(folder / "out")], capsys)
    assert sorted((folder / "out").iterdir()) == before, "the same videos again have the same names, and no film counts"


def test_two_hands_from_two_boxes(tmp_path: Path, dots):
    hands = [hand_of_dots((170, 240), 190), hand_of_dots((470, 240), 170, 20)]
    path = write_film(tmp_path / "two.mp4", [draw_dots(hands, SIZE, 8)] * 3)
    boxes = [word for hand in hands for word in ("--box", *map(str, (*hand.min(0), *hand.max(0))))]
    main(["predict", str(path), "--out", str(tmp_path / "out"), "--max-hands", "2", *boxes])
    last = json.loads((tmp_path / "out" / "two.json").read_text())["frames"][-1]["hands"]
    for found, truth in zip(last, hands, strict=True):
        assert np.linalg.norm(np.array(found["keypoints"]) - truth, axis=-1).mean() < 3


def test_bad_input_is_one_sentence(film, tmp_path: Path, dots, capsys):
    empty = write_film(tmp_path / "empty.mp4", [EMPTY] * 2)
    error = stopped_with(["predict", str(empty), "--out", str(tmp_path / "out")], capsys)
    assert "no hand was found in" in error and "empty.mp4" in error and f"--threshold below {LOST}" in error
    with open(tmp_path / "out" / "empty.csv", newline="") as file:
        assert [row["wrist_x"] for row in csv.DictReader(file)] == ["", ""]
    box = ["--box", "1", "1", "9", "9"]
    error = stopped_with(["predict", str(tmp_path / "a.png"), "--out", str(tmp_path), *box], capsys)
    assert "--box" in error and "0 were given" in error
    error = stopped_with(["predict", str(film[0]), "--out", str(tmp_path), *box, *box], capsys)
    assert "2 boxes were given for max_hands=1" in error
    (tmp_path / "nothing").mkdir()
    error = stopped_with(["predict", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")], capsys)
    assert "holds no pictures or videos" in error
    error = stopped_with(["predict", str(film[0]), "--out", str(tmp_path), "--threshold", "1"], capsys)
    assert "threshold is 1" in error


class Interrupted(HandsTracker):
    """Gets signals in a frame; the second one lets it not be done."""

    def __init__(self, frame: int, times: int, made: type[BaseException] = KeyboardInterrupt):
        super().__init__(dot_predictor(), 1)
        self.left, self.times, self.made = frame, times, made

    def __call__(self, *arguments):
        self.left -= 1
        if self.left == 0:
            try:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                raise self.made from None
        return super().__call__(*arguments)


@pytest.mark.parametrize("tracker", [Interrupted(5, 1), Interrupted(6, 2), Interrupted(6, 2, RuntimeError)])
def test_a_signal_to_stop_keeps_the_frames_so_far(film, tmp_path: Path, tracker: Interrupted):
    with pytest.raises(Stopped, match="5 of 12 frames") as stopped:
        answers.answer_video(film[0], tracker, tmp_path)
    assert stopped.value.number == signal.SIGTERM
    assert len(json.loads((tmp_path / "waving.json").read_text())["frames"]) == 5
    assert len(video.video_facts(tmp_path / "waving_hands.mp4").times) == 5


@pytest.mark.parametrize("tracker", [Interrupted(5, 1), Interrupted(1, 2)], ids=["some frames", "none"])
def test_a_run_that_is_stopped_keeps_longer_answers_of_an_earlier_one(film, tmp_path: Path, tracker: Interrupted):
    answers.answer_video(film[0], HandsTracker(dot_predictor(), 1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Stopped, match=r"of 12 frames .* are done; the answers of an earlier run on 12 are kept"):
        answers.answer_video(film[0], tracker, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_is_stopped_in_its_first_frame_leaves_nothing(film, tmp_path: Path):
    with pytest.raises(Stopped, match=r"stopped: 0 of 12 frames of .* are done$"):
        answers.answer_video(film[0], Interrupted(1, 2), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_network_is_no_stop(film, tmp_path: Path):
    def fail(*arguments):
        raise RuntimeError("out of memory")

    tracker = HandsTracker(dot_predictor(), 1)
    tracker.predictor.search = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        answers.answer_video(film[0], tracker, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_videos_of_two_folders_with_the_same_relative_name_keep_their_answers(film, tmp_path: Path, monkeypatch):
    names = []
    for folder in ("a", "b", "a"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "waving.mp4").write_bytes(film[0].read_bytes())
        monkeypatch.chdir(tmp_path / folder)
        tracker = HandsTracker(dot_predictor(), 1)
        names.append(answers.answer_video(Path("waving.mp4"), tracker, tmp_path / "out")[0])
    assert names == ["waving", "waving_2", "waving"]


def test_numbers_are_written_as_short_as_they_are_meant(film, tmp_path: Path):
    answers.answer_video(film[0], HandsTracker(dot_predictor(), 1), tmp_path)
    hand = json.loads((tmp_path / "waving.json").read_text())["frames"][3]["hands"][0]
    numbers = [number for point in hand["keypoints"] for number in point] + hand["confidence"]
    assert max(len(str(number)) for number in numbers) <= len("-1234.56")
    with open(tmp_path / "waving.csv", newline="") as file:
        assert max(map(len, list(csv.DictReader(file))[3].values())) <= len("-1234.56")


@pytest.mark.parametrize("step", [0.013, 0.014, 0.015, 0.0085, 1 / 29.97, 0.0167, 0.5])
def test_a_film_is_written_at_any_rate_of_a_recording(tmp_path: Path, step: float):
    """MPEG-4 counts time in 65,535 parts of a second at most."""
    facts = video.VideoFacts(tuple(step * number for number in range(9)), (48, 64))
    for ending in video.CODECS:
        writer = video.VideoWriter(tmp_path / f"film{ending}", facts.size, facts.fps)
        for number, time in enumerate(facts.times):
            writer.write(grey(20 * number, facts.size), time)
        writer.close()
        writer.close()
        assert video.video_facts(tmp_path / f"film{ending}").times == pytest.approx(facts.times, abs=2e-3)


def test_a_film_that_can_not_be_written_is_called_by_its_name(film, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(video.CODECS, ".mp4", "zzzz")
    with pytest.raises(ValueError, match=r"/waving_hands\.mp4 can't be written: this OpenCV has no encoder for zzzz"):
        answers.answer_video(film[0], HandsTracker(dot_predictor(), 1), tmp_path)


@pytest.mark.parametrize("ending", [".wmv", ".MTS", ".m2ts", ".flv"])
def test_recordings_of_cameras_and_old_programs_are_videos(film, tmp_path: Path, ending: str):
    path = tmp_path / f"waving{ending}"
    path.write_bytes(film[0].read_bytes())
    assert answers.files_of([tmp_path], tmp_path / "out") == [path] and video.is_video(path)
    assert len(video.video_facts(path).times) == 12


# --- handpose camera --------------------------------------------------------------------------------------------------


class Window:
    """Stands for OpenCV's window: keeps what is shown, and presses keys."""

    def __init__(self, monkeypatch, keys: dict[int, str] | None = None, closed_at: int = 10_000):
        self.shown: list[np.ndarray] = []
        monkeypatch.setattr(cv2, "imshow", lambda _, picture: self.shown.append(picture[..., ::-1].copy()))
        monkeypatch.setattr(cv2, "waitKey", lambda _: ord((keys or {}).get(len(self.shown), "\xff")))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(len(self.shown) < closed_at))
        monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)


class Camera:
    """Stands for `cv2.VideoCapture` of a camera that gives some pictures and is then pulled out."""

    def __init__(self, pictures: list[np.ndarray], opens: bool = True):
        self.pictures, self.opens, self.released = list(pictures), opens, False

    def __call__(self, number: int) -> "Camera":
        self.number = number
        return self

    def isOpened(self) -> bool:
        return self.opens

    def read(self):
        return (True, self.pictures.pop(0)[..., ::-1]) if self.pictures else (False, None)

    def release(self) -> None:
        self.released = True


def test_the_cameras_picture_is_shown_mirrored_with_the_hand_until_q(monkeypatch, dots, capsys):
    frames, _ = film_of_dots(8, SIZE, 9)
    source = Camera(frames)
    window = Window(monkeypatch, keys={5: "q"})
    monkeypatch.setattr(cv2, "VideoCapture", source)
    monkeypatch.setattr(camera, "check_display", lambda: None)
    main(["camera", "--number", "2", "--no-smooth"])
    assert "5 frames were shown" in capsys.readouterr().out
    assert source.number == 2 and source.released and len(window.shown) == 5
    mirrored = frames[3][:, ::-1].astype(int)
    changed = np.abs(window.shown[3].astype(int) - mirrored).max(-1) > 40
    assert 0.005 < changed.mean() < 0.2, "the skeleton, the text, and nothing else"


def test_the_hand_of_a_mirrored_picture_is_followed_and_m_turns_the_mirror(monkeypatch):
    frames, truth = film_of_dots(6, SIZE, 9)
    window = Window(monkeypatch, keys={3: "m", 6: "q"})
    tracker = HandsTracker(dot_predictor(), 1)
    found = []
    monkeypatch.setattr(video, "draw_skeleton", lambda _, keypoints, confidence: found.append(keypoints))
    assert camera.show_live(iter([(f, k / 30) for k, f in enumerate(frames)]), tracker) == 6
    expected = truth.copy()
    expected[:3, :, 0] = 639 - expected[:3, :, 0]
    assert np.linalg.norm(np.array(found) - expected, axis=-1).mean() < 2
    assert len(window.shown) == 6


def test_a_window_that_is_closed_ends_it_and_without_a_hand_it_says_so(monkeypatch):
    window = Window(monkeypatch, closed_at=2)
    written = []
    monkeypatch.setattr(camera, "write_line", lambda picture, text: written.append(text))
    assert camera.show_live(iter([(EMPTY.copy(), 0.0), (EMPTY.copy(), 0.1)]), HandsTracker(dot_predictor(), 1)) == 2
    assert written[0] == "0.0 frames per second, no hand" and len(window.shown) == 2


def test_without_a_camera_or_when_it_is_pulled_out_there_is_one_sentence(monkeypatch, dots, capsys):
    Window(monkeypatch)
    monkeypatch.setattr(camera, "check_display", lambda: None)
    for source, message in (
        (Camera([], opens=False), "camera 0 can't be opened: is one plugged in"),
        (Camera([]), "camera 0 gives no picture"),
        (Camera([EMPTY] * 2), "camera 0 gives no more pictures"),
    ):
        monkeypatch.setattr(cv2, "VideoCapture", source)
        assert message in stopped_with(["camera"], capsys) and source.released
    assert "--number is -1" in stopped_with(["camera", "--number", "-1"], capsys)


def test_a_real_camera_that_is_not_there(capfd):
    with pytest.raises(ValueError, match="camera 97 can't be opened"):
        next(camera.camera_frames(97))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays of Linux")
def test_without_a_display_there_is_one_sentence_and_no_crash(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match=r"there is no display .*handpose predict"):
        camera.check_display()
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(ValueError, match=r"no window can be opened .*could not connect"):
        camera.check_display()
