"""The fully convolutional network of Long, Shelhamer and Darrell (2015) on VGG-16, with skips from strides 16 and 8 (FCN-8s).

    conv1 ─ conv2 ─ conv3 ─ conv4 ─ conv5 ─ fc6 ─ fc7 ─ score ─ ×2 ─(+)─ ×2 ─(+)─ ×8 ─▶ logits
                      │       │                                      │        │
                      │       └── score4 ────────────────────────────┘        │
                      └────────── score3 ─────────────────────────────────────┘

Each of the five blocks ends in a maximum over 2 x 2 voxels, so that fc6 sees the image at stride 32. The paper starts from VGG-16
trained on ImageNet, whose authors in turn had started from a shallower network; here, training starts from a random draw. Hence:

- Group normalisation (8 groups, no parameters) before every ReLU. It depends on no other image of a batch and, unlike
  instance normalisation, on more than one voxel even where a small image has shrunk to one.
- Upsampling is bilinear and fixed; in the paper it is learned, from a bilinear start.
- Images are padded to multiples of 32 voxels, not by 100 voxels at each edge, and there is no dropout.

Axis letters: B batch, C channel, D H W voxels; an image has the axes D and H.
"""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.slices import slice_by_slice

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block of VGG-16
WIDTHS = (1, 2, 4, 8, 8)  # of its blocks, in units of the first one's
HEAD = 64  # width of fc6 and fc7, in the same unit
STRIDE = 2 ** len(WIDTHS)
GROUPS = 8


def activate(x: Tensor) -> Tensor:
    """Normalise each group of channels of each image to mean 0 and variance 1, then apply ReLU: (B, C, D, H) → (B, C, D, H)."""
    return F.relu_(F.group_norm(x, math.gcd(GROUPS, x.shape[1])))


class FCN(nn.Module):
    """FCN-8s on a VGG-16 encoder, for slices; a volume is segmented slice by slice.

    With a width of 64 it has the 134 million parameters of the original, three quarters of them in fc6.

    Args:
        in_channels: C of the image, e.g. the number of MRI sequences.
        classes: C of the output, background included.
        width: channels of the first block; the blocks have 1, 2, 4, 8 and 8 times as many, and fc6 and fc7 64 times.

    Raises:
        ConfigError: if a number is outside its range.

    References:
        Long, Shelhamer, Darrell 2015, Fully Convolutional Networks for Semantic Segmentation. Simonyan, Zisserman 2015, Very Deep
        Convolutional Networks (VGG-16). Wu, He 2018, Group Normalization.

    Example:
        >>> import torch
        >>> network = FCN(in_channels=4, classes=3, width=2)
        >>> network(torch.zeros(1, 4, 40, 33)).shape, network(torch.zeros(1, 4, 40, 33, 5)).shape
        (torch.Size([1, 3, 40, 33]), torch.Size([1, 3, 40, 33, 5]))
    """

    ndim = 2

    @checked
    def __init__(
        self,
        in_channels: Annotated[int, Ge(1), Le(4096)] = 1,
        classes: Annotated[int, Ge(2), Le(4096)] = 2,
        width: Annotated[int, Ge(1), Le(64)] = 64,
    ) -> None:
        super().__init__()
        self.in_channels, self.classes, self.width = in_channels, classes, width
        inputs = in_channels
        for block, (count, factor) in enumerate(zip(CONVOLUTIONS, WIDTHS, strict=True), start=1):
            for number in range(1, count + 1):
                self.add_module(f"conv{block}_{number}", _convolution(inputs, width * factor, 3))
                inputs = width * factor
        self.fc6 = _convolution(inputs, HEAD * width, 7)
        self.fc7 = _convolution(HEAD * width, HEAD * width, 1)
        self.score = _convolution(HEAD * width, classes, 1)
        self.score4 = _convolution(width * WIDTHS[3], classes, 1)
        self.score3 = _convolution(width * WIDTHS[2], classes, 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the features of each block after its pooling, finest first.

        Args:
            x: image whose edges are multiples of 32, (B, C, D, H).

        Returns:
            Five tensors, at strides 2 to 32.
        """
        features = []
        for block, count in enumerate(CONVOLUTIONS, start=1):
            for number in range(1, count + 1):
                x = activate(self.get_submodule(f"conv{block}_{number}")(x))
            features.append(x := F.max_pool2d(x, 2))
        return features

    @slice_by_slice
    def forward(self, x: Tensor) -> Tensor:
        """Return logits on the grid of the image.

        Args:
            x: image, (B, in_channels, D, H), or volume, (B, in_channels, D, H, W).

        Returns:
            Logits, (B, classes, D, H) or (B, classes, D, H, W).

        Raises:
            ConfigError: if the image has another number of channels or axes.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ConfigError(
                f"This FCN takes images of 4 axes (batch, {self.in_channels} channel(s), 2 spatial) or volumes of 5, but "
                f"received shape {tuple(x.shape)}. Set in_channels to that of the images."
            )
        grid = x.shape[2:]
        padding = [extra for edge in reversed(grid) for extra in (0, -edge % STRIDE)]
        *_, stride_8, stride_16, stride_32 = self.encode(F.pad(x, padding, mode="replicate") if any(padding) else x)
        scores = self.score(activate(self.fc7(activate(self.fc6(stride_32)))))
        scores = _upsample(scores, 2) + self.score4(stride_16)
        scores = _upsample(scores, 2) + self.score3(stride_8)
        return _upsample(scores, 8)[..., : grid[0], : grid[1]]

    def kernel_groups(self) -> dict[str, str]:
        """Map each 3-voxel convolution's weight to its group, the block that it is in, and fc6 to a group of its own.

        Example:
            >>> groups = FCN(width=1).kernel_groups()
            >>> len(groups), groups["conv1_2.weight"], groups["conv5_3.weight"], groups["fc6.weight"]
            (14, '1', '5', '6')
        """
        blocks = enumerate(CONVOLUTIONS, start=1)
        groups = {f"conv{block}_{i}.weight": str(block) for block, count in blocks for i in range(1, count + 1)}
        return groups | {"fc6.weight": "6"}


def _convolution(in_channels: int, out_channels: int, size: int) -> nn.Conv2d:
    """Return a convolution that keeps the grid, with He initialisation and a bias of 0."""
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    layer.bias = nn.Parameter(torch.zeros(out_channels))
    return layer


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
