"""What commands are given that can't be meant, or can't be written to: one sentence, at once, and nothing is lost.

The commands run in this process. What they would work on for long is put off: they must refuse before it begins.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from trees import make_tree

from handpose_lib import answers, bench, cli, figures, video
from handpose_lib.annotate.store import LabelStore
from handpose_lib.commands import camera
from handpose_lib.commands import evaluate as evaluate_command
from handpose_lib.commands import export as export_command
from handpose_lib.commands import figures as figures_command
from handpose_lib.commands import reproduce as reproduce_command
from handpose_lib.framing import Framing
from handpose_lib.labels import read_labels
from handpose_lib.storage import atomic_path, check_target
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.web.place import FACTS, problem_of
from handpose_lib.web.runtime import write_runtime
from handpose_lib.weights import save_model

ROOT = Path(__file__).resolve().parent.parent
HAND = [[10.0 + 3 * k, 20.0 + 2 * k] for k in range(21)]
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_model(UNet2DHandPose(4, 2, framing=Framing(32)), path)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("trees") / "tree", hands=3, versions=("gs",))


def refused(arguments: list, capsys: pytest.CaptureFixture) -> str:
    """The one sentence with which a command refuses its arguments; notes that come before it are left out."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in lines if not line.startswith("handpose: note: ")]
    assert stopped.value.code == 2 and len(lines) == 1 and lines[0].startswith("handpose: "), lines
    return lines[0]


# --- where results go is looked at before the work that makes them ----------------------------------------------------


def begun(*arguments, **options):
    raise AssertionError("the work began")


TARGETS = {
    "a folder": "is a folder, and a file is to be written there",
    "a device": "is a pipe or a device",
    "below a file": "takes no files",
}


def target(kind: str, name: str, folder: Path) -> Path:
    """A place of this kind that a file can't be written to."""
    path = folder / name
    if kind == "a folder":
        path.mkdir(parents=True)
    elif kind == "a device":
        folder.mkdir(exist_ok=True)
        os.mkfifo(path)
    else:
        folder.write_text("a file")
    return path


@pipes
@pytest.mark.parametrize("kind", TARGETS)
def test_a_place_that_takes_no_file_is_named_before_any_work(kind, tree, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_command, "export_onnx", begun)
    monkeypatch.setattr(bench, "Bench", begun)
    monkeypatch.setattr(evaluate_command, "evaluate", begun)
    monkeypatch.setattr(reproduce_command, "train_or_load", begun)
    onnx, report = target(kind, "a.onnx", tmp_path / "1"), target(kind, "a.json", tmp_path / "2")
    scores = target(kind, "per_keypoint_test.csv", tmp_path / "3").parent
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ["export", onnx, "--weights", weights],
        ["bench", "--json", report, "--root", tree],
        ["evaluate", weights, "--root", tree, "--device", "cpu", "--out", scores],
        ["reproduce", "--root", tree, "--results", scores, "--runs", tmp_path / "runs"],
    ):
        error = refused(arguments, capsys)
        assert TARGETS[kind] in error and str(tmp_path) in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_any_answer_leaves_those_of_an_earlier_run(tmp_path: Path, weights: Path, capsys):
    earlier = json.dumps({"a.jpg": {"keypoints": HAND, "confidence": [0.5] * 21}})
    (tmp_path / "keypoints.json").write_text(earlier)
    arguments = ["predict", tmp_path / "no.jpg", "--out", tmp_path, "--weights", weights, "--device", "cpu"]
    assert "no.jpg is not there" in refused(arguments, capsys)
    assert (tmp_path / "keypoints.json").read_text() == earlier


def test_answers_that_could_not_be_written_are_not_looked_for(tmp_path: Path, monkeypatch):
    (tmp_path / "keypoints.json").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"keypoints\.json is a folder, and a file is to be written there"):
        answers.answer_files([tmp_path / "a.jpg"], begun, tmp_path)
    monkeypatch.setattr(video, "video_facts", lambda file: None)

    class Nobody:
        reset = lambda self: None  # noqa: E731

    with pytest.raises(OSError, match=r"a\.json can't be written, .*file takes no files"):
        answers.answer_video(tmp_path / "a.mp4", Nobody(), tmp_path / "file")


def test_a_place_that_is_not_there_yet_is_made_by_the_file_alone(tmp_path: Path):
    check_target(tmp_path / "new" / "folder" / "a.csv")
    assert not list(tmp_path.iterdir())


@pipes
def test_no_file_takes_the_place_of_a_pipe_a_device_or_a_folder(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, kind in (("pipe.png", "a pipe or a device"), ("folder.png", "a folder")):
        words = rf"{name} is {kind}, and a file is to be written there"
        with pytest.raises(OSError, match=words), atomic_path(tmp_path / name):
            begun()
    assert (tmp_path / "pipe.png").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "pipe.png"]


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [["", "--out", "a"], ["a.jpg", "--out", ""], ["a.jpg", "--out="]])
def test_an_argument_that_is_empty_is_not_taken_for_the_folder_one_works_in(empty, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "is a variable of the shell not set?" in refused(["predict", *empty], capsys)
    assert not list(tmp_path.iterdir())


def test_the_home_of_an_unknown_user_is_one_sentence(capsys):
    error = refused(["export", "a.onnx", "--weights", "~nobody7/w.st"], capsys)
    assert "~nobody7/w.st: the home folder of this user is not known" in error


def test_a_home_in_the_environment_that_is_none_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HANDPOSE_RUNS", "~nobody7/runs")
    assert "names an unknown user" in refused(["reproduce", "--root", tmp_path], capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use can't be deleted there")
def test_a_folder_that_was_deleted_around_the_command_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    error = refused(["predict", "a.jpg", "--out", "b"], capsys)
    assert error == "handpose: the folder that you work in was deleted: go to another one, and run again"


@pytest.mark.filterwarnings("error")  # as PYTHONWARNINGS=error does
def test_a_note_that_shall_be_an_error_is_one_sentence(tree: Path, tmp_path: Path, capsys):
    error = refused(["data", "show", tree, "--out", tmp_path / "a.png"], capsys)
    assert "holds no image of version hom, sample, auto: left out" in error and not list(tmp_path.iterdir())


def test_a_backend_of_no_name_is_one_sentence(monkeypatch, capsys):
    def load(options):
        matplotlib.rcParams["backend"] = "nonsense"

    monkeypatch.setattr(evaluate_command, "run", load)
    assert "the variable MPLBACKEND names no backend of matplotlib" in refused(["evaluate"], capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_that_leads_back_to_itself_is_one_sentence(tmp_path: Path, capsys):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = refused(["predict", tmp_path, "--out", tmp_path / "loop"], capsys)
    assert "loop" in error and list(tmp_path.iterdir()) == [tmp_path / "loop"]


@pipes
def test_a_pipe_is_no_video(tmp_path: Path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 is a pipe or a device"):
        next(video.read_video(tmp_path / "a.mp4"))


@pytest.mark.parametrize("box", ["nan 0 9 9", "0 0 0 0", "30 30 10 10", "0.1 0.1 0.5 0.5"])
def test_what_is_no_box_is_refused_before_anything_is_written(box: str, tmp_path: Path, capsys):
    arguments = ["predict", tmp_path / "a.mp4", "--out", tmp_path / "out", "--box", *box.split()]
    assert "boxes must be" in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["-1", "1000", "1" + 30 * "0"])
def test_a_camera_of_an_absurd_number_is_refused(number: str, monkeypatch, capsys):
    monkeypatch.setattr(camera, "check_display", begun)
    assert f"--number is {number}: cameras are counted from 0" in refused(["camera", "--number", number], capsys)


@pytest.mark.parametrize("count", ["0", "21", "1000000000000"])
def test_no_more_hands_are_followed_than_a_picture_can_hold(count: str, weights: Path, tmp_path: Path, capsys):
    arguments = ["predict", "a.mp4", "--out", tmp_path / "out", "--weights", weights, "--device", "cpu"]
    assert f"max_hands is {count}, it must be from 1 to 20" in refused([*arguments, "--max-hands", count], capsys)


def test_a_device_that_computes_nothing_is_refused(weights: Path, tmp_path: Path, capsys):
    arguments = ["predict", "a.jpg", "--out", tmp_path / "out", "--weights", weights, "--device", "meta"]
    assert "device 'meta' can't be used" in refused(arguments, capsys)


@pytest.mark.parametrize("workers", ["0", "-3"])
def test_no_worker_is_not_taken_for_all_cores(workers: str, tmp_path: Path, capsys):
    arguments = ["data", "synth", "--hands", "1", "--out", tmp_path / "hands", "--workers", workers]
    assert f"workers={workers}: it must be at least 1" in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 1.2 TiB for an array"), "not enough memory (Unable to allocate 1.2 TiB"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "not enough memory (CUDA out of memory."),
        (RuntimeError("[x.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory ([x.cpp"),
    ],
)
def test_a_lack_of_memory_is_one_sentence(error, words, tree, tmp_path, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr("handpose_lib.commands.train.Trainer", fails)
    said = refused(["train", "--root", tree, "--out", tmp_path / "run", "--device", "cpu"], capsys)
    assert words in said and "take smaller settings or pictures" in said


def test_what_nobody_expected_is_still_shown_whole(tree: Path, tmp_path: Path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr("handpose_lib.commands.train.Trainer", fails)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        cli.main(["train", "--root", str(tree), "--out", str(tmp_path / "run"), "--device", "cpu"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device here that is always full")
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("kind", ["full", "closed"])
def test_output_that_nobody_takes_ends_in_one_sentence(kind: str, at_once: bool):
    read, write = os.pipe()
    os.close(read)
    output = os.open("/dev/full", os.O_WRONLY) if kind == "full" else write
    code = "import sys; from handpose_lib import cli; cli._parser = lambda a: P()\n"
    code += "class P:\n parse_args = lambda s, a: __import__('argparse').Namespace(run=lambda o: print('answers'))\n"
    code += "cli.main([])"
    command = [sys.executable, *(["-u"] if at_once else []), "-c", code]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1 and "the output can't be written any more" in lines[0], lines


def test_a_name_that_the_terminal_can_not_show_stops_nothing(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(cli, "COMMANDS", {})
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    print("Hände \udcff")
    terminal.flush()
    assert terminal.buffer.getvalue().endswith(b"H\\xe4nde \\udcff\n")


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [Framing(32), Framing(32, crop=0.5, upright=True)])
def test_weights_for_another_number_of_keypoints_are_refused(framing, tree, tmp_path, capsys):
    path = tmp_path / "five.safetensors"
    save_model(UNet2DHandPose(4, 2, num_keypoints=5, framing=framing), path)
    picture = tree / "training" / "rgb" / "00000000.jpg"
    for arguments in (
        ["predict", picture, "--out", tmp_path / "out", "--weights", path, "--device", "cpu"],
        ["evaluate", path, "--root", tree, "--device", "cpu", "--out", tmp_path / "out"],
    ):
        assert "this network finds 5 keypoints, and a hand has 21" in refused(arguments, capsys)
    assert [each.name for each in tmp_path.iterdir()] == ["five.safetensors"]


# --- data of the bench, and figures -----------------------------------------------------------------------------------


def test_a_data_set_too_small_for_the_bench_is_said_at_once(tree: Path, tmp_path: Path, capsys):
    error = refused(["bench", "--json", tmp_path / "a.json", "--cpu-only", "--root", tree], capsys)
    assert "has 1 images for training and 1 for validation: the bench needs 32 and 32" in error
    labels = tmp_path / "keypoints.json"
    labels.write_text("[]")
    error = refused(["bench", "--json", tmp_path / "a.json", "--cpu-only", "--root", labels], capsys)
    assert f"{labels} is a file: give the folder of a data set in FreiHAND's layout" in error


CSV = (ROOT / "figures" / "per_keypoint_accuracy.csv").read_text(encoding="utf-8")
LINES = CSV.splitlines()
SHARE = LINES[3].split(",")[2]
TABLES = {
    "nothing": (b"", "can't be read as a table"),
    "no text": (b"\xff\xfe\x00\x01", "can't be read as a table"),
    "no scores": (CSV.replace("pck_0.2_bbox", "pck").encode(), "has no column 'pck_0.2_bbox'"),
    "semicolons": (CSV.replace(",", ";").encode(), "has no column 'keypoint'"),
    "its head alone": (LINES[0].encode(), "does not have one line per keypoint"),
    "half": ("\n".join(LINES[:9]).encode(), "does not have one line per keypoint"),
    "twice": ("\n".join([*LINES, *LINES[1:]]).encode(), "does not have one line per keypoint"),
    "another order": ("\n".join([LINES[0], *LINES[:0:-1]]).encode(), "does not have one line per keypoint"),
    "a word": (CSV.replace(SHARE, "many", 1).encode(), "pck_0.2_bbox is many, not from 0 to 1"),
    "percent": (CSV.replace(SHARE, "91.5", 1).encode(), "pck_0.2_bbox is 91.5, not from 0 to 1"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_scores_that_can_not_be_drawn_do_not_replace_those_that_are_there(kind, tmp_path, monkeypatch, capsys):
    content, words = TABLES[kind]
    (tmp_path / "figures").mkdir()
    kept = tmp_path / "figures" / "per_keypoint_accuracy.csv"
    kept.write_text(CSV)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / kept.name).write_bytes(content)
    monkeypatch.setattr(figures_command, "checkout_root", lambda: tmp_path)
    error = refused(["figures", "--results", tmp_path / "results"], capsys)
    assert words in error and str(tmp_path / "results" / kept.name) in error
    assert kept.read_text() == CSV


@pytest.mark.parametrize("content", ["", "[]", "{}", "[[[", '{"rows": 3}', '{"devices": []}', '{"stages": [1]}'])
@pytest.mark.parametrize("file", ["bench_cpu", "weights", "rehearsal"])
def test_a_report_that_is_damaged_is_named_and_not_taken_for_none(content: str, file: str, tmp_path: Path):
    fits = {"bench_cpu": '{"devices": []}'}.get(file) == content
    shutil.copytree(ROOT / "figures", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jpg", "*.png"))
    (tmp_path / f"{file}.json").write_text(content)
    name = file.partition("_")[0]
    page = f"<!-- table: {name} -->\nold\n<!-- /table -->"
    if fits:  # a report without this device is none of it
        assert "not measured" in figures.with_tables(page, tmp_path)
        return
    with pytest.raises(
        ValueError, match=rf"{file}\.json (is damaged|holds no report)|the table '{name}' can't be made"
    ):
        figures.with_tables(page, tmp_path)


def test_an_ablation_that_is_no_table_is_named(tmp_path: Path):
    (tmp_path / "ablation.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ablation\.csv can't be read as a table"):
        figures.ablation_table(tmp_path)


# --- the pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "7", "[" * 100_000, '{"format": 2}', '{"format": 2, "bundled": true}']
)
def test_facts_of_a_built_page_that_are_damaged_are_noticed(content: str, tmp_path: Path):
    (tmp_path / FACTS).parent.mkdir()
    (tmp_path / FACTS).write_text(content)
    assert problem_of(tmp_path)


@pipes
def test_a_pipe_is_no_package_and_nobody_waits(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a pipe or a device"):
        write_runtime(tmp_path / "ort", tmp_path / "pipe")


def labelling(folder: Path, content: bytes | None, name: str = "a.jpg") -> LabelStore:
    """The labels of a folder with one picture."""
    cv2.imwrite(os.fspath(folder / "a.jpg"), np.full((90, 90, 3), 90, np.uint8))
    (folder / "a.jpg").rename(folder / name)
    if content is not None:
        (folder / "keypoints.json").write_bytes(content)
    return LabelStore(folder, begun)


@pytest.mark.parametrize(
    "content", ['[{"file": "a.jpg", "group": "Jürgen"}]'.encode("latin-1"), bytes(90), b"\xff" * 9]
)
def test_labels_that_are_no_text_are_named_before_any_is_made(content: bytes, tmp_path: Path):
    with pytest.raises(ValueError, match=r"keypoints\.json (is not a text file|is not valid JSON)"):
        labelling(tmp_path, content)


@pipes
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_place_where_labels_can_not_be_saved_is_named_before_any_is_made(kind: str, tmp_path: Path):
    (tmp_path / "keypoints.json").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "keypoints.json")
    with pytest.raises(OSError, match=r"keypoints\.json is a (folder|pipe or a device), and a file"):
        labelling(tmp_path, None)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
@pytest.mark.parametrize("name", [os.fsdecode(b"\xff.jpg"), "Hände ✋.jpg"])
def test_a_picture_with_an_odd_name_can_be_labelled(name: str, tmp_path: Path):
    store = labelling(tmp_path, None, name)
    assert store.save(0, {"keypoints": HAND})["done"] == 1
    assert [hand.file for hand in read_labels(store.path)] == [name] and LabelStore(tmp_path, begun).overview()
    assert ("Hände" in store.path.read_text(encoding="utf-8")) == ("Hände" in name)


def test_a_file_name_that_is_no_text_is_named(tmp_path: Path):
    names = {"images": [{"id": 1, "file_name": 3}], "annotations": [{"image_id": 1, "keypoints": [5, 6, 2] * 21}]}
    (tmp_path / "a.json").write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"a\.json, annotation None: the file_name of its image must be text, not 3"):
        read_labels(tmp_path / "a.json")


def test_a_hand_of_a_coco_file_that_lacks_numbers_is_not_passed_over(tmp_path: Path):
    points = [value for x, y in HAND for value in (x, y, 2)]
    marks = [{"id": n, "image_id": 1, "category_id": 1, "keypoints": points[: 63 - n]} for n in (0, 3)]
    body = {"id": 9, "image_id": 1, "category_id": 2, "keypoints": points[:51]}
    kinds = [{"id": 1, "name": "hand"}, {"id": 2, "name": "person"}]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [marks[0], body], "categories": kinds}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert len(read_labels(tmp_path / "a.json")) == 1  # a skeleton of another kind is no hand
    (tmp_path / "a.json").write_text(json.dumps(content | {"annotations": marks}))
    with pytest.raises(ValueError, match=r"a\.json, annotation 3: .* has 20 keypoints.*and a hand has 21"):
        read_labels(tmp_path / "a.json")


@pytest.mark.parametrize("value", [10**400, float("nan"), 1e300])
def test_a_label_that_is_no_place_is_refused_and_nothing_is_saved(value: float, tmp_path: Path):
    store = labelling(tmp_path, None)
    with pytest.raises(ValueError, match="wrist is far off the picture of 90×90 px"):
        store.save(0, {"keypoints": [[value, 5.0], *HAND[1:]]})
    assert not store.path.exists()


def test_what_a_file_does_not_label_is_shown_as_not_labelled(tmp_path: Path):
    points = [[float("nan"), 5.0], [4.0, 5.0, 0], None, [None, 7.0], [4.0, 5.0, 2], *HAND[5:]]
    cv2.imwrite(os.fspath(tmp_path / "a.jpg"), np.full((90, 90, 3), 90, np.uint8))
    (tmp_path / "keypoints.json").write_text(json.dumps([{"file": "a.jpg", "keypoints": points}]))
    store = LabelStore(tmp_path, lambda file: (torch.zeros(1, 21, 2), torch.zeros(1, 21)))
    assert store.hand(0)["keypoints"][:6] == [None, None, None, None, [4.0, 5.0], HAND[5]]


def test_a_recording_that_changes_its_size_becomes_a_film_of_one(tmp_path: Path, monkeypatch):
    frames = [np.full((height, 80, 3), 90, np.uint8) for height in (60, 90, 60)]
    monkeypatch.setattr(video, "read_video", lambda path: zip(frames, (0.0, 0.1, 0.2), strict=True))

    class Nobody:
        reset = to_json = lambda self: None
        __call__ = lambda self, *arguments: [None]  # noqa: E731

    name, found = answers.answer_video(tmp_path / "a.avi", Nobody(), tmp_path / "out", ".avi")
    assert found == 0 and len(json.loads((tmp_path / "out" / f"{name}.json").read_text())["frames"]) == 3
    monkeypatch.undo()
    assert [frame.shape for frame, _ in video.read_video(tmp_path / "out" / f"{name}_hands.avi")] == [(60, 80, 3)] * 3


def test_a_film_takes_pictures_of_its_size_alone(tmp_path: Path):
    for size, fps in (((0, 60), 10.0), ((60, 80), 0.0), ((60, 80), float("nan"))):
        with pytest.raises(ValueError, match=r"a film needs .* frames per second and sides of 2 px or more"):
            video.VideoWriter(tmp_path / "a.avi", size, fps)
    film = video.VideoWriter(tmp_path / "a.avi", (60, 80), 10.0)
    for picture in (np.zeros((80, 60, 3), np.uint8), np.zeros((60, 80, 3)), np.zeros((60, 80), np.uint8)):
        with pytest.raises(ValueError, match=r"can't go into a film of \(60, 80\) px"):
            film.write(picture, 0.0)
    film.write(np.zeros((60, 80, 3), np.uint8), 0.0)
    film.close()
