"""The checks of chapter 10: COCO's triples, an error with missing labels, and groups that are held out."""

import numpy as np

from handpose_lib.course.exercises.checking import Check


def keypoints_of(values: list[float]) -> np.ndarray:
    """COCO's x, y, v, x, y, v, ... (63 numbers) as keypoints (21, 2), NaN where the visibility v is 0."""
    triples = np.array(values, dtype=float).reshape(-1, 3)
    return np.where(triples[:, 2:] > 0, triples[:, :2], np.nan)


def _triples() -> list[tuple[list[float]]]:
    rng = np.random.default_rng(10)
    cases = []
    for _ in range(2):
        seen = rng.permutation([0] * 4 + [1] * 7 + [2] * 10)
        points = rng.uniform(5, 200, (21, 2)) * (seen > 0)[:, None]
        points[np.flatnonzero(seen)[0]] = 0  # labelled, in the corner of the picture
        points[np.flatnonzero(seen == 0)[0]] = 12, 34  # some programs leave a guess there
        cases.append((np.concatenate([points, seen[:, None]], 1).ravel().tolist(),))
    return cases


def _occluded_dropped(values: list[float]) -> np.ndarray:
    triples = np.array(values, dtype=float).reshape(-1, 3)
    return np.where(triples[:, 2:] == 2, triples[:, :2], np.nan)


def _zeros_dropped(values: list[float]) -> np.ndarray:
    points = np.array(values, dtype=float).reshape(-1, 3)[:, :2]
    return np.where((points == 0).all(1, keepdims=True), np.nan, points)


check_keypoints = Check(
    truth=keypoints_of,
    cases=_triples,
    mistakes={
        "where v is 0 nothing was labelled: (0, 0) is a corner of the picture, not a keypoint": lambda values: np.array(
            values, dtype=float
        ).reshape(-1, 3)[:, :2],
        "you ask where x and y are 0, but v says what is labelled": _zeros_dropped,
        "you drop what is occluded, v = 1, but somebody labelled it: only v = 0 is missing": _occluded_dropped,
        "x and y are swapped": lambda values: keypoints_of(values)[:, ::-1],
        "the order of the numbers is x, y, v for one keypoint after the other, not all x first": lambda values: (
            np.where(
                np.array(values, dtype=float).reshape(3, -1).T[:, 2:] > 0,
                np.array(values, dtype=float).reshape(3, -1).T[:, :2],
                np.nan,
            )
        ),
    },
    right="right: what nobody labelled is NaN, and what is occluded stays",
)


def mean_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean distance in px between predictions and targets (N, 21, 2), over the keypoints that are labelled."""
    return float(np.nanmean(np.linalg.norm(predictions - targets, axis=-1)))


def _gaps() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(11)
    cases = []
    for missing in (3, 20):
        targets = rng.uniform(20, 200, (4, 21, 2))
        predictions = targets + rng.normal(0, 6, targets.shape) * np.arange(1, 5)[:, None, None]
        rows = rng.choice(42, missing, replace=False)  # of the first two hands, so that hands differ in their number
        targets.reshape(-1, 2)[rows] = np.nan
        cases.append((predictions, targets))
    return cases


def _zero_target(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(np.linalg.norm(predictions - np.nan_to_num(targets), axis=-1).mean())


def _zero_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(np.nan_to_num(np.linalg.norm(predictions - targets, axis=-1)).mean())


def _hands_first(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(np.nanmean(np.linalg.norm(predictions - targets, axis=-1), axis=1).mean())


def _keypoints_first(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(np.nanmean(np.linalg.norm(predictions - targets, axis=-1), axis=0).mean())


check_error = Check(
    truth=mean_error,
    cases=_gaps,
    mistakes={
        "one missing label makes the whole mean NaN: leave it out": lambda p, t: float(
            np.linalg.norm(p - t, axis=-1).mean()
        ),
        "a missing label is taken for the point (0, 0)": _zero_target,
        "a missing label counts as an error of 0: the network is praised for what nobody checked": _zero_error,
        "this is the mean of the hands' means: a hand with one label then counts as much as one with 21": _hands_first,
        "this is the mean of the keypoints' means, as in the course's tables: here each label counts once": (
            _keypoints_first
        ),
        "this is the mean over x and y apart, not of distances": lambda p, t: float(np.nanmean(np.abs(p - t))),
    },
    right="right: only what somebody labelled counts",
)


def held_out(groups: np.ndarray, count: int) -> np.ndarray:
    """Which pictures (N,) belong to the last `count` groups, in the order of their names."""
    return np.isin(groups, np.unique(groups)[-count:])


def _groups() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(12)
    people, videos = np.array(["anna", "ben", "chen", "dora", "emre"]), np.array(["a.mp4", "b.mp4", "c.mp4"])
    return [
        (rng.permutation(np.repeat(people, (4, 3, 5, 2, 6))), 1),
        (rng.permutation(np.repeat(people, (4, 3, 5, 2, 6))), 2),
        (rng.permutation(np.repeat(videos, (3, 4, 2))), 2),
    ]


def _pictures(groups: np.ndarray, count: int) -> np.ndarray:
    return np.arange(len(groups)) >= len(groups) - count


def _one_each(groups: np.ndarray, count: int) -> np.ndarray:
    last = {name: row for row, name in enumerate(groups)}
    return np.isin(np.arange(len(groups)), list(last.values()))


check_split = Check(
    truth=held_out,
    cases=_groups,
    mistakes={
        "you hold out single pictures: others of the same person stay in training": _pictures,
        "you hold out a picture of every person: the network then knows everybody in the test": _one_each,
        "these are the pictures to train on: the others are held out": lambda g, c: ~held_out(g, c),
        "these are the first groups, wanted are the last": lambda g, c: np.isin(g, np.unique(g)[:c]),
    },
    right="right: a person is on one side, with all pictures",
)
