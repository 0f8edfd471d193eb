"""What can't be meant is refused in one sentence, though each number alone could be used: the library's arguments.

Each case is something that was once taken without a word, and gave an answer that looked like any other.
"""

import json
import math
import os
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from test_keypoint_folder import write_json
from torch.utils.data import Subset
from trees import make_tree

from handpose_lib import answers, cli, metrics, plots
from handpose_lib.annotate.store import LabelStore
from handpose_lib.augment import Augmentation
from handpose_lib.calibration import calibrated, fit_calibration, reliability
from handpose_lib.course.choices import choose, recall
from handpose_lib.course.session import start
from handpose_lib.evaluate import evaluate, make_report, mean_hand
from handpose_lib.export import export_onnx
from handpose_lib.fields import is_number
from handpose_lib.framing import Framing, compose, crop_matrices, cut, inverse, on_image, warp_images, warp_keypoints
from handpose_lib.freihand import FreiHAND, project
from handpose_lib.heatmaps import decode_heatmaps, local_peak, render_heatmaps
from handpose_lib.inputs import corners_of
from handpose_lib.keypoint_folder import KeypointFolder
from handpose_lib.keypoints import KEYPOINT_NAMES
from handpose_lib.labels import find_labels, read_labels
from handpose_lib.loader import HandBatches
from handpose_lib.losses import adaptive_wing, adaptive_wing_constants
from handpose_lib.pictures import is_drawing, picture_files, picture_size, read_picture
from handpose_lib.predict import HandPosePredictor, bundled_weights
from handpose_lib.settings import TrainSettings
from handpose_lib.smoothing import OneEuro, jitter, lag
from handpose_lib.stacked import StackedUNet
from handpose_lib.storage import atomic_path
from handpose_lib.synthhand import render_hand, write_dataset
from handpose_lib.track import Clock, HandTracker
from handpose_lib.train import Trainer
from handpose_lib.unet import UNet2DHandPose
from handpose_lib.video import VideoWriter, draw_skeleton
from handpose_lib.weights import load_model, save_model

HANDS, OTHER = torch.rand(4, 21, 2) * 200, torch.rand(4, 21, 2) * 200
FILM = torch.rand(9, 21, 2)
MAPS = torch.rand(1, 21, 4, 4)
CAMERA = torch.tensor([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]])
SPACE = torch.rand(21, 3) + 0.5
NETWORK = UNet2DHandPose(4, 2, framing=Framing(32)).eval()
PREDICTOR = HandPosePredictor(NETWORK)
PICTURE = np.zeros((40, 50, 3), np.uint8)


class Answering(UNet2DHandPose):
    """A network whose answer is something else than heatmaps of a hand."""

    def __init__(self, change):
        super().__init__(4, 2, framing=Framing(32))
        self.change = change

    def forward(self, images):
        return self.change(super().forward(images))


ARGUMENTS = {
    "a threshold in percent": (lambda: metrics.pck(HANDS, OTHER, threshold=20), "threshold is 20, it is a share"),
    "no resamples": (lambda: metrics.bootstrap_interval(HANDS, resamples=0), "resamples is 0, it must be a whole"),
    "half a resample": (lambda: metrics.bootstrap_means(HANDS, resamples=2.5), "resamples is 2.5"),
    "groups between numbers": (
        lambda: metrics.bootstrap_means(HANDS, torch.tensor([0, 0.5, 1, 1])), "groups must be whole numbers"
    ),
    "groups that are NaN": (lambda: metrics.bootstrap_means(HANDS, torch.full((4,), math.nan)), "groups must be whole"),
    "visibility as a number": (lambda: metrics.epe(HANDS, OTHER, torch.rand(4, 21)), "visible must be true or false"),
    "visible maps as weights": (
        lambda: adaptive_wing(MAPS, MAPS, torch.full((1, 21), 0.3)), r"visible is torch.float32, it says yes or no"
    ),
    "confidence in percent": (
        lambda: reliability(torch.full((9,), 85.0), torch.ones(9, dtype=torch.bool)), "confidence must be from 0 to 1"
    ),
    "confidence that is NaN": (
        lambda: reliability(torch.full((9,), math.nan), torch.ones(9, dtype=torch.bool)), "confidence must be from 0"
    ),
    "peaks that are NaN": (
        lambda: fit_calibration(torch.full((2, 3), math.nan), torch.eye(2, 3).bool()), "peaks must be finite"
    ),
    "a hand of NaN in a film": (
        lambda: OneEuro()(torch.full((21, 2), math.nan), 0.0, 50.0), "keypoints, time .* must be finite"
    ),
    "a hand of infinite length": (lambda: OneEuro()(FILM[0], 0.0, math.inf), r"length \(inf\) must be finite"),
    "a frame at no time": (lambda: Clock()(math.nan), "the time of a frame is nan"),
    "jitter of two frames": (lambda: jitter(FILM[:2], FILM[:2]), "T of at least 3"),
    "jitter of other frames": (lambda: jitter(FILM, FILM[:5]), "must both be"),
    "a lag of one frame": (lambda: lag(FILM[:1], FILM[:1], torch.zeros(1)), "T of at least 2"),
    "times that fall": (lambda: lag(FILM, FILM, torch.arange(9.0).flip(0)), "times must be"),
    "uneven times": (lambda: lag(FILM, FILM, torch.arange(9.0) ** 2), "by the same step"),
    "keypoints of no hand": (lambda: OneEuro()(FILM, 0.0, 50.0), r"keypoints must be \(K, 2\), .* not \(9, 21, 2\)"),
    "keypoints on their side": (lambda: OneEuro()(FILM[0].T, 0.0, 50.0), r"must be \(K, 2\), .* not \(2, 21\)"),
    "a hand of negative length": (lambda: OneEuro()(FILM[0], 0.0, -5.0), "length is -5.0"),
    "distances for what was right": (
        lambda: reliability(torch.rand(4, 21), HANDS[..., 0]), "right must be true or false"
    ),
    "shares for what was right": (
        lambda: fit_calibration(torch.rand(2, 3), torch.full((2, 3), 0.5)), "right must be true or false"
    ),
    "two weights of three": (lambda: calibrated(torch.rand(2, 3), (1.0, 2.0)), "weights must be the three numbers"),
    "half a map": (lambda: render_heatmaps(HANDS, (8.5, 8)), r"size must be \(H, W\) in whole pixels, not \(8.5, 8\)"),
    "maps without pixels": (lambda: render_heatmaps(HANDS, (0, 8)), "size must be"),
    "a width that is true": (lambda: render_heatmaps(HANDS, (8, 8), True), "sigma must be positive, not True"),
    "memory of another shape": (
        lambda: render_heatmaps(HANDS, (8, 8), out=torch.zeros(4, 21, 8, 9)), r"out is \(4, 21, 8, 9\) torch.float32"
    ),
    "a window of half pixels": (lambda: local_peak(MAPS, window=3.5), "window must be odd"),
    "half a round": (lambda: local_peak(MAPS, rounds=2.5), "rounds is 2.5"),
    "fewer maps than none": (lambda: adaptive_wing(MAPS, MAPS, num_maps=-1), "num_maps is -1"),
    "an epsilon of 0": (lambda: adaptive_wing_constants(MAPS, epsilon=0.0), "epsilon and theta must be positive"),
    "the box of one hand": (lambda: Framing(64, 0.5).around(HANDS[0]), r"keypoints must be \(B, K, 2\), not \(21, 2\)"),
    "the box of a hand of NaN": (lambda: Framing(64, 0.5).around(HANDS * math.nan), "keypoints must be finite"),
    "the shape of an image for its size": (lambda: Framing(64).whole((3, 224, 224)), r"a size is \(H, W\)"),
    "a picture without pixels": (lambda: Framing(64).whole((0, 224)), r"a size is \(H, W\), two positive"),
    "a camera on its side": (lambda: project(SPACE, CAMERA.T), "the last row of K must be 0, 0, 1: is it transposed"),
    "upright as a word": (lambda: Framing(64, 0.5, "no"), "upright is 'no', it must be true or false"),
    "a size that is true": (lambda: Framing(True), "image_size is True, it must be a whole number"),
    "a crop as text": (lambda: Framing(64, "0.5"), "crop is '0.5', it must be a number"),
    "half an epoch": (lambda: TrainSettings(epochs=2.5), "epochs is 2.5, it must be a whole number"),
    "a batch as text": (lambda: TrainSettings(batch_size="8"), "batch_size is '8', it must be a whole number"),
    "one version as a number": (lambda: TrainSettings(one_version=1), "one_version is 1, it must be true or false"),
    "more poolings than pixels": (lambda: TrainSettings(depth=10**9), "depth is 1000000000, it must be at most 12"),
    "a width without end": (lambda: TrainSettings(width=10**20), "width is 1000.*, it must be at most 4096"),
    "a sigma without end": (lambda: TrainSettings(sigma_start=1e300), r"sigma_start is 1e\+300, it must be at most"),
    "a picture without end": (lambda: Framing(10**9), "image_size is 1000000000, it must be from 1 to 4096"),
    "a sigma whose square is 0": (lambda: render_heatmaps(HANDS, (8, 8), 1e-200), "sigma is 1e-200"),
    "a sigma whose square is none": (lambda: render_heatmaps(HANDS, (8, 8), 1e200), r"sigma is 1e\+200"),
    "a decoder of no channels": (lambda: TrainSettings(decoder=(8, 0)), "decoder and refine must be positive whole"),
    "a scale in percent": (lambda: Augmentation(scale=135), "scale must be from 1 to 10"),
    "a scale without end": (lambda: Augmentation(scale=math.inf), "scale must be from 1 to 10"),
    "a mirror that is true": (lambda: Augmentation(mirror=True), "mirror is True, it must be a number"),
    "a crop in percent": (lambda: Framing(64, crop=55), "crop is 55, it is a share"),
    "half a pixel": (lambda: Framing(64.5), "image_size is 64.5, it must be a whole number"),
    "a shift in percent": (lambda: Augmentation(shift=10), "shift is 10, it must be from 0 to 1"),
    "brightness in percent": (lambda: Augmentation(brightness=30), "brightness is 30"),
    "a network beyond all memory": (lambda: UNet2DHandPose(4, 40), "4 and 40 poolings make more than 16,384 channels"),
    "a network of half channels": (lambda: UNet2DHandPose(4.5), "width is 4.5, it must be a whole number"),
    "a network of true keypoints": (lambda: UNet2DHandPose(4, 2, True), "num_keypoints is True"),
    "a decoder without channels": (lambda: StackedUNet(4, 3, (0, 4), ()), "all of them whole numbers of at least 1"),
    "settings beyond all memory": (lambda: TrainSettings(width=4096), "width 4096 and depth 3 make 32,768 channels"),
    "an image that is not normalised": (
        lambda: NETWORK(torch.full((1, 3, 8, 8), 200.0)), r"images have values up to 200: give normalize\(images / "
    ),
    "mirrored as a word": (lambda: HandPosePredictor(NETWORK, mirrored="no"), "mirrored is 'no', it must be true or"),
    "turned as a word": (lambda: HandPosePredictor(NETWORK, turned="no"), "turned is 'no', it must be true or false"),
    "the path of a finder": (lambda: HandPosePredictor(NETWORK, finder="f.st"), "finder is 'f.st', it must be a netw"),
    "boxes with names": (lambda: corners_of([{"left": 1}], 1), r"boxes must be numbers \(N, 4\), .* not \[\{'left': 1"),
    "one number for a box": (lambda: corners_of(5, 1), r"boxes must be \(1, 4\)"),
    "the class of a filter": (lambda: HandTracker(None, smoothing=OneEuro), "smoothing is <class .*such as OneEuro"),
    "a threshold as text": (lambda: HandTracker(None, "0.5"), "threshold is 0.5, it must be at least 0"),
    "a threshold that is numpy's true": (lambda: metrics.pck(HANDS, OTHER, np.bool_(True)), "threshold is True"),
    "shares of the image and an error in px": (lambda: metrics.epe(HANDS / 224, OTHER / 224), "target looks like"),
    "shares of the image and a length in px": (
        lambda: metrics.pck(HANDS / 224, OTHER / 224, normalizer="image"), "shares of the image, and image_size is 224"
    ),
    "shares of the image and an area up to 30 px": (
        lambda: metrics.auc(HANDS / 224, OTHER / 224), "shares of the image, and max_error is 30.0"
    ),
    "predictions in shares": (lambda: metrics.pck(HANDS / 224, OTHER), "pred looks like shares of the image, and the"),
    "predictions in shares about the middle": (lambda: metrics.epe(HANDS / 112 - 1, OTHER), "pred looks like shares"),
    "targets in shares": (lambda: metrics.pck(HANDS, OTHER / 224), "target looks like shares of the image, and the"),
    "keypoints of a larger image": (
        lambda: metrics.pck(HANDS * 8, OTHER * 8, normalizer="image"), "most keypoints of target lie beyond it"
    ),
    "complex keypoints": (lambda: metrics.epe(HANDS.numpy().astype(complex), OTHER), "pred must be numbers, not"),
    "true and false for keypoints": (lambda: metrics.epe((HANDS > 80).tolist(), OTHER), "must be numbers, not torch.b"),
    "keypoints that are masked": (
        lambda: metrics.epe(np.ma.masked_all((4, 21, 2)), OTHER), "pred must be numbers, not masked"
    ),
    "objects for keypoints": (lambda: metrics.epe(HANDS.numpy().astype(object), OTHER), "pred must be numbers"),
    "objects for visibility": (
        lambda: metrics.epe(HANDS, OTHER, np.ones((4, 21), object)), "visible must be numbers, not array"
    ),
    "more resamples than memory": (lambda: metrics.bootstrap_means(HANDS, resamples=10**9), "from 1 to 1,000,000"),
    "one number to resample": (lambda: metrics.bootstrap_means(0.5), r"values is \(\), it must have a row for each"),
    "maps as text": (lambda: decode_heatmaps("abc"), "heatmaps must be numbers, not 'abc'"),
    "a list of decoders": (lambda: decode_heatmaps(MAPS, ["argmax"]), r"unknown method \['argmax'\]"),
    "a side for a size": (lambda: render_heatmaps(HANDS, 64), r"size must be \(H, W\) in whole pixels, not 64"),
    "maps beyond all memory": (lambda: render_heatmaps(HANDS, (10**6, 10**6)), "of 65,536 at most"),
    "whole numbers to draw into": (
        lambda: render_heatmaps(HANDS, (8, 8), out=torch.zeros(4, 21, 8, 8).int()), r"torch.int32, these .* fractions"
    ),
    "a loss of nothing": (lambda: adaptive_wing(None, MAPS), "pred must be numbers, not None"),
    "a crop of a share in percent": (lambda: crop_matrices(HANDS, 55, (8, 8)), "share must be above 0 and at most 1"),
    "a crop without pixels": (lambda: crop_matrices(HANDS, 0.5, (0, 8)), r"a size is \(H, W\), two positive"),
    "a box of NaN at least": (lambda: Framing(64, 0.5).around(HANDS, math.nan), "smallest above 0, not 0.5 and nan"),
    "a map of three rows": (lambda: warp_keypoints(HANDS, torch.eye(3)), r"keypoints \(K, 2\), not \(3, 3\) and"),
    "a map to one place": (lambda: inverse(torch.zeros(2, 3)), "has no way back"),
    "a map of NaN": (lambda: inverse(torch.full((2, 3), math.nan)), "has no way back"),
    "the shape of an image for a size": (lambda: on_image(HANDS, (3, 224, 224)), r"a size is \(H, W\), two positive"),
    "a film in which the hand is lost": (lambda: lag(FILM * math.nan, FILM, torch.arange(9.0)), "found holds NaN"),
    "a truth in which it is lost": (lambda: jitter(FILM, FILM * math.inf), "truth holds NaN or infinity in frame 0"),
    "a complex hand in a filter": (lambda: OneEuro()(FILM[0].cfloat(), 0.0, 50.0), "keypoints must be numbers, not"),
    "a time as text": (lambda: OneEuro()(FILM[0], "0", 50.0), r"time \(0\) and length .* must be finite"),
    "a frame at a time that is true": (lambda: Clock()(True), "the time of a frame is True"),
    "a network for a predictor": (lambda: HandTracker(NETWORK), "predictor is a UNet2DHandPose, it must be a HandPose"),
    "the path of a film": (lambda: list(PREDICTOR.track("film.mp4")), "frames is one picture or path: give a list"),
    "one frame for a film": (lambda: list(PREDICTOR.track(PICTURE)), "frames is one picture or path: give a list"),
    "two pictures to search": (lambda: PREDICTOR.search([PICTURE, PICTURE]), "a search is for one picture, not 2"),
    "a hand in shares to follow": (lambda: PREDICTOR.follow(PICTURE, HANDS[0] / 224), "look like shares"),
    "nothing to follow": (lambda: PREDICTOR.follow(PICTURE, None), "keypoints must be numbers, not None"),
    "one view of two pictures": (
        lambda: PREDICTOR.look([PICTURE] * 2, torch.eye(2, 3)[None]), r"views must be .*, not \(1, 2, 3\) for 2"
    ),
    "a view of one place": (lambda: PREDICTOR.look([PICTURE], torch.zeros(1, 2, 3)), "has no way back"),
    "a look at a grey picture": (
        lambda: PREDICTOR.look([PICTURE[..., 0]], torch.eye(2, 3)[None]), r"picture 0 has the shape \(40, 50\)"
    ),
    "a box of a thousandth of a pixel": (
        lambda: corners_of([[9, 9, 9.001, 9.001]], 1), "left < right and top < bottom by 1 px or more"
    ),
    "a box as text": (lambda: corners_of([["1", "2", "30", "40"]], 1), "boxes must be numbers"),
    "a complex box": (lambda: corners_of(torch.ones(1, 4).cfloat(), 1), "boxes must be numbers"),
    "a box far larger than its picture": (
        lambda: PREDICTOR(PICTURE, [[-1e7, -1e7, 1e7, 1e7]]), "most of the box .* lies outside of its picture, 50×40 px"
    ),
    "a network that answers with a tuple": (
        lambda: HandPosePredictor(Answering(lambda maps: (maps,)))(PICTURE), "the network's answer is a tuple, it must"
    ),
    "a network that answers with 5 maps": (
        lambda: HandPosePredictor(Answering(lambda maps: maps[:, :5]))(PICTURE), r"answer is \(1, 5, 32, 32\), it must"
    ),
    "half as a word": (lambda: save_model(NETWORK, "no.st", half="no"), "half is 'no', it must be true or false"),
    "a header's own name": (lambda: save_model(NETWORK, "no.st", width=8), "width says what network the file holds"),
    "a tensor in a header": (lambda: save_model(NETWORK, "no.st", score=torch.ones(1)), "must be plain JSON values"),
    "NaN in a header": (lambda: save_model(NETWORK, "no.st", score=math.nan), "must be plain JSON values"),
    "weights on a device of no name": (lambda: load_model(bundled_weights(), "gpu"), "device 'gpu' can't be used"),
    "a picture that is normalised": (
        lambda: plots.draw_hand(torch.linspace(-2, 2, 300).view(3, 10, 10)), "image has values from -2 to 2: give uint8"
    ),
    "the path of a picture to draw": (lambda: plots.draw_hand("hand.jpg"), "image must be numbers, not 'hand.jpg'"),
    "a batch to draw": (lambda: plots.draw_hand(PICTURE[None]), r"image is \(1, 40, 50, 3\), it must be"),
    "a hand of 20 keypoints to draw": (
        lambda: plots.draw_hand(PICTURE, HANDS[0, :20]), r"must be \(21, 2\), those of one hand, not \(20, 2\)"
    ),
    "two hands for a truth": (lambda: plots.draw_hand(PICTURE, HANDS[0], truth=HANDS), r"truth must be \(21, 2\)"),
    "a picture for a grid": (lambda: plots.image_grid(PICTURE), r"image is \(50, 3\), it must be"),
    "no picture for a grid": (lambda: plots.image_grid([]), "a grid needs an image and a column or more, not 0"),
    "fewer hands than pictures": (
        lambda: plots.image_grid([PICTURE] * 2, HANDS[:1]), "keypoints must be a list with one entry per image"
    ),
    "one title for its letters": (lambda: plots.image_grid([PICTURE] * 2, titles="ab"), "titles must be a list"),
    "no report": (lambda: plots.per_keypoint_bars({}), "reports must be one or more by name"),
    "a score for a report": (lambda: plots.accuracy_curves({"mine": 0.9}), "reports must be one or more by name"),
    "a history without a loss": (
        lambda: plots.training_curves(pd.DataFrame({"epoch": [1]})), "history has no sigma_px: give pd.read_csv"
    ),
    "frames beyond counting": (lambda: VideoWriter("no.avi", (20, 30), 1e9), "needs 0.01 to 1000 frames per second"),
    "a skeleton of 20 keypoints": (
        lambda: draw_skeleton(PICTURE.copy(), HANDS[0, :20], torch.ones(21)), r"keypoints must be \(21, 2\) and finite"
    ),
    "a skeleton of NaN": (
        lambda: draw_skeleton(PICTURE.copy(), np.full((21, 2), math.nan), np.ones(21)), "must be .* and finite, confi"
    ),
    "an image without end": (lambda: render_hand(0, image_size=10**6), "and the size from 16 to 4096"),
    "an image of a pixel": (lambda: render_hand(0, image_size=1), "image_size 1: .* the size from 16 to 4096"),
    "images without end": (lambda: write_dataset("no", 1, image_size=10**6), "they must be >= 0, from 16 to 4096"),
    "settings of nothing": (lambda: TrainSettings.from_json(None), "these are no settings that to_json wrote: None"),
    "settings of another version": (
        lambda: TrainSettings.from_json(TrainSettings().to_json() | {"momentum": 1}), "momentum is no setting of TrainS"
    ),
    "a predictor to export": (lambda: export_onnx(PREDICTOR, "no.onnx"), "a network and NAME.onnx, not a HandPo"),
    "weights to export to": (lambda: export_onnx(NETWORK, "w.safetensors"), "NAME.onnx, not a UNet2DHandPose and w"),
    "peaks of one hand": (lambda: calibrated(torch.rand(21), (1.0, 2.0, 3.0)), r"peaks must be \(B, K\), one row per"),
    "an interval of one hand": (
        lambda: metrics.bootstrap_interval(HANDS, [7, 7, 7, 7]), "an interval needs two hands or more"
    ),
    "an interval of one value": (lambda: metrics.bootstrap_interval([0.5]), "an interval needs two hands or more"),
    "maps of other batches": (
        lambda: compose(torch.zeros(2, 2, 3), torch.zeros(3, 2, 3)), r"of one B, not \(3, 2, 3\) and \(2, 2, 3\)"
    ),
    "maps of other hands": (lambda: warp_keypoints(HANDS, torch.zeros(3, 2, 3)), r"not \(3, 2, 3\) and \(4, 21, 2\)"),
    "a direction of other hands": (
        lambda: crop_matrices(HANDS, 0.5, (8, 8), torch.ones(3, 2)), r"up must be \(4, 2\), a direction per hand"
    ),
    "a square of one place": (lambda: cut(PICTURE, np.zeros((2, 3)), 8), "matrix must be a map .* turned back"),
    "cameras of other hands": (
        lambda: project(torch.rand(4, 21, 3) + 0.5, CAMERA.expand(3, 3, 3)), "there are 4 hands and 3 cameras"
    ),
    "text for numbers": (lambda: metrics.epe("abc", OTHER), "pred must be numbers, not 'abc': give a tensor"),
    "nothing for keypoints": (lambda: metrics.pck(None, OTHER), "pred must be numbers, not None"),
    "a level as text": (lambda: metrics.bootstrap_interval(HANDS, level="0.9"), "level is 0.9, it must be a share"),
    "half a seed": (lambda: metrics.bootstrap_means(HANDS, seed=1.5), "seed is 1.5, it must be a whole number"),
    "visible maps as counts": (
        lambda: adaptive_wing(MAPS, MAPS, torch.full((1, 21), 7)), "visible has other numbers than 0 and 1"
    ),
    "a share as text": (
        lambda: decode_heatmaps(MAPS, "center_of_mass", threshold="3"), "threshold must be a share of the maximum"
    ),
    "a camera of arrays for points of tensors": (
        lambda: project(SPACE, CAMERA.numpy()), "must both be tensors or both be arrays, not Tensor and ndarray"
    ),
    "a camera of four rows": (lambda: project(SPACE, torch.eye(4)), r"K \(\.\.\., 3, 3\), not \(21, 3\) and \(4, 4\)"),
    "bytes to be warped": (
        lambda: warp_images(torch.zeros(1, 3, 8, 8).byte(), torch.eye(2, 3)[None]), r"images must be .* float"
    ),
    "one map for two images": (
        lambda: warp_images(torch.zeros(2, 3, 8, 8), torch.eye(2, 3)[None]), r"matrices must be \(2, 2, 3\), one per"
    ),
    "a network of another library": (
        lambda: save_model(torch.nn.Conv2d(3, 21, 1), "no.st"), "model is a Conv2d, only UNet2DHandPose and Stacked"
    ),
    "a network of 5 keypoints as ONNX": (
        lambda: export_onnx(UNet2DHandPose(4, 2, 5), "no.onnx"), "this network finds 5 keypoints, and a hand has 21"
    ),
    "a film of half pixels": (lambda: VideoWriter("no.mp4", (20.5, 30), 10), "sides of 2 px or more"),
    "a film of a rate as text": (lambda: VideoWriter("no.mp4", (20, 30), "30"), "a film needs .* frames per second"),
    "half a hand": (lambda: write_dataset("no", 2.5), "hands=2.5, .*: at least one training hand is needed"),
    "more hands than names": (lambda: write_dataset("no", 10**12), "images are named by numbers of 8 digits"),
    "a quality as text": (lambda: write_dataset("no", 1, quality="92"), "quality=92: they must be"),
    "a split of another name": (lambda: render_hand(0, split="train"), "split is 'train', .* training or evaluation"),
    "a version of no name": (lambda: render_hand(0, versions="green"), "unknown version 'green': choose from gs"),
    "a chapter that is not there": (lambda: start(11), "chapter is 11: there are chapters 0 to 10"),
    "terms accepted in a word": (lambda: choose(accept_terms="no"), "accept_terms is 'no', it must be True or False"),
    "a number for a folder": (lambda: choose(runs=5), "runs is 5, it must be a folder"),
}  # fmt: skip


def test_keypoints_of_another_number_do_not_go_into_a_filter_of_a_hand():
    smooth = OneEuro()
    smooth(FILM[0], 0.0, 50.0)
    with pytest.raises(ValueError, match=r"1 keypoints came after 21: call reset\(\)"):
        smooth(FILM[0, :1], 1.0, 50.0)


def test_what_is_meant_is_taken_in_any_form():
    """Names of groups, fractions, arrays on their side or of the other byte order, times as tensors."""
    names = metrics.bootstrap_means(HANDS, ["anna", "ben", "anna", "ben"], 50)
    assert torch.equal(names, metrics.bootstrap_means(HANDS, [0, 1, 0, 1], 50))
    assert torch.equal(metrics.pck(HANDS, OTHER, Fraction(1, 5)), metrics.pck(HANDS, OTHER, 0.2))
    assert torch.equal(metrics.pck(HANDS / 224, OTHER / 224), metrics.pck(HANDS, OTHER)), "which needs no px"
    for same in (HANDS.numpy()[:, :, ::-1], HANDS.flip(-1).numpy().astype(">f4"), list(HANDS.flip(-1))):
        assert torch.equal(metrics.epe(same, OTHER), metrics.epe(HANDS.flip(-1), OTHER))
    assert jitter(FILM.numpy(), FILM.tolist()) < 1e-6 and Clock()(torch.tensor(0.5)) == 0.5
    assert torch.equal(Framing(64, 0.5, True).around(HANDS.int()), Framing(64, 0.5, True).around(HANDS.int().float()))


def test_a_weight_beyond_16_bits_is_not_saved_as_infinite(tmp_path: Path):
    network = UNet2DHandPose(4, 2)
    network.head.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match=r"beyond what 16 bits hold \(65,504\): save it with half=False"):
        save_model(network, tmp_path / "w.safetensors", half=True)
    save_model(network, tmp_path / "new" / "w.safetensors")
    assert load_model(tmp_path / "new" / "w.safetensors")[0].head.weight.max() == 1e6
    with pytest.raises(OSError, match="new is a folder, and a file is to be written there"):
        save_model(network, tmp_path / "new")


def test_numbers_of_numpy_are_numbers():
    framing = Framing(np.int64(64), np.float32(0.5), np.bool_(True))
    assert framing == Framing(64, 0.5, True) and json.dumps(framing.to_json()) and type(framing.image_size) is int
    assert TrainSettings(epochs=np.int32(3), sigma_start=5).epochs == 3
    assert all(is_number(value) for value in (3, -2.5, np.float16(3), np.float32(3), np.uint8(3)))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 1 + 0j, np.complex64(1), np.timedelta64(1, "s"), math.nan, True, "3"]
)
def test_what_no_fraction_can_hold_is_no_number(value):
    assert not is_number(value)


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_labels_with_a_size_that_no_picture_has_are_read_as_those_without(value: int, tmp_path: Path):
    entry = {"file": "a.jpg", "keypoints": [[10.0 + 2 * k, 20.0 + k] for k in range(21)]}
    sized = read_labels(write_json(tmp_path / "sized.json", [entry | {"width": value, "height": 60}]))
    (plain,) = read_labels(write_json(tmp_path / "plain.json", [entry]))
    assert sized[0].size is None and (sized[0].keypoints == plain.keypoints).all()


def test_arrays_and_lists_are_drawn_and_decoded_as_tensors_are():
    points = torch.tensor([[[2.0, 5.0]]])
    maps = render_heatmaps(points, (8, 8))
    for same in (points.numpy(), points.tolist(), points.double().numpy().astype(int)):
        assert torch.equal(render_heatmaps(same, (8, 8)), maps)
    assert torch.equal(decode_heatmaps(maps.numpy())[0], decode_heatmaps(maps)[0])


@pytest.mark.parametrize("shape", [(2, 21), (99, 21, 2), (20, 2)])
def test_a_report_takes_one_answer_per_item_or_one_for_all(shape: tuple[int, ...], tiny_val: FreiHAND):
    with pytest.raises(ValueError, match=r"predictions are .*, one per item, or \(21, 2\), one for all"):
        make_report(tiny_val, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"confidence is \(2, 21\), it must be"):
        make_report(tiny_val, torch.zeros(21, 2), torch.ones(2, 21))
    assert make_report(tiny_val, np.zeros((21, 2))).errors.isfinite().any()


@pytest.mark.parametrize("case", ARGUMENTS)
def test_an_argument_that_cannot_be_meant_is_refused(case: str):
    call, words = ARGUMENTS[case]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_predictions_in_shares_and_confidence_in_percent_are_refused(tiny_val: FreiHAND):
    truth = torch.from_numpy(tiny_val.keypoints)
    for shares in (truth / 224, truth / 112 - 1):
        with pytest.raises(ValueError, match="predictions look like shares of the image: give them in px"):
            make_report(tiny_val, shares)
    with pytest.raises(ValueError, match="boxes is 'true': choose one of found, truth or none"):
        make_report(tiny_val, truth, boxes="true")
    for dataset, named in (("hands", "'hands'"), ([tiny_val], "a list"), (Subset(tiny_val, [0]), "a Subset")):
        for score in (lambda given: make_report(given, truth), partial(evaluate, NETWORK), mean_hand):
            with pytest.raises(ValueError, match=f"dataset is {named}: open one with open_data"):
                score(dataset)
    with pytest.raises(ValueError, match=r"model is <class .*, it must be a network"):
        evaluate(UNet2DHandPose, tiny_val)
    for confidence in (torch.full(truth.shape[:2], 85.0), torch.full(truth.shape[:2], math.nan)):
        with pytest.raises(ValueError, match="confidence must be from 0 to 1"):
            make_report(tiny_val, truth, confidence)
    report = make_report(tiny_val, truth, np.full(truth.shape[:2], 0.85))
    assert isinstance(report.confidence, torch.Tensor) and report.summary["epe_px224"] == 0
    with pytest.raises(ValueError, match="a predictor must answer with keypoints and confidence, not with a NoneType"):
        evaluate(lambda images: None, tiny_val)
    with pytest.raises(ValueError, match="framing is 64, it must be a Framing"):
        evaluate(NETWORK, tiny_val, framing=64)


@pytest.mark.parametrize("index", ["0", 1.0, None, slice(0, 2)])
def test_an_items_number_is_a_whole_number(index, tiny_val: FreiHAND):
    with pytest.raises(TypeError, match="an item's number must be a whole number, not "):
        tiny_val[index]
    assert tiny_val[torch.tensor(1)][1]["id"] == tiny_val[np.int64(1)][1]["id"] == tiny_val.ids[1]
    with pytest.raises(IndexError, match=rf"there is no item {len(tiny_val)}: the data set has {len(tiny_val)} items"):
        tiny_val[len(tiny_val)]


def test_a_picture_of_a_film_has_a_time_and_does_not_come_before_the_last(tmp_path: Path):
    film = VideoWriter(tmp_path / "a.avi", (20, 30), 10)
    picture = np.zeros((20, 30, 3), np.uint8)
    film.write(picture, 0.5)
    for time in (0.4, math.inf, math.nan, "0.6", None):
        with pytest.raises(ValueError, match=r"a picture's time is .*: give seconds, none before the last, 0\.5"):
            film.write(picture, time)
    with pytest.raises(ValueError, match="a picture for a film is a list"):
        film.write(picture.tolist(), 0.6)
    film.write(picture, 0.6)
    film.close()


def test_one_path_of_a_zip_is_not_taken_for_its_letters(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HANDPOSE_PRESET", "quick")  # nothing is put in force
    for zips in ("a.zip", ["a.zip"], Path("a.zip")):
        assert choose(runs=tmp_path, zips=zips)["zips"] == ["a.zip"]


@pytest.mark.parametrize("name", ["preset", "freihand", "accept_terms", "zips"])
def test_a_choice_of_another_kind_is_damage(name: str, tmp_path: Path):
    chosen = {"preset": "quick", "freihand": "", "runs": "", "accept_terms": True, "zips": []}
    for wrong in (3, None, [1]):
        (tmp_path / "session.json").write_text(json.dumps(chosen | {name: wrong}))
        with pytest.raises(ValueError, match=r"session\.json is damaged \(.*\): run chapter 00 again"):
            recall(tmp_path)


def test_batches_and_trainings_are_given_what_is_meant(tiny_train: FreiHAND, tiny_val: FreiHAND, tmp_path: Path):
    framing, options = Framing(16), {"progress": False}
    for wrong, words in (
        (lambda: HandBatches("hands", framing, 2), "dataset and framing are a str and a Framing: give open_data"),
        (lambda: HandBatches(tiny_val, 64, 2), "dataset and framing are a FreiHAND and a int"),
        (lambda: HandBatches(tiny_val, framing, 2, augmentation={"rotation": 5}), "it must be an Augmentation or None"),
        (lambda: HandBatches(tiny_val, framing, 2, one_version="no"), "one_version is 'no', it must be true or false"),
        (lambda: HandBatches(tiny_val, framing, 2, resident="no"), "resident is 'no', it must be true or false"),
        (lambda: HandBatches(tiny_val, framing, 2, rank=0.0), "rank 0.0 one of 1 processes"),
        (lambda: HandBatches(tiny_val, framing, 2, **options).epoch(1.5), "epoch and first must be whole numbers"),
        (lambda: HandBatches(tiny_val, framing, 2, **options).epoch(0, first=-1), "from 0 on, not 0 and -1"),
        (
            lambda: Trainer(TrainSettings(), tiny_train, tiny_val, tmp_path, compiled="no"),
            "compiled is 'no', it must be",
        ),
        (
            lambda: Trainer(TrainSettings(), tiny_train, tiny_val, tmp_path, sync_batchnorm=1),
            "sync_batchnorm is 1, it mu",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_a_run_that_goes_on_is_held_to_the_hands_that_chose_its_best_weights(
    tiny_train: FreiHAND, tiny_val: FreiHAND, tmp_path: Path
):
    settings = TrainSettings(framing=Framing(16), width=4, depth=2, epochs=1, batch_size=8)
    Trainer(settings, tiny_train, tiny_val, tmp_path, "cpu").run(progress=False)
    test = FreiHAND(tiny_train.root, "test")
    with pytest.raises(ValueError, match=r"checkpoint\.pt was written with another validation set, so its errors"):
        Trainer(settings, tiny_train, test, tmp_path, "cpu").resume()
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del checkpoint["validation"]  # as older versions wrote it
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    assert Trainer(settings, tiny_train, test, tmp_path, "cpu").resume().epoch == 1


def test_a_label_that_could_not_be_read_again_is_not_saved(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 90, 3), np.uint8))
    store = LabelStore(tmp_path, lambda file: (HANDS[:1], torch.ones(1, 21)))
    for keypoints, words in (
        ([[x / 90, y / 90] for x, y in HAND], "shares"),
        ([[0, 0], *HAND[1:]], "1 keypoint at 0, 0"),
    ):
        with pytest.raises(ValueError, match=rf"keypoints\.json, the label \(a\.png\): .*{words}"):
            store.save(0, {"keypoints": keypoints})
    assert store.save(0, {"keypoints": HAND})["done"] == 1
    for number in (-1, 1, True, "0"):
        for use in (store.hand, store.remove, lambda n: store.save(n, {"keypoints": HAND})):
            with pytest.raises(ValueError, match=f"there is no picture {number!r}: they are numbered from 0 to 0"):
                use(number)
    assert len(read_labels(tmp_path / "keypoints.json")) == 1


def test_a_film_that_is_closed_takes_no_pictures(tmp_path: Path):
    film = VideoWriter(tmp_path / "a.avi", (20, 30), 10)
    film.write(np.zeros((20, 30, 3), np.uint8), 0.0)
    film.close()
    with pytest.raises(ValueError, match=r"a\.avi is closed: open another film"):
        film.write(np.zeros((20, 30, 3), np.uint8), 1.0)


def test_the_worst_of_fewer_than_none_are_not_asked_for(tiny_val: FreiHAND):
    report = make_report(tiny_val, torch.zeros(21, 2))
    assert report.worst(0).tolist() == []
    with pytest.raises(ValueError, match="count is -1, it must not be negative"):
        report.worst(-1)


# --- labels -----------------------------------------------------------------------------------------------------------

HAND = [[10.0 + 3 * k, 20.0 + 2 * k] for k in range(21)]
TRIPLES = [value for point in HAND for value in (*point, 2)]
LABELS = {
    "shares of the picture": ([[x / 100, y / 100] for x, y in HAND], "look like shares of the picture"),
    "zeros for what is not labelled": (
        [*HAND[:18], [0, 0], [0, 0], [0, 0]],
        "3 keypoints at 0, 0, far from the others",
    ),
    "a zero for what is not labelled": ([[0, 0], *HAND[1:]], "1 keypoint at 0, 0, far from the others"),
    "shares of the picture among px": (
        [[0.2, 0.4], [0.3, 0.4], [0.3, 0.5], *HAND[3:]],
        "look like shares of the picture",
    ),
    "all in one place": ([[7, 8]] * 21, "21 keypoints are all in one place"),
    "a depth": ([[x, y, 0.4] for x, y in HAND], "the third number of a keypoint is its visibility, .* not 0.4"),
    "true and false": ([[True, False]] * 21, r"wrist must be two numbers, it is \[True, False\]"),
    "numbers as text": ([["10", "20"]] * 21, "wrist must be two numbers"),
    "a number beyond all numbers": ([[10**400, 1]] * 21, "wrist must be two numbers"),
    "a depth that is negative": ([[x, y, -1] for x, y in HAND], "is its visibility, .* not -1"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_cannot_be_meant_are_named_with_their_entry(case: str, tmp_path: Path):
    keypoints, words = LABELS[case]
    entries = [{"file": "a.jpg", "keypoints": HAND}, {"file": "b.jpg", "keypoints": keypoints}]
    path = write_json(tmp_path / "keypoints.json", entries)
    with pytest.raises(ValueError, match=rf"keypoints\.json, entry 1 \(b\.jpg\): .*{words}"):
        read_labels(path)


COLUMNS = ["file", *(f"{name}_{axis}" for name in KEYPOINT_NAMES for axis in "xy")]
LINE = ["a.jpg", *(str(value) for point in HAND for value in point)]
FILES = {
    "a list in lists without end": ("a.json", "[" * 100_000, "is not valid JSON"),
    "several images of one number": (
        "a.json",
        json.dumps({"images": [{"id": 7, "file_name": name} for name in "ab"], "annotations": []}),
        "several images have the id 7",
    ),
    "a group of groups": (
        "a.json", json.dumps([{"file": "a.jpg", "keypoints": HAND, "group": ["a"]}]), r"text or a number, not \['a'\]"
    ),
    "semicolons": ("a.csv", ";".join(COLUMNS), "separated by semicolons"),
    "tabs": ("a.csv", "\t".join(COLUMNS), "separated by tabs"),
    "no first line": ("a.csv", ",".join(LINE), "its first line must name file, wrist_x"),
    "a visibility": ("a.csv", ",".join([*COLUMNS, "wrist_v"]), "has a column 'wrist_v', and a keypoint has x"),
    "answers in the form of labels": (
        "a.json",
        json.dumps([{"file": "a.jpg", "keypoints": HAND, "confidence": [0.5] * 21}]),
        "it has a confidence, as answers have that nobody has checked",
    ),
    "a hand outside of its box": (
        "a.json",
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg"}],
                "annotations": [
                    {"id": 2, "image_id": 1, "bbox": [500, 400, 90, 80], "keypoints": TRIPLES}
                ],
            }
        ),
        r"annotation 2 \(a\.jpg\): none of its keypoints is in its bbox \[500, 400, 90, 80\]",
    ),
    "a line that is too short": ("a.csv", f"{','.join(COLUMNS)}\n{','.join(LINE[:-2])}\n", "line 2: it has 41 cells"),
    "decimal commas": ("a.csv", f"{','.join(COLUMNS)}\n{','.join(LINE).replace('.', ',')}\n", "line 2: it has"),
    "a cell without end": ("a.csv", f"{','.join(COLUMNS)}\n{'x' * 200_000}\n", "line 1 can't be read as a row"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_labels_that_cannot_be_meant_is_named(case: str, tmp_path: Path):
    name, text, words = FILES[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}.*{words}") as caught:
        read_labels(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_labels_of_another_size_or_twice_are_noticed(tmp_path: Path):
    """By the size that an entry tells, by what is off the picture, and by its being there before."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 90, 3), np.uint8))
    labels = tmp_path / "keypoints.json"
    write_json(labels, [{"file": "a.png", "keypoints": HAND, "width": 640, "height": 480.0}])
    with pytest.raises(ValueError, match="the labels are of a picture of 640×480 px, and the file has 90×90"):
        KeypointFolder(tmp_path, "all")
    write_json(labels, [{"file": "a.png", "keypoints": [[2 * x, y] for x, y in HAND]}])
    with pytest.warns(UserWarning, match=r"9 of 21 keypoints are off their pictures .* entry 0 \(a\.png\): were"):
        KeypointFolder(tmp_path, "all")
    write_json(labels, [{"file": name, "keypoints": HAND} for name in ("a.png", "./a.png")])
    with pytest.raises(ValueError, match=r"entry 1 \(\./a\.png\): it is the hand of entry 0 \(a\.png\) once more"):
        KeypointFolder(tmp_path, "all", share=0.5)
    write_json(
        labels, [{"file": "a.png", "keypoints": [[x + k, y] for x, y in HAND], "group": (1, 1.0)[k]} for k in (0, 1)]
    )
    assert len(set(KeypointFolder(tmp_path, "all", share=0.5).group_names)) == 1, "one group in two spellings"


def test_a_table_may_have_spaces_around_its_names(tmp_path: Path):
    (tmp_path / "a.csv").write_text(f"{', '.join(COLUMNS)}\n{','.join(LINE)}\n")
    assert read_labels(tmp_path / "a.csv")[0].keypoints.tolist() == HAND


def test_hands_of_a_millimetre_are_refused(tmp_path: Path):
    path = make_tree(tmp_path / "tree", hands=6) / "training_xyz.json"
    path.write_text(json.dumps((np.array(json.loads(path.read_text())) / 100).tolist()))
    with pytest.raises(ValueError, match=r"training_xyz\.json, entry 0 is no hand, its keypoints span 0\.00"):
        FreiHAND(path.parent, "train")


def test_few_labelled_keypoints_may_lie_anywhere(tmp_path: Path):
    gaps: list = [None] * 20
    path = write_json(tmp_path / "keypoints.json", [{"file": "a.jpg", "keypoints": [[0, 0], *gaps]}])
    assert np.isfinite(read_labels(path)[0].keypoints).sum() == 2


def test_what_commands_leave_in_a_folder_is_not_taken_for_its_labels(tmp_path: Path):
    (tmp_path / "mine.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(LINE)}\n")
    (tmp_path / "history.csv").write_text("epoch,step,seconds\n1,2,3\n")
    (tmp_path / "per_keypoint_test.csv").write_text("keypoint,group,pck_0.2_bbox\nwrist,wrist,1.0\n")
    (tmp_path / "film.csv").write_text("frame,time,hand,wrist_x\n0,0,0,5\n")
    assert find_labels(tmp_path) == tmp_path / "mine.csv"
    with pytest.raises(ValueError, match=r"film\.csv holds answers of `handpose predict` on a video"):
        read_labels(tmp_path / "film.csv")


# --- our own output, taken for input ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_model(UNet2DHandPose(4, 2, framing=Framing(32)), path)
    return path


def test_drawings_of_an_earlier_answer_are_left_out_wherever_they_lie(tmp_path: Path, weights: Path, capsys):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    cv2.imwrite(str(photographs / "hand.jpg"), np.full((40, 50, 3), 90, np.uint8))
    command = ["--weights", str(weights), "--device", "cpu"]
    cli.main(["predict", str(photographs), *command, "--out", str(photographs / "answers")])
    drawing = photographs / "answers" / "0000_hand.png"
    moved = drawing.rename(photographs / "renamed.png")
    assert LabelStore(photographs, lambda file: None).names == ["hand.jpg"]
    assert picture_files(photographs) == [photographs / "hand.jpg"]
    assert is_drawing(moved) and not is_drawing(photographs / "hand.jpg")
    (photographs / "wave.csv").write_text("frame,time,hand\n")
    (photographs / "wave.json").write_text("{}")
    (photographs / "wave_hands.mp4").write_bytes(b"a film with the skeleton drawn in")
    (photographs / "two_hands.mp4").write_bytes(b"a film of somebody's two hands")
    assert [path.name for path in answers.files_of([photographs], tmp_path / "out")] == ["hand.jpg", "two_hands.mp4"]
    (photographs / "two_hands.mp4").unlink()
    capsys.readouterr()
    cli.main(["predict", str(photographs), *command, "--out", str(tmp_path / "again")])
    assert [Path(name).name for name in json.loads((tmp_path / "again" / "keypoints.json").read_text())] == ["hand.jpg"]
    assert "2 drawings of earlier answers left out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["predict", str(moved), *command, "--out", str(tmp_path / "third")])
    assert "renamed.png is a drawing of an earlier answer" in capsys.readouterr().err


def test_a_figure_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    plots.save(plots.plt.figure(figsize=(1, 1)), tmp_path / "figure.png")
    before = (tmp_path / "figure.png").read_bytes()
    figure = plots.plt.figure(figsize=(1, 1))
    monkeypatch.setattr(figure, "savefig", lambda path, **options: path.write_bytes(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        plots.save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["figure.txt", "figure"])
def test_a_figure_in_no_format_is_refused_by_its_name(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"{name} is not the name of a picture: end it in .*\.png"):
        plots.save(plots.plt.figure(figsize=(1, 1)), tmp_path / name)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder here that takes no files")
def test_a_place_that_takes_no_files_is_named_and_not_the_temporary_file():
    with pytest.raises(OSError, match=r"No such file or directory: '/proc/a\.json'"), atomic_path("/proc/a.json"):
        pass


# --- what has no end --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_pipe_or_a_device_is_refused_and_nobody_waits(name: str, tmp_path: Path):
    path = Path(name) if name.startswith("/") else tmp_path / name
    if not path.exists():
        os.mkfifo(path)
    for read in (read_picture, picture_size, load_model, read_labels):
        with pytest.raises(ValueError, match=rf"{path} is a pipe or a device, not a file"):
            read(path)


def test_a_device_is_no_zip(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "freihand", "--accept-terms", "--root", str(tmp_path), "--zip", "/dev/zero"])
    assert "/dev/zero is a pipe or a device" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_among_a_data_sets_images_is_refused(tmp_path: Path):
    dataset = FreiHAND(make_tree(tmp_path / "tree", hands=3, versions=("gs",)), "train", "gs")
    dataset.image_path(0).unlink()
    os.mkfifo(dataset.image_path(0))
    with pytest.raises(ValueError, match=r"00000000\.jpg is a pipe or a device"):
        dataset[0]


# --- pictures of other depths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [255, 1023, 4095])
def test_a_picture_whose_16_bits_hold_fewer_is_refused_and_not_black(tmp_path: Path, highest: int):
    values = np.linspace(0, highest, 30 * 40).reshape(30, 40).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    with pytest.raises(ValueError, match=rf"deep\.png can't be read .*no value above {highest}, so it would be black"):
        read_picture(tmp_path / "deep.png")
    cv2.imwrite(str(tmp_path / "deep.png"), values * (65535 // highest))
    assert read_picture(tmp_path / "deep.png").max() >= 254


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_a_colour_picture_whose_16_bits_hold_8_is_refused_and_not_black(tmp_path: Path, ending: str):
    colours = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint16)
    path = tmp_path / f"deep.{ending}"
    cv2.imwrite(str(path), colours)
    with pytest.raises(ValueError, match=rf"deep\.{ending} can't be read .*so it would be black"):
        read_picture(path)
    cv2.imwrite(str(path), colours * 257)
    assert np.array_equal(read_picture(path), colours[..., ::-1])
