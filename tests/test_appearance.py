"""Spectrum, wear and occluders: what they change, what they leave alone, and on what they depend."""

import pytest
import torch

from handpose_lib import appearance
from handpose_lib.appearance import DRAWS, disturb
from handpose_lib.augment import NORMALIZED_LIMITS, Augmentation, keyed_uniform

ALL = Augmentation(spectrum=0.8, wear=1.0, occluders=0.3, untouched=0.0)


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.rand(64, 3, 8, 8, generator=generator) - 1.5
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return keyed_uniform(seed, 0, torch.arange(count), DRAWS)


def test_nothing_is_changed_where_nothing_is_asked_for(images):
    plain = Augmentation()
    assert not plain.disturbs
    assert torch.equal(disturb(images, numbers(64), plain), images)


def test_a_tenth_is_left_untouched(images):
    settings = Augmentation(spectrum=0.8, wear=1.0, occluders=1.0, untouched=0.1)
    changed = disturb(images.repeat(8, 1, 1, 1), numbers(512), settings)
    same = (changed == images.repeat(8, 1, 1, 1)).flatten(1).all(1).float().mean()
    assert 0.06 < same < 0.15


def test_a_sample_depends_on_its_own_numbers_alone(images):
    whole = disturb(images, numbers(64), ALL)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:10]
    torch.testing.assert_close(disturb(images[order], numbers(64)[order], ALL), whole[order], rtol=0, atol=1e-5)


def test_pictures_stay_within_the_limits_and_finite(images):
    changed = disturb(images, numbers(64), ALL)
    assert changed.isfinite().all()
    assert NORMALIZED_LIMITS[0] <= changed.min() and changed.max() <= NORMALIZED_LIMITS[1]


def test_the_spectrum_keeps_mean_and_phases(images):
    small = 0.2 * images  # far from the limits, at which values are cut off
    changed = disturb(small, numbers(64), Augmentation(spectrum=0.3, untouched=0.0))
    before, after = torch.fft.rfft2(small), torch.fft.rfft2(changed)
    torch.testing.assert_close(after[..., 0, 0], before[..., 0, 0])
    strong = before.abs() > 1e-2
    ratio = (after / torch.where(strong, before, 1))[strong]
    assert ratio.imag.abs().max() < 1e-2  # amplitudes were multiplied by a real number
    assert ratio.real.min() > -1e-2
    touched = (changed - small).abs().flatten(1).amax(1) > 1e-4
    assert 0.3 < touched.float().mean() < 0.7  # half of the pictures


def test_high_frequencies_are_perturbed_more():
    generator = torch.Generator().manual_seed(2)
    noise = 0.1 * torch.randn(256, 3, 64, 64, generator=generator)
    changed = disturb(noise, numbers(256), Augmentation(spectrum=0.3, untouched=0.0))
    ratio = (torch.fft.rfft2(changed).abs() / torch.fft.rfft2(noise).abs().clamp(min=1e-6) - 1).abs()
    assert ratio[:, :, 28:36, 28:].mean() > 2 * ratio[:, :, 1:4, 1:4].mean()


def test_occluders_cover_a_part_and_only_as_often_as_asked(images):
    changed = disturb(images, numbers(64), Augmentation(occluders=0.5, untouched=0.0))
    covered = (changed != images).any(1).float().mean((1, 2))
    assert 0.75 < (covered > 0).float().mean() <= 1  # 1 - 0.5 ** 3
    assert covered.max() < 0.5
    rare = disturb(images, numbers(64), Augmentation(occluders=0.05, untouched=0.0))
    assert ((rare != images).flatten(1).any(1)).float().mean() < 0.35


@pytest.mark.parametrize("size", [(64, 64), (512, 257), (512, 512), (640, 700)])
def test_noise_is_a_part_of_the_sheet_which_repeats_on_larger_pictures(size):
    place = torch.tensor([[0.0, 0.0], [0.3, 0.999]])
    noise = appearance._noise(place, size, torch.device("cpu"))
    sheet = appearance._sheet(torch.device("cpu")).repeat(1, 2, 2)
    for part, (row, column) in zip(noise, (place * max(512 - max(size), 0)).long().tolist(), strict=True):
        assert torch.equal(part, sheet[:, row : row + size[0], column : column + size[1]])


def test_pictures_larger_than_the_sheet_are_disturbed_too():
    changed = disturb(torch.zeros(8, 3, 640, 640), numbers(8), ALL)
    assert changed.isfinite().all() and changed[:, :, 512:].std() > 0


@pytest.mark.parametrize("change", [{"wear": 1.5}, {"occluders": -0.1}, {"untouched": 2.0}, {"spectrum": -1.0}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Augmentation(**change)
