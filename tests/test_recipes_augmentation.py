"""The runs with and without augmentation that chapter 03 shows."""

from pathlib import Path

import pandas as pd
import torch

from handpose_lib.augment import NO_AUGMENTATION, Augmentation
from handpose_lib.course.figures_ch03 import with_and_without
from handpose_lib.recipes import augmentation


def test_no_augmentation_is_the_same_as_one_that_changes_nothing():
    images, keypoints = torch.rand(4, 3, 32, 32), 32 * torch.rand(4, 21, 2)
    seen, points = augmentation.change(images, keypoints, torch.arange(4), 1, NO_AUGMENTATION, seed=0)
    assert torch.allclose(seen, images, atol=1e-5) and torch.allclose(points, keypoints, atol=1e-4)
    moved = augmentation.change(images, keypoints, torch.arange(4), 1, Augmentation(), seed=0)
    assert not torch.allclose(moved[0], images, atol=0.1) and not torch.allclose(moved[1], keypoints, atol=1)


def test_runs_fill_the_file_with_what_it_lacks_and_can_be_drawn(tmp_path: Path, monkeypatch, bundled_root: Path):
    out = tmp_path / "augmentation.csv"
    monkeypatch.setattr(augmentation, "WIDTH", 1)
    augmentation.run(out, steps=(1,), seeds=(0,))
    first = out.read_text()
    assert first.splitlines()[0] == "augmentation,steps,seed,pck_0.2_bbox_trained,pck_0.2_bbox_unseen"
    monkeypatch.setattr(augmentation, "learn", lambda *_: 1 / 0)  # nothing is trained again
    augmentation.run(out, steps=(1,), seeds=(0,))
    assert out.read_text() == first
    figure = with_and_without(pd.read_csv(out))
    assert [ax.get_title() for ax in figure.axes] == ["1 steps"]


def test_the_recorded_runs_are_whole_and_of_the_recipes_settings():
    runs = augmentation.recorded_runs()
    assert set(runs["steps"]) == set(augmentation.STEPS) and set(runs["seed"]) == set(augmentation.SEEDS)
    assert (runs.groupby(["steps", "seed"]).size() == len(augmentation.ARMS)).all()
    assert runs.filter(like="pck").stack().between(0, 1).all()
