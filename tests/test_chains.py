"""Peaks that fit together: what bones are fitted, which chains of peaks are taken, and that weights carry the bones."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from handpose_lib import chains
from handpose_lib.augment import NO_AUGMENTATION
from handpose_lib.chains import chained_peaks, fit_bones
from handpose_lib.decoding import decoding_of
from handpose_lib.framing import Framing, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import decode_heatmaps, local_peak, render_heatmaps
from handpose_lib.keypoints import BONES, FINGERS
from handpose_lib.predict import HandPosePredictor, points_on_input
from handpose_lib.settings import TrainSettings
from handpose_lib.stacked import StackedUNet
from handpose_lib.synthhand import sample_root
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import load_model, save_model

UPRIGHT = Framing(64, crop=0.55, upright=True)
STRAIGHT = ((-0.1, 0.05, 0.02),) * len(BONES)  # each bone leads up by a tenth of the side


def straight_hand() -> torch.Tensor:
    """Five straight fingers beside one another, bones of a tenth of 64 px, from a wrist amid them: (1, 21, 2)."""
    points = [(32.0, 50.0)]
    for finger in range(len(FINGERS)):
        points += [(32 + 12 * (finger - 2), 50 - 6.4 * joint) for joint in range(1, 5)]
    return torch.tensor([points])


def with_peak(heatmaps: torch.Tensor, keypoint: int, place: tuple[float, float], height: float) -> torch.Tensor:
    """The maps with a further peak in one of them."""
    more = height * render_heatmaps(torch.tensor([[place]]), heatmaps.shape[-2:], 1.5)
    result = heatmaps.clone()
    result[:, keypoint] = torch.maximum(result[:, keypoint], more[:, 0])
    return result


RING, MIDDLE = FINGERS["ring"][3], FINGERS["middle"][3]


def confused_maps(sigma: float = 1.5) -> torch.Tensor:
    """Maps of a straight hand in which the ring finger's tip has a higher peak on the middle finger's."""
    hand = straight_hand()
    heatmaps = render_heatmaps(hand, (64, 64), sigma)
    heatmaps[:, RING] *= 0.5
    return with_peak(heatmaps, RING, tuple(hand[0, MIDDLE].tolist()), 0.7)


def test_a_higher_peak_on_the_neighbours_tip_gives_way_to_the_one_that_the_finger_leads_to():
    hand, confused = straight_hand(), confused_maps()
    alone, _ = local_peak(confused, sigma=1.5)
    assert (alone[0, RING] - hand[0, MIDDLE]).norm() < 0.1
    together, confidence = points_on_input(confused, UPRIGHT, sigma=1.5, bones=STRAIGHT)
    assert torch.allclose(together, hand, atol=0.02)
    assert confidence[0, RING] == pytest.approx(0.5, abs=0.02)  # of the peak that was taken
    assert (confidence[0, :RING] > 0.9).all()


def test_a_much_higher_peak_stands_however_odd_its_bone():
    hand = straight_hand()
    tip = FINGERS["index"][3]
    place = (hand[0, tip, 0].item() + 6, hand[0, tip, 1].item() + 4)
    heatmaps = render_heatmaps(hand, (64, 64), 1.5)
    heatmaps[:, tip] *= 0.06
    pixels = chained_peaks(with_peak(heatmaps, tip, place, 0.95), STRAIGHT)
    assert (pixels[0, tip] - torch.tensor(place)).abs().max() <= 0.5


def merit(picked, places, heights, bones, side):
    """The sum that a hand's chains make, written out."""
    total = 0.0
    for bone, (parent, child) in enumerate(BONES):
        a, b = ((places[child][picked[child]] - places[parent][picked[parent]]) / side).tolist()
        mean, across, along = bones[bone]
        total += math.log(max(float(heights[child][picked[child]]), chains.LOWEST))
        total -= chains.LIKELIHOOD / 2 * ((a / across) ** 2 + ((b - mean) / along) ** 2)
    return total


def test_no_other_chain_has_a_higher_merit(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(3)
    monkeypatch.setattr(chains, "LIKELIHOOD", 0.5)
    bones = tuple((-0.1 * float(x), 0.05 + 0.1 * float(y), 0.05) for x, y in torch.rand(20, 2, generator=generator))
    heatmaps = torch.rand(2, 21, 24, 24, generator=generator)
    pixels = chained_peaks(heatmaps, bones)
    pooled = torch.nn.functional.max_pool2d(heatmaps, 3, 1, 1)
    for hand in range(2):
        places, values, own = [], [], []
        for keypoint in range(21):
            rows, columns = torch.nonzero(heatmaps[hand, keypoint] == pooled[hand, keypoint], as_tuple=True)
            order = heatmaps[hand, keypoint, rows, columns].argsort(descending=True)[: chains.CANDIDATES]
            places.append(torch.stack((columns[order], rows[order]), dim=-1))
            values.append(heatmaps[hand, keypoint, rows[order], columns[order]])
            own.append((places[-1] == pixels[hand, keypoint]).all(-1).nonzero().item())
        assert own[0] == 0  # of the wrist the highest
        found = merit(own, places, values, bones, 24)
        for finger in FINGERS.values():
            for other in itertools.product(range(chains.CANDIDATES), repeat=4):
                picked = list(own)
                for keypoint, which in zip(finger, other, strict=True):
                    picked[keypoint] = which
                assert merit(picked, places, values, bones, 24) <= found + 1e-5


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_maps_without_a_peak_have_an_answer(value: float):
    found, confidence = points_on_input(torch.full((2, 21, 16, 16), value), UPRIGHT, bones=STRAIGHT)
    assert found.isfinite().all() and ((confidence >= 0) & (confidence <= 1)).all()
    tiny, _ = points_on_input(torch.rand(1, 21, 1, 2), UPRIGHT, bones=STRAIGHT)
    assert tiny.isfinite().all()


def test_single_peaks_are_found_as_without_bones():
    hands = 8 + 48 * torch.rand(5, 21, 2, generator=torch.Generator().manual_seed(0))
    heatmaps = render_heatmaps(hands, (64, 64), 1.5)
    plain, chained = (points_on_input(heatmaps, UPRIGHT, sigma=1.5, bones=bones) for bones in ((), STRAIGHT))
    assert torch.equal(plain[0], chained[0]) and torch.equal(plain[1], chained[1])


def test_maps_or_bones_of_something_else_are_refused():
    with pytest.raises(ValueError, match="21, H, W"):
        chained_peaks(torch.zeros(1, 17, 8, 8), STRAIGHT)
    for maps in (torch.zeros(21, 8, 8), torch.zeros(1, 21, 8, 0), torch.zeros(8)):
        with pytest.raises(ValueError, match="each of a pixel or more"):
            chained_peaks(maps, STRAIGHT)
    with pytest.raises(ValueError, match="heatmaps must be numbers"):
        chained_peaks(None, STRAIGHT)
    with pytest.raises(ValueError, match="20 entries"):
        chained_peaks(torch.zeros(1, 21, 8, 8), STRAIGHT[:17])


NAN = float("nan")
NO_BONES = [
    None, 5, "bones", np.array(STRAIGHT), torch.tensor(STRAIGHT), ("abc",) * 20, ((-0.1, 0.05),) * 20,
    ((NAN, 0.05, 0.02),) * 20, ((-0.1, NAN, 0.02),) * 20, ((-0.1, 0.0, 0.02),) * 20, ((-0.1, -0.05, 0.02),) * 20,
    ((-6.4, 3.2, 1.3),) * 20, ((10**400, 0.05, 0.02),) * 20, (*STRAIGHT[:19], (-0.1,)), (None,) * 20,
]  # fmt: skip


@pytest.mark.parametrize("bones", NO_BONES, ids=[str(number) for number in range(len(NO_BONES))])
def test_what_can_be_no_bones_is_refused_wherever_it_is_used(bones, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^(bones|a bone) is"):
        points_on_input(render_heatmaps(straight_hand(), (64, 64), 1.5), UPRIGHT, bones=bones)
    model = small()
    model.bones = bones
    with pytest.raises(ValueError, match=r"^(bones|a bone) is"):
        save_model(model, tmp_path / "never.safetensors")
    assert not (tmp_path / "never.safetensors").exists()


def test_bones_as_lists_arrays_of_maps_and_half_precision_give_the_same_peaks():
    heatmaps = render_heatmaps(straight_hand().round(), (64, 64), 1.5)
    pixels = straight_hand().round().long()
    for maps in (heatmaps, heatmaps.numpy(), heatmaps.half(), heatmaps.double()):
        assert torch.equal(chained_peaks(maps, [list(bone) for bone in STRAIGHT]), pixels)


def test_bones_are_longer_in_closer_crops_and_say_nothing_in_other_ones():
    model = UNet2DHandPose(4, 2, framing=Framing(64, 0.4, upright=True))
    model.bones = STRAIGHT

    def bones_for(crop: float, upright: bool = True, size: int = 64):
        return decoding_of(model, Framing(size, crop, upright))["bones"]

    assert bones_for(0.4) == bones_for(0.5) == bones_for(0.35) == decoding_of(model)["bones"] == STRAIGHT
    assert np.allclose(bones_for(0.8), 2 * np.array(STRAIGHT)) and bones_for(0.8, size=48) == bones_for(0.8)
    assert bones_for(0.2) == bones_for(0.4, upright=False) == ()
    model.bones = ((-0.9, 0.7, 0.2), *STRAIGHT[1:])
    assert bones_for(0.8)[0] == (-1, 1, 0.4)  # no bone is longer than the side
    model.bones = ()
    assert bones_for(0.8) == ()


def test_crops_that_are_not_turned_upright_are_decoded_without_bones():
    hand, confused = straight_hand(), confused_maps()
    found, _ = points_on_input(confused, Framing(64, crop=0.55), sigma=1.5, bones=STRAIGHT)
    assert (found[0, RING] - hand[0, MIDDLE]).norm() < 0.1


# --- fitted bones -----------------------------------------------------------------------------------------------------


def bones_in_crops(keypoints: torch.Tensor, framing: Framing = UPRIGHT) -> chains.Bones:
    return fit_bones(warp_keypoints(keypoints, framing.around(keypoints)), framing.image_size)


def test_bones_are_those_of_upright_crops_whatever_the_picture():
    hands = straight_hand() + 3 * torch.randn(6, 21, 2, generator=torch.Generator().manual_seed(0))
    offsets = []
    for hand in hands.double().numpy():  # by angles, one hand after the other
        x, y = hand[[5, 9, 13, 17]].mean(0) - hand[0]
        angle = math.atan2(x, -y)  # of the hand, clockwise from straight up
        turned = hand @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        offsets.append(
            np.array([turned[child] - turned[parent] for parent, child in BONES]) * 0.55 / np.ptp(turned, 0).max()
        )
    across, along = np.moveaxis(np.array(offsets), -1, 0)
    expected = np.stack((along.mean(0), np.sqrt((across**2).mean(0)), along.std(0)), axis=-1)
    assert np.allclose(bones_in_crops(hands), expected, atol=1e-5)
    cos, sin = math.cos(0.7), math.sin(0.7)
    for elsewhere in (3 * hands @ torch.tensor([[cos, sin], [-sin, cos]]) + 100, hands * torch.tensor([-1.0, 1.0])):
        assert np.allclose(bones_in_crops(elsewhere), expected, atol=1e-5)


def test_bones_of_no_hand_are_refused():
    with pytest.raises(ValueError, match="no hand"):
        fit_bones(torch.empty(0, 21, 2), 64)


HANDS = 64 * torch.rand(4, 21, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("keypoints", "side", "message"), [
    (torch.where(torch.arange(4)[:, None, None] == 2, NAN, HANDS), 64, "hand 2 of keypoints has NaN"),
    (torch.where(torch.arange(4)[:, None, None] == 1, torch.inf, HANDS), 64, "hand 1 of keypoints has NaN"),
    (HANDS / 64, 64, "shares of a crop"), (HANDS, 1, "longer than the side"),
    *((HANDS, side, "a number of px") for side in (0, -64, None, "64", NAN, math.inf, True, (64, 64))),
    *((wrong, 64, r"\(N, 21, 2\)") for wrong in (HANDS[0], HANDS[None], HANDS[:, :17], torch.zeros(4, 21, 3))),
    *((wrong, 64, "must be numbers") for wrong in (None, "hands", HANDS > 3)),
])  # fmt: skip
def test_bones_are_fitted_to_whole_hands_in_px_alone(keypoints, side, message: str):
    with pytest.raises(ValueError, match=message):
        fit_bones(keypoints, side)


def test_bones_are_fitted_to_arrays_and_lists_as_to_tensors():
    expected = fit_bones(HANDS, 64)
    assert fit_bones(HANDS.numpy(), 64.0) == fit_bones(HANDS.tolist(), 64) == expected


def test_one_hand_alone_does_not_forbid_other_poses():
    along = [bone[2] for bone in bones_in_crops(straight_hand())]
    assert along == pytest.approx([chains.LEAST_SPREAD] * len(BONES))


# --- with weights -----------------------------------------------------------------------------------------------------


def small(**changes) -> StackedUNet:
    return StackedUNet(8, 2, (8,), (8, 12), framing=UPRIGHT, **changes)


def test_bones_travel_with_the_weights(tmp_path: Path):
    model = small()
    save_model(model, tmp_path / "plain.safetensors")
    assert load_model(tmp_path / "plain.safetensors")[0].bones == ()
    model.bones = tuple((-0.1 + 0.001 * i, 0.05, 0.04) for i in range(20))
    save_model(model, tmp_path / "bones.safetensors", half=True)
    assert load_model(tmp_path / "bones.safetensors")[0].bones == model.bones


@pytest.mark.parametrize("wrong", [
    [[-0.1, 0.05, 0.02]] * 19, [[-0.1, 0.05]] * 20, [["a", 0.05, 0.02]] * 20, [[-0.1, 0.0, 0.02]] * 20, "bones",
    {"a": 1}, [[float("nan"), 0.05, 0.02]] * 20, [[-0.1, float("nan"), 0.02]] * 20, [[True, 0.05, 0.02]] * 20, [3] * 20,
])  # fmt: skip
def test_a_header_with_other_bones_is_refused(wrong, tmp_path: Path):
    path = tmp_path / "wrong.safetensors"
    save_model(small(), path)
    change_header(path, bones=wrong)
    with pytest.raises(ValueError, match=r"wrong\.safetensors.*bone"):
        load_model(path)


def test_bones_without_upright_crops_are_refused(tmp_path: Path):
    path = tmp_path / "wrong.safetensors"
    model = StackedUNet(8, 2, (8,), (8, 12), framing=Framing(64))
    save_model(model, path)
    change_header(path, bones=[list(bone) for bone in STRAIGHT])
    with pytest.raises(ValueError, match="turns no crops"):
        load_model(path)


def change_header(path: Path, **entries) -> None:
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["handpose"])
    save_file(load_file(path), path, {"handpose": json.dumps(header | entries)})


def test_the_predictor_decodes_with_its_networks_bones():
    """The network draws the confused maps of above into every square; only the bones tell the fingers apart."""
    hand, heatmaps = straight_hand(), confused_maps(1.25)

    class Drawn(torch.nn.Module):
        framing, heatmap_sigma, stride = UPRIGHT, 1.25, 1

        def forward(self, images):
            return heatmaps.expand(len(images), -1, -1, -1) + 0 * self.anchor

        def __init__(self):
            super().__init__()
            self.anchor = torch.nn.Parameter(torch.zeros(()))

    network = Drawn()
    predictor = HandPosePredictor(network, mirrored=False)
    picture, view = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy(), torch.eye(2, 3)[None]
    assert (predictor.look([picture], view)[0][0, RING] - hand[0, MIDDLE]).norm() < 0.1
    network.bones = STRAIGHT
    assert torch.allclose(predictor.look([picture], view)[0], hand, atol=0.05)
    closer = HandPosePredictor(network, framing=Framing(64, crop=0.65, upright=True), mirrored=False)
    assert torch.allclose(closer.look([picture], view)[0], hand, atol=0.05)
    for crop, upright in ((0.55, False), (0.4, True), (0.9, True)):  # of other bones
        other = Framing(64, crop=crop, upright=upright)
        elsewhere = HandPosePredictor(network, framing=other, mirrored=False).look([picture], view)[0]
        assert (elsewhere[0, RING] - hand[0, MIDDLE]).norm() < 0.1
    found, _ = points_on_input(heatmaps, UPRIGHT, "argmax", bones=STRAIGHT)  # which knows nothing of them
    assert (found[0, RING] - hand[0, MIDDLE]).norm() < 1


def test_the_bundled_weights_know_bones_of_rendered_hands():
    bones = HandPosePredictor.from_pretrained().model.bones
    keypoints = torch.from_numpy(FreiHAND(sample_root(), "train").keypoints)
    found = bones_in_crops(keypoints, HandPosePredictor.from_pretrained().framing)
    for ours, theirs in zip(bones, found, strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)


def test_a_run_that_starts_from_weights_keeps_their_bones(tiny_train: FreiHAND, tiny_val: FreiHAND, tmp_path: Path):
    settings = TrainSettings(
        framing=UPRIGHT, source_size=80, width=8, depth=2, decoder=(8,), refine=(8, 12), batch_size=8, epochs=2,
        augmentation=NO_AUGMENTATION, sigma_start=5.0, sigma_end=5.0,
    )  # fmt: skip
    model = small()
    model.bones = STRAIGHT
    save_model(model, tmp_path / "start.safetensors")
    trainer = Trainer(settings, tiny_train, tiny_val, tmp_path / "run", "cpu").start_from(
        tmp_path / "start.safetensors"
    )
    assert trainer.model.bones == trainer.average.module.bones == STRAIGHT
    trainer.save_checkpoint()
    resumed = Trainer(settings, tiny_train, tiny_val, tmp_path / "run", "cpu").resume()
    assert resumed.model.bones == STRAIGHT
    resumed.run(progress=False)
    assert load_model(tmp_path / "run" / "best.safetensors")[0].bones == STRAIGHT
    other = dataclasses.replace(settings, framing=Framing(64, crop=0.5, upright=True))
    elsewhere = Trainer(other, tiny_train, tiny_val, tmp_path / "other", "cpu").start_from(
        tmp_path / "start.safetensors"
    )
    assert elsewhere.model.bones == ()  # crops of another share have others


def test_a_peak_that_is_meant_is_found_between_its_pixels_and_says_its_height():
    heatmaps = 0.9 * render_heatmaps(torch.tensor([[[10.3, 12.6]]]), (32, 32), 1.5)
    heatmaps = torch.maximum(heatmaps, 0.4 * render_heatmaps(torch.tensor([[[22.8, 7.1]]]), (32, 32), 1.5))
    found, confidence = decode_heatmaps(heatmaps, sigma=1.5, start=torch.tensor([[[23, 7]]]))
    assert torch.allclose(found, torch.tensor([22.8, 7.1]), atol=0.01)
    assert confidence.item() == pytest.approx(heatmaps[0, 0, 7, 23].item())


@pytest.mark.parametrize("kind", [torch.Tensor.int, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.short])
def test_peaks_that_are_meant_may_be_any_whole_numbers(kind):
    heatmaps = render_heatmaps(torch.tensor([[[10.3, 12.6], [20.2, 3.7]]]), (24, 32), 1.5)
    found, _ = local_peak(heatmaps, sigma=1.5, start=kind(torch.tensor([[[10, 13], [20, 4]]])))
    assert torch.equal(found, local_peak(heatmaps, sigma=1.5)[0])


@pytest.mark.parametrize(("start", "message"), [
    (torch.zeros(1, 2, 2), "whole px"), (torch.full((1, 2, 2), NAN), "whole px"),
    *((torch.zeros(*shape, dtype=torch.long), "whole px") for shape in ((2, 2, 2), (0, 2, 2), (1, 2), (1, 2, 3))),
    *(([[[1, 1], pixel]], r"off the maps.*\(24, 32\)") for pixel in ([-1, 0], [0, -1], [32, 0], [0, 24], [31, 31])),
    *((wrong, "start must be numbers") for wrong in ("x", torch.ones(1, 2, 2) > 0)),
])  # fmt: skip
def test_peaks_that_are_no_pixels_of_these_maps_are_refused(start, message: str):
    with pytest.raises(ValueError, match=message):
        local_peak(torch.rand(1, 2, 24, 32), start=start)
    assert local_peak(torch.rand(1, 2, 24, 32), start=[[[31, 23], [0, 0]]])[0].isfinite().all()
