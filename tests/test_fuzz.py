"""Seeded damage to trees, pictures, weights and checkpoints: each ends as before, or in an error that names the file.

`HANDPOSE_FUZZ` is the number of damages (`make fuzz` takes more than `make test`), `HANDPOSE_FUZZ_SEED` the first seed.
"""

import json
import os
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trees import make_tree

from handpose_lib.framing import Framing
from handpose_lib.freihand import FreiHAND
from handpose_lib.loader import decoded_images
from handpose_lib.pictures import read_picture
from handpose_lib.settings import TrainSettings
from handpose_lib.storage import derived_folder
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import load_model, save_model

COUNT = int(os.environ.get("HANDPOSE_FUZZ", "200"))
FIRST = int(os.environ.get("HANDPOSE_FUZZ_SEED", "0"))
SETTINGS = TrainSettings(framing=Framing(16), width=4, depth=2, batch_size=4, epochs=1)
ERRORS = (ValueError, OSError)


def harmed(data: bytes, chance: random.Random) -> bytes:
    """A file's content after one of the things that happen to files."""
    if not data:
        return b"x"
    place, length = chance.randrange(len(data)), chance.choice((1, 16, 512, 4096))
    match chance.randrange(9):
        case 0:
            return data[:place]
        case 1:
            return b""
        case 2:
            return data[:place] + bytes(min(length, len(data) - place)) + data[place + length :]
        case 3:
            return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        case 4:
            return data[:place] + chance.randbytes(min(length, len(data) - place)) + data[place + length :]
        case 5:
            return bytes(len(data))
        case 6:
            return data[:place] + data[place + length :]
        case 7:
            return data[:place] + b"\xff" * min(length, len(data) - place) + data[place + length :]
        case _:
            return data + chance.randbytes(length)


def odd_json(text: str, chance: random.Random) -> str:
    """Valid JSON with one entry that can't be meant, or one value in the place of all."""
    value = chance.choice((None, True, "x", [], {}, -1, 0, 1e38, 1e999, -7.5, [[1]], "nan"))
    if chance.random() < 0.2:
        return json.dumps(value)
    entries = json.loads(text)
    place = entries
    for _ in range(chance.randrange(1, 4)):
        if not isinstance(place[0], list):
            break
        parent, place = place, place[chance.randrange(len(place))]
    else:
        parent = place
    parent[chance.randrange(len(parent))] = value
    return json.dumps(entries)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A tree of noisy photographs with its caches, a finished run, weights, and pictures of several kinds."""
    folder = tmp_path_factory.mktemp("fuzz")
    root = make_tree(folder / "tree", hands=12, occluded=True, evaluation=2)
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        noise = np.random.default_rng(number).integers(0, 256, (28, 28, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (224, 224), interpolation=cv2.INTER_CUBIC))
    for kind in ("png", "webp", "avif", "gif", "jpg"):
        picture = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8), (120, 90))
        cv2.imwrite(str(folder / f"picture.{kind}"), picture)
    save_model(UNet2DHandPose(4, 2, framing=Framing(16)), folder / "weights.safetensors")
    Trainer(SETTINGS, FreiHAND(root, "train"), FreiHAND(root, "val"), folder / "run", "cpu").run(progress=False)
    return folder


def copy_of(whole: Path, to: Path) -> Path:
    shutil.copytree(whole, to, copy_function=shutil.copy2)
    return to


def outcome(path: Path, use) -> object:
    """What `use` gives; the error as text, which names the file that was harmed in one line."""
    try:
        return use()
    except ERRORS as error:
        said = str(error)
        assert path.name in said and "\n" not in said, said
        return said


def same_keypoints(root: Path, keypoints: np.ndarray) -> bool:
    return np.array_equal(FreiHAND(root).keypoints, keypoints)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_damage_is_named_or_does_no_harm(whole, tmp_path, seed):
    chance = random.Random(seed)
    kind = chance.choice(
        ("json", "odd json", "image", "annotations cache", "images cache", "note", "weights", "run", "picture")
    )
    folder = copy_of(whole, tmp_path / "copy")
    root, original = folder / "tree", FreiHAND(whole / "tree")
    if kind in ("json", "odd json"):
        path = chance.choice(sorted(root.glob("training_*.json")))
        text = path.read_text()
        path.write_bytes(harmed(text.encode(), chance)) if kind == "json" else path.write_text(odd_json(text, chance))
        found = outcome(path, lambda: FreiHAND(root))
        if isinstance(found, FreiHAND) and path.read_text() != text:
            json.loads(path.read_text())  # another number in its place: what one can't tell from a right one
            assert np.isfinite(found.keypoints).all() and np.abs(found.keypoints).max() < 1e6
    elif kind == "image":
        index = chance.randrange(len(original))
        data = FreiHAND(root)
        path = data.image_path(index)
        path.write_bytes(harmed(path.read_bytes(), chance))
        found = outcome(path, lambda: data[index][0])
        if not isinstance(found, str):  # the flip of a bit in a JPEG can be another valid JPEG
            assert found.shape == (3, 224, 224)
    elif kind in ("annotations cache", "images cache", "note"):
        dataset = FreiHAND(root)
        images = decoded_images(dataset, 16, progress=False).clone()
        pattern = {"annotations cache": "*.npz", "images cache": "*.npy", "note": "*.json"}[kind]
        path = chance.choice(sorted(derived_folder(root).glob(pattern)))
        path.write_bytes(harmed(path.read_bytes(), chance))
        assert same_keypoints(root, original.keypoints)
        assert torch.equal(decoded_images(FreiHAND(root), 16, progress=False), images)
    elif kind == "weights":
        path = folder / "weights.safetensors"
        path.write_bytes(harmed(path.read_bytes(), chance))
        found = outcome(path, lambda: load_model(path)[0].state_dict())
        if not isinstance(found, str):
            expected = load_model(whole / "weights.safetensors")[0].state_dict()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    elif kind == "run":
        path = folder / "run" / chance.choice(("checkpoint.pt", "best.safetensors", "history.csv"))
        content = path.read_bytes()
        path.write_bytes(harmed(content, chance))
        trainer = Trainer(SETTINGS, FreiHAND(root, "train"), FreiHAND(root, "val"), folder / "run", "cpu")
        found = outcome(path, trainer.resume)
        if not isinstance(found, str):
            expected = load_model(whole / "run" / "best.safetensors")[0].state_dict()
            again = load_model(folder / "run" / "best.safetensors")[0].state_dict()
            assert all(torch.equal(again[name], expected[name]) for name in expected)
    else:
        path = chance.choice(sorted(folder.glob("picture.*")))
        path.write_bytes(harmed(path.read_bytes(), chance))
        found = outcome(path, lambda: read_picture(path))
        assert isinstance(found, str) or (found.ndim == 3 and found.dtype == np.uint8)
