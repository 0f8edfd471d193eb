"""The order of the 21 keypoints, and what follows from it."""

import math

import pytest
import torch

from handpose_lib.keypoints import (
    BONES,
    FINGER_COLOURS,
    FINGERS,
    GROUPS,
    KEYPOINT_NAMES,
    hand_direction,
    with_gaps_filled,
)


def test_the_names_say_finger_and_joint_in_freihands_order():
    assert KEYPOINT_NAMES[0] == "wrist" and len(set(KEYPOINT_NAMES)) == 21
    for finger, joints in FINGERS.items():
        assert [KEYPOINT_NAMES[joint].split("_")[0] for joint in joints] == [finger] * 4
        assert KEYPOINT_NAMES[joints[3]].endswith("_tip")
    assert sorted(joint for joints in FINGERS.values() for joint in joints) == list(range(1, 21))


def test_the_bones_are_a_tree_from_the_wrist_along_each_finger():
    expected = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10), (10, 11), (11, 12)]
    assert list(BONES) == [*expected, *((0, 13), (13, 14), (14, 15), (15, 16), (0, 17), (17, 18), (18, 19), (19, 20))]


def test_the_groups_are_the_wrist_the_first_the_middle_and_the_last_joints():
    assert GROUPS == {
        "wrist": (0,),
        "palm": (1, 5, 9, 13, 17),
        "finger joints": (2, 3, 6, 7, 10, 11, 14, 15, 18, 19),
        "fingertips": (4, 8, 12, 16, 20),
    }


def test_each_finger_has_a_colour_of_its_own():
    assert list(FINGER_COLOURS) == list(FINGERS) and len(set(FINGER_COLOURS.values())) == 5


def test_a_hand_points_from_its_wrist_to_the_middle_of_its_four_knuckles():
    hand = torch.full((3, 21, 2), math.nan)  # the thumb and the other joints don't matter
    hand[:, 0] = torch.tensor([10.0, 20.0])
    hand[:, [5, 9, 13, 17]] = torch.tensor([[11.0, 22.0], [13.0, 22.0], [15.0, 26.0], [17.0, 30.0]])
    assert torch.equal(hand_direction(hand), torch.tensor([[4.0, 5.0]] * 3))


@pytest.mark.parametrize("half_known", [False, True])
def test_a_keypoint_that_is_not_known_is_put_amid_the_others(half_known):
    hand = torch.arange(42.0).view(1, 21, 2)
    gap = hand.clone()
    gap[0, 3, 1] = math.nan
    if not half_known:
        gap[0, 3, 0] = math.nan
    filled = with_gaps_filled(gap)
    assert torch.equal(filled[0, [0, 1, 2, 4, 20]], hand[0, [0, 1, 2, 4, 20]])
    known = torch.cat((hand[0, :3], hand[0, 4:]))
    expected = hand[0, :, 0].mean() if half_known else known[:, 0].mean()
    assert torch.allclose(filled[0, 3], torch.stack((expected, known[:, 1].mean())))
