"""A rendered film of one hand with known keypoints: for measuring what follows a hand from frame to frame.

The hand goes from one pose to the next, turns, wanders over the picture and comes nearer and farther, all of it
smoothly. Skin, background, lamps and what it wears stay the same, and so does the camera's own pattern of noise, to
which every frame adds some of its own. The exposure follows the hand, as a telephone's does.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..fields import is_number, is_whole
from .asset import HandAsset, load_asset, unit
from .hand import Pose, PosedHand, pose_hand, rotation, shaped
from .picture import compose
from .pose import sample_pose, untangle
from .props import Prop, sleeve
from .render import project_points
from .scene import HAND_SIZE, MARGIN, REFERENCE, make_scene, random_turn
from .shading import render_layer
from .skin import Skin

POSE_SECONDS = 1.2  # from one pose to the next
REST = 0.4  # share of that time in which the fingers rest
SMOOTHING = 1 / 15  # s, standard deviation of the Gaussian that smooths the fingers' motion
TRIES = 100  # hands and paths that are tried before a film is given up
NEAREST_ELBOW = 0.35  # m from the camera
NOISE = 3.0  # grey levels, standard deviation of each frame's own noise


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a rendered film."""

    image: np.ndarray  # (S, S, 3) uint8 RGB
    keypoints: np.ndarray  # (21, 2) float32, px
    time: float  # s from the first frame


def render_clip(
    frames: int = 300,
    seed: int = 0,
    size: int = 320,
    fps: float = 30.0,
    share: float = 0.38,
    skin: Skin | None = None,
) -> Iterator[ClipFrame]:
    """The frames of a film, one after the other; equal arguments give an equal film.

    Args:
        frames: how many.
        seed: of the hand, its path and its surroundings.
        size: side of the square frames, px.
        fps: frames per second; decides how far the hand moves from one to the next.
        share: of the frame that the hand's box fills on average.
        skin: of the hand, such as a `glove`; None: one of its own.

    Raises:
        ValueError: numbers that can't be meant; with the first frame, a share so large that no path was found.
    """
    whole = is_whole(frames) and is_whole(size) and is_whole(seed, 0)
    if not (whole and is_number(fps) and is_number(share) and size >= 32 and fps > 0 and 0.1 <= share <= 0.6):
        raise ValueError(
            f"frames {frames}, size {size}, seed {seed}, fps {fps}, share {share}: they must be whole numbers of at "
            "least 1, 32 and 0, a number above 0, and one from 0.1 to 0.6"
        )
    return _rendered(frames, seed, size, fps, share, skin)


def _rendered(frames: int, seed: int, size: int, fps: float, share: float, skin: Skin | None) -> Iterator[ClipFrame]:
    motion, look, noise = np.random.default_rng([seed, 7]).spawn(3)
    asset, times = load_asset(), np.arange(frames) / fps
    for _ in range(TRIES):
        hands, props = _acted(motion, asset, times, fps)
        places = _path(motion, hands, times, size, share)
        if places is not None:
            break
    else:
        raise ValueError(
            f"no path was found in {TRIES} attempts on which a hand that fills {share} of the frame stays on it for "
            f"{frames} frames: try a smaller share, or fewer frames"
        )
    look_seed = int(look.integers(2**31))
    for time, hand, place in zip(times.tolist(), hands, places, strict=True):
        same = np.random.default_rng(look_seed)  # the same draws in every frame: skin, light and background stay
        scene = make_scene(hand, props, place, size)
        layer = render_layer(same, scene, skin=skin)
        image = compose(np.random.default_rng(look_seed + 1), scene, layer, "evaluation", borders=False)
        noisy = image + NOISE * noise.standard_normal(image.shape, np.float32)
        yield ClipFrame(np.clip(noisy + 0.5, 0, 255).astype(np.uint8), scene.uv.astype(np.float32), time)


def _acted(
    rng: np.random.Generator, asset: HandAsset, times: np.ndarray, fps: float
) -> tuple[list[PosedHand], list[Prop]]:
    """The hand at each time, of one shape and with one sleeve or none."""
    shape = np.clip(rng.normal(0, 0.8, len(asset.shape_vertices)), -1.6, 1.6)
    props = [sleeve(rng, asset, shaped(asset, shape)[0])] if rng.random() < 0.6 else []
    wanted = int(times[-1] / POSE_SECONDS) + 2
    keys: list[np.ndarray] = []
    while len(keys) < wanted:
        pose = untangle(asset, shape, sample_pose(rng))
        if pose is not None:
            keys.append(_flat(pose))
    place = times / POSE_SECONDS
    before = place.astype(int)
    going = np.clip((place - before - REST) / (1 - REST), 0, 1)
    eased = (going**2 * (3 - 2 * going))[:, None]
    angles = (1 - eased) * np.array(keys)[before] + eased * np.array(keys)[before + 1]
    angles[:, 24:] = keys[0][24:]  # the elbow's direction is an angle that wraps, so it stays
    # On the way fingers may meet; opening them goes in steps, so the result is smoothed over time.
    apart = [untangle(asset, shape, _pose(row)) or _pose(row) for row in angles]
    smooth = _smoothed(np.array([_flat(pose) for pose in apart]), SMOOTHING * fps)
    return [pose_hand(asset, shape, _pose(row)) for row in smooth], props


def _flat(pose: Pose) -> np.ndarray:
    """All angles of a pose in one row (26,) in degrees."""
    return np.concatenate([pose.fingers.ravel(), pose.thumb, pose.wrist, pose.elbow])


def _pose(row: np.ndarray) -> Pose:
    return Pose(row[:16].reshape(4, 4).copy(), row[16:21].copy(), row[21:24].copy(), row[24:26].copy())


def _smoothed(rows: np.ndarray, sigma: float) -> np.ndarray:
    """Rows (T, A) averaged over time with a Gaussian of `sigma` frames."""
    far = math.ceil(3 * sigma)
    reach = np.arange(-far, far + 1)
    weights = np.exp(-(reach**2) / (2 * sigma**2))
    padded = np.pad(rows, ((far, far), (0, 0)), mode="edge")
    return sum(w * padded[far + k : far + k + len(rows)] for k, w in zip(reach, weights / weights.sum(), strict=True))


def _swing(rng: np.random.Generator, times: np.ndarray, axes: int) -> np.ndarray:
    """Smooth motion (T, axes) within [-1, 1]: two sines of 3 to 9 seconds for each axis."""
    total = np.zeros((len(times), axes))
    for weight in (0.65, 0.35):
        period, phase = rng.uniform(3, 9, axes), rng.uniform(0, 2 * np.pi, axes)
        total += weight * np.sin(2 * np.pi * times[:, None] / period + phase)
    return total


def _path(
    rng: np.random.Generator, hands: list[PosedHand], times: np.ndarray, size: int, share: float
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
    """Rotation, offset and K per hand, all keypoints on the image throughout; None where that did not work."""
    focal = rng.uniform(1.7, 2.2) * size
    middle = (size - 1) / 2
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
    first = random_turn(rng)
    angles = _swing(rng, times, 3) * (30, 30, 50)  # degrees about x, y and the line of sight
    turns = [
        HAND_SIZE * rotation(np.eye(3)[2], c) @ rotation(np.eye(3)[1], b) @ rotation(np.eye(3)[0], a) @ first
        for a, b, c in angles
    ]
    palms = [hand.keypoints[[0, 5, 17]] @ turn.T for hand, turn in zip(hands, turns, strict=True)]
    # Palm or back is seen: a hand that stays edge-on is no gesture that people show.
    if min(abs(unit(np.cross(p[1] - p[0], p[2] - p[0]))[2]) for p in palms) < 0.35:
        return None
    span = np.median([np.ptp((h.keypoints @ t.T)[:, :2], axis=0).max() for h, t in zip(hands, turns, strict=True)])
    depths = focal * span / (share * size) * (1 + 0.2 * _swing(rng, times, 1)[:, 0])
    centred = []
    for hand, turn, depth in zip(hands, turns, depths, strict=True):
        xyz = hand.keypoints @ turn.T
        center = (xyz.max(0) + xyz.min(0)) / 2
        centred.append(np.array([0, 0, depth]) - center)
        if (turn @ hand.elbow + centred[-1])[2] < NEAREST_ELBOW:
            return None
    boxes = [project_points(h.keypoints @ t.T + o, K) - middle for h, t, o in zip(hands, turns, centred, strict=True)]
    room = middle - MARGIN * size / REFERENCE - max(np.abs(box).max() for box in boxes)
    if room < 0.1 * size:
        return None
    shifts = _swing(rng, times, 2) * room
    offsets = [o + np.array([x, y, 0]) * d / focal for o, (x, y), d in zip(centred, shifts, depths, strict=True)]
    uv = np.array([project_points(h.keypoints @ t.T + o, K) for h, t, o in zip(hands, turns, offsets, strict=True)])
    if uv.min() < 0 or uv.max() > size - 1:
        return None
    return [(turn, offset, K) for turn, offset in zip(turns, offsets, strict=True)]
