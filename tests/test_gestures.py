"""Gestures are what their names say, and what is held, crosses or fades does so where it should."""

import itertools
import json

import numpy as np
import pytest
from test_synthhand import moller_trumbore

from handpose_lib.keypoints import BONES
from handpose_lib.synthhand import picture, scene
from handpose_lib.synthhand.asset import load_asset, unit
from handpose_lib.synthhand.dataset import render_hand
from handpose_lib.synthhand.gestures import GESTURES, Contact, sample_gesture
from handpose_lib.synthhand.hand import Pose, pose_hand
from handpose_lib.synthhand.held import GRASPED, any_color, grasped_object
from handpose_lib.synthhand.pose import FLESH, bone_radii, capsules_of, overlaps, sample_pose, untangle
from handpose_lib.synthhand.scene import PROP, hand_segments, own_segments, sample_scene

SEEDS = 4


def keypoints_of(name: str) -> list[np.ndarray]:
    """The gesture by four random people; what could not be made is left out."""
    asset, found = load_asset(), []
    for seed in range(SEEDS):
        rng = np.random.default_rng([5, seed])
        shape = np.clip(rng.normal(0, 0.8, 12), -1.6, 1.6)
        pose = sample_gesture(rng, asset, shape, name)
        if pose is not None:
            found.append(pose_hand(asset, shape, pose).keypoints)
    return found


def straightness(points: np.ndarray, finger: int) -> float:
    """Distance from knuckle to tip over the way along the bones: 1 for a straight finger."""
    joints = points[[4 * finger + k for k in range(1, 5)]]
    return np.linalg.norm(joints[3] - joints[0]) / np.linalg.norm(np.diff(joints, axis=0), axis=1).sum()


def beyond_the_knuckles(points: np.ndarray, finger: int) -> float:
    """How far a tip lies beyond its knuckle, away from the wrist, as a share of the finger's length."""
    joints = points[[4 * finger + k for k in range(1, 5)]]
    along = unit(points[9] - points[0])
    return (joints[3] - joints[0]) @ along / np.linalg.norm(np.diff(joints, axis=0), axis=1).sum()


@pytest.mark.parametrize("name", GESTURES)
def test_fingers_of_a_gesture_are_straight_or_closed_as_it_says(name):
    hands = keypoints_of(name)
    assert len(hands) >= SEEDS - 1
    asset = load_asset()
    for points in hands:
        assert overlaps(capsules_of(points, asset.palm_normal, bone_radii())).max() <= FLESH
        for finger, state in enumerate(GESTURES[name].fingers, start=1):
            touched = GESTURES[name].thumb
            if isinstance(touched, Contact) and touched.finger_moves and touched.finger == finger:
                continue
            if state == "s":
                assert straightness(points, finger) > 0.95 and beyond_the_knuckles(points, finger) > 0.7
            elif state == "c":
                assert beyond_the_knuckles(points, finger) < 0.2


@pytest.mark.parametrize(
    "name", [n for n, g in GESTURES.items() if isinstance(g.thumb, Contact) and g.thumb.place in ("pad", "tip")]
)
def test_tips_of_a_ring_meet(name):
    # Where all fingers form one opening, the thumb may come to lie on a neighbour.
    fingers = (1, 2, 3, 4) if name == "zero" else (GESTURES[name].thumb.finger,)
    apart = [min(np.linalg.norm(points[4] - points[4 * f + 4]) for f in fingers) for points in keypoints_of(name)]
    assert np.median(apart) < 0.016 and max(apart) < 0.028  # m; pads meet behind the tips


def test_a_thumb_up_stands_out_of_the_fist():
    for points in keypoints_of("thumb_up"):
        across = unit(points[5] - points[17])
        assert (points[4] - points[5]) @ across > 0.025, "the tip is not above the index finger's knuckle"
        assert np.linalg.norm(points[[8, 12, 16, 20]] - points[4], axis=1).min() > 0.045
        assert straightness(points, 0) > 0.9


@pytest.mark.parametrize("name", ["fist_thumb_across", "fist_thumb_on_index", "fist_thumb_beside", "fist_thumb_tucked"])
def test_a_fist_keeps_its_thumb_at_the_fingers(name):
    for points in keypoints_of(name):
        middles = np.vstack([points[[6, 10, 14, 18]], (points[[6, 10, 14, 18]] + points[[7, 11, 15, 19]]) / 2])
        assert np.linalg.norm(middles - points[4], axis=1).min() < 0.033


def test_spread_fingers_are_apart_and_flat_ones_together():
    def gap(points):
        return np.linalg.norm(np.diff(points[[8, 12, 16, 20]], axis=0), axis=1).mean()

    for spread, together in zip(keypoints_of("five"), keypoints_of("flat"), strict=True):  # of the same four people
        assert gap(spread) > gap(together) + 0.004


def test_abduction_moves_a_finger_towards_the_thumb():
    asset = load_asset()
    flat, moved = (Pose(np.full((4, 4), [0, 0, 0, a]), np.zeros(5), np.zeros(3), np.zeros(2)) for a in (0, 10))
    before, after = (pose_hand(asset, np.zeros(12), pose).keypoints for pose in (flat, moved))
    assert ((after - before)[[8, 12, 16, 20]] @ unit(before[5] - before[17]) > 0.005).all()


def test_digits_take_all_combinations_with_the_thumb_in_and_out():
    asset, seen = load_asset(), set()
    for i in range(700):
        pose = sample_pose(np.random.default_rng([3, i]), "digits")
        bent = pose.fingers[:, :2].sum(1)
        if ((bent < 40) | (bent > 140)).all():
            pose = untangle(asset, np.zeros(12), pose)
            out = pose is not None and pose.thumb[0] < -7
            seen.add((*(bent > 90).tolist(), out))
    assert len(seen) == len(list(itertools.product((0, 1), repeat=5)))


def test_half_of_the_fists_have_a_free_thumb():
    free = [sample_pose(np.random.default_rng([4, i]), "fist").thumb[0] < -5 for i in range(200)]
    assert 0.35 < np.mean(free) < 0.6


# --- what is held, what crosses, what fades --------------------------------------------------------------------------


def test_occlusion_by_crossing_things_agrees_with_an_independent_ray_cast(monkeypatch):
    monkeypatch.setattr(scene, "CROSSED", 1.0)
    monkeypatch.setattr(scene, "HOLDING", 0.0)
    agree, hidden = [], []
    for i in range(12):
        s = sample_scene(np.random.default_rng([8, i]))
        if not any(not prop.worn for prop in s.props):
            continue
        rays = np.column_stack([s.uv, np.ones(21)]) @ np.linalg.inv(s.K).T
        distance = moller_trumbore(rays, *(s.vertices[s.faces[:, k]] for k in range(3)))
        front = np.where(np.isfinite(distance.min(1)), s.face_segment[distance.argmin(1)], -1)
        agree += [(front[k] not in own) == s.occluded[k] for k, own in enumerate(own_segments())]
        hidden.append((front == PROP).sum())
    assert np.mean(agree) > 0.98
    assert len(hidden) >= 9 and np.median(hidden) >= 1 and max(hidden) <= scene.MOST_CROSSED + 3  # sleeves count, too


def test_held_things_have_any_colour():
    colors = np.array([any_color(np.random.default_rng(i)) for i in range(300)])
    assert colors.min() > 0 and colors.max() < 1
    saturation = 1 - colors.min(1) / colors.max(1)
    assert np.mean(saturation > 0.7) > 0.25 and np.mean(saturation < 0.4) > 0.1
    for channel in range(3):
        assert np.mean(colors.argmax(1) == channel) > 0.2
    kinds = {
        len(grasped_object(np.random.default_rng(i), load_asset(), load_asset().heads)[0].vertices) for i in range(60)
    }
    assert len(kinds) >= 3 and len(GRASPED) == 7


def test_the_forearm_fades_in_pasted_versions_alone(monkeypatch):
    faded, real = [], picture._faded
    monkeypatch.setattr(picture, "FADING", 1.0)
    monkeypatch.setattr(picture, "_faded", lambda rng, layer, alpha: faded.append(real(rng, layer, alpha)) or faded[-1])
    render_hand(1, seed=2, image_size=96, versions=["gs"])
    render_hand(1, seed=2, image_size=96, split="evaluation")
    assert not faded
    shares = []
    for index in range(6):
        faded.clear()
        hand = render_hand(index, seed=2, image_size=96, versions=["gs", "hom", "sample", "auto"])
        assert len(faded) == 3
        columns, rows = np.round(hand.scene.uv).astype(int).T
        for alpha in faded:
            covered = hand.mask[rows[1:], columns[1:]] / 255
            assert (alpha[rows[1:], columns[1:]] > 0.9 * covered - 0.01).all(), "the hand itself stays"
            shares.append(alpha.sum() / (hand.mask / 255).sum())
    assert np.median(shares) < 0.9  # where the arm is in the picture, much of it goes


def test_a_faded_arm_ends_within_the_picture():
    s = sample_scene(np.random.default_rng(3), 96)
    layer = picture.Layer(
        rows=np.arange(96), columns=np.zeros(96, int), color=np.zeros((96, 3), np.float32),
        arm=np.linspace(-0.1, 0.3, 96).astype(np.float32), alpha=np.ones((96, 96), np.float32), light=None,
    )  # fmt: skip
    assert s.size == 96
    for seed in range(20):
        alpha = picture._faded(np.random.default_rng(seed), layer, layer.alpha)[:, 0]
        assert (alpha[layer.arm < -0.006] == 1).all() and (alpha[layer.arm > 0.161] == 0).all()
        assert (np.diff(alpha) <= 1e-6).all()
    assert (layer.alpha == 1).all(), "the layer serves all versions"


def test_parts_that_are_left_out_stay_away(monkeypatch):
    monkeypatch.setattr(scene, "CROSSED", 1.0)
    forearm = hand_segments(load_asset()) == scene.FOREARM_SEGMENT
    s = sample_scene(np.random.default_rng(2), forearm=False)
    assert forearm.any() and not (s.face_segment == scene.FOREARM_SEGMENT).any()
    assert not any(prop.worn for prop in s.props)
    assert len(s.vertices) == s.hand_vertices + sum(len(prop.vertices) for prop in s.props)


# --- the joints ------------------------------------------------------------------------------------------------------


def in_palm_frame(points: np.ndarray) -> np.ndarray:
    """Keypoints (21, 3) seen from the palm, in mm of a hand whose bone 9-10 has 32 mm."""
    along, across = unit(points[9] - points[0]), points[5] - points[17]
    across = unit(across - (across @ along) * along)
    frame = np.stack([across, along, np.cross(across, along)])
    return (points - points[0]) @ frame.T / np.linalg.norm(points[10] - points[9]) * 32


def test_joints_lie_where_freihands_do(real_root):
    labels = json.loads((real_root / "training_xyz.json").read_text())
    real = np.array([in_palm_frame(np.array(labels[i])) for i in (0, 1, 3, 4)])
    asset, ours = load_asset(), []
    for i in range(40):
        rng = np.random.default_rng([6, i])
        shape = np.clip(rng.normal(0, 0.8, 12), -1.6, 1.6)
        ours.append(in_palm_frame(pose_hand(asset, shape, sample_pose(rng)).keypoints))
    ours = np.array(ours)
    roots = [1, 5, 9, 13, 17]
    assert np.linalg.norm((ours.mean(0) - real.mean(0))[roots], axis=1).max() < 3
    for a, b in BONES:
        ours_long, theirs_long = (np.linalg.norm(hands[:, b] - hands[:, a], axis=1).mean() for hands in (ours, real))
        assert abs(ours_long - theirs_long) < (5 if b == 2 else 3), f"bone {a}-{b}"
