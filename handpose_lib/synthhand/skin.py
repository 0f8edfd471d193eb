"""The colour of skin: tones over the whole human range, redness, nails, and the creases of palm and joints."""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from ..fields import is_number
from .asset import FINGER_BONES, HandAsset, load_asset, unit

# sRGB from very light to very dark, in the spirit of the Monk scale.
_TONES_SRGB = np.array([
    (242, 208, 192), (229, 187, 167), (212, 165, 142), (191, 140, 115),
    (162, 113, 90), (126, 87, 70), (93, 64, 52), (67, 47, 40),
]) / 255.0  # fmt: skip
_TONES = _TONES_SRGB**2.2


@dataclass
class Skin:
    """One person's skin; colours are linear albedo."""

    tone: np.ndarray  # (3,)
    mottling: float  # 0-1, uneven colour
    palm_light: float  # 0-1, how much lighter the palm is than the back
    redness: float  # 0-1, of fingertips, knuckles and palm
    creases: float  # 0-1, depth of lines
    nail_color: np.ndarray  # (3,)
    gloss: float  # 0-1
    nail_gloss: float = 0.5  # 0-1, what nails have beyond it


def sample_skin(rng: np.random.Generator) -> Skin:
    """A person from the whole range of tones, lighter ones a little more often (as in FreiHAND)."""
    place = np.clip(rng.beta(0.95, 1.3) * 7, 0, 6.999)
    i, part = int(place), place % 1
    tone = _TONES[i] ** (1 - part) * _TONES[i + 1] ** part * rng.normal(1, 0.08) * rng.normal(1, 0.045, 3)
    nail = tone**0.85 * np.array([1.05, 0.92, 0.92])
    if rng.random() < 0.06:  # polish
        nail = rng.uniform(0.02, 0.7) * np.clip(1 + rng.normal(0, 0.5, 3), 0.1, 2)
    return Skin(
        tone, rng.uniform(0.2, 1), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.9), rng.uniform(0.3, 1),
        np.clip(nail, 0.01, 0.9), rng.uniform(0.1, 1),
    )  # fmt: skip


def glove(red: int, green: int, blue: int, gloss: float = 0.6) -> Skin:
    """A thin rubber glove of a colour (sRGB, 0 to 255) instead of skin: the same everywhere, with few creases.

    Raises:
        ValueError: a colour beyond 0 to 255, or a gloss beyond 0 to 1.
    """
    if not all(is_number(each) and 0 <= each <= 255 for each in (red, green, blue)):
        raise ValueError(f"the colour is {red}, {green}, {blue}: each must be from 0 to 255")
    if not is_number(gloss) or not 0 <= gloss <= 1:
        raise ValueError(f"gloss is {gloss}, it must be from 0 to 1")
    color = (np.array([red, green, blue]) / 255.0) ** 2.2
    return Skin(color, mottling=0, palm_light=0, redness=0, creases=0.15, nail_color=color, gloss=gloss, nail_gloss=0)


def vertex_colors(rng: np.random.Generator, asset: HandAsset, skin: Skin) -> np.ndarray:
    """Linear albedo (V, 3) at every vertex: all that changes slowly over the hand."""
    palm = (asset.palmar * skin.palm_light)[:, None]
    color = skin.tone * (1 - palm) + palm * (0.65 * skin.tone + 0.35 * np.array([0.80, 0.46, 0.36]))
    red = 0.8 * asset.nearness_tip + 0.5 * asset.nearness_knuckle + 0.25 * asset.palmar
    color = color * (1 - np.clip(red, 0, 1)[:, None] * skin.redness * np.array([0.02, 0.30, 0.30]))
    patches = smooth_noise(rng, asset)[:, None] * np.array([0.5, 1.0, 1.1])
    return np.clip(color * (1 + 0.06 * skin.mottling * patches), 0.005, 0.95)


@functools.cache
def _neighbours() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    faces = load_asset().faces
    edges = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    degree = np.bincount(edges[:, 0], minlength=len(load_asset().vertices))
    return edges[:, 0], edges[:, 1], np.maximum(degree, 1)


def smooth_noise(rng: np.random.Generator, asset: HandAsset, rounds: int = 4) -> np.ndarray:
    """Noise (V,) of standard deviation 1 in patches of a centimetre: white noise averaged over the mesh."""
    values = rng.normal(size=len(asset.vertices))
    start, end, degree = _neighbours()
    for _ in range(rounds):
        values = 0.5 * values + 0.5 * np.bincount(start, values[end], minlength=len(values)) / degree
    return values / values.std()


@functools.cache
def _joint_frames() -> tuple[np.ndarray, np.ndarray]:
    """Positions (15, 3) of the finger joints and the directions (15, 3) of the bones that begin there."""
    asset = load_asset()
    return asset.heads[FINGER_BONES].reshape(15, 3), asset.finger_axes[:, :, 2].reshape(15, 3)


@functools.cache
def _nearest_joint() -> np.ndarray:
    """Nearest finger joint (V,) of each vertex."""
    return np.linalg.norm(load_asset().vertices[:, None] - _joint_frames()[0][None], axis=2).argmin(1)


def joint_creases(rest: np.ndarray, palmar: np.ndarray, vertex: np.ndarray) -> np.ndarray:
    """Darkness (P,) 0-1 of the lines across finger joints at rest positions (P, 3), each near a `vertex` (P,)."""
    positions, directions = _joint_frames()
    joint = _nearest_joint()[vertex]
    offset = rest - positions.astype(np.float32)[joint]
    along = np.einsum("pj,pj->p", offset, directions.astype(np.float32)[joint])
    near = np.exp(-((np.einsum("pj,pj->p", offset, offset) / 0.014**2) ** 2))
    inner = np.exp(-((along / 0.0011) ** 2)) + 0.6 * np.exp(-(((along - 0.0028) / 0.0009) ** 2))
    outer = np.exp(-((along / 0.0011) ** 2)) + 0.7 * np.exp(-(((np.abs(along) - 0.003) / 0.001) ** 2))
    # The knuckles' own row lies under the palm's skin: no line there on the inside.
    knuckle = (joint % 3 == 0) & (joint > 2)
    inner = np.where(knuckle, 0, inner)
    return near * (inner * palmar + 0.45 * outer * (1 - palmar))


@functools.cache
def _palm_frame() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes of the palm, scaled so that (0..1, 0..1) runs from pinky to index knuckle and from wrist to knuckles."""
    asset = load_asset()
    knuckles = asset.heads[FINGER_BONES[1:, 0]]
    up = knuckles.mean(0)
    across = knuckles[0] - knuckles[3]
    across = across - (across @ unit(up)) * unit(up)
    return across / (across @ across), up / (up @ up), knuckles[3]


# The three main lines of a palm (x from pinky 0 to index 1, y from wrist 0 to knuckles 1), as on most hands.
_PALM_LINES = (
    ((-0.15, 0.72), (0.25, 0.74), (0.55, 0.83), (0.72, 1.02)),  # heart
    ((1.12, 0.74), (0.75, 0.70), (0.35, 0.58), (0.05, 0.45)),  # head
    ((1.12, 0.76), (0.85, 0.60), (0.62, 0.38), (0.58, 0.10)),  # life
)


def palm_creases(rest: np.ndarray) -> np.ndarray:
    """Darkness (P,) 0-1 of the palm's three main lines at rest positions (P, 3)."""
    across, up, origin = _palm_frame()
    x = ((rest - origin) @ across).astype(np.float32)
    y = (rest @ up).astype(np.float32)
    nearest = np.full(len(rest), 9.0, np.float32)
    for line in _PALM_LINES:
        for (ax, ay), (bx, by) in itertools.pairwise(line):
            dx, dy = bx - ax, by - ay
            t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
            nearest = np.minimum(nearest, (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
    return np.exp(-nearest / 0.018**2)
