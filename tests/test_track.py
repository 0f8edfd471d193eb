"""A tracker with a scripted predictor, and with the bundled weights on a rendered film."""

import numpy as np
import pytest
import torch

from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro, jitter, lag
from handpose_lib.synthhand.clip import render_clip
from handpose_lib.track import SEARCH_EVERY, HandsTracker, HandTracker, painted_over

HAND = torch.rand(21, 2, generator=torch.Generator().manual_seed(0)) * 40
BLACK = np.zeros((200, 200, 3), np.uint8)


class Scripted:
    """A predictor that sees a hand at a place with a confidence, both set by the test, and notes what it was asked."""

    def __init__(self):
        self.place, self.sure, self.asked = torch.zeros(2), 0.9, []

    def search(self, picture, box=None):
        self.asked.append("search" if box is None else tuple(box))
        return HAND + self.place, torch.full((21,), self.sure)

    def follow(self, picture, keypoints):
        self.asked.append("follow")
        self.around = keypoints
        return HAND + self.place, torch.full((21,), self.sure)


def test_the_first_frame_is_searched_and_the_next_ones_are_followed_around_the_last_answer():
    predictor = Scripted()
    tracker = HandTracker(predictor)
    assert tracker(BLACK).searched
    predictor.place = torch.tensor([5.0, 0.0])
    second = tracker(BLACK)
    assert not second.searched and torch.equal(predictor.around, HAND)
    tracker(BLACK)
    assert torch.equal(predictor.around, HAND + predictor.place)
    assert predictor.asked == ["search", "follow", "follow"]


def test_a_hand_that_is_lost_is_searched_in_the_same_frame_and_said_to_be_gone():
    predictor = Scripted()
    tracker = HandTracker(predictor, threshold=0.5, smoothing=OneEuro())
    tracker(BLACK)
    predictor.sure = 0.49
    gone = tracker(BLACK)
    assert gone.keypoints is None and gone.searched and float(gone.confidence.mean()) == pytest.approx(0.49)
    tracker(BLACK)
    predictor.sure, predictor.place = 0.51, torch.tensor([90.0, 0.0])
    back = tracker(BLACK)
    assert torch.equal(back.keypoints, HAND + predictor.place)  # the filter has forgotten the place before
    assert predictor.asked == ["search", "follow", "search", "search", "search"]


def test_a_confidence_that_is_no_number_is_no_hand():
    predictor = Scripted()
    predictor.sure = float("nan")
    assert HandTracker(predictor)(BLACK).keypoints is None


def test_a_given_box_is_looked_at_instead_of_the_frame():
    predictor = Scripted()
    tracker = HandTracker(predictor)
    tracker(BLACK)
    assert tracker(BLACK, box=(1, 2, 30, 40)).searched
    assert predictor.asked == ["search", (1, 2, 30, 40)]


def test_times_must_rise_and_frames_without_one_are_a_thirtieth_apart():
    tracker = HandTracker(Scripted())
    assert [tracker(BLACK).time for _ in range(3)] == pytest.approx([0, 1 / 30, 2 / 30])
    with pytest.raises(ValueError, match=r"at 0\.01 s came after one at 0\.0666667 s.*reset"):
        tracker(BLACK, 0.01)
    tracker.reset()
    assert tracker(BLACK, 0.01).searched


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        HandTracker(Scripted(), threshold)


class Spots:
    """A predictor that finds the brightest spot of a picture: a hand is a spot, and its confidence the brightness."""

    def search(self, picture, box=None):
        left, top, right, bottom = (0, 0, *picture.shape[1::-1]) if box is None else map(int, box)
        part = picture[top:bottom, left:right, 0]
        row, column = np.unravel_index(part.argmax(), part.shape)
        return self._answer(column + left, row + top, part.max())

    def follow(self, picture, keypoints):
        self.calls = getattr(self, "calls", 0) + 1
        x, y = keypoints.mean(0).round().int().tolist()
        return self.search(picture, (max(x - 30, 0), max(y - 30, 0), x + 30, y + 30))

    def _answer(self, x, y, bright):
        square = HAND - HAND.mean(0) + torch.tensor([float(x), float(y)])
        return square, torch.full((21,), int(bright) / 255)


def with_spots(*spots: tuple[int, int, int]) -> np.ndarray:
    image = np.zeros((200, 300, 3), np.uint8)
    for x, y, bright in spots:
        image[y, x] = bright
    return image


def middles(hands) -> list:
    return [None if hand is None else tuple(hand.keypoints.mean(0).round().int().tolist()) for hand in hands]


def test_two_hands_are_found_and_keep_their_places_in_the_list():
    tracker = HandsTracker(Spots(), max_hands=2)
    assert middles(tracker(with_spots((60, 100, 250), (220, 90, 200)))) == [(60, 100), (220, 90)]
    # The second is now the brighter one.
    assert middles(tracker(with_spots((65, 100, 200), (215, 95, 250)))) == [(65, 100), (215, 95)]
    assert middles(tracker(with_spots((70, 100, 200)))) == [(70, 100), None]


def test_a_second_hand_that_comes_later_is_found_within_a_few_frames():
    tracker = HandsTracker(Spots(), max_hands=2)
    assert middles(tracker(with_spots((60, 100, 250)))) == [(60, 100), None]
    later = [middles(tracker(with_spots((60, 100, 250), (220, 90, 200)))) for _ in range(SEARCH_EVERY)]
    assert later[0] == [(60, 100), None] and later[-1] == [(60, 100), (220, 90)]


def test_two_trackers_never_follow_one_hand():
    tracker = HandsTracker(Spots(), max_hands=2)
    hands = tracker(with_spots((100, 100, 250)), boxes=[(80, 80, 120, 120), (90, 90, 130, 130)])
    assert middles(hands) == [(100, 100), (100, 100)]  # as asked for
    assert sorted(map(str, middles(tracker(with_spots((100, 100, 250)))))) == ["(100, 100)", "None"]


def test_boxes_say_where_the_hands_are():
    tracker = HandsTracker(Spots(), max_hands=2)
    frame = with_spots((60, 100, 250), (220, 90, 200), (150, 20, 255))
    assert middles(tracker(frame, boxes=[(200, 60, 250, 120), (40, 80, 80, 120)])) == [(220, 90), (60, 100)]
    assert middles(tracker(frame)) == [(220, 90), (60, 100)]
    with pytest.raises(ValueError, match="3 boxes were given for max_hands=2"):
        tracker(frame, boxes=[(0, 0, 5, 5)] * 3)
    with pytest.raises(ValueError, match="max_hands is 0"):
        HandsTracker(Spots(), max_hands=0)


def test_painting_over_leaves_the_frame_itself_alone():
    frame = with_spots((60, 100, 250))
    covered = painted_over(frame, [HAND - HAND.mean(0) + torch.tensor([60.0, 100.0])])
    assert frame[100, 60, 0] == 250 and covered[100, 60, 0] == 0


# --- a rendered film and the bundled weights -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film():
    return list(render_clip(frames=30, seed=2, size=224))


def test_a_film_is_the_same_every_time_and_its_keypoints_are_on_it_and_move_smoothly(film):
    again = next(render_clip(frames=30, seed=2, size=224))
    assert np.array_equal(again.image, film[0].image) and np.array_equal(again.keypoints, film[0].keypoints)
    keypoints = np.array([frame.keypoints for frame in film])
    assert keypoints.min() >= 0 and keypoints.max() <= 223
    steps = np.linalg.norm(np.diff(keypoints, axis=0), axis=-1)
    assert 0.2 < steps.mean() < 6 and steps.max() < 20
    assert np.abs(np.diff(steps, axis=0)).max() < 4  # no jerks
    assert not np.array_equal(film[0].image, film[1].image)
    with pytest.raises(ValueError, match="frames 0"):
        next(render_clip(frames=0))


def test_following_a_hand_is_about_as_exact_as_searching_for_it_in_every_frame(film):
    predictor = HandPosePredictor.from_pretrained()
    truth = torch.from_numpy(np.array([frame.keypoints for frame in film]))
    fresh, _ = predictor([frame.image for frame in film])
    hands = list(predictor.track((frame.image, frame.time) for frame in film))
    assert [hand.searched for hand in hands] == [True] + [False] * (len(film) - 1)
    followed = torch.stack([hand.keypoints for hand in hands])
    error = (followed - truth).norm(dim=-1).mean()
    assert error < 1.15 * (fresh - truth).norm(dim=-1).mean()
    smooth = OneEuro()
    filtered = torch.stack([smooth(hand.keypoints, hand.time, 80.0) for hand in hands])
    assert jitter(filtered, truth) < 0.6 * jitter(followed, truth)
    assert lag(filtered, truth, torch.tensor([frame.time for frame in film])) < 0.09
