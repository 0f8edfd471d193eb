import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from nbclient import NotebookClient
from trees import make_tree

from handpose_lib import cli, datasets
from handpose_lib.cli import COMMANDS, main
from handpose_lib.commands import data
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND, split_rows
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.stacked import StackedUNet
from handpose_lib.train import Trainer
from handpose_lib.weights import load_model, save_model

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = ROOT / "Makefile"
SMALL = ["--image-size", "32", "--width", "4", "--depth", "2", "--batch-size", "8", "--epochs", "1"]


def test_show_draws_hands_with_keypoints(tiny_root: Path, tmp_path: Path, capsys):
    main(["data", "show", str(tiny_root), "--out", str(tmp_path / "new" / "hands.png"), "--count", "5"])
    picture = cv2.imread(str(tmp_path / "new" / "hands.png"))
    assert picture is not None and picture.std() > 10
    assert "5 images with keypoints" in capsys.readouterr().out


def test_show_draws_a_set_without_labels(tiny_root: Path, tmp_path: Path, capsys):
    main(["data", "show", str(tiny_root), "--split", "evaluation", "--out", str(tmp_path / "e.png")])
    assert "3 images without keypoints" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "show", "nowhere", "--out", "x.png"], "nowhere"),
        (["data", "show", "{root}", "--out", "x.png", "--count", "0"], "--count"),
        (["evaluate", "nothing.safetensors"], "nothing.safetensors is not there"),
        (["data", "freihand", "--root", "x"], "terms"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(arguments, message, tiny_root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as stopped:
        main([argument.replace("{root}", str(tiny_root)) for argument in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("handpose: ") and message in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_train_then_evaluate_writes_the_per_keypoint_table_and_plot(tiny_root: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    main(["train", "--root", str(tiny_root), "--out", str(run), "--device", "cpu", *SMALL])
    assert "weights in" in capsys.readouterr().out
    main(["evaluate", str(run / "best.safetensors"), "--root", str(tiny_root), "--out", str(tmp_path / "scores")])
    table = pd.read_csv(tmp_path / "scores" / "per_keypoint_test.csv")
    assert tuple(table["keypoint"]) == KEYPOINT_NAMES
    assert cv2.imread(str(tmp_path / "scores" / "per_keypoint_test.png")) is not None
    assert "mean hand: PCK@0.2 (bbox)" in capsys.readouterr().out


def test_reproduce_goes_from_freihands_files_to_the_per_keypoint_table(tiny_root: Path, tmp_path: Path, monkeypatch):
    (command,) = re.findall(r"^reproduce:.*\n\t\$\(BIN\)/handpose (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(tiny_root))
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--device", "cpu"]
    main([*command.split(), *places, *SMALL])
    table = pd.read_csv(tmp_path / "results" / "per_keypoint_test.csv")
    assert tuple(table["keypoint"]) == KEYPOINT_NAMES
    assert (table["count"] == 4 * len(split_rows(12, "test"))).all()
    assert cv2.imread(str(tmp_path / "results" / "per_keypoint_test.png")) is not None
    (run,) = (tmp_path / "runs").glob("unet4_32px_*/")
    weights = (run / "best.safetensors").stat().st_mtime_ns
    main([*command.split(), *places, *SMALL])  # nothing is trained twice
    assert (run / "best.safetensors").stat().st_mtime_ns == weights


def test_reproduce_without_freihand_says_how_to_get_it(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.delenv("HANDPOSE_FREIHAND_ROOT", raising=False)
    monkeypatch.setattr(datasets, "base_folder", lambda: tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "handpose data freihand" in error and "HANDPOSE_FREIHAND_ROOT" in error


def test_train_does_not_overwrite_a_run_but_resumes_it(tiny_root: Path, tmp_path: Path, capsys):
    command = ["train", "--root", str(tiny_root), "--out", str(tmp_path / "run"), "--device", "cpu", *SMALL]
    main(command)
    with pytest.raises(SystemExit):
        main(command)
    assert "add --resume" in capsys.readouterr().err
    main([*command, "--resume"])
    weights = str(tmp_path / "run" / "best.safetensors")
    with pytest.raises(SystemExit):
        main(["train", "--root", str(tiny_root), "--start-from", weights, *SMALL])
    assert "--start-from needs --out" in capsys.readouterr().err
    command[command.index(str(tmp_path / "run"))] = str(tmp_path / "another")
    main([*command, "--start-from", weights])
    assert (tmp_path / "another" / "best.safetensors").is_file()


@pytest.mark.parametrize("again", ["the same command and --resume", "only where it is", "the weights are gone"])
def test_fine_tuning_that_was_stopped_goes_on(tiny_root: Path, tmp_path: Path, monkeypatch, capsys, again: str):
    """Its settings are those of the weights, which no option can say."""
    model = StackedUNet(4, 3, decoder=(4, 4), refine=(4, 4), framing=Framing(32, crop=0.55, upright=True))
    model.calibration, model.bones = (-1.0, 2.0, 3.0), ((0.1, 0.2, 0.05),) * 20
    begin = tmp_path / "begin.safetensors"
    save_model(model, begin)
    command = ["train", "--root", str(tiny_root), "--device", "cpu", "--start-from", str(begin)]
    main([*command, "--out", str(tmp_path / "whole"), "--epochs", "2"])
    step = Trainer.train_step

    def interrupted(self, batch):
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    place = ["--out", str(tmp_path / "parts")]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *place, "--epochs", "2"])
    assert stopped.value.code == 130 and "with --resume) to go on" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "train_step", step)
    if again == "the weights are gone":
        begin.unlink()
    more = command[:5] if again == "only where it is" else [*command, "--epochs", "2"]
    main([*more, *place, "--resume"])
    found, theirs = (load_model(tmp_path / name / "best.safetensors")[0] for name in ("parts", "whole"))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), theirs.parameters(), strict=True))
    assert found.bones == model.bones and found.calibration == (), "heights of peaks change as a network learns"


def test_rendered_hands_can_be_opened(tmp_path: Path):
    main(["data", "synth", "--hands", "3", "--out", str(tmp_path / "synth"), "--workers", "1"])
    dataset = FreiHAND(tmp_path / "synth", "train")
    assert dataset.num_hands == 3 and np.isfinite(dataset.keypoints).all()


def test_a_version_without_images_is_said_in_one_line(tmp_path: Path, capsys):
    root = make_tree(tmp_path / "gs_only", hands=3, versions=["gs"])
    main(["data", "show", str(root), "--out", str(tmp_path / "hands.png")])
    out, err = capsys.readouterr()
    assert "3 images with keypoints" in out
    assert "no image of version hom, sample, auto: left out" in err
    assert all(line.startswith("handpose: note: ") for line in err.splitlines())


@pytest.mark.parametrize("hands", [1, 2])
def test_trees_too_small_for_three_parts_can_be_shown(tmp_path: Path, capsys, hands: int):
    root = make_tree(tmp_path / "small", hands=hands)
    main(["data", "show", str(root), "--out", str(tmp_path / "hands.png")])
    assert f"{4 * hands} images with keypoints" in capsys.readouterr().out


def test_every_hand_is_shown_once_before_any_is_shown_twice(tiny_root: Path, tmp_path: Path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        data.plots, "image_grid", lambda images, keypoints, titles, **_: shown.extend(titles) or Figure()
    )
    main(["data", "show", str(tiny_root), "--out", str(tmp_path / "hands.png"), "--count", "12"])
    assert [title.split()[:2] for title in shown] == [["gs", str(hand)] for hand in range(12)]


def test_a_tree_that_was_unpacked_by_hand_is_not_downloaded_again(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("HANDPOSE_FREIHAND_URL", "http://127.0.0.1:9/")  # nobody answers there
    monkeypatch.setattr(data.download, "ATTEMPTS", 0)
    monkeypatch.setattr(data.download, "BACK_OFF", 0)
    monkeypatch.setenv("no_proxy", "*")
    root = make_tree(tmp_path / "FreiHAND_pub_v2" / "FreiHAND_pub_v2", hands=3)
    main(["data", "freihand", "--root", str(root.parent), "--accept-terms"])
    assert f"FreiHAND lies in {root} already" in capsys.readouterr().out
    (root / "training_xyz.json").write_text("[[")
    with pytest.raises(SystemExit):  # damaged: it must not be called whole
        main(["data", "freihand", "--root", str(root.parent), "--accept-terms"])
    assert "broke off" in capsys.readouterr().err


def test_in_a_notebook_the_terms_are_refused_at_once_and_nobody_waits(tmp_path: Path):
    """A cell's `!command` runs at a terminal that nobody types into: a question there would never be answered."""
    line = f"!{sys.executable} -m handpose_lib.cli data freihand --root {tmp_path / 'data'}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line)])
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert "research purposes only" in printed and "run again with --accept-terms" in printed
    assert "[y/N]" not in printed and not (tmp_path / "data").exists()


@pytest.mark.parametrize("device", ["warp-drive", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error_in_one_line(tiny_root: Path, tmp_path: Path, capsys, device: str):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--root", str(tiny_root), "--out", str(tmp_path / "run"), "--device", device, *SMALL])
    assert stopped.value.code == 2 and device in capsys.readouterr().err


def imported_for(*arguments: str) -> set[str]:
    """Modules that a process has imported once it has run a command of `handpose`."""
    code = (
        "import sys; from handpose_lib.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stopped: assert not stopped.code, stopped\n"
        "print('\\n'.join(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines())


def test_the_list_of_commands_needs_neither_torch_nor_any_plot():
    heavy = {"torch", "torchvision", "numpy", "cv2", "matplotlib", "pandas", "seaborn"}
    imported = imported_for("--help")
    assert not imported & heavy
    assert {name for name in imported if name.startswith("handpose_lib")} <= {
        "handpose_lib",
        "handpose_lib.cli",
        "handpose_lib.stopping",
    }


def test_training_imports_no_plot_no_bench_and_no_course():
    imported = imported_for("train", "--help")
    assert "handpose_lib.train" in imported
    unwanted = {f"handpose_lib.{name}" for name in ("plots", "bench", "figures", "course", "recipes")}
    assert not imported & (unwanted | {"matplotlib", "seaborn"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_with_its_options(name: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0 and f"usage: handpose {name}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [
    ["evaluate"], ["predict", "a.jpg", "--out", "answers", "--weights"], ["camera", "--weights"],
    ["annotate", "folder", "--weights"], ["export", "a.onnx", "--weights"], ["web", "--weights"],
])  # fmt: skip
def test_the_word_bundled_names_the_bundled_weights_in_every_command(command: list[str]):
    bundled, other = ([*command, name] for name in ("bundled", "run/best.safetensors"))
    assert cli._parser(bundled).parse_args(bundled).weights is None  # as if the option were left out
    assert cli._parser(other).parse_args(other).weights == Path("run/best.safetensors")
