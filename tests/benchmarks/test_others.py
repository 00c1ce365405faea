"""The implementations that this one is compared with: they compute what they are said to compute."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.data import stack
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.nn.paper_coders import PaperDecoder, PaperEncoder
from pyro_dwp.priors import DeepWeightPrior, Prior
from pyro_dwp.settings.classes import find_class
from pyro_dwp.sites import weight_sites
from pyro_dwp.timing import Bench, Workload
from pyro_dwp.train import Machine
from tests.helpers.refusal import refuses

FOLDER = Path(__file__).parents[2] / "benchmarks"
BENCH = Bench(Machine("cpu", precision="float32"), torch.device("cpu"), (8, 8, 8), 1)


def benchmark(file: str, name: str, base: type = Workload) -> type:
    return find_class(f"{FOLDER / file}:{name}", base, "row")


def small() -> UNet:
    return UNet(channels=(2, 4))


@pytest.mark.parametrize(
    ("name", "base", "edge"), [("PrintedEncoder", PaperEncoder, 27), ("PrintedDecoder", PaperDecoder, 6)]
)
def test_the_printed_coders_compute_what_the_librarys_do(name, base, edge):
    printed = benchmark("textbook.py", name, base)((3, 3, 3), 6, 0.1)
    x = torch.randn(50, edge)
    torch.testing.assert_close(printed(x), base.forward(printed, x), atol=1e-5, rtol=1e-4)


class Printed(Prior):
    """The library's prior with the coders of a textbook program."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = [program]

    def distribution(self, site):
        return DeepWeightPrior(self.program[0].decoders[site.group], 6, (3, 3, 3), site.group, torch.zeros(()))

    def encoders(self):
        return dict(self.program[0].encoders.items())


def test_the_textbook_has_the_librarys_elbo_in_expectation():
    book = benchmark("textbook.py", "Textbook")(BENCH, small)
    torch.manual_seed(0)  # as the textbook's network
    program, network = book.program, small()
    model = SegmentationModel(network, Printed(program), DiceCrossEntropy())
    guide = MeanField(model.sites)
    for site, mean, log_scale in zip(model.sites.values(), program.mean, program.log_scale, strict=True):
        guide.fill("mean", site.name, mean.reshape(site.shape))
        guide.fill("log_scale", site.name, log_scale.reshape(site.shape))
    batch, bound = stack(book.cases), AuxiliaryELBO(model.prior.encoders())
    with torch.no_grad():
        ours = torch.tensor([bound.loss(model, guide, batch.image, batch.label, 20) for _ in range(30)])
        theirs = torch.tensor(
            [book.elbo.loss(program.model, program.guide, batch.image, batch.label, 20) for _ in range(30)]
        )
    error = ((ours.var() + theirs.var()) / 30).sqrt()
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert error < 0.01 * abs(theirs.mean())


def test_a_step_of_the_textbook_moves_posterior_and_encoders_and_no_decoder():
    book = benchmark("textbook.py", "Textbook")(BENCH, small)
    before = {name: value.detach().clone() for name, value in book.program.named_parameters()}
    assert math.isfinite(book.run())
    moved = {
        name.partition(".")[0]
        for name, value in book.program.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert moved == {"network", "encoders", "mean", "log_scale"}


@pytest.mark.parametrize("layers", ["Reparameterization", "Flipout"])
def test_bayesian_torch_makes_the_same_convolutions_random_as_the_library(layers):
    pytest.importorskip("bayesian_torch", reason='needs bayesian-torch: pip install -e ".[benchmark]"')
    bench = replace(BENCH, grid=(16, 8, 8))
    work, plain = benchmark("bayesian_torch.py", "BayesianTorch")(bench, layers), UNet()
    random = {name for name, _ in work.network.named_parameters() if "rho" in name}
    assert {name.removesuffix("rho_kernel") + "weight" for name in random} == set(weight_sites(plain))
    before = [value.detach().clone() for value in work.network.parameters()]
    assert math.isfinite(work.run())
    assert all(not torch.equal(old, new) for old, new in zip(before, work.network.parameters(), strict=True))


def test_without_bayesian_torch_its_row_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bayesian_torch.models.dnn_to_bnn", None)
    with refuses('pip install -e ".[benchmark]"', error=ConfigError):
        benchmark("bayesian_torch.py", "BayesianTorch")(BENCH)
