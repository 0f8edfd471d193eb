"""What a hand holds, in its palm or between two fingertips, and what crosses in front of it.

Others found that held objects of random colours teach a network nearly as much as realistic ones: so every group of
faces may have any colour here, and stripes may run over all of it.
"""

import numpy as np

from .asset import FINGER_BONES, NUM_BONES, HandAsset, unit
from .pose import Capsules, segment_distance
from .props import SIDES, Prop, Stripes, ball, box, cylinder

# Shares of what lies in the palm, and its radius or half thickness in metres (lowest and highest).
GRASPED = {
    "bottle": (0.24, 0.014, 0.034),
    "ball": (0.16, 0.018, 0.036),
    "box": (0.14, 0.008, 0.022),
    "stick": (0.18, 0.004, 0.011),
    "phone": (0.12, 0.003, 0.006),
    "book": (0.08, 0.004, 0.014),
    "cable": (0.08, 0.0015, 0.0035),
}
PINCHED = {"pen": 0.35, "spoon": 0.15, "cable": 0.12, "card": 0.2, "sheet": 0.08, "plate": 0.1}
_FLAT = ("card", "sheet", "plate")


def any_color(rng: np.random.Generator) -> np.ndarray:
    """Linear albedo (3,): gray with a tint, or any colour at all."""
    if rng.random() < 0.35:
        gray = rng.choice([0.02, 0.08, 0.3, 0.75])
        return np.clip(gray * np.clip(1 + rng.normal(0, 0.25, 3), 0.2, 2), 0.01, 0.85)
    return rng.uniform(0.08, 0.95, 3) ** 2.2


def painted(rng: np.random.Generator, mesh: np.ndarray, faces: np.ndarray, gloss: float) -> Prop:
    """A prop that stays with the palm, of one colour, of a colour for each part of its mesh, or striped."""
    colors = np.tile(any_color(rng), (len(mesh), 1))
    if rng.random() < 0.5:  # a label, a cap, other sides
        part = 4 if len(mesh) == 24 else SIDES * int(rng.integers(2, 6))
        first = np.arange(len(mesh)) // part
        colors = np.stack([any_color(rng) for _ in range(first[-1] + 1)])[first]
    stripes = None
    if rng.random() < 0.3:
        stripes = Stripes(unit(rng.normal(size=3)) / rng.uniform(0.004, 0.03), rng.uniform(0.2, 0.8), any_color(rng))
    return Prop(mesh, faces, np.zeros((len(mesh), NUM_BONES)), colors, gloss, stripes=stripes)


def grasped_object(rng: np.random.Generator, asset: HandAsset, heads: np.ndarray) -> tuple[Prop, Capsules]:
    """Something in the palm, and the capsules that the fingers close on."""
    knuckles = heads[FINGER_BONES[1:, 0]]
    normal = asset.palm_normal
    across = unit(knuckles[0] - knuckles[3])
    along = unit(np.cross(normal, across))
    kind = str(rng.choice(list(GRASPED), p=[share for share, _, _ in GRASPED.values()]))
    r = rng.uniform(*GRASPED[kind][1:])
    seat = knuckles.mean(0) * rng.uniform(0.85, 1.02) + normal * (0.013 + r)
    axis = unit(across + rng.normal(0, 0.25) * along + rng.normal(0, 0.08) * normal)
    if kind == "ball":
        mesh, faces = ball(seat, r, rng.uniform(0.85, 1.15, 3))
        capsules = Capsules(seat[None], seat[None] + 1e-4, np.array([r]))
    elif kind in ("box", "phone", "book"):
        third = unit(np.cross(axis, normal))
        width = {"box": (0.015, 0.04), "phone": (0.03, 0.042), "book": (0.05, 0.09)}[kind]
        length = {"box": (0.03, 0.08), "phone": (0.06, 0.085), "book": (0.07, 0.12)}[kind]
        half = np.array([rng.uniform(*length), rng.uniform(*width), r])
        # The palm holds one long edge; the rest stands out towards the fingertips or the thumb.
        seat = seat + third * rng.uniform(-0.6, 0.6) * (half[1] - 0.015)
        mesh, faces = box(seat, np.stack([axis, third, unit(np.cross(axis, third))]), half)
        steps = np.linspace(-1, 1, 3 + int(half[1] / 0.02))[:, None] * max(half[1] - r, 0.001) * third
        reach = half[0] * axis
        capsules = Capsules(seat - reach + steps, seat + reach + steps, np.full(len(steps), r))
    else:
        up, down = rng.uniform(0.03, 0.13, 2)
        start, end = seat - down * axis, seat + up * axis
        mesh, faces = cylinder(start, end, r, rng.uniform(0.7, 1.0))
        capsules = Capsules(start[None], end[None], np.array([r]))
        if kind == "cable":
            mesh, capsules = _hanging(rng, mesh, seat, axis), Capsules(seat[None], seat[None] + 1e-4, np.array([r]))
    return painted(rng, mesh, faces, float(rng.uniform(0.0, 1.0))), capsules


def _hanging(rng: np.random.Generator, mesh: np.ndarray, seat: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """A straight cylinder along `axis` (3,) bent into an arc: what is far from `seat` (3,) goes aside."""
    aside = np.cross(axis, unit(rng.normal(size=3)))
    far = (mesh - seat) @ axis
    return mesh + (rng.uniform(-6, 6) * far**2)[:, None] * aside


def pinched_room(rng: np.random.Generator) -> tuple[str, float]:
    """What is held between two fingertips, and its thickness in metres."""
    kind = str(rng.choice(list(PINCHED), p=list(PINCHED.values())))
    thickness = {"pen": (0.006, 0.011), "spoon": (0.004, 0.008), "cable": (0.003, 0.006)}.get(kind, (0.001, 0.003))
    return kind, float(rng.uniform(*thickness))


def pinched_object(
    rng: np.random.Generator,
    kind: str,
    thickness: float,
    contact: tuple[np.ndarray, np.ndarray],
    hand: Capsules,
    finger: int,
) -> Prop | None:
    """One of `PINCHED` between the thumb and a finger; None where the hand leaves no room for it.

    `contact` is the place (3,) between the two pads and the direction (3,) from one to the other.
    """
    place, normal = contact
    touching = (2, 3 * finger + 2, 1, 3 * finger + 1)
    others = [k for k in range(19) if k not in touching]
    long, short = rng.uniform(0.07, 0.13), rng.uniform(0.012, 0.05)
    wide = rng.uniform(0.022, 0.05)
    for _ in range(12):
        axis = unit(np.cross(normal, rng.normal(size=3)))
        third = np.cross(axis, normal)
        start, end = place - short * axis, place + long * axis
        radius, rows = thickness / 2, np.zeros((1, 3))
        if kind in _FLAT:
            start, end = place - 0.008 * axis, place + (long if kind == "card" else 1.5 * long) * axis
            rows = np.linspace(-1, 1, 5)[:, None] * wide * (1 if kind == "card" else 1.6) * third
        if _room_for(start + rows, end + rows, radius, hand, others):
            break
    else:
        return None
    middle, reach = (start + end) / 2, np.linalg.norm(end - start) / 2
    if kind == "plate":
        disc = normal * thickness / 2
        mesh, faces = cylinder(middle - disc, middle + disc, reach)
    elif kind in _FLAT:
        mesh, faces = box(
            middle, np.stack([axis, third, np.cross(axis, third)]), np.array([reach, rows[-1] @ third, radius])
        )
    else:
        mesh, faces = cylinder(start, end, radius, rng.uniform(0.6, 1.0))
    if kind == "spoon":
        bowl, bowl_faces = ball(end, 0.018, np.array([1.0, 1.0, 1.0]))
        bowl = bowl - 0.7 * ((bowl - end) @ normal)[:, None] * normal + 0.35 * ((bowl - end) @ axis)[:, None] * axis
        mesh, faces = np.vstack([mesh, bowl]), np.vstack([faces, bowl_faces + len(mesh)])
    elif kind == "cable":
        mesh = _hanging(rng, mesh, place, axis)
    return painted(rng, mesh, faces, float(rng.uniform(0.0, 1.0)))


def _room_for(starts: np.ndarray, ends: np.ndarray, radius: float, hand: Capsules, others: list[int]) -> bool:
    """Whether rods of a radius (m) pass all of the hand's `others` capsules with no more overlap than skin allows."""
    for start, end in zip(starts, ends, strict=True):
        p, q = np.broadcast_to(start, (len(others), 3)), np.broadcast_to(end, (len(others), 3))
        distance = segment_distance(hand.starts[others], hand.ends[others], p, q)
        if (distance < hand.radii[others] + radius - 0.003).any():
            return False
    return True


def free_occluder(rng: np.random.Generator, xyz: np.ndarray) -> Prop:
    """A bar, board or ball in camera coordinates, between the camera and a hand with keypoints xyz (21, 3)."""
    nearness = rng.uniform(0.6, 0.92)
    target = xyz[rng.integers(21)] + rng.normal(0, 0.012, 3)
    center = target * min(nearness, (xyz[:, 2].min() - 0.03) / target[2])
    scale = center[2] / target[2]  # what is nearer looks larger
    kind = rng.choice(["bar", "board", "ball"], p=[0.5, 0.3, 0.2])
    if kind == "bar":
        axis = unit(rng.normal(size=3) * (1, 1, 0.4)) * scale
        start, end = center - rng.uniform(0.02, 0.25) * axis, center + rng.uniform(0.02, 0.25) * axis
        mesh, faces = cylinder(start, end, rng.uniform(0.003, 0.022) * scale, rng.uniform(0.6, 1.0))
    elif kind == "board":
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        axes[2] = np.cross(axes[0], axes[1])
        half = np.array([rng.uniform(0.015, 0.12), rng.uniform(0.006, 0.04), rng.uniform(0.0005, 0.02)]) * scale
        mesh, faces = box(center, axes, half)
    else:
        mesh, faces = ball(center, rng.uniform(0.012, 0.035) * scale, rng.uniform(0.8, 1.2, 3))
    return painted(rng, mesh, faces, float(rng.uniform(0.0, 1.0)))
