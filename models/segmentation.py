"""A segmentation network as a Pyro program: weights from a prior, labels from a likelihood."""

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.nn import PLAIN, Computing
from pyro_dwp.priors import Prior
from pyro_dwp.sites import FunctionalNetwork, weight_sites


class SegmentationModel(PyroModule):
    """w_site ~ prior(site) for each convolution;  y ~ likelihood(network(x; w)).

    Args:
        network: any network that maps images (B, C, ...) to logits (B, classes, ...); it is copied, not changed. Parameters
            that the prior does not expose (by default 1-voxel convolutions) are learned as point parameters of the model.
        prior: gives each site its distribution, and decides which parameters are sites.
        likelihood: scores the labels.
        groups: site name → group of kernels; None takes the network's own.
        computing: how the network computes; weights and likelihood keep their precision.

    Raises:
        ConfigError: if the prior does not fit a site.
    """

    def __init__(
        self,
        network: nn.Module,
        prior: Prior,
        likelihood: Likelihood,
        groups: dict[str, str] | None = None,
        computing: Computing = PLAIN,
    ) -> None:
        super().__init__()
        prior.check(weight_sites(network, groups, expose=lambda site: True).values())
        self.sites = weight_sites(network, groups, prior.exposes)
        self.network = FunctionalNetwork(network, self.sites, computing)
        self.prior = prior
        self.likelihood = likelihood

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        total: int | None = None,
        weight: Tensor | None = None,
        voxels: Tensor | None = None,
    ) -> Tensor:
        """Run the program once.

        Args:
            image: (B, C, D, H, W) or (B, C, H, W).
            label: (B, D, H, W) or (B, H, W); None to predict.
            total: number of scans in the data set, N; the batch counts N / B times. None takes the batch as the data set.
            weight: voxels that each voxel of a patch stands for, shaped as the label; None counts each once.
            voxels: of the whole scan that each patch belongs to, (B,); None where there are no patches.

        Returns:
            Logits, (B, classes, ...).
        """
        prior = self.prior
        weights = {name: pyro.sample(name, prior.site_distribution(site)) for name, site in self.sites.items()}
        logits = self.network(weights, image)
        with pyro.plate("scans", total or len(image), subsample=torch.arange(len(image)), dim=-1):
            self.likelihood(logits, label, weight, voxels)
        return logits
