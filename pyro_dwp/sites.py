"""Weight sites: which weights of a network are random variables, and how the network runs on given values of them.

The *site name* is the contract between network, prior and guide: it is the name of the weight in the network's
`state_dict`, such as ``down1.conv_1.weight``. Neither prior nor guide sees the network; the network sees neither.

Axis letters: O I output and input channels, K edge of a kernel, B batch, C channel, D H W voxels.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_dwp.errors import ConfigError, suggest

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class WeightSite:
    """The kernels of one convolution: a batch of (O, I) kernels, each an event of K^n weights.

    Args:
        name: name of the weight in the network's state_dict, and of the sample site in Pyro.
        shape: shape of the weight, (O, I, K, ..., K); (I, O, K, ..., K) for a transposed convolution.
        group: name of the group of layers that share one kernel prior.
    """

    name: str
    shape: torch.Size
    group: str

    @property
    def batch_shape(self) -> torch.Size:
        """Channels, (O, I)."""
        return self.shape[:2]

    @property
    def kernel_shape(self) -> torch.Size:
        """Edges of one kernel, (K, ..., K)."""
        return self.shape[2:]

    @property
    def num_kernels(self) -> int:
        """O · I."""
        return self.batch_shape.numel()


def weight_sites(network: nn.Module, groups: Mapping[str, str] | None = None) -> dict[str, WeightSite]:
    """List the convolution weights with more than one voxel per kernel, in the network's order.

    1-voxel convolutions, biases and normalisation parameters stay point parameters, as in the paper.

    Args:
        network: any module; its `kernel_groups()`, where it has that method, is used if `groups` is None.
        groups: site name → group of kernels. A network without groups has one group for each kernel shape.

    Returns:
        Site name → site.

    Raises:
        ConfigError: if no convolution has such a weight, a site has no group, or a group names no site.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> sites = weight_sites(UNet())
        >>> len(sites), sum(site.num_kernels for site in sites.values())
        (19, 26640)
        >>> sites["up1.conv_1.weight"]
        WeightSite(name='up1.conv_1.weight', shape=torch.Size([32, 32, 3, 3, 3]), group='5')
    """
    shapes = {
        f"{prefix}.weight" if prefix else "weight": module.weight.shape
        for prefix, module in network.named_modules()
        if isinstance(module, CONVOLUTIONS) and module.weight.shape[2:].numel() > 1
    }
    if not shapes:
        raise ConfigError(
            f"A Bayesian network needs a convolution whose kernels have more than one voxel, but {type(network).__name__} "
            "has none. Use another network, or train this one by point estimation."
        )
    if groups is None:
        kernel_groups = getattr(network, "kernel_groups", None)
        groups = kernel_groups() if kernel_groups else {n: "x".join(map(str, s[2:])) for n, s in shapes.items()}
    if missing := sorted(set(shapes) - set(groups)):
        raise ConfigError(
            f"Every weight site needs a group of kernels, but {missing[0]} has none. Add it to the groups of "
            f"{type(network).__name__}; those present are {sorted(set(groups.values()))}."
        )
    if unknown := sorted(set(groups) - set(shapes)):
        raise ConfigError(f"The groups name {unknown[0]!r}, which is no weight site. {suggest(unknown[0], shapes)}")
    return {name: WeightSite(name, shape, groups[name]) for name, shape in shapes.items()}


def declared(network: nn.Module, attribute: str) -> int:
    """Return a number that a network says of itself: `classes` of its output, or `in_channels` of its input.

    Raises:
        ConfigError: if it does not.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> declared(UNet(), "classes")
        2
    """
    value = getattr(network, attribute, None)
    if not isinstance(value, int):
        raise ConfigError(
            f"A segmentation network has the attributes `classes` and `in_channels`, but {type(network).__name__} has no "
            f"`{attribute}`. Set self.{attribute} in its constructor."
        )
    return value


class LiftedNetwork(nn.Module):
    """A copy of a network that takes the weights of its sites as an argument; the original is unchanged.

    The copy's own parameters are those that stay point parameters; the weights at sites are not among them.

    Args:
        network: the network to copy.
        sites: its weight sites, as from `weight_sites`.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> network = UNet(channels=(2, 4), ndim=2)
        >>> lifted = LiftedNetwork(network, weight_sites(network))
        >>> weights = {name: network.get_parameter(name) for name in lifted.sites}
        >>> image = torch.randn(1, 1, 8, 8)
        >>> bool((lifted(weights, image) == network(image)).all())
        True
    """

    def __init__(self, network: nn.Module, sites: Mapping[str, WeightSite]) -> None:
        super().__init__()
        self.sites = dict(sites)
        self.network = copy.deepcopy(network)
        for name in sites:
            prefix, _, leaf = name.rpartition(".")
            module = self.network.get_submodule(prefix)
            value = module.get_parameter(leaf).detach()
            delattr(module, leaf)
            # A buffer keeps the layer callable and follows .to(); it is replaced in every call and never saved.
            module.register_buffer(leaf, value.new_zeros(()).expand(value.shape), persistent=False)

    def forward(self, weights: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the network's output with these weights at its sites.

        Args:
            weights: site name → weight of the site's shape; every site must be given.
            image: (B, C, D, H, W) or (B, C, H, W).

        Raises:
            ConfigError: if a site has no weight, or one of another shape.
        """
        for name, site in self.sites.items():
            found = weights[name].shape if name in weights else None
            if found != site.shape:
                raise ConfigError(
                    f"The network needs a weight of shape {tuple(site.shape)} at site {name!r}, but received "
                    f"{'none' if found is None else tuple(found)}. Check what the guide returns for this site."
                )
        return functional_call(self.network, dict(weights), (image,))
