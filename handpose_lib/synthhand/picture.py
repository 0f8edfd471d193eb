"""From a lit hand to a picture: background, shadow on it, exposure, blur, noise, black borders of a warp.

The four versions of a hand share its pixels' geometry. As in FreiHAND, `gs` is the hand before a green screen and
the other three put it elsewhere and change its colours a little.
"""

import functools

import cv2
import numpy as np

from .backdrop import backdrop, green_screen
from .scene import REFERENCE, Scene
from .shading import Layer

FADING = 0.5  # share of the pasted pictures in which the forearm fades away


def compose(
    rng: np.random.Generator, scene: Scene, layer: Layer, version: str, photographs: bool = True, borders: bool = True
) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB of one of `VERSIONS`, or of "evaluation": an uncut photograph of any place.

    Without `borders` no picture has the black corners that FreiHAND's turned pictures have.
    """
    size = scene.size
    studio = version == "gs" or (version == "evaluation" and rng.random() < 0.4)
    pasted = version in ("hom", "sample", "auto")
    image = green_screen(rng, size) if studio else backdrop(rng, size, photographs)
    hand, alpha = _developed(rng, layer, pasted), layer.alpha
    if pasted:
        hand = _harmonised(rng, hand, np.array(cv2.mean(image)[:3], np.float32), alpha[layer.rows, layer.columns])
        if rng.random() < 0.5:  # the cut-out's edge is never perfect
            alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 0.9) * size / REFERENCE)
        if rng.random() < FADING:
            alpha = _faded(rng, layer, alpha)
    image = _with_shadow(rng, image, layer, alpha)
    cover = alpha[layer.rows, layer.columns, None]
    image[layer.rows, layer.columns] += cover * (hand - image[layer.rows, layer.columns])
    image = _taken(rng, image)
    if borders and rng.random() < (0.08 if pasted else 0.6):
        image = _with_borders(rng, image, scene.uv)
    return _stored(rng, np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8))


def _taken(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) as a camera takes it: a little soft and noisy, now and then dark, too bright or shaken."""
    scale = image.shape[0] / REFERENCE
    exposed = rng.random()
    if exposed < 0.08:
        image = image * rng.uniform(0.25, 0.65)
    elif exposed < 0.15:
        image = np.minimum(image * rng.uniform(1.25, 1.8), 1)
    softness = rng.random()
    if softness < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9) * scale)
    elif softness < 0.68:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.9, 2.2) * scale)
    elif softness < 0.73:
        image = cv2.filter2D(image, -1, _shake(rng, int(rng.uniform(4, 13) * scale) + 1))
    noise = rng.uniform(0, 0.018) if rng.random() < 0.9 else rng.uniform(0.02, 0.06)
    return image + noise * _sensor_noise(rng, image.shape)


def _shake(rng: np.random.Generator, length: int) -> np.ndarray:
    """The kernel (n, n) of a straight movement of `length` pixels in a random direction, sum 1."""
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    angle, middle = rng.uniform(0, np.pi), side // 2
    reach = np.round(np.array([np.cos(angle), np.sin(angle)]) * middle).astype(int)
    start, end = (middle - reach).tolist(), (middle + reach).tolist()
    cv2.line(kernel, start, end, 1.0)
    return kernel / kernel.sum()


def _stored(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 after what files go through: sometimes made small, sometimes strongly compressed."""
    size = image.shape[0]
    chosen = rng.random()
    if chosen < 0.10:
        small = cv2.resize(image, None, fx=(part := rng.uniform(0.25, 0.6)), fy=part, interpolation=cv2.INTER_AREA)
        how = cv2.INTER_NEAREST if rng.random() < 0.1 else cv2.INTER_LINEAR
        image = cv2.resize(small, (size, size), interpolation=how)
    if chosen > 0.90 or chosen < 0.03:
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 55))])[1]
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return image


def _faded(rng: np.random.Generator, layer: Layer, alpha: np.ndarray) -> np.ndarray:
    """Alpha (H, W) that falls to 0 along the forearm, from the wrist or below it, as in FreiHAND's cut-outs."""
    start, length = rng.uniform(-0.005, 0.07), rng.uniform(0.01, 0.09)  # m
    kept = np.clip(1 - (layer.arm - start) / length, 0, 1)
    faded = alpha.copy()
    faded[layer.rows, layer.columns] *= kept * kept * (3 - 2 * kept)
    return faded


@functools.cache
def _noise_sheet() -> np.ndarray:
    """White noise (768, 768, 3) from which every picture takes its own part: drawing it again would cost more."""
    return np.random.default_rng(0).standard_normal((768, 768, 3), np.float32)


def _sensor_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise (H, W, 3) of standard deviation 1, a random part of a larger sheet, turned at random."""
    sheet = _noise_sheet()
    if max(shape[:2]) > min(sheet.shape[:2]):
        return rng.standard_normal(shape, np.float32)
    top, left = rng.integers(0, sheet.shape[0] - np.array(shape[:2]) + 1)
    part = sheet[top : top + shape[0], left : left + shape[1]]
    return part[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]


def _developed(rng: np.random.Generator, layer: Layer, changed: bool) -> np.ndarray:
    """The hand in sRGB (P, 3): exposure and white balance that a camera might choose."""
    typical = max(float(np.percentile(layer.color[::7, 1], 70)), 1e-3)
    # The meter looks at the whole scene, so dark skin stays dark: only half of the difference is taken out.
    exposure = (0.36 / typical) ** 0.5 * 1.2 * rng.uniform(0.7, 1.25)
    balance = 1 + rng.normal(0, 0.05) * np.array([1.0, 0, -1.0])
    if changed:
        balance = balance * (1 + rng.normal(0, 0.05, 3))
    linear = layer.color * (exposure * balance).astype(np.float32)
    return _FILM[(linear * (len(_FILM) / _FILM_WHITE)).astype(np.int32).clip(0, len(_FILM) - 1)]


def _film(entries: int, white: float) -> np.ndarray:
    """sRGB (entries,) of linear light from 0 to `white`, with a shoulder instead of a hard clip."""
    linear = (np.arange(entries) + 0.5) / entries * white
    shoulder = 0.7 + 0.3 * np.tanh((linear - 0.7) / 0.3)
    return (np.where(linear > 0.7, shoulder, linear) ** (1 / 2.2)).astype(np.float32)


_FILM_WHITE = 2.0
_FILM = _film(8192, _FILM_WHITE)


def _harmonised(rng: np.random.Generator, hand: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The hand's colours (P, 3) with their mean and contrast moved a little towards the background's mean (3,)."""
    mean = (alpha @ hand) / max(alpha.sum(), 1)
    target = mean + rng.uniform(0, 0.25) * np.clip(back - mean, -0.3, 0.3)
    contrast, saturation = rng.uniform(0.85, 1.2), rng.uniform(0.7, 1.2)
    gray = hand @ np.full((3, 1), 1 / 3, np.float32)
    hand = gray + (hand - gray) * saturation
    return np.clip((hand - mean) * contrast + target, 0, 1)


def _with_shadow(rng: np.random.Generator, back: np.ndarray, layer: Layer, alpha: np.ndarray) -> np.ndarray:
    """The background with a soft shadow of the hand, where something is close enough behind it."""
    if rng.random() < 0.5:
        return back
    size = back.shape[0]
    towards = layer.light.lamps[0].towards
    distance = rng.uniform(0.03, 0.15) * size
    shift = -towards[:2] * distance
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    shadow = cv2.warpAffine(alpha, matrix, (size, size))
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.25 * distance + 1)
    return back * (1 - rng.uniform(0.15, 0.55) * shadow)[..., None]


def _with_borders(rng: np.random.Generator, image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The image with black beyond a slightly turned frame, which FreiHAND's rotation to the hand leaves behind."""
    size = image.shape[0]
    for _ in range(5):
        low = np.where(rng.random(2) < 0.6, rng.uniform(-0.06, 0.10, 2), -0.1)
        high = np.where(rng.random(2) < 0.6, rng.uniform(0.90, 1.06, 2), 1.1)
        if rng.random() < 0.15:  # now and then a large part is missing
            low[rng.integers(2)] = rng.uniform(0.1, 0.3)
        corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
        angle = np.radians(rng.normal(0, 2.5))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = ((corners - 0.5) @ turn.T + 0.5 + rng.normal(0, 0.012, (4, 2))) * size
        mask = np.zeros((size, size), np.float32)
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1.0, cv2.LINE_AA)
        columns, rows = np.round(uv).astype(int).T
        if mask[rows, columns].min() > 0.99:
            return image * mask[..., None]
    return image
