"""Picture files are read as viewers show them, or refused by name."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from trees import make_tree

from handpose_lib import answers, cli, evaluate, inputs, pictures
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.loader import decoded_images
from handpose_lib.pictures import decode_jpeg, picture_files, read_picture, read_reduced
from handpose_lib.predict import HandPosePredictor
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import save_model

LANDSCAPE = (48, 80)


def scene(size: tuple[int, int] = (240, 240), seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) with detail everywhere, as a photograph has it."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def jpeg(picture: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", **{"quality": 90} | options)
    return out.getvalue()


def with_orientation(data: bytes, turn: int) -> bytes:
    """A JPEG with an EXIF entry; not one pixel changes."""
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", pictures.ORIENTATION, 3, 1, turn, 0) + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights" / "small.safetensors"
    path.parent.mkdir()
    save_model(UNet2DHandPose(4, 2, framing=Framing(32)), path)
    return path


def run_predict(weights: Path, *arguments: object) -> None:
    cli.main(["predict", *map(str, arguments), "--weights", str(weights), "--device", "cpu"])


# --- what is right is read right --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 4}])
def test_a_jpeg_has_the_pixels_that_opencv_gives(options):
    for picture in (scene(), scene(LANDSCAPE), np.zeros((64, 64, 3), np.uint8), scene()[..., 0]):
        data = jpeg(picture, **options)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(decode_jpeg(data), expected)


def test_every_picture_of_the_bundled_sample_has_the_pixels_that_opencv_gives(bundled_root):
    for path in sorted((bundled_root / "training" / "rgb").iterdir())[::50]:
        assert np.array_equal(read_picture(path), cv2.imread(str(path))[..., ::-1])


def test_flat_pictures_with_tables_of_their_own_are_no_damage():
    for value in (0, 90, 255):
        flat = np.full((400, 400, 3), value, np.uint8)
        assert np.array_equal(decode_jpeg(jpeg(flat, optimize=True, quality=100)), flat)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "webp", "avif", "png", "tif"])
def test_a_turned_picture_of_any_kind_is_read_as_viewers_show_it(tmp_path, kind, turn):
    upright = np.zeros((*LANDSCAPE, 3), np.uint8)
    upright[:24, :40] = (250, 20, 20)  # red above left
    upright[24:, :40] = (20, 250, 20)  # green below left
    swapped = upright.swapaxes(0, 1)  # rows are columns
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: swapped, 6: swapped[::-1], 7: swapped[::-1, ::-1], 8: swapped[:, ::-1],
    }[turn]  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = turn
    path = tmp_path / f"turned.{kind}"
    image.save(path, exif=exif, **({"quality": 95} if kind in ("jpg", "webp", "avif") else {}))
    read = read_picture(path)
    assert read.shape == upright.shape
    assert np.abs(read[4:20, 4:36].astype(int) - (250, 20, 20)).max() < 40
    assert np.abs(read[28:44, 4:36].astype(int) - (20, 250, 20)).max() < 40


def test_pictures_of_other_depths_and_modes_become_rgb(tmp_path):
    grey = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    cv2.imwrite(str(tmp_path / "deep.png"), grey)
    assert np.array_equal(read_picture(tmp_path / "deep.png")[0, :, 0], np.arange(256))
    Image.fromarray(scene()).convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(scene()).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(scene()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    for name in ("palette.gif", "bits.png", "print.jpg"):
        assert read_picture(tmp_path / name).shape == (240, 240, 3)
    assert np.abs(read_picture(tmp_path / "print.jpg").astype(int) - scene()).mean() < 12
    clear = np.dstack([np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all(), "what is transparent lies on white"


def test_values_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif .*floating-point"):
        read_picture(tmp_path / "float.tif")


# --- damage is refused by name ----------------------------------------------------------------------------------------


def cut(data: bytes, place: int) -> bytes:
    return data[:place]


def ended_early(data: bytes, place: int) -> bytes:
    return data[:place] + b"\xff\xd9"


def hole(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(512) + data[place + 512 :]


def erased(data: bytes, place: int) -> bytes:
    return data[:place] + b"\xff" * 512 + data[place + 512 :]


def noise(data: bytes, place: int) -> bytes:
    return data[:place] + np.random.default_rng(place).bytes(512) + data[place + 512 :]


@pytest.mark.parametrize("harm", [cut, ended_early, hole, erased, noise], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_jpeg_is_refused_by_the_data_set_and_by_the_predictor(tmp_path, harm, progressive):
    root = make_tree(tmp_path / "tree", hands=3)
    data = jpeg(scene((224, 224)), progressive=progressive)
    path = root / "training" / "rgb" / "00000000.jpg"
    refused = 0
    for place in range(len(data) // 3, len(data) - 600, 997):
        path.write_bytes(harm(data, place))
        if progressive and harm is hole:
            continue  # a hole in one of many scans of a progressive JPEG can be valid: a limit, see the README
        with pytest.raises(ValueError, match=r"00000000\.jpg"):
            FreiHAND(root)[0]
        with pytest.raises(ValueError, match=r"00000000\.jpg"):
            decoded_images(FreiHAND(root), 32, progress=False)
        with pytest.raises(ValueError, match=r"00000000\.jpg"):
            read_picture(path)
        refused += 1
    assert refused > 5 or (progressive and harm is hole)


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "avif", "tif"])
def test_other_pictures_that_break_off_are_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(scene()).save(path)
    data = path.read_bytes()
    for share in (0, 0.01, 0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match=rf"a\.{kind} can't be read as a picture"):
            read_picture(path)


def test_a_picture_that_declares_absurd_sizes_is_refused_at_once(tmp_path):
    data = bytearray(jpeg(scene()))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65500, 65500)
    (tmp_path / "bomb.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"bomb\.jpg can't be read as a picture"):
        read_picture(tmp_path / "bomb.jpg")


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg is not there"):
        read_picture(tmp_path / "nothing.jpg")
    with pytest.raises(ValueError, match="is a folder, not a picture"):
        read_picture(tmp_path)


# --- one rule for data set and predictor ------------------------------------------------------------------------------


def test_an_image_of_a_data_set_that_viewers_would_turn_is_refused(tmp_path):
    root = make_tree(tmp_path / "tree", hands=12)
    for path in (root / "training" / "rgb").iterdir():
        path.write_bytes(with_orientation(path.read_bytes(), 1))
    assert FreiHAND(root)[0][0].shape == (3, 224, 224)
    for path in (root / "training" / "rgb").iterdir():
        path.write_bytes(with_orientation(path.read_bytes(), 6))
    data, predictor = FreiHAND(root), HandPosePredictor(UNet2DHandPose(4, 2, framing=Framing(32)))
    for use in (lambda: data[0], lambda: decoded_images(data, 32, False), lambda: evaluate.evaluate(predictor, data)):
        with pytest.raises(ValueError, match=r"\.jpg has the EXIF orientation 6"):
            use()


# --- large pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_jpeg_is_decoded_small_and_answered_in_its_own_pixels(tmp_path, monkeypatch, turn):
    monkeypatch.setattr(pictures, "LARGE", 256)
    picture = scene((480, 640))
    (tmp_path / "large.jpg").write_bytes(with_orientation(jpeg(picture), turn))
    read, factors = read_reduced(tmp_path / "large.jpg", 256)
    assert max(read.shape[:2]) in (160, 320) and factors == (640 / max(read.shape[:2]),) * 2
    assert (read.shape[0] > read.shape[1]) == (turn == 6)
    assert max(read_picture(tmp_path / "large.jpg").shape) == 640
    predictor = HandPosePredictor(UNet2DHandPose(4, 2, framing=Framing(32)))
    monkeypatch.setattr(inputs, "read_reduced", lambda path: read_reduced(path, 256))
    small, full = predictor(tmp_path / "large.jpg")[0], predictor(read)[0]
    assert torch.allclose(small, (full + 0.5) * factors[0] - 0.5)


def test_pictures_are_held_at_once_only_as_far_as_memory_is_meant_for_it(monkeypatch):
    monkeypatch.setattr(inputs, "MOST_PIXELS_AT_ONCE", 250 * 250)
    sizes = [len(part) for part, _ in inputs.batches_of([scene()] * 5, 32)]
    assert sizes == [2, 2, 1]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_gives_all_its_pictures_and_those_of_its_folders(tmp_path):
    names = ["a.jpg", "b.jfif", "c.JPE", "d.avif", "e.gif", "f.heic", "sub/deep/g.png", "h.webp"]
    for name in (*names, "notes.txt", "._a.jpg", ".hidden/x.jpg", "out/0000_a.png", "i.jpg/inside.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = picture_files(tmp_path, besides=tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(names)
    assert picture_files(tmp_path / "._a.jpg") == [tmp_path / "._a.jpg"], "a file that is named is meant"


def test_drawings_are_never_taken_for_pictures(tmp_path, weights, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(scene()))
    for _ in range(2):
        run_predict(weights, folder, "--out", folder / "out")
        assert "1 picture:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_predict(weights, folder, "--out", folder)
    assert "is the folder of the pictures" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="names that only POSIX systems have")
def test_one_file_costs_no_other_answers_and_a_name_is_text(tmp_path, weights, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    bomb = bytearray(jpeg(scene()))
    place = bomb.index(b"\xff\xc0") + 5
    bomb[place : place + 4] = struct.pack(">HH", 65500, 65500)
    for name in (b"a.jpg", b"cost_$5_or_$^.jpg", b"m\xfcller.jpg", b"z.jpg", "手 .jpg".encode()):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(jpeg(scene()))
    (folder / "m.jpg").write_bytes(bomb)
    with pytest.raises(SystemExit) as stopped:
        run_predict(weights, folder, "--out", tmp_path / "out")
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "1 picture left out: " in said.err and "m.jpg" in said.err and "5 pictures" in said.out
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_keeps_the_answers_so_far(tmp_path, weights, number: int):
    folder = tmp_path / "in"
    folder.mkdir()
    for count in range(200):
        (folder / f"{count}.jpg").write_bytes(jpeg(scene()))
    command = [sys.executable, "-m", "handpose_lib.cli", "predict", str(folder), "--weights", str(weights)]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and len(list((tmp_path / "out").glob("*.png"))) < 3:
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=100)[1]
    assert (process.returncode, said[:18]) == (128 + number, "handpose: stopped:"), said
    assert "of 200 pictures are done" in said
    assert (tmp_path / "out" / "keypoints.json").read_text().count('"confidence"') >= 3


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("made", [KeyboardInterrupt, RuntimeError])
def test_a_signal_ends_after_the_picture_and_a_second_one_at_once(tmp_path, weights, times, made, monkeypatch, capsys):
    """Drawing libraries lose an exception that comes up in a weak reference, or make another of it."""
    drawn = []

    def draw(*arguments: object) -> None:
        drawn.append("begun")
        try:
            for _ in range(times):
                signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise made from None
        drawn.append("ended")

    monkeypatch.setattr(answers, "_draw", draw)
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(scene()))
    (tmp_path / "out").mkdir()
    earlier = {"keypoints": [[1.0, 2.0]] * 21, "confidence": [0.5] * 21}
    both = {"earlier.jpg": earlier, str(tmp_path / "a.jpg"): earlier}
    (tmp_path / "out" / "keypoints.json").write_text(json.dumps(both))
    with pytest.raises(SystemExit) as stopped:
        run_predict(weights, *(tmp_path / f"{name}.jpg" for name in "abc"), "--out", tmp_path / "out")
    assert stopped.value.code == 128 + signal.SIGTERM and drawn == ["begun", "ended"][: 3 - times]
    assert "stopped: 3 of 3 pictures are done" in capsys.readouterr().err, "the network had looked at all of them"
    found = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert set(found) == {"earlier.jpg", *(str(tmp_path / f"{name}.jpg") for name in "abc")}
    assert found["earlier.jpg"] == earlier != found[str(tmp_path / "a.jpg")]


def test_a_drawing_that_fails_costs_no_answer(tmp_path, weights, monkeypatch, capsys):
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(answers, "_draw", fail)
    (tmp_path / "a.jpg").write_bytes(jpeg(scene()))
    with pytest.raises(SystemExit):
        run_predict(weights, tmp_path / "a.jpg", "--out", tmp_path / "out")
    assert "the drawing of" in capsys.readouterr().err
    assert '"confidence"' in (tmp_path / "out" / "keypoints.json").read_text()
