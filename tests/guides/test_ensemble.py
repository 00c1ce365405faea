import math
from collections import Counter
from collections.abc import Iterator
from itertools import count

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from guides import Ensemble, Guide, LowRank, MeanField, Point
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import SVI, JointAdam
from tests.helpers.guides import make, moved
from tests.helpers.monte_carlo import assert_mean

SITES = {
    "a": WeightSite("a", torch.Size((6, 4, 3, 3)), "1"),
    "b": WeightSite("b", torch.Size((5,)), "bias"),
}


def model() -> None:
    for name, site in SITES.items():
        pyro.sample(name, dist.Normal(torch.zeros(site.shape), 1.0).to_event(len(site.shape)))


def ensemble_of(guide: type[Guide], members: int) -> Ensemble:
    """Return an ensemble whose member number m starts from weights around m."""
    ensemble, numbers = Ensemble(SITES, guide, members), count()

    def draw() -> dict[str, Tensor]:
        number = next(numbers)
        return {name: number + torch.rand(site.shape) for name, site in SITES.items()}

    ensemble.start(draw, Gaussian())
    return ensemble


def drawn(ensemble: Ensemble) -> Iterator[int]:
    """Tell for each draw of an ensemble of points which member it came from, and check that all sites did."""
    while True:
        numbers = {int(weight.floor().unique()) for weight in ensemble().values()}
        assert len(numbers) == 1
        yield numbers.pop()


def test_members_are_drawn_alike_often_and_all_sites_from_the_same_one() -> None:
    draws = Counter(number for number, _ in zip(drawn(ensemble_of(Point, 4)), range(400), strict=False))
    assert all(abs(draws[member] - 100) < 4 * math.sqrt(400 * 3 / 16) for member in range(4))


@pytest.mark.parametrize("family", [Point, MeanField, LowRank])
def test_a_step_moves_the_drawn_member_and_leaves_the_others_bit_for_bit(family: type[Guide]) -> None:
    ensemble = ensemble_of(family, 3)
    adam = JointAdam({"posterior": [ensemble]}, 1e-2, clip_norm=1.0)
    svi = SVI(model, ensemble, adam, AuxiliaryELBO())
    steps, members = Counter(), [ensemble.member(m) for m in range(3)]
    for _ in range(8):
        (member,) = [m for m, names in enumerate(moved(members, svi.step)) if names]
        steps[member] += 1
    for m in steps:
        counted = {int(adam.optimiser.state[p]["step"]) for p in members[m].parameters()}
        assert counted == {steps[m]}  # Adam's own count, which its bias correction uses


def test_the_loss_is_in_mean_the_average_of_the_members() -> None:
    ensemble, elbo = ensemble_of(MeanField, 3), AuxiliaryELBO()
    members = torch.tensor([elbo.loss(model, ensemble.member(m)) for m in range(3)])  # exact: no data, Gaussian prior
    losses = torch.tensor([elbo.loss(model, ensemble) for _ in range(400)])
    assert torch.cdist(losses[:, None], members[:, None]).min(1).values.max() < 1e-2
    assert_mean(losses, members.mean(), within=0.05 * members.mean())


@pytest.mark.parametrize(
    ("distance", "least", "most"), [(0.0, 0.0, 0.0), (1.0, 0.0, math.log(3)), (30.0, *[math.log(3)] * 2)]
)
def test_the_average_entropy_is_a_bound_on_the_mixtures_by_at_most_log_m(distance, least, most):
    """20,000 draws of 2 weights; the standard error of H is below 0.01 nats."""
    ensemble = make(Ensemble, {"w": torch.tensor([1.0, -1.0])}, members=3)
    with torch.no_grad():
        for m in range(3):
            ensemble.member(m).parameter("mean", "w").add_(m * distance * 0.1)
        mixture = ensemble.distribution("w")
        surprise = -mixture.log_prob(mixture.sample((20_000,)))
        average = torch.stack([ensemble.member(m).distribution("w").entropy() for m in range(3)]).mean()
    assert_mean(surprise - average, 0.5 * (least + most), within=0.01, bias=0.5 * (most - least))


def test_an_ensemble_of_ensembles_is_an_ensemble() -> None:
    nested = ensemble_of(lambda sites: Ensemble(sites, Point, members=2), 2)
    assert {number for number, _ in zip(drawn(nested), range(60), strict=False)} == {0, 1, 2, 3}
