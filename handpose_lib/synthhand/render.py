"""From triangles to pixels in numpy: z-buffer, shadow map, and which surface lies in front of a point.

Image coordinates have whole numbers at pixel centres. Camera coordinates: metres, x right, y down, z forward.
"""

from dataclasses import dataclass

import numpy as np

NEAR = 0.05  # m; faces that come closer to the camera are left out
_EDGE = 1e-6  # slack at shared edges, so that no ray slips between two triangles


@dataclass
class Fragments:
    """The P visible samples of a mesh."""

    rows: np.ndarray  # (P,) int
    columns: np.ndarray  # (P,) int
    faces: np.ndarray  # (P,) int
    barycentric: np.ndarray  # (P, 3) on the surface (perspective taken out), float32
    depth: np.ndarray  # (P,) metres, float32


def project_points(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of camera-space points (..., 3) for intrinsics K (3, 3)."""
    homogeneous = points @ K.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def supersampled(uv: np.ndarray, factor: int) -> np.ndarray:
    """Pixels of an image that has `factor` times as many rows and columns."""
    return (uv + 0.5) * factor - 0.5


def rasterize(uv: np.ndarray, z: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
    """Nearest front-facing surface at every pixel centre.

    Args:
        uv: (V, 2) projected vertices, pixels of the raster.
        z: (V,) depth, metres, positive.
        faces: (F, 3) counter-clockwise seen from outside.
        size: height and width of the raster.

    All faces at once: each is cut into rows, each row into samples, and of all samples of a pixel the nearest stays.
    """
    height, width = size
    corners = uv[faces]  # (F, 3, 2)
    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    low = np.ceil(corners[..., 1].min(1) - _EDGE).clip(0)
    high = np.floor(corners[..., 1].max(1) + _EDGE).clip(max=height - 1)
    chosen = np.nonzero((area < 0) & (z[faces].min(1) > NEAR) & (high >= low))[0]

    dx, dy, offset = _barycentric_planes(corners[chosen], area[chosen])
    owner, row = _spread(low[chosen].astype(np.int64), (high - low + 1)[chosen].astype(np.int64))
    start = offset[owner] + dy[owner] * row[:, None]  # (R, 3) barycentric coordinates where the row meets x = 0
    first, last = _span(start, dx[owner], width)
    count = np.maximum(last - first + 1, 0)
    segment, column = _spread(first, count)  # (S,) samples; all of them are inside their face

    # 1/z is linear on the image, z is not.
    inverse = 1.0 / z[faces[chosen]]  # (C, 3)
    slope, base = (dx * inverse).sum(1)[owner], (start * inverse[owner]).sum(1)
    nearness = base[segment] + slope[segment] * column
    pixel = row[segment] * width + column
    nearest = np.zeros(height * width)
    np.maximum.at(nearest, pixel, nearness)
    winners = np.nonzero(nearness == nearest[pixel])[0]
    buffer = np.empty(height * width, np.int64)
    buffer[pixel[winners]] = winners
    winners = winners[buffer[pixel[winners]] == winners]  # one sample for each pixel, also on shared edges

    owner, segment, column = owner[segment[winners]], segment[winners], column[winners]
    weights = (start[segment] + dx[owner] * column[:, None]) * inverse[owner] / nearness[winners, None]
    return Fragments(
        row[segment], column, chosen[owner], weights.astype(np.float32), (1 / nearness[winners]).astype(np.float32)
    )


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _spread(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of whole numbers: for each, `count` numbers from `first` on; returns their owner and the number."""
    owner = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, first[owner] + within


def _span(start: np.ndarray, slope: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last column (R,) where all of start + slope * column, (R, 3), are at least 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -start / slope
    slack = 1e-9 + _EDGE * np.abs(crossing).clip(max=width) / width
    low = np.where(slope > 0, crossing - slack, -np.inf).max(1)
    high = np.where(slope < 0, crossing + slack, np.inf).min(1)
    never = ((slope == 0) & (start < 0)).any(1)
    first = np.ceil(low.clip(0, width)).astype(np.int64)
    last = np.floor(high.clip(-1, width - 1)).astype(np.int64)
    return first, np.where(never, -1, last)


def _barycentric_planes(corners: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes (C, 3) along x and y, and values (C, 3) at the origin, of the barycentric coordinates."""
    x, y = corners[..., 0], corners[..., 1]
    following, last = [1, 2, 0], [2, 0, 1]
    dx = (y[:, following] - y[:, last]) / area[:, None]
    dy = (x[:, last] - x[:, following]) / area[:, None]
    offset = (x[:, following] * y[:, last] - y[:, following] * x[:, last]) / area[:, None]
    return dx, dy, offset


def first_surface(uv: np.ndarray, z: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Face (N,) that is hit first by the line of sight through each image point (N, 2); -1 where there is none."""
    corners = uv[faces]
    low, high = corners.min(1), corners.max(1)
    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    usable = (area < 0) & (z[faces].min(1) > NEAR)
    x, y = points[:, :1], points[:, 1:]  # (N, 1) against (F,)
    in_box = (x >= low[:, 0]) & (x <= high[:, 0]) & (y >= low[:, 1]) & (y <= high[:, 1]) & usable
    point, face = np.nonzero(in_box)
    dx, dy, offset = _barycentric_planes(corners[face], area[face])
    weights = offset + dx * x[point] + dy * y[point]
    nearness = np.where((weights >= -_EDGE).all(1), (weights / z[faces[face]]).sum(1), -1)
    result = np.full(len(points), -1)
    for n in np.unique(point):
        mine = np.nonzero(point == n)[0]
        best = mine[nearness[mine].argmax()]
        if nearness[best] > 0:
            result[n] = face[best]
    return result


@dataclass
class ShadowMap:
    """Depth along a light's direction on a square grid."""

    origin: np.ndarray  # (3,) camera space
    axes: np.ndarray  # (3, 3) rows: right, down, away from the light
    scale: float  # grid cells per metre
    depth: np.ndarray  # (R, R) metres along the light at which its way ends; inf where nothing stops it


def cast_shadows(vertices: np.ndarray, faces: np.ndarray, towards_light: np.ndarray, center: np.ndarray, reach: float,
                 resolution: int = 144) -> ShadowMap:  # fmt: skip
    """What a light from direction (3,) cannot pass, `reach` metres around `center` (3,).

    The map holds the first surfaces that face *away* from the light: a lit surface then never shades itself, as
    long as things are thicker than the map is coarse.
    """
    away = -towards_light
    helper = np.array([1.0, 0, 0]) if abs(away[0]) < 0.8 else np.array([0, 1.0, 0])
    right = np.cross(helper, away)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(away, right), away])
    local = (vertices - center) @ axes.T
    scale = resolution / (2 * reach)
    uv = local[:, :2] * scale + (resolution - 1) / 2
    # The raster works with 1/z; far from the light that is almost linear, as an orthographic view needs it.
    far = 50.0
    seen = rasterize(uv, local[:, 2] + far, faces[:, ::-1], (resolution, resolution))
    depth = np.full((resolution, resolution), np.inf, np.float32)
    depth[seen.rows, seen.columns] = seen.depth - np.float32(far)
    return ShadowMap(center, axes, scale, depth)


def lit_fraction(shadows: ShadowMap, points: np.ndarray, bias: float = 0.002, spread: float = 1.3) -> np.ndarray:
    """Share (P,) of the light that reaches camera-space points (P, 3): 1 in full light, 0 in the shadow's core."""
    local = (points - shadows.origin.astype(points.dtype)) @ shadows.axes.T.astype(points.dtype)
    half = (shadows.depth.shape[0] - 1) / 2
    x, y = local[:, 0] * shadows.scale + half, local[:, 1] * shadows.scale + half
    depth = local[:, 2] - bias
    limit = shadows.depth.shape[0] - 1
    total = np.zeros(len(points), np.float32)
    taps = [(0, 0), (-1, -0.4), (0.4, -1), (1, 0.4), (-0.4, 1)]
    for dx, dy in taps:
        column = (x + spread * dx + 0.5).astype(np.int32).clip(0, limit)
        row = (y + spread * dy + 0.5).astype(np.int32).clip(0, limit)
        total += depth <= shadows.depth[row, column]
    # The map ends somewhere on the arm: its shadows fade out before.
    beyond = np.maximum(np.abs(x / half - 1), np.abs(y / half - 1))
    return 1 - (1 - total / len(taps)) * np.clip((0.97 - beyond) / 0.25, 0, 1)
