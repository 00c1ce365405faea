import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoContinuous

from guides import Auto, Ensemble, MeanField, Point
from pyro_dwp.infer import weight_scales
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import weight_sites
from tests.helpers.guides import make, started

SCALE, DEGREES = 0.01, 9.0


class Student(AutoContinuous):
    """Independent Student t of one scale around 0, as an autoguide that does not tell a site's distribution."""

    def get_posterior(self, *args: object, **kwargs: object) -> dist.TorchDistribution:
        return dist.StudentT(DEGREES, torch.zeros(self.latent_dim), SCALE).to_event(1)


def test_scales_are_those_of_prior_and_posterior() -> None:
    prior, sites = Gaussian(scale=0.05), weight_sites(UNet())
    start = {name: prior.site_distribution(site).sample() for name, site in sites.items()}
    for row in weight_scales(sites, prior, started(MeanField(sites, relative_scale=0.2), start)).values():
        assert row["prior_rms"] == pytest.approx(0.05, rel=0.05)
        assert row["posterior_rms"] == pytest.approx(0.05 * (1 + 0.2**2) ** 0.5, rel=0.05)
        assert row["posterior_std"] == pytest.approx(0.01, rel=0.05)


def test_a_point_posterior_has_no_width() -> None:
    guide = make(Point, {"w": torch.randn(4, 4, 3, 3)})
    assert weight_scales(guide.sites, Gaussian(), guide)["w"]["posterior_std"] == 0.0


def test_the_width_of_an_ensemble_is_that_of_the_mixture_and_no_matter_of_luck() -> None:
    guide = make(Ensemble, {"w": torch.randn(4, 4, 3, 3)}, guide=Point, members=2)
    with torch.no_grad():
        guide.member(1).parameter("value", "w").neg_()
    found = {weight_scales(guide.sites, Gaussian(), guide)["w"]["posterior_std"] for _ in range(5)}
    values = torch.stack([guide.member(i).distribution("w").mean for i in range(2)])
    assert len(found) == 1
    assert found.pop() == pytest.approx(values.var(0, unbiased=False).mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("members", [0, 2])
def test_draws_tell_the_width_of_a_posterior_whose_distribution_is_not_told(members: int) -> None:
    """n = 36,864 weights of kurtosis κ = 3 + 6 / (ν − 4) = 4.2: the relative standard error is ½ √((κ + 1) / 2n), 0.42 %."""
    settings = {"guide": lambda sites: Auto(sites, Student), "members": members} if members else {"family": Student}
    guide = make(Ensemble if members else Auto, {"w": torch.ones(64, 64, 3, 3)}, **settings)
    found = weight_scales(guide.sites, Gaussian(), guide)["w"]["posterior_std"]
    assert found == pytest.approx(SCALE * (DEGREES / (DEGREES - 2)) ** 0.5, rel=4 * 0.0042)
