import doctest
import math

import pytest
import torch

from handpose_lib import losses
from handpose_lib.losses import AdaptiveWingLoss, adaptive_wing, adaptive_wing_constants


def textbook(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """The paper's formula of each pixel, with torch's own autograd for its slope."""
    delta = (target - pred).abs()
    power = alpha - target
    slope = omega * (1 / (1 + (theta / epsilon) ** power)) * power * (theta / epsilon) ** (power - 1) * (1 / epsilon)
    offset = theta * slope - omega * torch.log(1 + (theta / epsilon) ** power)
    curved = omega * torch.log(1 + (delta / epsilon) ** power)
    return torch.where(delta < theta, curved, slope * delta - offset)


def loss_at(delta, target, **settings):
    """The loss of a single pixel that is `delta` below its target."""
    target = torch.tensor([[target]], dtype=torch.float64)
    return AdaptiveWingLoss(**settings)(target - delta, target).item()


def some_maps(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(shape, generator=generator, dtype=dtype)
    return pred.requires_grad_(), torch.rand(shape, generator=generator, dtype=dtype)


def one_peak(size=128, sigma=2.0):
    axis = torch.arange(size, dtype=torch.float32)
    bump = torch.exp(-((axis - size // 2) ** 2) / (2 * sigma**2))
    return (bump[:, None] * bump)[None, None]


def test_the_docstring_examples_are_true():
    assert doctest.testmod(losses).failed == 0


def test_slope_and_offset_have_the_golden_values():
    slope, offset = adaptive_wing_constants(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert slope.tolist() == pytest.approx([9.797850, 11.121422], abs=1e-6)
    assert offset.tolist() == pytest.approx([-0.461533, 2.625476], abs=1e-6)


@pytest.mark.parametrize(
    ("target", "delta", "loss"),
    [
        *[(1, 0.01, 0.0881), (1, 0.1, 1.0701), (1, 0.5, 5.3605), (1, 1, 10.2594), (1, 0, 0)],
        *[(0, 0.1, 0.1108), (0, 0.5, 2.9352), (0, 1, 8.4959), (0, 0, 0)],
    ],
)
def test_the_loss_has_the_golden_values(target, delta, loss):
    assert loss_at(delta, target) == pytest.approx(loss, abs=5e-5)
    if delta >= 0.5:
        slope, offset = adaptive_wing_constants(torch.tensor(float(target)))
        assert loss_at(delta, target) == pytest.approx((slope * delta - offset).item(), abs=1e-5)


@pytest.mark.parametrize("target", [-0.05, 0.0, 0.3, 1.0, 1.05])
@pytest.mark.parametrize("settings", [{}, {"epsilon": 0.5, "theta": 0.3}, {"omega": 8.0, "alpha": 2.5, "epsilon": 2.0}])
def test_loss_and_slope_are_continuous_at_theta(target, settings):
    theta = settings.get("theta", 0.5)
    below, above = loss_at(theta - 1e-9, target, **settings), loss_at(theta + 1e-9, target, **settings)
    assert below == pytest.approx(above, abs=1e-7)
    pred = torch.tensor([target - theta + 1e-9, target - theta - 1e-9], dtype=torch.float64)
    pred.requires_grad_()
    adaptive_wing(pred, torch.full((2,), target, dtype=torch.float64), reduction="sum", **settings).backward()
    inner, outer = pred.grad.tolist()
    assert inner == pytest.approx(outer, abs=1e-6)


def test_dividing_by_omega_instead_of_epsilon_would_be_noticed():
    wrong = 14 * math.log(1 + (0.4999999 / 14) ** 2.1)
    assert wrong == pytest.approx(0.0128, abs=1e-4)  # where the linear branch begins at 2.935
    assert loss_at(0.4999999, 0.0) == pytest.approx(2.9352, abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 2.5, "omega": 8.0, "epsilon": 0.5, "theta": 0.3}, {"epsilon": 3.0, "theta": 1.2}]
)
def test_value_and_gradient_equal_the_textbook_in_float64(settings):
    pred, target = some_maps(3, 4, 17, 19)
    target = target * 1.1 - 0.05
    loss = AdaptiveWingLoss(**settings)(pred, target)
    expected = textbook(pred, target, **settings).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
    (gradient,) = torch.autograd.grad(loss, pred)
    (expected_gradient,) = torch.autograd.grad(expected, pred)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-16)


def test_float32_is_as_exact_as_float32_can_be():
    pred, target = some_maps(2, 21, 64, 64, dtype=torch.float32)
    loss = AdaptiveWingLoss()(pred, target)
    loss.backward()
    precise = pred.detach().double().requires_grad_()
    expected = textbook(precise, target.double()).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(pred.grad.double(), precise.grad, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("foreground_weight", [0.0, 10.0])
def test_gradcheck(foreground_weight):
    pred, target = some_maps(2, 3, 5, 4)
    visible = torch.tensor([[True, False, True], [True, True, False]])
    loss = AdaptiveWingLoss(foreground_weight=foreground_weight)
    assert torch.autograd.gradcheck(lambda p: loss(p, target, visible), pred)
    assert torch.autograd.gradcheck(lambda p: 3 * loss(p, target), pred)


def test_the_maps_go_through_in_pieces_and_none_is_lost(monkeypatch):
    pred, target = some_maps(3, 5, 8, 8)
    visible = torch.rand(3, 5) > 0.4
    whole = AdaptiveWingLoss()(pred, target, visible)
    (gradient,) = torch.autograd.grad(whole, pred)
    for piece in (1, 64, 200, 4 * 64):
        monkeypatch.setattr(losses, "PIECE", piece)
        loss = AdaptiveWingLoss()(pred, target, visible)
        assert loss.item() == pytest.approx(whole.item(), rel=1e-14)
        assert torch.equal(torch.autograd.grad(loss, pred)[0], gradient)


def test_the_number_of_threads_changes_no_gradient():
    before = torch.get_num_threads()
    pred, target = some_maps(4, 21, 64, 64, dtype=torch.float32)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            loss = AdaptiveWingLoss(foreground_weight=10)(pred, target)
            found.append((loss.item(), torch.autograd.grad(loss, pred)[0]))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert torch.equal(gradient, found[0][1])


def test_a_second_derivative_is_refused():
    pred, target = some_maps(1, 1, 4, 4)
    (gradient,) = torch.autograd.grad(AdaptiveWingLoss()(pred, target) ** 2, pred, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("target", [0.0, 0.5, 1.0, 1.1, -0.1, 1.9, 50.0, -50.0, 3e38, -3e38])
def test_every_finite_input_has_a_finite_loss_and_gradient(target):
    errors = [0.0, 1e-45, 1e-38, 1e-20, 1e-7, 0.1, 0.5, 1.0, 100.0, 1e10, 1e30, 3e38]
    pred = torch.tensor([target + sign * e for e in errors for sign in (1, -1)]).clamp(-3.4e38, 3.4e38)
    pred = pred.view(1, 1, 4, 6).requires_grad_()
    maps = torch.full_like(pred, target)
    for foreground_weight in (0, 10):
        loss = AdaptiveWingLoss(foreground_weight=foreground_weight)(pred, maps)
        (gradient,) = torch.autograd.grad(loss, pred)
        assert loss.isfinite() and gradient.isfinite().all()
        assert (gradient[pred == maps] == 0).all()
        assert (gradient * (pred - maps).sign() >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_prediction_is_right_loss_and_gradient_are_exactly_zero(dtype):
    pred = torch.linspace(-0.1, 1.1, 25, dtype=dtype).view(1, 1, 5, 5).requires_grad_()
    loss = AdaptiveWingLoss()(pred, pred.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-30) and (pred.grad == 0).all()


def test_a_nan_is_not_hidden():
    pred, target = some_maps(1, 2, 4, 4)
    bad = pred.detach().clone()
    bad[0, 0, 1, 1] = math.nan
    assert AdaptiveWingLoss()(bad, target).isnan()
    visible = torch.tensor([[False, True]])
    bad.requires_grad_()
    loss = AdaptiveWingLoss()(bad, target, visible)  # unless it is in a map that does not count
    loss.backward()
    assert loss.isfinite() and bad.grad.isfinite().all()


def test_an_all_zero_prediction_costs_next_to_nothing():
    target = one_peak()
    zero = torch.zeros_like(target)
    assert torch.nn.functional.mse_loss(zero, target).item() == pytest.approx(0.00077, abs=5e-6)
    assert AdaptiveWingLoss()(zero, target).item() == pytest.approx(0.0104, abs=5e-5)


def test_the_weight_map_is_the_dilated_peak_and_counts_eleven_times():
    target = one_peak()
    assert (target > 0.2).double().mean().item() == pytest.approx(0.00226, abs=5e-6)
    pred = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.zeros_like(target)  # 3x3 grey dilation > 0.2: a pixel whose neighbourhood holds one above 0.2
    for row, column in (target[0, 0] > 0.2).nonzero().tolist():
        mask[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1
    assert mask.sum() > (target > 0.2).sum()
    expected = (textbook(pred, target) * (10 * mask + 1)).mean()
    loss = AdaptiveWingLoss(foreground_weight=10)(pred, target)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, pred)
    assert torch.allclose(gradient, torch.autograd.grad(expected, pred)[0], rtol=1e-4, atol=1e-9)


def test_only_visible_maps_count_in_the_mean_and_in_the_gradient():
    pred, target = some_maps(2, 3, 6, 5)
    visible = torch.tensor([[True, False, True], [False, False, True]])
    loss = AdaptiveWingLoss()(pred, target, visible)
    assert loss.item() == pytest.approx(textbook(pred, target)[visible].mean().item(), rel=1e-13)
    loss.backward()
    assert (pred.grad[~visible] == 0).all() and (pred.grad[visible] != 0).all()
    everything = AdaptiveWingLoss()(pred, target, torch.ones_like(visible))
    assert everything.item() == pytest.approx(AdaptiveWingLoss()(pred, target).item(), rel=1e-13)


def test_with_no_visible_map_loss_and_gradient_are_zero():
    pred, target = some_maps(2, 3, 6, 5)
    loss = AdaptiveWingLoss()(pred, target, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and (pred.grad == 0).all()
    empty = torch.zeros(0, 3, 6, 5, requires_grad=True)
    assert AdaptiveWingLoss()(empty, empty.detach()).item() == 0


def test_processes_with_a_common_denominator_average_to_the_whole_batch():
    pred, target = some_maps(4, 3, 6, 5)
    visible = torch.tensor([[True, True, True], [True, False, True], [False, False, True], [False, False, False]])
    loss = AdaptiveWingLoss()
    (expected,) = torch.autograd.grad(loss(pred, target, visible), pred)
    share = visible.sum() / 2
    halves = [loss(pred[i : i + 2], target[i : i + 2], visible[i : i + 2], num_maps=share) for i in (0, 2)]
    (gradient,) = torch.autograd.grad(sum(halves) / 2, pred)
    assert torch.allclose(gradient, expected, rtol=1e-12)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "slice", "expanded target"])
def test_the_memory_layout_does_not_matter(layout):
    pred, target = some_maps(2, 4, 6, 6)
    pred = pred.detach()
    if layout == "channels_last":
        other, other_target = pred.to(memory_format=torch.channels_last), target
    elif layout == "transposed":
        other, other_target = pred.mT.contiguous().mT, target.mT.contiguous().mT
    elif layout == "slice":
        other, other_target = torch.cat([pred, pred], dim=-1)[..., :6], target
    else:
        target = target[:, :1].expand(target.shape)
        other, other_target = pred, target.contiguous()
    pred, other = pred.clone().requires_grad_(), other.detach().requires_grad_()
    loss, other_loss = AdaptiveWingLoss()(pred, target), AdaptiveWingLoss()(other, other_target)
    loss.backward()
    other_loss.backward()
    assert loss.item() == pytest.approx(other_loss.item(), rel=1e-14)
    assert torch.equal(pred.grad, other.grad)


def test_inside_autocast_and_for_half_precision_the_loss_is_float32():
    pred, target = some_maps(2, 3, 16, 16, dtype=torch.float32)
    low = pred.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = AdaptiveWingLoss()(low, target)
    loss.backward()
    assert loss.dtype == torch.float32 and low.grad.dtype == torch.bfloat16
    precise = low.detach().float().requires_grad_()
    expected = AdaptiveWingLoss()(precise, target)
    expected.backward()
    assert loss.item() == expected.item()
    assert torch.equal(low.grad, precise.grad.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_two_half_precision_tensors_are_computed_in_float32(dtype, reduction):
    pred, target = (t.detach().to(dtype) for t in some_maps(2, 3, 8, 9, dtype=torch.float32))
    pred.requires_grad_()
    loss = adaptive_wing(pred, target, reduction=reduction)
    precise = pred.detach().float().requires_grad_()
    expected = adaptive_wing(precise, target.float(), reduction=reduction)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    assert pred.grad.dtype == dtype and torch.equal(pred.grad, precise.grad.to(dtype))


@pytest.mark.parametrize("visible", [None, torch.tensor([[True, False, True], [False, True, True]])])
@pytest.mark.parametrize("foreground_weight", [0.0, 10.0])
def test_the_reductions_agree_in_value_and_gradient(visible, foreground_weight):
    pred, target = some_maps(2, 3, 8, 9)
    each = adaptive_wing(pred, target, visible, foreground_weight=foreground_weight, reduction="none")
    assert each.shape == pred.shape and (each >= 0).all()
    total = adaptive_wing(pred, target, visible, foreground_weight=foreground_weight, reduction="sum")
    mean = adaptive_wing(pred, target, visible, foreground_weight=foreground_weight)
    assert torch.equal(mean, AdaptiveWingLoss(foreground_weight=foreground_weight)(pred, target, visible))
    pixels = pred.numel() if visible is None else int(visible.sum()) * 72
    assert each.sum().item() == pytest.approx(total.item(), rel=1e-13)
    assert mean.item() == pytest.approx(total.item() / pixels, rel=1e-13)
    wanted = torch.autograd.grad(each.sum(), pred)[0]
    assert torch.allclose(torch.autograd.grad(total, pred)[0], wanted, rtol=1e-13)
    assert torch.allclose(torch.autograd.grad(mean, pred)[0] * pixels, wanted, rtol=1e-12)
    if visible is not None:
        assert (each[~visible] == 0).all() and (wanted[~visible] == 0).all()


def test_at_most_one_tensor_of_the_size_of_the_maps_is_saved():
    pred, target = some_maps(2, 3, 32, 32, dtype=torch.float32)
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    for visible in (None, torch.ones(2, 3, dtype=torch.bool)):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            AdaptiveWingLoss(foreground_weight=10)(pred, target, visible)
        assert sum(saved) <= pred.numel() + 8
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.no_grad():
            assert not AdaptiveWingLoss()(pred, target, visible).requires_grad
        assert not saved


def test_backward_twice_over_one_graph_adds_the_same_gradient_again():
    pred, target = some_maps(1, 2, 8, 8)
    loss = AdaptiveWingLoss()(pred, target)
    loss.backward(retain_graph=True)
    once = pred.grad.clone()
    loss.backward()
    assert torch.equal(pred.grad, 2 * once)


def test_the_dense_path_of_other_devices_equals_the_pieces(monkeypatch):
    pred, target = some_maps(2, 3, 8, 9)
    visible = torch.tensor([[True, False, True], [True, True, False]])
    for loss in (AdaptiveWingLoss(), AdaptiveWingLoss(foreground_weight=10)):
        for mask in (None, visible):
            pieces = loss(pred, target, mask)
            (gradient,) = torch.autograd.grad(pieces, pred)
            with monkeypatch.context() as patch:
                patch.setattr(torch.compiler, "is_compiling", lambda: True)
                dense = loss(pred, target, mask)
            assert dense.item() == pytest.approx(pieces.item(), rel=1e-13)
            assert torch.allclose(torch.autograd.grad(dense, pred)[0], gradient, rtol=1e-13)


def test_it_can_be_compiled():
    pred, target = some_maps(2, 3, 8, 9, dtype=torch.float32)
    loss = AdaptiveWingLoss()
    # The backend that only traces: needs no C++ compiler and no half a minute.
    compiled = torch.compile(loss, backend="aot_eager")(pred, target)
    assert compiled.item() == pytest.approx(loss(pred, target).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(compiled, pred)
    assert torch.allclose(gradient, torch.autograd.grad(loss(pred, target), pred)[0], rtol=1e-5)


def test_bad_input_is_named():
    loss = AdaptiveWingLoss()
    maps = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\).*\(2, 1, 4, 4\)"):
        loss(maps, maps[:, :1])
    with pytest.raises(ValueError, match=r"visible is \(3,\)"):
        loss(maps, maps, torch.ones(3))
    with pytest.raises(ValueError, match="detach"):
        loss(maps, maps.clone().requires_grad_())
    with pytest.raises(ValueError, match="alpha is"):
        AdaptiveWingLoss(alpha=1.5)
    with pytest.raises(ValueError, match="positive"):
        AdaptiveWingLoss(theta=0)
    with pytest.raises(ValueError, match="positive"):
        adaptive_wing(maps, maps, epsilon=math.nan)
    with pytest.raises(ValueError, match=r"'avg'.*mean, sum, none"):
        adaptive_wing(maps, maps, reduction="avg")
    with pytest.raises(ValueError, match="reduction"):
        AdaptiveWingLoss(reduction="avg")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu():
    pred, target = some_maps(2, 21, 32, 32, dtype=torch.float32)
    visible = torch.rand(2, 21) > 0.3
    on_gpu = pred.detach().cuda().to(memory_format=torch.channels_last).requires_grad_()
    loss = AdaptiveWingLoss(foreground_weight=10)
    here, there = loss(pred, target, visible), loss(on_gpu, target.cuda(), visible.cuda())
    here.backward()
    there.backward()
    assert there.item() == pytest.approx(here.item(), rel=1e-5)
    assert torch.allclose(on_gpu.grad.cpu(), pred.grad, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_maps_without_a_batch_cost_what_they_cost_in_a_batch_of_one(weight):
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(3, 5, 7, generator=generator), torch.zeros(3, 5, 7)
    target[0, -1, 3] = 1  # at the edge of the first map, beside which the second begins in memory
    for reduction in ("mean", "sum"):
        options = {"foreground_weight": weight, "reduction": reduction}
        alone, batch = adaptive_wing(pred, target, **options), adaptive_wing(pred[None], target[None], **options)
        assert torch.allclose(alone, batch)
        each = adaptive_wing(pred, target, foreground_weight=weight, reduction="none")
        assert torch.allclose(alone, each.mean() if reduction == "mean" else each.sum())


def test_an_exponent_without_end_is_refused():
    with pytest.raises(ValueError, match="alpha is inf"):
        adaptive_wing(torch.zeros(2), torch.zeros(2), alpha=math.inf)
