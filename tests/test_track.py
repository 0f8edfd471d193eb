"""A tracker with a scripted predictor, with one that sees coloured dots, and with the bundled weights on a film."""

import numpy as np
import pytest
import torch
from dots import dot_predictor, draw_dots, film_of_dots, hand_of_dots

from handpose_lib.predict import HandPosePredictor
from handpose_lib.smoothing import OneEuro
from handpose_lib.synthhand.clip import _smoothed, render_clip
from handpose_lib.track import SEARCH_EVERY, HandsTracker, HandTracker, hand_length, painted_over

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
    second = tracker(BLACK)
    assert not second.searched and torch.equal(predictor.around, HAND)
    tracker(BLACK)
    assert torch.equal(predictor.around, HAND)
    assert predictor.asked == ["search", "follow", "follow"]


def test_the_next_look_is_moved_on_as_the_hand_moved_and_time_went_on():
    predictor = Scripted()
    tracker = HandTracker(predictor)
    tracker(BLACK, 0.0)
    predictor.place = torch.tensor([5.0, -2.0])
    tracker(BLACK, 0.1)
    assert torch.equal(predictor.around, HAND)  # after a search nothing is known of its motion
    tracker(BLACK, 0.15)  # half as long after
    assert torch.allclose(predictor.around, HAND + 1.5 * predictor.place)
    tracker(BLACK, 0.2)  # it stood still since
    assert torch.allclose(predictor.around, HAND + predictor.place)


def test_a_look_is_never_moved_on_by_more_than_half_a_hand():
    predictor = Scripted()
    tracker = HandTracker(predictor)
    tracker(BLACK, 0.0)
    predictor.place = torch.tensor([0.0, 10.0])
    tracker(BLACK, 0.1)
    tracker(BLACK, 60.0)  # a minute without a frame
    way = (predictor.around - HAND - predictor.place).mean(0)
    assert way.tolist() == pytest.approx([0.0, 0.5 * hand_length(HAND)], abs=1e-4)


def test_the_next_look_follows_the_answers_and_not_the_filtered_ones():
    predictor = Scripted()
    tracker = HandTracker(predictor, smoothing=OneEuro())
    tracker(BLACK)
    predictor.place = torch.tensor([15.0, 0.0])
    second = tracker(BLACK)
    tracker(BLACK)
    assert torch.allclose(predictor.around, HAND + 2 * predictor.place)
    assert not torch.allclose(second.keypoints, HAND + predictor.place)  # which trails behind


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


def test_each_hand_has_a_filter_of_its_own():
    places = [torch.tensor([0.0, 0.0]), torch.tensor([120.0, 0.0])]

    class Two(Scripted):
        def search(self, picture, box=None):
            return HAND + torch.tensor(box[:2]), torch.full((21,), 0.9)

        def follow(self, picture, keypoints):
            near = min(places, key=lambda place: float((keypoints - HAND - place).norm()))
            return HAND + near, torch.full((21,), 0.9)

    tracker = HandsTracker(Two(), 2, smoothing=OneEuro())
    tracker(BLACK, 0.0, [[0.0, 0.0, 40.0, 40.0], [120.0, 0.0, 160.0, 40.0]])
    for hand, place in zip(tracker(BLACK, 0.1), places, strict=True):
        assert torch.allclose(hand.keypoints, HAND + place), "a hand that rests is where it was"


def test_painting_over_leaves_the_frame_itself_alone():
    frame = with_spots((60, 100, 250))
    covered = painted_over(frame, [HAND - HAND.mean(0) + torch.tensor([60.0, 100.0])])
    assert frame[100, 60, 0] == 250 and covered[100, 60, 0] == 0


# --- films ------------------------------------------------------------------------------------------------------------


def test_a_film_is_the_same_every_time_and_its_keypoints_are_on_it_and_move_smoothly():
    film = list(render_clip(frames=24, seed=2, size=160))
    again = next(render_clip(frames=24, seed=2, size=160))
    assert np.array_equal(again.image, film[0].image) and np.array_equal(again.keypoints, film[0].keypoints)
    keypoints = np.array([frame.keypoints for frame in film])
    assert keypoints.min() >= 0 and keypoints.max() <= 159
    steps = np.linalg.norm(np.diff(keypoints, axis=0), axis=-1)
    assert 0.1 < steps.mean() < 5 and steps.max() < 15
    assert np.abs(np.diff(steps, axis=0)).max() < 3  # no jerks
    assert not np.array_equal(film[0].image, film[1].image)


@pytest.mark.parametrize("given", [
    {"frames": 0}, {"frames": 2.5}, {"size": 100.5}, {"seed": -1}, {"fps": float("inf")}, {"fps": 0}, {"share": 0.7},
])  # fmt: skip
def test_a_film_that_can_not_be_meant_is_refused_at_once(given: dict):
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=f"{name} {value}"):
        render_clip(**given)


def test_a_film_without_a_path_is_given_up(monkeypatch):
    monkeypatch.setattr("handpose_lib.synthhand.clip.TRIES", 2)
    monkeypatch.setattr("handpose_lib.synthhand.clip._path", lambda *given: None)
    with pytest.raises(ValueError, match=r"no path was found in 2 attempts .*: try a smaller share, or fewer frames"):
        next(render_clip(frames=2, share=0.6))


def test_a_films_motion_is_smoothed_over_seconds_and_not_over_frames():
    """Six times as many frames a second show the same motion, from one pose to the next."""
    slow, fast = (list(render_clip(n, seed=3, size=96, fps=fps)) for n, fps in ((7, 5.0), (37, 30.0)))
    apart = [np.abs(a.keypoints - b.keypoints).max() for a, b in zip(slow, fast[::6], strict=True)]
    assert max(apart) < 0.8
    rows = np.arange(12.0).reshape(4, 3) ** 2
    assert np.allclose(_smoothed(rows, 0.05), rows)
    assert np.allclose(_smoothed(np.ones((5, 2)), 2.0), 1)


def test_following_a_hand_is_as_exact_as_searching_for_it_in_every_frame():
    frames, truth = film_of_dots(20)
    predictor, truth = dot_predictor(), torch.from_numpy(truth)
    fresh, _ = predictor(frames)
    hands = list(predictor.track(frames))
    assert [hand.searched for hand in hands] == [True] + [False] * (len(frames) - 1)
    followed = torch.stack([hand.keypoints for hand in hands])
    error = (followed - truth).norm(dim=-1).mean()
    assert error < 0.3 and error < 1.2 * (fresh - truth).norm(dim=-1).mean()


def test_a_hand_that_leaves_the_film_is_gone_and_one_that_comes_elsewhere_is_found():
    hand = hand_of_dots((70, 120), 80)
    away = hand_of_dots((240, 100), 80, degrees=150)
    tracker = HandTracker(dot_predictor())
    pictures = [draw_dots(hands, (240, 320)) for hands in ([hand], [hand], [], [], [away], [away])]
    found = [tracker(picture).keypoints for picture in pictures]
    assert [keypoints is None for keypoints in found] == [False, False, True, True, False, False]
    assert (found[5] - torch.from_numpy(away)).norm(dim=-1).max() < 2


def test_two_hands_of_a_film_keep_their_places():
    def places(t: int) -> list[np.ndarray]:
        return [hand_of_dots((80 + t, 120), 90, 10 * t), hand_of_dots((235, 110 + t), 80, -8 * t)]

    tracker = HandsTracker(dot_predictor(turned=False), max_hands=2)
    boxes = [(*hand.min(0), *hand.max(0)) for hand in places(0)]
    for t in range(6):
        first, second = tracker(draw_dots(places(t), (240, 320)), boxes=boxes if t == 0 else None)
        for found, truth in zip((first, second), places(t), strict=True):
            assert (found.keypoints - torch.from_numpy(truth)).norm(dim=-1).mean() < 1


def test_the_bundled_weights_follow_a_rendered_hand():
    film = list(render_clip(frames=6, seed=2, size=224))
    predictor = HandPosePredictor.from_pretrained(mirrored=False)
    hands = list(predictor.track((frame.image, frame.time) for frame in film))
    assert [hand.searched for hand in hands] == [True] + [False] * 5
    errors = [
        (hand.keypoints - torch.from_numpy(f.keypoints)).norm(dim=-1).mean()
        for hand, f in zip(hands, film, strict=True)
    ]
    assert max(errors) < 20
