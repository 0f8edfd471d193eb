import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

matplotlib.use("Agg")

from handpose_lib import plots
from handpose_lib.evaluate import Report, make_report, mean_hand
from handpose_lib.freihand import FreiHAND
from handpose_lib.keypoints import BONES, KEYPOINT_NAMES


@pytest.fixture
def report(tiny_val: FreiHAND) -> Report:
    return make_report(tiny_val, mean_hand(tiny_val))


def test_bars_are_the_reports_pck_with_a_label_a_keypoint(report: Report):
    ax = plots.per_keypoint_bars({"a": report, "b": report}).axes[0]
    assert np.allclose([bar.get_height() for bar in ax.patches], report.pck().numpy())
    assert tuple(label.get_text() for label in ax.get_xticklabels()) == KEYPOINT_NAMES
    assert ax.get_ylabel() == "PCK@0.2 (bbox)"


def test_a_bars_number_stands_below_it_and_the_legend_shows_the_bars_own_colours(report: Report):
    figure = plots.per_keypoint_bars({"a": report, "b": report})
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == [f"{100 * value:.0f}" for value in report.pck()]
    assert [text.get_position()[0] for text in ax.texts] == list(range(21))
    legend = figure.legends[0]
    figure.canvas.draw()
    shown = {patch.get_facecolor() for patch in legend.findobj(Rectangle)}
    assert {bar.get_facecolor() for bar in ax.patches} <= shown
    assert legend.get_texts()[0].get_text().startswith("bars, a: mean")


def test_curves_rise_to_the_pck_at_their_end(report: Report):
    line = plots.accuracy_curves({"a": report}, largest=0.5).axes[0].lines[0]
    assert (np.diff(line.get_ydata()) >= 0).all()
    assert line.get_ydata()[-1] == pytest.approx(float(report.pck(0.5).nanmean()))


def test_keypoints_are_drawn_in_the_images_pixels():
    image = np.zeros((20, 30, 3), np.uint8)
    keypoints = np.stack([np.arange(21.0), np.arange(21.0) / 2], -1)
    ax = plots.draw_hand(image, keypoints).axes[0]
    assert np.allclose(ax.collections[0].get_offsets(), keypoints)
    assert ax.get_xlim() == (-0.5, 29.5) and ax.get_ylim() == (19.5, -0.5)
    assert isinstance(plots.draw_hand(torch.zeros(3, 20, 30), numbers=True, keypoints=keypoints), Figure)


def test_every_axis_that_measures_has_a_label(report: Report):
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2.0, 1.0], "sigma_px": [3.0, 2.0], "val_pck_0.2_bbox": [0.1, 0.2]}
    )
    for figure in (plots.training_curves(history), plots.accuracy_curves({"a": report})):
        for ax in figure.axes:
            assert ax.get_xlabel() and ax.get_ylabel()


def test_worst_cases_show_truth_and_prediction(report: Report, tiny_val: FreiHAND):
    images = [tiny_val[i][0] for i in range(len(tiny_val))]
    figure = plots.worst_cases(report, images, count=3, columns=3)
    assert len([ax for ax in figure.axes if ax.get_visible()]) == 3
    assert all("px of 224" in ax.get_title() for ax in figure.axes)


def test_a_close_look_is_a_square_on_the_image_that_holds_all_points():
    image = np.zeros((100, 140, 3), np.uint8)
    points = np.stack([np.linspace(2, 30, 21), np.linspace(60, 97, 21)], -1)
    truth = points + np.array([25.0, 0.0])
    ax = plots.image_grid([image], [points], truths=[truth], columns=1, close=True).axes[0]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert right - left == pytest.approx(bottom - top) and right - left == pytest.approx(1.25 * 53)
    assert left >= -0.5 and bottom <= 99.5, "the square leaves the image"
    both = np.concatenate([points, truth])
    assert (both >= (left, top)).all() and (both <= (right, bottom)).all()


@pytest.mark.parametrize("shape", [(40, 40, 3), (3, 30, 40)])
def test_a_grid_leaves_hardly_any_room_between_its_pictures(shape: tuple[int, ...]):
    plots.use_style()
    figure = plots.image_grid([np.zeros(shape, np.uint8)] * 4, titles=["two\nlines"] * 4, columns=2)
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in figure.axes]
    assert sum(box.width for box in boxes[:2]) > 0.93 * figure.bbox.width
    assert sum(box.height for box in boxes[::2]) > 0.7 * figure.bbox.height


def test_bones_have_a_dark_edge_and_the_truth_lies_under_the_prediction():
    points = np.stack([np.linspace(5, 15, 21), np.linspace(4, 16, 21)], -1)
    image = np.full((20, 20, 3), 255, np.uint8)
    ax = plots.draw_hand(image, points, truth=points + 0.1).axes[0]
    bones = [c for c in ax.collections if isinstance(c, LineCollection) and len(c.get_segments()) == len(BONES)]
    edge, colour, true_edge, white = bones
    assert edge.get_linewidth()[0] > colour.get_linewidth()[0] > white.get_linewidth()[0]
    assert edge.get_zorder() < colour.get_zorder() and true_edge.get_zorder() < white.get_zorder() < edge.get_zorder()
    assert np.allclose(edge.get_color()[0], to_rgba(plots.DARK)) and np.allclose(white.get_color(), 1)
    assert np.allclose(colour.get_color()[3], to_rgba(plots.keypoint_colour(BONES[3][1])))


def test_a_rim_is_white_and_lies_under_the_dark_edge():
    points = np.stack([np.linspace(5, 15, 21), np.linspace(4, 16, 21)], -1)
    ax = plots.image_grid([np.zeros((20, 20, 3), np.uint8)], [points], columns=1, rim=True).axes[0]
    rim, edge, _ = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert np.allclose(rim.get_color(), 1) and np.allclose(edge.get_color()[0], to_rgba(plots.DARK))
    assert rim.get_zorder() < edge.get_zorder() and rim.get_linewidth()[0] > edge.get_linewidth()[0]


def test_maps_share_a_scale_and_true_places_are_marked_in_their_own_maps():
    maps = np.random.default_rng(0).random((2, 3, 8, 9))
    truths = {"a": np.array([[1.0, 2], [3, 4], [5, 6]]), "b": np.array([7.0, 1])}
    figure = plots.map_grid({"a": maps[0], "b": maps[1]}, ["x", "y", "z"], truths=truths, highest=0.5)
    axes = figure.axes[:6]
    assert {ax.images[0].get_clim() for ax in axes} == {(0, 0.5)}
    marked = [tuple(ax.lines[0].get_xydata()[0]) for ax in axes]
    assert marked == [(1, 2), (3, 4), (5, 6), (7, 1), (7, 1), (7, 1)]
    assert not any(ax.lines for ax in plots.map_grid({"a": maps[0]}, ["x", "y", "z"]).axes)


@pytest.mark.parametrize(("away", "ties"), [(0.19, 0), (0.21, 1)])
def test_a_missed_keypoint_is_tied_to_its_truth(away: float, ties: int):
    truth = np.stack([np.linspace(0, 100, 21), np.linspace(0, 40, 21)], -1)
    points = truth.copy()
    points[8, 1] += away * 100
    ax = plots.draw_hand(np.zeros((120, 120, 3), np.uint8), points, truth=truth).axes[0]
    dotted = [c for c in ax.collections if isinstance(c, LineCollection) and c.get_linestyles()[0][1] is not None]
    assert [len(c.get_segments()) for c in dotted] == [ties]


def test_a_truth_apart_is_a_picture_below_with_the_same_limits():
    image = np.zeros((100, 140, 3), np.uint8)
    points = np.stack([np.linspace(2, 30, 21), np.linspace(60, 97, 21)], -1)
    given = {"keypoints": [points] * 3, "truths": [points + 20] * 3, "titles": list("abc")}
    figure = plots.image_grid([image] * 3, **given, columns=2, close=True, apart=True)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["a", "b", "", "", "c", ""]
    assert [ax.get_ylabel() for ax in shown] == ["predicted", "", "true", "", "predicted", "true"]
    assert np.allclose(shown[2].collections[0].get_offsets(), points + 20)
    assert shown[0].get_xlim() == shown[2].get_xlim() and shown[0].get_ylim() == shown[2].get_ylim()
