"""An implicit prior of your own: kernels of 3 x 3 x 3 voxels that are waves. Its density has no closed form."""

import torch
from pyro.distributions import Normal

from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.nn.kernel_coders import DenseEncoder
from pyro_dwp.priors import Prior


class Waves(Prior):
    """Waves across the kernel, in a random direction and phase, plus noise."""

    def __init__(self, scale: float = 0.03) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def distribution(self, site):
        """Return the prior of one kernel."""
        return _Wave("waves", 4, site.kernel_shape, like=self.scale)

    def encoders(self):
        """Return the start of r(z|w) by the name that the distribution gives."""
        return {"waves": DenseEncoder((3, 3, 3), latent_dim=4, kernel_scale=self.scale.item())}


class _Wave(ImplicitPrior):
    def conditional(self, z):  # p(w|z); z holds a direction and a phase
        voxels = torch.cartesian_prod(*(torch.linspace(-1, 1, edge) for edge in self.event_shape)).to(z)
        return Normal(self.like * torch.sin(z[..., :-1] @ voxels.T + z[..., -1:]), 0.3 * self.like).to_event(1)
