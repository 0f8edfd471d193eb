"""The mesh of one right hand with forearm, its bones, shapes and skinning weights, and what follows from them.

Rest coordinates: metres, wrist at the origin. `hand_asset.npz` is rebuilt by `rebuild_asset.py`; its
origin and licence are in `ASSET_LICENSE.md`. The mesh ends at the elbow; an upper arm is added here, because in
FreiHAND's framing an arm always reaches the border of the image.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ASSET_PATH = Path(__file__).with_name("hand_asset.npz")

FOREARM, FOREARM_DISTAL, WRIST = 0, 1, 2  # bones; the four metacarpals follow
METACARPALS = (3, 4, 5, 6)  # index to pinky
FINGER_BONES = np.array([[7, 8, 9], [10, 11, 12], [13, 14, 15], [16, 17, 18], [19, 20, 21]])  # (5, 3), thumb first
UPPER_ARM = 22  # added below
UPPER_ARM_LENGTH = 0.45  # m, long enough to leave the image
NUM_BONES = 23
# MakeHuman's joints lie farther out than FreiHAND's (mean bone lengths of its real hands). The share of the way back to
# the joint before, thumb to pinky; CMC, MCP, IP for the thumb, else MCP, PIP, DIP.
TOWARDS_PARENT = np.array([
    [0.085, 0.00, 0.20], [0.08, 0.00, 0.00], [0.00, 0.00, 0.095], [0.055, 0.13, 0.06], [0.08, 0.22, 0.06],
])  # fmt: skip

# FreiHAND's ring and little fingers also begin farther from the middle finger and nearer to the wrist, and three of its
# joints lie elsewhere in the flesh: the thumb's root 1.6 cm deeper in its ball. Measured on four real hands: each entry
# is in metres towards the index finger, towards the fingertips and out of the palm, for a hand of this asset's size.
MOVED_FINGERS = {3: (-0.0040, -0.0028, 0.0), 4: (-0.0052, -0.0050, 0.0)}
MOVED_ROOTS = {0: (0.0043, -0.0085, 0.0135), 3: (-0.0033, 0.0, 0.0010), 4: (-0.0045, 0.0, 0.0015)}


@dataclass(frozen=True)
class HandAsset:
    """V vertices, F faces, B = 23 bones, S = 12 shape components; float64, metres."""

    vertices: np.ndarray  # (V, 3) mean shape
    faces: np.ndarray  # (F, 3) counter-clockwise seen from outside
    weights: np.ndarray  # (V, B) skinning weights, each row sums to 1
    heads: np.ndarray  # (B, 3) where each bone begins
    shape_vertices: np.ndarray  # (S, V, 3) displacement per standard deviation
    shape_heads: np.ndarray  # (S, B, 3)
    parents: np.ndarray  # (B,) -1 at the root
    tips: np.ndarray  # (5,) vertex at the end of each finger, thumb first
    root_offsets: np.ndarray  # (5, 3) from each finger's first bone to FreiHAND's first joint
    nails: np.ndarray  # (V,) 1 on a fingernail
    palm_normal: np.ndarray  # (3,) unit, out of the palm
    arm_axis: np.ndarray  # (3,) unit, from the wrist to the elbow
    finger_axes: np.ndarray  # (5, 3, 3, 3) finger, phalanx: flexion axis, palmar direction, bone direction
    rest_flexion: np.ndarray  # (5, 3) degrees by which the fingers of the rest pose are bent; 0 for the thumb
    face_bone: np.ndarray  # (F,) bone that a face belongs to
    palmar: np.ndarray  # (V,) 1 on the palmar side, 0 on the back
    nearness_tip: np.ndarray  # (V,) 1 at a fingertip
    nearness_knuckle: np.ndarray  # (V,) 1 on the back of a joint
    arm_position: np.ndarray  # (V,) metres from the wrist towards the elbow, negative in the hand


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length one."""
    length = np.sqrt(np.einsum("...k,...k->...", vectors, vectors))  # faster than norm over so short an axis
    return vectors / np.maximum(length, 1e-12)[..., None]


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals (F, 3), as long as twice the face's area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): the mean over the faces around each vertex, weighted by area."""
    normals = face_normals(vertices, faces)
    corners = faces.reshape(-1)
    per_corner = np.repeat(normals, 3, axis=0)
    summed = [np.bincount(corners, per_corner[:, k], minlength=len(vertices)) for k in range(3)]
    return unit(np.stack(summed, axis=1))


@functools.cache
def load_asset() -> HandAsset:
    """The asset with all that is derived from it; read once per process."""
    with np.load(ASSET_PATH) as stored:
        raw = {name: stored[name] for name in stored.files}
    raw = {name: a.astype(float) if a.dtype.kind == "f" else a for name, a in raw.items()}
    raw["faces"] = raw["faces"].astype(np.int64)
    raw |= _in_freihand_proportions(raw)
    raw |= _with_fingers_moved(raw)
    nails = _mean_over_faces(raw["nails"], raw["faces"], len(raw["vertices"]))
    palm_normal, axes, flexion = _finger_frames(raw)
    mesh = _with_upper_arm(raw)
    vertices, faces, heads = mesh["vertices"], mesh["faces"], mesh["heads"]

    vertex_bone = mesh["weights"].argmax(1)
    normals = vertex_normals(vertices, faces)
    towards_palm = np.broadcast_to(palm_normal, normals.shape).copy()
    for finger in range(5):
        for k in range(3):
            towards_palm[vertex_bone == FINGER_BONES[finger, k]] = axes[finger, k, 1]
    palmar = np.clip(1.3 * (normals * towards_palm).sum(1) + 0.1, 0, 1)
    joints = heads[FINGER_BONES].reshape(15, 3)
    return HandAsset(
        vertices=vertices,
        faces=faces,
        weights=mesh["weights"],
        heads=heads,
        shape_vertices=mesh["shape_vertices"],
        shape_heads=mesh["shape_heads"],
        parents=np.append(raw["parents"], FOREARM),
        tips=raw["tips"],
        root_offsets=_in_palm_frame(raw["heads"], MOVED_ROOTS),
        nails=np.append(nails, np.zeros(len(vertices) - len(nails))),
        palm_normal=palm_normal,
        arm_axis=unit(heads[FOREARM]),
        finger_axes=axes,
        rest_flexion=flexion,
        face_bone=_face_bones(mesh["weights"], faces),
        palmar=palmar,
        nearness_tip=np.exp(-((_distance_to(vertices, vertices[raw["tips"]]) / 0.012) ** 2)),
        nearness_knuckle=np.exp(-((_distance_to(vertices, joints) / 0.011) ** 2)) * (1 - palmar),
        arm_position=vertices @ unit(heads[FOREARM]),
    )


def _distance_to(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Distance (P,) from each point to the nearest target, metres."""
    return np.linalg.norm(points[:, None] - targets[None], axis=2).min(1)


def _mean_over_faces(per_face: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Vertex values (count,) from face values (F,)."""
    corners = faces.reshape(-1)
    return np.bincount(corners, np.repeat(per_face, 3), minlength=count) / np.bincount(corners, minlength=count)


def _face_bones(weights: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Bone (F,) with the largest summed weight over the corners of each face."""
    return weights[faces].sum(1).argmax(1)


def _finger_frames(raw: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Palm normal (3,), finger axes (5, 3, 3, 3) and flexion of the rest pose (5, 3) in degrees."""
    vertices, faces, heads = raw["vertices"], raw["faces"], raw["heads"]
    along = unit(heads[FINGER_BONES[2, 0]])
    normals = face_normals(vertices, faces)
    face_bone = _face_bones(raw["weights"], faces)
    # A nail looks away from the palmar side of its finger: the only trustworthy hint for the thumb.
    on_nail = raw["nails"] > 0.5
    palmar = [-unit(normals[on_nail & (face_bone == FINGER_BONES[f, 2])].sum(0)) for f in range(5)]
    palm_normal = np.cross(heads[FINGER_BONES[1, 0]], heads[FINGER_BONES[4, 0]])
    palm_normal = unit(palm_normal - (palm_normal @ along) * along)
    if palm_normal @ palmar[2] < 0:
        palm_normal = -palm_normal

    axes, flexion = np.zeros((5, 3, 3, 3)), np.zeros((5, 3))
    for finger in range(5):
        points = np.vstack([np.zeros(3), heads[FINGER_BONES[finger]], vertices[raw["tips"][finger]]])
        directions = unit(np.diff(points, axis=0))  # (4, 3): metacarpal and three phalanges
        wanted = palmar[finger] if finger == 0 else unit(palm_normal + palmar[finger])
        for k in range(3):
            bone = directions[k + 1]
            side = unit(wanted - (wanted @ bone) * bone)
            axis = np.cross(bone, side)
            axes[finger, k] = axis, side, bone
            if finger > 0:
                before = directions[k]
                flexion[finger, k] = np.degrees(np.arctan2(np.cross(before, bone) @ axis, before @ bone))
    return palm_normal, axes, flexion


def _in_freihand_proportions(raw: dict) -> dict:
    """Mean shape and components with the joints moved by `TOWARDS_PARENT`, and the skin stretched along between them.

    All of it is linear in the heads, so each component is moved as the mean shape is.
    """
    share = _joint_shares(raw)  # (V, 5, 3)
    moved = {}
    for vertices, heads in (("vertices", "heads"), ("shape_vertices", "shape_heads")):
        joints = raw[heads][..., FINGER_BONES, :]  # (..., 5, 3, 3)
        wrist = np.broadcast_to(raw[heads][..., WRIST, None, None, :], joints[..., :1, :].shape)
        before = np.concatenate([wrist, joints[..., :2, :]], axis=-2)
        offsets = TOWARDS_PARENT[..., None] * (before - joints)
        moved[vertices] = raw[vertices] + np.einsum("vfk,...fkx->...vx", share, offsets)
        moved[heads] = raw[heads].copy()
        moved[heads][..., FINGER_BONES, :] += offsets
    return moved


def _in_palm_frame(heads: np.ndarray, moves: dict[int, tuple[float, float, float]]) -> np.ndarray:
    """Displacement (5, 3) of each finger in rest coordinates; 0 where `moves` has none."""
    along = unit(heads[FINGER_BONES[2, 0]])
    across = heads[FINGER_BONES[1, 0]] - heads[FINGER_BONES[4, 0]]
    across = unit(across - (across @ along) * along)
    frame = np.stack([across, along, np.cross(across, along)])  # the last one is out of a right hand's palm
    result = np.zeros((5, 3))
    for finger, move in moves.items():
        result[finger] = move @ frame
    return result


def _with_fingers_moved(raw: dict) -> dict:
    """Mean shape with whole fingers moved by `MOVED_FINGERS`; their skin follows, that over the metacarpals partly."""
    moves, weights = _in_palm_frame(raw["heads"], MOVED_FINGERS), raw["weights"]
    vertices, heads = raw["vertices"].copy(), raw["heads"].copy()
    for finger in MOVED_FINGERS:
        metacarpal, knuckle = METACARPALS[finger - 1], raw["heads"][FINGER_BONES[finger, 0]]
        place = np.clip(raw["vertices"] @ knuckle / (knuckle @ knuckle), 0, 1)
        share = weights[:, FINGER_BONES[finger]].sum(1) + weights[:, metacarpal] * place
        vertices += share[:, None] * moves[finger]
        heads[FINGER_BONES[finger]] += moves[finger]
    return {"vertices": vertices, "heads": heads}


def _joint_shares(raw: dict) -> np.ndarray:
    """How far each vertex follows each finger joint that is moved, (V, 5, 3): wrist and fingertips stay in place."""
    vertices, heads, weights = raw["vertices"], raw["heads"], raw["weights"]
    share = np.zeros((len(vertices), 5, 3))
    for finger in range(5):
        joints = heads[FINGER_BONES[finger]]
        points = np.vstack([heads[WRIST], joints, vertices[raw["tips"][finger]]])
        bones = [METACARPALS[finger - 1] if finger else None, *FINGER_BONES[finger]]
        for k, bone in enumerate(bones):
            if bone is None:  # the thumb's metacarpal is its first finger bone
                continue
            along = points[k + 1] - points[k]
            # 0 at the bone's head, 1 at its end
            place = np.clip((vertices - points[k]) @ along / (along @ along), 0, 1)
            if k > 0:
                share[:, finger, k - 1] += weights[:, bone] * (1 - place)
            if k < 3:
                share[:, finger, k] += weights[:, bone] * place
    return share


def _with_upper_arm(raw: dict) -> dict:
    """The mesh with its open end at the elbow drawn out along the forearm, as bone `UPPER_ARM`."""
    vertices, faces, heads = raw["vertices"], raw["faces"], raw["heads"]
    axis, elbow = unit(heads[FOREARM]), heads[FOREARM]
    loop = _boundary_loop(faces)
    count, rings, size = len(vertices), 5, len(loop)
    radial = vertices[loop] - elbow - ((vertices[loop] - elbow) @ axis)[:, None] * axis
    new_vertices, new_faces, previous = [], [], loop
    for ring, distance in enumerate(np.linspace(0.05, UPPER_ARM_LENGTH, rings)):
        new_vertices.append(elbow + distance * axis + radial * (1.0 + 0.15 * ring / rings))
        current = count + ring * size + np.arange(size)
        a, b = previous, np.roll(previous, -1)
        c, d = current, np.roll(current, -1)
        new_faces += [np.stack([b, a, c], 1), np.stack([b, c, d], 1)]
        previous = current
    added = rings * size
    weights = np.zeros((count + added, NUM_BONES))
    weights[:count, : raw["weights"].shape[1]] = raw["weights"]
    weights[count:, UPPER_ARM] = 1.0
    # Around the elbow forearm and upper arm share the skin.
    share = np.clip((vertices @ axis - np.linalg.norm(elbow) + 0.02) / 0.05, 0, 0.5)
    weights[:count, UPPER_ARM] = weights[:count, FOREARM] * share
    weights[:count, FOREARM] *= 1 - share
    shape_new = np.tile(raw["shape_vertices"][:, loop], (1, rings, 1))
    return {
        "vertices": np.vstack([vertices, *new_vertices]),
        "faces": np.vstack([faces, *new_faces]),
        "weights": weights,
        "heads": np.vstack([heads, elbow]),
        "shape_vertices": np.concatenate([raw["shape_vertices"], shape_new], axis=1),
        "shape_heads": np.concatenate([raw["shape_heads"], raw["shape_heads"][:, FOREARM : FOREARM + 1]], axis=1),
    }


def _boundary_loop(faces: np.ndarray) -> np.ndarray:
    """Vertices of the mesh's only border, in the order of its faces' edges."""
    edges = {(a, b) for face in faces.tolist() for a, b in zip(face, (*face[1:], face[0]), strict=True)}
    following = {a: b for a, b in edges if (b, a) not in edges}
    loop = [next(iter(sorted(following)))]
    while (successor := following[loop[-1]]) != loop[0]:
        loop.append(successor)
    return np.array(loop)
