"""`AuxiliaryELBO`: Pyro's ELBO for models whose weights may have an implicit prior.

For a minibatch of b of N scans, latent weights w and guide q(w),

    ELBO = (N/b) Σ_scans log p(y | x, w) − β Σ_sites KL(q(w) ‖ p(w)),          w ~ q(w)

and each site's KL divergence is taken the best way its prior allows:

    implicit prior (`DeepWeightPrior`)   upper bound with an auxiliary encoder r(z|w), see `bounds.py`
    any prior with a density             closed form where there is one, else at the sample, see `divergence.py`

H(q) is exact where the guide's distribution has an entropy. Latent variables of the guide's own (sites marked
`is_auxiliary`) count as part of log q, and so do its factors: a guide that marginalises over such a latent u adds the factor
−log r(u|w), and the bound then holds for its marginal q(w). With β = 1 and N/b right this is a lower bound on the log
evidence; β < 1 gives a tempered ("cold") posterior, which is then no longer the posterior of this model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.util import is_validation_enabled, torch_item
from pyro.nn import PyroModule
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match, warn_if_nan
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.infer.bounds import cross_entropy_bound, scaled_subset
from pyro_dwp.infer.divergence import site_entropy, site_kl, site_log_prob, unwrap
from pyro_dwp.priors.deep_weight import DeepWeightPrior


class AuxiliaryEncoders(PyroModule):
    """The encoders r(z|w), one for each group of kernels with an implicit prior.

    A PyroModule, so that `SVI.step` sees the encoders' parameters when the bound is computed.

    Args:
        encoders: group → module from kernels (N, P) to mean and log standard deviation of z, each (N, L).
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.groups = list(encoders)
        for group, encoder in encoders.items():
            self.add_module(f"group_{group}", encoder)

    def forward(self, group: str) -> nn.Module:
        """Return the encoder of this group.

        Raises:
            ConfigError: if there is none.
        """
        if group not in self.groups:
            raise ConfigError(
                f"The prior of kernel group {group!r} is implicit, so the ELBO needs an auxiliary encoder for it. "
                f"{suggest(group, self.groups)} Build it as AuxiliaryELBO(prior_family.encoders())."
            )
        encoder: nn.Module = getattr(self, f"group_{group}")
        return encoder


@dataclass
class ImplicitKernels:
    """All sampled kernels of one group, with their prior."""

    prior: DeepWeightPrior
    kernels: list[Tensor] = field(default_factory=list)  # each (N, P)
    scales: list[Tensor] = field(default_factory=list)  # each (N,), from poutine.scale


class AuxiliaryELBO(Trace_ELBO):
    """ELBO of a model with implicit or explicit priors over weights.

    After each evaluation `parts` holds its terms, in nats, averaged over the particles, so that loss = −data + β · kl and
    kl = kl_explicit − entropy + kl_latent + reconstruction:

        data            (N/b) Σ log p(y | x, w)
        kl              all sites' KL divergence (a bound for implicit priors)
        kl_explicit     KL divergence of the sites whose prior has a density; log q of the guide's own latents and factors
        entropy         H(q) of the sites with an implicit prior
        kl_latent       Σ KL(r(z|w) ‖ p(z))
        reconstruction  −Σ log p(w|z)

    Args:
        encoders: group → auxiliary encoder, as `PriorFamily.encoders()` gives; None where no prior is implicit.
        data_scale: N/b, the number of scans over the number in the minibatch. The default 1 takes the likelihood as it
            is, which is right for full batches or where the model scales it itself.
        kl_weight: β; 1 is the ELBO.
        draws: latent draws M per kernel; 1 is the paper's bound, more are tighter.
        kernels_per_group: evaluate the bound on so many random kernels of each group, scaled to all of them (unbiased);
            None takes all.
        doubly_reparametrised: gradient for the encoder where draws > 1, see `bounds.py`.
        num_particles: weight samples per step.

    Warning:
        Every guide site must be reparametrised (`has_rsample`); score-function gradients are not implemented.

    References:
        Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, section 2.3.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module] | None = None,
        data_scale: float = 1.0,
        kl_weight: float = 1.0,
        draws: int = 1,
        kernels_per_group: int | None = None,
        doubly_reparametrised: bool = True,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        if draws < 1 or (kernels_per_group is not None and kernels_per_group < 1) or kl_weight < 0:
            raise ConfigError(
                "AuxiliaryELBO needs draws ≥ 1, kernels_per_group ≥ 1 (or None) and kl_weight ≥ 0, but received "
                f"{draws=}, {kernels_per_group=}, {kl_weight=}."
            )
        self.encoders = AuxiliaryEncoders(encoders or {})
        self.data_scale, self.kl_weight = data_scale, kl_weight
        self.draws, self.kernels_per_group, self.doubly_reparametrised = draws, kernels_per_group, doubly_reparametrised
        self.parts: dict[str, float] = {}

    def loss(self, model, guide, *args, **kwargs) -> float:  # type: ignore[no-untyped-def]
        """Return an estimate of −ELBO in nats."""
        loss = 0.0
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            loss += self._differentiable_loss_particle(model_trace, guide_trace)[0] / self.num_particles
        warn_if_nan(loss, "loss")
        return loss

    def _get_traces(self, model, guide, args, kwargs) -> Iterator[tuple[Trace, Trace]]:  # type: ignore[no-untyped-def]
        """Begin an evaluation: forget the parts of the last one."""
        self.parts = {}
        yield from super()._get_traces(model, guide, args, kwargs)

    def _get_trace(self, model, guide, args, kwargs) -> tuple[Trace, Trace]:  # type: ignore[no-untyped-def]
        """Trace guide and model without computing every site's log_prob, which implicit priors do not have."""
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace, self.max_plate_nesting)
        return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)

    def _differentiable_loss_particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[float, Tensor]:
        model_trace.compute_log_prob(site_filter=lambda name, site: site["is_observed"])
        observed = [site["log_prob_sum"] for site in model_trace.nodes.values() if is_observed(site)]
        data = self.data_scale * sum(observed, torch.zeros(()))
        explicit, entropy, implicit = self._divide(model_trace, guide_trace)
        kl_latent, reconstruction = torch.zeros_like(data), torch.zeros_like(data)
        for group, member in implicit.items():
            latent, misfit = self._bound(group, member)
            kl_latent, reconstruction = kl_latent + latent, reconstruction + misfit
        kl = explicit - entropy + kl_latent + reconstruction
        loss = -data + self.kl_weight * kl
        parts = {
            "data": data,
            "kl": kl,
            "kl_explicit": explicit,
            "entropy": entropy,
            "kl_latent": kl_latent,
            "reconstruction": reconstruction,
        }
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + torch_item(value) / self.num_particles
        return torch_item(loss), loss

    def _divide(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor, dict[str, ImplicitKernels]]:
        """Return the explicit sites' KL, the implicit sites' H(q), and the implicit sites' kernels by group."""
        explicit, entropy = torch.zeros(()), torch.zeros(())
        implicit: dict[str, ImplicitKernels] = {}
        same_order = latent_order(model_trace) == latent_order(guide_trace)
        for name, site in guide_trace.nodes.items():
            if is_observed(site):
                explicit = explicit + site_log_prob(site, site["value"])
            if not is_latent(site):
                continue
            if not site["fn"].has_rsample:
                raise ConfigError(
                    f"AuxiliaryELBO needs reparametrised guides, but site {name!r} is a {type(unwrap(site['fn'])).__name__} "
                    "without rsample. Use a continuous family, or Pyro's Trace_ELBO with an explicit prior."
                )
            model_site = model_trace.nodes.get(name)
            prior = unwrap(model_site["fn"]) if model_site else None
            if isinstance(prior, DeepWeightPrior):
                if model_site["mask"] is not None:
                    raise ConfigError(
                        f"Site {name!r} is masked, but an implicit prior is for whole kernels. Remove the mask."
                    )
                entropy = entropy + site_entropy(site)
                member = implicit.setdefault(prior.group, ImplicitKernels(prior))
                kernels = site["value"].reshape(-1, prior.event_shape.numel())
                member.kernels.append(kernels)
                member.scales.append(kernels.new_ones(len(kernels)) * model_site["scale"])
            else:
                explicit = explicit + site_kl(site, model_site, closed_form=same_order)
        return explicit, entropy, implicit

    def _bound(self, group: str, member: ImplicitKernels) -> tuple[Tensor, Tensor]:
        """Return Σ KL(r ‖ p(z)) and −Σ log p(w|z) of a group's kernels, from a random subset of them."""
        kernels, scales = torch.cat(member.kernels), torch.cat(member.scales)
        chosen, factor = scaled_subset(len(kernels), self.kernels_per_group, kernels.device)
        bound = cross_entropy_bound(
            kernels[chosen], self.encoders(group), member.prior.decoder, self.draws, self.doubly_reparametrised
        )
        weights = factor * scales[chosen]
        misfit = bound.total - bound.kl_latent
        return (weights * bound.kl_latent).sum(), (weights * misfit).sum()


def is_observed(site: dict) -> bool:
    """Tell whether a trace's node is data or a factor."""
    return site["type"] == "sample" and site["is_observed"]


def is_latent(site: dict) -> bool:
    """Tell whether a trace's node is an unobserved sample."""
    return site["type"] == "sample" and not site["is_observed"]


def latent_order(trace: Trace) -> list[str]:
    """Return the names of the latent sites in their order, without sites that only a guide has."""
    return [
        name for name, site in trace.nodes.items() if is_latent(site) and not site["infer"].get("is_auxiliary", False)
    ]
