from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handpose_lib.evaluate import evaluate, make_report, mean_hand, predict_keypoints, turn_about_middle
from handpose_lib.framing import Framing, inverse, resize_matrix, warp_keypoints
from handpose_lib.freihand import FreiHAND
from handpose_lib.heatmaps import render_heatmaps
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.loader import HandBatches
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.weights import load_model


class Oracle(nn.Module):
    """A network that knows the truth: draws each item's keypoints, moved by `shift` px of its own image."""

    def __init__(self, keypoints_224: np.ndarray, size: int, shift: float = 0.0):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.truth = (torch.from_numpy(keypoints_224) + 0.5) * size / 224 - 0.5 + torch.tensor([shift, 0.0])
        self.framing, self.seen = Framing(size), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        chosen = self.truth[self.seen : self.seen + len(images)]
        self.seen += len(images)
        return render_heatmaps(chosen, self.framing.size, 2.0)


@pytest.mark.parametrize("size", [64, 128])
def test_an_oracle_scores_perfectly_at_any_input_size(tiny_val: FreiHAND, size: int):
    report = evaluate(Oracle(tiny_val.keypoints, size), tiny_val, batch_size=3)
    assert report.errors[report.visible].max() < 0.25
    assert report.table["pck_0.2_bbox"].min() == 1.0
    assert report.summary["epe_px224"] < 0.1


def test_errors_are_reported_at_both_resolutions(tiny_val: FreiHAND):
    report = evaluate(Oracle(tiny_val.keypoints, 128, shift=4.0), tiny_val)
    assert report.summary["epe_px128"] == pytest.approx(4.0, abs=0.05)
    assert report.summary["epe_px224"] == pytest.approx(7.0, abs=0.09)
    assert report.summary["median_px224"] == pytest.approx(7.0, abs=0.09)


def test_table_has_a_row_a_keypoint_and_groups_average_it(tiny_val: FreiHAND):
    report = make_report(tiny_val, mean_hand(tiny_val))
    assert tuple(report.table["keypoint"]) == KEYPOINT_NAMES
    tips = report.table.loc[[4, 8, 12, 16, 20], "pck_0.2_bbox"].mean()
    assert report.groups.loc["fingertips", "pck_0.2_bbox"] == pytest.approx(tips)
    errors = (mean_hand(tiny_val) - torch.from_numpy(tiny_val.keypoints)).norm(dim=-1).numpy()
    assert report.summary["median_px224"] == pytest.approx(np.median(errors), rel=1e-5)
    assert np.allclose(report.table["median_px224"], np.median(errors, axis=0), rtol=1e-5)
    assert report.by_version["images"].sum() == len(tiny_val)


def test_true_boxes_are_looked_at_in_batches_of_any_size_a_last_one_of_one_too(tiny_val: FreiHAND):
    torch.manual_seed(0)
    model = UNet2DHandPose(4, 2, framing=Framing(32, crop=0.5)).eval()
    nn.init.normal_(model.head.weight)
    whole, parts = (evaluate(model, tiny_val, boxes="truth", batch_size=n) for n in (len(tiny_val), len(tiny_val) - 1))
    assert torch.allclose(whole.predictions, parts.predictions, atol=0.01)


def test_the_mean_hand_is_the_mean_of_what_is_labelled(tiny_train: FreiHAND):
    dataset = copy(tiny_train)
    dataset.keypoints = tiny_train.keypoints.copy()
    dataset.keypoints[0, 3] = np.nan
    expected = [dataset.keypoints[k == 3 :, k].astype(float).mean(0) for k in range(21)]
    assert np.allclose(mean_hand(dataset), expected, atol=1e-3)


def test_worst_cases_come_first(tiny_val: FreiHAND):
    predictions = torch.from_numpy(tiny_val.keypoints).clone()
    predictions[2] += 60
    predictions[1] += 20
    assert list(make_report(tiny_val, predictions).worst(2)) == [2, 1]


def test_of_each_hand_the_worst_case_alone(tiny_root: Path):
    dataset = FreiHAND(tiny_root, "train")
    first = np.flatnonzero(dataset.hand_ids == dataset.hand_ids[0])  # one hand in several versions
    other = int(np.flatnonzero(dataset.hand_ids != dataset.hand_ids[0])[0])
    predictions = torch.from_numpy(dataset.keypoints).clone()
    predictions[first] += 60
    predictions[first[1]] += 5
    predictions[other] += 20
    report = make_report(dataset, predictions)
    assert set(report.worst(len(first))) == set(first) and report.worst(1)[0] == first[1]
    assert report.worst(2, one_per_hand=True).tolist() == [first[1], other]
    assert sorted(dataset.hand_ids[report.worst(10**6, one_per_hand=True)]) == sorted(set(dataset.hand_ids.tolist()))


def test_a_keypoint_off_the_image_counts_nowhere(tiny_root: Path):
    dataset = FreiHAND(tiny_root, "val")
    dataset.keypoints[:, 4] = -50.0
    report = make_report(dataset, torch.zeros(21, 2))
    assert torch.isnan(report.errors[:, 4]).all()
    assert report.table["count"][4] == 0 and np.isnan(report.table["pck_0.2_bbox"][4])
    assert np.isfinite(report.summary["pck_0.2_bbox"])


def test_the_model_is_left_in_the_mode_it_came_in(tiny_val: FreiHAND):
    model = Oracle(tiny_val.keypoints, 64).train()
    evaluate(model, tiny_val)
    assert model.training


def test_a_set_without_labels_can_not_be_scored(tiny_root: Path):
    with pytest.raises(ValueError, match=r"evaluation_xyz\.json"):
        evaluate(nn.Conv2d(3, 21, 1), FreiHAND(tiny_root, "evaluation"))


def test_a_hand_without_an_answer_is_the_worst(tiny_val: FreiHAND):
    predictions = torch.from_numpy(tiny_val.keypoints) + 7
    predictions[1] = torch.nan
    report = make_report(tiny_val, predictions)
    assert report.worst(1).tolist() == [1] and torch.isinf(report.errors[1]).all()


def test_a_network_trained_on_crops_scores_as_its_predictor_does(bundled_root: Path):
    dataset = FreiHAND(bundled_root, "test", versions="gs")
    model, _ = load_model(bundled_weights())
    alone = evaluate(model, dataset)
    predictor = evaluate(HandPosePredictor.from_pretrained(), dataset)
    assert (alone.predictions - predictor.predictions).abs().max() < 0.2  # rounding of the folded normalisation
    assert alone.boxes == predictor.boxes == "found"
    true_boxes = evaluate(model, dataset, boxes="truth")
    assert true_boxes.boxes == "truth" and not torch.equal(true_boxes.predictions, alone.predictions)
    # One look around the true box is about as good as the predictor's three, the last of them at a mirror image, too.
    assert abs(true_boxes.summary["pck_0.2_bbox"] - alone.summary["pck_0.2_bbox"]) < 0.03


def test_what_is_not_known_about_boxes_and_framing_is_asked_for(tiny_val: FreiHAND):
    whole = Oracle(tiny_val.keypoints, 64)
    assert evaluate(whole, tiny_val).boxes == "none"
    with pytest.raises(ValueError, match="boxes is 'true': choose one of found, truth"):
        evaluate(whole, tiny_val, boxes="true")
    with pytest.raises(ValueError, match="a predictor finds its boxes itself"):
        evaluate(HandPosePredictor(whole), tiny_val, boxes="truth")
    with pytest.raises(ValueError, match="this Conv2d does not say how it sees a picture"):
        evaluate(nn.Conv2d(3, 21, 1), tiny_val)
    report = evaluate(nn.Conv2d(3, 21, 1), tiny_val, framing=Framing(32))
    assert report.predictions.shape == (len(tiny_val), 21, 2)


def test_a_method_is_obeyed_where_boxes_are_found_too(bundled_root: Path):
    dataset = FreiHAND(bundled_root, "val", versions="gs")
    model = UNet2DHandPose(4, 2, framing=Framing(32, crop=0.5))
    nn.init.normal_(model.head.weight)
    answers = [evaluate(model, dataset, method=method).predictions for method in ("local_peak", "argmax")]
    assert not torch.equal(*answers)
    assert model.training, "the model is left in the mode it came in"


class Turned(nn.Module):
    """A network that draws known keypoints (M, 21, 2), given where they lie in the image that it is shown."""

    def __init__(self, keypoints: torch.Tensor, size: int):
        super().__init__()
        self.keypoints, self.size, self.seen = keypoints, size, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        chosen = self.keypoints[self.seen : self.seen + len(images)]
        self.seen += len(images)
        return render_heatmaps(chosen, (self.size, self.size), 2.0)


def test_keypoints_found_in_turned_images_are_turned_back(tiny_val: FreiHAND):
    size, degrees, zoom = 128, 20, 0.9
    batches = HandBatches(tiny_val, Framing(size), batch_size=3, progress=False)
    angle = np.radians(degrees)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (size - 1) / 2
    truth = torch.from_numpy(tiny_val.keypoints)
    small = warp_keypoints(truth.double(), resize_matrix((224, 224), (size, size)).double())
    shown = torch.from_numpy((small.numpy() - middle) @ turn.T + middle).float()
    found, _ = predict_keypoints(Turned(shown, size), batches, change=turn_about_middle(degrees, zoom, size))
    assert (found - truth).norm(dim=-1).max() < 0.5
    back = warp_keypoints(small, inverse(resize_matrix((224, 224), (size, size)).double()))
    assert torch.allclose(back.float(), truth, atol=1e-3)  # the reference itself is right


def test_errors_by_version_are_in_pixels_of_the_side_that_their_column_names(tiny_val: FreiHAND):
    shifted = torch.from_numpy(tiny_val.keypoints) + torch.tensor([3.0, 4.0])  # 5 px of the 224 image
    table = make_report(tiny_val, shifted).by_version
    assert np.allclose(table["epe_px224"], 5, atol=1e-4) and np.allclose(table["epe_px128"], 5 * 128 / 224, atol=1e-4)


def test_an_answer_without_confidence_is_taken_as_sure(tiny_val: FreiHAND):
    assert torch.equal(make_report(tiny_val, mean_hand(tiny_val)).confidence, torch.ones(len(tiny_val), 21))
    unsure = torch.full((len(tiny_val), 21), 0.25)
    assert torch.equal(make_report(tiny_val, mean_hand(tiny_val), unsure).confidence, unsure)


def test_the_curve_is_the_mean_pck_at_each_threshold_and_nothing_is_within_0(tiny_val: FreiHAND):
    off = torch.stack((4.0 * torch.arange(21), torch.zeros(21)), -1)  # up to 80 px
    report = make_report(tiny_val, torch.from_numpy(tiny_val.keypoints) + off)
    curve = report.pck_curve([0.0, 0.1, 0.3], "diagonal")
    assert curve.tolist() == [0.0, *(float(report.pck(t, "diagonal").nanmean()) for t in (0.1, 0.3))]
    assert 0 < curve[1] < curve[2]


def test_hidden_joints_are_scored_apart_where_the_set_knows_them(tiny_val: FreiHAND, monkeypatch):
    with pytest.raises(ValueError, match="does not say which joints are hidden"):
        _ = make_report(tiny_val, mean_hand(tiny_val)).by_occlusion
    hidden = np.zeros((len(tiny_val), 21), bool)
    hidden[:, [4, 8]] = True  # two fingertips
    monkeypatch.setattr(tiny_val, "occluded", hidden)
    predictions = torch.from_numpy(tiny_val.keypoints).clone()
    predictions[:, 4] += 500
    predictions[:, 12] += 500
    table = make_report(tiny_val, predictions).by_occlusion
    count, seen = len(tiny_val), ["pck_0.2_bbox_seen", "count_seen"]
    assert table.index.tolist() == ["wrist", "palm", "finger joints", "fingertips", "all"]
    assert table.loc["fingertips", seen].tolist() == pytest.approx([2 / 3, 3 * count])
    assert table.loc["fingertips", ["pck_0.2_bbox_hidden", "count_hidden"]].tolist() == [0.5, 2 * count]
    assert table.loc["palm", seen].tolist() == [1.0, 5 * count] and np.isnan(table.loc["palm", "pck_0.2_bbox_hidden"])
    assert table.loc["all", seen].tolist() == pytest.approx([18 / 19, 19 * count])


def test_a_turn_leaves_the_middle_where_it_is():
    turn = turn_about_middle(90, 2.0, 5)
    points = warp_keypoints(torch.tensor([[[2.0, 2.0], [3.0, 2.0], [2.0, 0.0]]]), turn)
    assert torch.allclose(points, torch.tensor([[[2.0, 2.0], [2.0, 4.0], [6.0, 2.0]]]), atol=1e-5)
