"""Checks of chapter 01: from metres to pixels, images and hands, and what a resize does to points and cameras."""

import numpy as np

from handpose_lib.course.exercises.checking import Check
from handpose_lib.freihand import project

CAMERA = np.array([[480.0, 0, 100], [0, 500, 120], [0, 0, 1]])  # px


def _hand() -> np.ndarray:
    return np.random.default_rng(1).uniform([-0.1, -0.1, 0.5], [0.1, 0.1, 0.9], (21, 3))  # m


def _transposed(xyz: np.ndarray, K: np.ndarray) -> np.ndarray:
    uvw = xyz @ K
    return uvw[:, :2] / uvw[:, 2:]


check_project = Check(
    truth=project,
    cases=lambda: [(_hand(), CAMERA)],
    mistakes={
        "x and y are exchanged": lambda xyz, K: project(xyz, K)[:, ::-1],
        "each point is a row here, and K was multiplied as if it were a column": _transposed,
        "the division by z is missing": lambda xyz, K: (xyz @ K.T)[:, :2],
        "the image's centre (cx, cy) is missing": lambda xyz, K: project(xyz, K) - K[:2, 2],
        "the third column, which is 1 everywhere after the division, is still there": (
            lambda xyz, K: (xyz @ K.T) / xyz[:, 2:]
        ),
    },
    right="right: these are the pixels that the camera sees",
)


check_origin = Check(
    truth=lambda image, hands: (image % hands, image // hands),
    cases=lambda: [(7, 400), (807, 400), (1599, 400), (97_687, 32_560)],
    mistakes={
        "hand and version are exchanged": lambda image, hands: (image // hands, image % hands),
        "the number of hands is not 32,560 in every folder": lambda image, hands: (image % 32_560, image // 32_560),
        "the four versions of a hand do not stand next to each other": lambda image, hands: (image // 4, image % 4),
        "hands and versions are counted from 0": lambda image, hands: (image % hands + 1, image // hands + 1),
        "return the two as a pair, without brackets around them: return hand, version": (
            lambda image, hands: [image % hands, image // hands]
        ),
    },
    right="right: every version of a hand finds the same row of the JSON files",
)


def _scales(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    return np.array([new[1] / old[1], new[0] / old[0]])  # of x, of y


def _resize(points: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    return (points + 0.5) * _scales(old, new) - 0.5


check_resize = Check(
    truth=_resize,
    cases=lambda: [
        (np.array([[0.0, 0.0], [111.5, 111.5], [223.0, 50.0]]), (224, 224), (128, 96)),
        (np.array([[0.0, 0.0], [319.5, 239.5], [600.0, 50.0]]), (480, 640), (128, 160)),
    ],
    mistakes={
        "half a pixel is missing: the image begins at -1/2, not at 0": lambda p, old, new: p * _scales(old, new),
        "half a pixel was added and not taken off again": lambda p, old, new: (p + 0.5) * _scales(old, new),
        "the scale is upside down": lambda p, old, new: _resize(p, new, old),
        "sizes are (height, width), keypoints are (x, y)": lambda p, old, new: _resize(p, old[::-1], new[::-1]),
        "both axes were scaled alike": lambda p, old, new: (p + 0.5) * new[0] / old[0] - 0.5,
        "half a pixel was taken off first, and added afterwards": (
            lambda p, old, new: (p - 0.5) * _scales(old, new) + 0.5
        ),
    },
    right="right: the middle of the old image is the middle of the new one",
)


def _resize_camera(K: np.ndarray, s: float, half: float = 0.5) -> np.ndarray:
    resized = K.copy()
    resized[:2, :2] *= s
    resized[:2, 2] = (K[:2, 2] + half) * s - half
    return resized


def _from_the_right(K: np.ndarray, s: float) -> np.ndarray:
    return K @ _resize_camera(np.eye(3), s)


def _focal_only(K: np.ndarray, s: float) -> np.ndarray:
    return np.concatenate([_resize_camera(K, s)[:, :2], K[:, 2:]], axis=1)


check_resize_camera = Check(
    truth=_resize_camera,
    cases=lambda: [(CAMERA, 128 / 224), (CAMERA, 0.25)],
    mistakes={
        "the last row has no pixels in it and must stay 0, 0, 1": lambda K, s: K * s,
        "half a pixel is missing: cx and cy are places in the image, like keypoints": (
            lambda K, s: _resize_camera(K, s, half=0.0)
        ),
        "the resize comes after the camera, so its matrix stands to the left of K": _from_the_right,
        "only the focal lengths were scaled": _focal_only,
        "only the centre was scaled": lambda K, s: np.concatenate([K[:, :2], _resize_camera(K, s)[:, 2:]], axis=1),
        "a focal length is a length, not a place in the image: it gets no half pixel": (
            lambda K, s: np.where(K > 1, (K + 0.5) * s - 0.5, K)
        ),
    },
    right="right: project with this K, and the keypoints are those of the resized image",
)
