"""Hands of 21 coloured dots, and a predictor that really finds them: fast where the bundled network is slow."""

import colorsys

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from handpose_lib.framing import Framing
from handpose_lib.predict import HandPosePredictor

COLOURS = np.array([colorsys.hsv_to_rgb(k / 21, 1 - 0.45 * (k % 2), 1) for k in range(21)])  # (21, 3) RGB in [0, 1]
BACKGROUND = 16  # grey level
SPREAD = 0.1  # how far a colour may be off


def hand_of_dots(middle: tuple[float, float], length: float, degrees: float = 0.0) -> np.ndarray:
    """Keypoints (21, 2) px, float32, of a flat hand whose fingers point up and are then turned clockwise."""
    flat = np.zeros((21, 2))
    for finger, (angle, reach) in enumerate(zip((-50, -18, 0, 16, 34), (0.7, 0.95, 1, 0.95, 0.75), strict=True)):
        ray = np.array([np.sin(np.radians(angle)), -np.cos(np.radians(angle))])
        flat[1 + 4 * finger : 5 + 4 * finger] = (np.linspace(0.4, 1, 4) * reach)[:, None] * ray
    flat -= (flat.max(0) + flat.min(0)) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (length * flat @ np.array([[cos, sin], [-sin, cos]]) + middle).astype(np.float32)


def draw_dots(hands: list[np.ndarray], size: tuple[int, int], radius: int = 4) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB of hands (21, 2)."""
    image = np.full((*size, 3), BACKGROUND, np.uint8)
    for hand in hands:
        for (x, y), colour in zip(hand, COLOURS, strict=True):
            place = round(float(x) * 16), round(float(y) * 16)
            cv2.circle(image, place, radius * 16, (255 * colour).tolist(), -1, cv2.LINE_AA, shift=4)
    return image


def film_of_dots(
    frames: int, size: tuple[int, int] = (240, 320), radius: int = 4
) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of one hand that moves and turns, and its keypoints (T, 21, 2)."""
    height, width = size
    hands = [
        hand_of_dots((width / 2 + 0.2 * width * np.sin(t / 9), height / 2), 0.45 * height, 40 * np.sin(t / 13))
        for t in range(frames)
    ]
    return [draw_dots([hand], size, radius) for hand in hands], np.array(hands)


class DotNet(nn.Module):
    """Heatmaps of where each dot's colour is: (B, 3, S, S) normalised -> (B, 21, S, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.framing = Framing(96, crop=0.55, upright=True)
        self.colours = nn.Parameter(torch.from_numpy((COLOURS - 0.5) / 0.25).float())

    def forward(self, images: Tensor) -> Tensor:
        off = (images[:, None] - self.colours[None, :, :, None, None]).square().sum(2)  # (B, 21, S, S)
        return torch.exp(-off / (2 * (SPREAD / 0.25) ** 2))


def dot_predictor(**options) -> HandPosePredictor:
    return HandPosePredictor(DotNet(), **options)
