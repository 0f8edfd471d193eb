"""How much memory a training step of the U-Net takes, by arithmetic, before a GPU is hired.

Most of it are results of the forward pass that autograd keeps for the backward pass. A block of two convolutions with
c channels on r x r pixels keeps four maps of c x r x r for each sample: what either convolution returns, which its
batch normalisation asks for again, and what either ReLU returns, which the next layer asks for again. On the way down
each pooling adds its result and, in eight bytes each, the places of its maxima; on the way up, each block first keeps
the joined features of 3c channels. A test holds `kept_activations` against what autograd keeps. Explained in
`notebooks/06_gpu_training.ipynb`.
"""

KEYPOINTS = 21
WORKSPACE = 1_000_000_000  # bytes that convolutions scribble on: measured once, for `full` on an H200


def kept_activations(width: int, depth: int, size: int, batch: int, bytes_each: int = 4) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of a U-Net, weights not counted.

    Args:
        width, depth: of the `UNet2DHandPose`.
        size: side of the input, px.
        batch: samples per batch.
        bytes_each: of a value: 4 in float32, 2 under autocast on a GPU.
    """
    values, places = 3 * size**2, 0  # the images
    for level in range(depth + 1):
        channels, pixels = width * 2**level, (size // 2**level) ** 2
        values += 4 * channels * pixels  # the block on the way down, or at the bottom
        if level > 0:
            pooled = channels // 2 * pixels
            values, places = values + pooled, places + pooled
        if level < depth:
            values += (3 + 4) * channels * pixels  # joined features, and the block on the way up
    return batch * (bytes_each * values + 8 * places)


def training_memory(
    width: int, depth: int, size: int, batch: int, parameters: int, resident_images: int = 0, half: bool = True
) -> dict[str, int]:
    """Bytes of a GPU's memory that training takes at its peak, part by part; `total` is their sum.

    Args:
        width, depth, size, batch: as in `kept_activations`.
        parameters: numbers in the network.
        resident_images: decoded images that are kept on the GPU.
        half: whether the network computes in 16 bits under autocast.
    """
    each = 2 if half else 4
    maps = batch * KEYPOINTS * size**2
    parts = {
        "decoded images": resident_images * 3 * size**2,
        "weights, gradients, two moments, average": 5 * 4 * parameters + (each * parameters if half else 0),
        "kept for the backward pass": kept_activations(width, depth, size, batch, each),
        "heatmaps, targets, the loss's gradient": maps * (each + 4 + 4 + 4),
        # At full resolution: the gradients of the joined features (3 x width) and of the two layers around them.
        "gradients on their way": 5 * width * size**2 * batch * each,
        "room for the convolutions to work in": WORKSPACE,
    }
    return parts | {"total": sum(parts.values())}


def largest_batch(memory: float, width: int, depth: int, size: int, parameters: int, half: bool = True) -> int:
    """The largest power of two that `training_memory` allows as a batch in `memory` bytes; at least 1."""
    batch = 1
    while training_memory(width, depth, size, 2 * batch, parameters, half=half)["total"] <= memory and batch < 2**16:
        batch *= 2
    return batch
