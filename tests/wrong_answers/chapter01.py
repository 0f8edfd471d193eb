"""Wrong answers to the exercises of chapter 01, as a learner would write them: check -> hint -> source."""

WRONG = {
    "check_project": {
        "x and y are exchanged": """
def my_project(xyz, K):
    uvw = xyz @ K.T
    return np.stack([uvw[:, 1] / uvw[:, 2], uvw[:, 0] / uvw[:, 2]], axis=1)
""",
        "each point is a row here, and K was multiplied as if it were a column": """
def my_project(xyz, K):
    uvw = xyz @ K
    return uvw[:, :2] / uvw[:, 2:]
""",
        "the division by z is missing": """
def my_project(xyz, K):
    uv = xyz @ K.T
    return uv[:, :2]
""",
        "the image's centre (cx, cy) is missing": """
def my_project(xyz, K):
    x, y, z = xyz.T
    return np.stack([K[0, 0] * x / z, K[1, 1] * y / z], axis=1)
""",
        "the third column, which is 1 everywhere after the division, is still there": """
def my_project(xyz, K):
    uvw = xyz @ K.T
    return uvw / uvw[:, 2:]
""",
    },
    "check_origin": {
        "hand and version are exchanged": """
def my_origin(image, hands):
    return divmod(image, hands)
""",
        "return the two as a pair, without brackets around them: return hand, version": """
def my_origin(image, hands):
    return [image % hands, image // hands]
""",
        "the number of hands is not 32,560 in every folder": """
def my_origin(image, hands):
    version, hand = divmod(image, 32560)
    return hand, version
""",
        "the four versions of a hand do not stand next to each other": """
def my_origin(image, hands):
    return image // 4, image % 4
""",
        "hands and versions are counted from 0": """
def my_origin(image, hands):
    return image % hands + 1, image // hands + 1
""",
    },
    "check_resize": {
        "half a pixel is missing: the image begins at -1/2, not at 0": """
def my_resize(keypoints, old, new):
    return keypoints * np.array([new[1] / old[1], new[0] / old[0]])
""",
        "half a pixel was added and not taken off again": """
def my_resize(keypoints, old, new):
    s = np.array([new[1] / old[1], new[0] / old[0]])
    return (keypoints + 0.5) * s
""",
        "the scale is upside down": """
def my_resize(keypoints, old, new):
    s = np.array([old[1] / new[1], old[0] / new[0]])
    return (keypoints + 0.5) * s - 0.5
""",
        "sizes are (height, width), keypoints are (x, y)": """
def my_resize(keypoints, old, new):
    s = np.array(new) / np.array(old)
    return (keypoints + 0.5) * s - 0.5
""",
        "both axes were scaled alike": """
def my_resize(keypoints, old, new):
    s = new[0] / old[0]
    return (keypoints + 0.5) * s - 0.5
""",
        "half a pixel was taken off first, and added afterwards": """
def my_resize(keypoints, old, new):
    s = np.array([new[1] / old[1], new[0] / old[0]])
    return (keypoints - 0.5) * s + 0.5
""",
    },
    "check_resize_camera": {
        "the last row has no pixels in it and must stay 0, 0, 1": """
def my_resize_camera(K, s):
    return K * s
""",
        "half a pixel is missing: cx and cy are places in the image, like keypoints": """
def my_resize_camera(K, s):
    resized = K.copy()
    resized[:2] *= s
    return resized
""",
        "the resize comes after the camera, so its matrix stands to the left of K": """
def my_resize_camera(K, s):
    return K @ np.array([[s, 0, 0.5 * s - 0.5], [0, s, 0.5 * s - 0.5], [0, 0, 1]])
""",
        "only the focal lengths were scaled": """
def my_resize_camera(K, s):
    resized = K.copy()
    resized[0, 0] *= s
    resized[1, 1] *= s
    return resized
""",
        "only the centre was scaled": """
def my_resize_camera(K, s):
    resized = K.copy()
    resized[:2, 2] = (K[:2, 2] + 0.5) * s - 0.5
    return resized
""",
        "a focal length is a length, not a place in the image: it gets no half pixel": """
def my_resize_camera(K, s):
    fx, fy, cx, cy = ((value + 0.5) * s - 0.5 for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
""",
    },
}
