"""Mixture of M members of another guide with equal weights: several modes, and in each whatever the member describes.

    q(w) = (1/M) Σ_m q_m(w)

One member is drawn whenever the guide runs, so a step of SVI minimises −ELBO of that member and, in mean, the average over the
members. That is a bound on the mixture's own ELBO, and a tight one. E_q log p is the average over the members, and as for the
entropy,

    (1/M) Σ H(q_m)  ≤  H(q)  ≤  (1/M) Σ H(q_m) + log M

The first inequality is the concavity of entropy. For the second let m be uniform and w ~ q_m; then H(w) ≤ H(w, m), which is
log M + (1/M) Σ H(q_m). So

    (1/M) Σ ELBO(q_m)  ≤  ELBO(q)  ≤  (1/M) Σ ELBO(q_m) + log M

with equality on the right where members do not overlap: what is not counted is at most log M nats for all the weights together,
1.6 for five members.

Deep ensembles (Lakshminarayanan, Pritzel, Blundell 2017) are the ensemble of point guides.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.mean_field import MeanField
from pyro_dwp.distributions import Mixture
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite
from pyro_dwp.transfer import StartWeights


class Ensemble(Guide):
    """Mixture of several members of another guide; each run draws one, each step trains one.

    Members that start alike end alike. So each after the first starts from the same kernels in an order of its own: kernels
    change places among the pairs of channels of their site, which is as likely a start under any prior that is i.i.d. over the
    kernels of a site. Where a kernel's place matters it would destroy the network: such sites, for start=source or draws of a
    prior around a source network, stay as they are. Without it members differ by the order of the scans and their noise alone.

    *Warning*: a step trains one member, so M members need M times the steps of one guide, and a prediction needs more draws
    than there are members to meet each of them about as often. All members share what is not a weight site: the network's
    point parameters and the auxiliary encoders. A deep ensemble in the strict sense is M runs.

    Args:
        sites: site name → site.
        start: site name → weight that the first member starts from, and all where kernels are not shuffled.
        guide: class of the members, called as guide(sites, start); any guide, with its settings.
        members: M, at least 1.
        shuffle: start the members after the first from the kernels in random order. None does so but for sites whose kernels
            have a place of their own, as `pyro_dwp.transfer.start_weights` says of them; of any other start nothing is known, and
            all are shuffled.

    Raises:
        ConfigError: if members is below 1, or the members' class refuses the start.

    References:
        Lakshminarayanan, Pritzel, Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using Deep
        Ensembles.

    Example:
        >>> from guides.point import Point
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> sites = weight_sites(network)
        >>> start = {name: network.get_parameter(name) for name in sites}
        >>> deep_ensemble = Ensemble(sites, start, guide=Point, members=3)
        >>> [type(deep_ensemble.member(number)).__name__ for number in range(3)]
        ['Point', 'Point', 'Point']
    """

    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        start: Mapping[str, Tensor],
        guide: Callable[[dict, dict], Guide] = MeanField,
        members: int = 5,
        shuffle: bool | None = None,
    ) -> None:
        super().__init__(sites, start)
        if members < 1:
            raise ConfigError(f"An Ensemble needs 1 member or more, but received {members=}.")
        self.members = members
        kept = start.placed if isinstance(start, StartWeights) else frozenset[str]()
        moved = {name for name in sites if (name not in kept if shuffle is None else shuffle)}
        for number in range(members):
            begin = {
                name: _shuffled(start[name], site) if number and name in moved else start[name]
                for name, site in sites.items()
            }
            self.add_module(f"member_{number}", guide(self.sites, StartWeights(begin, kept)))

    def member(self, number: int) -> Guide:
        """Return one of the members, from 0."""
        found: Guide = getattr(self, f"member_{number}")
        return found

    def distribution(self, name: str) -> TorchDistribution:
        """Return the site's own distribution, the mixture of the members'; it has neither gradients nor entropy.

        Sites are independent within a member only: one draw of all sites is `forward`.
        """
        return Mixture([self.member(number).distribution(name) for number in range(self.members)])

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw a member from torch's global generator, and run it with the arguments of the model.

        Returns:
            Site name → weight.
        """
        weights: dict[str, Tensor] = self.member(int(torch.randint(self.members, ())))(*args, **kwargs)
        return weights


def _shuffled(start: Tensor, site: WeightSite) -> Tensor:
    """Return a site's kernels in random order."""
    kernels = start.detach().flatten(0, len(site.batch_shape) - 1)
    return kernels[torch.randperm(len(kernels), device=start.device)].reshape(start.shape)
