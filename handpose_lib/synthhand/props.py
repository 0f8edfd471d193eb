"""The meshes of things, and what an arm wears: sleeves, bands and watches. What a hand holds is in `held.py`.

Every prop is a closed or tube-shaped triangle mesh in rest coordinates (metres, wrist at the origin); what crosses in
front of the hand is in camera coordinates.
"""

from dataclasses import dataclass

import numpy as np

from .asset import FOREARM, FOREARM_DISTAL, NUM_BONES, UPPER_ARM, HandAsset, unit

SIDES = 24  # corners of every round cross-section


@dataclass
class Stripes:
    """A second colour that comes and goes along one direction."""

    waves: np.ndarray  # (3,) direction, as long as there are stripes per metre
    share: float  # of the surface that is striped, 0-1
    color: np.ndarray  # (3,) linear albedo


@dataclass
class Prop:
    """One object: its mesh, how it follows the bones, and what it looks like."""

    vertices: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3)
    weights: np.ndarray  # (V, B); all zero for an object that stays with the palm
    color: np.ndarray  # (V, 3) linear albedo 0-1
    gloss: float  # 0 cloth, 1 plastic or metal
    covers: float = np.inf  # the arm is hidden from here on, metres from the wrist
    stripes: Stripes | None = None

    @property
    def worn(self) -> bool:
        """Whether it follows the arm."""
        return bool(self.weights.any())


def tube_faces(rings: int, sides: int = SIDES) -> np.ndarray:
    """Triangles of a tube made of `rings` rings of `sides` vertices each."""
    a = (np.arange(rings - 1)[:, None] * sides + np.arange(sides)).reshape(-1)
    b = (np.arange(rings - 1)[:, None] * sides + (np.arange(sides) + 1) % sides).reshape(-1)
    return np.vstack([np.stack([a, b, a + sides], 1), np.stack([b, b + sides, a + sides], 1)])


def _frame(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (3,) that make a right-handed frame with `axis` as the third."""
    helper = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.8 else np.array([0, 1.0, 0])
    side = unit(np.cross(axis, helper))
    return side, np.cross(axis, side)


def arm_ring(asset: HandAsset, vertices: np.ndarray, position: float, room: float) -> np.ndarray:
    """A ring (SIDES, 3) around the arm, `position` metres from the wrist and `room` metres off the skin."""
    axis = asset.arm_axis
    side, up = _frame(axis)
    angles = np.arange(SIDES) / SIDES * 2 * np.pi
    directions = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    near = vertices[np.abs(asset.arm_position - np.clip(position, 0.0, 0.22)) < 0.014]
    center = near.mean(0)
    reach = ((near - center) @ directions.T).max(0)
    # Farthest skin in each direction, drawn in a little where the cross-section is flat.
    return center + (position - center @ axis) * axis + directions * (0.97 * reach + room)[:, None]


def arm_weights(position: np.ndarray) -> np.ndarray:
    """Skinning weights (P, B) of things worn at P positions along the arm, metres from the wrist."""
    weights = np.zeros((len(position), NUM_BONES))
    upper = np.clip((position - 0.22) / 0.06, 0, 1)
    forearm = np.clip((position - 0.02) / 0.12, 0, 1) * (1 - upper)
    weights[:, UPPER_ARM] = upper
    weights[:, FOREARM] = forearm
    weights[:, FOREARM_DISTAL] = 1 - upper - forearm
    return weights


def sleeve(rng: np.random.Generator, asset: HandAsset, vertices: np.ndarray) -> Prop:
    """Cloth from somewhere on the forearm to the end of the arm, tight or loose, with folds."""
    cuff = rng.uniform(0.02, 0.16)
    room = rng.uniform(0.002, 0.014)
    positions = np.concatenate([[cuff], cuff + 0.012 + np.linspace(0, 1, 14) ** 1.2 * (0.62 - cuff)])
    rings = []
    for ring, position in enumerate(positions):
        folds = 0 if ring == 0 else rng.uniform(0, 0.004) + rng.normal(0, 0.0015, SIDES)
        rings.append(arm_ring(asset, vertices, position, room + 0.03 * room * ring + folds))
    # The cuff is turned in, so that the cloth has an edge.
    inner = arm_ring(asset, vertices, cuff + 0.002, 0.0005)
    mesh = np.vstack([inner, *rings])
    along = np.repeat(np.concatenate([positions[:1], positions]), SIDES)
    color = _cloth(rng, mesh, along)
    return Prop(mesh, tube_faces(len(positions) + 1), arm_weights(along), color, 0.0, cuff + 0.02)


def _cloth(rng: np.random.Generator, mesh: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Linear albedo (V, 3) of a garment: mostly muted colours, sometimes a darker cuff."""
    gray = rng.choice([0.03, 0.08, 0.2, 0.45, 0.75])
    tint = 1 + rng.normal(0, 0.12) * np.array([1.0, 0.1, -1.0]) + rng.normal(0, 0.04, 3)
    if rng.random() < 0.35:  # blue jeans, red jumper, and the like
        tint = tint * rng.choice([[0.5, 0.8, 1.5], [1.6, 0.5, 0.5], [0.7, 1.1, 0.7], [1.2, 0.9, 0.5]])
    color = np.tile(np.clip(gray * tint, 0.01, 0.85), (len(mesh), 1))
    return color * (1 + rng.normal(0, 0.05, (len(mesh), 1)))


def band(rng: np.random.Generator, asset: HandAsset, vertices: np.ndarray) -> Prop:
    """A bracelet, strap or watch around the wrist."""
    start, width = rng.uniform(0.018, 0.06), rng.uniform(0.004, 0.024)
    is_watch = rng.random() < 0.4
    positions = np.array([start, start, start + width, start + width])
    rings = [arm_ring(asset, vertices, p, r) for p, r in zip(positions, (0.0, 0.0025, 0.0025, 0.0), strict=True)]
    mesh, faces = np.vstack(rings), tube_faces(4)
    shade = rng.choice([0.02, 0.05, 0.15, 0.5]) * np.clip(1 + rng.normal(0, 0.25, 3), 0.3, 1.7)
    color = np.tile(np.clip(shade, 0.01, 0.8), (len(mesh), 1))
    along = np.repeat(positions, SIDES)
    if is_watch:
        middle = start + width / 2
        ring = arm_ring(asset, vertices, middle, 0.001)
        back = ring[(ring @ -asset.palm_normal).argmax()]
        axis = unit(-asset.palm_normal + (asset.palm_normal @ asset.arm_axis) * asset.arm_axis)
        dial, dial_faces = cylinder(back - 0.004 * axis, back + 0.006 * axis, rng.uniform(0.014, 0.02))
        faces = np.vstack([faces, dial_faces + len(mesh)])
        mesh = np.vstack([mesh, dial])
        face_color = rng.choice([0.01, 0.05, 0.6]) * np.ones(3)
        color = np.vstack([color, np.tile(face_color, (len(dial), 1))])
        along = np.append(along, np.full(len(dial), middle))
    return Prop(mesh, faces, arm_weights(along), color, float(rng.uniform(0.1, 0.9)))


def cylinder(start: np.ndarray, end: np.ndarray, radius: float, taper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Mesh of a closed cylinder from `start` (3,) to `end` (3,); the far end has `taper` times the radius."""
    axis = unit(end - start)
    side, up = _frame(axis)
    angles = np.arange(SIDES) / SIDES * 2 * np.pi
    circle = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    steps = np.linspace(0, 1, 5)
    radii = radius * (1 + (taper - 1) * steps)
    middle = [start + t * (end - start) + r * circle for t, r in zip(steps, radii, strict=True)]
    # Doubled rings at the ends keep the rim sharp under interpolated normals.
    rings = [start + 0 * circle, middle[0], *middle, middle[-1], end + 0 * circle]
    return np.vstack(rings), tube_faces(len(rings))


def ball(center: np.ndarray, radius: float, stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mesh of an ellipsoid around `center` (3,) with semi-axes radius * stretch (3,)."""
    rings = 12
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rings)
    angles = np.arange(SIDES) / SIDES * 2 * np.pi
    x = np.cos(latitude)[:, None] * np.cos(angles)
    y = np.cos(latitude)[:, None] * np.sin(angles)
    z = np.repeat(np.sin(latitude)[:, None], SIDES, 1)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    return center + radius * stretch * points, tube_faces(rings)


def box(center: np.ndarray, axes: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mesh of a box with half sides (3,) along `axes` (3, 3 rows); its 6 sides share no vertex, so edges are sharp."""
    vertices, faces = [], []
    for k in range(3):
        for sign in (-1.0, 1.0):
            u, v = axes[(k + 1) % 3] * half[(k + 1) % 3], axes[(k + 2) % 3] * half[(k + 2) % 3]
            middle = center + sign * half[k] * axes[k]
            first = len(vertices)
            vertices += [middle - u - v, middle + u - v, middle + u + v, middle - u + v]
            quad = [(0, 1, 2), (0, 2, 3)] if sign > 0 else [(0, 2, 1), (0, 3, 2)]
            faces += [tuple(first + c for c in corner) for corner in quad]
    return np.array(vertices), np.array(faces)
