"""The residual U-Net of Kuzina, Egorov and Burnaev (2019), in two and three dimensions.

The encoder has one strided and one plain residual block per level; the decoder adds the skip connection
instead of concatenating it. No convolution has a bias and no normalisation has parameters, so that all a
network learns is its kernels. Every convolution but the first is preceded by instance normalisation and ReLU.

Axis letters: B batch, C channel, D H W voxels, O I output and input channels.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.layers import Mix2d, Mix3d, activate, join
from pyro_dwp.nn.recompute import Recomputing
from pyro_dwp.nn.slices import slice_by_slice

Channels = Annotated[int, Ge(1), Le(4096)]

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
PROJECTIONS = {2: Mix2d, 3: Mix3d}  # of 1-voxel kernels


def convolution(ndim: int, in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> nn.Module:
    """Return a convolution without bias, padded so that stride 1 keeps the grid, with He initialisation.

    Args:
        ndim: spatial dimensions, 2 or 3.
        in_channels: I.
        out_channels: O.
        size: edge of the kernel, in voxels; odd.
        stride: step of the kernel, in voxels.
    """
    kind = (CONVOLUTIONS if size > 1 else PROJECTIONS)[ndim]
    layer = kind(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class DownBlock(nn.Module):
    """Residual block of the encoder: two 3-voxel convolutions, the first of which may halve the grid.

    Where the block strides, the shortcut is a 1-voxel projection (`down`); elsewhere it is the identity.
    """

    def __init__(self, ndim: int, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = convolution(ndim, in_channels, out_channels, stride=stride)
        self.conv_2 = convolution(ndim, out_channels, out_channels)
        self.down = convolution(ndim, in_channels, out_channels, size=1, stride=stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return features on the same grid, or half of it: (B, I, ...) → (B, O, ...)."""
        active = activate(x)
        shortcut = x if self.down is None else self.down(active)
        return self.conv_2(activate(self.conv_1(active))).add_(shortcut)


class UpBlock(nn.Module):
    """Block of the decoder: channel reduction, linear interpolation ×2, plus skip, two residual convolutions."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = convolution(ndim, in_channels, out_channels, size=1)
        self.conv_1 = convolution(ndim, out_channels, out_channels)
        self.conv_2 = convolution(ndim, out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return features on the grid of the skip connection, (B, O, ...).

        Args:
            x: features on a grid half as fine, (B, I, ...).
            skip: of the encoder, (B, O, ...).
        """
        x = join(self.reduce(activate(x)), skip)
        return self.conv_2(activate(self.conv_1(activate(x)))).add_(x)


class UNet(nn.Module):
    """Residual U-Net without biases; the defaults are the paper's network.

    Grids whose edges are not multiples of 2^levels are padded with the edge values, and the output is cropped back.

    Args:
        in_channels: C of the image, e.g. the number of MRI sequences.
        classes: C of the output, background included.
        channels: width of the full-resolution stem, then of each level below it. Four widths are three levels.
        ndim: 3 for volumes; 2 for images, and for volumes whose slices across the last axis are segmented one by one.
        recompute: whether the backward pass computes activations again instead of keeping them (activation checkpointing):
            less memory and more time, for volumes that would not fit otherwise.

    Raises:
        ConfigError: if `ndim` is neither 2 nor 3, `channels` has fewer than two widths, or a number is outside its range.

    References:
        Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, figure 2.

    Example:
        >>> import torch
        >>> network = UNet()
        >>> sum(p.numel() for p in network.parameters())
        726480
        >>> UNet(channels=(4, 8), ndim=2)(torch.zeros(1, 1, 10, 7)).shape
        torch.Size([1, 2, 10, 7])
    """

    @checked
    def __init__(
        self,
        in_channels: Channels = 1,
        classes: Annotated[int, Ge(2), Le(4096)] = 2,
        channels: Annotated[Sequence[Channels], MinLen(2), MaxLen(12)] = (16, 32, 32, 64),
        ndim: Literal[2, 3] = 3,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.in_channels, self.classes, self.channels, self.ndim = in_channels, classes, tuple(channels), ndim
        self.levels = len(channels) - 1
        self.init_conv = convolution(ndim, in_channels, channels[0])
        for level in range(self.levels):
            self.add_module(f"down{2 * level + 1}", DownBlock(ndim, channels[level], channels[level + 1], stride=2))
            self.add_module(f"down{2 * level + 2}", DownBlock(ndim, channels[level + 1], channels[level + 1], stride=1))
        for step in range(self.levels):
            below, above = channels[self.levels - step], channels[self.levels - step - 1]
            self.add_module(f"up{step + 1}", UpBlock(ndim, below, above))
        self.final_conv = convolution(ndim, channels[0], classes, size=1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the features at each resolution, finest first.

        Args:
            x: image whose edges are multiples of 2^levels, (B, C, D, H, W) or (B, C, H, W).

        Returns:
            levels + 1 tensors; the last is the bottleneck.
        """
        features = [self.init_conv(x)]
        for level in range(self.levels):
            x = self.get_submodule(f"down{2 * level + 1}")(features[-1])
            features.append(self.get_submodule(f"down{2 * level + 2}")(x))
        return features

    @slice_by_slice
    def forward(self, x: Tensor) -> Tensor:
        """Return logits on the grid of the image.

        Args:
            x: image, (B, in_channels, D, H, W); where ndim is 2 also (B, in_channels, H, W).

        Returns:
            Logits, (B, classes, D, H, W) or (B, classes, H, W).

        Raises:
            ConfigError: if the image has another number of channels or axes, or is a single voxel at the bottom.
        """
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            raise ConfigError(
                f"This U-Net takes images of {self.ndim + 2} axes (batch, {self.in_channels} channel(s), "
                f"{self.ndim} spatial), but received shape {tuple(x.shape)}. Set in_channels and ndim to those of the images."
            )
        grid = x.shape[2:]
        if max(grid) <= 2**self.levels:
            raise ConfigError(
                f"A U-Net with {self.levels} levels needs an image with an edge above {2**self.levels} voxels, so that more "
                f"than one voxel is left to normalise at the bottom, but received a grid of {tuple(grid)}. Use a finer grid, "
                "or fewer levels (channels)."
            )
        padding = [extra for edge in reversed(grid) for extra in (0, -edge % 2**self.levels)]
        with Recomputing(activate, join) if self.recompute else nullcontext():
            *skips, x = self.encode(F.pad(x, padding, mode="replicate") if any(padding) else x)
            for step, skip in enumerate(reversed(skips)):
                x = self.get_submodule(f"up{step + 1}")(x, skip)
        logits = self.final_conv(activate(x))  # the backward pass begins here, and would compute it again at once
        return logits[(..., *(slice(edge) for edge in grid))]

    def kernel_groups(self) -> dict[str, str]:
        """Map each 3-voxel convolution's weight to its group: layers that see the same resolution on the same side.

        The default network has the paper's seven groups, "1" (full resolution, encoder) to "7" (full resolution,
        decoder).

        Example:
            >>> groups = UNet().kernel_groups()
            >>> groups["down1.conv_1.weight"], groups["down1.conv_2.weight"], groups["up3.conv_2.weight"]
            ('1', '2', '7')
        """
        groups = {"init_conv.weight": "1"}
        for level in range(self.levels):
            groups[f"down{2 * level + 1}.conv_1.weight"] = str(level + 1)
            for name in (f"down{2 * level + 1}.conv_2", f"down{2 * level + 2}.conv_1", f"down{2 * level + 2}.conv_2"):
                groups[f"{name}.weight"] = str(level + 2)
        for step in range(self.levels):
            for conv in ("conv_1", "conv_2"):
                groups[f"up{step + 1}.{conv}.weight"] = str(self.levels + 2 + step)
        return groups
