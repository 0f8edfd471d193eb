"""Wrong answers to the exercises of chapter 02, as a learner would write them: check -> hint -> source."""

WRONG = {
    "check_gaussian": {
        "x and y are exchanged: rows go down with y": """
def my_gaussian(u, v, height, width, sigma):
    rows = torch.arange(height)[:, None]
    columns = torch.arange(width)[None, :]
    return torch.exp(-((rows - u) ** 2 + (columns - v) ** 2) / (2 * sigma**2))
""",
        "width and height are exchanged: an array has its rows first": """
def my_gaussian(u, v, height, width, sigma):
    x = torch.arange(width)[:, None]
    y = torch.arange(height)[None, :]
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
""",
        "the 2 of 2σ² is missing": """
def my_gaussian(u, v, height, width, sigma):
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / sigma**2)
""",
        "σ is not squared": """
def my_gaussian(u, v, height, width, sigma):
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma))
""",
        "the point was rounded": """
def my_gaussian(u, v, height, width, sigma):
    u, v = round(u), round(v)
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
""",
        "the point was cut down to whole numbers": """
def my_gaussian(u, v, height, width, sigma):
    u, v = int(u), int(v)
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
""",
        "pixels have their centres at whole numbers, not at halves": """
def my_gaussian(u, v, height, width, sigma):
    x, y = torch.arange(width)[None, :] + 0.5, torch.arange(height)[:, None] + 0.5
    return torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
""",
        "its volume is 1, and its height must be": """
def my_gaussian(u, v, height, width, sigma):
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    h = torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
    return h / h.sum()
""",
    },
    "check_soft_argmax": {
        "x and y are exchanged: x counts columns, y counts rows": """
def my_soft_argmax(h, beta):
    weights = (beta * h).flatten().softmax(0).view(h.shape)
    first = (weights.sum(1) * torch.arange(h.shape[0])).sum()
    second = (weights.sum(0) * torch.arange(h.shape[1])).sum()
    return torch.stack([first, second])
""",
        "β is missing, and the background wins": """
def my_soft_argmax(h, beta):
    weights = h.flatten().softmax(0).view(h.shape)
    x = (weights.sum(0) * torch.arange(h.shape[1])).sum()
    y = (weights.sum(1) * torch.arange(h.shape[0])).sum()
    return torch.stack([x, y])
""",
        "that is the centre of mass: its weights are not exponentials": """
def my_soft_argmax(h, beta):
    weights = beta * h / (beta * h).sum()
    x = (weights.sum(0) * torch.arange(h.shape[1])).sum()
    y = (weights.sum(1) * torch.arange(h.shape[0])).sum()
    return torch.stack([x, y])
""",
        "that is the highest pixel: nothing was averaged": """
def my_soft_argmax(h, beta):
    y, x = divmod((beta * h).flatten().softmax(0).argmax().item(), h.shape[1])
    return torch.tensor([x, y])
""",
        "the softmax was taken over each row by itself": """
def my_soft_argmax(h, beta):
    height, width = h.shape
    weights = torch.softmax(beta * h, dim=1) / height
    x = (weights.sum(0) * torch.arange(width)).sum()
    y = (weights.sum(1) * torch.arange(height)).sum()
    return torch.stack([x, y])
""",
    },
    "check_window": {
        "the centre of mass of the whole map: a second peak pulls at it": """
def my_window(h, radius):
    x = (h.sum(0) * torch.arange(h.shape[1])).sum() / h.sum()
    y = (h.sum(1) * torch.arange(h.shape[0])).sum() / h.sum()
    return torch.stack([x, y])
""",
        "x and y are exchanged: x counts columns, y counts rows": """
def my_window(h, radius):
    row, column = divmod(h.argmax().item(), h.shape[1])
    top, left = max(0, row - radius), max(0, column - radius)
    part = h[top : row + radius + 1, left : column + radius + 1]
    x = (part.sum(1) * torch.arange(top, top + len(part))).sum() / part.sum()
    y = (part.sum(0) * torch.arange(left, left + part.shape[1])).sum() / part.sum()
    return torch.stack([x, y])
""",
        "that is a place in the window, not in the map": """
def my_window(h, radius):
    row, column = divmod(h.argmax().item(), h.shape[1])
    part = h[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
    x = (part.sum(0) * torch.arange(part.shape[1])).sum() / part.sum()
    y = (part.sum(1) * torch.arange(part.shape[0])).sum() / part.sum()
    return torch.stack([x, y])
""",
        "the window ends one pixel too early: a slice leaves its end out": """
def my_window(h, radius):
    row, column = divmod(h.argmax().item(), h.shape[1])
    top, left = max(0, row - radius), max(0, column - radius)
    part = h[top : row + radius, left : column + radius]
    x = (part.sum(0) * torch.arange(part.shape[1])).sum() / part.sum()
    y = (part.sum(1) * torch.arange(part.shape[0])).sum() / part.sum()
    return torch.stack([x + left, y + top])
""",
        "at the border the slice begins at a negative number, which counts from the end": """
def my_window(h, radius):
    row, column = divmod(h.argmax().item(), h.shape[1])
    top, left = row - radius, column - radius
    part = h[top : row + radius + 1, left : column + radius + 1]
    x = (part.sum(0) * torch.arange(part.shape[1])).sum() / part.sum()
    y = (part.sum(1) * torch.arange(part.shape[0])).sum() / part.sum()
    return torch.stack([x + left, y + top])
""",
        "that is the highest pixel: nothing was averaged": """
def my_window(h, radius):
    row, column = divmod(h.argmax().item(), h.shape[1])
    return torch.tensor([column, row])
""",
    },
}
