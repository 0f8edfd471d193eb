"""What stands where results go, and what stands in the place of data: nothing of others is lost, nothing passed over.

The commands run in this process, with networks that are no bigger than they must be.
"""

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trees import make_tree

from handpose_lib import answers, cli, pictures, video
from handpose_lib.commands import data as data_command
from handpose_lib.commands import predict as predict_command
from handpose_lib.commands import train as train_command
from handpose_lib.datasets import holds_labels, open_data
from handpose_lib.download import TRAINING_ZIP, fetch_freihand
from handpose_lib.fields import is_address
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.labels import read_labels
from handpose_lib.reading import sentence_of
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import save_model

HAND = [[10.0 + 3 * k, 20.0 + 2 * k] for k in range(21)]
BROKEN = Path(
    "/proc/self/mem"
)  # a file that is there and can't be read: as on a disk that fails, or a Drive that is gone
broken_disk = pytest.mark.skipif(not BROKEN.exists(), reason="there is no file here that can't be read")
links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_model(UNet2DHandPose(4, 2, framing=Framing(32)), path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", hands=3, versions=("gs",))


def picture(path: Path, size: tuple[int, int] = (90, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].tobytes())
    return path


def film(path: Path, frames: int = 2) -> Path:
    with_size = np.full((48, 64, 3), 90, np.uint8)
    writer = video.VideoWriter(path, (48, 64), 10.0)
    for number in range(frames):
        writer.write(with_size, number / 10)
    writer.close()
    return path


def labelled(folder: Path, names: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> Path:
    for name in names:
        picture(folder / name)
    entries = [{"file": name, "keypoints": HAND, "group": name} for name in names]
    (folder / "keypoints.json").write_text(json.dumps(entries))
    return folder


def refused(arguments: list, capsys: pytest.CaptureFixture) -> str:
    """The one sentence with which a command refuses its arguments; notes that come before it are left out."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("handpose: note: ")]
    assert stopped.value.code == 2 and len(lines) == 1 and lines[0].startswith("handpose: "), lines
    return lines[0]


class Nobody:
    """A tracker or a predictor that sees no hand."""

    batch_size = 2
    reset = to_json = lambda self: None
    __call__ = lambda self, *arguments: [None]  # noqa: E731


def flat(pictures: list) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((len(pictures), 21, 2), 5.25), torch.full((len(pictures), 21), 0.5)


class Flat(Nobody):
    """A predictor that answers the same for every picture."""

    def __call__(self, images: list) -> tuple[torch.Tensor, torch.Tensor]:
        return flat(images)


# --- results replace nothing of others --------------------------------------------------------------------------------

OTHERS = {
    "labels": json.dumps([{"file": "a.jpg", "keypoints": HAND}]),
    "a COCO file": json.dumps({"images": [], "annotations": []}),
    "answers on a video": json.dumps({"video": "a.mp4", "frames": []}),
    "no JSON": "notes of mine",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_answers_do_not_replace_a_file_that_is_none(kind: str, tmp_path: Path, weights: Path, capsys):
    picture(tmp_path / "a.jpg")
    (tmp_path / "keypoints.json").write_text(OTHERS[kind])
    arguments = ["predict", tmp_path / "a.jpg", "--out", tmp_path, "--weights", weights, "--device", "cpu"]
    error = refused(arguments, capsys)
    assert "keypoints.json is no answer of `handpose predict` and would be replaced: give another --out" in error
    assert (tmp_path / "keypoints.json").read_text() == OTHERS[kind]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jpg", "keypoints.json"]


@pytest.mark.parametrize("before", ["", "{}", json.dumps({"old.jpg": {"keypoints": HAND, "confidence": [0.5] * 21}})])
def test_answers_replace_those_of_an_earlier_run_on_the_same_pictures(before: str, tmp_path: Path):
    own = str(picture(tmp_path / "a.jpg"))
    earlier = json.loads(before or "{}")
    if earlier:
        earlier = {own: earlier["old.jpg"]} | earlier
        before = json.dumps(earlier)
    (tmp_path / "keypoints.json").write_text(before)
    assert answers.answer_files([Path(own)], Flat(), tmp_path) == (1, [])
    answer = {"keypoints": [[5.25, 5.25]] * 21, "confidence": [0.5] * 21}
    assert json.loads((tmp_path / "keypoints.json").read_text()) == earlier | {own: answer}


def test_one_picture_after_the_other_keeps_all_answers_and_drawings(tmp_path: Path):
    for folder in ("x", "y", "x"):
        assert answers.answer_files([picture(tmp_path / folder / "a.jpg")], Flat(), tmp_path / "out") == (1, [])
    found = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert list(found) == [str(tmp_path / folder / "a.jpg") for folder in "xy"]
    assert sorted(file.name for file in (tmp_path / "out").glob("*.png")) == ["0000_a.png", "0001_a.png"]


def test_answers_on_a_large_picture_are_in_its_own_pixels(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(answers, "read_reduced", lambda file: pictures.read_reduced(file, 256))
    large = picture(tmp_path / "large.jpg", (480, 640))
    assert answers.answer_files([large], Flat(), tmp_path / "out") == (1, [])
    (answer,) = json.loads((tmp_path / "out" / "keypoints.json").read_text()).values()
    reduced, factors = pictures.read_reduced(large, 256)
    assert factors == (640 / reduced.shape[1], 480 / reduced.shape[0]) and min(factors) > 2
    assert np.allclose(answer["keypoints"], np.array(5.75) * factors - 0.5, atol=0.01)


@pytest.mark.parametrize("other", ["wave.json", "wave.csv", "wave_hands.avi"])
def test_answers_on_a_video_take_another_name_where_theirs_is_of_another_file(other: str, tmp_path: Path):
    wave = film(tmp_path / "wave.avi")
    (tmp_path / other).write_bytes(b"mine")
    assert answers.answer_video(wave, Nobody(), tmp_path, ".avi")[0] == "wave_2"
    assert (tmp_path / other).read_bytes() == b"mine"
    assert answers.answer_video(wave, Nobody(), tmp_path, ".avi")[0] == "wave_2", "its own are replaced"
    names = {"wave.avi", other, *(f"wave_2{end}" for end in (".json", ".csv", "_hands.avi"))}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_a_video_called_keypoints_leaves_the_answers_on_pictures(tmp_path: Path):
    answers.answer_files([picture(tmp_path / "a.jpg")], Flat(), tmp_path / "out")
    name, _ = answers.answer_video(film(tmp_path / "keypoints.avi"), Nobody(), tmp_path / "out", ".avi")
    assert name == "keypoints_2" and list(json.loads((tmp_path / "out" / "keypoints.json").read_text()))


def test_a_drawing_replaces_drawings_alone(tmp_path: Path):
    (tmp_path / "0000_a.png").write_bytes(b"mine")
    for _ in range(2):
        answers.answer_files([picture(tmp_path / "a.jpg")], Flat(), tmp_path)
    assert (tmp_path / "0000_a.png").read_bytes() == b"mine"
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["0000_a.png", "0000_a_2.png"]


@pytest.mark.parametrize("name", ["best.safetensors", "history.csv"])
def test_a_training_does_not_begin_where_it_would_replace_weights_or_a_history(name, tree, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(b"of another run")
    error = refused(["train", "--root", tree, "--out", tmp_path / "run", "--device", "cpu"], capsys)
    assert f"{name} is there without a checkpoint to go on from, and would be replaced" in error
    assert (tmp_path / "run" / name).read_bytes() == b"of another run"
    assert [file.name for file in (tmp_path / "run").iterdir()] == [name]


@pytest.mark.parametrize("kind", ["tree", "labels"])
def test_a_drawing_of_a_data_set_replaces_no_file_of_it(kind: str, tmp_path: Path, tree: Path, capsys):
    root = tree if kind == "tree" else labelled(tmp_path / "mine")
    shown = root / ("training/rgb/00000000.jpg" if kind == "tree" else "a.jpg")
    before = shown.read_bytes()
    assert "is a file of the data set: give another --out" in refused(["data", "show", root, "--out", shown], capsys)
    assert shown.read_bytes() == before
    for _ in range(2):  # a drawing may lie there, and be drawn again
        cli.main(["data", "show", str(root), "--out", str(root / "hands.png")])


def test_more_images_than_a_picture_can_hold_are_refused(tree: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(data_command, "MOST_SHOWN", 2)
    error = refused(["data", "show", tree, "--count", "3", "--out", tmp_path / "a.png"], capsys)
    assert "--count is 3: at most 2 images fit into one picture" in error
    assert 390 / 4 * data_command.MOST_SHOWN < 65_535


# --- FreiHAND's zip and folder ----------------------------------------------------------------------------------------


def zip_of(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and ".handpose" not in file.parts:
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_another_data_set_is_not_replaced_by_freihand(tree: Path, tmp_path: Path):
    mine = make_tree(tmp_path / "mine", hands=3, seed=5)
    before = {file: file.read_bytes() for file in mine.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"mine holds another data set: .* would be replaced: give another --root"):
        fetch_freihand(mine, accept_terms=True, zips=[zip_of(tree, tmp_path / "a.zip")], progress=False)
    assert {file: file.read_bytes() for file in before} == before


def test_a_small_data_set_is_not_replaced_either(tree: Path, tmp_path: Path):
    mine = make_tree(tmp_path / "mine", hands=1, versions=("gs",), seed=5)
    with pytest.raises(ValueError, match=r"mine holds another data set: training/rgb/00000000\.jpg and 2 more files"):
        fetch_freihand(mine, accept_terms=True, zips=[zip_of(tree, tmp_path / "a.zip")], progress=False)


def test_damaged_files_of_a_zip_are_restored_however_many_they_are(tree: Path, tmp_path: Path):
    archive, root = zip_of(tree, tmp_path / "a.zip"), tmp_path / "root"
    fetch_freihand(root, accept_terms=True, zips=[archive], progress=False)
    for file in (root / "training" / "rgb").iterdir():
        file.write_bytes(b"damaged")
    fetch_freihand(root, accept_terms=True, zips=[archive], progress=False)
    assert (root / "training/rgb/00000000.jpg").read_bytes() == (tree / "training/rgb/00000000.jpg").read_bytes()


def test_a_zip_that_was_not_unpacked_is_not_removed(tree: Path, tmp_path: Path):
    root = make_tree(tmp_path / "evaluation", hands=0, evaluation=2)
    given = zip_of(root, tmp_path / "eval.zip")
    shutil.rmtree(root)
    root.mkdir()
    waiting = zip_of(tree, root / TRAINING_ZIP)
    fetch_freihand(root, accept_terms=True, zips=[given], keep_zip=False, progress=False)
    assert waiting.is_file() and not given.exists()


def test_a_zip_without_some_images_is_not_said_to_be_whole(tree: Path, tmp_path: Path, capsys):
    (tree / "training" / "rgb" / "00000001.jpg").unlink()
    archive = zip_of(tree, tmp_path / "a.zip")
    arguments = ["data", "freihand", "--accept-terms", "--root", tmp_path / "root", "--zip", archive]
    assert "00000001.jpg is not there, the first of 1 missing images" in refused(arguments, capsys)


def test_a_folder_in_the_place_of_a_zip_and_a_file_in_that_of_a_folder_are_named(tree, tmp_path, capsys):
    arguments = ["data", "freihand", "--accept-terms", "--root"]
    error = refused([*arguments, tmp_path / "root", "--zip", tree], capsys)
    assert f"{tree} is a folder, not a zip" in error
    archive = zip_of(tree, tmp_path / "a.zip")
    assert f"{archive} can't be made (File exists): give another --root" in refused(
        [*arguments, archive, "--zip", archive], capsys
    )


@pytest.mark.parametrize("address", ["nonsense", "http://", "http://[::1", "http://a b/", "gopher://a/", "http://a/\n"])
def test_an_address_that_is_none_is_refused_at_once(address: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_FREIHAND_URL", address)
    assert not is_address(address)
    with pytest.raises(ValueError, match=r"HANDPOSE_FREIHAND_URL is .*: it must be an address such as https://lmb"):
        fetch_freihand(tmp_path / "root", accept_terms=True, progress=False)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("address", ["https://a.org/b/", "http://127.0.0.1:80", "file:///a/b", "http://[::1]/a"])
def test_an_address_is_one(address: str):
    assert is_address(address)


class Terminal(io.StringIO):
    isatty = lambda self: True  # noqa: E731


@pytest.mark.parametrize("stdin", [Terminal(""), Terminal("no\n"), io.StringIO("y\n"), None])
def test_who_does_not_answer_has_not_accepted_the_terms(stdin, tmp_path: Path, monkeypatch, capsys):
    for name in ("JPY_PARENT_PID", "COLAB_RELEASE_TAG", "COLAB_JUPYTER_IP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    error = refused(["data", "freihand", "--root", tmp_path / "root"], capsys)
    assert "the terms were not accepted, so nothing was downloaded" in error and not list(tmp_path.iterdir())


# --- what is given as data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["training_pictures", "evaluation_notes.txt", "training"])
def test_a_folder_of_labels_may_hold_what_sounds_like_freihand(name: str, tmp_path: Path):
    root = labelled(tmp_path)
    (root / name).mkdir()
    assert holds_labels(root) and isinstance(open_data(root, "all"), KeypointFolder)
    if name != "training":  # then a file of any name will do
        (root / "keypoints.json").rename(root / "labels.json")
        assert len(open_data(root, "all")) == 3


def test_a_folder_around_or_inside_the_data_set_names_it(tree: Path, tmp_path: Path, capsys):
    for root in (tmp_path, tree / "training"):
        for command in (["data", "show", root, "--out", tmp_path / "a.png"], ["train", "--root", root]):
            assert f"{root} holds neither FreiHAND's files" in (error := refused(command, capsys))
            assert error.endswith(f"did you mean {tree}?")


def test_paths_that_windows_wrote_are_found(tmp_path: Path):
    labelled(tmp_path, ("anna/a.jpg", "ben/b.jpg"))
    entries = json.loads((tmp_path / "keypoints.json").read_text())
    for entry in entries:
        entry["file"] = entry["file"].replace("/", "\\")
    (tmp_path / "keypoints.json").write_text(json.dumps(entries))
    found = KeypointFolder(tmp_path, "all").files
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["anna/a.jpg", "ben/b.jpg"]


def test_a_zip_and_what_else_is_no_text_are_not_read_to_their_end(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(9000))
    with pytest.raises(ValueError, match=r"a\.zip is a zip: unpack it .*handpose data freihand --zip"):
        read_labels(tmp_path / "a.zip")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"large\.json is not a text file"):
        read_labels(tmp_path / "large.json")
    (tmp_path / "keypoints.json").mkdir()
    with pytest.raises(ValueError, match=r"keypoints\.json is a folder, and labels are a file"):
        read_labels(tmp_path / "keypoints.json")


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"a\.jpg has 1,099,511,627,776 bytes, more than a picture can have"):
        pictures.read_picture(tmp_path / "a.jpg")
    assert pictures.MOST_BYTES >= 3 * pictures.MOST_PIXELS, "the largest picture that is read, not compressed"


def off_the_image(tree: Path, entries: list[int]) -> Path:
    """Moves the principal point of some cameras far to the right."""
    cameras = json.loads((tree / "training_K.json").read_text())
    for entry in entries:
        cameras[entry][0][2] += 500
    (tree / "training_K.json").write_text(json.dumps(cameras))
    return tree


def test_cameras_of_images_of_another_size_are_refused_and_single_hands_noted(tmp_path: Path):
    few = off_the_image(make_tree(tmp_path / "few", hands=8, versions=("gs",)), [2])
    with pytest.warns(UserWarning, match=r"training_K\.json: 1 of 6 hands have no keypoint on their image.* entry 2"):
        assert len(FreiHAND(few, "train", "gs")) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FreiHAND(few, "test", "gs")
    most = off_the_image(make_tree(tmp_path / "most", hands=8, versions=("gs",)), [1, 2, 3, 4, 5, 6, 7])
    for split in ("train", "val", "test"):
        with pytest.raises(ValueError, match=r"hands have no keypoint on their image.*224×224 px\?"):
            FreiHAND(most, split, "gs")


# --- a disk that fails ------------------------------------------------------------------------------------------------


@broken_disk
def test_a_disk_that_fails_is_told_with_the_files_name(tmp_path: Path, tree: Path, weights: Path, capsys):
    root = labelled(tmp_path / "mine")
    for file in (tmp_path / "a.jpg", tmp_path / "a.json", tmp_path / "w.safetensors"):
        file.symlink_to(BROKEN)
    (tree / "training_xyz.json").unlink()
    (tree / "training_xyz.json").symlink_to(BROKEN)
    (root / "b.jpg").unlink()
    (root / "b.jpg").symlink_to(BROKEN)
    out = tmp_path / "out"
    for path, arguments in {
        tmp_path / "a.jpg": ["predict", tmp_path / "a.jpg", "--out", out, "--weights", weights, "--device", "cpu"],
        tmp_path / "a.json": ["data", "show", tmp_path / "a.json", "--out", tmp_path / "a.png"],
        tmp_path / "w.safetensors": ["export", tmp_path / "a.onnx", "--weights", tmp_path / "w.safetensors"],
        tree / "training_xyz.json": ["data", "show", tree, "--out", tmp_path / "a.png"],
        root / "b.jpg": ["data", "show", root, "--out", tmp_path / "a.png"],
    }.items():
        error = refused(arguments, capsys)
        assert str(path) in error and "Input/output error" in error and "[Errno" not in error


@broken_disk
def test_a_picture_on_a_disk_that_fails_does_not_cost_the_other_answers(tmp_path: Path):
    (tmp_path / "a.jpg").symlink_to(BROKEN)
    files = answers.files_of([tmp_path / "a.jpg", picture(tmp_path / "b.jpg")], tmp_path / "out")
    count, failures = answers.answer_files(files, Flat(), tmp_path / "out")
    assert count == 1 and len(failures) == 1 and "a.jpg can't be read (Input/output error)" in failures[0]


def test_pythons_own_words_become_a_sentence():
    assert sentence_of(PermissionError(13, "Permission denied", "a\nb")) == (
        "a b can't be used (Permission denied): give another path"
    )
    assert sentence_of(ValueError("as  it\nis")) == "as it is"


# --- folders, links and names -----------------------------------------------------------------------------------------


@links
def test_a_folder_that_is_linked_into_another_is_looked_into_once(tmp_path: Path):
    inside = tmp_path / "all"
    picture(tmp_path / "elsewhere" / "far.jpg")
    picture(inside / "z" / "near.jpg")
    (inside / "album").symlink_to(tmp_path / "elsewhere")
    (inside / "again").symlink_to(tmp_path / "elsewhere")
    (inside / "a_link_to_z").symlink_to(inside / "z")
    (inside / "itself").symlink_to(inside)
    found = [file.relative_to(inside).as_posix() for file in pictures.picture_files(inside)]
    assert found == ["again/far.jpg", "z/near.jpg"], "each file once, under its own name where it has one here"


@pytest.mark.parametrize("name", ["l" * 240, "ü" * 120, "short"])
def test_a_picture_and_a_video_with_a_long_name_are_answered(name: str, tmp_path: Path):
    assert answers.answer_files([picture(tmp_path / f"{name}.jpg")], Flat(), tmp_path / "out") == (1, [])
    called, _ = answers.answer_video(film(tmp_path / f"{name}.avi"), Nobody(), tmp_path / "out", ".avi")
    assert called and name.startswith(called) and len(list((tmp_path / "out").iterdir())) == 5


def test_a_drawing_is_known_by_its_content_and_letters_without_a_glyph_are_no_news(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers.answer_files([picture(tmp_path / "手✋.jpg")], Flat(), tmp_path / "out")
    (drawing,) = (tmp_path / "out").glob("*.png")
    assert pictures.is_drawing(drawing.rename(tmp_path / "renamed.jpg"))
    with pytest.raises(ValueError, match=r"renamed\.jpg is a drawing of an earlier answer"):
        answers.files_of([tmp_path / "renamed.jpg"], tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_a_name_that_is_no_text_is_refused_where_it_would_end_the_process(tmp_path: Path, capsys):
    name = os.fsdecode(b"caf\xe9")
    film(tmp_path / "a.avi").rename(tmp_path / f"{name}.avi")
    (tmp_path / name).mkdir()
    words = "has bytes in its name that are no letters in UTF-8: rename it"
    with pytest.raises(ValueError, match=words):
        next(video.read_video(tmp_path / f"{name}.avi"))
    with pytest.raises(ValueError, match=words):
        film(tmp_path / name / "b.avi")
    assert answers.answer_files([picture(tmp_path / f"{name}.jpg")], Flat(), tmp_path / name) == (1, [])
    assert words in refused(["export", tmp_path / "a.onnx", "--weights", tmp_path / f"{name}.st"], capsys)


# --- videos -----------------------------------------------------------------------------------------------------------


def test_a_gap_of_hours_in_a_recording_does_not_fill_the_disk(tmp_path: Path):
    image, times = np.full((48, 64, 3), 90, np.uint8), (0.0, 0.1, 3600.0, 3600.1, 3661.0)
    writer = video.VideoWriter(tmp_path / "a.avi", (48, 64), 10.0)
    with pytest.warns(UserWarning) as notes:
        for time in times:
            writer.write(image, time)
    writer.close()
    said = [str(note.message) for note in notes]
    assert said == [f"for {gap} s no picture came: the film shows 60 s of them" for gap in ("3,600", "61")]
    assert sum(1 for _ in video.read_video(tmp_path / "a.avi")) == 1 + 600 + 1 + 600 + 1


def test_a_film_with_a_hole_is_said_to_be_damaged(tmp_path: Path):
    whole = film(tmp_path / "whole.avi", frames=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(video.video_facts(whole).times) == 20
    data = bytearray(whole.read_bytes())
    begin = data.find(b"movi") + 4
    half, most = (begin + (len(data) - begin) * tenths // 10 for tenths in (5, 8))
    data[half:most] = bytes(most - half)
    (tmp_path / "hole.avi").write_bytes(data)
    with pytest.warns(UserWarning, match=r"only \d+ of 20 frames of .*hole\.avi could be read: it is damaged"):
        assert 0 < len(video.video_facts(tmp_path / "hole.avi").times) < 18


def test_a_recording_of_sound_alone_is_told(tmp_path: Path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"a\.mkv holds no pictures, only sound or text: give a video"):
        next(video.read_video(tmp_path / "a.mkv"))


def test_what_is_for_videos_is_refused_for_pictures(tmp_path: Path, weights: Path, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "tracker_of", None)
    error = refused(["predict", tmp_path / "a.jpg", "--out", tmp_path / "out", "--max-hands", "2"], capsys)
    assert "--max-hands is 2 and is for videos" in error


# --- the surroundings -------------------------------------------------------------------------------------------------

PLACES = {
    "RANK alone": ({"RANK": "0"}, "WORLD_SIZE is not"),
    "no number": (
        {"RANK": "abc", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        "process abc of 2 can't be meant",
    ),
    "beyond": (
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        "process 2 of 2 can't be meant",
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_rank_without_its_torchrun_is_one_sentence(kind: str, tree, tmp_path, monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in PLACES[kind][0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train_command.dist, "init_process_group", None)
    error = refused(["train", "--root", tree, "--out", tmp_path / "run", "--device", "cpu"], capsys)
    assert f"but {PLACES[kind][1]}" in error and "unset RANK, or start with torchrun" in error


CODE = """
import argparse, os, signal, sys
from handpose_lib import cli
class P:
    def parse_args(self, arguments):
        return argparse.Namespace(run=run)
cli._parser = lambda arguments: P()
def run(options):
{body}
cli.main([])
"""


def started(body: str, **options) -> subprocess.CompletedProcess:
    """A command that does what is said, in a process of its own."""
    code = CODE.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_stop_lets_a_command_keep_what_is_done(name: str):
    body = f"try:\n    os.kill(os.getpid(), signal.{name})\n    signal.pause()\nfinally:\n    print('kept')"
    done = started(body)
    assert done.stdout == "kept\n" and done.stderr == "handpose: stopped\n"
    assert done.returncode == 128 + getattr(signal, name)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_what_a_library_makes_of_ctrl_c_is_still_a_stop():
    body = "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    raise ValueError('no colour')"
    done = started(body)
    assert (done.returncode, done.stderr) == (130, "handpose: stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_command_under_nohup_goes_on_and_handlers_are_left_as_they_were(monkeypatch):
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert started("os.kill(os.getpid(), signal.SIGHUP)\nprint('done')", preexec_fn=ignore).stdout == "done\n"
    before = signal.getsignal(signal.SIGTERM)
    inside = []
    parser = argparse.Namespace(
        parse_args=lambda arguments: argparse.Namespace(run=lambda o: inside.append(signal.getsignal(signal.SIGTERM)))
    )
    monkeypatch.setattr(cli, "_parser", lambda arguments: parser)
    cli.main([])
    assert signal.getsignal(signal.SIGTERM) == before != inside[0]


@pytest.mark.skipif(sys.platform == "win32", reason="file numbers are others there")
def test_closed_streams_are_no_files_of_the_command(tmp_path: Path):
    def close() -> None:
        for number in (0, 1, 2):
            os.close(number)

    body = "print('lost'); sys.stderr.write('lost')\nassert sys.stdin.read() == ''\n"
    body += f"file = open({str(tmp_path / 'a')!r}, 'w')\nassert file.fileno() > 2\nfile.write('kept')"
    done = started(body, preexec_fn=close)
    assert done.returncode == 0 and (tmp_path / "a").read_text() == "kept"
