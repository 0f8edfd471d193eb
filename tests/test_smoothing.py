"""The One-Euro filter against the paper's algorithm in plain Python, and the two numbers that judge it."""

import json
import math
from pathlib import Path

import pytest
import torch

from handpose_lib.smoothing import OneEuro, jitter, lag

TIMES = torch.arange(90) / 30


def in_plain_python(values: list[float], times: list[float], mincutoff: float, beta: float, dcutoff: float):
    """The paper's appendix for one number, with the speed taken as its absolute value."""

    def alpha(cutoff, te):
        return 1 / (1 + 1 / (2 * math.pi * cutoff) / te)

    x, dx, out = values[0], 0.0, [values[0]]
    for value, now, before in zip(values[1:], times[1:], times, strict=False):
        te = now - before
        dx = alpha(dcutoff, te) * abs(value - x) / te + (1 - alpha(dcutoff, te)) * dx
        a = alpha(mincutoff + beta * dx, te)
        x = a * value + (1 - a) * x
        out.append(x)
    return out


def test_it_does_what_the_paper_says():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(40, generator=generator).cumsum(0)
    times = (torch.rand(40, generator=generator) / 20 + 0.01).cumsum(0)
    smooth = OneEuro(1.3, 0.7, 0.9)
    found = [smooth(torch.tensor([[v, 5.0]]), t, 1.0)[0] for v, t in zip(values.tolist(), times.tolist(), strict=True)]
    expected = in_plain_python(values.tolist(), times.tolist(), 1.3, 0.7, 0.9)
    assert torch.allclose(torch.stack(found)[:, 0], torch.tensor(expected), atol=1e-4)
    assert all(float(each[1]) == 5.0 for each in found)


def filtered(points: torch.Tensor, length: float = 100.0) -> torch.Tensor:
    smooth = OneEuro()
    return torch.stack([smooth(each, float(t), length) for each, t in zip(points, TIMES, strict=True)])


def test_a_trembling_hand_at_rest_is_steadied():
    still = torch.full((90, 21, 2), 50.0)
    seen = still + torch.randn(still.shape, generator=torch.Generator().manual_seed(1))
    assert jitter(filtered(seen), still) < 0.4 * jitter(seen, still)


def test_a_fast_hand_is_followed_more_closely_than_a_slow_one_in_time():
    def trail(speed: float) -> float:  # hand lengths per second
        truth = torch.zeros(90, 21, 2)
        truth[..., 0] = 100 * speed * TIMES[:, None]
        return lag(filtered(truth), truth, TIMES)

    assert 0 < trail(3.0) < 0.6 * trail(0.1)


def test_the_size_of_the_hand_in_the_picture_changes_nothing():
    points = torch.randn(90, 21, 2, generator=torch.Generator().manual_seed(2)).cumsum(0)
    assert torch.allclose(filtered(4 * points, 400.0), 4 * filtered(points, 100.0), atol=1e-3)


def test_jitter_and_lag_of_known_answers():
    truth = torch.zeros(90, 1, 2)
    truth[:, 0, 0] = 20 * torch.sin(3 * TIMES)
    assert jitter(truth + 7, truth) < 1e-5
    assert jitter(truth + TIMES[:, None, None], truth) < 1e-5  # an error that grows evenly
    swinging = truth.clone()
    swinging[::2, 0, 1] += 2
    assert jitter(swinging, truth) == pytest.approx(2)
    late, early = truth.roll(3, 0), truth.roll(-3, 0)
    assert lag(late[3:], truth[3:], TIMES[3:]) == pytest.approx(0.1, abs=0.005)
    assert lag(early[:-3], truth[:-3], TIMES[:-3]) == pytest.approx(-0.1, abs=0.005)
    assert abs(lag(truth, truth, TIMES)) < 1e-6


def test_what_makes_no_sense_is_refused():
    for arguments in ((0, 1, 1), (1, -1, 1), (1, 1, 0), (math.inf, 1, 1), (1, math.inf, 1)):
        with pytest.raises(ValueError, match="cutoffs must be above 0"):
            OneEuro(*arguments)
    smooth = OneEuro()
    smooth(torch.zeros(21, 2), 1.0, 10.0)
    with pytest.raises(ValueError, match="order of time"):
        smooth(torch.zeros(21, 2), 1.0, 10.0)
    smooth.reset()
    smooth(torch.ones(21, 2), 0.5, 10.0)


def test_the_filter_takes_half_of_the_jitter_out_of_the_recorded_films():
    films = json.loads((Path(__file__).parent.parent / "figures" / "tracking.json").read_text())["films"]
    for film in films:
        assert film["jitter_filtered_px"] <= 0.5 * film["jitter_px"] and 0 < film["lag_filtered_ms"] < 60
        assert film["error_px"] < 1.02 * film["error_afresh_unmirrored_px"]  # both look at no mirror image at the end
