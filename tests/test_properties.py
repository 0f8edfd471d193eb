"""What must hold for any input: drawn by hypothesis, which also finds the smallest input that breaks it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handpose_lib import heatmaps
from handpose_lib.framing import inverse, warp_images, warp_keypoints
from handpose_lib.heatmaps import METHODS, decode_heatmaps, render_heatmaps
from handpose_lib.losses import adaptive_wing
from handpose_lib.metrics import auc, correct, epe, pck

quick = settings(deadline=None, max_examples=60)
HEIGHT, WIDTH = 40, 56
# Largest distance in x or y from the true position, px: in the middle of the map, and anywhere on it.
BOUNDS = {
    "argmax": (0.501, 0.501),
    "quarter_offset": (0.26, 0.51),
    "softmax": (0.34, 0.51),
    "center_of_mass": (0.15, 1.6),  # a border cuts off one side of the Gaussian
    "local_peak": (1e-3, 1e-3),
    "dark": (2e-3, 0.51),
}


def finite(low, high):
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@pytest.mark.parametrize("method", METHODS)
@given(x=finite(-0.5, WIDTH - 0.5), y=finite(-0.5, HEIGHT - 0.5))
@quick
def test_a_point_anywhere_on_the_map_is_found_again(method, x, y):
    point = torch.tensor([[[x, y]]], dtype=torch.float32)
    found, confidence = decode_heatmaps(render_heatmaps(point, (HEIGHT, WIDTH)), method)
    inside = 7 <= x < WIDTH - 8 and 7 <= y < HEIGHT - 8
    assert method in BOUNDS, f"add to BOUNDS how far {method} may be off"
    assert (found - point).abs().max() <= BOUNDS[method][0 if inside else 1]
    assert 0.7 < confidence.item() <= 1


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e10, 1e37]), bad=st.integers(0, 3))
@quick
def test_any_map_gives_finite_points_on_it(method, seed, scale, bad):
    maps = torch.randn(1, 2, 9, 12, generator=torch.Generator().manual_seed(seed)) * scale
    maps.view(-1)[seed % maps.numel()] = (0.0, math.nan, math.inf, -math.inf)[bad]
    found, confidence = decode_heatmaps(maps, method)
    assert found.isfinite().all() and (confidence >= 0).all() and (confidence <= 1).all()
    assert (found >= -0.5).all() and (found <= torch.tensor([11.5, 8.5])).all()


@given(
    points=st.lists(st.tuples(finite(-50, 250), finite(-50, 250)), min_size=1, max_size=21),
    angle=finite(-4, 4), scale=finite(0.1, 5), x=finite(-100, 100), y=finite(-100, 100), mirrored=st.booleans(),
)  # fmt: skip
@quick
def test_a_warp_and_its_inverse_leave_points_where_they_were(points, angle, scale, x, y, mirrored):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    matrix = torch.tensor([[[-c if mirrored else c, -s, x], [-s if mirrored else s, c, y]]], dtype=torch.float64)
    keypoints = torch.tensor([points], dtype=torch.float64)
    back = warp_keypoints(warp_keypoints(keypoints, matrix), inverse(matrix))
    assert torch.allclose(back, keypoints, atol=1e-8)


@given(x=finite(14, 26), y=finite(14, 26), angle=finite(-3.1, 3.1), scale=finite(0.7, 1.6))
@quick
def test_image_and_keypoints_are_warped_alike(x, y, angle, scale):
    c, s, centre = scale * math.cos(angle), scale * math.sin(angle), 20.0
    offset = [centre - c * centre + s * centre, centre - s * centre - c * centre]
    matrix = torch.tensor([[[c, -s, offset[0]], [s, c, offset[1]]]])
    point = torch.tensor([[[x, y]]], dtype=torch.float32)
    warped = warp_images(render_heatmaps(point, (41, 41)), matrix)
    expected = warp_keypoints(point, matrix)
    assert (heatmaps.local_peak(warped, sigma=2.0 * scale)[0] - expected).abs().max() < 0.1


def some_points(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(7, 21, 2, generator=generator, dtype=torch.float64) * 200
    pred = target + 15 * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return pred, target, torch.rand(7, 21, generator=generator) > 0.3


@given(seed=st.integers(0, 2**31), x=finite(-300, 300), y=finite(-300, 300))
@quick
def test_a_shift_of_everything_changes_no_score(seed, x, y):
    pred, target, visible = some_points(seed)
    shift = torch.tensor([x, y], dtype=torch.float64)
    assert torch.allclose(epe(pred, target, visible), epe(pred + shift, target + shift, visible), equal_nan=True)
    for normalizer in ("bbox", "diagonal"):
        before, after = (
            correct(a, b, 0.1, normalizer, visible) for a, b in ((pred, target), (pred + shift, target + shift))
        )
        assert ((before != after) & ~before.isnan()).sum() <= 1  # one that lies on the bound may fall either way


@given(seed=st.integers(0, 2**31), factor=finite(0.05, 20))
@quick
def test_scores_follow_the_scale(seed, factor):
    pred, target, visible = some_points(seed)
    scaled = factor * pred, factor * target
    assert torch.allclose(epe(*scaled, visible), factor * epe(pred, target, visible), equal_nan=True)
    for convention in ("mmpose", "trapezoid"):
        one = auc(pred, target, 30.0, visible, convention)
        assert auc(*scaled, 30.0 * factor, visible, convention) == pytest.approx(one, abs=0.004)


@given(seed=st.integers(0, 2**31))
@quick
def test_the_order_of_hands_and_keypoints_does_not_matter(seed):
    pred, target, visible = some_points(seed)
    hands = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    joints = torch.randperm(21, generator=torch.Generator().manual_seed(seed + 1))
    mixed = [each[hands][:, joints] for each in (pred, target, visible)]
    assert torch.allclose(pck(*mixed[:2], visible=mixed[2]), pck(pred, target, visible=visible)[joints], equal_nan=True)
    assert torch.allclose(epe(*mixed), epe(pred, target, visible)[joints], equal_nan=True)
    assert auc(*mixed[:2], visible=mixed[2]) == pytest.approx(auc(pred, target, visible=visible))


@given(seed=st.integers(0, 2**31), low=finite(0.01, 0.5), more=finite(0, 0.5))
@quick
def test_a_wider_bound_lets_no_fewer_through(seed, low, more):
    pred, target, _ = some_points(seed)
    assert (pck(pred, target, low + more) >= pck(pred, target, low)).all()
    assert auc(pred, target, 30.0 * (1 + more)) >= auc(pred, target, 30.0) - 1e-12


curves = st.tuples(finite(2.0, 3.0), finite(1.0, 20.0), finite(0.3, 3.0), finite(0.1, 0.9))


@given(pred=finite(-3, 3), target=finite(0, 1), curve=curves)
@quick
def test_the_loss_is_zero_at_the_target_and_positive_elsewhere(pred, target, curve):
    options = dict(zip(("alpha", "omega", "epsilon", "theta"), curve, strict=True))
    pred, target = torch.tensor([pred, target]), torch.tensor([target, target])
    elsewhere, there = adaptive_wing(pred, target, reduction="none", **options).tolist()
    assert 0 <= there < 2e-37  # with alpha 2 on a peak, the smallest number that is no denormal one
    assert elsewhere > 2e-37 if abs(pred[0] - target[0]) > 1e-9 else elsewhere >= 0


@given(target=finite(0, 1), low=finite(0, 2), more=finite(1e-3, 2), sign=st.sampled_from([-1, 1]), curve=curves)
@quick
def test_a_larger_error_costs_more(target, low, more, sign, curve):
    options = dict(zip(("alpha", "omega", "epsilon", "theta"), curve, strict=True))
    goal = torch.full((2,), target, dtype=torch.float64)
    small, large = adaptive_wing(goal + sign * torch.tensor([low, low + more]), goal, reduction="none", **options)
    assert large > small


@given(target=finite(0, 1), curve=curves, sign=st.sampled_from([-1, 1]))
@quick
def test_the_loss_is_continuous_at_theta(target, curve, sign):
    options = dict(zip(("alpha", "omega", "epsilon", "theta"), curve, strict=True))
    goal = torch.full((2,), target, dtype=torch.float64)
    errors = sign * torch.tensor([curve[3] - 1e-9, curve[3] + 1e-9], dtype=torch.float64)
    below, above = adaptive_wing(goal + errors, goal, reduction="none", **options)
    assert abs(above - below) < 1e-6 * (1 + abs(below))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(pred=finite(-(2.0**66), 2.0**66), target=finite(-1, 2), weight=st.sampled_from([0.0, 10.0]))
@quick
def test_value_and_gradient_are_finite(dtype, pred, target, weight):
    pred = torch.full((1, 1, 3, 3), pred, dtype=dtype, requires_grad=True)
    loss = adaptive_wing(pred, torch.full((1, 1, 3, 3), target), foreground_weight=weight)
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()
