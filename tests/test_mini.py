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
from pyro_dwp.priors import DeepWeightPrior
from pyro_dwp.sites import WeightSite

DRAWS = 500


def target() -> mini.Target:
    return mini.Target([mini.KernelVAE(scale) for scale in (0.3, 0.1, 0.1)], kl_weight=0.3)


class LibraryModel(PyroModule):
    """The lecture's model, its kernels under `DeepWeightPrior`."""

    def __init__(self, taught: mini.Target) -> None:
        super().__init__()
        self.output, self.layers = taught.output, taught.priors

    def forward(self, image: Tensor, label: Tensor) -> None:
        weights = []
        for layer, shape in enumerate(mini.SHAPES):
            decoder = as_coder(self.layers[layer].decode)
            prior = DeepWeightPrior(decoder, mini.LATENT, torch.Size(shape[2:]), str(layer), torch.zeros(()))
            weights.append(pyro.sample(f"w{layer}", prior.expand(torch.Size(shape[:2])).to_event(2)))
        logits = mini.segment(image, weights, self.output).movedim(1, -1)
        pyro.sample("y", dist.Categorical(logits=logits).to_event(3), obs=label)


class as_coder(nn.Module):  # noqa: N801 (reads as a function)
    """A coder of the library, which returns mean and log standard deviation."""

    def __init__(self, coder) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        normal = self.coder(value)
        return normal.mean, normal.stddev.log()


def library_guide(taught: mini.Target) -> MeanField:
    sites = {f"w{i}": WeightSite(f"w{i}", torch.Size(shape), str(i)) for i, shape in enumerate(mini.SHAPES)}
    start = {f"w{i}": taught.mean[i].detach().reshape(shape) for i, shape in enumerate(mini.SHAPES)}
    return MeanField(sites, start, relative_scale=0.1)


def test_the_lectures_bound_is_the_librarys_in_expectation() -> None:
    taught = target()
    image, label = mini.images(2, "disc")
    encoders = {str(layer): as_coder(prior.encode) for layer, prior in enumerate(taught.priors)}
    elbo = AuxiliaryELBO(encoders, data_scale=5 / 2, kl_weight=0.3)
    model, guide = LibraryModel(taught), library_guide(taught)
    with torch.no_grad():
        ours = torch.tensor([elbo.loss(model, guide, image, label) for _ in range(DRAWS)])
        stock = Trace_ELBO()
        lecture = torch.tensor([stock.loss(taught.model, taught.guide, image, label, 5) for _ in range(DRAWS)])
    error = math.sqrt(ours.var() / len(ours) + lecture.var() / len(lecture))
    assert abs(ours.mean() - lecture.mean()) < 4 * error
    assert error < 0.01 * ours.mean()


def test_the_whole_lecture_runs_and_its_uncertainty_marks_its_errors() -> None:
    scores = mini.main(networks=3, steps=150)
    assert scores["dice"] > 0.3  # one lesion covers a twelfth of an image: a mask of everything has 0.15
    assert scores["nats_where_wrong"] > 2 * scores["nats_where_right"]


def test_the_file_fits_a_lecture() -> None:
    assert len(Path(mini.__file__).read_text().splitlines()) <= 200


@pytest.mark.parametrize("lesion", ["square", "disc"])
def test_images_and_masks_agree(lesion: str) -> None:
    image, mask = mini.images(200, lesion)
    inside, outside = image[:, 0][mask.bool()], image[:, 0][~mask.bool()]
    error = (inside.var() / len(inside) + outside.var() / len(outside)).sqrt()
    assert abs(inside.mean() - outside.mean() - 0.8) < 6 * error
