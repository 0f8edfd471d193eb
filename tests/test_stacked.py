"""The network in two stages: shapes, resolutions, how its weights are kept, and what it takes over from a U-Net."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import avg_pool2d

from handpose_lib.augment import NO_AUGMENTATION, Augmentation
from handpose_lib.framing import Framing, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.predict import HandPosePredictor, points_on_input
from handpose_lib.settings import TrainSettings
from handpose_lib.stacked import StackedUNet
from handpose_lib.synthhand import write_dataset
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose, evaluating
from handpose_lib.weights import load_model, save_model


def small(**changes) -> StackedUNet:
    shape = {"width": 4, "depth": 2, "decoder": (8,), "refine": (8, 12)}
    return StackedUNet(**shape | changes)


def test_heatmaps_are_a_quarter_of_the_images():
    model = small()
    assert model(torch.zeros(2, 3, 64, 32)).shape == (2, 21, 16, 8)
    stages = model(torch.zeros(2, 3, 64, 32), every_stage=True)
    assert [tuple(stage.shape) for stage in stages] == [(2, 21, 16, 8)] * 2
    assert len(small(refine=())(torch.zeros(1, 3, 32, 32), every_stage=True)) == 1


def test_the_network_of_the_bundled_size_is_lighter_than_half_of_the_courses():
    parameters = sum(p.numel() for p in StackedUNet().parameters())
    assert parameters < 0.5 * sum(p.numel() for p in UNet2DHandPose().parameters())


def test_the_second_stage_sees_all_maps_of_the_first():
    torch.manual_seed(0)
    model = small().eval()
    for head in (model.head, model.head2):
        torch.nn.init.normal_(head.weight)
    images = torch.randn(1, 3, 32, 32)
    before = model(images)
    with torch.no_grad():
        model.head.bias[20] += 1.0  # the first stage's map of one fingertip
    after = model(images)
    assert (after - before).abs().amax((0, 2, 3)).gt(1e-6).all()  # changes the answers for all keypoints


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        small()(torch.zeros(1, 3, 36, 32))
    with pytest.raises(ValueError, match="depth - 1"):
        small(decoder=(8, 8))
    with pytest.raises(ValueError, match="at least two"):
        small(refine=(8,))


@pytest.mark.parametrize("half", [False, True])
def test_weights_come_back_with_shape_framing_and_sigma(tmp_path, half):
    torch.manual_seed(1)
    model = small(framing=Framing(32, crop=0.5, upright=True)).eval()
    torch.nn.init.normal_(model.head2.weight)
    model.heatmap_sigma = 1.5
    save_model(model, tmp_path / "w.safetensors", half=half)
    loaded, header = load_model(tmp_path / "w.safetensors")
    assert isinstance(loaded, StackedUNet) and header["network"] == "StackedUNet"
    assert loaded.shape == model.shape and loaded.framing == model.framing and loaded.heatmap_sigma == 1.5
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0.05 if half else 0)


def with_header(path, model, change):
    """A file with a network's weights in whose header entries are others; None leaves one out."""
    save_model(model, path)
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["handpose"]) | change
    header = {name: value for name, value in header.items() if value is not None}
    save_file(load_file(path), path, {"handpose": json.dumps(header)})


@pytest.mark.parametrize(
    "change",
    [
        {"network": "Other"},
        {"framing": None},  # files have one since they have a checksum
        {"decoder": [8, 8]},
        {"decoder": [10**9]},
        {"refine": "many"},
        {"heatmap_sigma": -1},
        {"framing": {"image_size": 36, "crop": 0.5, "upright": True}},
        {"framing": {"image_size": 32, "crop": 0.5}},
        {"framing": {"crop": 0.5, "upright": True}},
        {"image_size": 64},  # which its framing denies
        {"image_size": 0},
        {"crop": "x"},
        {"upright": "no"},
    ],
)
def test_headers_that_cannot_be_meant_are_refused(tmp_path, change):
    path = tmp_path / "w.safetensors"
    with_header(path, small(framing=Framing(32, crop=0.5, upright=True)), change)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        load_model(path)


def test_what_a_header_says_twice_must_agree(tmp_path):
    path = tmp_path / "w.safetensors"
    save_model(small(framing=Framing(32, crop=0.5, upright=True)), path, image_size=32, crop=0.5, upright=True)
    assert load_model(path)[0].framing == Framing(32, crop=0.5, upright=True)


def test_the_encoder_of_a_unet_sees_the_same_in_pictures_of_twice_the_side():
    torch.manual_seed(2)
    unet, model = UNet2DHandPose(4, 2).eval(), small().eval()
    model.start_from_unet(unet)
    images = torch.randn(2, 3, 64, 64)
    expected = unet.down[1](unet.pool(unet.down[0](avg_pool2d(images, 2))))
    torch.testing.assert_close(model.down[0](model.pool(model.stem(images))), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="width"):
        model.start_from_unet(UNet2DHandPose(8, 2))


def test_points_of_small_heatmaps_are_in_pixels_of_the_input():
    framing = Framing(128)
    keypoints = torch.tensor([[[40.3, 77.9], [90.0, 20.5]]])
    maps = render_heatmaps(warp_keypoints(keypoints, framing.to_heatmaps((32, 32))), (32, 32), sigma=1.25)
    found, _ = points_on_input(maps, framing, sigma=1.25)
    torch.testing.assert_close(found, keypoints, rtol=0, atol=0.02)


def test_a_predictor_decodes_with_the_sigma_of_its_network():
    class Fixed(torch.nn.Module):
        framing, heatmap_sigma = Framing(64), 0.8

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            points = torch.tensor([[[7.3, 4.6]]]).expand(len(images), 21, 2)
            return render_heatmaps(points, (16, 16), self.heatmap_sigma)

    picture = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    keypoints, _ = HandPosePredictor(Fixed(), mirrored=False)(picture)
    torch.testing.assert_close(keypoints[0, 0], torch.tensor([30.7, 19.9]), atol=0.05, rtol=0)


def stacked_settings(**changes) -> TrainSettings:
    shape = {
        "width": 4,
        "depth": 2,
        "decoder": (8,),
        "refine": (8, 12),
        "framing": Framing(32, crop=0.55, upright=True),
    }
    augmentation = Augmentation(rotation=20.0, spectrum=0.5, wear=1.0, occluders=0.1)
    rest = {"batch_size": 8, "epochs": 2, "augmentation": augmentation, "sigma_start": 8.0, "sigma_end": 5.0}
    return TrainSettings(**shape | rest | changes)


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("hands") / "set", 12, seed=5, workers=1, progress=False)


def test_it_is_trained_and_goes_on_exactly_after_a_stop(hands, tmp_path):
    sets = FreiHAND(hands, "train"), FreiHAND(hands, "val")
    unbroken = Trainer(stacked_settings(), *sets, tmp_path / "a", "cpu").run(progress=False)
    Trainer(stacked_settings(), *sets, tmp_path / "b", "cpu").run(progress=False, until_step=3)
    resumed = Trainer(stacked_settings(), *sets, tmp_path / "b", "cpu").resume().run(progress=False)
    assert resumed.step == unbroken.step > 3
    for ours, theirs in zip(resumed.model.state_dict().values(), unbroken.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert unbroken.model.head.weight.abs().max() > 0  # both stages have learnt
    assert unbroken.model.head2.weight.abs().max() > 0
    best, header = load_model(tmp_path / "a" / "best.safetensors")
    assert isinstance(best, StackedUNet) and best.heatmap_sigma == 1.25 and header["framing"]["upright"]


def test_its_targets_lie_where_its_answers_are_read(hands, tmp_path):
    """One batch, learnt by heart: what is decoded comes near to the keypoints in the network's pixels."""
    settings = stacked_settings(
        width=8, decoder=(16,), refine=(16, 24), augmentation=NO_AUGMENTATION, epochs=150, learning_rate=1e-2,
        ema_decay=0.5, framing=Framing(64, crop=0.55, upright=True), batch_size=4,
    )  # fmt: skip
    trainer = Trainer(settings, FreiHAND(hands, "train", versions=("gs",)), FreiHAND(hands, "val"), tmp_path, "cpu")
    batch = next(trainer.batches.epoch(0))
    for trainer.epoch in range(150):
        trainer.train_step(batch)
    with evaluating(trainer.model), torch.no_grad():
        found, _ = points_on_input(trainer.model(batch.images), settings.framing, sigma=1.25)
    error = (found - batch.keypoints).norm(dim=-1)[batch.visible]
    assert error.median() < 1.5  # px of 64; half a pixel of the heatmaps is 2


def test_it_begins_with_a_unets_encoder_or_its_own_weights(hands, tmp_path):
    sets = FreiHAND(hands, "train"), FreiHAND(hands, "val")
    unet = UNet2DHandPose(4, 2, framing=Framing(32))
    save_model(unet, tmp_path / "unet.safetensors")
    trainer = Trainer(stacked_settings(), *sets, tmp_path / "run", "cpu").start_from(tmp_path / "unet.safetensors")
    torch.testing.assert_close(trainer.model.down[0][0].weight, unet.down[1][0].weight)
    torch.testing.assert_close(trainer.average.module.down[0][0].weight, unet.down[1][0].weight)
    save_model(trainer.model, tmp_path / "own.safetensors")
    again = Trainer(stacked_settings(seed=1), *sets, tmp_path / "again", "cpu").start_from(tmp_path / "own.safetensors")
    assert torch.equal(again.model.enter[0][0].weight, trainer.model.enter[0][0].weight)
    save_model(small(refine=()), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors holds a network of StackedUNet"):
        again.start_from(tmp_path / "other.safetensors")


def test_settings_come_back_from_json_and_older_ones_keep_their_names():
    settings = stacked_settings()
    assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    plain = TrainSettings().to_json()
    assert not {"decoder", "refine"} & plain.keys() and "spectrum" not in plain["augmentation"]
    assert TrainSettings.from_json(plain) == TrainSettings()
    with pytest.raises(ValueError, match="decoder"):
        stacked_settings(decoder=(), refine=(8, 12))


def test_a_calibration_travels_with_the_weights(tmp_path):
    model = StackedUNet(8, 2, (8,), ())
    save_model(model, tmp_path / "plain.safetensors")
    assert load_model(tmp_path / "plain.safetensors")[0].calibration == ()
    model.calibration = (-1.5, 4.0, 2.25)
    save_model(model, tmp_path / "sure.safetensors", half=True)
    assert load_model(tmp_path / "sure.safetensors")[0].calibration == (-1.5, 4.0, 2.25)
    for wrong in ((1.0,), ("a", "b", "c"), (1.0, float("nan"), 2.0)):
        with_header(tmp_path / "wrong.safetensors", model, {"calibration": wrong})
        with pytest.raises(ValueError, match="calibration"):
            load_model(tmp_path / "wrong.safetensors")
