"""Single looks by ONNX Runtime: they answer as PyTorch does, and weights that were trained on need no graph anew."""

import pickle
import re
import shutil
import sys
import zipfile
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handpose_lib import onnx_look
from handpose_lib.augment import normalize
from handpose_lib.decoding import decoding_of, points_on_input
from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.onnx_graph import write_decoder
from handpose_lib.onnx_look import (
    DECODER,
    ENGINES,
    OnnxLook,
    bundled_graph,
    fingerprint,
    in_eight_bits,
    look_of,
    multiplies_bytes,
    quick_look_of,
)
from handpose_lib.predict import HandPosePredictor, bundled_finder, bundled_weights
from handpose_lib.stacked import StackedUNet
from handpose_lib.track import HandTracker
from handpose_lib.unet import UNet2DHandPose, fuse_batch_norm
from handpose_lib.weights import load_model, save_model

needs_runtime = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is in the extra `export`")
ROOT = Path(__file__).resolve().parent.parent
NEAR = 0.01  # px: what rounding explains


@pytest.fixture(scope="module")
def pictures(bundled_root: Path) -> list[np.ndarray]:
    dataset = FreiHAND(bundled_root, "val")
    return [np.ascontiguousarray(dataset[row][0].numpy().transpose(1, 2, 0)) for row in range(0, len(dataset), 16)]


@pytest.fixture(scope="module")
def places(pictures: list[np.ndarray], by_pytorch: HandPosePredictor) -> list[Tensor]:
    return list(by_pytorch(pictures)[0])


@pytest.fixture(scope="module")
def by_pytorch() -> HandPosePredictor:
    return HandPosePredictor.from_pretrained(engine="pytorch")


@pytest.fixture(scope="module")
def by_onnx() -> HandPosePredictor:
    return HandPosePredictor.from_pretrained(engine="onnxruntime")


def counted(predictor: HandPosePredictor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which engine is asked from now on: `_heatmaps` of a predictor's networks are PyTorch's, what runs is ONNX's."""
    asked = []
    for owner, name in ((predictor, "_heatmaps"), (predictor.finder, "_heatmaps"), (onnx_look, "_run")):
        work = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, w=work, n=name, **i: asked.append(n) or w(*given, **i))
    return asked


@needs_runtime
def test_looks_and_searches_answer_as_pytorch_does(pictures, places, by_pytorch, by_onnx, monkeypatch):
    asked = counted(by_onnx, monkeypatch)
    for picture, place in zip(pictures, places, strict=True):
        pairs = (
            (by_onnx.follow(picture, place), by_pytorch.follow(picture, place), NEAR),
            # A look begins where the one before ended, and its square is rounded to whole grey levels.
            (by_onnx.search(picture), by_pytorch.search(picture), 10 * NEAR),
        )
        for ours, theirs, near in pairs:
            assert (ours[0] - theirs[0]).abs().max() < near
            assert (ours[1] - theirs[1]).abs().max() < 0.01
    # A follow; the finder, a look, a look with its mirror image, and the decoding of both.
    assert "_heatmaps" not in asked and len(asked) >= 5 * len(pictures)


@needs_runtime
def test_a_mean_with_the_mirror_image_is_decoded_by_pytorch_where_no_graph_does(
    pictures, by_onnx, monkeypatch, tmp_path: Path
):
    model, _ = load_model(bundled_weights())
    graph = bundled_graph(model)
    shutil.copy(graph, tmp_path)
    wanted = by_onnx.search(pictures[0])
    decoded = []
    work = onnx_look.points_on_input
    monkeypatch.setattr(onnx_look, "points_on_input", lambda *given, **o: decoded.append(1) or work(*given, **o))
    assert torch.equal(by_onnx.search(pictures[0])[0], wanted[0]) and not decoded
    monkeypatch.setattr(by_onnx, "_onnx", OnnxLook(model, tmp_path / graph.name))
    found = by_onnx.search(pictures[0])
    assert (found[0] - wanted[0]).abs().max() < NEAR and (found[1] - wanted[1]).abs().max() < 1e-3
    assert decoded == [1]


@needs_runtime
def test_a_look_without_a_network_to_decode_in_is_decoded_by_the_library(pictures, places, by_pytorch):
    for options in ({"method": "argmax"}, {"mirrored": False, "passes": 1}):
        one, other = (HandPosePredictor.from_pretrained(engine=name, **options) for name in ("onnxruntime", "pytorch"))
        assert (one.search(pictures[0])[0] - other.search(pictures[0])[0]).abs().max() < NEAR
    one = HandPosePredictor.from_pretrained(engine="onnxruntime")
    one.model.bones = ()
    highest = HandPosePredictor.from_pretrained(engine="pytorch")
    highest.model.bones = ()
    apart = [
        (by_pytorch.follow(p, k)[0] - highest.follow(p, k)[0]).abs().max()
        for p, k in zip(pictures, places, strict=True)
    ]
    chosen = int(np.argmax(apart))
    assert apart[chosen] > 1  # the bones decide something there
    assert (
        one.follow(pictures[chosen], places[chosen])[0] - highest.follow(pictures[chosen], places[chosen])[0]
    ).abs().max() < NEAR


@needs_runtime
@pytest.mark.parametrize("size", [96, 160])
def test_squares_of_another_size_go_through_pytorch(pictures, places, size):
    framing = Framing(size, 0.55, True)
    for options in ({"framing": framing}, {"followed": framing}):
        ours, theirs = (HandPosePredictor.from_pretrained(engine=name, **options) for name in ENGINES)
        assert (ours.follow(pictures[0], places[0])[0] - theirs.follow(pictures[0], places[0])[0]).abs().max() < NEAR
        assert (ours.search(pictures[0])[0] - theirs.search(pictures[0])[0]).abs().max() < 10 * NEAR


@needs_runtime
def test_batches_and_other_squares_go_through_pytorch(pictures, places, monkeypatch):
    predictor = HandPosePredictor.from_pretrained(engine="onnxruntime")
    asked = counted(predictor, monkeypatch)
    predictor(pictures[:2])
    assert set(asked) == {"_heatmaps"}
    asked.clear()
    smaller = HandPosePredictor.from_pretrained(engine="onnxruntime", followed=Framing(96, crop=0.7, upright=True))
    asked = counted(smaller, monkeypatch)
    smaller.follow(pictures[0], places[0])
    assert asked == ["_heatmaps"]


@needs_runtime
def test_weights_that_were_trained_on_are_run_by_the_same_graph(pictures, places, tmp_path: Path):
    model, _ = load_model(bundled_weights())
    graph = bundled_graph(model)
    with torch.no_grad():
        model.head2.bias += 0.05
        model.stem[0].weight *= 1.1
    model.calibration = ()
    save_model(model, tmp_path / "tuned.safetensors")
    ours, theirs = (
        HandPosePredictor.from_pretrained(tmp_path / "tuned.safetensors", engine=name)
        for name in ("onnxruntime", "pytorch")
    )
    assert ours._onnx.graph == graph
    found, sure = ours.follow(pictures[0], places[0])
    wanted, certain = theirs.follow(pictures[0], places[0])
    assert (found - wanted).abs().max() < NEAR and (sure - certain).abs().max() < 1e-3
    bundled = HandPosePredictor.from_pretrained(engine="onnxruntime").follow(pictures[0], places[0])[1]
    assert (sure - bundled).abs().max() > 0.01  # they are not the bundled ones


def test_networks_without_a_graph_are_run_by_pytorch(tmp_path: Path, monkeypatch):
    unet = UNet2DHandPose(width=4, depth=2)
    other = StackedUNet(8, 2, (8,), (8, 8))
    assert look_of(unet) is None and look_of(other) is None
    for model in (unet, other):
        with pytest.raises(ValueError, match=f"can't run this {type(model).__name__}: no graph of it comes"):
            look_of(model, "onnxruntime")
    with pytest.raises(ValueError, match="engine is 'tensorrt', it must be one of onnxruntime, pytorch"):
        HandPosePredictor.from_pretrained(engine="tensorrt")
    for changed in ("bones", "heatmap_sigma"):
        model, _ = load_model(bundled_weights())
        setattr(model, changed, {"bones": (), "heatmap_sigma": 2.0}[changed])
        assert look_of(model) is None  # it is decoded in another way
    model, _ = load_model(bundled_weights())
    with pytest.raises(ValueError, match="can't run this StackedUNet: it is on meta"):
        look_of(model.to("meta"), "onnxruntime")

    class Other(nn.Module):
        """A finder of somebody's own, without parameters."""

        framing, shape = Framing(96), property(lambda self: torch.zeros(2))

        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 21, 24, 24)

    predictor = HandPosePredictor.from_pretrained(finder=Other())
    assert predictor.finder.engine == "pytorch"


def test_without_onnx_runtime_pytorch_looks(monkeypatch, pictures, places, by_pytorch, recwarn):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    predictor = HandPosePredictor.from_pretrained()
    assert predictor.engine == predictor.finder.engine == "pytorch" and not recwarn.list
    assert torch.equal(predictor.follow(pictures[0], places[0])[0], by_pytorch.follow(pictures[0], places[0])[0])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'handpose-lib\[export\]'"):
        HandPosePredictor.from_pretrained(engine="onnxruntime")


@pytest.mark.parametrize("damage", ["import", "old", "empty", "decoder"])
def test_an_onnx_runtime_that_can_not_be_used_is_told_and_pytorch_looks(
    damage, tmp_path, monkeypatch, pictures, places
):
    if damage in ("empty", "decoder"):
        pytest.importorskip("onnxruntime")
        graph = tmp_path / "damaged.onnx"
        if damage == "decoder":
            shutil.copy(bundled_graph(load_model(bundled_weights())[0]), graph)
        Path(graph if damage == "empty" else graph.with_suffix(DECODER)).touch()
        monkeypatch.setattr("handpose_lib.onnx_look.bundled_graph", lambda model: graph)
    else:
        (tmp_path / "onnxruntime.py").write_text("raise ImportError('DLL load failed')" if damage == "import" else "")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.warns(UserWarning, match=r"ONNX Runtime can't run .*\.onnx \(.+\): PyTorch does") as told:
        predictor = HandPosePredictor.from_pretrained()
    assert told[0].filename == __file__
    assert predictor.engine == "pytorch" and predictor.follow(pictures[0], places[0])[0].isfinite().all()
    with pytest.raises(ValueError, match=r"install onnxruntime 1\.20 or later, or restore the file"):
        HandPosePredictor.from_pretrained(engine="onnxruntime")


@needs_runtime
def test_as_many_threads_are_used_as_pytorch_may_use(pictures, places, by_onnx):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            by_onnx.follow(pictures[0], places[0])
            by_onnx.search(pictures[0])
            sessions = by_onnx._onnx._started(threads)
            assert [one.get_session_options().intra_op_num_threads for one in sessions] == [threads] * 2
            assert by_onnx._onnx._started(threads) == sessions
    finally:
        torch.set_num_threads(before)


@needs_runtime
def test_a_predictor_can_be_copied_and_sent_to_another_process(pictures, places, by_onnx):
    wanted = by_onnx.follow(pictures[0], places[0])[0]
    for copy in (deepcopy(by_onnx), pickle.loads(pickle.dumps(by_onnx))):
        assert torch.equal(copy.follow(pictures[0], places[0])[0], wanted)
        tracker = HandTracker(copy)
        assert tracker(pictures[0]).keypoints is not None


def test_the_graphs_are_those_of_the_bundled_networks_and_hold_no_weights():
    networks = [load_model(bundled_weights())[0], bundled_finder()]
    graphs = {bundled_graph(network) for network in networks} | {bundled_graph(networks[0], eight_bit=True)}
    graphs.add(bundled_graph(networks[0]).with_suffix(DECODER))
    assert graphs == set((ROOT / "data" / "weights" / "graphs").glob("*.onnx")) and len(graphs) == 4
    for path in graphs:
        content = path.read_bytes()
        eight_bit = path == bundled_graph(networks[0], eight_bit=True)  # which holds what is not a weight in 8 bits
        assert len(content) < (200_000 if eight_bit else 100_000) and b".py" not in content
        assert not re.search(rb"/[A-Za-z]\w*/\w", content), "no path of the machine that wrote it"


# --- following in 8 bits ----------------------------------------------------------------------------------------------


@pytest.fixture
def vnni(monkeypatch) -> None:
    """A processor that multiplies bytes, as the library sees it."""
    monkeypatch.setattr("handpose_lib.onnx_look.multiplies_bytes", lambda: True)


@needs_runtime
def test_hands_are_followed_in_8_bits_where_bytes_are_multiplied(pictures, places, by_onnx, monkeypatch, vnni):
    predictor = HandPosePredictor.from_pretrained()
    followed = [predictor.follow(picture, place) for picture, place in zip(pictures, places, strict=True)]
    assert predictor._quick.graph == bundled_graph(predictor.model, eight_bit=True)
    wanted = [by_onnx.follow(picture, place) for picture, place in zip(pictures, places, strict=True)]
    off = torch.stack([(ours - theirs).norm(dim=-1) for (ours, _), (theirs, _) in zip(followed, wanted, strict=True)])
    assert 1e-4 < off.median() < (0.3 if multiplies_bytes() else 1)  # px of pictures of 224; not to the last digit
    sure = torch.stack([(ours - theirs).abs() for (_, ours), (_, theirs) in zip(followed, wanted, strict=True)])
    assert sure.mean() < 0.05 or not multiplies_bytes()
    for one in (predictor.search(pictures[0]), predictor(pictures[:1])):  # other looks stay in 32 bits
        assert torch.equal(one[0].view(21, 2), by_onnx.search(pictures[0])[0])


@needs_runtime
def test_hands_are_followed_in_32_bits_elsewhere(pictures, places, by_onnx, monkeypatch, vnni, tmp_path: Path):
    wanted = by_onnx.follow(pictures[0], places[0])[0]
    named = HandPosePredictor.from_pretrained(engine="onnxruntime")
    assert torch.equal(named.follow(pictures[0], places[0])[0], wanted) and named._quick is None
    model, _ = load_model(bundled_weights())
    with torch.no_grad():
        model.head2.bias += 1e-3  # other weights, whose ranges nobody has read
    save_model(model, tmp_path / "tuned.safetensors")
    tuned = HandPosePredictor.from_pretrained(tmp_path / "tuned.safetensors")
    tuned.follow(pictures[0], places[0])
    larger = HandPosePredictor.from_pretrained(followed=Framing(160, crop=0.6, upright=True))
    larger.follow(pictures[0], places[0])
    assert larger._quick is None  # it is for squares of its own size
    assert tuned._quick is None and tuned.engine == "onnxruntime" and quick_look_of(model.to("meta")) is None
    monkeypatch.setattr("handpose_lib.onnx_look.multiplies_bytes", lambda: False)
    plain = HandPosePredictor.from_pretrained()
    assert torch.equal(plain.follow(pictures[0], places[0])[0], wanted) and plain._quick is None


@needs_runtime
def test_a_predictor_that_is_sent_elsewhere_asks_again_what_the_processor_can(
    pictures, places, by_onnx, monkeypatch, vnni
):
    predictor = HandPosePredictor.from_pretrained()
    wanted = predictor.follow(pictures[0], places[0])[0]
    sent = pickle.dumps(predictor)
    assert torch.equal(pickle.loads(sent).follow(pictures[0], places[0])[0], wanted)
    monkeypatch.setattr("handpose_lib.onnx_look.multiplies_bytes", lambda: False)
    assert torch.equal(pickle.loads(sent).follow(pictures[0], places[0])[0], by_onnx.follow(pictures[0], places[0])[0])


@needs_runtime
def test_a_graph_in_8_bits_that_can_not_be_used_is_told_once(pictures, places, by_onnx, monkeypatch, vnni, tmp_path):
    whole = bundled_graph
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no graph")
    monkeypatch.setattr(
        "handpose_lib.onnx_look.bundled_graph", lambda m, eight_bit=False: damaged if eight_bit else whole(m)
    )
    predictor = HandPosePredictor.from_pretrained()
    with pytest.warns(
        UserWarning, match=r"ONNX Runtime can't run .*damaged\.onnx \(.+\): hands are followed in 32 bits"
    ):
        found = predictor.follow(pictures[0], places[0])[0]
    assert torch.equal(found, by_onnx.follow(pictures[0], places[0])[0])
    predictor.follow(pictures[0], places[0])  # without another warning, which would be an error


@needs_runtime
def test_weights_are_rounded_to_8_bits_per_channel():
    model, _ = load_model(bundled_weights())
    found, fused = in_eight_bits(model), fuse_batch_norm(model).state_dict()
    assert "model.stem.0.weight_quantized" not in found and "model.head2.weight_quantized" not in found
    assert len(found) == sum(values.ndim == 4 for values in fused.values()) - 2
    for name, values in found.items():
        exact = fused[name.removeprefix("model.").removesuffix("_quantized")].numpy()
        scale = np.abs(exact).max((1, 2, 3), keepdims=True) / 127
        assert values.dtype == np.int8 and (np.abs(values).max((1, 2, 3)) == 127).all()
        assert np.abs(values * scale - exact).max() <= 0.51 * scale.max()


def test_a_graph_in_8_bits_belongs_to_its_weights():
    model, _ = load_model(bundled_weights())
    own = fingerprint(model, eight_bit=True)
    assert own != fingerprint(model)
    model.calibration = ()
    assert fingerprint(model, eight_bit=True) == own
    with torch.no_grad():
        model.head.bias[0] += 1e-3
    assert fingerprint(model, eight_bit=True) != own and bundled_graph(model, eight_bit=True) is None


def test_a_graph_is_of_a_kind_of_network_and_of_how_it_is_decoded():
    model, _ = load_model(bundled_weights())
    own = fingerprint(model)
    with torch.no_grad():
        model.head.weight.zero_()
    model.calibration = ()
    assert fingerprint(model) == own
    model.bones = ((0.5, 0.1, 0.1), *model.bones[1:])
    assert fingerprint(model) != own


def test_the_wheel_holds_the_graphs(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    for path in (ROOT / "data" / "weights" / "graphs").glob("*.onnx"):
        assert f"handpose_lib/bundled/{path.name}" in names


@needs_runtime
def test_a_graph_is_written_without_weights_and_compared_with_pytorch(tmp_path: Path, monkeypatch):
    pytest.importorskip("onnxscript")
    from handpose_lib import export

    torch.manual_seed(0)
    model = StackedUNet(8, 2, (8,), (8, 8), framing=Framing(64, 0.55, True)).eval()
    for head in (model.head, model.head2):
        nn.init.normal_(head.weight, std=0.3)
    squares = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(export, "example_squares", lambda *_: (squares, torch.rand(24, 21, 2) * 64))
    path = export.write_graph(model, tmp_path)
    assert path.name == f"{fingerprint(model)}.onnx" and path.stat().st_size < 100_000
    found, heights = OnnxLook(model, path)(squares[:1])
    wanted, certain, heatmaps = export.Look(model)(torch.from_numpy(squares[:1]))
    assert (found - wanted).abs().max() < NEAR and (heights - certain).abs().max() < 1e-3
    assert torch.allclose(OnnxLook(model, path).heatmaps(squares[:1]), heatmaps, atol=1e-4)
    write_decoder(path, path.with_suffix(DECODER))
    with torch.inference_mode():
        seen = [
            model(normalize(torch.from_numpy(view).permute(0, 3, 1, 2) / 255))
            for view in (squares[:1], squares[:1, :, ::-1].copy())
        ]
        wanted, certain = points_on_input((seen[0] + seen[1].flip(-1)) / 2, model.framing, **decoding_of(model))
    found, heights = OnnxLook(model, path)(squares[:1], mirrored=True)
    assert (found - wanted).abs().max() < NEAR and (heights - certain).abs().max() < 1e-3
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ValueError, match="answers otherwise than PyTorch does"):
        export.write_graph(model, other)
    assert list(other.iterdir()) == []
