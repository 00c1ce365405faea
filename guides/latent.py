"""A posterior in the latent space of an implicit prior: w = decoder(z) + noise, z Gaussian (Atanov et al. 2018).

For each kernel k of a site, with the moments (μ_φ, σ_φ) of a frozen p(w|z), as a deep weight prior's decoder gives them,

    z_k ~ q(z_k) = N(m_k, diag s_k²),      w_k | z_k ~ q(w|z) = N( μ_φ(z_k), (f σ_φ(z_k))² )

with L means m and L scales s to learn for each kernel, and one factor f for each site. The posterior can move only where source
kernels lie; with f = 1, m = 0 and s = 1 it is that prior.

*The bound.* q(w) = ∫ q(w|z) q(z) dz has no density, but its negative entropy has an upper bound with any r(z|w)
(Salimans, Kingma, Welling 2015; Ranganath, Tran, Blei 2016):

    E_q(w) log q(w) = E_q(z,w)[ log q(z) + log q(w|z) − log r(z|w) ] − E_q(w) KL( q(z|w) ‖ r(z|w) )

because q(z|w) = q(z) q(w|z) / q(w). So the loss, with the bracket in place of log q(w), exceeds −ELBO by the last term, the
gap, and equals it where r is q's own posterior of z. In Pyro z is an auxiliary site `NAME.latent`, and −log r(z|w) the factor
`NAME.reverse`.

*The reverse model.* r knows what the guide knows of the kernel, and learns only what w adds: Bayes' rule with an encoder e_ψ as
likelihood,

    r(z_k|w_k) ∝ q(z_k) · N( z_k; μ_ψ(w_k), σ_ψ(w_k)² ),      a Gaussian

ψ starts at the encoder stored with the decoder, one copy for each group, and is trained with the rest. It can be exact where
the decoder is linear and σ_φ constant. An encoder alone, N(z; μ_ψ(w), σ_ψ(w)²), would not know m and s: for the prior that ships
with this package its gap is 30 to 37 nats for each kernel at the start of inference, while that of this r is 0.4 to 1.6.

Axis letters: O I channels, K edge of a kernel, L latent.

References:
    Atanov, Ashukha, Struminsky, Vetrov, Welling 2018, The Deep Weight Prior, arXiv:1810.06943.
    Ranganath, Tran, Blei 2016, Hierarchical Variational Models.
    Salimans, Kingma, Welling 2015, Markov Chain Monte Carlo and Variational Inference: Bridging the Gap.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from guides.base import Guide
from guides.decoded import DecodedKernels
from pyro_dwp.checks import checked
from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors import DeepWeight, GroupDensity, Prior
from pyro_dwp.priors.density import density_class
from pyro_dwp.sites import Start, WeightSite


class Latent(Guide):
    """Gaussian in the latent space of an implicit prior: kernels are decoded, plus noise.

    The decoders are copied into the guide and frozen, so that its state is complete: loading it needs neither prior nor file.

    The guide starts at the start weights, encoded and decoded again; what the decoder takes for noise is lost. Weights whose root
    mean square exceeds that of the decoder's kernels are first shrunk to it, which hardly matters under instance normalisation.
    With the prior that ships with this package, weights drawn from it lose 21 % to 45 % of their root mean square, by group, and
    He's random weights, which look like no source kernel, 76 % to 94 %: start from the prior or from a source network.

    Args:
        sites: site name → site.
        path: a deep weight prior saved by `run/train_prior.py`, whose decoders are used; None uses those of the model's prior.
        relative_scale: initial noise f σ_φ, as a fraction of the root mean square of a site's start weights.
        latent_scale: initial s, as a fraction of the encoder's standard deviations at the start.

    References:
        Atanov et al. 2018, section 3. Ranganath, Tran, Blei 2016.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> name = "down1.conv_1.weight"
        >>> guide = Latent({name: weight_sites(UNet())[name]})
        >>> guide.start(lambda: {name: 0.02 * torch.randn(32, 16, 3, 3, 3)}, DeepWeight())
        >>> guide()[name].shape, guide.parameter("latent_mean", name).shape
        (torch.Size([32, 16, 3, 3, 3]), torch.Size([32, 16, 16]))
    """

    @checked
    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        path: Path | None = None,
        relative_scale: PositiveFloat = 0.1,
        latent_scale: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(sites)
        self.path, self.relative_scale, self.latent_scale = path, relative_scale, latent_scale
        self.built: dict[str, Any] = {"densities": [], "sites": {}}
        self.register_load_state_dict_pre_hook(_build_first)

    def start(self, draw: Start, prior: Prior) -> None:
        """Copy the decoders, then encode start weights.

        Args:
            draw: returns start weights, site name → weight; called once.
            prior: of the model; its decoders are used unless the guide has a `path`.

        Raises:
            ConfigError: if a site has no decoder, or a start weight cannot be used.
            CheckpointError: if the file cannot be read.
        """
        weights = self.checked_start(draw())
        source = prior if self.path is None else DeepWeight(self.path)
        found = {name: _density(source, site) for name, site in self.sites.items()}
        densities = list(dict.fromkeys(found.values()))
        self._build(
            {
                "densities": [_description(density) for density in densities],
                "sites": {name: densities.index(density) for name, density in found.items()},
            }
        )
        for name, density in found.items():
            self.density(name).load_state_dict(density.state_dict())
        super().start(lambda: weights, prior)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the decoders are built from, JSON-able."""
        return self.built

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Build empty decoders and parameters for a state, unless the guide has them.

        Raises:
            CheckpointError: if the guide has other decoders or sites, or the state does not describe any.
        """
        if state == self.built:
            return
        try:
            if self.built["sites"] or list(state["sites"]) != list(self.sites):
                raise ValueError("it is for other sites, or for other decoders than the guide has")
            self._build(state)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise CheckpointError(
                f"This state does not fit the latent guide ({problem}). Load it into a guide over the sites of its own run that "
                "has not been started."
            ) from problem

    def _build(self, state: dict[str, Any]) -> None:
        for number, description in enumerate(state["densities"]):
            settings = dict(description)
            density = density_class(settings.pop("family"))(**settings)
            density.requires_grad_(False).eval()  # in training mode Pyro warns about frozen parameters
            density.get_submodule("encoder").requires_grad_(True)
            self.add_module(f"density_{number}", density)
        self.built = state
        for name, site in self.sites.items():
            latent = (*site.batch_shape, self._implicit(name).latent_dim)
            self.create("latent_mean", name, latent)
            self.create("latent_log_scale", name, latent)
            self.create("log_noise", name, ())

    @torch.no_grad()
    def start_site(self, name: str, weight: Tensor) -> None:
        """Encode the start weight; it is shrunk first if it is larger than the kernels that the encoder was trained on."""
        encoder = self.density(name).get_submodule("encoder")
        size = getattr(encoder, "kernel_scale", math.inf)
        weight = weight * (size / weight.square().mean().sqrt()).clamp(max=1)
        scale = self.initial_scale(name, weight, self.relative_scale)
        mean, log_scale = encoder(weight.flatten(2))
        noise = self._implicit(name).conditional(mean).variance.mean().sqrt()
        self.fill("latent_mean", name, mean)
        self.fill("latent_log_scale", name, log_scale.clamp(max=0) + math.log(self.latent_scale))
        self.fill("log_noise", name, (scale / noise).log())

    def density(self, name: str) -> GroupDensity:
        """Return the guide's copy of a site's density: its decoder is frozen, its encoder is the reverse model's."""
        found: GroupDensity = getattr(self, f"density_{self.built['sites'][name]}")
        return found

    def latent(self, name: str) -> TorchDistribution:
        """Return q(z) of a site's kernels: event shape (O, I, L)."""
        mean = self.parameter("latent_mean", name)
        return dist.Normal(mean, self.parameter("latent_log_scale", name).exp()).to_event(3)

    def decoded(self, name: str, z: Tensor) -> TorchDistribution:
        """Return q(w|z), independent Gaussians of event shape (O, I, K, ..., K).

        Args:
            name: of the site.
            z: (..., O, I, L).
        """
        site, conditional = self.sites[name], self._implicit(name).conditional(z)
        shape = z.shape[:-1] + site.kernel_shape
        scale = conditional.stddev * self.parameter("log_noise", name).exp()
        return dist.Normal(conditional.mean.reshape(shape), scale.reshape(shape)).to_event(len(site.shape))

    def reverse(self, name: str, weight: Tensor) -> TorchDistribution:
        """Return r(z|w) ∝ q(z) N(z; μ_ψ(w), σ_ψ(w)²) of a site's kernels: event shape (O, I, L).

        Args:
            name: of the site.
            weight: of the site's shape.
        """
        encoded, log_scale = self.density(name).get_submodule("encoder")(weight.flatten(2))
        own, of_encoder = (-2 * self.parameter("latent_log_scale", name)).exp(), (-2 * log_scale).exp()
        precision = own + of_encoder
        mean = (own * self.parameter("latent_mean", name) + of_encoder * encoded) / precision
        return dist.Normal(mean, precision.rsqrt()).to_event(3)

    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w), which can be drawn from but has no density."""
        return DecodedKernels(self.latent(name), lambda z: self.decoded(name, z), self.sites[name].shape)

    def sample(self, name: str) -> Tensor:
        """Sample `NAME.latent`, then the site; inside inference add the factor `NAME.reverse`."""
        z = pyro.sample(f"{name}.latent", self.latent(name), infer={"is_auxiliary": True})
        weight: Tensor = pyro.sample(name, self.decoded(name, z))
        if am_i_wrapped():
            pyro.factor(f"{name}.reverse", -self.reverse(name, weight).log_prob(z), has_rsample=True)
        return weight

    def _implicit(self, name: str) -> ImplicitPrior:
        implicit: Any = self.density(name).distribution()
        return cast(ImplicitPrior, implicit)


def _build_first(guide: nn.Module, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """Build the decoders that a state is for: torch passes the extra state only after it has compared the tensors' names."""
    if (key := f"{prefix}_extra_state") in state:
        guide.set_extra_state(state[key])


def _description(density: GroupDensity) -> dict[str, Any]:
    """Return what an empty copy of a density is built from, as JSON would give it back."""
    built = {"family": density.family, "kernel_shape": list(density.kernel_shape), **density.settings}
    return dict(json.loads(json.dumps(built)))


def _density(prior: Prior, site: WeightSite) -> GroupDensity:
    """Return the density whose decoder describes the kernels of a site."""
    rule = f"The latent guide decodes the kernels of every random site, but site {site.name!r} has no decoder"
    cure = (
        "Use another guide, such as mean_field, keep the site as a point parameter (prior: null in a rule of --prior "
        "assigned), or name a deep weight prior that fits (--guide.path)."
    )
    try:
        implicit = prior.distribution(site)
    except ConfigError as problem:
        raise ConfigError(f"{rule}. {cure} ({problem})") from problem
    density = implicit.density if isinstance(implicit, ImplicitPrior) else None
    if not isinstance(density, GroupDensity) or not isinstance(getattr(density, "encoder", None), nn.Module):
        raise ConfigError(
            f"{rule}: its prior, from {type(prior).__name__}, is not an implicit one with a `density` to copy (a GroupDensity "
            f"with an `encoder`). {cure}"
        )
    return density
