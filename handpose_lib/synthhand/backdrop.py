"""What is behind the hand: a green screen, parts of photographs, or drawn rooms, walls, wood, cloth, foliage and views.

What `green_screen` and `backdrop` return is (H, W, 3) float32, sRGB 0-1, muted as photographs are.
"""

import functools
import math
import zipfile
from pathlib import Path

import cv2
import numpy as np

from ..layout import IMAGE_SIZE

PHOTOGRAPHS_PATH = Path(__file__).with_name("photographs.zip")


def green_screen(rng: np.random.Generator, size: int) -> np.ndarray:
    """A green cloth with folds and uneven light; often a lamp, a stand or the edge of the cloth is in view."""
    hue = np.array([rng.uniform(0.62, 0.72), 1.0, rng.uniform(0.26, 0.48)], np.float32) * rng.uniform(0.32, 0.66)
    image = hue * _gradient(rng, size, 0.45) * (1 + 0.05 * fractal(rng, size, 2, 0.5)[..., None])
    if rng.random() < 0.6:  # a fold of the cloth, or the corner between wall and table
        image *= _half_plane(rng, size, blur=rng.uniform(0.5, 3), low=rng.uniform(0.7, 0.92))[..., None]
    if rng.random() < 0.55:  # the room behind the screen
        beyond = _half_plane(rng, size, blur=0.6, low=0.0, offset=rng.uniform(0.2, 0.45))[..., None]
        image = image * beyond + room(rng, size) * (1 - beyond)
    canvas = _canvas(image)
    for _ in range(rng.integers(0, 3)):
        _studio_thing(rng, canvas)
    return _finished(canvas)


def backdrop(rng: np.random.Generator, size: int, photographs: bool = True) -> np.ndarray:
    """Any other place; with `photographs=False` always a drawn one."""
    kind = str(rng.choice(list(_ODDS), p=list(_ODDS.values())))
    while kind == "photograph" and not photographs:
        kind = str(rng.choice(list(_ODDS), p=list(_ODDS.values())))
    image = _PLACES[kind](rng, size)
    if rng.random() < 0.15:
        image = _with_skin_elsewhere(rng, image)
    if rng.random() < 0.5:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3.5) * size / IMAGE_SIZE)
    gray = image @ np.full((3, 1), 1 / 3, np.float32)
    image = gray + (image - gray) * rng.uniform(0.5, 1.15)
    return np.clip(image * rng.uniform(0.75, 1.2), 0, 1).astype(np.float32)


_ODDS = {
    "photograph": 0.50,
    "room": 0.14,
    "wall": 0.06,
    "wood": 0.06,
    "cloth": 0.06,
    "foliage": 0.06,
    "outdoors": 0.06,
    "desk": 0.06,
}


@functools.cache
def _photographs() -> list[np.ndarray]:
    """The bundled photographs, each (H, W, 3) uint8 RGB; see `PHOTOGRAPHS.md`."""
    with zipfile.ZipFile(PHOTOGRAPHS_PATH) as file:
        encoded = [np.frombuffer(file.read(name), np.uint8) for name in sorted(file.namelist())]
    return [cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] for data in encoded]


def photograph(rng: np.random.Generator, size: int) -> np.ndarray:
    """A part of a real photograph, turned, mirrored, enlarged and recoloured at random."""
    photos = _photographs()
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    angle = rng.normal(0, 12) + rng.choice([0, 90, 180, 270], p=[0.7, 0.1, 0.1, 0.1])
    zoom = size / height * math.exp(rng.uniform(0.0, 0.9))
    center = rng.uniform(0.35, 0.65, 2) * (width, height)
    matrix = cv2.getRotationMatrix2D(center.tolist(), angle, zoom)
    matrix[:, 2] += size / 2 - center
    if rng.random() < 0.5:
        matrix[0] = -matrix[0] + (0, 0, size - 1)
    image = cv2.warpAffine(photo, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    gain = (rng.uniform(0.6, 1.3) * (1 + rng.normal(0, 0.06, 3)) / 255).astype(np.float32)
    return image * gain


def _with_skin_elsewhere(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image with faces, arms or a second hand's blur of skin colour: not all skin is the hand that is asked for."""
    size = image.shape[0]
    tone = rng.uniform(0.2, 0.9) * np.array([1.0, rng.uniform(0.66, 0.8), rng.uniform(0.5, 0.7)], np.float32)
    for _ in range(rng.integers(1, 3)):
        half = size * rng.uniform(0.06, 0.28) * np.array([1.0, rng.uniform(1, 3.5)])
        angle = rng.uniform(0, 360)
        center = rng.uniform(-0.1, 1.1, 2) * size
        mask = np.zeros((size, size), np.uint8)
        axes = tuple(np.round(half).astype(int).tolist())
        cv2.ellipse(mask, tuple(np.round(center).astype(int).tolist()), axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
        cover = (
            cv2.GaussianBlur(mask, (0, 0), size / IMAGE_SIZE * rng.uniform(0.8, 7)).astype(np.float32)[..., None] / 255
        )
        shading = _gradient(rng, size, 1.2) * (1 + 0.07 * fractal(rng, size, 1, 0.6)[..., None])
        image = image + cover * (tone * shading - image)
    return image


def fractal(rng: np.random.Generator, size: int, first: int = 1, gain: float = 0.6) -> np.ndarray:
    """Cloudy noise (H, W), mean 0 and standard deviation 1; `gain` 0.4 is smooth, 0.8 rough."""
    total, strength = np.zeros((size, size), np.float32), 1.0
    for octave in range(first, 8):
        cells = rng.standard_normal((2**octave + 1, 2**octave + 1), np.float32)
        total += strength * cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
        strength *= gain
    return (total - total.mean()) / (total.std() + 1e-6)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, W) and y (H, 1) from -0.5 to 0.5."""
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return line[None], line[:, None]


def _gradient(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """Light (H, W, 1) that falls off across the image, around 1."""
    x, y = _grid(size)
    dx, dy = rng.normal(0, strength, 2).tolist()
    return np.clip(1 + dx * x + dy * y, 0.3, 1.7)[..., None]


def _half_plane(rng: np.random.Generator, size: int, blur: float, low: float, offset: float | None = None):
    """1 on one side of a random line and `low` on the other (H, W)."""
    x, y = _grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(-0.3, 0.3) if offset is None else offset
    distance = math.cos(angle) * x + math.sin(angle) * y
    side = np.clip((offset - distance) * size / (2 * blur) + 0.5, 0, 1)
    return low + (1 - low) * side


def _muted(rng: np.random.Generator, low: float = 0.1, high: float = 0.9, spread: float = 0.08) -> np.ndarray:
    """A colour (3,) as things in rooms have it: some gray level and a little tint."""
    warmth, green = rng.normal(0, spread), rng.normal(0, spread / 2)
    color = rng.uniform(low, high) * (1 + np.array([warmth, green, -warmth], np.float32))
    return np.clip(color, 0, 1)


def _bright(rng: np.random.Generator) -> np.ndarray:
    """The colour of a thing that is meant to be seen: a toy, a book, a crate."""
    color = rng.uniform(0.1, 0.8) * (1 + rng.normal(0, 0.45, 3))
    return np.clip(color, 0.02, 0.95).astype(np.float32)


def _quad(rng: np.random.Generator, size: int, center: np.ndarray, half: np.ndarray, tilt: float) -> np.ndarray:
    """Corners (4, 2) int of a rectangle seen at an angle."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]], np.float32)
    corners = corners @ turn.T * rng.uniform(0.85, 1.15, (4, 1)) + center
    return np.round(corners * size).astype(np.int32)


def _canvas(image: np.ndarray) -> np.ndarray:
    """The image as bytes: OpenCV draws smooth edges on nothing else."""
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255).astype(np.uint8))


def _finished(canvas: np.ndarray) -> np.ndarray:
    """A canvas as float32 0-1."""
    return canvas.astype(np.float32) / 255


def _ink(color: np.ndarray | tuple) -> list[float]:
    """A colour 0-1 as OpenCV wants it on a canvas."""
    return (np.asarray(color) * 255).tolist()


def _things(rng: np.random.Generator, image: np.ndarray, count: int, tilt: float) -> None:
    """Books, boxes, frames, screens: shaded quadrilaterals with a side and a shadow, painted in place."""
    size = image.shape[0]
    for _ in range(count):
        half = rng.uniform(0.02, 0.2, 2) * rng.choice([1.0, 0.3], 2)
        quad = _quad(rng, size, rng.uniform(0, 1, 2), half, tilt + rng.normal(0, 0.15))
        color = _bright(rng) if rng.random() < 0.3 else _muted(rng, 0.03, 0.85)
        shift = np.round(rng.normal(0, 0.02, 2) * size).astype(np.int32)
        cv2.fillPoly(image, [quad + shift], _ink(color * 0.5), cv2.LINE_AA)
        cv2.fillPoly(image, [quad], _ink(color), cv2.LINE_AA)
        if rng.random() < 0.3:
            inner = np.round(quad.mean(0) + 0.75 * (quad - quad.mean(0))).astype(np.int32)
            cv2.fillPoly(image, [inner], _ink(_muted(rng)), cv2.LINE_AA)


def _bars(rng: np.random.Generator, image: np.ndarray, count: int) -> None:
    """Metal profiles, table legs, cables: long lines with a bright and a dark side, painted in place."""
    size = image.shape[0]
    for _ in range(count):
        a, b = rng.uniform(-0.2, 1.2, (2, 2))
        width = int(rng.choice([1, 2, 5, 9, 14]) * size / IMAGE_SIZE) + 1
        color = _muted(rng, 0.1, 0.85, 0.03)
        p, q = (tuple(np.round(v * size).astype(int).tolist()) for v in (a, b))
        cv2.line(image, p, q, _ink(color), width, cv2.LINE_AA)
        if width > 4:
            cv2.line(image, (p[0] + width // 4, p[1]), (q[0] + width // 4, q[1]), _ink(0.6 * color), width // 3,
                     cv2.LINE_AA)  # fmt: skip


def _studio_thing(rng: np.random.Generator, image: np.ndarray) -> None:
    """A lamp or the dark stand of a camera, near the border, painted in place."""
    size = image.shape[0]
    center = rng.uniform(0, 1, 2)
    center[rng.integers(2)] = rng.choice([0.06, 0.94])
    if rng.random() < 0.5:
        quad = _quad(rng, size, center, rng.uniform(0.05, 0.12, 2), rng.normal(0, 0.3))
        cv2.fillPoly(image, [quad], _ink((0.25, 0.25, 0.25)), cv2.LINE_AA)
        inner = np.round(quad.mean(0) + 0.85 * (quad - quad.mean(0))).astype(np.int32)
        cv2.fillPoly(image, [inner], _ink((1.0, 1.0, 1.0)), cv2.LINE_AA)
    else:
        quad = _quad(rng, size, center, rng.uniform(0.015, 0.06, 2), rng.normal(0, 0.3))
        cv2.fillPoly(image, [quad], _ink(_muted(rng, 0.03, 0.2)), cv2.LINE_AA)


def room(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two or three walls, perhaps a window, furniture, cables."""
    image = (_muted(rng, 0.3, 0.85) * _gradient(rng, size, 0.5)).astype(np.float32)
    for _ in range(rng.integers(1, 3)):
        edge = _half_plane(rng, size, blur=0.7, low=0.0)[..., None]
        image = image * edge + (1 - edge) * _muted(rng, 0.12, 0.8) * _gradient(rng, size, 0.5)
    image = _canvas(image)
    tilt = rng.normal(0, 0.3)
    if rng.random() < 0.35:  # a window burns out
        quad = _quad(rng, size, rng.uniform(0.1, 0.9, 2), rng.uniform(0.1, 0.3, 2), tilt)
        cv2.fillPoly(image, [quad], _ink((0.97, 0.98, 1.0)), cv2.LINE_AA)
        for a, b in ((0, 2), (1, 3)):
            middle = [tuple(((quad[i] + quad[(i + 1) % 4]) // 2).tolist()) for i in (a, b)]
            cv2.line(image, middle[0], middle[1], _ink((0.5, 0.5, 0.5)), max(size // 60, 1), cv2.LINE_AA)
    _things(rng, image, rng.integers(0, 14), tilt)
    _bars(rng, image, rng.integers(0, 4))
    return _finished(image) * (1 + 0.03 * fractal(rng, size, 2, 0.7)[..., None])


def wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """Plaster, concrete, or bricks."""
    image = _muted(rng, 0.2, 0.9) * _gradient(rng, size, 0.6)
    image = image * (1 + rng.uniform(0.005, 0.09) * fractal(rng, size, 2, rng.uniform(0.4, 0.95))[..., None])
    if rng.random() < 0.3:
        x, y = _grid(size)
        height = rng.uniform(0.05, 0.12)
        row = np.floor(y / height)
        level = np.abs(y / height - row - 0.5) > 0.45
        upright = np.abs((x / (2.2 * height) + 0.5 * (row % 2)) % 1 - 0.5) > 0.47
        joint = level | upright
        image = np.where(joint[..., None], image * 0.7, image * (1 + 0.08 * np.sin(row * 9.1)[..., None]))
    return image.astype(np.float32)


def wood(rng: np.random.Generator, size: int) -> np.ndarray:
    """Boards with grain."""
    x, y = _grid(size)
    angle = rng.uniform(0, np.pi)
    along, across = math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x + math.cos(angle) * y
    bent = across + 0.007 * fractal(rng, size, 1, 0.4) + 0.03 * along
    grain = 0.4 * np.sin(bent * rng.uniform(60, 160)) + 0.4 * np.sin(bent * rng.uniform(200, 420))
    grain = grain * (1 + 0.5 * fractal(rng, size, 2, 0.5)) + 0.4 * fractal(rng, size, 4)
    color = np.array([1.0, rng.uniform(0.66, 0.8), rng.uniform(0.4, 0.6)], np.float32) * rng.uniform(0.2, 0.75)
    image = color * (1 + 0.09 * grain[..., None]) * _gradient(rng, size, 0.5)
    boards = np.floor(across * rng.uniform(3, 9))
    image = image * (1 + 0.08 * np.sin(boards * 12.9)[..., None])
    return image.astype(np.float32)


def cloth(rng: np.random.Generator, size: int) -> np.ndarray:
    """A blanket, shirt or sofa: weave, folds, sometimes stripes."""
    color = _bright(rng) if rng.random() < 0.3 else _muted(rng, 0.05, 0.85)
    folds = fractal(rng, size, 1, 0.45)
    image = color * (1 + 0.14 * folds[..., None]) * _gradient(rng, size, 0.4)
    if rng.random() < 0.35:
        x, y = _grid(size)
        angle = rng.uniform(0, np.pi)
        phase = (math.cos(angle) * x + math.sin(angle) * y + 0.01 * folds) * rng.uniform(10, 60)
        image = image * (1 + rng.uniform(0.1, 0.3) * np.sign(np.sin(phase))[..., None])
    return (image * (1 + 0.05 * rng.standard_normal((size, size, 1)))).astype(np.float32)


def foliage(rng: np.random.Generator, size: int) -> np.ndarray:
    """Leaves against the light, grass, hedges."""
    clumps = fractal(rng, size, 2, 0.6)
    leaves = _leaves(rng, size)
    light = 1 / (1 + np.exp(-1.1 * clumps - 2.0 * leaves - rng.normal(0, 0.6)))
    dark = np.array([0.12, 0.15, 0.09], np.float32) * rng.uniform(0.4, 1.6)
    green = np.array([rng.uniform(0.38, 0.62), rng.uniform(0.5, 0.66), rng.uniform(0.22, 0.42)], np.float32)
    image = dark + (green - dark) * light[..., None]
    if rng.random() < 0.5:  # sky between the leaves
        holes = np.clip(2 * (0.7 * clumps + _leaves(rng, size) - rng.uniform(0.7, 1.6)), 0, 1)[..., None]
        image = image * (1 - holes) + holes * np.array([0.93, 0.96, 1.0], np.float32)
    if rng.random() < 0.4:
        canvas = _canvas(image)
        _bars(rng, canvas, rng.integers(1, 4))
        return _finished(canvas)
    return image.astype(np.float32)


def _leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise (H, W) of standard deviation 1 in streaks of a few pixels, turned this way and that."""
    total = np.zeros((size, size), np.float32)
    for _ in range(2):
        streaks = rng.standard_normal((size, size), np.float32)
        short, long = rng.uniform(0.7, 1.2), rng.uniform(1.5, 4.5)
        streaks = cv2.GaussianBlur(streaks, (0, 0), long * size / IMAGE_SIZE, sigmaY=short * size / IMAGE_SIZE)
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(0, 180), 1.5)
        streaks = cv2.warpAffine(streaks, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
        total = np.maximum(total, streaks / streaks.std())
    return (total - total.mean()) / total.std()


def outdoors(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sky, a skyline or hills, and ground."""
    x, y = _grid(size)
    horizon = rng.uniform(-0.25, 0.25) + 0.05 * rng.normal() * x
    blue = np.array([0.45, 0.62, 0.88], np.float32) * rng.uniform(0.6, 1.1)
    haze = np.clip(0.6 + 1.2 * y + 0.25 * fractal(rng, size), 0, 1)[..., None]
    sky = blue + (np.array([0.93, 0.94, 0.95], np.float32) - blue) * haze
    ground = _muted(rng, 0.15, 0.6, 0.15) * (1 + 0.15 * fractal(rng, size, 2, 0.8)[..., None])
    relief = 0.06 * np.cumsum(rng.normal(0, 0.12, size)).astype(np.float32)[None]
    hill = y > horizon + np.clip(relief, -0.3, 0.2)
    hill_color = foliage(rng, size) * rng.uniform(0.4, 0.9)
    image = np.where((y > horizon + 0.1)[..., None], ground, np.where(hill[..., None], hill_color, sky))
    if rng.random() < 0.4:
        canvas = _canvas(image)
        _things(rng, canvas, rng.integers(1, 7), 0.0)
        return _finished(canvas)
    return image.astype(np.float32)


def desk(rng: np.random.Generator, size: int) -> np.ndarray:
    """A table top with things on it."""
    image = wood(rng, size) if rng.random() < 0.5 else wall(rng, size)
    canvas = _canvas(image)
    _things(rng, canvas, rng.integers(3, 16), rng.uniform(-0.6, 0.6))
    _bars(rng, canvas, rng.integers(0, 3))
    return _finished(canvas)


_PLACES = {
    "photograph": photograph,
    "room": room,
    "wall": wall,
    "wood": wood,
    "cloth": cloth,
    "foliage": foliage,
    "outdoors": outdoors,
    "desk": desk,
}
