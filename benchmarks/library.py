"""What run/time_steps.py measures of this library, built from the pieces that the scripts are built from."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import PositiveInt
from torch import nn

from guides import Guide, MeanField
from models.kernel_vae import KernelVAE
from models.segmentation import SegmentationModel
from pyro_dwp.data import Phantoms, Preprocess
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import NetworkFactory, UNet
from pyro_dwp.predict import posterior_predictive
from pyro_dwp.priors import DeepWeightDensity, Prior
from pyro_dwp.settings import Flat
from pyro_dwp.sites import Sites
from pyro_dwp.timing import Bench, Workload
from pyro_dwp.train import KernelTask, PointTask, VariationalTask
from pyro_dwp.transfer import start_function

TOTAL = 20  # scans to learn from
RATES = {"posterior": 1e-3, "encoders": 1e-4}


def seeded_network(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with the same weights in every row."""
    torch.manual_seed(0)
    return make()


class Point(Workload):
    """A step of AdamW on the paper's loss: the plain network."""

    def __init__(self, bench: Bench, network: NetworkFactory = UNet) -> None:
        plain, self.computing, self.indices = seeded_network(network), bench.machine.computing, bench.indices
        self.task = PointTask(plain, bench.cases(), [], 1e-3, computing=self.computing, device=bench.device)
        self.seams = {"network": (self.task.network, "forward"), "optimiser": (self.task.optimiser, "step")}

    def run(self) -> object:
        """Take a step."""
        return self.task.step(self.indices)


class Variational(Workload):
    """A step of variational inference, as run/svi_target.py takes it.

    Args:
        bench: grid and scans.
        prior: of a convolution kernel.
        guide: variational family.
        elbo: to maximise.
        estimator: of the gradient of the data term.
        network: class of the network.
    """

    def __init__(
        self,
        bench: Bench,
        prior: Prior,
        elbo: Annotated[Callable[[dict], AuxiliaryELBO], Flat()],
        guide: Callable[[Sites], Guide] = MeanField,
        estimator: Callable[[], Estimator] = SharedSample,
        network: NetworkFactory = UNet,
    ) -> None:
        plain, cases = seeded_network(network), bench.cases()
        self.model = SegmentationModel(plain, prior, DiceCrossEntropy(), computing=bench.machine.computing)
        self.guide, self.indices = guide(self.model.sites), bench.indices
        self.guide.start(start_function("random", self.model.sites, plain, prior, network), prior)
        bound = elbo(prior.encoders())
        self.task = VariationalTask(
            self.model, self.guide, bound, cases, cases[:1], RATES, estimator=estimator(), device=bench.device
        )
        self.task.size = TOTAL
        self.seams = {
            "network": (self.model.network, "forward"),
            "sampling": (self.guide, "forward"),
            "likelihood": (self.model, "likelihood"),
            "prior": (self.task.svi, "step"),
            "optimiser": (self.task.optimiser, "step"),
        }

    def run(self) -> object:
        """Take a step."""
        return self.task.step(self.indices)


class Validation(Variational):
    """Validation of the variational network on one scan."""

    def run(self) -> object:
        """Validate."""
        return self.task.validate()


class PlainPrediction(Point):
    """Probabilities and mask of one scan by the plain network."""

    def __init__(self, bench: Bench, network: NetworkFactory = UNet) -> None:
        super().__init__(bench, network)
        self.image = bench.cases()[0].image[None].to(bench.device)

    @torch.no_grad()
    def run(self) -> object:
        """Predict the scan."""
        return self.computing.run(self.task.network, self.image).softmax(1).argmax(1)


class Prediction(Variational):
    """Probabilities, entropy, mutual information and volumes of one scan, by networks drawn from the posterior.

    Args:
        bench: grid.
        prior: of a convolution kernel.
        elbo: of the training, which is not measured here.
        guide: variational family.
        samples: networks.
        network: class of the network.
    """

    def __init__(
        self,
        bench: Bench,
        prior: Prior,
        elbo: Annotated[Callable[[dict], AuxiliaryELBO], Flat()],
        guide: Callable[[Sites], Guide] = MeanField,
        samples: PositiveInt = 10,
        network: NetworkFactory = UNet,
    ) -> None:
        super().__init__(bench, prior, elbo, guide, network=network)
        self.image, self.samples, self.device = bench.cases()[0].image.to(bench.device), samples, bench.device

    def run(self) -> object:
        """Predict the scan."""
        return posterior_predictive(self.task.draw, self.image, self.samples, seed=0, device=self.device)


class Product(Workload):
    """A product of two large matrices: the most operations a second that the machine can do.

    Args:
        bench: device and precision.
        edge: of the matrices.
    """

    def __init__(self, bench: Bench, edge: PositiveInt = 2048) -> None:
        precision = torch.bfloat16 if bench.machine.precision == "bfloat16" else torch.float32
        self.factor = torch.randn(edge, edge, device=bench.device, dtype=precision)

    def run(self) -> object:
        """Multiply."""
        return self.factor @ self.factor


class KernelFit(Workload):
    """A step that fits the autoencoder of a deep weight prior.

    Args:
        bench: device.
        kernels: in a minibatch.
        bank: kernels to fit.
    """

    def __init__(self, bench: Bench, kernels: PositiveInt = 256, bank: PositiveInt = 20_000) -> None:
        torch.manual_seed(0)
        found = torch.randn(bank, 27, device=bench.device)
        vae = KernelVAE(DeepWeightDensity((3, 3, 3)).to(bench.device))
        self.task, self.indices = KernelTask(vae, found, found[:1], 1e-3), torch.arange(kernels)
        self.seams = {"prior": (self.task, "step"), "optimiser": (self.task.optimiser, "step")}

    def run(self) -> object:
        """Take a step."""
        return self.task.step(self.indices)


class Preparation(Workload):
    """A scan of twice the edges brought to the network's grid: cropped, resampled, normalised."""

    def __init__(self, bench: Bench) -> None:
        shape = tuple(min(256, 2 * edge) for edge in bench.grid)
        self.scan = Phantoms(cases=1, shape=shape).load("tumour_000")
        self.preprocess = Preprocess(grid=bench.grid)

    def run(self) -> object:
        """Prepare the scan."""
        return self.preprocess.apply(self.scan, 2)
