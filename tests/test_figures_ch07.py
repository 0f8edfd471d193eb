"""Chapter 07's figures and the published table."""

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from trees import make_tree

matplotlib.use("Agg")

from handpose_lib.course import figures_ch07
from handpose_lib.evaluate import Report, make_report
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import FINGERS, GROUPS, KEYPOINT_NAMES


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Seen joints are hit, hidden ones missed by far."""
    dataset = FreiHAND(make_tree(tmp_path / "tree", hands=12, occluded=True, images=True), "val")
    predictions = torch.from_numpy(dataset.keypoints) + 500.0 * torch.from_numpy(dataset.occluded)[..., None]
    return make_report(dataset, predictions)


def test_published_table_is_wrist_then_fingers_from_palm_to_tip():
    table = figures_ch07.PUBLISHED_PCK
    assert tuple(table.index) == KEYPOINT_NAMES
    assert table[["wrist", "thumb_tip", "pinky_mcp"]].tolist() == pytest.approx([0.991, 0.908, 0.981])
    assert table.mean() == pytest.approx(0.9674, abs=0.0005)  # the mean that was published with it


def test_hidden_and_seen_joints_are_scored_apart(report: Report):
    table = report.by_occlusion
    assert list(table.index) == [*GROUPS, "all"]
    assert table.loc["all", "pck_0.2_bbox_seen"] == 1.0 and table.loc["all", "pck_0.2_bbox_hidden"] == 0.0
    assert table.loc["all", "count_hidden"] == report.occluded.sum()
    assert table[["count_seen", "count_hidden"]].loc[list(GROUPS)].sum().sum() == report.visible.sum()


def test_a_joint_off_the_image_is_neither_seen_nor_hidden(report: Report):
    visible = report.visible.clone()
    visible[:, 4] = False
    table = dataclasses.replace(report, visible=visible).by_occlusion
    before = report.by_occlusion
    lost = before[["count_seen", "count_hidden"]].sum(axis=1) - table[["count_seen", "count_hidden"]].sum(axis=1)
    assert lost["fingertips"] == lost["all"] == len(visible) and lost["palm"] == 0


def test_a_data_set_that_does_not_know_hidden_joints_says_so(tiny_val: FreiHAND):
    report = make_report(tiny_val, torch.zeros(21, 2))
    with pytest.raises(ValueError, match=r"training_occluded\.json"):
        _ = report.by_occlusion


def test_bars_of_seen_and_hidden_are_the_tables(report: Report):
    ax = figures_ch07.seen_and_hidden({"a": report}).axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    table = report.by_occlusion
    assert np.allclose(heights, [*table["pck_0.2_bbox_seen"], *table["pck_0.2_bbox_hidden"]], equal_nan=True)
    labels = [text.get_text() for text in ax.texts][: len(table)]
    assert labels == [f"{n:,}" if n else "" for n in table["count_seen"]]


def test_finger_joint_grid_puts_each_value_in_its_cell():
    values = np.arange(21) / 21
    figure = figures_ch07.finger_joint_grid({"a": values, "b": values / 2}, "PCK")
    for ax, scale in zip(figure.axes[:2], (1, 2), strict=True):
        shown = np.array([float(text.get_text()) for text in ax.texts]).reshape(5, 4)
        assert np.allclose(shown, values[np.array(list(FINGERS.values()))] / scale, atol=0.0051)
        assert [label.get_text() for label in ax.get_yticklabels()] == list(FINGERS)
    assert "wrist: 0.00" in figure.axes[0].get_title()


def test_intervals_are_drawn_from_low_to_high_beside_one_another():
    middle, low, high = np.full(21, 0.5), np.full(21, 0.3), np.full(21, 0.6)
    ax = figures_ch07.keypoint_intervals({"a": (middle, low, high), "b": (middle, middle, high)}).axes[0]
    first, second = ax.containers
    segments = np.array(first.lines[2][0].get_segments())
    assert np.allclose(segments[:, :, 1], [0.3, 0.6])
    assert (second.lines[0].get_xdata() > first.lines[0].get_xdata()).all()
    assert tuple(label.get_text() for label in ax.get_xticklabels()) == KEYPOINT_NAMES


def test_seeds_are_drawn_in_the_order_of_the_keypoints():
    frame = pd.DataFrame({"seed": 7, "keypoint": KEYPOINT_NAMES[::-1], "pck_0.2_bbox": np.linspace(1, 0, 21)})
    ax = figures_ch07.seed_spread(np.zeros(21), frame).axes[0]
    assert np.allclose(ax.lines[0].get_ydata(), np.linspace(0, 1, 21))
    assert "seed 7" in ax.lines[0].get_label() and "recorded" in ax.lines[0].get_label()


def test_grouped_bars_are_the_frames_values():
    frame = pd.DataFrame({"x": [0.1, 0.2], "y": [0.3, 0.4]}, index=["one", "two"])
    ax = figures_ch07.grouped_bars(frame, "what", "PCK").axes[0]
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[0.1, 0.2], [0.3, 0.4]]


def test_both_histograms_count_every_draw():
    ax = figures_ch07.chosen_and_fresh(torch.linspace(0.5, 0.6, 30), torch.linspace(0.4, 0.5, 30)).axes[0]
    assert sum(bar.get_height() for bar in ax.containers[0]) == 30
    assert ax.get_xlabel() and ax.get_ylabel()


def test_answers_stand_below_the_truth_at_one_scale_and_marked_ones_have_a_ring():
    truth = np.random.default_rng(0).uniform(60, 160, (3, 21, 2))
    answer = truth + 7
    marked = np.zeros((3, 21), bool)
    marked[1, [4, 8]] = True
    images = np.zeros((3, 224, 224, 3), np.uint8)
    figure = figures_ch07.answers_below(images, {"truth": truth, "answer": answer}, ["a", "b", "c"], marked)
    axes = np.array(figure.axes).reshape(2, 3)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["truth", "answer"]
    assert [ax.get_title() for ax in axes[0]] == ["a", "b", "c"]
    for column in range(3):
        assert axes[0, column].get_xlim() == axes[1, column].get_xlim()
    rings = axes[1, 1].collections[-1].get_offsets()
    assert np.allclose(rings, answer[1, [4, 8]])
    lines = [line.get_xydata() for line in axes[1, 1].lines if line.get_linestyle() == ":"]
    assert np.allclose(lines, np.stack([truth[1, [4, 8]], answer[1, [4, 8]]], axis=1))
    assert len(axes[1, 0].collections[-1].get_offsets()) == 0


def test_the_worst_swaps_are_of_different_hands_and_count_their_keypoints(tmp_path: Path):
    dataset = FreiHAND(make_tree(tmp_path / "tree", hands=12, images=True), "train")
    exchanged = torch.from_numpy(dataset.keypoints).clone()
    worst = dataset.hand_ids == dataset.hand_ids[-1]  # index and middle finger change places, in all versions
    exchanged[worst, 5:9], exchanged[worst, 9:13] = exchanged[worst, 9:13], exchanged[worst, 5:9]
    report = make_report(dataset, exchanged)
    shown = []
    figure = figures_ch07.worst_swaps(report, lambda item: shown.append(item) or dataset[item][0], count=2)
    assert len({dataset.hand_ids[item] for item in shown}) == len(shown) == 2
    assert figure.axes[0].get_title() == "8 swapped" and dataset.hand_ids[shown[0]] == dataset.hand_ids[-1]
    rings = figure.axes[2].collections[-1].get_offsets()  # below it: of the fingertips alone
    assert np.allclose(rings, exchanged[shown[0]][[8, 12]])
