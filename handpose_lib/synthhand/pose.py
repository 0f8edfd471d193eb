"""Random poses that a hand can take: correlated joint angles within limits, and no finger inside another.

Bones are capsules here. Where two of them overlap by more than soft flesh would give, the fingers are moved back
towards an open hand until they only touch, which is how a thumb comes to lie on a fist and fingers on a bottle.
"""

import functools
from dataclasses import dataclass

import numpy as np

from .asset import FINGER_BONES, HandAsset, load_asset, unit
from .hand import Pose, bone_transforms, joint_positions, shaped

FLESH = 0.003  # m by which two capsules may overlap: skin gives way
KINDS = {
    "open": 0.10,
    "fist": 0.07,
    "count": 0.10,
    "digits": 0.27,
    "pinch": 0.07,
    "relaxed": 0.11,
    "grasp": 0.07,
    "random": 0.13,
    "point": 0.05,
    "claw": 0.03,
}
# Degrees of abduction, index to pinky, of a spread hand and of one whose straight fingers lie side by side.
SPREAD_OPEN = np.array([10.0, 2.0, -5.0, -12.0])
TOGETHER = np.array([-12.0, 5.0, 15.0, 21.0])
_OPEN_THUMB = np.array([-5.0, -5.0, 0.0, 5.0, 5.0])


@dataclass(frozen=True)
class Capsules:
    """Segments with a radius, in metres."""

    starts: np.ndarray  # (C, 3)
    ends: np.ndarray  # (C, 3)
    radii: np.ndarray  # (C,)


def sample_pose(rng: np.random.Generator, kind: str | None = None) -> Pose:
    """A pose of a random kind; fingers may still pass through each other (see `untangle`)."""
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    closure = _closure(rng, kind)  # (4,) 0 = straight, 1 = fist
    spread = rng.uniform(-1.0, 1.1)
    fingers = np.stack([_finger(rng, kind, closure[i], spread, i) for i in range(4)])
    return Pose(fingers, _thumb(rng, kind), *sample_arm(rng))


def sample_arm(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Angles of the wrist (3,) and the elbow (2,), as in `Pose`."""
    wrist = rng.normal(0, (25.0, 9.0, 30.0)).clip((-65, -22, -70), (65, 22, 70))
    return wrist, np.array([max(rng.uniform(-70, 75), 0.0), rng.uniform(-180, 180)])


def _closure(rng: np.random.Generator, kind: str) -> np.ndarray:
    """How far each of the four fingers is closed, (4,)."""
    if kind == "open":
        closure = rng.normal(0.05, 0.07) + rng.normal(0, 0.04, 4)
    elif kind == "fist":
        closure = rng.uniform(0.8, 1.0) + rng.normal(0, 0.04, 4)
    elif kind == "count":
        closure = np.where(rng.random(4) < 0.5, rng.uniform(-0.05, 0.15, 4), rng.uniform(0.75, 1.0, 4))
    elif kind == "digits":  # each on its own: straight, half closed or closed
        low, high = np.array([[-0.05, 0.12], [0.3, 0.65], [0.85, 1.0]])[rng.choice(3, 4, p=(0.4, 0.2, 0.4))].T
        closure = rng.uniform(low, high)
    elif kind == "point":
        closure = np.append(rng.uniform(-0.05, 0.2), rng.uniform(0.7, 1.0, 3))
    elif kind == "relaxed":
        closure = rng.uniform(0.05, 0.4) + np.arange(4) * rng.uniform(0, 0.07) + rng.normal(0, 0.04, 4)
    elif kind == "grasp":
        closure = rng.uniform(0.25, 0.7) + rng.normal(0, 0.08, 4)
    elif kind == "pinch":
        closure = np.append(rng.uniform(0.42, 0.58), rng.uniform(0, 0.8) + rng.normal(0, 0.1, 3))
    elif kind == "claw":
        closure = rng.uniform(0.3, 0.6) + rng.normal(0, 0.05, 4)
    else:
        # Neighbours follow each other: a ring finger cannot close fully beside two straight ones.
        closure = rng.uniform(-0.05, 1.0, 4)
        closure[2] = 0.5 * closure[2] + 0.25 * (closure[1] + closure[3])
    return np.clip(closure, -0.08, 1.0)


def _finger(rng: np.random.Generator, kind: str, closure: float, spread: float, index: int) -> np.ndarray:
    """MCP, PIP, DIP flexion and abduction in degrees, (4,), for finger `index` (0 = index finger)."""
    mcp = 85 * closure + rng.normal(0, 6)
    pip = 100 * closure + rng.normal(0, 7)
    if kind == "claw":
        mcp, pip = rng.uniform(-15, 20), rng.uniform(60, 100)
    elif kind in ("random", "grasp", "pinch") and rng.random() < 0.5:
        shift = rng.uniform(-25, 25)
        mcp, pip = mcp - shift, pip + shift
    elif kind == "digits" and 0.2 < closure < 0.75 and rng.random() < 0.5:  # bent in the knuckle alone, or as a hook
        bent = rng.uniform(60, 90)
        mcp, pip = (bent, rng.uniform(0, 20)) if rng.random() < 0.4 else (rng.uniform(-5, 20), bent)
    mcp, pip = np.clip(mcp, -20, 92), np.clip(pip, -5, 108)
    dip = np.clip(pip * rng.uniform(0.4, 0.75) + rng.normal(0, 4), -5, 80)  # one tendon bends both
    bent = np.clip(closure, 0, 1)
    # A bent knuckle has no room to spread, and closed fingers all point at the root of the thumb.
    return np.array([mcp, pip, dip, abduction(index, spread, bent) + rng.normal(0, 4) * (1 - 0.6 * bent)])


def abduction(index: int, spread: float, bent: float) -> float:
    """Degrees towards the thumb of finger `index` (0 = index finger); `spread` from -1 (together) to 1 (wide)."""
    straight = spread * SPREAD_OPEN[index] if spread > 0 else -spread * TOGETHER[index]
    return straight * (1 - bent) + 0.6 * SPREAD_OPEN[index] * bent


def _thumb(rng: np.random.Generator, kind: str) -> np.ndarray:
    """CMC flexion, opposition, twist, MCP and IP flexion in degrees, (5,)."""
    free = rng.random()
    if (kind in ("fist", "digits") and free < 0.45) or (kind in ("count", "point") and free < 0.25):  # out of the fist
        low, high = (-30, -12, -5, -10, -22), (-8, 12, 8, 10, 15)
    elif kind == "digits" and free < 0.65:  # half closed
        low, high = (-10, 0, 0, 10, 20), (15, 30, 15, 40, 60)
    elif kind in ("fist", "digits") or (kind in ("count", "point") and free < 0.75):
        low, high = (15, 5, 0, 20, 20), (35, 25, 20, 55, 65)
    elif kind == "pinch":
        low, high = (5, 20, 10, 10, 10), (20, 38, 30, 30, 40)
    elif kind == "grasp":
        low, high = (-5, 10, 0, 0, 0), (15, 40, 30, 35, 45)
    elif kind in ("random", "relaxed"):
        low, high = (-15, -10, -5, -5, -10), (25, 35, 25, 45, 60)
    else:
        low, high = (-12, -12, -12, -5, -10), (12, 12, 12, 25, 25)
    return rng.uniform(low, high)


@functools.cache
def bone_radii() -> np.ndarray:
    """Capsule radius (5, 3) of each phalanx: median distance of its skin from the bone, metres."""

    asset = load_asset()
    radii = np.zeros((5, 3))
    for finger in range(5):
        for k, bone in enumerate(FINGER_BONES[finger]):
            skin = asset.vertices[asset.weights[:, bone] > 0.7] - asset.heads[bone]
            axis = asset.finger_axes[finger, k, 2]
            radii[finger, k] = min(np.median(np.linalg.norm(skin - (skin @ axis)[:, None] * axis, axis=1)), 0.012)
    return radii


def capsules_of(keypoints: np.ndarray, palm_normal: np.ndarray, radii: np.ndarray) -> Capsules:
    """The hand as 19 capsules: 15 phalanges (finger by finger), then 4 metacarpals of the palm."""
    joints = keypoints[1:].reshape(5, 4, 3)
    scale = np.linalg.norm(keypoints[9] - keypoints[0]) / 0.115
    # The tip is on the skin: the last capsule ends one radius before it.
    ends = joints[:, 1:].copy()
    last = unit(ends[:, 2] - joints[:, 2])
    ends[:, 2] -= last * radii[:, 2:] * scale
    knuckles = joints[1:, 0]
    palm_starts = keypoints[0] + 0.25 * (knuckles - keypoints[0]) + 0.002 * palm_normal
    palm_radius = np.full(4, 0.0115)
    return Capsules(
        np.vstack([joints[:, :3].reshape(15, 3), palm_starts]),
        np.vstack([ends.reshape(15, 3), knuckles]),
        np.append(radii.reshape(15), palm_radius) * scale,
    )


def segment_distance(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Distance (N,) between segments p-q and r-s, each (N, 3) (Ericson, Real-Time Collision Detection, 5.1.9)."""
    d1, d2, between = q - p, s - r, p - r
    a, e = (d1 * d1).sum(-1) + 1e-12, (d2 * d2).sum(-1) + 1e-12
    b, c, f = (d1 * d2).sum(-1), (d1 * between).sum(-1), (d2 * between).sum(-1)
    first = np.clip((b * f - c * e) / (a * e - b * b + 1e-15), 0, 1)
    second = np.clip((b * first + f) / e, 0, 1)
    first = np.clip((b * second - c) / a, 0, 1)
    return np.linalg.norm(between + first[:, None] * d1 - second[:, None] * d2, axis=-1)


def _colliding_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the 19 capsules that must not overlap."""
    pairs = []
    for a in range(15):
        for b in range(a + 1, 15):
            neighbours = abs(a // 3 - b // 3) == 1 and a % 3 == 0 and b % 3 == 0
            if a // 3 != b // 3 and not neighbours:
                pairs.append((a, b))
    for a in range(15):
        finger, phalanx = divmod(a, 3)
        # The first phalanges, and the thumb's metacarpal, grow out of the palm.
        pairs += [(a, 15 + m) for m in range(4) if phalanx == 2 or (phalanx == 1 and finger != 0)]
        if finger == 0 and phalanx == 1:
            pairs += [(a, 15 + m) for m in range(1, 4)]
    first, second = np.array(pairs).T
    return first, second


_FIRST, _SECOND = _colliding_pairs()


def overlaps(capsules: Capsules) -> np.ndarray:
    """Depth (P,) in metres by which each pair of `_colliding_pairs` overlaps; negative where they are apart."""
    c, i, j = capsules, _FIRST, _SECOND
    return c.radii[i] + c.radii[j] - segment_distance(c.starts[i], c.ends[i], c.starts[j], c.ends[j])


def overlaps_with(capsules: Capsules, held: Capsules) -> np.ndarray:
    """Depth (15,) in metres by which each phalanx overlaps any of the held capsules."""
    depth = np.full(15, -np.inf)
    for start, end, radius in zip(held.starts, held.ends, held.radii, strict=True):
        starts, ends = np.broadcast_to(start, (15, 3)), np.broadcast_to(end, (15, 3))
        distance = segment_distance(capsules.starts[:15], capsules.ends[:15], starts, ends)
        depth = np.maximum(depth, capsules.radii[:15] + radius - distance)
    return depth


def untangle(
    asset: HandAsset,
    shape: np.ndarray,
    pose: Pose,
    held: Capsules | None = None,
    firm: set[int] | frozenset[int] = frozenset(),
    steps: int = 40,
) -> Pose | None:
    """The pose with overlapping fingers opened until they touch; None where `steps` were not enough.

    `held` is an object in rest coordinates that the fingers close on. Of two digits that overlap, one that is `firm`
    stays (0 = thumb) and the other gives way.
    """
    vertices, heads = shaped(asset, shape)
    radii = bone_radii()
    opened = Pose(np.array([[0, 5, 3, a * 0.4] for a in SPREAD_OPEN]), _OPEN_THUMB, pose.wrist, pose.elbow)
    for _ in range(steps):
        keypoints, _ = joint_positions(asset, vertices, heads, bone_transforms(asset, heads, pose))
        capsules = capsules_of(keypoints, asset.palm_normal, radii)
        depth = overlaps(capsules)
        to_open = set()
        for pair in np.nonzero(depth > FLESH)[0]:
            to_open.add(_finger_to_open(_FIRST[pair] // 3, _SECOND[pair] // 3, pose, firm))
        if held is not None:
            to_open |= set(np.nonzero(overlaps_with(capsules, held) > FLESH)[0] // 3)
        if not to_open:
            return pose
        for finger in to_open:
            pose = pose.towards(opened, 0.08, finger)
    return None


def _finger_to_open(first: int, second: int, pose: Pose, firm: set[int] | frozenset[int]) -> int:
    """Which of two overlapping digits (5 = palm) gives way: one that is not firm, the thumb, or the one bent more."""
    if second < 5 and (first in firm) != (second in firm):
        return second if first in firm else first
    if first == 0 or second >= 5:
        return first
    bent = pose.fingers[:, :2].sum(1)
    return first if bent[first - 1] > bent[second - 1] else second
