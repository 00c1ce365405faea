"""The same U-Net made Bayesian by bayesian-torch: independent Gaussians, a Gaussian prior with a closed-form KL divergence.

It makes random every layer whose class has "Conv" in its name: the 3-voxel convolutions, as here. `pip install -e ".[benchmark]"`

References:
    Krishnan, Esposito, Subedar 2022, Bayesian-Torch: Bayesian neural network layers for uncertainty estimation.
"""

from typing import Literal

import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import dice_cross_entropy
from pyro_dwp.nn import UNet
from pyro_dwp.timing import Bench, Workload
from pyro_dwp.train.point import minibatch

TOTAL = 20  # scans to learn from


class BayesianTorch(Workload):
    """A step of AdamW on the negative ELBO of the converted network.

    Args:
        bench: grid and scans.
        layers: how a layer draws its weights: one draw for a minibatch, or nearly one for each example.

    Raises:
        ConfigError: if bayesian-torch is not installed.
    """

    def __init__(self, bench: Bench, layers: Literal["Reparameterization", "Flipout"] = "Reparameterization") -> None:
        try:
            from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss
        except ImportError as error:
            raise ConfigError('This row needs bayesian-torch. Install it: pip install -e ".[benchmark]".') from error
        torch.manual_seed(0)
        self.network, self.kl, self.bench, self.cases = UNet(), get_kl_loss, bench, bench.cases()
        own = {"prior_mu": 0.0, "prior_sigma": 0.1, "posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
        dnn_to_bnn(self.network, {**own, "type": layers, "moped_enable": True, "moped_delta": 0.1})
        self.network.to(bench.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.seams = {
            "network": (self.network, "forward"),
            "prior": (self, "kl"),
            "optimiser": (self.optimiser, "step"),
        }

    def run(self) -> object:
        """Take a step."""
        batch = minibatch(self.cases, self.bench.indices, None, device=self.bench.device)
        logits = self.bench.machine.computing.run(self.network, batch.image)
        loss = TOTAL * dice_cross_entropy(logits, batch.label).mean() + self.kl(self.network)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()
