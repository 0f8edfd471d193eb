"""How pictures become the network's square: the maps, and what they do to points and pixels."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from handpose_lib import framing
from handpose_lib.framing import Framing, crop_matrices, cut, warp_keypoints
from handpose_lib.keypoints import hand_direction

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


def with_spot(width: int, height: int, x: float, y: float, sigma: float) -> np.ndarray:
    """A grey picture (height, width, 3) with one soft red spot."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    image = np.full((height, width, 3), 60.0)
    image[..., 0] += 190 * spot
    return image.round().astype(np.uint8)


def test_a_whole_picture_is_resized_by_the_half_pixel_rule():
    points = torch.tensor([[[0.0, 0.0], [223.0, 111.5]]])
    moved = warp_keypoints(points, Framing(64).whole((224, 224)))
    assert torch.allclose(moved, (points + 0.5) * 64 / 224 - 0.5)


@pytest.mark.parametrize("upright", [False, True])
def test_a_crop_brings_the_hand_to_the_middle_at_the_wanted_share(upright: bool):
    keypoints = torch.rand(5, 21, 2, generator=torch.Generator().manual_seed(0)) * 100 + 40
    moved = warp_keypoints(keypoints, Framing(64, crop=0.4, upright=upright).around(keypoints))
    low, high = moved.amin(1), moved.amax(1)
    assert torch.allclose((low + high) / 2, torch.tensor(31.5), atol=1e-3)
    assert torch.allclose((high - low).amax(-1), torch.tensor(0.4 * 64), atol=1e-3)
    points_up = hand_direction(moved)[:, 0].abs() < 1e-3
    assert points_up.all() == upright
    with pytest.raises(ValueError, match="shows whole pictures"):
        Framing(64).around(keypoints)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_heatmaps_of_any_size_cover_the_same_square(side: int):
    seen = Framing(64)
    corners = torch.tensor([[[-0.5, -0.5], [63.5, 63.5], [31.5, 31.5]]])
    on_maps = warp_keypoints(corners, seen.to_heatmaps((side, side)))
    assert torch.allclose(on_maps, torch.tensor([[[-0.5, -0.5], [side - 0.5] * 2, [(side - 1) / 2] * 2]]))
    assert torch.allclose(warp_keypoints(on_maps, seen.from_heatmaps((side, side))), corners)


def test_a_framing_is_read_from_what_it_wrote_and_from_headers_of_older_weights():
    whole, crop = Framing(48), Framing(64, crop=0.55, upright=True)
    assert Framing.from_json(whole.to_json()) == whole and Framing.from_json(crop.to_json()) == crop
    assert Framing.from_json({"width": 24, "depth": 4, "image_size": 64, "crop": 0.55, "upright": True}) == crop
    assert Framing.from_json({"width": 24}) == Framing(128)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"crop": -0.1}, r"crop is -0\.1"),
        ({"crop": math.nan}, "crop is nan"),
        ({"upright": True}, "upright turns the crops"),
    ],
)
def test_a_framing_that_can_not_be_is_refused(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Framing(**values)


def test_warp_to_another_size_is_the_half_pixel_resize():
    keypoints = torch.tensor([[[30.0, 40.0], [100.25, 60.75]]])
    matrix = framing.resize_matrix(SIZE, (48, 64))
    resized = framing.warp_keypoints(keypoints, matrix)
    assert torch.allclose(resized, (keypoints + 0.5) * 0.5 - 0.5)
    warped = framing.warp_images(blobs(keypoints, SIZE), matrix[None], (48, 64))
    assert torch.allclose(centres(warped), resized, atol=0.01)
    reference = interpolate(blobs(keypoints, SIZE), size=(48, 64), mode="bilinear")
    assert torch.allclose(warped, reference, atol=1e-5)


def test_half_pixel_rule_differs_from_plain_scaling_by_0_214_px_from_224_to_128():
    u = torch.tensor([[[100.0, 100.0]]])
    ours = framing.warp_keypoints(u, framing.resize_matrix((224, 224), (128, 128)))
    assert abs((u * 128 / 224 - ours)[0, 0, 0].item() - 0.214) < 0.001


@pytest.mark.parametrize(
    ("x", "y", "there"),
    [
        (-0.5, 0, True),
        (-0.51, 0, False),
        (127.49, 95.49, True),
        (127.5, 0, False),
        (0, 95.5, False),
        (math.nan, 3, False),
    ],
)
def test_on_image_takes_whole_pixels(x: float, y: float, there: bool):
    assert framing.on_image(torch.tensor([[[x, y]]]), SIZE).item() is there


def test_compose_and_inverse_are_those_of_maps_on_points():
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(4, 2, 3, generator=generator) for _ in range(2))
    points = torch.randn(4, 9, 2, generator=generator)
    both = framing.warp_keypoints(framing.warp_keypoints(points, first), second)
    assert torch.allclose(framing.warp_keypoints(points, framing.compose(second, first)), both, atol=1e-4)
    back = framing.warp_keypoints(framing.warp_keypoints(points, first), framing.inverse(first))
    assert torch.allclose(back, points, atol=1e-3)


@pytest.mark.parametrize("degrees", [0, 37, 90, 200])
@pytest.mark.parametrize("side", [40.0, 300.0])
def test_cut_moves_the_picture_as_its_matrix_moves_points(degrees, side):
    x, y = 130.5, 220.25
    image = with_spot(320, 400, x, y, sigma=side / 20)
    scale = 64 / side
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]])
    matrix[:, 2] = [31.5 + 4, 31.5 - 6] - matrix[:, :2] @ [x, y]  # the spot 4 right of and 6 above the middle
    crop = cut(image, matrix, 64).astype(float)
    red = (crop[..., 0] - crop[..., 1]).clip(0)
    rows, columns = np.mgrid[:64, :64]
    found = np.array([(red * columns).sum(), (red * rows).sum()]) / red.sum()
    assert np.abs(found - [35.5, 25.5]).max() < 0.1


def test_fine_texture_is_averaged_not_sampled():
    checks = (np.indices((640, 640)).sum(0) % 2 * 255).astype(np.uint8)
    crop = cut(np.repeat(checks[..., None], 3, 2), np.array([[0.1, 0, 0], [0, 0.1, 0]]), 64)
    assert abs(int(crop[5:-5, 5:-5].min()) - 127) <= 2 and abs(int(crop[5:-5, 5:-5].max()) - 127) <= 2


def test_crops_are_centred_of_the_wanted_share_and_upright():
    keypoints = torch.rand(5, 21, 2, generator=torch.Generator().manual_seed(0)) * 100 + 40
    moved = warp_keypoints(keypoints, crop_matrices(keypoints, 0.5, (64, 64), hand_direction(keypoints)))
    low, high = moved.amin(1), moved.amax(1)
    assert torch.allclose((low + high) / 2, torch.tensor(31.5), atol=1e-3)
    assert torch.allclose((high - low).amax(-1), torch.tensor(32.0), atol=1e-3)
    direction = hand_direction(moved)
    assert direction[:, 0].abs().max() < 1e-3 and (direction[:, 1] < 0).all()
    # A hand whose wrist covers its knuckles points nowhere: it is left as it is.
    assert crop_matrices(keypoints[:1], 0.5, (64, 64), torch.zeros(1, 2)).isfinite().all()


@pytest.mark.parametrize("scale", [0.1, 0.23, 0.5, 1.0, 2.7])
@pytest.mark.parametrize("degrees", [0, 33, 45, 130, 200, 290])
def test_a_cut_shows_what_lies_there_up_to_its_edges(scale: float, degrees: float):
    x, y = np.meshgrid(np.arange(1200), np.arange(1000))
    image = np.stack([x * 0.2, y * 0.25, np.full_like(x, 255)], -1).astype(np.uint8)  # it says where one is
    size, angle = 40, np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.hstack([turn, (19.5 - turn @ [600.0, 500.0])[:, None]])  # (600, 500) comes to the middle
    crop = cut(image, matrix, size).astype(float)
    assert crop[..., 2].min() > 250, "nothing of it is missing"
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
    there = (places - matrix[:, 2]) @ np.linalg.inv(turn).T
    assert np.abs(crop[..., 0] + 0.5 - there[..., 0] * 0.2).max() < 1.6
    assert np.abs(crop[..., 1] + 0.5 - there[..., 1] * 0.25).max() < 1.6


@pytest.mark.parametrize("middle", [(-900, 50), (900, 50), (50, -900), (50, 900)])
def test_a_cut_beyond_the_picture_is_black(middle: tuple[int, int]):
    matrix = np.array([[0.5, 0, 15.5 - 0.5 * middle[0]], [0, 0.5, 15.5 - 0.5 * middle[1]]])
    assert cut(np.full((100, 100, 3), 200, np.uint8), matrix, 32).max() == 0


def test_the_smallest_framing_has_one_pixel():
    assert Framing(1).size == (1, 1)
