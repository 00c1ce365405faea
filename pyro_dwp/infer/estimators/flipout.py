"""Flipout: from one draw of the weights, a draw for each example, nearly independent of the others (Wen et al. 2018).

Let w = m + Δ be a draw of q, and s_n ∈ {−1, 1}^I, r_n ∈ {−1, 1}^O random signs of example n. Its weights are

    w_n[o, i] = m[o, i] + r_n[o] s_n[i] Δ[o, i],      each [o, i] a kernel of K^n weights or, in a linear layer, one weight.

*Each example's weights have the distribution q* if kernels are independent of each other and each is as likely as its mirror
image about its mean: then any choice of signs leaves the distribution of Δ unchanged. For n ≠ n′, E[Δ_n Δ_n′ᵀ] = 0, because the
signs are independent with mean 0: the examples are uncorrelated, though not independent.

A layer is linear in its input and in its weights, so the signs can be moved to the channels of input and output,

    y_n = layer(x_n, m) + r_n ∘ layer(x_n ∘ s_n, Δ)

for any stride, padding and dilation: twice the work of a layer. Signs belong to the weight's two axes and not to a layer's input
and output, so that a convolution and a transposed convolution that share a weight, (O, I) in one and (I, O) in the other, see the
same w_n. Groups share the signs of the second axis, which holds the channels of one group. A random bias b = m_b + Δ_b has signs
of its own, b_n = m_b + t_n ∘ Δ_b.

*Unbiased*, for convolutions as for linear layers, in value and gradient, for a data term that is a sum over examples, each a
function of its own weights: a network without batch normalisation, and a loss per scan (the Dice of a scan, not that of a
batch). All positions and all layers that use a weight within one example see the same w_n. A sampled tensor that is not used
as a layer's weight or bias, such as the scale of a normalisation, keeps the draw w that all examples share. A network that uses
a weight in a layer and also, say, its transpose mixes w_n with w: biased.

*Less noise* only in what examples share. For the default U-Net, a mean-field guide at its start and phantoms of 16³ voxels, the
sum of the gradient's variances is 0.9 of the shared sample's with 2 scans in a minibatch and 0.5 with 8, in twice the time.

References:
    Wen, Vicol, Ba, Tran, Grosse 2018, Flipout: Efficient Pseudo-Independent Weight Perturbations on Mini-Batches.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Laplace, LowRankMultivariateNormal, MultivariateNormal, Normal, StudentT

from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.divergence import unwrap
from pyro_dwp.infer.estimators.base import Estimator, Program, SiteGuide
from pyro_dwp.infer.estimators.layers import CONVOLUTIONS, TRANSPOSED, Layer, Layers, Sampled
from pyro_dwp.sites import WeightSite

SYMMETRIC = (Normal, Laplace, StudentT, MultivariateNormal, LowRankMultivariateNormal)
CURE = "Use --estimator shared_sample"


class Flipout(Estimator):
    """A draw of the weights for each example by random signs: unbiased, less noisy, twice the work of a layer.

    For guides whose kernels are independent of each other and symmetric about their means.

    References:
        Wen, Vicol, Ba, Tran, Grosse 2018.

    Example:
        >>> from guides import MeanField
        >>> from models.segmentation import SegmentationModel
        >>> from pyro_dwp.likelihoods import Categorical
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.priors import Gaussian
        >>> model = SegmentationModel(UNet(channels=(2, 4), ndim=2), Gaussian(), Categorical())
        >>> guide = MeanField(model.sites)
        >>> guide.start(lambda: {name: torch.randn(site.shape) for name, site in model.sites.items()}, model.prior)
        >>> program = Flipout()(model, guide)  # for SVI(program, guide, optimiser, elbo)
    """

    def __call__(self, model: Program, guide: Any) -> Program:
        """Return the program that runs the model with its layers replaced; its weights must come from this guide.

        Args:
            model: a Pyro program; the first tensor among its arguments has one entry for each example along its first axis.
            guide: samples the model's weight sites.

        Raises:
            ConfigError: if the kernels of the guide are not independent and symmetric. The program raises it if a layer's
                input does not begin with the examples, or no layer uses a site.
        """
        if not hasattr(guide, "sites") or not hasattr(guide, "distribution"):
            raise ConfigError(
                f"Flipout reads a guide's distribution of each site, but {type(guide).__name__} has no `sites` and "
                f"`distribution(name)`. {CURE}, or one of the guides in guides/."
            )
        for site in guide.sites.values():
            symmetric_distribution(guide, site)

        def program(*args: Any, **kwargs: Any) -> Any:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if not tensors:
                raise ConfigError("Flipout needs a program that is called with a minibatch of images.")
            run = FlipoutRun(guide, len(tensors[0]))
            with Sampled(run), Layers(run):
                result = model(*args, **kwargs)
            run.check()
            return result

        return program


def symmetric_distribution(guide: SiteGuide, site: WeightSite) -> TorchDistribution:
    """Return q of a site without `Independent`.

    Args:
        guide: that q belongs to.
        site: a site of it.

    Raises:
        ConfigError: if q does not have one symmetric distribution for each kernel.
    """
    q = guide.distribution(site.name)
    found = unwrap(q)
    base = unwrap(found.base) if isinstance(found, Reshaped) else found
    kernels = tuple(base.batch_shape[: len(site.batch_shape)])
    if (
        tuple(q.event_shape) != tuple(site.shape)
        or not isinstance(base, SYMMETRIC)
        or kernels != tuple(site.batch_shape)
    ):
        raise ConfigError(
            "Flipout needs kernels that are independent of each other and symmetric about their means, one Gaussian for each, "
            f"but {type(guide).__name__} has a {type(found).__name__} of batch shape {tuple(found.batch_shape)} and event shape "
            f"{tuple(found.event_shape)} at site {site.name!r}. {CURE}, or a guide such as mean_field or kernel_covariance."
        )
    return found


@dataclass
class Draw:
    """The weights of a site in one run of the model.

    Args:
        value: the guide's draw, of the site's shape.
        centre: centre of symmetry m, of the same shape.
        signs: axis of the site → ±1 for each example along it, (B, size); drawn once for all uses of the site.
    """

    value: Tensor
    centre: Tensor
    signs: dict[int, Tensor] = field(default_factory=dict)

    def scale(self, axis: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the signs along an axis of the site, to scale channels with, repeated for the groups of a layer.

        Args:
            axis: of the site.
            like: whose device and dtype they have.
            shape: (B, C, 1, ...) or (B, 1, ..., C).
        """
        size = self.value.shape[axis]
        if axis not in self.signs:
            self.signs[axis] = 2.0 * torch.randint(2, (shape[0], size), device=like.device).to(like.dtype) - 1.0
        return self.signs[axis].repeat(1, max(shape[1:]) // size).reshape(shape)


class FlipoutRun:
    """One run of the model: which tensor is which site's draw, and what layers compute from them.

    Args:
        guide: whose draws the model receives.
        examples: B.
    """

    def __init__(self, guide: SiteGuide, examples: int) -> None:
        self.guide, self.examples = guide, examples
        self.values: dict[int, tuple[str, Tensor]] = {}  # by identity; the tensors are kept, so that no id is reused
        self.draws: dict[str, Draw] = {}

    def note(self, name: str, value: Tensor) -> None:
        """Remember the tensor that the model received at a site."""
        if name in self.guide.sites:
            self.values[id(value)] = (name, value)

    def output(self, layer: Layer, weight: Any, bias: Any) -> Tensor | None:
        """Return layer(x, m) + r ∘ layer(x ∘ s, Δ), plus t ∘ Δ_b for a random bias.

        Args:
            layer: to call.
            weight: given to the layer by the model; if it is not the draw of a site, None is returned.
            bias: random, a point parameter, or None.
        """
        drawn, shift = self._find(weight), self._find(bias)
        if drawn is None:
            return None
        self._check_input(layer, weight)
        output = layer(layer.x, drawn.centre, shift.centre if shift else bias)
        channels = layer.channels(output)
        i, o = (0, 1) if layer.function in TRANSPOSED else (1, 0)
        s = drawn.scale(i, layer.x, layer.channels(layer.x))
        r = drawn.scale(o, output, channels)
        output = output + r * layer(layer.x * s, drawn.value - drawn.centre, None)
        if shift:
            output = output + shift.scale(0, output, channels) * (shift.value - shift.centre).reshape(channels[1:])
        return output

    def check(self) -> None:
        """Raise ConfigError if the weight of a site with kernels reached no layer."""
        unused = [name for name, site in self.guide.sites.items() if len(site.shape) > 1 and name not in self.draws]
        if unused:
            raise ConfigError(
                "Flipout replaces convolutions, transposed convolutions and linear layers, but the weight of site "
                f"{unused[0]!r} reached none as the tensor that was sampled. {CURE}, or a prior that leaves this parameter out."
            )

    def _find(self, value: object) -> Draw | None:
        """Return the draw of the site that a tensor was sampled at, or None."""
        if id(value) not in self.values:
            return None
        name, tensor = self.values[id(value)]
        if name not in self.draws:
            q = symmetric_distribution(self.guide, self.guide.sites[name])
            base = unwrap(q.base) if isinstance(q, Reshaped) else q
            self.draws[name] = Draw(tensor, base.loc.reshape(tensor.shape))
        return self.draws[name]

    def _check_input(self, layer: Layer, weight: Tensor) -> None:
        """Raise ConfigError unless the layer's input begins with the examples."""
        axes = weight.dim() if layer.function in CONVOLUTIONS else max(2, layer.x.dim())
        if layer.x.dim() != axes or layer.x.shape[0] != self.examples:
            raise ConfigError(
                f"Flipout draws noise for each of the {self.examples} examples of a minibatch, so the input of every layer must "
                f"have them as its first axis, but that of site {self.values[id(weight)][0]!r} has shape "
                f"{tuple(layer.x.shape)}. {CURE}, or a network that keeps the examples apart."
            )
