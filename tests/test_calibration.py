"""What a confidence means, and that it is fitted as it should be."""

import math

import pytest
import torch

from handpose_lib.calibration import calibrated, fit_calibration, reliability


def drawn(weights, hands=4000, seed=0):
    """Peaks of many hands, and which keypoints were right where the chance is the one that the weights say."""
    generator = torch.Generator().manual_seed(seed)
    hand = torch.rand(hands, 1, generator=generator)
    peaks = (hand + 0.4 * torch.rand(hands, 21, generator=generator) - 0.2).clamp(0, 1)
    chance = calibrated(peaks, weights)
    return peaks, torch.rand(chance.shape, generator=generator) < chance


def test_without_weights_the_peaks_are_the_confidence():
    assert calibrated(torch.tensor([[-0.5, 0.25, 1.5]]), ()).tolist() == [[0, 0.25, 1]]


def test_the_formula_is_a_logistic_function_of_both_heights():
    peaks = torch.tensor([[0.2, 0.6]])
    expected = [1 / (1 + math.exp(-(-1 + 2 * own + 3 * 0.4))) for own in (0.2, 0.6)]
    assert calibrated(peaks, (-1.0, 2.0, 3.0))[0].tolist() == pytest.approx(expected)


def test_the_fit_finds_the_weights_that_the_truth_was_drawn_with():
    weights = (-3.0, 4.0, 2.0)
    found = fit_calibration(*drawn(weights))
    assert found == pytest.approx(weights, abs=0.25)


def test_a_fitted_confidence_is_the_share_that_is_right_on_other_hands():
    weights = fit_calibration(*drawn((-3.0, 4.0, 2.0)))
    peaks, right = drawn((-3.0, 4.0, 2.0), seed=1)
    stated, seen, count = reliability(calibrated(peaks, weights), right)
    assert int(count.sum()) == right.numel()
    assert (stated - seen)[count > 500].abs().max() < 0.04
    raw_stated, raw_seen, _ = reliability(peaks, right)
    assert (raw_stated - raw_seen).abs().nanmean() > 0.03  # the heights themselves are no such share


def test_ranges_without_answers_are_nan_and_1_belongs_to_the_last():
    stated, seen, count = reliability(torch.tensor([0.05, 0.05, 1.0]), torch.tensor([True, False, True]))
    assert count.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert stated[0] == pytest.approx(0.05) and seen[0] == 0.5 and stated[9] == 1 and seen[9] == 1
    assert stated[1:9].isnan().all() and seen[1:9].isnan().all()


@pytest.mark.parametrize("right", [torch.ones(5, 21, dtype=torch.bool), torch.zeros(5, 21, dtype=torch.bool)])
def test_there_is_nothing_to_fit_where_all_are_right_or_wrong(right):
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_calibration(torch.rand(5, 21), right)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must both be"):
        fit_calibration(torch.rand(5, 21), torch.ones(5, 20, dtype=torch.bool))
    with pytest.raises(ValueError, match="one shape"):
        reliability(torch.rand(5), torch.ones(4, dtype=torch.bool))
