"""A small, fast network: heatmaps at a quarter of the input's resolution, and a second stage that sees all of them.

The encoder is the U-Net's. Its decoder is lighter in three ways: each level is narrowed before levels are joined (by
addition instead of concatenation), it stops at a quarter of the input's resolution, and the place between the pixels is
left to decoding. The second stage sees the heatmaps of all keypoints together, so it can tell which finger each peak
belongs to (Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from handpose_lib.chains import Bones
from handpose_lib.fields import is_whole
from handpose_lib.framing import Framing
from handpose_lib.unet import ConvBlock, UNet2DHandPose, check_images, check_shape


def conv_block(inputs: int, outputs: int, kernel_size: int = 3) -> nn.Sequential:
    """One convolution with batch normalisation and ReLU: (B, inputs, H, W) -> (B, outputs, H, W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class LightDecoder(nn.Module):
    """From the coarsest level up: narrow by a 1x1 convolution, enlarge, add the level's own narrowed features, 3x3.

    Args:
        inputs: channels of the encoder's levels, finest first.
        outputs: channels of the decoder's levels, finest first, one fewer than `inputs`.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]):
        super().__init__()
        below = (*outputs[1:], inputs[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(b, o, 1) for b, o in zip(below, outputs, strict=True))
        self.lateral = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(inputs[:-1], outputs, strict=True))
        self.join = nn.ModuleList(conv_block(o, o) for o in outputs)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Features of all levels, finest first -> features (B, outputs[0], h, w) of the finest."""
        x = levels[-1]
        for level in reversed(range(len(self.join))):
            x = interpolate(self.narrow[level](x), scale_factor=2, mode="bilinear", align_corners=False)
            x = self.join[level](x + self.lateral[level](levels[level]))
        return x


class StackedUNet(nn.Module):
    """One heatmap per keypoint, at a quarter of the input's resolution: (B, 3, H, W) -> (B, num_keypoints, H/4, W/4).

    Args:
        width: channels at half of the input's resolution; `depth` poolings double them each time.
        depth: number of 2x2 poolings after the first convolution, which halves the input; H and W must be multiples
            of `2 ** (depth + 1)`.
        decoder: channels of the decoder at 1/4, 1/8, ... of the input's resolution: `depth - 1` of them.
        refine: channels of the second stage at 1/4, 1/8, ...: two or more; empty for a network of one stage.
        num_keypoints: number of heatmaps.
        framing: how pictures become its input.

    The output is linear, as the U-Net's is.
    """

    stride = 4  # px of the input per px of the heatmaps
    bones: Bones = ()  # of the hands it was trained on, where that is known
    calibration: tuple[float, ...] = ()  # what makes chances of its confidence, where that is known

    def __init__(
        self,
        width: int = 24,
        depth: int = 4,
        decoder: Sequence[int] = (64, 80, 128),
        refine: Sequence[int] = (48, 80, 112),
        num_keypoints: int = 21,
        framing: Framing | None = None,
    ):
        super().__init__()
        check_shape(width, depth, num_keypoints)
        if depth < 2 or len(decoder) != depth - 1 or len(refine) == 1 or not all(map(is_whole, (*decoder, *refine))):
            raise ValueError(
                "depth must be at least 2, decoder must have depth - 1 entries and refine none or at least two, all of "
                f"them whole numbers of at least 1, got {depth}, {decoder} and {refine}"
            )
        self.width, self.depth, self.num_keypoints = width, depth, num_keypoints
        self.decoder_channels, self.refine_channels = tuple(decoder), tuple(refine)
        self.framing = framing or Framing()
        self.heatmap_sigma = 1.25  # px of the heatmaps, of the targets at the end of training
        channels = [width * 2**level for level in range(depth + 1)]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=6, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv_block(width, width),
        )
        self.down = nn.ModuleList(ConvBlock(i, o) for i, o in pairwise(channels))
        self.pool = nn.MaxPool2d(2)
        self.decoder = LightDecoder(channels[1:], self.decoder_channels)
        self.head = nn.Conv2d(decoder[0], num_keypoints, kernel_size=1)
        heads = [self.head]
        if refine:
            self.enter = nn.Sequential(
                conv_block(decoder[0] + num_keypoints, refine[0], kernel_size=1), conv_block(refine[0], refine[0])
            )
            self.again = nn.ModuleList(ConvBlock(i, o) for i, o in pairwise(refine))
            self.decoder2 = LightDecoder(self.refine_channels, self.refine_channels[:-1])
            self.head2 = nn.Conv2d(refine[0], num_keypoints, kernel_size=1)
            heads.append(self.head2)
        for head in heads:  # start from empty heatmaps, as in the U-Net
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def shape(self) -> dict[str, int | list[int]]:
        """The arguments that build a network of the same shape, as JSON values."""
        return {
            "width": self.width, "depth": self.depth, "decoder": list(self.decoder_channels),
            "refine": list(self.refine_channels), "num_keypoints": self.num_keypoints,
        }  # fmt: skip

    def forward(self, images: Tensor, every_stage: bool = False) -> Tensor | list[Tensor]:
        """Heatmaps (B, num_keypoints, H/4, W/4) of images (B, 3, H, W), float, normalised.

        With `every_stage` those of each stage, first to last, all of which the loss looks at.
        """
        check_images(images, 2 ** (self.depth + 1), self.depth)
        x = self.stem(images)  # (B, width, H / 2, W / 2)
        levels = []
        for block in self.down:
            x = block(self.pool(x))  # (B, width * 2**k, H / 2**(k + 1), W / 2**(k + 1))
            levels.append(x)
        features = self.decoder(levels)  # (B, decoder[0], H / 4, W / 4)
        stages = [self.head(features)]
        if self.refine_channels:
            levels = [self.enter(torch.cat((features, stages[0]), dim=1))]
            for block in self.again:
                levels.append(block(self.pool(levels[-1])))
            stages.append(self.head2(self.decoder2(levels)))
        return stages if every_stage else stages[-1]

    @torch.no_grad()
    def start_from_unet(self, unet: UNet2DHandPose) -> None:
        """Take over the encoder of a trained U-Net of the same width and depth, for images of twice its side.

        The U-Net's 3x3 convolution on the mean of 2x2 pixels is one 6x6 convolution of stride 2.

        Raises:
            ValueError: the U-Net has another width or depth.
        """
        if (unet.width, unet.depth) != (self.width, self.depth):
            raise ValueError(
                f"the U-Net has width {unet.width} and depth {unet.depth}, this network {self.width} and {self.depth}: "
                "make them the same"
            )
        first = unet.down[0]
        self.stem[0].weight.copy_(first[0].weight.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4)
        self.stem[1].load_state_dict(first[1].state_dict())
        for ours, theirs in ((0, 3), (1, 4)):
            self.stem[3][ours].load_state_dict(first[theirs].state_dict())
        for ours, theirs in zip(self.down, list(unet.down)[1:], strict=True):
            ours.load_state_dict(theirs.state_dict())
