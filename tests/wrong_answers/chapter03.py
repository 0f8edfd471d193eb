"""Wrong answers to the exercises of chapter 03, as a learner would write them: check -> hint -> source."""

WRONG = {
    "check_warp": {
        "each point is a row here, and A was multiplied as if it were a column": """
def my_warp(points, matrix):
    return points @ matrix[:, :2] + matrix[:, 2]
""",
        "the offset b is missing": """
def my_warp(points, matrix):
    return points @ matrix[:, :2].T
""",
        "that is the inverse: it goes from the output to the input": """
def my_warp(points, matrix):
    return (points - matrix[:, 2]) @ torch.linalg.inv(matrix[:, :2]).T
""",
        "b was added before A was applied": """
def my_warp(points, matrix):
    return (points + matrix[:, 2]) @ matrix[:, :2].T
""",
        "x and y are exchanged": """
def my_warp(points, matrix):
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return torch.stack([moved[:, 1], moved[:, 0]], dim=1)
""",
    },
    "check_about_centre": {
        "half a pixel off: where are the centres of the first and the last pixel?": """
def my_about_centre(A, size):
    c = torch.tensor([size[1] / 2, size[0] / 2])
    return torch.cat([A, (c - A @ c)[:, None]], dim=1)
""",
        "size is (height, width), a centre is (x, y)": """
def my_about_centre(A, size):
    c = (torch.tensor(size) - 1) / 2
    return torch.cat([A, (c - A @ c)[:, None]], dim=1)
""",
        "it turns about the top left pixel: b is 0": """
def my_about_centre(A, size):
    return torch.cat([A, torch.zeros(2, 1)], dim=1)
""",
        "b is the centre itself: where does A take the centre?": """
def my_about_centre(A, size):
    c = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return torch.cat([A, c[:, None]], dim=1)
""",
        "b has the wrong sign": """
def my_about_centre(A, size):
    c = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return torch.cat([A, (A @ c - c)[:, None]], dim=1)
""",
    },
    "check_mirror": {
        "off by one: the last pixel of a row is number width - 1": """
def my_mirror(keypoints, width):
    mirrored = keypoints.clone()
    mirrored[:, 0] = width - keypoints[:, 0]
    return mirrored
""",
        "y is mirrored instead of x": """
def my_mirror(keypoints, width):
    mirrored = keypoints.clone()
    mirrored[:, 1] = width - 1 - keypoints[:, 1]
    return mirrored
""",
        "x is negative now: the mirror stands in the middle of the image": """
def my_mirror(keypoints, width):
    mirrored = keypoints.clone()
    mirrored[:, 0] *= -1
    return mirrored
""",
        "the fingers are exchanged, but a mirrored thumb is still a thumb": """
def my_mirror(keypoints, width):
    mirrored = keypoints.clone()
    mirrored[:, 0] = width - 1 - keypoints[:, 0]
    fingers = mirrored[1:].view(5, 4, 2).flip(0)
    return torch.cat([mirrored[:1], fingers.reshape(20, 2)])
""",
        "the rows of the array are turned round, not the picture": """
def my_mirror(keypoints, width):
    return keypoints.flip(0)
""",
    },
    "check_visible": {
        "the first pixel reaches from -1/2 to 1/2: half a pixel is missing": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
""",
        "the last pixel is number W - 1 and reaches half a pixel further": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)
""",
        "size is (height, width), a keypoint is (x, y)": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x >= -0.5) & (x < size[0] - 0.5) & (y >= -0.5) & (y < size[1] - 0.5)
""",
        "one coordinate on the image is not enough": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x >= -0.5) & (x < size[1] - 0.5) | (y >= -0.5) & (y < size[0] - 0.5)
""",
        "one answer for each keypoint is wanted, not one for x and one for y": """
def my_visible(keypoints, size):
    end = torch.tensor([size[1], size[0]]) - 0.5
    return (keypoints >= -0.5) & (keypoints < end)
""",
        "only the right and the lower edge were looked at": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x < size[1] - 0.5) & (y < size[0] - 0.5)
""",
        "that is the opposite: those that are off the image": """
def my_visible(keypoints, size):
    x, y = keypoints.T
    return (x < -0.5) | (x >= size[1] - 0.5) | (y < -0.5) | (y >= size[0] - 0.5)
""",
    },
}
