"""The pictures of somebody else's camera, and what fine-tuning on them gained where it was recorded."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.recipes import own_hands
from handpose_lib.synthhand.clip import render_clip
from handpose_lib.synthhand.skin import glove
from handpose_lib.weights import fine_tuning


def test_the_stand_in_is_a_folder_of_labelled_blue_hands(tmp_path: Path):
    folder = own_hands.write_stand_in(tmp_path / "hands", persons=3)
    hands = KeypointFolder(folder, "all")
    assert len(hands) == 3 * own_hands.PICTURES and len(set(hands.group_names)) == 3
    assert set(hands.version_names) == {"left", "right"}
    for i in range(len(hands)):
        picture = hands.picture(i)
        assert picture.shape == (*own_hands.SIZE, 3)
        image, target = hands[i]
        x, y = target["keypoints"][target["visible"]].round().long().clamp(0, 223).T
        red, _, blue = image[:, y, x].float().mean(1)
        assert blue > red, "labels lie on the glove"
    poses = []
    for row in range(len(hands)):
        shown = hands.keypoints[row] - hands.keypoints[row, :1]
        size = np.linalg.norm(shown[9])
        poses.append(np.linalg.norm(shown, axis=1) / size)  # how far each keypoint is from the wrist, in palms
    changes = np.abs(np.diff(np.array(poses).reshape(3, own_hands.PICTURES, 21), axis=1)).mean((1, 2))
    assert changes.min() > 0.15, "each picture of a person shows another pose"
    before = (folder / "keypoints.json").stat().st_mtime_ns
    own_hands.write_stand_in(folder, persons=5)
    assert (folder / "keypoints.json").stat().st_mtime_ns == before, "what is there stays"


def test_a_glove_changes_the_colour_of_a_hand_and_nothing_else():
    bare, gloved = (next(render_clip(1, seed=4, size=96, skin=skin)) for skin in (None, own_hands.GLOVE))
    assert np.array_equal(bare.keypoints, gloved.keypoints)
    x, y = np.clip(bare.keypoints.round().astype(int), 0, 95).T
    for frame, sign in ((bare, -1), (gloved, 1)):
        red, _, blue = frame.image[y, x].mean(0, dtype=float)
        assert sign * (blue - red) > 10


def test_a_glove_is_as_dull_on_its_nails_and_its_colour_is_one():
    assert own_hands.GLOVE.nail_gloss == 0
    for colour, gloss in (((-1, 70, 170), 0.5), ((0, 70, 256), 0.5), ((0, 70, 170), 1.5), ((0, float("nan"), 0), 0.5)):
        with pytest.raises(ValueError, match="must be from 0 to"):
            glove(*colour, gloss=gloss)


def test_a_comparison_has_a_line_per_seed_and_set(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(own_hands, "PERSONS", 3)
    monkeypatch.setattr(own_hands, "PICTURES", 1)
    monkeypatch.setattr(own_hands, "PARTS", (0.34, 0.33, 0.33))
    monkeypatch.setattr(own_hands, "FreiHAND", lambda *_, **__: KeypointFolder(tmp_path / "gloves", "val"))
    for name, skin in own_hands.LEARNED.items():
        own_hands.write_stand_in(tmp_path / name, persons=3, skin=skin)
    settings = fine_tuning(own_hands.bundled_weights(), epochs=1, batch_size=1)
    table = own_hands.compare((1, 2), tmp_path, settings)
    trainings = [("nothing", 0), ("gloves", 1), ("gloves", 2), ("bare hands", 1), ("bare hands", 2)]
    assert list(zip(table["learned"], table["seed"], strict=True))[::3] == trainings
    assert table["data"].tolist() == 5 * [own_hands.NEW, own_hands.BARE, own_hands.OLD]
    assert np.isfinite(table["epe_px128"]).all()


def test_the_recorded_seeds_each_lowered_the_error_on_held_out_people_and_raised_it_on_the_old_set():
    recorded: pd.DataFrame = own_hands.recorded_runs()
    errors = recorded.pivot(index=["learned", "seed"], columns="data", values="epe_px128")
    before, gloves, bare = (errors.loc[name] for name in ("nothing", *own_hands.LEARNED))
    assert gloves.index.tolist() == bare.index.tolist() == [1, 2, 3]
    assert (gloves[own_hands.NEW] < before[own_hands.NEW][0]).all()
    for each in (gloves, bare):
        assert (each[own_hands.OLD] >= before[own_hands.OLD][0]).all(), "then the chapter's text is wrong"
    parts = own_hands.PARTS
    assert round(parts[0] * own_hands.PERSONS) * own_hands.PICTURES == 20
