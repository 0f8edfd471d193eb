"""A network as ONNX: what ONNX Runtime answers is what PyTorch answers, with nothing of this machine in the file."""

import contextlib
import io
import json
import os
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from handpose_lib import export
from handpose_lib.cli import main
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.stacked import StackedUNet
from handpose_lib.weights import load_model, save_model

for name in ("onnx", "onnxscript", "onnxruntime"):  # they are not imported where other tests are run
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: it is in the extra `export`", allow_module_level=True)
from handpose_lib.onnx_graph import cut_decoder, session, write_decoder  # noqa: E402 (after the skip, as what it needs)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "onnx_alone.py"


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory, traced_once) -> tuple[Path, str]:
    """The bundled network as `handpose export --half` writes it, and what that printed."""
    path, printed = tmp_path_factory.mktemp("export") / "new" / "handpose.onnx", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(export, "traced", traced_once)
        main(["export", str(path), "--half"])
    return path, printed.getvalue()


@pytest.fixture(scope="module")
def stacked() -> StackedUNet:
    """A small network of the other kind, with heatmaps at a quarter of its input's resolution and random weights."""
    torch.manual_seed(0)
    model = StackedUNet(8, 2, (8,), (8, 8), framing=Framing(64, 0.55, True))
    for head in (model.head, model.head2):
        nn.init.normal_(head.weight, std=0.3)
    return model.eval()


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of noise: what random weights make of a black border is as high everywhere, so no place is right."""

    def squares(framing: Framing, count: int, split: str) -> tuple[np.ndarray, torch.Tensor]:
        rng, side = np.random.default_rng(count), framing.image_size
        points = torch.from_numpy(rng.uniform(0, side, (count, 21, 2)).astype(np.float32))
        return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8), points

    monkeypatch.setattr(export, "example_squares", squares)


@pytest.fixture(scope="module")
def stacked_graph(stacked: StackedUNet):
    return export.traced(export.Look(stacked).eval())


def test_the_command_prints_the_largest_difference_from_pytorch(bundled: tuple[Path, str]):
    path, printed = bundled
    assert f"{path}: {path.stat().st_size / 1e6:.2f} MB; largest difference from PyTorch" in printed
    assert float(printed.split("PyTorch ")[1].split(" px")[0]) <= export.LARGEST_DIFFERENCE


def test_the_file_takes_any_number_of_squares_and_says_how_they_are_cut(bundled: tuple[Path, str]):
    running = session(bundled[0])
    model, _ = load_model(ROOT / "data" / "weights" / "handpose.safetensors")
    facts = json.loads(running.get_modelmeta().custom_metadata_map["handpose"])
    assert Framing.from_json(facts) == model.framing and len(facts["keypoints"]) == 21
    squares, _ = export.example_squares(model.framing, 7, "test")
    with torch.inference_mode():
        wanted = export.Look(model).eval()(torch.from_numpy(squares))
    for part in (slice(0, 1), slice(0, 7)):
        for found, expected in zip(running.run(export.OUTPUTS, {"images": squares[part]}), wanted, strict=True):
            assert found.dtype == np.float32 and found.shape == expected[part].shape
            np.testing.assert_allclose(found, expected[part], atol=0.01)


def test_nothing_of_this_machine_is_in_the_file(bundled: tuple[Path, str]):
    content = bundled[0].read_bytes()
    for trace in (str(ROOT), str(Path.home()), "site-packages", "handpose_lib", "nn.Module", "torch.", ".py"):
        assert trace.encode() not in content, trace


def test_weights_in_16_bits_take_half_of_the_space(bundled: tuple[Path, str]):
    weights = sum(p.numel() for p in load_model(bundled_weights())[0].parameters())
    assert 2 * weights < bundled[0].stat().st_size < 2.2 * weights


def test_weights_in_16_bits_answer_as_pytorch_does(stacked, stacked_graph, noise, tmp_path: Path):
    whole = export.export_onnx(stacked, tmp_path / "whole.onnx", graph=stacked_graph)
    half = export.export_onnx(stacked, tmp_path / "half.onnx", graph=stacked_graph, half=True)
    assert half.size < whole.size
    assert max(whole.difference, half.difference) <= export.LARGEST_DIFFERENCE


@pytest.mark.parametrize("half", [False, True])
def test_the_network_that_is_exported_stays_as_it_is(stacked, stacked_graph, noise, tmp_path: Path, half: bool):
    model = deepcopy(stacked).train()
    export.export_onnx(model, tmp_path / "hands.onnx", graph=stacked_graph, half=half)
    assert all(part.training for part in model.modules())
    before, after = stacked.state_dict(), model.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())


def test_the_width_of_the_networks_peaks_goes_into_its_decoding(stacked, stacked_graph, noise, tmp_path: Path):
    """Weights that were trained on narrow peaks are decoded with a narrow window."""
    export.export_onnx(stacked, tmp_path / "a.onnx", graph=stacked_graph)
    write_decoder(tmp_path / "a.onnx", tmp_path / "decoder.onnx")
    wide = export.Look(stacked)
    heatmaps = torch.rand(3, 21, 16, 16, generator=torch.Generator().manual_seed(1))
    found, confidence = session(tmp_path / "decoder.onnx").run(None, {"heatmaps": heatmaps.numpy()})
    expected = export.points_on_input(heatmaps, stacked.framing, sigma=1.25)
    np.testing.assert_allclose(found, expected[0], atol=1e-3)
    np.testing.assert_allclose(confidence, expected[1], atol=1e-6)
    other = export.points_on_input(heatmaps, stacked.framing, sigma=2.0)[0]
    assert wide.framing == stacked.framing and np.abs(found - other.numpy()).max() > 0.1


def test_the_decoding_can_be_cut_off(stacked, stacked_graph, noise, tmp_path: Path):
    path, look = tmp_path / "a.onnx", export.Look(stacked).eval()
    export.export_onnx(stacked, path, graph=stacked_graph)
    cut_decoder(path)
    running = session(path)
    assert [output.name for output in running.get_outputs()] == ["heatmaps"]
    size = stacked.framing.image_size
    squares = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    (heatmaps,) = running.run(None, {"images": squares})
    with torch.inference_mode():
        np.testing.assert_allclose(heatmaps, look(torch.from_numpy(squares))[2], atol=1e-4, rtol=1e-3)


def test_a_file_that_answers_otherwise_is_refused_and_not_written(stacked, stacked_graph, noise, tmp_path: Path):
    changed = export.copied(stacked_graph)
    weights = next(t for t in changed.graph.initializer if len(t.dims) == 4)
    values = export.needed("onnx").numpy_helper.to_array(weights)
    weights.CopyFrom(export.needed("onnx").numpy_helper.from_array(values * 1.2, weights.name))
    with pytest.raises(ValueError, match="answers otherwise than PyTorch"):
        export.export_onnx(stacked, tmp_path / "wrong.onnx", graph=changed)
    assert list(tmp_path.iterdir()) == []


def test_eight_bits_that_cost_accuracy_are_refused(stacked, stacked_graph, noise, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(export, "_percent", scores(60.0, 61.0))
    monkeypatch.setattr(export, "CALIBRATION", 4)
    monkeypatch.setattr(export, "SCORED", 4)
    with pytest.raises(ValueError, match=r"61.00 to 60.00 %.*16 bits"):
        export.export_onnx(stacked, tmp_path / "wrong.onnx", graph=stacked_graph, eight_bit=True)
    assert list(tmp_path.iterdir()) == []


def scores(*values: float):
    """A stand-in that gives one score after the other."""
    rest = iter(values)
    return lambda *_: next(rest)


def test_in_eight_bits_the_bundled_network_is_a_quarter_as_large(tmp_path: Path, monkeypatch, traced_once):
    monkeypatch.setattr(export, "traced", traced_once)
    monkeypatch.setattr(export, "CALIBRATION", 40)
    monkeypatch.setattr(export, "SCORED", 100)
    model, _ = load_model(ROOT / "data" / "weights" / "handpose.safetensors")
    report = export.export_onnx(model, tmp_path / "small.onnx", eight_bit=True)
    weights = sum(p.numel() for p in model.parameters())
    assert weights < report.size < 1.2 * weights
    assert report.pck_float - report.pck < export.LARGEST_LOSS and "PCK@0.2" in str(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["hand.pt"], "must end in .onnx"), (["hand.onnx", "--weights", "none.safetensors"], "none.safetensors")],
)
def test_bad_input_ends_with_one_line(arguments, message, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["export", *arguments])
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in error and "\n" not in error and not list(tmp_path.iterdir())


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(tmp_path / "hand.onnx")])
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and "pip install 'handpose-lib[export]'" in error and "\n" not in error


@pytest.fixture(scope="module")
def photographs(bundled_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rendered pictures that a camera could have taken: wider than high, the hand somewhere in them."""
    folder, dataset = tmp_path_factory.mktemp("photographs"), FreiHAND(bundled_root, "test", versions="sample")
    files = []
    for number in range(4):
        image = dataset[7 * number][0].numpy().transpose(1, 2, 0)[..., ::-1]
        wide = np.full((300, 400, 3), 90, np.uint8)
        wide[30 : 30 + 224, 40 * number : 40 * number + 224] = image
        files.append(folder / f"{number}.png")
        cv2.imwrite(str(files[-1]), wide)
    return files


def test_the_example_finds_what_the_predictor_finds_without_torch(bundled, photographs: list[Path], tmp_path: Path):
    predictor = HandPosePredictor.from_pretrained(mirrored=False, finder=None, engine="pytorch")
    blocked = (
        "import runpy, sys; sys.modules |= dict.fromkeys(('torch', 'torchvision', 'handpose_lib'))\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for photograph in photographs:
        arguments = [str(EXAMPLE), str(bundled[0]), str(photograph), str(tmp_path / "found.jpg")]
        command = [sys.executable, "-P", "-c", blocked, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        keypoints, confidence = predictor(photograph)
        off = np.linalg.norm(
            answer["keypoints"] - keypoints[0].numpy(), axis=-1
        )  # each look starts from the one before
        assert off.max() < 1 and np.median(off) < 0.1, off
        np.testing.assert_allclose(answer["confidence"], confidence[0], atol=0.05)
        assert (cv2.imread(str(tmp_path / "found.jpg")) != cv2.imread(str(photograph))).any()


def test_a_network_of_whole_pictures_can_be_exported(tmp_path: Path):
    """Its heatmaps need not be as large as its input, and one number of keypoints is as good as another."""
    torch.manual_seed(0)
    model = StackedUNet(8, 2, (8,), (), num_keypoints=21, framing=Framing(64))
    nn.init.normal_(model.head.weight, std=0.3)
    save_model(model.eval(), tmp_path / "w.safetensors")
    main(["export", str(tmp_path / "w.onnx"), "--weights", str(tmp_path / "w.safetensors")])
    facts = json.loads(session(tmp_path / "w.onnx").get_modelmeta().custom_metadata_map["handpose"])
    assert facts["crop"] == 0
