import doctest
import math

import cv2
import numpy as np
import pytest
import torch

from handpose_lib import heatmaps
from handpose_lib.heatmaps import METHODS, decode_heatmaps, render_heatmaps

# Largest error in x or y for peaks anywhere between four pixels, far from the border, per (method, sigma).
TOLERANCES = {
    ("argmax", 2): 0.5001,
    ("quarter_offset", 2): 0.2501,
    ("softmax", 2): 0.33,
    ("center_of_mass", 2): 0.14,
    ("local_peak", 2): 1e-4,
    ("dark", 2): 1e-3,
    ("argmax", 1): 0.5001,
    ("quarter_offset", 1): 0.2501,
    ("softmax", 1): 0.45,
    ("center_of_mass", 1): 0.2,
    ("local_peak", 1): 1e-4,
    ("dark", 1): 0.01,
}


def positions(low, high, steps=21, middle=None):
    """A grid of keypoints (1, steps^2, 2) with x in low..high, and y too unless a middle is given for it."""
    x = torch.linspace(low, high, steps)
    y = x if middle is None else x - x.mean() + middle
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, -1, 2)


def gaussian(x, y, size=(128, 128), sigma=2.0):
    return render_heatmaps(torch.tensor([[[x, y]]]), size, sigma)


def dark_textbook(heatmap, kernel):
    """DARK on one map, step by step as the paper describes it."""
    height, width = heatmap.shape
    border = (kernel - 1) // 2
    padded = np.pad(heatmap, border)
    blurred = cv2.GaussianBlur(padded, (kernel, kernel), 0)[border:-border, border:-border]
    log = np.log(np.maximum(blurred * (heatmap.max() / blurred.max()), 1e-10))
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    point = np.array([column, row], dtype=float)
    if 1 < column < width - 2 and 1 < row < height - 2:
        dx = (log[row, column + 1] - log[row, column - 1]) / 2
        dy = (log[row + 1, column] - log[row - 1, column]) / 2
        dxx = (log[row, column + 2] - 2 * log[row, column] + log[row, column - 2]) / 4
        dyy = (log[row + 2, column] - 2 * log[row, column] + log[row - 2, column]) / 4
        dxy = (
            log[row + 1, column + 1] - log[row - 1, column + 1] - log[row + 1, column - 1] + log[row - 1, column - 1]
        ) / 4
        if dxx * dyy - dxy**2 != 0:
            point -= np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ np.array([dx, dy])
    return point


def test_the_docstring_examples_are_true():
    assert doctest.testmod(heatmaps).failed == 0


def test_a_heatmap_is_the_gaussian_of_the_distance_to_its_keypoint():
    keypoints = torch.tensor([[[3.25, 8.5], [-1.0, 4.0]], [[9.9, 0.0], [20.0, 30.0]]], dtype=torch.float64)
    maps = render_heatmaps(keypoints, size=(12, 10), sigma=1.5)
    assert maps.shape == (2, 2, 12, 10) and maps.dtype == torch.float64
    for b in range(2):
        for k in range(2):
            x, y = keypoints[b, k].tolist()
            for row in range(12):
                for column in range(10):
                    expected = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * 1.5**2))
                    assert maps[b, k, row, column].item() == pytest.approx(expected, abs=1e-14)


def test_the_peak_is_one_at_row_y_column_x():
    maps = render_heatmaps(torch.tensor([[[5, 3]]]), size=(8, 16))
    assert maps.dtype == torch.float32
    assert maps[0, 0, 3, 5] == 1 and (maps == 1).sum() == 1


def test_a_nan_keypoint_gives_zeros_and_one_off_the_map_its_tail():
    nan, inf = float("nan"), float("inf")
    maps = render_heatmaps(torch.tensor([[[nan, 4.0], [inf, 4.0], [-2.0, 4.0]]]), size=(8, 8))
    assert (maps[0, :2] == 0).all()
    assert maps[0, 2, 4, 0].item() == pytest.approx(math.exp(-0.5))


def test_rendering_lets_gradients_through_also_beside_a_nan():
    keypoints = torch.tensor([[[2.3, 3.1], [float("nan"), 1.0]]], dtype=torch.float64, requires_grad=True)
    render_heatmaps(keypoints, (6, 6))[:, :, 2, 2].sum().backward()
    assert keypoints.grad.isfinite().all() and (keypoints.grad[0, 0] != 0).all()
    point = torch.tensor([[[2.3, 3.1]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: render_heatmaps(p, (6, 5)), point)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"\(B, K, 2\), not \(21, 2\)"):
        render_heatmaps(torch.zeros(21, 2), (8, 8))
    with pytest.raises(ValueError, match="sigma"):
        render_heatmaps(torch.zeros(1, 21, 2), (8, 8), sigma=0)
    with pytest.raises(ValueError, match=f"'soft'.*{', '.join(METHODS)}"):
        decode_heatmaps(torch.zeros(1, 1, 8, 8), "soft")
    for method, decoder in METHODS.items():
        with pytest.raises(ValueError, match=r"\(B, K, H, W\).*not \(8, 8\)"):
            decoder(torch.zeros(8, 8))
        with pytest.raises(ValueError, match=r"a pixel or more, not \(1, 1, 0, 8\)"):
            decode_heatmaps(torch.zeros(1, 1, 0, 8), method)
    maps = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match="window must be odd"):
        decode_heatmaps(maps, window=4)
    with pytest.raises(ValueError, match="kernel must be odd"):
        decode_heatmaps(maps, "dark", kernel=0)
    for sigma in (0, -1.0, math.nan, math.inf):
        for method in ("local_peak", "dark"):
            with pytest.raises(ValueError, match=f"sigma must be positive, not {sigma}"):
                decode_heatmaps(maps, method, sigma=sigma)
    with pytest.raises(ValueError, match="beta must be positive"):
        heatmaps.softmax(maps, beta=0)
    for threshold in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            heatmaps.center_of_mass(maps, threshold=threshold)
    with pytest.raises(TypeError, match="sigma"):  # an option that would do nothing is no option
        decode_heatmaps(maps, "softmax", sigma=3.0)


@pytest.mark.parametrize(("method", "sigma"), TOLERANCES)
def test_a_sub_pixel_position_survives_the_round_trip(method, sigma):
    keypoints = positions(29.5, 30.5)
    options = {"sigma": sigma} if method in ("local_peak", "dark") else {}
    decoded, confidence = decode_heatmaps(render_heatmaps(keypoints, (48, 64), sigma), method, **options)
    assert decoded.shape == (1, 441, 2) and decoded.dtype == torch.float32
    assert (decoded - keypoints).abs().max() <= TOLERANCES[method, sigma]
    assert (confidence > 0.7).all() and (confidence <= 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_decoder_is_chosen_by_its_functions_name(method):
    maps = render_heatmaps(torch.tensor([[[40.2, 9.7], [6.0, 21.1]]]), (32, 48))
    decoder = getattr(heatmaps, method)
    for chosen, direct in zip(decode_heatmaps(maps, method), decoder(maps), strict=True):
        assert torch.equal(chosen, direct)
    assert decoder.__doc__ and METHODS[method] is decoder


@pytest.mark.parametrize("method", METHODS)
def test_x_is_the_column_and_y_the_row(method):
    keypoints = torch.tensor([[[40.0, 9.0], [6.0, 21.0]]])
    decoded, _ = decode_heatmaps(render_heatmaps(keypoints, (32, 48)), method)
    assert (decoded - keypoints).abs().max() < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_each_map_is_decoded_on_its_own_whatever_its_memory_layout(method):
    keypoints = torch.rand(3, 5, 2) * 40 + 4
    maps = render_heatmaps(keypoints, (48, 48))
    together, confidence = decode_heatmaps(maps.to(memory_format=torch.channels_last), method)
    for b in range(3):
        for k in range(5):
            alone, its_confidence = decode_heatmaps(maps[b : b + 1, k : k + 1], method)
            assert torch.allclose(alone[0, 0], together[b, k], atol=1e-5)
            assert its_confidence.item() == confidence[b, k]


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_local_peak_is_unbiased_up_to_the_very_border(sigma):
    for keypoints in (positions(-0.5, 8, 35), 47 - positions(-0.5, 8, 35), positions(-0.5, 8, 35, middle=20)):
        decoded, _ = decode_heatmaps(render_heatmaps(keypoints, (48, 48), sigma), sigma=sigma)
        assert (decoded - keypoints).abs().max() < 1e-3


@pytest.mark.parametrize("true_sigma", [1.5, 1.7, 2.5, 3.0])
def test_local_peak_finds_peaks_of_another_width_than_it_was_told(true_sigma):
    for keypoints in (positions(29.5, 30.5), positions(-0.4, 4, 23)):
        decoded, _ = decode_heatmaps(render_heatmaps(keypoints, (64, 64), true_sigma), sigma=2.0)
        assert (decoded - keypoints).abs().max() < 1e-3


def test_local_peak_is_not_moved_by_a_uniform_background():
    keypoints = positions(29.5, 30.5)
    decoded, _ = decode_heatmaps(render_heatmaps(keypoints, (64, 64)) + 0.05)
    assert (decoded - keypoints).abs().max() < 5e-3


@pytest.mark.parametrize("method", ["local_peak", "dark"])
def test_noise_of_two_percent_costs_less_than_a_twentieth_of_a_pixel(method):
    keypoints = positions(29.5, 30.5)
    maps = render_heatmaps(keypoints, (64, 64))
    noise = 0.02 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    decoded, _ = decode_heatmaps(maps + noise, method)
    assert (decoded - keypoints).norm(dim=-1).mean() < 0.05


def test_local_peak_stays_on_the_image():
    decoded, _ = decode_heatmaps(render_heatmaps(torch.tensor([[[-4.0, 10.0], [35.0, 10.0]]]), (32, 32)))
    assert decoded[0, :, 0].tolist() == [-0.5, 31.5]


@pytest.mark.parametrize(("background", "shift"), [(1e-4, 2.7), (1e-3, 17.2)])
def test_a_faint_background_carries_the_center_of_mass_away(background, shift):
    maps = gaussian(20.0, 64.0) + background
    everything, _ = decode_heatmaps(maps, "center_of_mass", threshold=0)
    assert everything[0, 0, 0].item() - 20 == pytest.approx(shift, abs=0.05)
    assert decode_heatmaps(maps, "center_of_mass")[0][0, 0, 0].item() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(("beta", "x"), [(1, 63.4), (10, 29.0), (100, 20.0)])
def test_a_softmax_needs_a_large_beta(beta, x):
    decoded, _ = decode_heatmaps(gaussian(20.0, 64.0), "softmax", beta=beta)
    assert decoded[0, 0, 0].item() == pytest.approx(x, abs=0.05)


def test_a_second_mode_moves_the_center_of_mass_but_no_window():
    maps = torch.maximum(gaussian(20.0, 64.0), 0.6 * gaussian(100.0, 64.0))
    decoded, _ = decode_heatmaps(maps, "center_of_mass")
    assert decoded[0, 0, 0].item() == pytest.approx(39.4, abs=0.05)
    for method in ("argmax", "quarter_offset", "softmax", "local_peak", "dark"):
        assert decode_heatmaps(maps, method)[0][0, 0, 0].item() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(("x", "center_of_mass"), [(0.0, 1.30), (2.0, 2.40)])
def test_the_border_draws_the_center_of_mass_inwards(x, center_of_mass):
    maps = gaussian(x, 64.0)
    decoded, _ = decode_heatmaps(maps, "center_of_mass", threshold=0)
    assert decoded[0, 0, 0].item() == pytest.approx(center_of_mass, abs=0.006)
    assert decode_heatmaps(maps, "local_peak")[0][0, 0, 0].item() == pytest.approx(x, abs=1e-3)


def test_quarter_offset_steps_towards_the_higher_neighbour_but_not_off_the_border():
    keypoints = torch.tensor([[[10.3, 10.0], [9.6, 10.4], [0.3, 10.4]]])
    decoded, _ = decode_heatmaps(render_heatmaps(keypoints, (32, 32)), "quarter_offset")
    assert decoded[0].tolist() == [[10.25, 10.0], [9.75, 10.25], [0.0, 10.25]]


@pytest.mark.parametrize(("sigma", "kernel"), [(2.0, 11), (3.0, 17)])
def test_dark_equals_the_textbook(sigma, kernel):
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.rand(4, 21, 2, generator=generator, dtype=torch.float64) * 63
    maps = render_heatmaps(keypoints, (64, 64), sigma)
    maps = maps + 0.6 * maps.flip(1) + 0.01 * torch.rand(maps.shape, generator=generator, dtype=torch.float64)
    decoded, _ = decode_heatmaps(maps, "dark", sigma=sigma)
    assert torch.equal(decoded, decode_heatmaps(maps, "dark", kernel=kernel)[0])
    for found, heatmap in zip(decoded.flatten(0, 1), maps.flatten(0, 1), strict=True):
        assert found.numpy() == pytest.approx(dark_textbook(heatmap.numpy(), kernel), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e38])
def test_maps_without_a_peak_give_finite_answers(method, value):
    decoded, confidence = decode_heatmaps(torch.full((1, 2, 9, 7), value), method)
    assert decoded.isfinite().all()
    assert (confidence == (1.0 if value > 0 else 0.0)).all()
    assert (decoded >= -0.5).all() and (decoded <= torch.tensor([6.5, 8.5])).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_nan_pixel_means_no_confidence_in_that_map_alone(method):
    maps = render_heatmaps(torch.full((1, 2, 2), 10.0), (20, 20))
    maps[0, 0, 3, 4] = math.nan
    decoded, confidence = decode_heatmaps(maps, method)
    assert decoded.isfinite().all() and confidence.tolist() == [[0.0, 1.0]]
    assert torch.allclose(decoded[0, 1], torch.tensor([10.0, 10.0]), atol=1e-3)


def test_confidence_is_the_highest_value_within_zero_and_one():
    maps = torch.stack([gaussian(5.0, 5.0, (16, 16))[0, 0] * height for height in (0.3, 1.7, -1.0)])[None]
    assert decode_heatmaps(maps)[1][0].tolist() == pytest.approx([0.3, 1.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_computed_in_float32(method, dtype):
    maps = render_heatmaps(torch.tensor([[[12.3, 20.6]]]), (32, 32)).to(dtype)
    decoded, confidence = decode_heatmaps(maps, method)
    assert decoded.dtype == confidence.dtype == torch.float32
    assert torch.equal(decoded, decode_heatmaps(maps.float(), method)[0])


@pytest.mark.parametrize("method", ["softmax", "center_of_mass", "local_peak"])
def test_gradients_reach_the_map(method):
    maps = render_heatmaps(torch.tensor([[[12.3, 10.6]]]), (20, 20)).requires_grad_()
    decode_heatmaps(maps, method)[0][0, 0, 0].backward()
    assert maps.grad.isfinite().all() and maps.grad.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_small_and_empty_batches_are_decoded(method):
    assert decode_heatmaps(torch.ones(2, 3, 1, 1), method)[0].eq(0).all()
    keypoints, confidence = decode_heatmaps(torch.zeros(0, 21, 8, 8), method)
    assert keypoints.shape == (0, 21, 2) and confidence.shape == (0, 21)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_agrees_with_the_cpu(method):
    keypoints = torch.rand(4, 21, 2) * 60
    maps = render_heatmaps(keypoints, (64, 64))
    on_gpu = render_heatmaps(keypoints.cuda(), (64, 64))
    assert torch.allclose(on_gpu.cpu(), maps, atol=1e-6)
    assert torch.allclose(decode_heatmaps(maps.cuda(), method)[0].cpu(), decode_heatmaps(maps, method)[0], atol=1e-3)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"softmax"}))
def test_a_map_with_nothing_positive_answers_its_highest_pixel_exactly(method):
    maps = torch.full((1, 1, 9, 12), -1.0)
    maps[0, 0, 3, 5] = -0.5
    keypoints, confidence = decode_heatmaps(maps, method)
    assert keypoints.tolist() == [[[5.0, 3.0]]] and confidence.item() == 0
