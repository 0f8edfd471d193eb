"""One scene: a posed hand with what it wears and holds, in front of a camera that frames it as FreiHAND does.

FreiHAND at 224 px: focal lengths of 373-493 px, the hand 0.4-1.0 m away, the box of its keypoints a third of the image
or somewhat more (here 20-67 %), turned any way, and the forearm always in the picture.
"""

from dataclasses import dataclass, field

import numpy as np

from ..layout import IMAGE_SIZE
from .asset import FOREARM, FOREARM_DISTAL, METACARPALS, UPPER_ARM, WRIST, HandAsset, load_asset, unit
from .gestures import GESTURES, Contact, pinch_contact, sample_gesture
from .hand import Pose, PosedHand, pose_hand, shaped, transform_points
from .held import free_occluder, grasped_object, pinched_object, pinched_room
from .pose import bone_radii, capsules_of, sample_pose, untangle
from .props import Prop, band, sleeve
from .render import first_surface, project_points

REFERENCE = IMAGE_SIZE  # px; all of the camera's figures are for an image of this size
MARGIN = 3.0  # px at 224 between a keypoint and the border
# MakeHuman's hands are large: at this size the bone 9-10 measures 32 mm on average, as in FreiHAND.
HAND_SIZE = 0.87
GESTURED, HOLDING, CROSSED = 0.38, 0.25, 0.10  # shares: gestures of the empty hands, held objects, free occluders
MOST_CROSSED = 9  # keypoints that a free occluder may hide
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
    return make_scene(hand, props, placed, size, forearm, rng)


def make_scene(
    hand: PosedHand,
    props: list[Prop],
    placed: tuple[np.ndarray, np.ndarray, np.ndarray],
    size: int,
    forearm: bool = True,
    crossing: np.random.Generator | None = None,
) -> Scene:
    """The scene of a posed hand in its place; see `sample_scene`.

    Args:
        hand: posed, and `props` in its rest frame.
        placed: rotation with scale (3, 3), offset (3,) in metres, and intrinsics K (3, 3) in px.
        size: side of the image, px.
        forearm: whether there is one, with what is worn on it.
        crossing: decides whether something lies in front of the hand, and what; None: nothing does.
    """
    asset = load_asset()
    if not forearm:
        props = [prop for prop in props if not prop.worn]
    turn, offset, K = placed
    xyz = hand.keypoints @ turn.T + offset
    uv = project_points(xyz, K)
    prop_vertices = [_posed_prop(prop, hand) for prop in props]
    vertices = np.vstack([hand.vertices, *prop_vertices]) @ turn.T + offset
    front = _crossing(crossing, xyz, uv, K) if crossing and crossing.random() < CROSSED else None
    if front is not None:
        props = [*props, front]
        vertices = np.vstack([vertices, front.vertices])
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
    seen = first_surface(project_points(vertices, K), vertices[:, 2], faces, uv)
    occluded = occlusion(np.where(seen >= 0, segment[seen], -1))
    return Scene(vertices, faces, segment, len(hand.vertices), props, xyz, uv, K, occluded, size)


def _dressed_hand(rng: np.random.Generator, asset: HandAsset) -> tuple[PosedHand, list[Prop]]:
    """A hand of random shape in a possible pose, with props in the hand's rest frame."""
    while True:
        shape = np.clip(rng.normal(0, 0.8, len(asset.shape_vertices)), -1.6, 1.6)
        vertices, heads = shaped(asset, shape)
        pose, props = _posed(rng, asset, shape, heads)
        if pose is None:
            continue
        worn = rng.random()
        if worn < 0.40:
            props.append(sleeve(rng, asset, vertices))
        if worn < 0.08 or worn > 0.85:
            props.append(band(rng, asset, vertices))
        return pose_hand(asset, shape, pose), props


def _posed(
    rng: np.random.Generator, asset: HandAsset, shape: np.ndarray, heads: np.ndarray
) -> tuple[Pose | None, list[Prop]]:
    """A pose, None where it came out impossible, and what the hand holds in it."""
    if rng.random() >= HOLDING:
        if rng.random() < GESTURED:
            return sample_gesture(rng, asset, shape), []
        return untangle(asset, shape, sample_pose(rng)), []
    if rng.random() < 0.6:
        prop, capsules = grasped_object(rng, asset, heads)
        return untangle(asset, shape, _closing(rng), capsules), [prop]
    name = str(rng.choice(_PINCHES))
    kind, thickness = pinched_room(rng)
    pose = sample_gesture(rng, asset, shape, name, gap=thickness)
    if pose is None:
        return None, []
    finger = GESTURES[name].thumb.finger
    capsules = capsules_of(pose_hand(asset, shape, pose).keypoints, asset.palm_normal, bone_radii())
    contact = pinch_contact(asset, shape, pose, finger)
    prop = pinched_object(rng, kind, thickness, contact, capsules, finger)
    return pose, [] if prop is None else [prop]


_PINCHES = [
    name
    for name, gesture in GESTURES.items()
    if isinstance(gesture.thumb, Contact) and gesture.thumb.place == "pad" and gesture.thumb.finger < 3
]


def _crossing(rng: np.random.Generator, xyz: np.ndarray, uv: np.ndarray, K: np.ndarray) -> Prop | None:
    """Something before the hand that hides a few of its keypoints; None where none was found."""
    for _ in range(8):
        prop = free_occluder(rng, xyz)
        z = prop.vertices[:, 2]
        hidden = (first_surface(project_points(prop.vertices, K), z, prop.faces, uv) >= 0).sum()
        if z.min() > 0.1 and 1 <= hidden <= MOST_CROSSED:
            return prop
    return None


def _closing(rng: np.random.Generator) -> Pose:
    """Fingers bent farther than any object allows; `untangle` opens them until they lie on it."""
    pose = sample_pose(rng, "grasp")
    curl = rng.uniform(0.75, 1.0) + rng.normal(0, 0.08, 4)
    pose.fingers[:, 0], pose.fingers[:, 1], pose.fingers[:, 2] = 75 * curl, 95 * curl, 50 * curl
    pose.thumb = rng.uniform((5, 25, 5, 10, 10), (15, 45, 30, 35, 45))
    return pose


def _posed_prop(prop: Prop, hand: PosedHand) -> np.ndarray:
    """Vertices (V, 3) of a prop that follows the arm, or stays with the palm."""
    if not prop.worn:
        return prop.vertices
    return transform_points(hand.transforms, prop.weights, prop.vertices)


def random_turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation (3, 3), uniform over all of them (from a random quaternion)."""
    w, x, y, z = unit(rng.normal(size=4))
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _view(rng: np.random.Generator, hand: PosedHand) -> tuple[np.ndarray, float]:
    """A rotation (3, 3) to the camera, and how near the elbow may come as a share of the hand's depth.

    Most views are uniform over all rotations. The others look along the hand: from its tips, or from behind and above
    as its owner does.
    """
    nearest = 0.8 if rng.random() < 0.92 else 0.3
    chosen = rng.random()
    if chosen > 0.26:
        return random_turn(rng), nearest
    if chosen < 0.12:  # fingertips towards the camera
        towards = unit(np.array([0, 0, -1.0]) + rng.normal(0, 0.4, 3))
    else:
        towards = unit(np.array([0, -0.6, 0.7]) + rng.normal(0, (0.45, 0.3, 0.3)))
        nearest = 0.4
    start = _any_frame(rng, unit(hand.keypoints[9] - hand.keypoints[0]))
    return _any_frame(rng, towards).T @ start, nearest


def _any_frame(rng: np.random.Generator, axis: np.ndarray) -> np.ndarray:
    """A right-handed frame, rows (3, 3), that begins with `axis` (3,) and is turned about it at random."""
    second = unit(np.cross(axis, rng.normal(size=3)))
    return np.stack([axis, second, np.cross(axis, second)])


def _place(rng: np.random.Generator, hand: PosedHand, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rotation with scale (3, 3), translation (3,) and K (3, 3) as in FreiHAND; None where none was found."""
    scale = size / REFERENCE
    for _ in range(20):
        turn, nearest = _view(rng, hand)
        turn = HAND_SIZE * turn
        xyz, elbow = hand.keypoints @ turn.T, turn @ hand.elbow
        # People hold a hand so that its palm or its back is seen: of the edge-on views, some are left out.
        if abs(unit(np.cross(xyz[5] - xyz[0], xyz[17] - xyz[0]))[2]) < 0.6 and rng.random() < 0.2:
            continue
        center = (xyz.max(0) + xyz.min(0)) / 2
        focal = rng.uniform(373, 493) if rng.random() < 0.95 else rng.uniform(493, 680)
        share = 0.20 + 0.47 * rng.beta(1.8, 2.2)  # of the image, longer side of the keypoints' box
        depth = focal * np.ptp(xyz[:, :2], axis=0).max() / (share * REFERENCE)
        if not 0.3 < depth < 1.5:
            continue
        offset = np.array([-center[0], -center[1], depth - center[2]])
        if elbow[2] + offset[2] < nearest * depth:
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
