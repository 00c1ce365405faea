import math
from collections import Counter
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI

from guides import Ensemble, Guide, LowRank, MeanField, Point
from pyro_dwp.cli.parser import instantiate
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import JointAdam
from pyro_dwp.transfer import StartWeights

SITES = {
    "a": WeightSite("a", torch.Size((6, 4, 3, 3)), "1"),
    "b": WeightSite("b", torch.Size((5,)), "bias"),
}


@pytest.fixture
def start() -> dict:
    return {name: torch.randn(site.shape) for name, site in SITES.items()}


def model() -> None:
    for name, site in SITES.items():
        pyro.sample(name, dist.Normal(torch.zeros(site.shape), 1.0).to_event(len(site.shape)))


def drawn_member(ensemble: Ensemble) -> int:
    """Tell which member of an ensemble of points a draw came from."""
    weights = ensemble()
    return next(m for m in range(ensemble.members) if torch.equal(ensemble.member(m)()["a"], weights["a"]))


def test_members_are_drawn_alike_often_and_all_sites_from_the_same_one(start: dict) -> None:
    ensemble = Ensemble(SITES, start, Point, members=4)
    draws = Counter()
    for _ in range(400):
        weights = ensemble()
        member = next(m for m in range(4) if torch.equal(ensemble.member(m).parameter("value", "a"), weights["a"]))
        assert torch.equal(ensemble.member(member).parameter("value", "b"), weights["b"])
        draws[member] += 1
    assert all(abs(draws[member] - 100) < 4 * math.sqrt(400 * 3 / 16) for member in range(4))


def test_the_draw_follows_torchs_seed(start: dict) -> None:
    ensemble = Ensemble(SITES, start, Point, members=4)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append([drawn_member(ensemble) for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4


@pytest.mark.parametrize("family", [Point, MeanField, LowRank])
def test_a_step_moves_the_drawn_member_and_leaves_the_others_bit_for_bit(family: type[Guide], start: dict) -> None:
    ensemble = Ensemble(SITES, start, family, members=3)
    adam = JointAdam({"theta": [ensemble]}, 1e-2, clip_norm=1.0)
    svi = SVI(model, ensemble, adam, AuxiliaryELBO())
    steps = Counter()
    for _ in range(8):
        before = [[p.detach().clone() for p in ensemble.member(m).parameters()] for m in range(3)]
        svi.step()
        moved = [
            any(not torch.equal(p, q) for p, q in zip(ensemble.member(m).parameters(), before[m], strict=True))
            for m in range(3)
        ]
        assert sum(moved) == 1
        steps[moved.index(True)] += 1
    for m in range(3):
        counted = {int(adam.optimiser.state[p]["step"]) for p in ensemble.member(m).parameters() if steps[m]}
        assert counted <= {steps[m]}  # Adam's own count, which its bias correction uses


def test_the_loss_is_in_mean_the_average_of_the_members(start: dict) -> None:
    ensemble = Ensemble(SITES, start, MeanField, members=3)
    with torch.no_grad():
        for m in range(3):
            ensemble.member(m).parameter("mean", "a").mul_(1 + m)
    elbo = AuxiliaryELBO()
    members = torch.tensor([elbo.loss(model, ensemble.member(m)) for m in range(3)])  # exact: no data, Gaussian prior
    losses = torch.tensor([elbo.loss(model, ensemble) for _ in range(400)])
    assert torch.cdist(losses[:, None], members[:, None]).min(1).values.max() < 1e-2
    assert abs(losses.mean() - members.mean()) < 4 * losses.std() / math.sqrt(len(losses))


@pytest.mark.parametrize("distance", [0.0, 1.0, 30.0])
def test_the_average_entropy_is_a_bound_on_the_mixtures_by_at_most_log_m(distance: float) -> None:
    """20,000 draws of 2 weights; the standard error of H is below 0.01 nats."""
    site = WeightSite("w", torch.Size((2,)), "bias")
    ensemble = Ensemble({"w": site}, {"w": torch.tensor([1.0, -1.0])}, members=3, shuffle=False)
    with torch.no_grad():
        for m in range(3):
            ensemble.member(m).parameter("mean", "w").add_(m * distance * 0.1)
        mixture = ensemble.distribution("w")
        surprise = -mixture.log_prob(mixture.sample((20_000,)))
        average = torch.stack([ensemble.member(m).distribution("w").entropy() for m in range(3)]).mean()
    error = surprise.std() / math.sqrt(len(surprise))
    gap = surprise.mean() - average
    assert error < 0.01
    assert -4 * error < gap < math.log(3) + 4 * error
    if distance in (0.0, 30.0):
        assert abs(gap - (math.log(3) if distance else 0.0)) < 4 * error


def test_later_members_start_from_the_same_kernels_in_another_order(start: dict) -> None:
    ensemble = Ensemble(SITES, start, Point, members=3)
    begin = [ensemble.member(m).parameter("value", "a").detach() for m in range(3)]
    assert torch.equal(begin[0], start["a"])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(begin[one], begin[other])
    kernels = [{tuple(kernel) for kernel in value.reshape(24, 9).tolist()} for value in begin]
    assert kernels[0] == kernels[1] == kernels[2]
    biases = [sorted(ensemble.member(m).parameter("value", "b").tolist()) for m in range(3)]
    assert biases[0] == biases[1] == biases[2]


def test_without_shuffling_all_members_start_from_the_start(start: dict) -> None:
    ensemble = Ensemble(SITES, start, Point, members=3, shuffle=False)
    assert all(torch.equal(ensemble.member(m).parameter("value", "a"), start["a"]) for m in range(3))


def test_an_ensemble_of_ensembles_is_an_ensemble(start: dict) -> None:
    def pair(sites: dict, start: dict) -> Ensemble:
        return Ensemble(sites, start, Point, members=2)

    nested = Ensemble(SITES, start, pair, members=2)
    points = {nested()["a"][0, 0, 0, 0].item() for _ in range(60)}
    values = {nested.member(i).member(j).parameter("value", "a")[0, 0, 0, 0].item() for i in range(2) for j in range(2)}
    assert points == values


@pytest.mark.parametrize(
    ("given", "family"),
    [
        ({"members": 2}, MeanField),
        ({"members": 2, "guide": "guides.Point"}, Point),
        ({"members": 2, "guide": {"class_path": "guides.LowRank", "init_args": {"rank": 2}}}, LowRank),
    ],
)
def test_it_is_built_from_a_config(given: dict, family: type[Guide], start: dict) -> None:
    value = {"class_path": "guides.Ensemble", "init_args": given}
    ensemble = instantiate(Callable[[dict, dict], Guide], value)(SITES, start)
    assert [type(ensemble.member(m)) for m in range(2)] == [family, family]
    if family is LowRank:
        assert ensemble.member(1).parameter("factor", "a").shape == (216, 2)


def test_an_ensemble_of_nobody_is_refused(start: dict) -> None:
    with pytest.raises(ConfigError, match="members=0"):
        Ensemble(SITES, start, members=0)


def test_kernels_that_have_a_place_of_their_own_keep_it_in_every_member_unless_told_otherwise(start: dict) -> None:
    def values(name: str, **settings: bool) -> list[torch.Tensor]:
        ensemble = Ensemble(SITES, StartWeights(start, placed=["a"]), Point, members=3, **settings)
        return [ensemble.member(m).parameter("value", name) for m in range(3)]

    assert all(torch.equal(value, start["a"]) for value in values("a"))
    assert not any(torch.equal(value, start["b"]) for value in values("b")[1:])
    assert not any(torch.equal(value, start["a"]) for value in values("a", shuffle=True)[1:])


def test_an_ensemble_of_ensembles_keeps_places_too(start: dict) -> None:
    nested = Ensemble(
        SITES, StartWeights(start, SITES), lambda *given: Ensemble(*given, guide=Point, members=2), members=2
    )
    values = [nested.member(i).member(j).parameter("value", "a") for i in range(2) for j in range(2)]
    assert all(torch.equal(value, start["a"]) for value in values)
