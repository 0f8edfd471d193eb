"""Wrong answers to the exercises of chapter 08, each as somebody would write it, and the hint that it must earn."""

WRONG = {
    "check_square": {
        "half a pixel is missing: the middle of pixels numbered from 0 is not size / 2": """
def my_square(box, share, size):
    left, top, right, bottom = box
    scale = share * size / max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])
""",
        "you fit the shorter side: then the longer one may leave the square": """
def my_square(box, share, size):
    left, top, right, bottom = box
    scale = share * size / min(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.array([[scale, 0, (size - 1) / 2 - scale * x], [0, scale, (size - 1) / 2 - scale * y]])
""",
        "the box's corner goes to the square's corner: it is the middles that should meet": """
def my_square(box, share, size):
    left, top, right, bottom = box
    scale = share * size / max(right - left, bottom - top)
    return np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
""",
        "the scale is right, but the box's middle moves before it is scaled": """
def my_square(box, share, size):
    left, top, right, bottom = box
    scale = share * size / max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.array([[scale, 0, (size - 1) / 2 - x], [0, scale, (size - 1) / 2 - y]])
""",
    },
    "check_back": {
        "that is the way there: it takes the picture's points to the square": """
def my_back(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]
""",
        "the offset must come off before the rest is undone": """
def my_back(points, matrix):
    return points @ np.linalg.inv(matrix[:, :2]).T - matrix[:, 2]
""",
        "the offset is forgotten": """
def my_back(points, matrix):
    return np.linalg.solve(matrix[:, :2], points.T).T
""",
        "it turns the wrong way round: points are rows, so the matrix must be transposed": """
def my_back(points, matrix):
    return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2])
""",
        "transposing turns back a pure rotation, but this map scales as well": """
def my_back(points, matrix):
    return (points - matrix[:, 2]) @ matrix[:, :2]
""",
    },
    "check_surest": {
        "it keeps the look with the one surest keypoint: take the mean of a look": """
def my_surest(keypoints, confidence):
    return keypoints[confidence.max(axis=1).argmax()]
""",
        "it picks for each keypoint on its own: fingers of two different answers make no hand": """
def my_surest(keypoints, confidence):
    best = confidence.argmax(axis=0)
    return np.array([keypoints[best[k], k] for k in range(21)])
""",
        "the mean of several answers is none of them: choose one": """
def my_surest(keypoints, confidence):
    return keypoints.mean(axis=0)
""",
        "the mean is over the wrong axis: the looks come first": """
def my_surest(keypoints, confidence):
    return keypoints[min(confidence.mean(axis=0).argmax(), len(keypoints) - 1)]
""",
        "it keeps the least sure one": """
def my_surest(keypoints, confidence):
    return keypoints[np.argmin(confidence.mean(axis=1))]
""",
    },
}
