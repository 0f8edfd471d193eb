"""The checks of chapter 09: a bent finger, the light on it, and whether a joint can be seen."""

import numpy as np

from handpose_lib.course.exercises.checking import Check


def bend(points: np.ndarray, joint: np.ndarray, axis: np.ndarray, degrees: float) -> np.ndarray:
    """Points (P, 3) turned by `degrees` about a unit axis (3,) through `joint` (3,); right-handed (Rodrigues)."""
    angle = np.radians(degrees)
    arm = points - joint
    along = (arm @ axis)[:, None] * axis
    return joint + along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)


def _bends() -> list[tuple]:
    points = np.array([[0.01, 0.09, 0.0], [0.012, 0.11, 0.002], [0.013, 0.125, 0.01]])
    return [
        (points, np.array([0.01, 0.085, 0.001]), np.array([1.0, 0.0, 0.0]), 70.0),
        (points, np.array([-0.02, 0.05, 0.0]), np.array([0.6, 0.0, 0.8]), -35.0),
    ]


check_bend = Check(
    truth=bend,
    cases=_bends,
    mistakes={
        "it turns about the origin: a finger turns about its joint": lambda p, j, a, d: bend(p, np.zeros(3), a, d),
        "the angle is in degrees; np.cos and np.sin want radians": lambda p, j, a, d: bend(p, j, a, np.degrees(d)),
        "it turns the other way: np.cross(axis, arm), not np.cross(arm, axis)": lambda p, j, a, d: bend(p, j, a, -d),
        "the joint came off before the turn and was never put back": lambda p, j, a, d: bend(p, j, a, d) - j,
    },
    right="right: the finger bends about its joint",
    atol=1e-7,
)


def brightness(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Lambert's law: cosine (P,) between normals (P, 3) and the direction (3,) to the light, 0 where it turns away."""
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return np.clip(normals @ (light / np.linalg.norm(light)), 0, None)


def _surfaces() -> list[tuple]:
    normals = np.array([[0.0, 0.0, -1.0], [0.0, -2.0, 0.0], [0.6, 0.0, 0.8], [1.0, 1.0, -1.0], [0.0, 3.0, 4.0]])
    return [(normals, np.array([0.0, -1.0, -2.0])), (normals, np.array([1.0, 0.5, 0.0]))]


def _unnormalised(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    return np.clip(normals @ light, 0, None)


def _negative(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True)) @ (light / np.linalg.norm(light))


check_brightness = Check(
    truth=brightness,
    cases=_surfaces,
    mistakes={
        "a surface that turns away is dark, not darker than dark: no light is negative": _negative,
        "a surface that turns away is dark: the absolute value lights it from behind":
            lambda n, light: np.abs(_negative(n, light)),
        "the vectors are longer than 1: a cosine needs unit vectors": _unnormalised,
        "the light comes from the other side: `light` points to the lamp": lambda n, light: brightness(n, -light),
    },
    right="right: bright where the surface faces the lamp, dark where it turns away",
)  # fmt: skip


def hidden(depth: np.ndarray, keypoint: np.ndarray, z: float, margin: float) -> bool:
    """Whether something lies more than `margin` in front of a joint at depth z: depth map (H, W), keypoint (x, y)."""
    x, y = np.rint(keypoint).astype(int)
    return bool(depth[y, x] < z - margin)


def _depths() -> list[tuple]:
    depth = np.full((6, 8), 0.70)
    depth[1:4, 4:7] = 0.55  # a finger across
    depth[4, 2] = 0.63  # the joint's own skin
    spots = [
        ((5.2, 2.1), 0.65, 0.02),
        ((1.0, 5.0), 0.70, 0.02),
        ((1.8, 5.0), 0.60, 0.02),
        ((4.0, 1.2), 0.56, 0.02),
        ((3.7, 2.0), 0.65, 0.02),  # nearest to column 4
    ]
    # The skin is hidden or not as the margin says.
    spots += [
        ((2.3, 3.8), z, margin) for z, margin in ((0.64, 0.02), (0.66, 0.02), (0.66, 0.05), (0.68, 0.04), (0.645, 0.02))
    ]
    return [(depth, np.array(spot), z, margin) for spot, z, margin in spots]


def _swapped(depth: np.ndarray, keypoint: np.ndarray, z: float, margin: float) -> bool:
    padded = np.full((8, 8), 0.70)
    padded[:6] = depth
    return hidden(padded, keypoint[::-1], z, margin)


check_hidden = Check(
    truth=hidden,
    cases=_depths,
    mistakes={
        "a joint lies under its own skin: without the margin every joint is hidden":
            lambda d, k, z, margin: hidden(d, k, z, 0.0),
        "x and y are swapped: an array is asked for its row first": _swapped,
        "it is hidden by what is nearer to the camera, and near means a small depth":
            lambda d, k, z, margin: hidden(-d, k, -z, margin),
        "a pixel reaches half a pixel to each side of its centre: round, don't cut the digits off":
            lambda d, k, z, margin: hidden(d, np.floor(k), z, margin),
        "the margin is on the wrong side: z - margin, not z + margin": lambda d, k, z, margin: hidden(d, k, z, -margin),
        "your margin is a fixed number: use the one that is given": lambda d, k, z, margin: hidden(d, k, z, 0.02),
    },
    right="right: hidden where something else comes first",
)  # fmt: skip
