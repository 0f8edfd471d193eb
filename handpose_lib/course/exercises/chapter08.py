"""The checks of chapter 08: the square that the network sees, the way back, and which look to believe."""

import numpy as np

from handpose_lib.course.exercises.checking import Check


def square_map(box: tuple, share: float, size: int) -> np.ndarray:
    """The map (2, 3) that centres a box (left, top, right, bottom) and brings its longer side to `share` of `size`."""
    left, top, right, bottom = box
    scale = share * size / max(right - left, bottom - top)
    centre = (size - 1) / 2
    return np.array([
        [scale, 0.0, centre - scale * (left + right) / 2],
        [0.0, scale, centre - scale * (top + bottom) / 2],
    ])  # fmt: skip


def _half_pixel_off(box: tuple, share: float, size: int) -> np.ndarray:
    matrix = square_map(box, share, size)
    matrix[:, 2] += 0.5
    return matrix


def _shorter_side(box: tuple, share: float, size: int) -> np.ndarray:
    left, top, right, bottom = box
    return square_map(box, share * max(right - left, bottom - top) / min(right - left, bottom - top), size)


def _corner_not_centre(box: tuple, share: float, size: int) -> np.ndarray:
    left, top, right, bottom = box
    scale = share * size / max(right - left, bottom - top)
    return np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])


def _unscaled_offset(box: tuple, share: float, size: int) -> np.ndarray:
    matrix = square_map(box, share, size)
    matrix[:, 2] = (size - 1) / 2 - np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return matrix


check_square = Check(
    truth=square_map,
    cases=lambda: [((10.0, 20.0, 110.0, 60.0), 0.5, 64), ((300.0, 40.0, 360.0, 240.0), 0.8, 128)],
    mistakes={
        "half a pixel is missing: the middle of pixels numbered from 0 is not size / 2": _half_pixel_off,
        "you fit the shorter side: then the longer one may leave the square": _shorter_side,
        "the box's corner goes to the square's corner: it is the middles that should meet": _corner_not_centre,
        "the scale is right, but the box's middle moves before it is scaled": _unscaled_offset,
    },
    right="right: the hand is in the middle, and its box has the wanted share",
)


def points_back(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (K, 2) of the square in the picture's own pixels; `matrix` (2, 3) goes from the picture to the square."""
    return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


check_back = Check(
    truth=points_back,
    cases=lambda: [
        (np.array([[3.0, 4.0], [31.5, 31.5], [60.0, 10.0]]), np.array([[0.3, -0.2, 5.0], [0.2, 0.3, -7.0]])),
        (np.array([[0.0, 0.0], [63.0, 20.0]]), np.array([[2.0, 0.5, -30.0], [-0.5, 2.0, 11.0]])),
    ],
    mistakes={
        "that is the way there: it takes the picture's points to the square": lambda p, m: p @ m[:, :2].T + m[:, 2],
        "the offset must come off before the rest is undone": lambda p, m: p @ np.linalg.inv(m[:, :2]).T - m[:, 2],
        "the offset is forgotten": lambda p, m: p @ np.linalg.inv(m[:, :2]).T,
        "it turns the wrong way round: points are rows, so the matrix must be transposed": lambda p, m: (
            (p - m[:, 2]) @ np.linalg.inv(m[:, :2])
        ),
        "transposing turns back a pure rotation, but this map scales as well": lambda p, m: (p - m[:, 2]) @ m[:, :2],
    },
    right="right: from the square's pixels back to the photograph's",
)


def surest(keypoints: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Of T looks (T, 21, 2) at one hand, the one (21, 2) with the highest mean confidence (T, 21)."""
    return keypoints[confidence.mean(1).argmax()]


def _wrong_axis(keypoints: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    return keypoints[min(int(confidence.mean(0).argmax()), len(keypoints) - 1)]


def _looks() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(8)
    one_unsure, one_sure = np.full(21, 0.7), np.full(21, 0.2)
    one_unsure[9], one_sure[4] = 1e-4, 1.0
    confidence = np.array([0.5 * np.ones(21), one_unsure, one_sure])
    # More looks than keypoints, so that a mean over the wrong axis names one.
    return [(rng.uniform(0, 224, (3, 21, 2)), confidence), (rng.uniform(0, 224, (24, 21, 2)), rng.random((24, 21)))]


check_surest = Check(
    truth=surest,
    cases=_looks,
    mistakes={
        "it keeps the look with the one surest keypoint: take the mean of a look": lambda k, c: k[c.max(1).argmax()],
        "it picks for each keypoint on its own: fingers of two different answers make no hand":
            lambda k, c: k[c.argmax(0), np.arange(k.shape[1])],
        "the mean of several answers is none of them: choose one": lambda k, c: k.mean(0),
        "the mean is over the wrong axis: the looks come first": _wrong_axis,
        "it keeps the least sure one": lambda k, c: k[c.mean(1).argmin()],
    },
    right="right: one whole hand, from the surest look",
)  # fmt: skip
