"""Small trees in FreiHAND's layout, for tests: plausible cameras and hands, one coloured image each."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

VERSIONS = ("gs", "hom", "sample", "auto")


def make_hands(hands: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cameras K (N, 3, 3) in px and keypoints xyz (N, 21, 3) in m of spread hands, all on the 224x224 image."""
    rng = np.random.default_rng(seed)
    K = np.tile(np.array([[0.0, 0, 112], [0, 0, 112], [0, 0, 1]]), (hands, 1, 1))
    K[:, 0, 0] = K[:, 1, 1] = rng.uniform(400, 600, hands)
    flat = np.zeros((21, 3))  # wrist at the origin, fingers as five rays; longest 0.17 m
    for finger, (degrees, reach) in enumerate(zip((-50, -18, 0, 16, 34), (0.12, 0.16, 0.17, 0.16, 0.13), strict=True)):
        along = np.linspace(0.45, 1, 4) * reach
        ray = np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees)), 0.0])
        flat[1 + 4 * finger : 5 + 4 * finger] = along[:, None] * ray
    flat -= flat.mean(0)
    turn = rng.uniform(-np.pi, np.pi, hands)
    c, s, o, i = np.cos(turn), np.sin(turn), np.zeros(hands), np.ones(hands)
    R = np.array([[c, -s, o], [s, c, o], [o, o, i]]).transpose(2, 0, 1)
    xyz = flat @ R.transpose(0, 2, 1) + rng.normal(0, 0.004, (hands, 21, 3))
    xyz += np.stack([*rng.uniform(-0.01, 0.01, (2, hands)), rng.uniform(0.65, 0.8, hands)], -1)[:, None]
    return K, xyz


def make_image(keypoints: np.ndarray, seed: int) -> np.ndarray:
    """A uint8 (224, 224, 3) RGB image: the colour that `seed` gives, with a white square on each keypoint (21, 2)."""
    image = np.full((224, 224, 3), background(seed), dtype=np.uint8)
    for x, y in np.rint(keypoints).astype(int):
        image[max(y - 3, 0) : max(y + 4, 0), max(x - 3, 0) : max(x + 4, 0)] = 255
    return image


def background(seed: int) -> tuple[int, int, int]:
    """Red, green and blue of the image with this id."""
    red, green, blue = np.random.default_rng(seed).integers(20, 180, 3)
    return int(red), int(green), int(blue)


def make_tree(
    root: Path,
    hands: int,
    versions: Sequence[str] = VERSIONS,
    evaluation: int = 0,
    evaluation_labels: bool = True,
    occluded: bool = False,
    images: bool = True,
    seed: int = 0,
) -> Path:
    """Write a valid tree at `root` and return it.

    `hands` training hands in the named versions (0: no training part), `evaluation` images of the evaluation set,
    without keypoints where `evaluation_labels=False`; `occluded` adds training_occluded.json; `images=False` writes
    only the JSON files.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    blocks = [VERSIONS.index(version) for version in versions]
    for part, count, copies in (("training", hands, blocks), ("evaluation", evaluation, [0])):
        if not count:
            continue
        K, xyz = make_hands(count, seed + (part == "evaluation"))
        write_json(root / f"{part}_K.json", K.tolist())
        if part == "training" or evaluation_labels:
            write_json(root / f"{part}_xyz.json", xyz.tolist())
        if part == "training" and occluded:
            flags = np.random.default_rng(seed).random((count, 21)) < 0.3
            write_json(root / "training_occluded.json", flags.tolist())
        folder = root / part / "rgb"
        folder.mkdir(parents=True, exist_ok=True)
        uv = xyz @ K[:, :2].transpose(0, 2, 1) / xyz[..., 2:]
        for image_id in (row + count * block for block in copies for row in range(count)) if images else ():
            image = make_image(uv[image_id % count], seed=image_id)
            cv2.imwrite(str(folder / f"{image_id:08d}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return root


def write_json(path: Path, entries: object) -> None:
    path.write_text(json.dumps(entries))
