import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from handpose_lib.framing import Framing
from handpose_lib.unet import ConvBlock, UNet2DHandPose, load_model, save_model


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
