"""The deep weight prior as one would first write it down: a loop over layers, printed convolutions, and Pyro's `Trace_ELBO`.

The latent variables join the model, and the guide draws them from the encoder:

    model   z ~ N(0, I),  w | z ~ N(μ_φ(z), σ_φ(z)²),  y | x, w
    guide   w ~ N(m, s²),  z | w ~ r_ψ(z | w)

The expectation of its ELBO is that of `AuxiliaryELBO` with one draw. Each kernel passes through 3-D convolutions, as in appendix
B of the paper. The decoders are frozen, the encoders learn.

References:
    Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844.
"""

import pyro
import torch
from pyro.distributions import Normal
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import Computing, NetworkFactory, UNet
from pyro_dwp.nn.paper_coders import PaperDecoder, PaperEncoder
from pyro_dwp.sites import FunctionalNetwork, weight_sites
from pyro_dwp.timing import Bench, Workload
from pyro_dwp.train.point import minibatch

TOTAL = 20  # scans to learn from
LATENT = 6


class PrintedEncoder(PaperEncoder):
    """r(z|w) by the convolutions that the paper prints."""

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation, (N, L), of kernels (N, 27)."""
        x = (kernels / self.kernel_scale).reshape(-1, 1, *self.kernel_shape)
        x = F.elu(F.max_pool3d(self.conv_1(x), 2, padding=1))
        x = F.elu(F.max_pool3d(self.conv_2(x), 2))
        x = F.elu(self.conv_3(x)).flatten(1)
        return self.mean(x), 0.5 * self.log_variance(x)


class PrintedDecoder(PaperDecoder):
    """p(w|z) by the convolutions that the paper prints."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation, (N, 27), for latents (N, L)."""
        x = self.linear(z).reshape(-1, 128, 1, 1, 1)
        x = F.elu(self.up(F.elu(self.conv_1(x))))
        x = F.elu(self.conv_3(F.elu(self.conv_2(x))))
        mean, log_variance = (head(x).tanh().flatten(1) for head in (self.mean, self.log_variance))
        return mean * self.kernel_scale, 0.5 * log_variance + self.kernel_scale.log()


class TextbookProgram(nn.Module):
    """Model and guide of the weights of a network and of the latent variables of its kernels.

    Args:
        network: to learn.
        computing: how the network computes.
        kernel_scale: of the coders, the size of a kernel's weights.
    """

    def __init__(self, network: nn.Module, computing: Computing, kernel_scale: float = 0.1) -> None:
        super().__init__()
        self.sites, self.likelihood = weight_sites(network), DiceCrossEntropy()
        self.network = FunctionalNetwork(network, self.sites, computing)
        groups = dict.fromkeys(site.group for site in self.sites.values())
        sizes = (3, 3, 3), LATENT, kernel_scale
        self.encoders = nn.ModuleDict({group: PrintedEncoder(*sizes) for group in groups})
        self.decoders = nn.ModuleDict({group: PrintedDecoder(*sizes) for group in groups}).requires_grad_(False)
        weights = [network.get_parameter(name).detach().reshape(-1, 27) for name in self.sites]
        self.mean = nn.ParameterList(weight.clone() for weight in weights)
        self.log_scale = nn.ParameterList(
            torch.full_like(weight, float((0.1 * weight.std()).log())) for weight in weights
        )

    def model(self, image: Tensor, label: Tensor, total: int) -> None:
        """Draw z, then w given z, and score the labels."""
        weights = {}
        for name, site in self.sites.items():
            z = pyro.sample(f"{name}.z", Normal(image.new_zeros(site.num_kernels, LATENT), 1.0).to_event(2))
            mean, log_scale = self.decoders[site.group](z)
            weights[name] = pyro.sample(name, Normal(mean, log_scale.exp()).to_event(2)).reshape(site.shape)
        with pyro.plate("scans", total, subsample=torch.arange(len(image)), dim=-1):
            self.likelihood(self.network(weights, image), label)

    def guide(self, image: Tensor, label: Tensor, total: int) -> None:
        """Draw w, then z given w."""
        for (name, site), mean, log_scale in zip(self.sites.items(), self.mean, self.log_scale, strict=True):
            weight = pyro.sample(name, Normal(mean, log_scale.exp()).to_event(2))
            centre, spread = self.encoders[site.group](weight)
            pyro.sample(f"{name}.z", Normal(centre, spread.exp()).to_event(2))


class Textbook(Workload):
    """A step of Adam on Pyro's own estimate of the ELBO.

    Args:
        bench: grid and scans.
        network: class of the network.
    """

    def __init__(self, bench: Bench, network: NetworkFactory = UNet) -> None:
        torch.manual_seed(0)
        self.bench, self.cases, self.elbo = bench, bench.cases(), Trace_ELBO()
        self.program = TextbookProgram(network(), bench.machine.computing).to(bench.device)
        free = [parameter for parameter in self.program.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(free, lr=1e-3)
        self.seams = {
            "network": (self.program.network, "forward"),
            "likelihood": (self.program, "likelihood"),
            "sampling": (self.program, "guide"),
            "prior": (self.elbo, "differentiable_loss"),
            "optimiser": (self.optimiser, "step"),
        }

    def run(self) -> object:
        """Take a step."""
        batch = minibatch(self.cases, self.bench.indices, None, device=self.bench.device)
        program = self.program
        loss = self.elbo.differentiable_loss(program.model, program.guide, batch.image, batch.label, TOTAL)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()
