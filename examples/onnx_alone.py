"""The hand in a picture, by an exported network: ONNX Runtime, OpenCV and numpy; neither PyTorch nor handpose_lib.

    handpose export handpose.onnx
    python examples/onnx_alone.py handpose.onnx photo.jpg found.jpg

It looks as `HandPosePredictor` does with `finder=None, mirrored=False`: at the whole picture in its four quarter
turns, and then twice more closely. Copy it into your own project, or write it anew in another language.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

CLOSER_LOOKS = 2
KNUCKLES = [5, 9, 13, 17]
BONES = [(0 if tip % 4 == 1 else tip - 1, tip) for tip in range(1, 21)]


class Hand:
    """Finds one hand per picture with the network in an ONNX file."""

    def __init__(self, path: str):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = json.loads(self.session.get_modelmeta().custom_metadata_map["handpose"])
        self.size, self.crop, self.upright = facts["image_size"], facts["crop"], facts["upright"]

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) uint8 -> keypoints (21, 2) in px of it, and a confidence (21,) from 0 to 1."""
        height, width = image.shape[:2]
        corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
        turns = [(0, -1), (1, 0), (0, 1), (-1, 0)]  # each the direction that points up on the square
        closer_looks = CLOSER_LOOKS
        if not self.crop:  # the network was trained on whole pictures, upright
            turns, closer_looks = turns[:1], 0
        looks = [self.look(image, square_map(corners, 1.0, self.size, up)) for up in turns]
        best = max(looks, key=lambda look: look[1].mean())
        for _ in range(closer_looks):
            points = best[0]
            up = points[KNUCKLES].mean(0) - points[0] if self.upright else (0, -1)
            closer = self.look(image, square_map(points, self.crop, self.size, up, smallest=8))
            if closer[1].mean() > 0.7 * best[1].mean():  # else the look before stands
                best = closer
        return best

    def look(self, image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One square of the picture through the network; `matrix` (2, 3) maps the picture to it."""
        square = cut(image, matrix, self.size)
        keypoints, confidence = self.session.run(["keypoints", "confidence"], {"images": square[None]})
        return (keypoints[0] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, confidence[0]


def square_map(points: np.ndarray, share: float, size: int, up: tuple, smallest: float = 1) -> np.ndarray:
    """The map (2, 3) that brings the middle of the points' box to the square's centre, turned so that `up` is up.

    The longer side of the box becomes `share` of the square's side. Pixel centres have whole-number coordinates.
    """
    x, y = np.asarray(up) / max(np.hypot(*up), 1e-12)
    turn = np.array([[-y, x], [-x, -y]])
    low, high = (points @ turn.T).min(0), (points @ turn.T).max(0)
    scale = share * size / max((high - low).max(), smallest)
    return np.column_stack([scale * turn, (size - 1) / 2 - scale * (low + high) / 2])


def cut(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The square (size, size, 3) that `matrix` maps the picture to, black where it reaches beyond.

    A part of the picture that is larger than the square is first shrunk by the mean over areas.
    """
    ends = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
    corners = (ends - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(corners.min(0)) - 2, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)) + 3, (left + 1, top + 1), (width, height)).astype(int)
    part, shrink = image[top:bottom, left:right], np.ones(2)
    scale = np.sqrt(np.abs(np.linalg.det(matrix[:, :2])))
    if scale < 1:
        wanted = np.maximum(np.round(np.array(part.shape[1::-1]) * scale), 1).astype(int)
        shrink = wanted / part.shape[1::-1]
        part = cv2.resize(part, wanted.tolist(), interpolation=cv2.INTER_AREA)
    back = np.column_stack([np.diag(1 / shrink), 0.5 / shrink - 0.5 + (left, top)])
    from_part = np.column_stack([matrix[:, :2] @ back[:, :2], matrix[:, :2] @ back[:, 2] + matrix[:, 2]])
    return cv2.warpAffine(np.ascontiguousarray(part), from_part, (size, size), flags=cv2.INTER_LINEAR)


def main(model: str, picture: str, out: str) -> None:
    image = cv2.imread(picture)  # BGR
    if image is None:
        sys.exit(f"{picture} can't be read as a picture")
    keypoints, confidence = Hand(model).find(np.ascontiguousarray(image[..., ::-1]))
    for start, end in BONES:
        ends = [tuple(round(16 * float(v)) for v in keypoints[k]) for k in (start, end)]
        cv2.line(image, *ends, (0, 0, 0), 4, cv2.LINE_AA, shift=4)  # a dark edge: it stands out on any background
        cv2.line(image, *ends, (255, 200, 0), 2, cv2.LINE_AA, shift=4)
    cv2.imwrite(out, image)
    numbers = {"keypoints": keypoints.astype(float).round(2), "confidence": confidence.astype(float).round(3)}
    print(json.dumps({name: values.tolist() for name, values in numbers.items()}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python onnx_alone.py MODEL.onnx PICTURE OUT.jpg")
    main(*sys.argv[1:])
