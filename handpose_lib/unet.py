"""A U-Net from an RGB image to one heatmap per keypoint, as told in `notebooks/04_unet.ipynb`.

The shape is that of Ronneberger, Fischer and Brox, "U-Net" (MICCAI 2015), with batch normalisation, padded
convolutions and bilinear upsampling: `width` channels at full resolution, twice as many after each pooling.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from handpose_lib.framing import Framing
from handpose_lib.trusted import built, check_kind, check_tensors, checksum_of, framing_in, numbers_in

SHAPE = ("width", "depth", "num_keypoints")  # what builds a U-Net of the same shape


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

    The output is linear: no sigmoid, whose gradient would vanish on the background that fills a heatmap.
    """

    def __init__(self, width: int = 64, depth: int = 3, num_keypoints: int = 21, framing: Framing | None = None):
        super().__init__()
        if width < 1 or depth < 1 or num_keypoints < 1:
            raise ValueError(
                f"width, depth and num_keypoints must be at least 1, got {width}, {depth}, {num_keypoints}"
            )
        self.width, self.depth, self.num_keypoints = width, depth, num_keypoints
        self.framing = framing or Framing()
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
        # off features of the last block, and the peaks then take some ten times as long to appear.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), float, normalised -> heatmaps (B, num_keypoints, H, W)."""
        multiple = 2**self.depth
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % multiple or images.shape[3] % multiple:
            raise ValueError(
                f"images must be (B, 3, H, W) with H and W multiples of {multiple} "
                f"({self.depth} poolings), got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise TypeError(f"images are {images.dtype}: give normalize(images / 255), see handpose_lib.augment")
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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every part of the model is then in the mode again that it came in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def save_model(model: nn.Module, path: str | Path, half: bool = False, **metadata: Any) -> None:
    """Write a U-Net's weights as safetensors; its shape, framing and `metadata` (JSON values) go into the header.

    `half` stores them in 16 bits: half the size, no difference that a score shows; `load_model` makes float32 again.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the model and prefixes its keys
    header = {name: getattr(model, name) for name in SHAPE} | {"framing": model.framing.to_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    header["checksum"] = checksum_of(tensors)
    save_file(tensors, str(path), {"handpose": json.dumps(header | metadata)})


def load_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[UNet2DHandPose, dict[str, Any]]:
    """The U-Net that `save_model` wrote, in evaluation mode, and its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, damaged, or of a training that failed.
    """
    check_kind(path)
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {})["handpose"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        check_tensors(tensors, header.get("checksum"))
        shape = numbers_in(header, SHAPE, tensors)
        framing = framing_in(header, multiple=2 ** shape["depth"])
        model = built(lambda: UNet2DHandPose(**shape, framing=framing), tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} holds no weights written by save_model ({error}): train again") from error
    return model.eval().to(device), header
