import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from handpose_lib import augment, framing
from handpose_lib.augment import DRAWS, NO_AUGMENTATION, NORMALIZED_LIMITS, Augmentation

SIZE = (96, 128)


def blobs(keypoints: torch.Tensor, size: tuple[int, int], sigma: float = 3.0) -> torch.Tensor:
    """One Gaussian spot per keypoint, written here so as not to lean on the library's."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    square = (x - keypoints[..., 0, None, None]) ** 2 + (y - keypoints[..., 1, None, None]) ** 2
    return torch.exp(-square / (2 * sigma**2))


def centres(maps: torch.Tensor) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(maps.shape[-2]), torch.arange(maps.shape[-1]), indexing="ij")
    mass = maps.sum((-1, -2))
    return torch.stack(((maps * x).sum((-1, -2)) / mass, (maps * y).sum((-1, -2)) / mass), -1)


def inside(keypoints: torch.Tensor, size: tuple[int, int], margin: float) -> torch.Tensor:
    x, y = keypoints.unbind(-1)
    return (x > margin) & (x < size[1] - 1 - margin) & (y > margin) & (y < size[0] - 1 - margin)


def test_image_and_keypoints_move_together_to_a_hundredth_of_a_pixel():
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(6, 21, 2, generator=generator) * torch.tensor([80.0, 50.0]) + 24
    matrices = augment.affine_matrices(augment.keyed_uniform(1, 2, torch.arange(6)), Augmentation(), SIZE)
    moved = framing.warp_keypoints(keypoints, matrices)
    found = centres(framing.warp_images(blobs(keypoints, SIZE), matrices))
    whole = inside(moved, SIZE, margin=14)
    assert whole.sum() > 40
    assert (found - moved)[whole].abs().max() < 0.01


def test_middle_of_every_range_changes_nothing():
    middle = torch.full((2, DRAWS), 0.5)
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
    assert torch.allclose(augment.affine_matrices(middle, Augmentation(), SIZE), identity, atol=1e-5)
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(
        augment.jitter_colours(images, augment.colour_matrices(middle[:, 5:], Augmentation())), images
    )


def test_no_augmentation_is_the_identity_for_any_draw():
    uniform = augment.keyed_uniform(0, 0, torch.arange(50))
    images = torch.rand(50, 3, *SIZE)
    matrices = augment.affine_matrices(uniform, NO_AUGMENTATION, SIZE)
    assert torch.allclose(framing.warp_images(images, matrices), images, atol=1e-4)
    colours = augment.colour_matrices(uniform[:, 5:], NO_AUGMENTATION)
    assert torch.allclose(augment.jitter_colours(images, colours), images, atol=1e-6)


def test_mirror_maps_x_to_width_minus_one_minus_x_and_swaps_no_index():
    uniform = torch.full((1, DRAWS), 0.5)
    uniform[:, 2] = 0.0  # below any probability: mirror
    settings = Augmentation(rotation=0, scale=1, shift=0, mirror=1.0)
    matrices = augment.affine_matrices(uniform, settings, SIZE)
    keypoints = torch.tensor([[[10.0, 20.0], [0.0, 0.0]]])
    expected = torch.tensor([[[SIZE[1] - 1 - 10.0, 20.0], [SIZE[1] - 1.0, 0.0]]])
    assert torch.allclose(framing.warp_keypoints(keypoints, matrices), expected, atol=1e-4)
    images = torch.rand(1, 3, *SIZE)
    assert torch.allclose(framing.warp_images(images, matrices), images.flip(-1), atol=1e-4)


def test_ranges_are_kept_and_filled():
    settings = Augmentation(rotation=30, scale=1.25, shift=0.1, mirror=0.25)
    matrices = augment.affine_matrices(augment.keyed_uniform(0, 3, torch.arange(4000)), settings, SIZE)
    determinant = torch.linalg.det(matrices[:, :, :2])
    scale = determinant.abs().sqrt()
    assert abs(scale.min() - 1 / 1.25) < 0.01 and abs(scale.max() - 1.25) < 0.01
    assert abs((determinant < 0).float().mean() - 0.25) < 0.03
    angle = torch.rad2deg(torch.atan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    assert angle.abs().max() <= 30.01 and angle.max() > 29 and angle.min() < -29
    centre = torch.tensor([[(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2]])
    moved = framing.warp_keypoints(centre.expand(4000, 1, 2), matrices) - centre
    assert moved[..., 0].abs().max() <= 12.81 and moved[..., 1].abs().max() <= 9.61


def test_random_numbers_depend_on_seed_epoch_and_id_alone():
    ids = torch.tensor([7, 3, 32_560 * 3 + 5])
    together = augment.keyed_uniform(5, 11, ids)
    alone = torch.cat([augment.keyed_uniform(5, 11, ids[i : i + 1]) for i in (2, 0, 1)])
    assert torch.equal(together, alone[[1, 2, 0]])
    assert not torch.equal(together, augment.keyed_uniform(5, 12, ids))
    assert not torch.equal(together, augment.keyed_uniform(6, 11, ids))


def test_random_numbers_are_uniform_and_uncorrelated():
    draws = augment.keyed_uniform(0, 0, torch.arange(100_000))
    assert draws.min() >= 0 and draws.max() < 1
    assert torch.allclose(draws.mean(0), torch.full((DRAWS,), 0.5), atol=0.004)
    assert torch.allclose(draws.var(0), torch.full((DRAWS,), 1 / 12), atol=0.001)
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.02


def test_generator_is_splitmix64():
    # The first output for seed 1234567, as published with the reference implementation.
    assert int(augment._splitmix64(np.array([1234567], dtype=np.uint64))[0]) == 6457827717110365317


def test_colours_follow_the_textbook_order():
    uniform = torch.tensor([[0.9, 0.2, 0.7, 0.1, 0.5, 0.8]])
    s = Augmentation()
    image = torch.rand(1, 3, 4, 4) * 0.4 + 0.3
    gain, contrast = 1 + 0.8 * s.brightness, 1 - 0.6 * s.contrast
    saturation = 1 + 0.4 * s.saturation
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    expected = grey + saturation * (image - grey)
    expected = expected * (1 + torch.tensor([-0.8, 0.0, 0.6]) * s.tint).view(1, 3, 1, 1) * gain
    expected = ((expected - 0.5) * contrast + 0.5).clamp(0, 1)
    # The gain comes first, the contrast about mid-grey last: one matrix and one offset.
    got = augment.jitter_colours(image, augment.colour_matrices(uniform, s))
    assert torch.allclose(got, expected, atol=1e-5)


def test_a_focus_of_two_keeps_the_range_and_halves_most_angles():
    uniform = augment.keyed_uniform(5, 0, torch.arange(4000))

    def degrees(focus: float) -> torch.Tensor:
        settings = Augmentation(rotation=180, rotation_focus=focus, mirror=0)
        matrices = augment.affine_matrices(uniform, settings, SIZE)
        return torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))

    assert degrees(1).abs().median() == pytest.approx(90, abs=5)
    assert degrees(2).abs().median() == pytest.approx(45, abs=4)
    assert degrees(2).abs().max() > 170 and degrees(2).mean().abs() < 5


@pytest.mark.parametrize(("name", "value"), [("scale", 0.5), ("mirror", 5.0), ("rotation_focus", 0.0), ("shift", -0.1)])
def test_an_augmentation_that_can_not_work_is_refused(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: value})


def test_warping_and_recolouring_in_one_is_the_same_as_one_after_the_other():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(5, 3, 12, 14, generator=generator)
    images = interpolate(coarse, size=(48, 56), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    uniform = augment.keyed_uniform(0, 0, torch.arange(5))
    matrices = augment.affine_matrices(uniform, Augmentation(), (48, 56))
    colours = augment.for_bytes(augment.colour_matrices(uniform[:, 5:], Augmentation()))
    ours = augment.warp_and_recolour(images, matrices, colours, (40, 32))
    theirs = augment.jitter_colours(framing.warp_images(images.float(), matrices, (40, 32)), colours, NORMALIZED_LIMITS)
    assert ours.shape == (5, 3, 40, 32)
    assert torch.allclose(ours, theirs, atol=1e-4)
    singly = zip(images.split(1), matrices.split(1), colours.split(1), strict=True)
    assert torch.equal(ours, torch.cat([augment.warp_and_recolour(*one, (40, 32)) for one in singly]))


def test_bytes_end_at_the_limits_of_what_the_network_sees():
    matrix = augment.for_bytes(torch.eye(3, 4)[None])
    for value, limit in zip((0.0, 255.0), NORMALIZED_LIMITS, strict=True):
        seen = matrix[0, :, :3] @ torch.full((3,), value) + matrix[0, :, 3]
        assert torch.allclose(seen, torch.full((3,), limit), atol=1e-6)


def test_mirroring_has_a_number_of_its_own_and_a_sample_needs_eleven():
    for mirrored, scale_up in ((True, True), (True, False), (False, True), (False, False)):
        uniform = torch.full((1, 11), 0.5)
        uniform[0, 2], uniform[0, 1] = 0.2 if mirrored else 0.8, 0.9 if scale_up else 0.1
        linear = augment.affine_matrices(uniform, Augmentation(), SIZE)[0, :, :2]
        assert (torch.linalg.det(linear) < 0) == mirrored
        assert (torch.linalg.det(linear).abs() > 1) == scale_up
    assert augment.keyed_uniform(0, 0, torch.arange(3)).shape == (3, 11)


@pytest.mark.parametrize("name", ["spectrum", "wear", "occluders"])
def test_an_augmentation_disturbs_where_one_of_three_is_more_than_nothing(name: str):
    assert Augmentation().disturbs is False and NO_AUGMENTATION.disturbs is False
    assert Augmentation(**{name: 0.1}).disturbs is True


@pytest.mark.parametrize("name", ["rotation", "spectrum", "shift"])
def test_a_range_is_not_negative_and_may_be_nothing(name: str):
    assert getattr(Augmentation(**{name: 0.0}), name) == 0
    with pytest.raises(ValueError, match=rf"{name} is -0\.5"):
        Augmentation(**{name: -0.5})
