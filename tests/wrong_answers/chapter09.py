"""Wrong answers to the exercises of chapter 09, each as somebody would write it, and the hint that it must earn."""

WRONG = {
    "check_bend": {
        "it turns about the origin: a finger turns about its joint": """
def my_bend(points, joint, axis, degrees):
    angle = np.radians(degrees)
    along = np.outer(points @ axis, axis)
    return along + np.cos(angle) * (points - along) + np.sin(angle) * np.cross(axis, points)
""",
        "the angle is in degrees; np.cos and np.sin want radians": """
def my_bend(points, joint, axis, degrees):
    arm = points - joint
    along = np.outer(arm @ axis, axis)
    return joint + along + np.cos(degrees) * (arm - along) + np.sin(degrees) * np.cross(axis, arm)
""",
        "it turns the other way: np.cross(axis, arm), not np.cross(arm, axis)": """
def my_bend(points, joint, axis, degrees):
    angle = np.radians(degrees)
    arm = points - joint
    along = np.outer(arm @ axis, axis)
    return joint + along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(arm, axis)
""",
        "the joint came off before the turn and was never put back": """
def my_bend(points, joint, axis, degrees):
    angle = np.radians(degrees)
    arm = points - joint
    along = np.outer(arm @ axis, axis)
    return along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)
""",
    },
    "check_brightness": {
        "a surface that turns away is dark, not darker than dark: no light is negative": """
def my_brightness(normals, light):
    normals = normals / np.linalg.norm(normals, axis=1)[:, None]
    return normals @ (light / np.linalg.norm(light))
""",
        "a surface that turns away is dark: the absolute value lights it from behind": """
def my_brightness(normals, light):
    normals = normals / np.linalg.norm(normals, axis=1)[:, None]
    return abs(normals @ (light / np.linalg.norm(light)))
""",
        "the vectors are longer than 1: a cosine needs unit vectors": """
def my_brightness(normals, light):
    return np.maximum(normals @ light, 0)
""",
        "the light comes from the other side: `light` points to the lamp": """
def my_brightness(normals, light):
    normals = normals / np.linalg.norm(normals, axis=1)[:, None]
    return np.maximum(-normals @ light / np.linalg.norm(light), 0)
""",
    },
    "check_hidden": {
        "a joint lies under its own skin: without the margin every joint is hidden": """
def my_hidden(depth, keypoint, z, margin):
    x, y = np.round(keypoint).astype(int)
    return depth[y, x] < z
""",
        "x and y are swapped: an array is asked for its row first": """
def my_hidden(depth, keypoint, z, margin):
    x, y = np.round(keypoint).astype(int)
    if x >= depth.shape[0]:
        return False
    return depth[x, y] < z - margin
""",
        "it is hidden by what is nearer to the camera, and near means a small depth": """
def my_hidden(depth, keypoint, z, margin):
    x, y = np.round(keypoint).astype(int)
    return depth[y, x] > z + margin
""",
        "a pixel reaches half a pixel to each side of its centre: round, don't cut the digits off": """
def my_hidden(depth, keypoint, z, margin):
    x, y = keypoint.astype(int)
    return depth[y, x] < z - margin
""",
        "the margin is on the wrong side: z - margin, not z + margin": """
def my_hidden(depth, keypoint, z, margin):
    x, y = np.round(keypoint).astype(int)
    return depth[y, x] < z + margin
""",
        "your margin is a fixed number: use the one that is given": """
def my_hidden(depth, keypoint, z, margin):
    x, y = np.round(keypoint).astype(int)
    return depth[y, x] < z - 0.02
""",
    },
}
