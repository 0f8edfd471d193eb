"""A U-Net from an RGB image to one heatmap per keypoint, explained in `notebooks/04_unet.ipynb`.

The shape is that of Ronneberger, Fischer and Brox, "U-Net" (MICCAI 2015), with batch normalisation, padded
convolutions and bilinear upsampling: `width` channels at full resolution, twice as many after each pooling.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from handpose_lib.chains import Bones
from handpose_lib.fields import is_whole
from handpose_lib.framing import Framing
from handpose_lib.keypoints import KEYPOINT_NAMES

MOST_CHANNELS = 16_384  # of the coarsest level: its weights alone would take 20 GB
HIGHEST = 16.0  # of a normalised image: `normalize` ends at 2, noise on it hardly reaches 10


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            # No bias: the batch normalisation that follows has its own.
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UNet2DHandPose(nn.Module):
    """One heatmap per keypoint, at the image's resolution: (B, 3, H, W) -> (B, num_keypoints, H, W).

    Args:
        width: channels at full resolution; `depth` poolings double them each time (64, 128, 256, 512).
        depth: number of 2x2 poolings; H and W must be multiples of `2**depth`.
        num_keypoints: number of heatmaps.
        framing: how pictures become its input; the network itself takes any size that fits.

    The output is linear: without a sigmoid, an empty heatmap is exactly 0 and any loss can be used.
    """

    stride = 1  # px of the input per px of the heatmaps
    bones: Bones = ()  # of the hands it was trained on, where that is known
    calibration: tuple[float, ...] = ()  # what makes chances of its confidence, where that is known

    def __init__(self, width: int = 64, depth: int = 3, num_keypoints: int = 21, framing: Framing | None = None):
        super().__init__()
        check_shape(width, depth, num_keypoints)
        self.width, self.depth, self.num_keypoints = width, depth, num_keypoints
        self.framing = framing or Framing()
        self.heatmap_sigma = 2.0  # px of the heatmaps, for decoding
        channels = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            ConvBlock(inputs, outputs) for inputs, outputs in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(channels[level] + channels[level + 1], channels[level]) for level in reversed(range(depth))
        )
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, num_keypoints, kernel_size=1)
        # Start from empty heatmaps. From the usual random ones, the first steps flatten the background by switching
        # off features of the last block, and the peaks take much longer to appear.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def shape(self) -> dict[str, int]:
        """The arguments that build a network of the same shape, as JSON values."""
        return {"width": self.width, "depth": self.depth, "num_keypoints": self.num_keypoints}

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), float, normalised -> heatmaps (B, num_keypoints, H, W)."""
        check_images(images, 2**self.depth, self.depth)
        skips = []
        x = images
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))  # (B, width * 2**level, H / 2**level, W / 2**level)
            skips.append(x)
        skips.pop()  # the deepest level is x itself
        for block in self.up:
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat((skips.pop(), x), dim=1))
        return self.head(x)  # (B, num_keypoints, H, W)


def check_shape(width: int, depth: int, num_keypoints: int) -> None:
    """ValueError where a network can't be built of these, or would take more memory than machines have."""
    for name, value in (("width", width), ("depth", depth), ("num_keypoints", num_keypoints)):
        if not is_whole(value):
            raise ValueError(f"{name} is {value!r}, it must be a whole number of at least 1")
    if depth > 14 or width * 2**depth > MOST_CHANNELS:
        raise ValueError(
            f"a width of {width} and {depth} poolings make more than {MOST_CHANNELS:,} channels: give less of either"
        )


def check_images(images: Tensor, multiple: int, poolings: int) -> None:
    """TypeError or ValueError for what is no batch of normalised images (B, 3, H, W)."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise TypeError(f"images are {kind}: give normalize(images / 255), see handpose_lib.augment")
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % multiple or images.shape[3] % multiple:
        raise ValueError(
            f"images must be (B, 3, H, W) with H and W multiples of {multiple} ({poolings} poolings), "
            f"got {tuple(images.shape)}"
        )
    # To ask a GPU would be to wait for it, and a graph that is traced or compiled has no values yet.
    known = images.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    if known and images.numel() and float(images.detach().amax()) > HIGHEST:
        raise ValueError(
            f"images have values up to {float(images.detach().amax()):.3g}: give normalize(images / 255), see "
            "handpose_lib.augment"
        )


def check_heatmaps(heatmaps: Tensor, count: int) -> Tensor:
    """A network's answer to `count` images, in float32; ValueError where it is none of hands, (B, 21, H, W)."""
    shape = tuple(heatmaps.shape) if isinstance(heatmaps, Tensor) else f"a {type(heatmaps).__name__}"
    if not isinstance(heatmaps, Tensor) or heatmaps.ndim != 4 or shape[:2] != (count, len(KEYPOINT_NAMES)):
        raise ValueError(
            f"the network's answer is {shape}, it must be heatmaps ({count}, {len(KEYPOINT_NAMES)}, H, W), one per "
            "image and keypoint"
        )
    return heatmaps.float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every part of the model is then in the mode again that it came in."""
    modes = [(module, module.training) for module in model.modules()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


def fuse_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of a network for prediction alone, with each batch normalisation folded into the convolution before it.

    Args:
        model: a network in which the two follow each other in an `nn.Sequential`.

    Returns:
        A network in evaluation mode that answers the same, to rounding, and faster. Its weights lie in memory as
        `channels_last` images do; otherwise torch would copy them at each step, a fifth of a single look's time.
    """
    fused = deepcopy(model).eval()
    for part in fused.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for place, (first, second) in enumerate(pairwise(list(part))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                part[place], part[place + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return fused.eval().to(memory_format=torch.channels_last)  # the new identities, too


def __getattr__(name: str) -> object:
    """`load_model` and `save_model`, which were here before they moved to `handpose_lib.weights`."""
    if name in ("load_model", "save_model"):
        return getattr(import_module("handpose_lib.weights"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
