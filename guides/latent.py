"""A posterior in the latent space of a deep weight prior: w = decoder(z) + noise, z Gaussian (Atanov et al. 2018).

For each kernel k of a site, with the frozen decoder (μ_φ, σ_φ) of a stored deep weight prior,

    z_k ~ q(z_k) = N(m_k, diag s_k²),      w_k | z_k ~ q(w|z) = N( μ_φ(z_k), (f σ_φ(z_k))² )

with L means m and L scales s for each kernel and one factor f for each site to learn. The posterior moves only where source
kernels lie; with f = 1, m = 0 and s = 1 it is that prior. It needs not be the model's: any prior goes with this guide.

*The bound.* q(w) = ∫ q(w|z) q(z) dz has no density, but its negative entropy has an upper bound with any r(z|w)
(Salimans, Kingma, Welling 2015; Ranganath, Tran, Blei 2016):

    E_q(w) log q(w) = E_q(z,w)[ log q(z) + log q(w|z) − log r(z|w) ] − E_q(w) KL( q(z|w) ‖ r(z|w) )

because q(z|w) = q(z) q(w|z) / q(w). So the loss, with the bracket in place of log q(w), is above −ELBO by the last term, the
gap, and equals it where r is q's own posterior of z. In Pyro z is an auxiliary site `NAME.latent`, and −log r(z|w) the factor
`NAME.reverse`.

*The reverse model.* r knows what the guide knows of the kernel, and learns only what w adds: Bayes' rule with an encoder e_ψ as
likelihood,

    r(z_k|w_k) ∝ q(z_k) · N( z_k; μ_ψ(w_k), σ_ψ(w_k)² ),      a Gaussian

ψ starts at the encoder stored with the decoder, one copy for each group, and is trained with the rest. It can be exact where
the decoder is linear and σ_φ constant. An encoder alone, N(z; μ_ψ(w), σ_ψ(w)²), would not know m and s: for the prior that ships
with this package its gap is 30 to 37 nats for each kernel at the start of inference, where that of this r is 0.4 to 1.6.

Axis letters: O I channels, K edge of a kernel, L latent.

References:
    Atanov, Ashukha, Struminsky, Vetrov, Welling 2018, The Deep Weight Prior, arXiv:1810.06943.
    Ranganath, Tran, Blei 2016, Hierarchical Variational Models.
    Salimans, Kingma, Welling 2015, Markov Chain Monte Carlo and Variational Inference: Bridging the Gap.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn
from torch.distributions import constraints

from guides.base import Guide
from guides.initial import initial_scale
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors import DeepWeight, DeepWeightPrior, PriorFamily
from pyro_dwp.sites import WeightSite


class DecodedKernels(TorchDistribution):
    """q(w) = ∫ q(w|z) q(z) dz: draws are exact, and there is no density.

    Args:
        latent: q(z).
        decode: z with any leading axes → q(w|z) of a batch shape of these axes.
        event_shape: of w.
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True

    def __init__(
        self, latent: TorchDistribution, decode: Callable[[Tensor], TorchDistribution], event_shape: torch.Size
    ) -> None:
        self.latent, self.decode = latent, decode
        super().__init__(latent.batch_shape, event_shape, validate_args=False)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw z, then w: (*sample_shape, *event_shape)."""
        drawn: Tensor = self.decode(self.latent.rsample(torch.Size(sample_shape))).rsample()
        return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise NotImplementedError: the density has no closed form."""
        raise NotImplementedError(
            "The latent guide's q(w) can be sampled but has no density: it is an integral over the latent z. Call the guide "
            "itself, whose sites and factors bound it, under pyro_dwp.infer.AuxiliaryELBO or Pyro's Trace_ELBO."
        )


class Latent(Guide):
    """Gaussian in the latent space of a deep weight prior: kernels are decoded, plus noise.

    The start is the decoder's image of the start weights' encoding: what the decoder takes for noise is lost. Weights of a larger
    root mean square than the decoder's kernels are shrunk to it first, which instance normalisation hardly notices. For the prior
    that ships with this package what is lost is 21 % to 45 % of the root mean square of weights drawn from it, by group, and
    76 % to 94 % of He's random weights, which look like no source kernel: start from the prior or from a source network.

    Args:
        sites: site name → site; convolutions of the groups and kernel shape that the decoder was fitted to.
        start: site name → weights whose encodings are the initial m.
        path: a deep weight prior saved by `run/train_prior.py`; None takes the one that ships with the package.
        relative_scale: initial noise f σ_φ, as a fraction of the root mean square of a site's start.
        latent_scale: initial s, as a fraction of the encoder's standard deviations at the start.

    Raises:
        CheckpointError: if the file cannot be read, or on loading a state that belongs to another decoder.
        ConfigError: if the decoder does not know a site's kernels, a start is all 0, or a scale is not positive.

    References:
        Atanov et al. 2018, section 3. Ranganath, Tran, Blei 2016.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> sites = {"down1.conv_1.weight": weight_sites(UNet())["down1.conv_1.weight"]}
        >>> guide = Latent(sites, {"down1.conv_1.weight": 0.02 * torch.randn(32, 16, 3, 3, 3)})
        >>> guide()["down1.conv_1.weight"].shape, guide.parameter("latent_mean", "down1.conv_1.weight").shape
        (torch.Size([32, 16, 3, 3, 3]), torch.Size([32, 16, 16]))
    """

    fingerprint: Tensor

    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        start: Mapping[str, Tensor],
        path: str | None = None,
        relative_scale: float = 0.1,
        latent_scale: float = 0.1,
    ) -> None:
        super().__init__(sites, start)
        if latent_scale <= 0:
            raise ConfigError(f"Latent needs a positive latent_scale, but received {latent_scale}.")
        family = DeepWeight(path)
        priors = {name: _prior(family, site) for name, site in sites.items()}
        self._file, self._chosen = family.stored.path, path is not None
        # Not a submodule: the decoder is frozen and has a file of its own, so it is neither trained nor saved.
        self._decoders = {site.group: priors[name].decoder for name, site in sites.items()}
        self.register_buffer("fingerprint", _fingerprint(self._decoders))
        for group, encoder in family.encoders().items():
            if group in self._decoders:
                self.add_module(f"reverse_{group}", encoder)
        for name in sites:
            self.to(start[name])
            self._start(name, start[name], relative_scale, latent_scale)

    @torch.no_grad()
    def _start(self, name: str, start: Tensor, relative_scale: float, latent_scale: float) -> None:
        """Make a site's parameters; far outside what the encoder has seen it extrapolates to anything."""
        group = self.sites[name].group
        size: Tensor = self._decoders[group].get_buffer("kernel_scale")
        start = start * (size / start.square().mean().sqrt()).clamp(max=1)
        scale = initial_scale(self, name, start, relative_scale)
        mean, log_scale = self._encoder(group)(start.flatten(2))
        log_scale = log_scale.clamp(max=0)
        noise = self._decoders[group](mean)[1].mul(2).exp().mean().sqrt()
        self.add_parameter("latent_mean", name, mean)
        self.add_parameter("latent_log_scale", name, log_scale + math.log(latent_scale))
        self.add_parameter("log_noise", name, (scale / noise).log())

    def latent(self, name: str) -> TorchDistribution:
        """Return q(z) of a site's kernels: event shape (O, I, L)."""
        mean = self.parameter("latent_mean", name)
        return dist.Normal(mean, self.parameter("latent_log_scale", name).exp()).to_event(3)

    def decoded(self, name: str, z: Tensor) -> TorchDistribution:
        """Return q(w|z), independent Gaussians.

        Args:
            name: of the site.
            z: (..., O, I, L).
        """
        site = self.sites[name]
        mean, log_scale = self._decoders[site.group](z)
        shape = z.shape[:-1] + site.kernel_shape
        scale = (log_scale + self.parameter("log_noise", name)).exp()
        return dist.Normal(mean.reshape(shape), scale.reshape(shape)).to_event(len(site.shape))

    def reverse(self, name: str, weight: Tensor) -> TorchDistribution:
        """Return r(z|w) ∝ q(z) N(z; μ_ψ(w), σ_ψ(w)²) of a site's kernels: event shape (O, I, L).

        Args:
            name: of the site.
            weight: of the site's shape.
        """
        encoded, log_scale = self._encoder(self.sites[name].group)(weight.flatten(2))
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

    def _encoder(self, group: str) -> nn.Module:
        encoder: nn.Module = getattr(self, f"reverse_{group}")
        return encoder

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Latent":
        """Move the decoders, too."""
        super()._apply(fn, recurse)
        for decoder in self._decoders.values():
            decoder._apply(fn)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Refuse a state that belongs to another decoder: its posterior would be another."""
        saved = state_dict.get(f"{prefix}fingerprint")
        if saved is not None and int(saved) != int(self.fingerprint):
            raise CheckpointError(
                f"This state of a latent guide belongs to another decoder than that of {self._file}. Name the deep weight prior "
                "that it was inferred with (--guide.path), or infer it again."
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def describe_decoder(guide: nn.Module, prior: PriorFamily) -> str:
    """Return a line that names the decoder of a latent guide, or of the members of an ensemble of them; else "".

    Any prior goes with a latent guide, but where both decode kernels, two decoders are rarely meant.

    Args:
        guide: any.
        prior: of the model.

    Raises:
        ConfigError: if the guide has the decoder that ships with the package because none was named, while the prior is a deep
            weight prior with another one.
    """
    latent = next((module for module in guide.modules() if isinstance(module, Latent)), None)
    if latent is None:
        return ""
    line = f"The latent guide decodes with {latent._file}"
    flag = "--guide.path" if guide is latent else "--guide.guide.path"
    theirs = {site.group: prior.distribution(site) for site in latent.sites.values()}
    wanted = {g: _hash(p.decoder) for g, p in theirs.items() if isinstance(p, DeepWeightPrior)}
    group = next((group for group, other in wanted.items() if other != _hash(latent._decoders[group])), None)
    if group is None:
        return f"{line}."
    families = [module for module in prior.modules() if isinstance(module, DeepWeight) and group in module.densities]
    files = [it.stored.path for it in families if _hash(it.densities[group].get_submodule("decoder")) == wanted[group]]
    path = files[0] if files else "the prior's file"
    if not latent._chosen:
        raise ConfigError(
            f"The prior has the decoder of {path}, but the latent guide was given none and would take the one that ships with "
            f"the package, {latent._file}: its posterior could not come near that prior. Add {flag} {path}, or name the other "
            "file there, if you mean it."
        )
    return f"{line}. It is another decoder than the prior's, that of {path}; {flag} {path} makes them equal."


def _hash(decoder: nn.Module) -> int:
    return int(_fingerprint({"": decoder}))


def _prior(family: DeepWeight, site: WeightSite) -> DeepWeightPrior:
    """Return the deep weight prior of a site, or refuse the site with a guide's cure."""
    try:
        prior = family.distribution(site)
    except ConfigError as problem:
        raise ConfigError(
            f"The latent guide decodes the kernels of every site that is random, but its decoder does not know site "
            f"{site.name!r}. Take another guide, such as mean_field, keep the site a point parameter (prior: null in a rule of "
            f"--prior assigned), or name a decoder that fits (--guide.path). In the decoder's own words: {problem}"
        ) from problem
    assert isinstance(prior, DeepWeightPrior)
    return prior


def _fingerprint(decoders: Mapping[str, nn.Module]) -> Tensor:
    """Return a hash of the decoders' weights, int64, ()."""
    digest = hashlib.sha256()
    for group in sorted(decoders):
        for name, value in decoders[group].state_dict().items():
            digest.update(f"{group}/{name}".encode() + value.detach().cpu().float().numpy().tobytes())
    return torch.tensor(int.from_bytes(digest.digest()[:7], "big"))
