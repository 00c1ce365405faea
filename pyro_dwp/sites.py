"""Weight sites: which weights of a network are random variables, and how the network runs with given values of them.

The *site name* is the contract between network, prior and guide: it is the name of the weight in the network's
`state_dict`, such as ``down1.conv_1.weight``. Neither prior nor guide sees the network, and the network sees neither.

Axis letters: O I output and input channels, K edge of a kernel, B batch, C channel, D H W voxels.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.nn.computing import PLAIN, Computing

Start = Callable[[], Mapping[str, Tensor]]
"""Returns weights that a guide may start from, site name → weight; each call may return others."""


def module_key(name: str) -> str:
    """Turn any string into a name that torch accepts for a module or parameter, which may not contain a dot.

    The string is percent-encoded, dots included, so that different strings have different names.

    Example:
        >>> module_key("up1.conv_1.weight"), module_key("a/b")
        ('up1%2Econv_1%2Eweight', 'a%2Fb')
    """
    return quote(name, safe="").replace(".", "%2E")


@dataclass(frozen=True)
class WeightSite:
    """A parameter of a network as a random variable: a batch of kernels, each an event of K^n weights.

    A convolution's weight is a batch of (O, I) kernels. A bias is a batch of O kernels of one weight, with event shape ();
    the weight of a linear layer a batch of (O, I) such kernels.

    Args:
        name: of the parameter in the network's state_dict, and of the sample site in Pyro.
        shape: of the parameter: (O, I, K, ..., K) for a convolution, (I, O, K, ..., K) for a transposed one, (O, I) for a
            linear layer, (O,) for a bias.
        group: name of the group of layers that share one kernel prior.
        layer: names of the layer's class and of its base classes, such as ("Conv3d", "_ConvNd").
        fan_in: number of inputs to each output of the layer; 0 takes that of `shape`, I · K^n.
    """

    name: str
    shape: torch.Size
    group: str
    layer: tuple[str, ...] = field(default=(), repr=False)
    fan_in: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if not self.fan_in:
            object.__setattr__(self, "fan_in", self.shape[1:].numel())

    @property
    def batch_shape(self) -> torch.Size:
        """Channels: (O, I), or (O,) for a bias."""
        return self.shape[:2]

    @property
    def kernel_shape(self) -> torch.Size:
        """Edges of one kernel, (K, ..., K); () for a bias and a linear layer."""
        return self.shape[2:]

    @property
    def num_kernels(self) -> int:
        """O · I."""
        return self.batch_shape.numel()


Sites = Mapping[str, WeightSite]


def is_spatial_convolution(site: WeightSite) -> bool:
    """Tell whether a site is a convolution whose kernels have more than one voxel: Bayesian in the paper."""
    return site.kernel_shape.numel() > 1 and (not site.layer or "_ConvNd" in site.layer)


def weight_sites(
    network: nn.Module,
    groups: Mapping[str, str] | None = None,
    expose: Callable[[WeightSite], bool] = is_spatial_convolution,
) -> dict[str, WeightSite]:
    """List the parameters of a network that are random variables, in the network's order.

    By default these are the weights of convolutions whose kernels have more than one voxel; 1-voxel convolutions, biases
    and normalisation parameters stay point parameters, as in the paper. A frozen parameter, which requires no gradient, is not
    a site.

    Args:
        network: any module; its `kernel_groups()`, where it has that method, is used if `groups` is None.
        groups: site name → group of kernels. Without groups there is one for each kernel shape. 1-voxel kernels, biases and
            linear layers that `groups` leaves out are grouped in the same way: "1x1x1", "bias", "Linear".
        expose: tells whether a parameter of the network is a random variable.

    Returns:
        Site name → site.

    Raises:
        ConfigError: if there is no such site, a kernel of more than one voxel has no group, or `groups` names an unknown site.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> sites = weight_sites(UNet())
        >>> len(sites), sum(site.num_kernels for site in sites.values())
        (19, 26640)
        >>> sites["up1.conv_1.weight"]
        WeightSite(name='up1.conv_1.weight', shape=torch.Size([32, 32, 3, 3, 3]), group='5')
        >>> everything = weight_sites(UNet(), expose=lambda site: True)
        >>> len(everything), everything["up1.reduce.weight"].group
        (26, '1x1x1')
    """
    if groups is None:
        kernel_groups = getattr(network, "kernel_groups", None)
        groups = kernel_groups() if kernel_groups else None
    candidates = {site.name: site for site in _candidates(network, groups or {})}
    sites = {
        name: site for name, site in candidates.items() if expose(site) and network.get_parameter(name).requires_grad
    }
    if not sites:
        raise ConfigError(
            "A Bayesian network needs at least one random parameter, by default a convolution whose kernels have more than one "
            f"voxel, but {type(network).__name__} has none. Use another network, or expose other parameters by rules "
            "(--prior assigned)."
        )
    if groups is not None and (
        missing := sorted(n for n, site in sites.items() if is_spatial_convolution(site) and n not in groups)
    ):
        raise ConfigError(
            f"Every weight site belongs to a group of kernels, but {missing[0]} has none. Add it to the groups of "
            f"{type(network).__name__}, which are {sorted(set(groups.values()))}."
        )
    if unknown := sorted(set(groups or {}) - set(candidates)):
        raise ConfigError(
            f"The groups name {unknown[0]!r}, but no parameter has this name. {suggest(unknown[0], candidates)}"
        )
    return sites


def _candidates(network: nn.Module, groups: Mapping[str, str]) -> Iterator[WeightSite]:
    """List every parameter of a network as a site, whether random or not."""
    for prefix, module in network.named_modules():
        layer = tuple(base.__name__ for base in type(module).__mro__ if base not in (nn.Module, object))
        weight = getattr(module, "weight", None)
        fan_in = _fan_in(module, weight) if isinstance(weight, Tensor) and weight.dim() > 1 else 1
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            kind = "x".join(map(str, parameter.shape[2:])) or layer[0] if leaf == "weight" and layer else leaf
            yield WeightSite(name, parameter.shape, groups.get(name, kind), layer, fan_in)


def _fan_in(module: nn.Module, weight: Tensor) -> int:
    """Return I · K^n for one output channel; a transposed convolution keeps its input channels on the first axis."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight.shape[0] // module.groups * weight.shape[2:].numel()
    return weight.shape[1:].numel()


def required_attribute(network: nn.Module, attribute: str) -> int:
    """Return a number that a segmentation network must declare: `classes` of its output, or `in_channels` of its input.

    Args:
        network: any module.
        attribute: "classes" or "in_channels".

    Raises:
        ConfigError: if the network has no such attribute.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> required_attribute(UNet(), "classes")
        2
    """
    value = getattr(network, attribute, None)
    if not isinstance(value, int):
        raise ConfigError(
            f"A segmentation network has the attributes `classes` and `in_channels`, but {type(network).__name__} has no "
            f"`{attribute}`. Set self.{attribute} in its constructor."
        )
    return value


def classes_and_channels(network: nn.Module) -> tuple[int, int]:
    """Return the classes of a segmentation network's output and the channels of its input.

    Raises:
        ConfigError: if it lacks one of the attributes `classes` and `in_channels`.
    """
    return required_attribute(network, "classes"), required_attribute(network, "in_channels")


class FunctionalNetwork(nn.Module):
    """A copy of a network that takes the weights of its sites as an argument; the original is unchanged.

    The copy's own parameters are the point parameters; the weights at sites are not among them.

    Args:
        network: the network to copy.
        sites: its weight sites, as from `weight_sites`.
        computing: how the network computes.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> network = UNet(channels=(2, 4), ndim=2)
        >>> functional = FunctionalNetwork(network, weight_sites(network))
        >>> weights = {name: network.get_parameter(name) for name in functional.sites}
        >>> image = torch.randn(1, 1, 8, 8)
        >>> bool((functional(weights, image) == network(image)).all())
        True
    """

    def __init__(self, network: nn.Module, sites: Mapping[str, WeightSite], computing: Computing = PLAIN) -> None:
        super().__init__()
        self.sites, self.computing = dict(sites), computing
        self.network = computing.prepare(copy.deepcopy(network))
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
                    f"{'none' if found is None else tuple(found)}. Check what the guide samples there."
                )
        return self.computing.run(lambda x: functional_call(self.network, dict(weights), (x,)), image)
