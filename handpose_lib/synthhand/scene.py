"""One scene: a posed hand with what it wears and holds, in front of a camera that frames it as FreiHAND does.

FreiHAND at 224 px: focal lengths of 373-493 px, the hand 0.4-1.0 m away, the box of its keypoints a third of the image
or somewhat more (here 27-67 %), turned any way, and the forearm always in the picture.
"""

from dataclasses import dataclass, field

import numpy as np

from ..layout import IMAGE_SIZE
from .asset import FOREARM, FOREARM_DISTAL, METACARPALS, UPPER_ARM, WRIST, HandAsset, load_asset, unit
from .hand import Pose, PosedHand, pose_hand, shaped, transform_points
from .pose import sample_pose, untangle
from .props import Prop, band, held_object, sleeve
from .render import first_surface, project_points

REFERENCE = IMAGE_SIZE  # px; all of the camera's figures are for an image of this size
MARGIN = 3.0  # px at 224 between a keypoint and the border
# MakeHuman's hands are large: at this size the bone 9-10 measures 32 mm on average, as in FreiHAND.
HAND_SIZE = 0.87
PALM, FOREARM_SEGMENT, PROP = 100, 101, 102  # segments besides the phalanges, which go by their bone's number


@dataclass
class Scene:
    """Everything that the picture is made of; camera coordinates, metres."""

    vertices: np.ndarray  # (V, 3) hand first, then the props
    faces: np.ndarray  # (F, 3)
    face_segment: np.ndarray  # (F,) phalanx, PALM, FOREARM_SEGMENT or PROP
    hand_vertices: int  # how many of the vertices are the hand's
    props: list[Prop] = field(repr=False)
    xyz: np.ndarray  # (21, 3)
    uv: np.ndarray  # (21, 2) px
    K: np.ndarray  # (3, 3) px
    occluded: np.ndarray  # (21,) bool
    size: int  # px, side of the image


def sample_scene(rng: np.random.Generator, size: int = REFERENCE, forearm: bool = True) -> Scene:
    """A scene in which all 21 keypoints are on the image; without `forearm` the hand ends at the wrist."""
    asset = load_asset()
    while True:
        hand, props = _dressed_hand(rng, asset)
        placed = _place(rng, hand, size)
        if placed is not None:
            break
    if not forearm:
        props = [prop for prop in props if not prop.weights.any()]  # what is worn goes with the arm
    turn, offset, K = placed
    prop_vertices = [_posed_prop(prop, hand) for prop in props]
    vertices = np.vstack([hand.vertices, *prop_vertices]) @ turn.T + offset
    covered = min((prop.covers for prop in props), default=np.inf)  # skin must not show through a sleeve
    bare = asset.arm_position[asset.faces].min(1) < covered
    if not forearm:
        bare &= hand_segments(asset) != FOREARM_SEGMENT
    faces, segment = [asset.faces[bare]], [hand_segments(asset)[bare]]
    first = len(hand.vertices)
    for prop in props:
        faces.append(prop.faces + first)
        segment.append(np.full(len(prop.faces), PROP))
        first += len(prop.vertices)
    faces, segment = np.vstack(faces), np.concatenate(segment)
    xyz = hand.keypoints @ turn.T + offset
    uv = project_points(xyz, K)
    seen = first_surface(project_points(vertices, K), vertices[:, 2], faces, uv)
    occluded = occlusion(np.where(seen >= 0, segment[seen], -1))
    return Scene(vertices, faces, segment, len(hand.vertices), props, xyz, uv, K, occluded, size)


def _dressed_hand(rng: np.random.Generator, asset: HandAsset) -> tuple[PosedHand, list[Prop]]:
    """A hand of random shape in a possible pose, with props in the hand's rest frame."""
    while True:
        shape = np.clip(rng.normal(0, 0.8, len(asset.shape_vertices)), -1.6, 1.6)
        vertices, heads = shaped(asset, shape)
        props, capsules = [], None
        if rng.random() < 0.25:
            prop, capsules = held_object(rng, asset, heads)
            props.append(prop)
            pose = untangle(asset, shape, _closing(rng), capsules)
        else:
            pose = untangle(asset, shape, sample_pose(rng))
        if pose is None:
            continue
        worn = rng.random()
        if worn < 0.40:
            props.append(sleeve(rng, asset, vertices))
        if worn < 0.08 or worn > 0.85:
            props.append(band(rng, asset, vertices))
        return pose_hand(asset, shape, pose), props


def _closing(rng: np.random.Generator) -> Pose:
    """Fingers bent farther than any object allows; `untangle` opens them until they lie on it."""
    pose = sample_pose(rng, "grasp")
    curl = rng.uniform(0.75, 1.0) + rng.normal(0, 0.08, 4)
    pose.fingers[:, 0], pose.fingers[:, 1], pose.fingers[:, 2] = 75 * curl, 95 * curl, 50 * curl
    pose.thumb = rng.uniform((5, 25, 5, 10, 10), (15, 45, 30, 35, 45))
    return pose


def _posed_prop(prop: Prop, hand: PosedHand) -> np.ndarray:
    """Vertices (V, 3) of a prop that follows the arm, or stays with the palm."""
    if not prop.weights.any():
        return prop.vertices
    return transform_points(hand.transforms, prop.weights, prop.vertices)


def _random_turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation (3, 3), uniform over all of them (from a random quaternion)."""
    w, x, y, z = unit(rng.normal(size=4))
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _place(rng: np.random.Generator, hand: PosedHand, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rotation with scale (3, 3), translation (3,) and K (3, 3) as in FreiHAND; None where none was found."""
    scale = size / REFERENCE
    for _ in range(20):
        turn = HAND_SIZE * _random_turn(rng)
        xyz, elbow = hand.keypoints @ turn.T, turn @ hand.elbow
        # People hold a hand so that its palm or its back is seen: of the edge-on views, some are left out.
        if abs(unit(np.cross(xyz[5] - xyz[0], xyz[17] - xyz[0]))[2]) < 0.6 and rng.random() < 0.4:
            continue
        center = (xyz.max(0) + xyz.min(0)) / 2
        focal = rng.uniform(373, 493) if rng.random() < 0.95 else rng.uniform(493, 680)
        share = 0.27 + 0.40 * rng.beta(1.8, 2.4)  # of the image, longer side of the keypoints' box
        depth = focal * np.ptp(xyz[:, :2], axis=0).max() / (share * REFERENCE)
        if not 0.36 < depth < 1.1:
            continue
        offset = np.array([-center[0], -center[1], depth - center[2]])
        # Few people point their elbow at the camera, and fewer can be seen then.
        if elbow[2] + offset[2] < 0.8 * depth and rng.random() < 0.93:
            continue
        middle = (REFERENCE - 1) / 2 + rng.normal(0, (9.0, 9.0))
        principal = (REFERENCE - 1) / 2 + rng.normal(0, 2.0, 2)
        offset[:2] += (middle - principal) / focal * depth
        K = np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1.0]])
        uv = project_points(xyz + offset, K)
        if uv.min() < MARGIN or uv.max() > REFERENCE - 1 - MARGIN:
            continue
        return turn, offset, rescaled(K, scale)
    return None


def rescaled(K: np.ndarray, scale: float) -> np.ndarray:
    """Intrinsics for an image resized by `scale`: u becomes (u + 0.5)*scale - 0.5."""
    result = K.copy()
    result[:2] *= scale
    result[:2, 2] += 0.5 * scale - 0.5
    return result


def hand_segments(asset: HandAsset) -> np.ndarray:
    """Segment (F,) of the hand's faces: wrist and metacarpals are one palm, all of the arm is one forearm."""
    segment = asset.face_bone.copy()
    segment[np.isin(segment, (WRIST, *METACARPALS))] = PALM
    segment[np.isin(asset.face_bone, (FOREARM, FOREARM_DISTAL, UPPER_ARM))] = FOREARM_SEGMENT
    return segment


def own_segments() -> list[set[int]]:
    """For each keypoint the segments that meet in it; -1 (nothing in front) belongs to all."""
    own = [{-1, PALM, FOREARM_SEGMENT}]
    for finger in range(5):
        bones = [7 + 3 * finger + k for k in range(3)]
        own += [{-1, PALM, bones[0]}, {-1, bones[0], bones[1]}, {-1, bones[1], bones[2]}, {-1, bones[2]}]
    return own


def occlusion(front: np.ndarray) -> np.ndarray:
    """Occluded (21,) where the frontmost segment (21,) at a keypoint is none of its own."""
    return np.array([int(front[k]) not in own for k, own in enumerate(own_segments())])
