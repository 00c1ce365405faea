"""A prior of your own: kernels whose neighbouring weights are alike."""

import torch
from pydantic import PositiveFloat
from pyro.distributions import MultivariateNormal

from pyro_dwp.distributions import Reshaped
from pyro_dwp.priors import Prior


class Smooth(Prior):
    """Gaussian kernels, correlated by the distance d between voxels: s² exp(-d / length).

    Args:
        scale: standard deviation s of a weight.
        length: distance at which the correlation has fallen to 1/e, in voxels.
    """

    def __init__(self, scale: PositiveFloat = 0.02, length: PositiveFloat = 2.0) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("scale", torch.tensor(scale))

    def distribution(self, site):
        """Return the prior of one kernel of this site."""
        voxels = torch.cartesian_prod(*(torch.arange(edge) for edge in site.kernel_shape)).to(self.scale)
        covariance = self.scale.square() * torch.exp(-torch.cdist(voxels, voxels) / self.length)
        flat = MultivariateNormal(self.scale.new_zeros(len(voxels)), covariance)
        return Reshaped(flat, site.kernel_shape)
