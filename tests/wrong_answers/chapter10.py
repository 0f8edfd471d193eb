"""Wrong answers to the exercises of chapter 10, each as somebody would write it, and the hint that it must earn."""

WRONG = {
    "check_keypoints": {
        "where v is 0 nothing was labelled: (0, 0) is a corner of the picture, not a keypoint": """
def my_keypoints(values):
    return np.array(values).reshape(21, 3)[:, :2]
""",
        "you ask where x and y are 0, but v says what is labelled": """
def my_keypoints(values):
    points = np.array(values, dtype=float).reshape(21, 3)[:, :2]
    points[(points == 0).all(axis=1)] = np.nan
    return points
""",
        "you drop what is occluded, v = 1, but somebody labelled it: only v = 0 is missing": """
def my_keypoints(values):
    triples = np.array(values, dtype=float).reshape(21, 3)
    points = triples[:, :2].copy()
    points[triples[:, 2] < 2] = np.nan
    return points
""",
        "x and y are swapped": """
def my_keypoints(values):
    triples = np.array(values, dtype=float).reshape(21, 3)
    points = triples[:, [1, 0]]
    points[triples[:, 2] == 0] = np.nan
    return points
""",
        "the order of the numbers is x, y, v for one keypoint after the other, not all x first": """
def my_keypoints(values):
    x, y, v = np.array(values, dtype=float).reshape(3, 21)
    points = np.stack([x, y], axis=1)
    points[v == 0] = np.nan
    return points
""",
    },
    "check_error": {
        "one missing label makes the whole mean NaN: leave it out": """
def my_error(predictions, targets):
    return np.linalg.norm(predictions - targets, axis=-1).mean()
""",
        "a missing label is taken for the point (0, 0)": """
def my_error(predictions, targets):
    filled = np.where(np.isnan(targets), 0, targets)
    return np.linalg.norm(predictions - filled, axis=-1).mean()
""",
        "a missing label counts as an error of 0: the network is praised for what nobody checked": """
def my_error(predictions, targets):
    distances = np.linalg.norm(predictions - targets, axis=-1)
    distances[np.isnan(distances)] = 0
    return distances.mean()
""",
        "this is the mean of the hands' means: a hand with one label then counts as much as one with 21": """
def my_error(predictions, targets):
    distances = np.linalg.norm(predictions - targets, axis=-1)
    return np.mean([np.nanmean(hand) for hand in distances])
""",
        "this is the mean of the keypoints' means, as in the course's tables: here each label counts once": """
def my_error(predictions, targets):
    distances = np.linalg.norm(predictions - targets, axis=-1)
    return np.nanmean(np.nanmean(distances, axis=0))
""",
        "this is the mean over x and y apart, not of distances": """
def my_error(predictions, targets):
    return np.nanmean(np.abs(predictions - targets))
""",
    },
    "check_split": {
        "you hold out single pictures: others of the same person stay in training": """
def my_split(groups, count):
    held = np.zeros(len(groups), dtype=bool)
    held[-count:] = True
    return held
""",
        "you hold out a picture of every person: the network then knows everybody in the test": """
def my_split(groups, count):
    held = np.zeros(len(groups), dtype=bool)
    for name in set(groups):
        held[np.flatnonzero(groups == name)[-1]] = True
    return held
""",
        "these are the pictures to train on: the others are held out": """
def my_split(groups, count):
    return ~np.isin(groups, sorted(set(groups))[-count:])
""",
        "these are the first groups, wanted are the last": """
def my_split(groups, count):
    return np.isin(groups, sorted(set(groups))[:count])
""",
    },
}
