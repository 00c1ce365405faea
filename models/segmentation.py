"""A segmentation network as a Pyro program: weights from a prior, labels from a likelihood."""

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.priors import PriorFamily
from pyro_dwp.sites import LiftedNetwork, weight_sites


class SegmentationModel(PyroModule):
    """w_site ~ prior(site) for each convolution;  y ~ likelihood(network(x; w)).

    Args:
        network: any network that maps images (B, C, ...) to logits (B, classes, ...); it is copied, not changed. What the
            prior does not expose (by default 1-voxel convolutions) is learned as a point parameter of the model.
        prior: gives each site its distribution, and says which parameters are sites.
        likelihood: scores the labels.
        groups: site name → group of kernels; None takes the network's own.

    Raises:
        ConfigError: if the prior does not fit a site.
    """

    def __init__(
        self, network: nn.Module, prior: PriorFamily, likelihood: Likelihood, groups: dict[str, str] | None = None
    ) -> None:
        super().__init__()
        prior.check(weight_sites(network, groups, expose=lambda site: True).values())
        self.sites = weight_sites(network, groups, prior.exposes)
        self.network = LiftedNetwork(network, self.sites)
        self.prior = prior
        self.likelihood = likelihood

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Run the program once.

        Args:
            image: (B, C, D, H, W) or (B, C, H, W).
            label: (B, D, H, W) or (B, H, W); None to predict.

        Returns:
            Logits, (B, classes, ...).
        """
        prior = self.prior
        weights = {name: pyro.sample(name, prior.site_distribution(site)) for name, site in self.sites.items()}
        logits = self.network(weights, image)
        self.likelihood(logits, label)
        return logits
