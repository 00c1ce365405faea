import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoContinuous

from guides import Auto, Ensemble, Guide, MeanField, Point
from pyro_dwp.infer import weight_scales
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.transfer import start_weights

SCALE, DEGREES = 0.01, 9.0


class Student(AutoContinuous):
    """Independent Student t of one scale around 0, as an autoguide that does not tell a site's distribution."""

    def get_posterior(self, *args: object, **kwargs: object) -> dist.TorchDistribution:
        return dist.StudentT(DEGREES, torch.zeros(self.latent_dim), SCALE).to_event(1)


def test_scales_are_those_of_prior_and_posterior() -> None:
    network, prior = UNet(), Gaussian(scale=0.05)
    sites = weight_sites(network)
    guide = MeanField(sites, start_weights("prior", sites, network, prior), relative_scale=0.2)
    for row in weight_scales(sites, prior, guide).values():
        assert row["prior_rms"] == pytest.approx(0.05, rel=0.05)
        assert row["posterior_rms"] == pytest.approx(0.05 * (1 + 0.2**2) ** 0.5, rel=0.05)
        assert row["posterior_std"] == pytest.approx(0.01, rel=0.05)


def test_a_point_posterior_has_no_width() -> None:
    network, prior = UNet(channels=(2, 4)), Gaussian()
    sites = weight_sites(network)
    guide = Point(sites, start_weights("random", sites, network, prior))
    assert {row["posterior_std"] for row in weight_scales(sites, prior, guide).values()} == {0.0}


def test_the_width_of_an_ensemble_is_that_of_the_mixture_and_no_matter_of_luck() -> None:
    sites = {"w": WeightSite("w", torch.Size([4, 4, 3, 3]), "1")}
    guide = Ensemble(sites, {"w": torch.randn(4, 4, 3, 3)}, guide=Point, members=2)
    found = {weight_scales(sites, Gaussian(), guide)["1"]["posterior_std"] for _ in range(5)}
    values = torch.stack([guide.member(i).distribution("w").mean for i in range(2)])
    assert len(found) == 1
    assert found.pop() == pytest.approx(values.var(0, unbiased=False).mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("members", [0, 2])
def test_draws_tell_the_width_of_a_posterior_whose_distribution_is_not_told(members: int) -> None:
    """n = 36,864 weights of kurtosis κ = 3 + 6 / (ν − 4) = 4.2: the relative standard error is ½ √((κ + 1) / 2n), 0.42 %."""
    sites = {"w": WeightSite("w", torch.Size([64, 64, 3, 3]), "1")}
    start = {"w": torch.ones(64, 64, 3, 3)}

    def student(*given: dict) -> Guide:
        return Auto(*given, Student)

    guide = Ensemble(sites, start, guide=student, members=members) if members else student(sites, start)
    found = weight_scales(sites, Gaussian(), guide)["1"]["posterior_std"]
    assert found == pytest.approx(SCALE * (DEGREES / (DEGREES - 2)) ** 0.5, rel=4 * 0.0042)
