"""The lecture's file against the library: the same bound, the same network weights, and it learns."""

import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

from guides import MeanField
from pyro_dwp import mini
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.priors import DeepWeightPrior, Gaussian
from pyro_dwp.sites import WeightSite

DRAWS = 500


class LibraryModel(PyroModule):
    """The lecture's model, its kernels under `DeepWeightPrior`."""

    def __init__(self, taught: mini.Target) -> None:
        super().__init__()
        self.output, self.layers = taught.output, taught.priors

    def forward(self, image: Tensor, label: Tensor, total: int) -> None:
        weights = []
        for layer, shape in enumerate(mini.SHAPES):
            decoder = Coder(self.layers[layer].decode)
            prior = DeepWeightPrior(decoder, mini.LATENT, torch.Size(shape[2:]), str(layer), torch.zeros(()))
            weights.append(pyro.sample(f"w{layer}", prior.expand(torch.Size(shape[:2])).to_event(2)))
        logits = mini.segment(image, weights, self.output).movedim(1, -1)
        with pyro.plate("scans", total, subsample=torch.arange(len(image))):
            pyro.sample("y", dist.Categorical(logits=logits).to_event(2), obs=label)


class Coder(nn.Module):
    """A coder as the library has them: it returns mean and log standard deviation."""

    def __init__(self, coder) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        normal = self.coder(value)
        return normal.mean, normal.stddev.log()


def test_the_lectures_bound_is_the_librarys_in_expectation() -> None:
    taught = mini.Target([mini.KernelVAE(scale) for scale in (0.3, 0.1, 0.1)], kl_weight=0.3)
    sites = {f"w{layer}": WeightSite(f"w{layer}", torch.Size(s), str(layer)) for layer, s in enumerate(mini.SHAPES)}
    guide = MeanField(sites, 0.1)
    guide.start(lambda: {n: m.reshape(sites[n].shape) for n, m in zip(sites, taught.mean, strict=True)}, Gaussian())
    elbo = AuxiliaryELBO({str(i): Coder(prior.encode) for i, prior in enumerate(taught.priors)}, kl_weight=0.3)
    data = (*mini.images(2, "disc"), 5)
    with torch.no_grad():
        library = torch.tensor([elbo.loss(LibraryModel(taught), guide, *data) for _ in range(DRAWS)])
        lecture = torch.tensor([Trace_ELBO().loss(taught.model, taught.guide, *data) for _ in range(DRAWS)])
    error = math.sqrt(library.var() / DRAWS + lecture.var() / DRAWS)
    assert abs(library.mean() - lecture.mean()) < 4 * error < 0.04 * library.mean()


def test_the_whole_lecture_runs_and_its_uncertainty_marks_its_errors() -> None:
    scores = mini.run(seed=0, networks=3, steps=150)
    assert scores["dice"] > 0.3  # one lesion covers a twelfth of an image: a mask of everything has 0.15
    assert scores["nats_where_wrong"] > 2 * scores["nats_where_right"]
    assert len(Path(mini.__file__).read_text().splitlines()) <= 200  # what fits a lecture


@pytest.mark.parametrize("lesion", ["square", "disc"])
def test_images_and_masks_agree(lesion: str) -> None:
    image, mask = mini.images(200, lesion)
    inside, outside = image[:, 0][mask.bool()], image[:, 0][~mask.bool()]
    error = (inside.var() / len(inside) + outside.var() / len(outside)).sqrt()
    assert abs(inside.mean() - outside.mean() - 0.8) < 6 * error
