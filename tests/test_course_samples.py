from pathlib import Path

import pytest
import torch

from handpose_lib.course.samples import load_hands
from handpose_lib.framing import on_image
from handpose_lib.freihand import FreiHAND


def test_rows_come_in_the_order_asked_for_with_keypoints_in_the_small_pixels(tiny_root: Path):
    hands = FreiHAND(tiny_root, "train", versions="gs")
    images, keypoints = load_hands(hands, [3, 1], size=56)
    assert images.shape == (2, 3, 56, 56) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    wanted = (torch.as_tensor(hands.keypoints)[[3, 1]] + 0.5) / 4 - 0.5  # the half-pixel rule, 224 -> 56
    assert torch.allclose(keypoints, wanted, atol=1e-4)


def test_the_keypoints_sit_on_the_squares_that_the_images_show(tiny_root: Path):
    hands = FreiHAND(tiny_root, "train", versions="gs")
    images, keypoints = load_hands(hands, [0], size=112)
    assert on_image(keypoints, (112, 112)).all()
    x, y = keypoints[0].round().long().T
    marked = images[0, :, y, x].amin(0)  # white squares on a coloured ground
    assert marked.min() > 0.8 > images[0].amin(0).median()


def test_what_cannot_be_loaded_is_a_clear_error(tiny_root: Path):
    hands = FreiHAND(tiny_root, "train", versions="gs")
    with pytest.raises(ValueError, match="not 0 rows at 32 px"):
        load_hands(hands, [], size=32)
    with pytest.raises(ValueError, match="not 1 rows at 0 px"):
        load_hands(hands, [0], size=0)
    with pytest.raises(ValueError, match="no keypoints for its evaluation rows"):
        load_hands(FreiHAND(tiny_root, "evaluation"), [0], size=32)
    with pytest.raises(IndexError):
        load_hands(hands, [len(hands)], size=32)
