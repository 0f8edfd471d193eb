import doctest
import math

import numpy as np
import pytest
import torch

from handpose_lib import metrics
from handpose_lib.metrics import (
    auc,
    bootstrap_interval,
    bootstrap_means,
    correct,
    distances,
    epe,
    normalizer_lengths,
    pck,
    swap_rate,
    swapped,
)

NAN = math.nan


@pytest.fixture
def hands():
    """Twelve hands of five keypoints with errors of some pixels; keypoint 4 is never visible, others sometimes."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(12, 5, 2, generator=generator, dtype=torch.float64) * 60 + 40
    pred = target + 8 * torch.randn(12, 5, 2, generator=generator, dtype=torch.float64)
    visible = torch.rand(12, 5, generator=generator) > 0.3
    visible[:, 4] = False
    return pred, target, visible


def textbook_length(hand, normalizer):
    if normalizer == "image":
        return 224
    xs, ys = [x for x, _ in hand], [y for _, y in hand]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return max(width, height) if normalizer == "bbox" else math.sqrt(width**2 + height**2)


def textbook_shares(pred, target, visible, is_right):
    """Share of right predictions of each keypoint, one at a time."""
    shares = []
    for k in range(target.shape[1]):
        hits = []
        for n in range(target.shape[0]):
            if visible[n][k]:
                hits.append(is_right(math.dist(pred[n][k].tolist(), target[n][k].tolist()), target[n].tolist()))
        shares.append(sum(hits) / len(hits) if hits else NAN)
    return shares


def mean_of_known(values):
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)


def test_the_docstring_examples_are_true():
    assert doctest.testmod(metrics).failed == 0


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("normalizer", ["bbox", "diagonal", "image"])
def test_pck_equals_the_textbook_loop(hands, normalizer, threshold):
    pred, target, visible = hands
    expected = textbook_shares(*hands, lambda error, hand: error / textbook_length(hand, normalizer) < threshold)
    found = pck(pred, target, threshold, normalizer, visible)
    assert found.shape == (5,)
    assert found.tolist() == pytest.approx(expected, nan_ok=True)
    everything = [[True] * 5] * 12
    expected = textbook_shares(
        pred, target, everything, lambda error, hand: error / textbook_length(hand, normalizer) < threshold
    )
    assert pck(pred, target, threshold, normalizer).tolist() == pytest.approx(expected)


def test_auc_of_mmpose_is_the_mean_over_twenty_thresholds(hands):
    pred, target, visible = hands
    curve = [mean_of_known(textbook_shares(*hands, lambda error, _, i=i: error / 20.0 < i / 20)) for i in range(20)]
    assert auc(pred, target, 20.0, visible) == pytest.approx(sum(curve) / 20, abs=1e-12)


def test_auc_by_the_trapezoidal_rule_is_that_of_freihands_evaluation(hands):
    pred, target, visible = hands
    thresholds = np.linspace(0, 20.0, 100)
    areas = []
    for k in range(5):
        errors = [math.dist(p, g) for p, g, v in zip(pred[:, k], target[:, k], visible[:, k], strict=True) if v]
        if errors:
            curve = [np.mean([error <= t for error in errors]) for t in thresholds]
            areas.append(np.trapezoid(curve, thresholds) / np.trapezoid(np.ones(100), thresholds))
    assert auc(pred, target, 20.0, visible, convention="trapezoid") == pytest.approx(np.mean(areas), abs=1e-12)


def test_epe_is_the_mean_distance_over_the_visible(hands):
    pred, target, visible = hands
    for k in range(4):
        errors = [math.dist(p, g) for p, g, v in zip(pred[:, k], target[:, k], visible[:, k], strict=True) if v]
        assert epe(pred, target, visible)[k].item() == pytest.approx(sum(errors) / len(errors))
    assert epe(pred, target, visible)[4].isnan()


def test_a_perfect_model_scores_95_percent_by_mmposes_auc_and_1_by_the_trapezoid(hands):
    target = hands[1]
    assert auc(target, target) == pytest.approx(0.95)
    assert auc(target, target, convention="trapezoid") == pytest.approx(1.0)
    assert (pck(target, target) == 1).all() and (epe(target, target) == 0).all()


def test_a_constant_error_gives_the_auc_that_it_should():
    target = torch.zeros(3, 2, 2, dtype=torch.float64)
    pred = target + torch.tensor([15.0, 0.0])
    # Strictly below i/20 of 30 px for i = 11..19; at most t for the upper half of the thresholds.
    assert auc(pred, target) == pytest.approx(9 / 20)
    assert auc(pred, target, convention="trapezoid") == pytest.approx(0.5, abs=0.006)


def test_an_error_on_the_threshold_is_wrong():
    target = [[[0.0, 0.0], [50.0, 0.0]]]
    assert pck([[[10.0, 0.0], [59.9999, 0.0]]], target).tolist() == [0.0, 1.0]
    assert pck([[[10.0, 0.0], [59.9999, 0.0]]], target, threshold=0.21).tolist() == [1.0, 1.0]


def test_the_normalizers_of_one_hand_differ():
    hand = torch.tensor([[[20.0, 30.0], [80.0, 110.0], [50.0, 50.0]]])
    assert normalizer_lengths(hand, "bbox").tolist() == [80.0]
    assert normalizer_lengths(hand, "diagonal").tolist() == [100.0]
    assert normalizer_lengths(hand, "image").tolist() == [224.0]
    assert normalizer_lengths(hand, "image", image_size=128).tolist() == [128.0]
    pred = hand + torch.tensor([18.0, 0.0])
    assert [pck(pred, hand, normalizer=name)[0].item() for name in ("bbox", "diagonal", "image")] == [0.0, 1.0, 1.0]


def test_the_box_holds_keypoints_that_are_not_visible_and_leaves_out_unknown_ones():
    target = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [-90.0, 0.0], [NAN, NAN]]])
    visible = torch.tensor([[True, True, False, False]])
    assert normalizer_lengths(target).tolist() == [100.0]
    pred = target.nan_to_num() + torch.tensor([15.0, 0.0])
    assert pck(pred, target, visible=visible).tolist() == pytest.approx([1.0, 1.0, NAN, NAN], nan_ok=True)
    assert normalizer_lengths(torch.full((1, 3, 2), NAN)).tolist() == [0.0]


def test_on_a_hand_without_size_everything_is_wrong():
    hand = torch.full((1, 21, 2), 7.0)
    assert (pck(hand, hand) == 0).all()
    assert (pck(hand, hand, normalizer="image") == 1).all()


def test_a_nan_prediction_is_wrong_and_its_distance_infinite():
    target = torch.tensor([[[0.0, 0.0], [10.0, 0.0]], [[0.0, 0.0], [10.0, 0.0]]])
    pred = target.clone()
    pred[0, 0, 1] = NAN
    assert pck(pred, target).tolist() == [0.5, 1.0]
    assert auc(pred, target, convention="trapezoid") == pytest.approx(0.75)
    assert epe(pred, target).tolist() == [math.inf, 0.0]
    hidden = [[False, True], [True, True]]
    assert pck(pred, target, visible=hidden).tolist() == [1.0, 1.0]
    assert epe(pred, target, visible=hidden).tolist() == [0.0, 0.0]


def test_what_no_hand_shows_is_nan_and_does_not_count_in_the_auc(hands):
    pred, target, visible = hands
    assert pck(pred, target, visible=visible)[4].isnan()
    kept = auc(pred[:, :4], target[:, :4], visible=visible[:, :4])
    assert auc(pred, target, visible=visible) == pytest.approx(kept)
    assert math.isnan(auc(pred, target, visible=torch.zeros(12, 5, dtype=torch.bool)))


def test_arrays_lists_and_any_precision_give_float64(hands):
    pred, target, visible = hands
    expected = epe(pred, target, visible)
    for kind in (lambda t: t.numpy(), lambda t: t.tolist()):
        assert torch.equal(epe(kind(pred), kind(target), kind(visible)).nan_to_num(), expected.nan_to_num())
    for dtype in (torch.float32, torch.float16):
        found = epe(pred.to(dtype).requires_grad_(), target, visible)
        assert found.dtype == torch.float64 and not found.requires_grad


def test_the_hits_average_to_the_pck(hands):
    pred, target, visible = hands
    hits = correct(pred, target, 0.1, "diagonal", visible)
    assert hits.shape == (12, 5) and torch.equal(hits.isnan(), ~visible)
    assert torch.equal(hits.nanmean(0)[:4], pck(pred, target, 0.1, "diagonal", visible)[:4])


def test_bad_input_is_named(hands):
    pred, target, visible = hands
    with pytest.raises(ValueError, match=r"\(11, 5, 2\) but target is \(12, 5, 2\)"):
        pck(pred[1:], target)
    with pytest.raises(ValueError, match=r"pred must be \(N, K, 2\), not \(12, 5\)"):
        epe(pred[..., 0], target)
    with pytest.raises(ValueError, match=r"visible is \(5, 12\)"):
        auc(pred, target, visible=visible.T)
    with pytest.raises(ValueError, match="'box'; it must be one of bbox, diagonal, image"):
        pck(pred, target, normalizer="box")
    with pytest.raises(ValueError, match="'coco'; it must be one of mmpose, trapezoid"):
        auc(pred, target, convention="coco")
    target = target.clone()
    target[7, 3, 0] = NAN
    with pytest.raises(ValueError, match="hand 7, keypoint 3"):
        distances(pred, target)
    with pytest.raises(ValueError, match="one hand for each row"):
        bootstrap_means(torch.zeros(4), groups=[1, 2])
    with pytest.raises(ValueError, match="infinite"):
        bootstrap_means([0.0, math.inf])


def test_the_bootstrap_of_a_mean_has_its_textbook_width():
    values = torch.randn(400, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = bootstrap_interval(values, resamples=4000)
    assert low.shape == (3,)
    half = 1.96 * values.std(0) / 20
    assert torch.allclose(high - values.mean(0), half, rtol=0.1)
    assert torch.allclose(values.mean(0) - low, half, rtol=0.1)


def test_versions_of_one_hand_are_drawn_together():
    values = torch.randn(100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    low, high = bootstrap_interval(values, resamples=2000)
    copies, names = values.repeat(4), torch.arange(100).repeat(4) + 32560  # k-th version of each hand
    together = bootstrap_interval(copies, groups=names, resamples=2000)
    assert together[0].item() == pytest.approx(low.item()) and together[1].item() == pytest.approx(high.item())
    apart = bootstrap_interval(copies, resamples=2000)
    assert (apart[1] - apart[0]).item() == pytest.approx((high - low).item() / 2, rel=0.15)


def test_the_bootstrap_leaves_out_what_is_nan_and_equals_a_plain_loop():
    values = torch.tensor([[1.0, NAN], [2.0, 5.0], [NAN, 7.0], [4.0, NAN], [8.0, 1.0]], dtype=torch.float64)
    groups = torch.tensor([3, 3, 9, 5, 9])
    means = bootstrap_means(values, groups, resamples=50, seed=4)
    hands = [values[groups == hand] for hand in (3, 5, 9)]
    drawn = torch.randint(3, (50, 3), generator=torch.Generator().manual_seed(4))
    for mean, draw in zip(means, drawn.tolist(), strict=True):
        expected = torch.cat([hands[hand] for hand in draw]).nanmean(0)
        assert mean.tolist() == pytest.approx(expected.tolist(), nan_ok=True)


def test_the_same_seed_gives_the_same_interval():
    values = torch.arange(30.0)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("value", [0, -0.2, math.nan, math.inf, True])
def test_arguments_that_cannot_be_meant_are_refused(value):
    points = torch.rand(3, 21, 2)
    for use in (
        lambda: pck(points, points, value),
        lambda: pck(points, points, normalizer="image", image_size=value),
        lambda: auc(points, points, value),
    ):
        with pytest.raises(ValueError, match="must be a positive number"):
            use()


def test_levels_and_visibility_are_checked():
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap_interval(torch.rand(9), level=95)
    with pytest.raises(ValueError, match="visible must be true or false"):
        epe(torch.rand(1, 2, 2), torch.rand(1, 2, 2), visible=torch.tensor([[0.5, 1.0]]))


def textbook_swaps(pred, target, visible):
    """swapped, one keypoint at a time, by the names of the joints."""
    result = []
    for n in range(len(target)):
        row = [NAN]  # the wrist
        for k in range(1, 21):
            joint = (k - 1) % 4
            others = [o for o in range(1 + joint, 21, 4) if o != k and visible[n][o]]
            own = math.dist(pred[n][k].tolist(), target[n][k].tolist())
            nearer = any(math.dist(pred[n][k].tolist(), target[n][o].tolist()) < own for o in others)
            row.append(float(nearer) if visible[n][k] else NAN)
        result.append(row)
    return result


@pytest.fixture
def whole_hands():
    """Thirty hands of 21 keypoints, some of which are not visible, with errors as large as fingers lie apart."""
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(30, 21, 2, generator=generator, dtype=torch.float64) * 60 + 40
    pred = target + 15 * torch.randn(30, 21, 2, generator=generator, dtype=torch.float64)
    return pred, target, torch.rand(30, 21, generator=generator) > 0.3


def test_swaps_equal_the_textbook_loop(whole_hands):
    expected = textbook_swaps(*whole_hands)
    found = swapped(*whole_hands)
    assert np.array_equal(found.numpy(), np.array(expected), equal_nan=True)
    assert 0.1 < found.nanmean() < 0.9
    rate = swap_rate(*whole_hands)
    assert rate.shape == (21,) and rate[0].isnan()
    assert rate[1:].tolist() == pytest.approx(np.nanmean(np.array(expected)[:, 1:], axis=0).tolist())


def test_two_exchanged_fingers_are_eight_swaps_and_the_truth_is_none(whole_hands):
    _, target, _ = whole_hands
    assert swap_rate(target, target).nansum() == 0
    pred = target.clone()
    pred[:, 5:9], pred[:, 9:13] = target[:, 9:13], target[:, 5:9]
    assert swapped(pred, target)[:, 5:13].eq(1).all() and swapped(pred, target)[:, 13:].eq(0).all()


def test_a_joint_that_is_not_visible_is_neither_counted_nor_compared_with(whole_hands):
    _, target, _ = whole_hands
    pred, visible = target.clone(), torch.ones(30, 21, dtype=torch.bool)
    pred[:, 8] = target[:, 12]  # the tip of the index lies on that of the middle finger, which nobody knows
    target = target.clone()
    visible[:, 12] = False
    target[:, 12] = NAN
    found = swapped(pred, target, visible)
    assert found[:, 12].isnan().all()
    others = (pred[:, 8, None] - target[:, [4, 16, 20]]).norm(dim=-1).amin(1)
    assert found[:, 8].tolist() == (others < (pred - target)[:, 8].norm(dim=-1)).double().tolist()


def test_no_answer_and_the_middle_between_two_fingers_are_no_swaps():
    target = torch.zeros(1, 21, 2)
    target[0, [4, 8, 12, 16, 20], 0] = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0])
    for place in (15.0, NAN, math.inf):
        pred = target.clone()
        pred[0, 8, 0] = place
        assert swapped(pred, target)[0, 8] == 0


def test_swaps_need_21_keypoints(hands):
    with pytest.raises(ValueError, match="21 keypoints per hand are needed, not 5"):
        swap_rate(*hands)


def test_visibility_may_be_ones_and_zeros():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 4, 21, 2, generator=generator) * 200
    visible = torch.rand(4, 21, generator=generator) > 0.4
    assert torch.equal(epe(pred, target, visible.int()), epe(pred, target, visible))
    assert torch.equal(epe(pred, target, visible.float()), epe(pred, target, visible))
