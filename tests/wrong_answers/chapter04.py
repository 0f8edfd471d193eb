"""Chapter 04: for each hint of each exercise an answer, as a learner would write it, that must earn it."""

WRONG = {
    "check_block": {
        "the picture shrinks: each convolution eats a border unless it is padded": """
def my_block(x, weights):
    for weight in weights:
        x = F.relu(F.batch_norm(F.conv2d(x, weight), None, None, training=True))
    return x
""",
        "that is only the first of the two convolutions": """
def my_block(x, weights):
    for weight in weights:
        return F.relu(F.batch_norm(F.conv2d(x, weight, padding=1), None, None, training=True))
""",
        "the ReLU comes before the normalisation; it should see what is normalised": """
def my_block(x, weights):
    for weight in weights:
        x = F.batch_norm(F.relu(F.conv2d(x, weight, padding=1)), None, None, training=True)
    return x
""",
        "the ReLU at the end is missing": """
def my_block(x, weights):
    x = F.relu(F.batch_norm(F.conv2d(x, weights[0], padding=1), None, None, training=True))
    return F.batch_norm(F.conv2d(x, weights[1], padding=1), None, None, training=True)
""",
        "the ReLU between the two convolutions is missing": """
def my_block(x, weights):
    for weight in weights:
        x = F.batch_norm(F.conv2d(x, weight, padding=1), None, None, training=True)
    return F.relu(x)
""",
        "the batch normalisation is missing": """
def my_block(x, weights):
    for weight in weights:
        x = F.relu(F.conv2d(x, weight, padding=1))
    return x
""",
    },
    "check_parameters": {
        "a bias is counted for each convolution, but these have none": """
def my_parameters(inputs, outputs):
    first = 9 * inputs * outputs + outputs
    second = 9 * outputs * outputs + outputs
    return first + second + 4 * outputs
""",
        "the batch normalisations have parameters too: a scale and a shift for each channel": """
def my_parameters(inputs, outputs):
    return 9 * inputs * outputs + 9 * outputs**2
""",
        "a scale or a shift is missing: each of the two normalisations has both, for each channel": """
def my_parameters(inputs, outputs):
    return 9 * inputs * outputs + 9 * outputs**2 + 2 * outputs
""",
        "the running mean and variance are counted, but those are measured, not learned": """
def my_parameters(inputs, outputs):
    from handpose_lib.unet import ConvBlock  # the chapter defines its own, which has the same parameters

    block = ConvBlock(inputs, outputs)
    return sum(t.numel() for name, t in block.state_dict().items() if "num_batches" not in name)
""",
        "the second convolution reads what the first one puts out, not the block's input": """
def my_parameters(inputs, outputs):
    return 2 * (9 * inputs * outputs + 2 * outputs)
""",
        "a kernel of 3×3 has more than 3 weights": """
def my_parameters(inputs, outputs):
    return 3 * inputs * outputs + 3 * outputs * outputs + 4 * outputs
""",
        "that is one convolution with its normalisation; a block has two": """
def my_parameters(inputs, outputs):
    return 9 * inputs * outputs + 2 * outputs
""",
    },
    "check_field": {
        "each pooling takes in a neighbour as well": """
def my_field(depth):
    return 1 + sum(4 * 2**level for level in range(depth + 1))
""",
        "a pooling takes in a neighbour on the level above it, which is 2**(level - 1) pixels away": """
def my_field(depth):
    side = 1
    for level in range(depth + 1):
        if level > 0:
            side += 2**level
        side += 4 * 2**level
    return side
""",
        "on deeper levels a step is more than one pixel of the picture": """
def my_field(depth):
    side = 1
    for level in range(depth + 1):
        side += 4
    return side
""",
        "half of the steps are missing: a block has two convolutions, and each adds one on either side": """
def my_field(depth):
    side = 1
    for level in range(depth + 1):
        if level > 0:
            side += 2 ** (level - 1)
        side += 2 * 2**level
    return side
""",
        "one value sees one pixel before the first convolution: the count starts at 1": """
def my_field(depth):
    side = 0
    for level in range(depth + 1):
        if level > 0:
            side += 2 ** (level - 1)
        side += 4 * 2**level
    return side
""",
    },
    "check_join": {
        "added up, the two can't be told apart any more; put their channels on top of each other": """
def my_join(skip, below):
    return skip + F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
""",
        "the order is swapped: the skip connection's channels come first": """
def my_join(skip, below):
    return torch.cat((F.interpolate(below, scale_factor=2, mode="bilinear"), skip), dim=1)
""",
        "nearest neighbours repeat each pixel; bilinear is wanted": """
def my_join(skip, below):
    return torch.cat((skip, F.interpolate(below, scale_factor=2)), dim=1)
""",
        "the corners are aligned, which moves everything in between by up to half a pixel": """
def my_join(skip, below):
    return torch.cat((skip, F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=True)), dim=1)
""",
        "joined along the batch, as if these were more pictures": """
def my_join(skip, below):
    return torch.cat((skip, F.interpolate(below, scale_factor=2, mode="bilinear")))
""",
        "joined along the height, so the picture has grown; channels are the dimension before": """
def my_join(skip, below):
    return torch.cat((skip, F.interpolate(below, scale_factor=2, mode="bilinear")), dim=2)
""",
        "nothing of the skip connection is in it": """
def my_join(skip, below):
    return F.interpolate(below, size=skip.shape[-2:], mode="bilinear")
""",
    },
}
