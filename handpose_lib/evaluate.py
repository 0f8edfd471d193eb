"""From a network and a data set to numbers: predictions, errors, and the per-keypoint accuracy table.

Ground truth is the projected keypoint itself, never one decoded from a target heatmap. Explained in
`notebooks/07_per_keypoint_accuracy.ipynb`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from handpose_lib.decoding import check_keypoints, decoding_of, framing_of, points_on_input
from handpose_lib.devices import half_precision, pick_device
from handpose_lib.fields import as_numbers, is_whole
from handpose_lib.framing import Framing, compose, inverse, on_image, warp_images, warp_keypoints
from handpose_lib.freihand import IMAGE_SIZE, FreiHAND
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import GROUPS, KEYPOINT_NAMES, look_like_shares, with_gaps_filled
from handpose_lib.loader import HandBatches
from handpose_lib.metrics import auc, correct, distances, epe, normalizer_lengths, pck
from handpose_lib.predict import HandPosePredictor, bundled_finder
from handpose_lib.unet import check_heatmaps, evaluating

BOXES = ("found", "truth")


@torch.inference_mode()
def predict_keypoints(
    model: nn.Module, batches: HandBatches, method: str = "local_peak", change: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Predictions for all items of a data set, as its batches show them.

    Args:
        model: images (B, 3, S, S) -> heatmaps (B, 21, H, W); it is left in the mode, training or not, that it came in.
        batches: where they are made, the model runs.
        method: how heatmaps become points, see `decode_heatmaps`.
        change: a map (2, 3) of the network's input by which every image is changed first, see `turn_about_middle`.

    Returns:
        keypoints (M, 21, 2) float32 in px of the 224 image and confidence (M, 21), on the CPU.
    """
    half = half_precision(batches.device)
    keypoints, confidence = [], []
    with evaluating(model):
        for batch in batches.in_order():
            images, from_full = batch.images, batch.from_full
            if change is not None:
                changes = change.to(images).expand(len(images), 2, 3)
                images, from_full = warp_images(images, changes), compose(changes, from_full)
            with torch.autocast(batches.device.type, half, enabled=half is not None):
                heatmaps = check_heatmaps(model(images), len(images))
            found, peak = points_on_input(heatmaps, batches.framing, method, **decoding_of(model, batches.framing))
            keypoints.append(warp_keypoints(found, inverse(from_full)).cpu())
            confidence.append(peak.cpu())
    return torch.cat(keypoints), torch.cat(confidence)


def turn_about_middle(degrees: float, zoom: float, side: int) -> Tensor:
    """The map (2, 3) that turns an image of a side, px, about its middle and zooms it."""
    middle, angle = (side - 1) / 2, math.radians(degrees)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    return torch.cat([turn, middle - turn.sum(1, keepdim=True) * middle], dim=1).float()


@dataclass(frozen=True)
class Report:
    """Predictions on a data set beside the truth, and what follows from them; keypoints in px of the 224 image."""

    predictions: Tensor  # (M, 21, 2)
    targets: Tensor  # (M, 21, 2)
    visible: Tensor  # (M, 21) bool: labelled and on the image; the others count nowhere
    confidence: Tensor  # (M, 21)
    ids: np.ndarray  # (M,) image ids
    hand_ids: np.ndarray  # (M,) rows of the annotation files; of a `KeypointFolder`, the groups
    versions: np.ndarray  # (M,) str
    split: str
    occluded: np.ndarray | None = None  # (M, 21) bool, where the data set knows it
    boxes: str = "none"  # of the crops that the network saw: "found" or "truth"; "none": it saw whole images

    @cached_property
    def errors(self) -> Tensor:
        """Distances (M, 21) in px of the 224 image: NaN where the keypoint is not on it, infinite without an answer."""
        return distances(self.predictions, self.targets, self.visible).float()

    def pck(self, threshold: float = 0.2, normalizer: str = "bbox") -> Tensor:
        """PCK of each keypoint (21,)."""
        return pck(self.predictions, self.targets, threshold, normalizer, self.visible)

    def pck_curve(self, thresholds: Sequence[float], normalizer: str = "bbox") -> np.ndarray:
        """Mean PCK over the keypoints at each threshold (T,); nothing is strictly within 0."""
        thresholds = as_numbers("thresholds", thresholds, lists=torch.float64).reshape(-1).tolist()
        means = [float(self.pck(threshold, normalizer).nanmean()) if threshold else 0.0 for threshold in thresholds]
        return np.array(means)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per keypoint: PCK with each normaliser, mean and median error at 128 and 224 px, and the AUC."""
        mean = epe(self.predictions, self.targets, self.visible).numpy()
        median = self.errors.nanquantile(0.5, dim=0).numpy()
        columns = {
            "keypoint": KEYPOINT_NAMES,
            "group": [group for k in range(len(KEYPOINT_NAMES)) for group, members in GROUPS.items() if k in members],
            "pck_0.2_bbox": self.pck().numpy(),
            "pck_0.1_bbox": self.pck(0.1).numpy(),
            "pck_0.2_diagonal": self.pck(normalizer="diagonal").numpy(),
            "pck_0.2_image": self.pck(normalizer="image").numpy(),
            "epe_px128": mean * 128 / IMAGE_SIZE,
            "epe_px224": mean,
            "median_px224": median,
            "auc_30px224": [
                auc(self.predictions[:, [k]], self.targets[:, [k]], visible=self.visible[:, [k]])
                for k in range(len(KEYPOINT_NAMES))
            ],
            "count": self.visible.sum(0).numpy(),
        }
        return pd.DataFrame(columns)

    @cached_property
    def summary(self) -> dict[str, float]:
        """The table's means over the keypoints; the median is over all errors."""
        numbers = self.table.drop(columns=["keypoint", "group", "count", "median_px224"]).mean().to_dict()
        return numbers | {"median_px224": float(self.errors.nanquantile(0.5))}

    @property
    def groups(self) -> pd.DataFrame:
        """The table's means over wrist, palm, finger joints and fingertips."""
        return self.table.drop(columns=["keypoint", "count"]).groupby("group").mean().reindex(list(GROUPS))

    @property
    def by_version(self) -> pd.DataFrame:
        """Mean PCK@0.2 (bbox) and error of each version."""
        rows = []
        for version in dict.fromkeys(self.versions):
            of = torch.from_numpy(self.versions == version)
            chosen = self.predictions[of], self.targets[of]
            hits = pck(*chosen, visible=self.visible[of]).nanmean()
            error = epe(*chosen, visible=self.visible[of]).nanmean()
            rows.append((version, float(hits), float(error) * 128 / IMAGE_SIZE, float(error), int(of.sum())))
        return pd.DataFrame(rows, columns=["version", "pck_0.2_bbox", "epe_px128", "epe_px224", "images"])

    @property
    def by_occlusion(self) -> pd.DataFrame:
        """Per group of keypoints and for `all`: PCK@0.2 (bbox) of seen and of hidden joints, and how many there are.

        Hidden joints are those behind another finger or an object; joints off the image are neither. A group of which
        no joint is hidden has NaN there.

        Raises:
            ValueError: the data set does not say which joints are hidden (FreiHAND does not).
        """
        if self.occluded is None:
            raise ValueError(
                f"the {self.split} set does not say which joints are hidden: it comes without the file "
                "training_occluded.json (or evaluation_occluded.json), which SynthHAND has"
            )
        hidden = torch.from_numpy(self.occluded)
        within = correct(self.predictions, self.targets, visible=self.visible)
        rows = {}
        for group, members in {**GROUPS, "all": tuple(range(len(KEYPOINT_NAMES)))}.items():
            row = {}
            for kind, wanted in (("seen", ~hidden), ("hidden", hidden)):
                chosen = within[:, members][(self.visible & wanted)[:, members]]
                row |= {f"pck_0.2_bbox_{kind}": float(chosen.mean()), f"count_{kind}": len(chosen)}
            rows[group] = row
        return pd.DataFrame.from_dict(rows, orient="index")

    def worst(self, count: int = 8, one_per_hand: bool = False) -> np.ndarray:
        """Items with the largest mean error relative to their box, worst first (count,); or one per hand (group)."""
        if not is_whole(count, 0):
            raise ValueError(f"count is {count}, it must not be negative, and a whole number")
        box = normalizer_lengths(self.targets, "bbox")
        relative = self.errors.nanmean(dim=1) / box
        order = relative.nan_to_num(-1).argsort(descending=True).numpy()
        if one_per_hand:
            order = first_of_each(order, self.hand_ids)
        return order[:count]


def first_of_each(order: np.ndarray, hand_ids: np.ndarray) -> np.ndarray:
    """Of items in some order (N,) those that are the first of their hand; `hand_ids` (M,) are all items' hands."""
    return order[np.sort(np.unique(hand_ids[order], return_index=True)[1])]


def evaluate(
    model: nn.Module | Callable[[list[Callable[[], Tensor]]], tuple[Tensor, Tensor]],
    dataset: FreiHAND | KeypointFolder,
    boxes: str = "found",
    framing: Framing | None = None,
    method: str = "local_peak",
    batch_size: int = 32,
    device: torch.device | str | None = None,
) -> Report:
    """Run a network over a labelled data set and report how far its keypoints are from the truth.

    A network that was trained on crops must first be told where the hand is, which costs accuracy. So it is scored
    through `HandPosePredictor` with the bundled finder, as it would be used; around the true boxes it scores higher,
    and the report says so.

    Args:
        model: images (B, 3, S, S) -> heatmaps (B, 21, H, W); or a predictor such as `HandPosePredictor`, which is
            given M functions, each of which reads an image (3, 224, 224) uint8, and returns keypoints (M, 21, 2) in px
            of these images and confidence (M, 21). The arguments below are for a network only.
        dataset: a `FreiHAND` or `KeypointFolder` with keypoints; its `transforms` are not applied.
        boxes: what a network that was trained on crops is shown: "found", around what it found itself, or "truth",
            around the true keypoints. One that was trained on whole images sees them whole.
        framing: how the images become the network's input; the model's own `framing` when None. Errors are reported
            at 224 and 128 px whatever it is.
        method: how heatmaps become points, see `decode_heatmaps`.
        device: where to run; the model's own device when None.

    Raises:
        ValueError: the data set has no keypoints, `boxes` is unknown, true boxes are asked of a predictor, or the
            model does not say how it is framed.
    """
    if not callable(model) or isinstance(model, type):
        raise ValueError(f"model is {model!r:.60}, it must be a network, such as load_model(path)[0], or a predictor")
    _check_labelled(dataset)
    if boxes not in BOXES:
        raise ValueError(f"boxes is {boxes!r}: choose one of {', '.join(BOXES)}")
    images = [partial(dataset.read, index) for index in range(len(dataset))]  # read when their turn comes
    if not isinstance(model, nn.Module):
        if boxes == "truth":
            raise ValueError("a predictor finds its boxes itself: give the network alone to score it on true boxes")
        crops = getattr(getattr(model, "framing", None), "crop", True)
        answer = model(images)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise ValueError(
                f"a predictor must answer with keypoints and confidence, not with a {type(answer).__name__}"
            )
        return make_report(dataset, *answer, boxes="found" if crops else "none")
    framing = framing or framing_of(model)
    if not isinstance(framing, Framing):
        raise ValueError(f"framing is {framing!r}, it must be a Framing")
    check_keypoints(model)
    device = pick_device(device) if device else next(model.parameters()).device
    if not framing.crop:
        batches = HandBatches(dataset, framing, min(batch_size, len(dataset)), device=device)
        return make_report(dataset, *predict_keypoints(model, batches, method))
    finder = bundled_finder(device) if boxes == "found" else None
    predictor = HandPosePredictor(model, device, framing, method=method, batch_size=batch_size, finder=finder)
    found = predictor(images) if boxes == "found" else _look_at_true_boxes(predictor, dataset)
    return make_report(dataset, *found, boxes=boxes)


def _look_at_true_boxes(predictor: HandPosePredictor, dataset: FreiHAND | KeypointFolder) -> tuple[Tensor, Tensor]:
    """One look at crops around the true keypoints: keypoints (M, 21, 2) px of the 224 image, confidence (M, 21)."""
    keypoints, confidence = [], []
    for first in range(0, len(dataset), predictor.batch_size):
        index = range(len(dataset))[first : first + predictor.batch_size]
        pictures = [dataset.read(i).permute(1, 2, 0).numpy() for i in index]
        views = predictor.framing.around(with_gaps_filled(torch.from_numpy(dataset.keypoints[index])))
        found, sure = predictor.look(pictures, views)
        keypoints.append(found)
        confidence.append(sure)
    return torch.cat(keypoints), torch.cat(confidence)


def _check_labelled(dataset: FreiHAND | KeypointFolder) -> None:
    """ValueError for what is no data set of this library, or one without keypoints."""
    if not (hasattr(dataset, "keypoints") and hasattr(dataset, "split")):
        given = repr(dataset) if isinstance(dataset, str | Path) else f"a {type(dataset).__name__}"
        raise ValueError(f"dataset is {given}: open one with open_data(root, split), and give it whole")
    if dataset.keypoints is None:
        raise ValueError(
            f"{dataset.root} ({dataset.split}) has no keypoints to score against: evaluation_xyz.json is missing"
        )


def make_report(
    dataset: FreiHAND | KeypointFolder, predictions: Tensor, confidence: Tensor | None = None, boxes: str = "none"
) -> Report:
    """A report on keypoints (M, 21, 2) or (21, 2), px of the 224 image, however they were predicted.

    Args:
        dataset: a `FreiHAND` or `KeypointFolder` with keypoints.
        predictions: for each item, or one answer for all.
        confidence: (M, 21) from 0 to 1; None: 1 everywhere.
        boxes: see `Report`.

    Raises:
        ValueError: no data set with keypoints, or answers of another shape or in other units.
    """
    _check_labelled(dataset)
    if boxes not in (*BOXES, "none"):
        raise ValueError(f"boxes is {boxes!r}: choose one of {', '.join(BOXES)} or none")
    targets = torch.from_numpy(dataset.keypoints)
    predictions = as_numbers("predictions", predictions).detach().cpu().float()
    if predictions.shape not in (targets.shape, targets.shape[1:]):
        raise ValueError(
            f"predictions are {tuple(predictions.shape)}, they must be {tuple(targets.shape)}, one per item, or "
            f"{tuple(targets.shape[1:])}, one for all"
        )
    if look_like_shares(predictions):
        raise ValueError("predictions look like shares of the image: give them in px of the 224 image")
    if confidence is not None:
        confidence = as_numbers("confidence", confidence).detach().cpu()
        if confidence.shape != targets.shape[:2]:
            raise ValueError(f"confidence is {tuple(confidence.shape)}, it must be {tuple(targets.shape[:2])}")
        if not bool(((confidence >= 0) & (confidence <= 1)).all()):
            raise ValueError("confidence must be from 0 to 1, as a predictor gives it (percent: divide by 100)")
    predictions = predictions.expand_as(targets)
    return Report(
        predictions=predictions,
        targets=targets,
        visible=on_image(targets, (IMAGE_SIZE, IMAGE_SIZE)),
        confidence=torch.ones(targets.shape[:2]) if confidence is None else confidence,
        ids=dataset.ids,
        hand_ids=dataset.hand_ids,
        versions=dataset.version_names,
        split=dataset.split,
        occluded=dataset.occluded,
        boxes=boxes,
    )


def mean_hand(dataset: FreiHAND | KeypointFolder) -> Tensor:
    """The mean of a data set's keypoints (21, 2), px of the 224 image: what one answers without looking."""
    _check_labelled(dataset)
    return with_gaps_filled(torch.from_numpy(dataset.keypoints).nanmean(dim=0))  # some are labelled in no picture
