"""Gestures that people make on purpose: counted fingers, thumbs up, fists, rings, signed digits.

A gesture names the state of each finger and where the thumb goes. Where the thumb has to touch something, its angles,
and in a ring the finger's too, are solved for each hand's own shape: a few steps of damped least squares.
"""

import functools
from dataclasses import dataclass

import numpy as np

from .asset import FINGER_BONES, HandAsset, load_asset, unit
from .hand import Pose, about, digit_rotations, shaped
from .pose import FLESH, abduction, bone_radii, sample_arm, untangle

# Degrees of MCP, PIP, DIP flexion: straight, half closed, closed, hook (the upper joints), table (the knuckle alone).
STATES = {
    "s": (2.0, 4.0, 3.0),
    "h": (45.0, 50.0, 25.0),
    "c": (84.0, 98.0, 58.0),
    "k": (5.0, 88.0, 48.0),
    "t": (75.0, 12.0, 8.0),
    "r": (42.0, 52.0, 34.0),  # one of several bent fingers that form a round opening
}
# CMC flexion, opposition, twist, MCP and IP flexion of a thumb that touches nothing.
THUMBS = {
    "up": (-27.0, 2.0, 0.0, -4.0, -14.0),
    "out": (-18.0, -6.0, 0.0, 2.0, -6.0),
    "flat": (8.0, -14.0, 0.0, 6.0, 4.0),
    "palm": (26.0, 24.0, 18.0, 30.0, 34.0),
    "tucked": (24.0, 30.0, 18.0, 34.0, 30.0),
    "forward": (-6.0, 26.0, 4.0, 6.0, 6.0),
}


@dataclass(frozen=True)
class Contact:
    """What the thumb's pad touches: a place on a phalanx (0-2) of a finger (1 = index, 4 = pinky)."""

    finger: int
    place: str  # "pad", "tip", "nail" (or the back of the phalanx), "side" (the one towards the thumb)
    phalanx: int = 2
    finger_moves: bool = False


@dataclass(frozen=True)
class Gesture:
    """States of index to pinky, a thumb, and how far the straight fingers are spread (lowest and highest)."""

    fingers: str
    thumb: str | Contact
    spread: tuple[float, float] = (-0.7, 0.8)
    share: float = 1.0


def _rings() -> dict[str, Gesture]:
    """The thumb on each fingertip, on the pads and on the nails, the other fingers straight, half closed or closed."""
    gestures = {}
    for finger, name in enumerate(("index", "middle", "ring", "pinky"), start=1):
        for state, others in (("s", "straight"), ("h", "half"), ("c", "closed")):
            fingers = "".join("r" if k == finger else state for k in range(1, 5))
            if state == "c" and finger > 1:
                continue  # no room for the thumb between closed fingers
            share = 1.5 if state == "s" else 0.5
            gestures[f"ring_{name}_{others}"] = Gesture(fingers, Contact(finger, "pad", 2, True), share=share)
        fingers = "".join("c" if k == finger else "s" for k in range(1, 5))
        gestures[f"nail_{name}"] = Gesture(fingers, Contact(finger, "nail", 2, True), share=0.6)
        gestures[f"tips_{name}"] = Gesture(
            "".join("r" if k == finger else "s" for k in range(1, 5)), Contact(finger, "tip", 2, True), share=0.6
        )
    return gestures


GESTURES = {
    "thumb_up": Gesture("cccc", "up", share=4.0),
    "fist_thumb_across": Gesture("cccc", Contact(2, "nail", 1), share=2.0),
    "fist_thumb_on_index": Gesture("cccc", Contact(1, "nail", 1)),
    "fist_thumb_beside": Gesture("cccc", Contact(1, "side", 1), share=1.5),
    "fist_thumb_tucked": Gesture("cccc", "tucked"),
    "thumb_between": Gesture("cccc", Contact(2, "side", 1)),
    "point": Gesture("sccc", Contact(2, "nail", 1), share=2.0),
    "point_thumb_beside": Gesture("sccc", Contact(2, "side", 1)),
    "two": Gesture("sscc", Contact(3, "nail", 1), (-1.0, 1.2), share=2.0),
    "three": Gesture("sssc", Contact(4, "nail", 2), share=1.5),
    "three_with_thumb": Gesture("sscc", "out", share=1.5),
    "four": Gesture("ssss", "palm", share=1.5),
    "five": Gesture("ssss", "out", (0.3, 1.2), share=1.5),
    "flat": Gesture("ssss", "flat", (-1.0, -0.8), share=1.5),
    "horns": Gesture("sccs", Contact(2, "nail", 1), share=1.5),
    "horns_thumb_out": Gesture("sccs", "out"),
    "call": Gesture("cccs", "out", share=2.0),
    "pinky": Gesture("cccs", Contact(2, "nail", 1)),
    "middle": Gesture("cscc", Contact(3, "nail", 1)),
    "middle_ring": Gesture("cssc", "out", share=0.5),
    "L": Gesture("sccc", "out", share=1.5),
    "gun": Gesture("sscc", "up", (-1.0, -0.6)),
    "claw": Gesture("kkkk", "forward"),
    "hooks": Gesture("kkkk", "flat", (-1.0, 0.0), share=0.5),
    "table": Gesture("tttt", "forward", (-1.0, 0.0)),
    "bent_index": Gesture("kccc", Contact(2, "nail", 1), share=0.7),
    "zero": Gesture("rrrr", Contact(2, "pad", 2, True), (-0.6, 0.0), share=2.0),
    **_rings(),
}


def sample_gesture(
    rng: np.random.Generator, asset: HandAsset, shape: np.ndarray, name: str | None = None, gap: float = 0.0
) -> Pose | None:
    """A gesture (a random one, or `name`) for a hand of shape coefficients (12,); None where it could not be made.

    `gap` is room in metres that is left in the contact, for something that is held there.
    """
    if name is None:
        shares = np.array([gesture.share for gesture in GESTURES.values()])
        name = list(GESTURES)[rng.choice(len(shares), p=shares / shares.sum())]
    gesture = GESTURES[name]
    spread = rng.uniform(*gesture.spread)
    fingers = np.stack([_finger(rng, state, i, spread) for i, state in enumerate(gesture.fingers)])
    if "r" in gesture.fingers and "s" not in gesture.fingers:  # fingers that form one opening move as one
        fingers[:, :3] = fingers[:, :3].mean(0) + rng.normal(0, 2, (4, 3))
    if isinstance(gesture.thumb, str):
        pose = Pose(fingers, np.array(THUMBS[gesture.thumb]) + rng.normal(0, (5, 5, 4, 6, 8)), *sample_arm(rng))
        firm = {0} if gesture.thumb == "tucked" else set()
        return untangle(asset, shape, pose, firm=firm)
    contact = gesture.thumb
    start = np.array([5.0, 15.0, 8.0, 18.0, 20.0]) + rng.normal(0, (3, 3, 3, 6, 8))
    # The closed fingers settle first, so that the thumb comes to lie on them as they are.
    aside = Pose(fingers, np.array(THUMBS["up"]), *sample_arm(rng))
    settled = untangle(asset, shape, aside) if not contact.finger_moves else aside
    if settled is None:
        return None
    pose = touch(asset, shape, Pose(settled.fingers, start, settled.wrist, settled.elbow), contact, gap)
    firm = {0, contact.finger} if contact.finger_moves else {0} if name == "thumb_between" else set()
    return untangle(asset, shape, pose, firm=firm)


def pinch_contact(asset: HandAsset, shape: np.ndarray, pose: Pose, finger: int) -> tuple[np.ndarray, np.ndarray]:
    """The place (3,) between the pads of the thumb and a finger, and the direction (3,) from the thumb to it."""
    _, heads = shaped(asset, shape)
    thumb, outward = _surface(asset, heads, pose, Contact(0, "pad"))
    pad, _ = _surface(asset, heads, pose, Contact(finger, "pad"))
    return (thumb + pad) / 2, outward


def _finger(rng: np.random.Generator, state: str, index: int, spread: float) -> np.ndarray:
    """MCP, PIP, DIP flexion and abduction (4,) of a finger in one of `STATES`, a little different each time."""
    noise = {"s": (5, 3, 2), "c": (5, 5, 5), "r": (7, 7, 6)}.get(state, (9, 9, 6))
    angles = np.array(STATES[state]) + rng.normal(0, noise)
    closed = min(angles[0] / 80, 1.0) if state not in "sk" else 0.0
    aside = abduction(index, spread, closed) + rng.normal(0, 2.0)
    return np.append(angles.clip((-15, -3, -3), (92, 108, 78)), aside)


def touch(asset: HandAsset, shape: np.ndarray, pose: Pose, contact: Contact, gap: float = 0.0, steps: int = 7) -> Pose:
    """The pose with the thumb's pad brought to the contact, as near to the given angles as that allows.

    Damped Gauss-Newton (Levenberg 1944) on the way between the two places, the angle between the two surfaces, and
    the way from the angles at the start.
    """
    _, heads = shaped(asset, shape)
    count = 9 if contact.finger_moves else 5
    start = np.append(pose.thumb, pose.fingers[contact.finger - 1])[:count]
    # How far each angle may stray: 1 for as many degrees.
    stiffness = 1 / np.array([22.0, 22.0, 14.0, 22.0, 26.0, 30.0, 30.0, 20.0, 6.0])[:count]
    low = np.array([-30.0, -22.0, -20.0, -10.0, -15.0, -15.0, -3.0, -3.0, -20.0])[:count]
    high = np.array([45.0, 48.0, 38.0, 60.0, 75.0, 95.0, 110.0, 75.0, 20.0])[:count]

    def thumb_and_place(angles: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        moved = _with_angles(pose, contact.finger, angles)
        return [_surface(asset, heads, moved, Contact(0, "pad")), _surface(asset, heads, moved, contact)]

    def residual(angles: np.ndarray, thumb: tuple, place: tuple) -> np.ndarray:
        way = thumb[0] + thumb[1] * (gap - 0.6 * FLESH) - place[0]
        return np.concatenate([way / 0.001, 1.6 * (thumb[1] + place[1]), stiffness * (angles - start)])

    def slope(angles: np.ndarray, k: int) -> np.ndarray:
        """Change of the residual for one degree of angle k, which moves only one of the two digits."""
        there = angles.copy()
        there[k] += 0.5
        moved = _with_angles(pose, contact.finger, there)
        both = list(now)
        both[int(k >= 5)] = _surface(asset, heads, moved, contact if k >= 5 else Contact(0, "pad"))
        return (residual(there, *both) - value) / 0.5

    angles, damping, now = start, 1.0, thumb_and_place(start)
    value = residual(angles, *now)
    for _ in range(steps):
        jacobian = np.stack([slope(angles, k) for k in range(count)], axis=1)
        change = np.linalg.solve(jacobian.T @ jacobian + damping * np.diag(stiffness**2), -jacobian.T @ value)
        tried = (angles + change.clip(-25, 25)).clip(low, high)
        reached = thumb_and_place(tried)
        new = residual(tried, *reached)
        before, after = value @ value, new @ new
        damping *= 8 if after > before else 0.4
        if after < before:
            angles, value, now = tried, new, reached
        if 0.97 * before < after <= before:
            break
    return _with_angles(pose, contact.finger, angles)


def _with_angles(pose: Pose, finger: int, angles: np.ndarray) -> Pose:
    """The pose with other thumb angles (5,), followed by those of a finger (4,) where it moves, too."""
    fingers = pose.fingers
    if len(angles) > 5:
        fingers = fingers.copy()
        fingers[finger - 1] = angles[5:]
    return Pose(fingers, angles[:5], pose.wrist, pose.elbow)


def _surface(asset: HandAsset, heads: np.ndarray, pose: Pose, at: Contact) -> tuple[np.ndarray, np.ndarray]:
    """A place (3,) on the skin of a phalanx and the direction (3,) out of it; finger 0 is the thumb."""
    bones, matrix = FINGER_BONES[at.finger], np.eye(4)
    turns = digit_rotations(asset, pose, at.finger)
    for bone in bones[: at.phalanx + 1]:
        matrix = matrix @ about(turns[bone], heads[bone])
    share, offset, outward = _anchor(at)
    following = heads[bones[min(at.phalanx + 1, 2)]]
    place = heads[bones[at.phalanx]] * (1 - share) + following * share + offset
    return matrix[:3, :3] @ place + matrix[:3, 3], matrix[:3, :3] @ outward


@functools.cache
def _anchor(at: Contact) -> tuple[float, np.ndarray, np.ndarray]:
    """Where on its phalanx a contact lies at rest: share of the bone, offset (3,), direction out of the skin (3,)."""
    asset = load_asset()
    bones, heads = FINGER_BONES[at.finger], asset.heads
    flexion, palmar, along = asset.finger_axes[at.finger, at.phalanx]
    radius = bone_radii()[at.finger, at.phalanx]
    towards_thumb = flexion * np.sign(flexion @ (heads[FINGER_BONES[1, 0]] - heads[FINGER_BONES[4, 0]]))
    outward = {
        "pad": unit(palmar + 0.35 * along),
        "tip": unit(0.4 * palmar + along),
        "nail": -palmar,
        "side": towards_thumb,
    }[at.place]
    if at.phalanx < 2:
        return 0.5, radius * outward, outward
    length = np.linalg.norm(asset.vertices[asset.tips[at.finger]] - heads[bones[2]])
    return 0.0, (length - 1.2 * radius) * along + radius * outward, outward
