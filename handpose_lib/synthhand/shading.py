"""Light on a scene: sky, lamps with soft shadows, ambient occlusion, skin that lets a little red light through.

All colours are linear until `picture.py` develops them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .asset import HandAsset, load_asset, unit, vertex_normals
from .render import Fragments, cast_shadows, lit_fraction, project_points, rasterize, supersampled
from .scene import PROP, Scene
from .skin import Skin, joint_creases, palm_creases, sample_skin, vertex_colors

SUPERSAMPLING = 2  # samples per pixel and axis
# Light enters skin, wanders and comes out redder: it reaches around the terminator, red farthest.
_WRAP = np.array([0.36, 0.25, 0.21], np.float32)
_BOUNCE = np.array([0.90, 1.05, 1.10], np.float32)  # share of the sky's light that a fold loses


@dataclass
class Lamp:
    """A distant light; `towards` points to it in camera coordinates."""

    towards: np.ndarray  # (3,) unit
    color: np.ndarray  # (3,)
    softness: float  # blur of its shadows, cells of the shadow map


@dataclass
class Light:
    """Sky and ground from all around, and one to three lamps of which the first casts shadows."""

    sky: np.ndarray  # (3,) from above
    ground: np.ndarray  # (3,) from below
    up: np.ndarray  # (3,) unit
    lamps: list[Lamp]


@dataclass
class Layer:
    """The hand and its props, ready to be laid over a background."""

    rows: np.ndarray  # (P,) pixels of the hand and a few around it
    columns: np.ndarray  # (P,)
    color: np.ndarray  # (P, 3) linear, not premultiplied; around the hand its border's colour goes on
    arm: np.ndarray  # (P,) metres from the wrist along the arm and its clothes; below 0 in the hand and what it holds
    alpha: np.ndarray  # (H, W) 0-1, hand and props
    light: Light


def _tinted(rng: np.random.Generator, spread: float) -> np.ndarray:
    """A nearly white light (3,), somewhere between lamp and daylight; now and then one of any colour."""
    if rng.random() < 0.06:
        colored = rng.uniform(0.35, 1.3, 3)
        return (colored / colored.mean()).astype(np.float32)
    warmth = rng.normal(0, spread)
    return np.array([1 + warmth, 1 + rng.normal(0, 0.02), 1 - warmth], np.float32)


def sample_light(rng: np.random.Generator) -> Light:
    """Indoor or outdoor light, mostly from above and from the camera's side."""
    up = unit(np.array([0, -1.0, -0.2]) + rng.normal(0, 0.35, 3))
    ambient = rng.uniform(0.25, 0.75)
    lamps = []
    for k in range(rng.integers(1, 4)):
        towards = unit(rng.normal(size=3) + np.array([0, -0.7, -0.8]))
        strength = rng.uniform(0.4, 1.1) * (1 - 0.6 * ambient) * 1.4 / (k + 1)
        lamps.append(Lamp(towards, strength * _tinted(rng, 0.08), rng.uniform(0.8, 3.0)))
    sky = ambient * _tinted(rng, 0.06)
    return Light(sky, sky * rng.uniform(0.35, 0.85) * _tinted(rng, 0.06), up, lamps)


def render_layer(rng: np.random.Generator, scene: Scene, lighting: bool = True, skin: Skin | None = None) -> Layer:
    """The scene's hand and props, rasterised, lit and averaged over the samples of each pixel.

    Without `lighting` every surface shows its own colour, without light or shadow. With `skin` the hand has that one
    instead of a random one.
    """
    seen, window, values, albedo, gloss, light = _seen(rng, scene, skin)
    color = _lit(scene, light, seen, values, albedo, gloss, window) if lighting else albedo.astype(np.float32)

    # The last column is no colour: it says how far along the arm a sample lies.
    samples = np.concatenate([color, np.ones((len(color), 1), np.float32), values["arm"][:, None]], axis=1)
    part = cv2.resize(_scattered(samples, seen, window), None, fx=1 / SUPERSAMPLING, fy=1 / SUPERSAMPLING,
                      interpolation=cv2.INTER_AREA)  # fmt: skip
    image = np.zeros((scene.size, scene.size, 5), np.float32)
    top, left = window.top // SUPERSAMPLING, window.left // SUPERSAMPLING
    image[top : top + part.shape[0], left : left + part.shape[1]] = part
    alpha = image[..., 3].copy()
    around = cv2.blur(image, (9, 9))  # a blurred mask must mix no black in
    rows, columns = np.nonzero(around[..., 3] > 1e-3)
    own, spread = image[rows, columns], around[rows, columns]
    shown = [0, 1, 2, 4]
    color = np.where(
        own[:, 3:4] > 0.05, own[:, shown] / np.maximum(own[:, 3:4], 0.05), spread[:, shown] / spread[:, 3:4]
    )
    return Layer(rows, columns, np.ascontiguousarray(color[:, :3]), color[:, 3], alpha, light)


def _seen(rng: np.random.Generator, scene: Scene, skin: Skin | None = None) -> tuple:
    """What stands at each sample, before any light falls on it, and the light that will."""
    asset = load_asset()
    drawn, light = sample_skin(rng), sample_light(rng)  # drawn in any case, so that the rest stays the same
    skin = skin or drawn
    side = scene.size * SUPERSAMPLING
    uv = supersampled(project_points(scene.vertices, scene.K), SUPERSAMPLING)
    seen = rasterize(uv, scene.vertices[:, 2], scene.faces, (side, side))
    window = _window(seen)
    values = _interpolate(rng, scene, asset, skin, seen)
    albedo, gloss = _surface(rng, scene, skin, seen, values, window)
    return seen, window, values, albedo, gloss, light


def render_stages(rng: np.random.Generator, scene: Scene) -> dict[str, np.ndarray]:
    """What `render_layer` knows on its way, as images (H', W', 3) in [0, 1] of the part that shows the hand.

    Named in the order of work: "parts", "depth", "normals", "own colour", "open to the sky", "first lamp", "lit".
    """
    seen, window, values, albedo, gloss, light = _seen(rng, scene)
    near, far = seen.depth.min(), seen.depth.max()
    part_colours = np.random.default_rng(3).uniform(0.25, 1, (256, 3)).astype(np.float32)
    shadow = _shadow(scene, seen, values["point"], light.lamps[0], window)
    gray = {
        "depth": 1 - 0.85 * (seen.depth - near) / max(far - near, 1e-6),
        "open to the sky": _ambient_openness(seen, values, window, scene),
        "first lamp": shadow * np.clip(values["normal"] @ light.lamps[0].towards.astype(np.float32), 0, 1),
    }
    lit = _lit(scene, light, seen, values, albedo, gloss, window)
    stages = {
        "parts": part_colours[scene.face_segment[seen.faces]],
        "depth": gray["depth"],
        "normals": 0.5 - 0.5 * values["normal"] * np.array([-1, 1, 1], np.float32),
        "own colour": np.clip(albedo, 0, 1) ** (1 / 2.2),
        "open to the sky": gray["open to the sky"],
        "first lamp": gray["first lamp"],
        "lit": np.clip(lit / max(float(np.percentile(lit, 99)), 1e-6), 0, 1) ** (1 / 2.2),
    }
    full = {name: np.broadcast_to(v if v.ndim == 2 else v[:, None], (len(seen.faces), 3)) for name, v in stages.items()}
    return {name: _scattered(np.ascontiguousarray(v, np.float32), seen, window) for name, v in full.items()}


@dataclass(frozen=True)
class Window:
    """The part of the raster that shows something, in whole pixels of the image."""

    top: int
    left: int
    height: int
    width: int


def _window(seen: Fragments) -> Window:
    """The smallest window around all samples."""
    top, left = (int(v.min()) // SUPERSAMPLING * SUPERSAMPLING for v in (seen.rows, seen.columns))
    bottom, right = (int(v.max()) // SUPERSAMPLING * SUPERSAMPLING for v in (seen.rows, seen.columns))
    return Window(top, left, bottom - top + SUPERSAMPLING, right - left + SUPERSAMPLING)


def _scattered(values: np.ndarray, seen: Fragments, window: Window) -> np.ndarray:
    """Image (h, w, C) of the window with the samples' values (P, C), 0 elsewhere."""
    image = np.zeros((window.height * window.width, values.shape[1]), np.float32)
    image[(seen.rows - window.top) * window.width + seen.columns - window.left] = values
    return image.reshape(window.height, window.width, -1)


def _gathered(image: np.ndarray, seen: Fragments, window: Window) -> np.ndarray:
    """Values (P, ...) of the samples in an image (h, w, ...) of the window."""
    flat = image.reshape(window.height * window.width, *image.shape[2:])
    return flat[(seen.rows - window.top) * window.width + seen.columns - window.left]


def _held_from(scene: Scene) -> int:
    """Number of the first face that is no part of the hand."""
    return int((scene.face_segment != PROP).sum())


def _interpolate(rng: np.random.Generator, scene: Scene, asset: HandAsset, skin: Skin, seen: Fragments) -> dict:
    """Smooth values at the visible samples: normal, color, rest position (all (P, 3)), palmar, nail, arm (P,)."""
    count, total = scene.hand_vertices, len(scene.vertices)
    table = np.zeros((total, 12), np.float32)
    table[:, 0:3] = vertex_normals(scene.vertices, scene.faces)
    table[:count, 3:6] = vertex_colors(rng, asset, skin)
    if scene.props:
        table[count:, 3:6] = np.vstack([prop.color for prop in scene.props])
        table[count:, 6:9] = np.vstack([prop.vertices for prop in scene.props])
        worn = np.repeat([prop.worn for prop in scene.props], [len(prop.vertices) for prop in scene.props])
        table[count:, 11] = np.where(worn, table[count:, 6:9] @ asset.arm_axis, -0.1)
    table[:count, 6:9] = asset.vertices
    table[:count, 9] = asset.palmar
    table[:count, 10] = asset.nails
    table[:count, 11] = asset.arm_position
    corners = scene.faces[seen.faces]
    b = seen.barycentric
    values = sum(b[:, k : k + 1] * table[corners[:, k]] for k in range(3))
    vertices = scene.vertices.astype(np.float32)
    points = sum(b[:, k : k + 1] * vertices[corners[:, k]] for k in range(3))
    return {
        "normal": unit(values[:, 0:3]),
        "color": values[:, 3:6],
        "rest": values[:, 6:9],
        "palmar": values[:, 9],
        "nail": values[:, 10],
        "arm": values[:, 11],
        "point": points,
    }


def _surface(
    rng: np.random.Generator, scene: Scene, skin: Skin, seen: Fragments, values: dict, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (P, 3) and gloss (P,) with creases, nails and grain."""
    albedo, gloss = values["color"].copy(), np.full(len(seen.faces), 0.25 * skin.gloss, np.float32)
    is_skin = seen.faces < _held_from(scene)
    grain = _gathered(_grain(rng, window), seen, window)
    albedo *= (1 + np.where(is_skin, np.float32(0.035), np.float32(0.05)) * grain)[:, None]

    crease = np.zeros(len(albedo), np.float32)
    vertex = scene.faces[seen.faces, 0]
    near = np.nonzero(is_skin & (load_asset().arm_position[np.where(is_skin, vertex, 0)] < 0))[0]
    crease[near] = joint_creases(values["rest"][near], values["palmar"][near], vertex[near])
    palm = np.nonzero(is_skin & (values["palmar"] > 0.5))[0]
    crease[palm] = np.maximum(crease[palm], 0.8 * palm_creases(values["rest"][palm]) * values["palmar"][palm])
    albedo *= 1 - skin.creases * crease[:, None] * np.array([0.28, 0.40, 0.40], np.float32)

    nail = np.clip((values["nail"] - 0.4) * 5, 0, 1)[:, None] * is_skin[:, None]
    albedo += nail * (0.8 * skin.nail_color.astype(np.float32) + 0.2 * albedo - albedo)
    gloss += np.float32(skin.nail_gloss) * nail[:, 0]
    if scene.props:
        first, start = _held_from(scene), 0
        for prop in scene.props:
            mine = (seen.faces >= first + start) & (seen.faces < first + start + len(prop.faces))
            gloss[mine] = prop.gloss
            if prop.stripes is not None:
                phase = values["rest"][mine] @ prop.stripes.waves.astype(np.float32) % 1
                albedo[np.nonzero(mine)[0][phase < prop.stripes.share]] = prop.stripes.color
            start += len(prop.faces)
    return albedo, gloss


def _grain(rng: np.random.Generator, window: Window) -> np.ndarray:
    """Fine noise (h, w), standard deviation about 1: pores, threads, dirt."""
    height, width = window.height, window.width
    fine = rng.standard_normal((height, width), np.float32)
    coarse = rng.standard_normal((height // 6 + 1, width // 6 + 1), np.float32)
    coarse = cv2.resize(coarse, (width, height))
    return 0.8 * cv2.GaussianBlur(fine, (3, 3), 0) + 0.8 * coarse


def _lit(
    scene: Scene, light: Light, seen: Fragments, values: dict, albedo: np.ndarray, gloss: np.ndarray, window: Window
) -> np.ndarray:
    """Linear colour (P, 3) that reaches the camera."""
    normal, point = values["normal"], values["point"]
    openness = _ambient_openness(seen, values, window, scene)
    upward = 0.5 + 0.5 * normal @ light.up.astype(np.float32)
    arriving = light.ground + (light.sky - light.ground) * upward[:, None]
    # What comes out of a fold has bounced off skin before: darker and warmer.
    arriving = arriving * (1 - (1 - openness)[:, None] * _BOUNCE)
    view = -unit(point)
    shine = np.zeros((len(point), 3), np.float32)
    power = 6 + 60 * gloss
    for k, lamp in enumerate(light.lamps):
        towards = lamp.towards.astype(np.float32)
        cosine = normal @ towards
        lit = _shadow(scene, seen, point, lamp, window) if k == 0 else 0.4 + 0.6 * openness
        # Skin that turns away from the lamp is dark by its cosine; the map would cut off its red glow.
        lit = 1 - (1 - lit) * np.clip(0.1 + 2.5 * cosine, 0, 1)
        reached = np.clip((cosine[:, None] + _WRAP) / (1 + _WRAP), 0, 1)
        arriving = arriving + reached * lit[:, None] * lamp.color
        half = np.clip(_dot(normal, unit(towards + view)), 0, 1)
        strength = 0.25 * gloss * half**power * (cosine > 0) * lit
        shine += strength[:, None] * lamp.color
    grazing = (1 - np.clip(_dot(normal, view), 0, 1)) ** 4
    sheen = (0.10 + 0.1 * gloss) * grazing * openness
    return (albedo * arriving + shine + sheen[:, None] * light.sky).astype(np.float32)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (P,) of vectors (P, 3)."""
    return np.einsum("pk,pk->p", a, b)


def _shadow(scene: Scene, seen: Fragments, point: np.ndarray, lamp: Lamp, window: Window) -> np.ndarray:
    """Share (P,) of a lamp's light that the rest of the scene lets through, with soft edges."""
    center = scene.xyz.mean(0)
    reach = 1.6 * np.linalg.norm(scene.xyz - center, axis=1).max() + 0.02
    shadows = cast_shadows(scene.vertices, scene.faces, lamp.towards, center, reach, resolution=160)
    lit = lit_fraction(shadows, point, spread=lamp.softness)
    return np.clip(_smoothed(lit[:, None], seen, window, 5)[:, 0], 0, 1)


def _smoothed(values: np.ndarray, seen: Fragments, window: Window, width: int, rounds: int = 1) -> np.ndarray:
    """Values (P, C) averaged over a square of the image, without what lies outside the hand."""
    image = _scattered(np.concatenate([values, np.ones((len(values), 1), np.float32)], axis=1), seen, window)
    for _ in range(rounds):
        image = cv2.blur(image, (width, width), borderType=cv2.BORDER_CONSTANT)
    blurred = _gathered(image, seen, window)
    return blurred[:, :-1] / blurred[:, -1:]


def _ambient_openness(seen: Fragments, values: dict, window: Window, scene: Scene) -> np.ndarray:
    """Share (P,) of the sky that is not hidden by surfaces around, at two scales.

    Where the mean of a point's neighbours in the image lies above its tangent plane, the point is in a hollow;
    on a finger's convex back it lies below.
    """
    hidden = np.zeros(len(seen.depth), np.float32)
    depth = float(scene.xyz[:, 2].mean())
    point = values["point"] - np.float32([0, 0, depth])  # small numbers, for float32's sake
    for radius in (0.006, 0.016):
        width = 2 * int(radius * scene.K[0, 0] * SUPERSAMPLING / depth) + 1
        height = _dot(_smoothed(point, seen, window, width, rounds=2) - point, values["normal"])
        hidden += np.clip(height / (0.9 * radius), 0, 1)
    return 1 - 0.8 * np.clip(0.75 * hidden, 0, 1)
