"""What the priors around a source network have in common: a Gaussian for each weight, its mean the source's at the same site.

    p(w) = Π_i N(w_i; v_i, s_i²)

Exact: its density, its moments, its KL divergence from a Gaussian guide. It is a prior over one network, not over kernels:
permuting the channels of the source network, which leaves its output unchanged, changes the prior.
"""

from abc import abstractmethod
from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_dwp.errors import CheckpointError, suggest
from pyro_dwp.priors.base import Prior
from pyro_dwp.sites import WeightSite, module_key

RULES = "train a source network of this architecture, or give this site another prior by rules (--prior assigned)"


class AroundSource(Prior):
    """Independent Gaussians around the weights of a source network; a subclass gives their width.

    Args:
        where: the source, for errors.
        means: name of a parameter → its source weights; tensors of other kinds than floating-point are left out.

    Raises:
        CheckpointError: at a site, if the source network lacks it or has it in another shape.
    """

    def __init__(self, where: object, means: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.where = where
        self.names = [name for name, tensor in means.items() if tensor.is_floating_point()]
        for name in self.names:
            self.register_buffer(f"mean:{module_key(name)}", means[name], persistent=False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the Gaussian around this site's source weights, a kernel for each of its channels."""
        if site.name not in self.names:
            raise CheckpointError(
                f"The source network {self.where} has no weight at site {site.name!r} of shape {tuple(site.shape)}. "
                f"{suggest(site.name, self.names)} To go on, {RULES}."
            )
        mean: Tensor = getattr(self, f"mean:{module_key(site.name)}")
        if mean.shape != site.shape:
            raise CheckpointError(
                f"Site {site.name!r} has a weight of shape {tuple(site.shape)}, but in the source network {self.where} it has "
                f"{tuple(mean.shape)}. To go on, {RULES}."
            )
        return dist.Normal(mean, self.standard_deviation(site, mean)).to_event(len(site.kernel_shape))

    @abstractmethod
    def standard_deviation(self, site: WeightSite, mean: Tensor) -> Tensor:
        """Return s of this site's weights, of the site's shape.

        Args:
            site: which the source network has in this shape.
            mean: v, its source weights.
        """
