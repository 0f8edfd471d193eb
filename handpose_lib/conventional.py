"""The usual ways to make samples, heatmaps and the loss, in good faith: what the library is compared with.

`handpose bench` and chapter 06 measure against them, and tests take them for an independent reference.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from handpose_lib import augment
from handpose_lib.freihand import IMAGE_SIZE, FreiHAND
from handpose_lib.settings import TrainSettings

SIGMA = 2.0  # px, of the heatmaps


class ConventionalSamples(Dataset):
    """The usual pipeline in good faith: decode, warp and draw for each sample, on the CPU, in `DataLoader` workers.

    Same augmentation as `HandBatches`, from the same random numbers, so that the tensors can be compared.
    """

    def __init__(self, dataset: FreiHAND, settings: TrainSettings):
        self.dataset, self.settings, self.epoch = dataset, settings, 0
        self.side = settings.framing.image_size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = cv2.cvtColor(cv2.imread(str(self.dataset.image_path(index))), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        size = (self.side, self.side)
        uniform = augment.keyed_uniform(self.settings.seed, self.epoch, torch.tensor([self.dataset.ids[index]]))
        matrix = augment.affine_matrices(uniform, self.settings.augmentation, size)[0].numpy()
        colours = augment.colour_matrices(uniform[:, 5:], self.settings.augmentation)[0].numpy()
        image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32) / 255
        image = (cv2.transform(image, colours).clip(0, 1) - 0.5) / 0.25
        keypoints = (self.dataset.keypoints[index] + 0.5) * self.side / IMAGE_SIZE - 0.5
        keypoints = keypoints @ matrix[:, :2].T + matrix[:, 2]
        heatmaps = np.stack([blurred_dot(x, y, self.side) for x, y in keypoints])
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(heatmaps)


def blurred_dot(x: float, y: float, side: int) -> np.ndarray:
    """A heatmap as most repositories draw it: one dot, spread over its four nearest pixels, and a Gaussian blur."""
    heatmap = np.zeros((side, side), np.float32)
    column, row = math.floor(x), math.floor(y)
    for i, weight_y in ((row, 1 - (y - row)), (row + 1, y - row)):
        for j, weight_x in ((column, 1 - (x - column)), (column + 1, x - column)):
            if 0 <= i < side and 0 <= j < side:
                heatmap[i, j] = weight_x * weight_y
    return cv2.GaussianBlur(heatmap, (0, 0), SIGMA, borderType=cv2.BORDER_CONSTANT) * np.float32(2 * math.pi * SIGMA**2)


def render_by_loop(keypoints: np.ndarray, side: int) -> np.ndarray:
    """Heatmaps by one numpy expression per keypoint: (B, K, 2) -> (B, K, side, side)."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    out = np.empty((*keypoints.shape[:2], side, side), np.float32)
    for b, hand in enumerate(keypoints):
        for k, (u, v) in enumerate(hand):
            out[b, k] = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * SIGMA**2))
    return out


def decode_by_loop(heatmaps: np.ndarray, radius: int = 6) -> np.ndarray:
    """The centroid of a fixed window around each map's peak, map by map: (B, K, H, W) -> (B, K, 2)."""
    out = np.empty((*heatmaps.shape[:2], 2), np.float32)
    for b, maps in enumerate(heatmaps):
        for k, heatmap in enumerate(maps):
            row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
            top, left = max(row - radius, 0), max(column - radius, 0)
            window = heatmap[top : row + radius + 1, left : column + radius + 1].clip(0)
            total = window.sum() or 1.0
            y, x = np.mgrid[: window.shape[0], : window.shape[1]]
            out[b, k] = left + (window * x).sum() / total, top + (window * y).sum() / total
    return out


def textbook_awing(pred: Tensor, target: Tensor) -> Tensor:
    """Adaptive Wing loss as the paper writes it, left to autograd (alpha 2.1, omega 14, epsilon 1, theta 0.5)."""
    delta, p = (target - pred).abs(), 2.1 - target
    A = 14 / (1 + 0.5**p) * p * 0.5 ** (p - 1)
    C = 0.5 * A - 14 * torch.log1p(0.5**p)
    return torch.where(delta < 0.5, 14 * torch.log1p(delta**p), A * delta - C).mean()
