import json
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from handpose_lib.framing import Framing
from handpose_lib.stacked import StackedUNet
from handpose_lib.unet import ConvBlock, UNet2DHandPose, evaluating, fuse_batch_norm
from handpose_lib.weights import load_model, save_model


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_width_64_has_the_rebuilt_systems_parameters_less_its_idle_biases():
    published = 7_789_845
    idle_biases = 2 * (64 + 128 + 256 + 512) + 2 * (256 + 128 + 64)  # batch normalisation subtracts them again
    assert parameters(UNet2DHandPose()) == published - idle_biases
    assert abs(parameters(UNet2DHandPose()) / published - 1) < 0.01


@pytest.mark.parametrize(
    ("width", "depth", "keypoints", "size"), [(4, 3, 21, (64, 64)), (8, 2, 5, (32, 48)), (4, 1, 21, (6, 10))]
)
def test_heatmaps_have_the_images_resolution(width: int, depth: int, keypoints: int, size: tuple[int, int]):
    model = UNet2DHandPose(width, depth, keypoints)
    assert model(torch.zeros(2, 3, *size)).shape == (2, keypoints, *size)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_image_shape_is_an_error_that_says_what_is_needed(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="multiples of 8"):
        UNet2DHandPose(4)(torch.zeros(shape))


def test_a_network_needs_at_least_one_channel_and_one_pooling():
    with pytest.raises(ValueError, match="at least 1"):
        UNet2DHandPose(width=0)


def test_receptive_field_of_the_deepest_level_spans_a_hand():
    # The gradient of one central output value says which input pixels it can see.
    model = UNet2DHandPose(2, 3, 1).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1.0)
    image = torch.ones(1, 3, 160, 160, requires_grad=True)
    model(image)[0, 0, 80, 80].backward()
    seen = torch.nonzero(image.grad[0].abs().sum(0))
    assert (seen.amax(0) - seen.amin(0) + 1).min() >= 0.5 * 128


def test_convolutions_before_batch_normalisation_carry_no_bias():
    assert all(m.bias is None for m in ConvBlock(3, 4) if isinstance(m, torch.nn.Conv2d))


def test_saved_weights_give_the_same_heatmaps_and_metadata(tmp_path: Path):
    model = UNet2DHandPose(4, 2, 7, Framing(32, crop=0.5)).eval()
    torch.nn.init.normal_(model.head.weight)  # it starts at zero, which any head would match
    save_model(model, tmp_path / "w.safetensors", note="x")
    loaded, metadata = load_model(tmp_path / "w.safetensors")
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(image), model(image))
    assert not loaded.training
    assert metadata["note"] == "x" and (loaded.width, loaded.depth, loaded.num_keypoints) == (4, 2, 7)
    assert loaded.framing == Framing(32, crop=0.5)


def test_a_compiled_models_weights_load_without_compilation(tmp_path: Path):
    model = UNet2DHandPose(4, 1)
    save_model(torch.compile(model), tmp_path / "w.safetensors")
    loaded, _ = load_model(tmp_path / "w.safetensors")
    assert set(loaded.state_dict()) == set(model.state_dict())


def test_missing_and_foreign_weight_files_are_clear_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"w\.safetensors is not there"):
        load_model(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=r"w\.safetensors holds no weights"):
        load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "metadata", [None, {}, {"handpose": "{}"}, {"handpose": '{"width": 4, "depth": 2, "num_keypoints": 9}'}]
)
def test_weights_of_another_network_are_a_clear_error(tmp_path: Path, metadata: dict | None):
    save_file({"x": torch.zeros(1)}, str(tmp_path / "w.safetensors"), metadata)
    with pytest.raises(ValueError, match=r"w\.safetensors holds no weights"):
        load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("older", "framing"),
    [
        ({}, Framing(128)),
        ({"image_size": 48}, Framing(48)),
        ({"image_size": 64, "crop": 0.55, "upright": True}, Framing(64, crop=0.55, upright=True)),
    ],
)
def test_weights_that_were_saved_before_there_were_framings_still_load(tmp_path: Path, older: dict, framing: Framing):
    model = UNet2DHandPose(4, 2)
    header = {"width": 4, "depth": 2, "num_keypoints": 21, **older}
    save_file(model.state_dict(), str(tmp_path / "w.safetensors"), {"handpose": json.dumps(header)})
    assert load_model(tmp_path / "w.safetensors")[0].framing == framing


def test_a_new_network_answers_with_empty_heatmaps():
    assert not UNet2DHandPose(4)(torch.rand(1, 3, 64, 64)).any()


# --- files that can't be what they should -----------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "whole.safetensors"
    save_model(UNet2DHandPose(4, 2, framing=Framing(32, crop=0.5, upright=True)), path)
    return path


def with_header(path, **changes):
    """A copy of a file with weights in which entries of the header are others; None leaves one out."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    outer = json.loads(raw[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["handpose"])
    inner |= inner.pop("framing")  # as older files have it
    del inner["checksum"]
    inner = {name: value for name, value in (inner | changes).items() if value != "left out"}
    outer["__metadata__"] = {"handpose": json.dumps(inner)}
    text = json.dumps(outer).encode()
    changed = path.with_name("changed.safetensors")
    changed.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    return changed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("image_size", value) for value in (70, 0, -32, None, "x", 32.0, True, 10**9)),
        *(("crop", value) for value in ("x", -1, 2, float("nan"), None, True)),
        *(("upright", value) for value in ("left out", 1, "yes")),
        *(("width", value) for value in (5, 0, None, "4", 10**9, True)),
        *(("depth", value) for value in (1, 3, 22, 10**6, "left out")),
        *(("num_keypoints", value) for value in (20, 10**12)),
    ],
)
def test_a_header_that_does_not_fit_the_tensors_is_refused_at_once(weights, name, value):
    assert load_model(with_header(weights))[0].framing == Framing(32, crop=0.5, upright=True)
    started = time.monotonic()
    with pytest.raises(ValueError, match=rf"changed\.safetensors holds no weights .*({name}|down|up|head|\.weight)"):
        load_model(with_header(weights, **{name: value}))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("half", [False, True])
def test_weights_of_a_training_that_failed_are_refused(tmp_path, value, half):
    model = UNet2DHandPose(4, 2)
    model.head.bias.data[3] = value
    save_model(model, tmp_path / "bad.safetensors", half=half)
    with pytest.raises(ValueError, match=r"bad\.safetensors .*head\.bias holds NaN or infinity"):
        load_model(tmp_path / "bad.safetensors")


def test_other_files_are_called_what_they_are(tmp_path, weights):
    torch.save({"model": {}}, tmp_path / "checkpoint.pt")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    for name, words in (
        ("checkpoint.pt", "checkpoint .*give the run's best.safetensors"),
        ("pointer.safetensors", "git lfs pull"),
        ("", "is a folder: give the file"),
    ):
        with pytest.raises(ValueError, match=words):
            load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="is not there: train first"):
        load_model(tmp_path / "nothing.safetensors")


def test_every_cut_and_many_garbled_files_are_named(tmp_path, weights):
    whole = weights.read_bytes()
    for keep in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=r"cut\.safetensors holds no weights"):
            load_model(tmp_path / "cut.safetensors")
    for content in (b"\0" * 500, b"\xff" * 500, b"hello", whole[:8] + b"x" * (len(whole) - 8)):
        (tmp_path / "garbled.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"garbled\.safetensors"):
            load_model(tmp_path / "garbled.safetensors")


def test_one_flipped_bit_in_the_weights_is_noticed(tmp_path, weights):
    whole = bytearray(weights.read_bytes())
    whole[-1000] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match=r"flipped\.safetensors .*not as they were written"):
        load_model(tmp_path / "flipped.safetensors")


def test_a_mode_that_was_changed_for_a_while_is_restored_for_every_part():
    model = UNet2DHandPose(4, 2).train()
    model.down[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == modes


def test_a_header_of_any_length_is_read(tmp_path):
    """One of 640 bytes begins with those of a pickle."""
    path = tmp_path / "w.safetensors"
    lengths = set()
    for padding in range(0, 256, 8):
        save_model(UNet2DHandPose(2, 1, framing=Framing(32)), path, note="x" * padding)
        lengths.add(path.read_bytes()[0])
        load_model(path)
    assert 0x80 in lengths


def test_folding_batch_norm_changes_no_answer_and_leaves_the_network_alone():
    torch.manual_seed(0)
    for model in (UNet2DHandPose(width=8, depth=2), StackedUNet(8, 2, (8,), (8, 8))):
        for part in model.modules():  # statistics as after a training, and heads that answer something
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2)
            if isinstance(part, torch.nn.Conv2d) and part.out_channels == 21:
                part.reset_parameters()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        fused = fuse_batch_norm(model.train())
        assert model.training and not any(isinstance(part, torch.nn.BatchNorm2d) for part in fused.modules())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        images = torch.randn(2, 3, 32, 32)
        with torch.inference_mode():
            expected = model.eval()(images)
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(fused(images), expected, atol=1e-5, rtol=1e-4)


def test_scripts_that_load_weights_from_here_still_work():
    from handpose_lib import unet, weights

    assert unet.load_model is weights.load_model and unet.save_model is weights.save_model
    with pytest.raises(ImportError):
        from handpose_lib.unet import nothing_of_this_name  # noqa: F401
