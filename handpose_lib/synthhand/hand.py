"""A hand in a shape and a pose: forward kinematics of 23 bones, then linear blend skinning.

Rest coordinates of the result: metres, wrist at the origin. Each bone's rotation is given in the axes of the rest
pose and about the bone's own head, so a chain of fingers is a product of 4x4 matrices.
"""

import math
from dataclasses import dataclass

import numpy as np

from .asset import (
    FINGER_BONES,
    FOREARM,
    FOREARM_DISTAL,
    NUM_BONES,
    UPPER_ARM,
    WRIST,
    HandAsset,
    unit,
)

TIP_DEPTH = 0.0003  # m


@dataclass
class Pose:
    """Joint angles in degrees; all zero is a flat hand."""

    fingers: np.ndarray  # (4, 4) index to pinky: flexion of MCP, PIP, DIP, and abduction towards the thumb
    thumb: np.ndarray  # (5,) CMC flexion, CMC opposition, CMC twist, MCP flexion, IP flexion
    wrist: np.ndarray  # (3,) flexion, deviation, twist of the forearm
    elbow: np.ndarray  # (2,) bend, and the direction that it bends to

    def towards(self, other: "Pose", amount: float, finger: int) -> "Pose":
        """A copy with one finger (0 = thumb) moved by `amount` (0-1) towards its angles in `other`."""
        fingers, thumb = self.fingers.copy(), self.thumb.copy()
        if finger == 0:
            thumb += amount * (other.thumb - thumb)
        else:
            fingers[finger - 1] += amount * (other.fingers[finger - 1] - fingers[finger - 1])
        return Pose(fingers, thumb, self.wrist, self.elbow)


@dataclass
class PosedHand:
    """What skinning returns; metres."""

    vertices: np.ndarray  # (V, 3)
    keypoints: np.ndarray  # (21, 3) in FreiHAND's order
    elbow: np.ndarray  # (3,)
    transforms: np.ndarray  # (B, 4, 4) from rest to posed


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Matrix (3, 3) that turns by `degrees` about a unit axis (Rodrigues)."""
    angle = math.radians(degrees)
    sine, cosine = math.sin(angle), math.cos(angle)
    x, y, z = axis.tolist()  # plain numbers: much faster than arrays of three
    u, v, w = (1 - cosine) * x, (1 - cosine) * y, (1 - cosine) * z
    return np.array([
        [u * x + cosine, u * y - sine * z, u * z + sine * y],
        [u * y + sine * z, v * y + cosine, v * z - sine * x],
        [u * z - sine * y, v * z + sine * x, w * z + cosine],
    ])  # fmt: skip


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector product (3,) of two vectors (3,); several times as fast as NumPy's for so few numbers."""
    (x, y, z), (u, v, w) = a.tolist(), b.tolist()
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


def about(turn: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The 4x4 transform that applies `turn` (3, 3) about `center` (3,)."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    matrix[:3, :3] = turn
    matrix[:3, 3] = center - turn @ center
    return matrix


def shaped(asset: HandAsset, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and bone heads (B, 3) of the rest pose for shape coefficients (12,)."""
    vertices = asset.vertices + np.tensordot(shape, asset.shape_vertices, axes=1)
    heads = asset.heads + np.tensordot(shape, asset.shape_heads, axes=1)
    return vertices, heads


def bone_transforms(asset: HandAsset, heads: np.ndarray, pose: Pose) -> np.ndarray:
    """Transforms (B, 4, 4) of all bones from the rest pose to `pose`."""
    turns = _local_rotations(asset, pose)
    result = np.tile(np.eye(4), (NUM_BONES, 1, 1))
    for finger in range(5):
        parent = np.eye(4)  # the metacarpals stay with the wrist
        for bone in FINGER_BONES[finger]:
            parent = parent @ about(turns[bone], heads[bone])
            result[bone] = parent
    flexion, deviation, twist = pose.wrist
    across = unit(cross(unit(heads[FINGER_BONES[2, 0]]), asset.palm_normal))
    turn = rotation(across, -flexion) @ rotation(asset.palm_normal, -deviation)
    # The twist of the forearm is spread: most of it near the wrist, all of it at the elbow.
    result[FOREARM_DISTAL] = about(turn @ rotation(asset.arm_axis, 0.6 * twist), heads[WRIST])
    result[FOREARM] = about(turn @ rotation(asset.arm_axis, twist), heads[WRIST])
    bend, direction = pose.elbow
    bend_axis = rotation(asset.arm_axis, direction) @ unit(cross(asset.arm_axis, asset.palm_normal))
    result[UPPER_ARM] = result[FOREARM] @ about(rotation(bend_axis, bend), heads[FOREARM])
    return result


def _local_rotations(asset: HandAsset, pose: Pose) -> dict[int, np.ndarray]:
    """Rotation (3, 3) of each phalanx in the axes of the rest pose."""
    return {bone: turn for digit in range(5) for bone, turn in digit_rotations(asset, pose, digit).items()}


def digit_rotations(asset: HandAsset, pose: Pose, digit: int) -> dict[int, np.ndarray]:
    """Rotation (3, 3) of the three phalanges of one digit (0 = thumb) in the axes of the rest pose."""
    bones, axes, rest = FINGER_BONES[digit], asset.finger_axes[digit], asset.rest_flexion[digit]
    if digit > 0:
        mcp, pip, dip, abduction = pose.fingers[digit - 1]
        return {
            # Only 70 % of the knuckle's rest angle is taken off: a relaxed flat hand is not a board.
            bones[0]: rotation(axes[0, 1], -abduction) @ rotation(axes[0, 0], mcp - 0.7 * rest[0]),
            bones[1]: rotation(axes[1, 0], pip - rest[1]),
            bones[2]: rotation(axes[2, 0], dip - rest[2]),
        }
    flexion, opposition, twist, mcp, ip = pose.thumb
    opposing = unit(cross(axes[0, 2], asset.palm_normal))
    return {
        bones[0]: rotation(axes[0, 0], flexion) @ rotation(opposing, opposition) @ rotation(axes[0, 2], -twist),
        bones[1]: rotation(axes[1, 0], mcp),
        bones[2]: rotation(axes[2, 0], ip),
    }


def transform_points(transforms: np.ndarray, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Linear blend skinning: points (P, 3) with weights (P, B) under transforms (B, 4, 4) -> (P, 3)."""
    blended = (weights @ transforms[:, :3].reshape(len(transforms), 12)).reshape(-1, 3, 4)
    return np.einsum("pij,pj->pi", blended[:, :, :3], points) + blended[:, :, 3]


def move_heads(transforms: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Posed positions (B, 3) of the bones' heads (B, 3)."""
    return np.einsum("bij,bj->bi", transforms[:, :3, :3], heads) + transforms[:, :3, 3]


def joint_positions(
    asset: HandAsset, vertices: np.ndarray, heads: np.ndarray, transforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (21, 3) in FreiHAND's order and the elbow (3,), from vertices and heads at rest."""
    posed_heads = move_heads(transforms, heads)
    tips = transform_points(transforms, asset.weights[asset.tips], vertices[asset.tips])
    # A hair under the skin: a line of sight to the tip then meets the finger itself, not what lies beyond its edge.
    tips += TIP_DEPTH * unit(posed_heads[FINGER_BONES[:, 2]] - tips)
    joints = posed_heads[FINGER_BONES]
    joints[:, 0] += asset.root_offsets  # the palm stays where it is, and so do the roots in it
    fingers = np.concatenate([joints, tips[:, None]], axis=1).reshape(20, 3)
    return np.vstack([posed_heads[WRIST], fingers]), posed_heads[UPPER_ARM]


def pose_hand(asset: HandAsset, shape: np.ndarray, pose: Pose) -> PosedHand:
    """The hand of shape coefficients (12,) in `pose`."""
    vertices, heads = shaped(asset, shape)
    transforms = bone_transforms(asset, heads, pose)
    keypoints, elbow = joint_positions(asset, vertices, heads, transforms)
    return PosedHand(transform_points(transforms, asset.weights, vertices), keypoints, elbow, transforms)
