"""Mixture of M members of another guide with equal weights: several modes, each described by one member.

    q(w) = (1/M) Σ_m q_m(w)

Each run of the guide draws one member, so that a step of SVI minimises −ELBO of that member and, on average, the mean over the
members. That is a tight bound on the mixture's own ELBO. E_q log p is the average over the members, and the entropy obeys

    (1/M) Σ H(q_m)  ≤  H(q)  ≤  (1/M) Σ H(q_m) + log M

The first inequality is the concavity of entropy. For the second let m be uniform and w ~ q_m; then H(w) ≤ H(w, m), which is
log M + (1/M) Σ H(q_m). So

    (1/M) Σ ELBO(q_m)  ≤  ELBO(q)  ≤  (1/M) Σ ELBO(q_m) + log M

with equality on the right where members do not overlap. At most log M nats for all the weights together are left out, 1.6 for
five members.

Deep ensembles (Lakshminarayanan, Pritzel, Blundell 2017) are the ensemble of point guides.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.mean_field import MeanField
from pyro_dwp.checks import checked
from pyro_dwp.distributions import UniformMixture
from pyro_dwp.priors import Prior
from pyro_dwp.sites import Start, WeightSite


class Ensemble(Guide):
    """Mixture of several members of another guide; each run draws one, each step trains one.

    Each member starts from a draw of its own. Members that start alike, as from one source network, differ only in the order
    of the scans and the noise of their steps.

    *Warning*: a step trains one member, so M members need M times the steps of one guide, and a prediction needs several
    draws for each member. All members share the network's point parameters and the auxiliary encoders. A deep ensemble in the
    strict sense takes M runs.

    Args:
        sites: site name → site.
        guide: class of the members; any guide, with its settings.
        members: M.

    References:
        Lakshminarayanan, Pritzel, Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using Deep
        Ensembles.

    Example:
        >>> from guides.point import Point
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> deep_ensemble = Ensemble(weight_sites(UNet(channels=(2, 4))), guide=Point, members=3)
        >>> [type(deep_ensemble.member(number)).__name__ for number in range(3)]
        ['Point', 'Point', 'Point']
    """

    @checked
    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        guide: Callable[[Mapping[str, WeightSite]], Guide] = MeanField,
        members: Annotated[int, Ge(1), Le(1000)] = 5,
    ) -> None:
        super().__init__(sites)
        self.members = members
        for number in range(members):
            self.add_module(f"member_{number}", guide(self.sites))

    def start(self, draw: Start, prior: Prior) -> None:
        """Start every member, each from weights of its own.

        Args:
            draw: returns start weights; each member calls it.
            prior: of the model.
        """
        for number in range(self.members):
            self.member(number).start(draw, prior)

    def member(self, number: int) -> Guide:
        """Return one of the members, from 0."""
        found: Guide = getattr(self, f"member_{number}")
        return found

    def distribution(self, name: str) -> TorchDistribution:
        """Return the mixture of the members' distributions of a site; it has neither gradients nor entropy.

        Sites are independent within a member only: one draw of all sites is `forward`.
        """
        return UniformMixture([self.member(number).distribution(name) for number in range(self.members)])

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw a member with torch's global generator, and run it with the arguments of the model.

        Returns:
            Site name → weight.
        """
        weights: dict[str, Tensor] = self.member(int(torch.randint(self.members, ())))(*args, **kwargs)
        return weights
