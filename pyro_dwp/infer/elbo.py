"""`AuxiliaryELBO`: Pyro's ELBO for models whose weights may have an implicit prior.

For a minibatch of b of N scans, latent weights w and guide q(w),

    ELBO = (N/b) Σ_scans log p(y | x, w) − β Σ_sites KL(q(w) ‖ p(w)),          w ~ q(w)

where the model's plate over scans, `pyro.plate("scans", N, subsample=...)`, supplies N/b. The KL divergence of each site is
taken in the best way that its prior allows:

    implicit prior (`ImplicitPrior`)     upper bound with an auxiliary encoder r(z|w), see `bounds.py`
    any prior with a density             closed form where there is one, else at the sample, see `divergence.py`

H(q) is exact where the guide's distribution has an entropy. Latent variables of the guide's own (sites marked
`is_auxiliary`) count as part of log q, and so do its factors: a guide that marginalises over such a latent u adds the factor
−log r(u|w), and the bound then holds for its marginal q(w). With β = 1 this is a lower bound on the log evidence; β < 1 gives
a tempered ("cold") posterior, which is not the posterior of this model.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.auxiliary import AuxiliaryEncoders, ImplicitKernels
from pyro_dwp.infer.divergence import site_entropy, site_kl, site_log_prob, unwrap


class AuxiliaryELBO(Trace_ELBO):
    """ELBO of a model with implicit or explicit priors over weights.

    After each evaluation `terms` holds its terms as tensors, and `parts` as numbers, in nats and averaged over the particles, so
    that loss = −data + kl_weight · kl and kl = kl_explicit − entropy + kl_latent + reconstruction:

        data            (N/b) Σ log p(y | x, w)
        kl              all sites' KL divergence (a bound for implicit priors)
        kl_explicit     KL divergence of the sites whose prior has a density; log q of the guide's own latents and factors
        entropy         H(q) of the sites with an implicit prior
        kl_latent       Σ KL(r(z|w) ‖ p(z))
        reconstruction  −Σ log p(w|z)
        kl_weight       β of this evaluation

    Args:
        encoders: group → auxiliary encoder, from `Prior.encoders()`; None if no prior is implicit.
        kl_weight: β; 1 is the ELBO.
        warm_up: gradient steps over which the KL weight rises linearly from 0 to β. `SVI.step` counts as one; the count is
            kept with the encoders, so that a checkpoint of `encoders` resumes it.
        draws: latent draws M per kernel; 1 is the paper's bound, more are tighter.
        kernels_per_group: number of random kernels of each group that the bound is estimated from, scaled up to all of them
            (unbiased); None takes all.
        doubly_reparametrised: take the doubly reparametrised gradient for the encoder where draws > 1, see `bounds.py`.
        num_particles: weight samples per step.

    Raises:
        ConfigError: if a number is outside its range.

    Warning:
        Every guide site must be reparametrised (`has_rsample`); score-function gradients are not implemented.

    References:
        Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, section 2.3.
    """

    @checked
    def __init__(
        self,
        encoders: Mapping[str, nn.Module] | None = None,
        kl_weight: NonNegativeFloat = 1.0,
        warm_up: NonNegativeInt = 0,
        draws: Annotated[int, Ge(1), Le(10_000)] = 1,
        kernels_per_group: PositiveInt | None = None,
        doubly_reparametrised: bool = True,
        num_particles: Annotated[int, Ge(1), Le(10_000)] = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.encoders = AuxiliaryEncoders(encoders or {})
        self.kl_weight, self.warm_up = kl_weight, warm_up
        self.draws, self.kernels_per_group, self.doubly_reparametrised = draws, kernels_per_group, doubly_reparametrised
        self.terms: dict[str, Tensor] = {}

    @property
    def parts(self) -> dict[str, float]:
        """The terms of the last evaluation as numbers; reading them waits for the device."""
        return {name: term.item() for name, term in self.terms.items()}

    @property
    def current_kl_weight(self) -> Tensor:
        """β of the next gradient step, (); less during warm-up."""
        grown = (self.encoders.steps + 1) / max(1, self.warm_up)
        return self.kl_weight * grown.clamp(max=1)

    def loss(self, model, guide, *args, **kwargs) -> float:  # type: ignore[no-untyped-def]
        """Return an estimate of −ELBO in nats."""
        traces = self._get_traces(model, guide, args, kwargs)
        particles = [self._differentiable_loss_particle(*pair)[0].item() for pair in traces]
        return sum(particles) / self.num_particles

    def loss_and_grads(self, model, guide, *args, **kwargs) -> Tensor:  # type: ignore[no-untyped-def]
        """Return an estimate of −ELBO in nats, (), add its gradients to the parameters', and count a step.

        The estimate is a tensor, and nothing here waits for the device that computes it.
        """
        losses = []
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            loss = self._differentiable_loss_particle(model_trace, guide_trace)[1] / self.num_particles
            if loss.requires_grad:
                loss.backward(retain_graph=self.retain_graph)
            losses.append(loss.detach())
        self.encoders.steps.add_(1)
        return torch.stack(losses).sum()

    def differentiable_loss(self, model, guide, *args, **kwargs) -> Tensor:  # type: ignore[no-untyped-def]
        """Return an estimate of −ELBO in nats to take gradients of, (), and count a step."""
        traces = self._get_traces(model, guide, args, kwargs)
        losses = [self._differentiable_loss_particle(*pair)[1] for pair in traces]
        self.encoders.steps.add_(1)
        return torch.stack(losses).mean()

    def _get_traces(self, model, guide, args, kwargs) -> Iterator[tuple[Trace, Trace]]:  # type: ignore[no-untyped-def]
        """Begin an evaluation: forget the terms of the last one."""
        self.terms = {}
        yield from super()._get_traces(model, guide, args, kwargs)

    def _get_trace(self, model, guide, args, kwargs) -> tuple[Trace, Trace]:  # type: ignore[no-untyped-def]
        """Trace guide and model without computing every site's log_prob, which implicit priors do not have."""
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace, self.max_plate_nesting)
        return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)

    def _differentiable_loss_particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the estimate of −ELBO from one particle, detached and not."""
        model_trace.compute_log_prob(site_filter=lambda name, site: site["is_observed"])
        observed = [site["log_prob_sum"] for site in model_trace.nodes.values() if is_observed(site)]
        data = sum(observed, torch.zeros(()))
        explicit, entropy, implicit = self._divide(model_trace, guide_trace)
        kl_latent, reconstruction, bound = torch.zeros(()), torch.zeros(()), torch.zeros(())
        for group, kernels in implicit.items():
            encoder = self.encoders(group)
            found = kernels.bound(encoder, self.kernels_per_group, self.draws, self.doubly_reparametrised)
            bound, kl_latent = bound + found.total, kl_latent + found.kl_latent
            reconstruction = reconstruction + found.reconstruction
        kl, weight = explicit - entropy + bound, self.current_kl_weight
        loss = -data + weight * kl
        terms = {
            "data": data,
            "kl": kl,
            "kl_explicit": explicit,
            "entropy": entropy,
            "kl_latent": kl_latent,
            "reconstruction": reconstruction,
            "kl_weight": weight,
        }
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term.detach() / self.num_particles
        return loss.detach(), loss

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
            if isinstance(prior, ImplicitPrior):
                if model_site["mask"] is not None:
                    raise ConfigError(
                        f"Site {name!r} is masked, but an implicit prior is for whole kernels. Remove the mask."
                    )
                entropy = entropy + site_entropy(site)
                implicit.setdefault(prior.group, ImplicitKernels()).add(prior, site["value"], model_site["scale"])
            else:
                explicit = explicit + site_kl(site, model_site, closed_form=same_order)
        return explicit, entropy, implicit


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
