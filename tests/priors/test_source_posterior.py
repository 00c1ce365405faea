"""The prior as wide as the source posterior: its moments against plain sums, what permutations change, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyro_dwp.errors import CheckpointError, ConfigError, DataError
from pyro_dwp.nn import UNet, save_network
from pyro_dwp.priors import SourcePosterior
from pyro_dwp.priors.source_posterior import spread
from pyro_dwp.sites import weight_sites
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

Networks = list[list[nn.Conv2d]]
SHAPE = (3, 2, 3, 3)


@pytest.fixture
def networks() -> Networks:
    """Three, two and one snapshot of three networks."""
    return [[nn.Conv2d(2, 3, 3, bias=False) for _ in range(cycles)] for cycles in (3, 2, 1)]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes networks as a source run, whose folder it returns."""

    def write(networks: Networks, name: str = "source") -> Path:
        for number, snapshots in enumerate(networks):
            for cycle, network in enumerate(snapshots):
                path = tmp_path / name / "networks" / f"network-{number:02d}-cycle-{cycle}.safetensors"
                save_network(path, network, {"network": number, "cycle": cycle})
        return tmp_path / name

    return write


def moments(prior: SourcePosterior) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each weight of the only site."""
    q = prior.site_distribution(weight_sites(nn.Conv2d(2, 3, 3, bias=False))["weight"])
    return q.mean, q.stddev


def weights(networks: Networks) -> list[list[list[float]]]:
    return [[each.weight.detach().flatten().double().tolist() for each in snapshots] for snapshots in networks]


@pytest.mark.parametrize("around", ["network", "all"])
def test_mean_and_width_are_the_sums_that_its_page_says(around: str, networks: Networks, source: Callable) -> None:
    shrinkage, rescale = 1.5, 3.0
    every = weights(networks)
    every = [[x for xs in every for x in xs]] if around == "all" else every
    means = [[sum(x[i] for x in xs) / len(xs) for i in range(54)] for xs in every]
    squares = [[sum((x[i] - m[i]) ** 2 for x in xs) for i in range(54)] for xs, m in zip(every, means, strict=True)]
    layer = sum(sum(square) / 54 for square in squares) / sum(len(xs) - 1 for xs in every)
    freedom = len(every[0]) - 1 + shrinkage
    width = [rescale * ((square + shrinkage * layer) / freedom) ** 0.5 for square in squares[0]]
    mean, deviation = moments(SourcePosterior(source(networks), rescale, around, shrinkage))
    torch.testing.assert_close(mean, torch.tensor(means[0]).reshape(SHAPE))
    torch.testing.assert_close(deviation, torch.tensor(width).reshape(SHAPE))


def test_permuting_the_channels_of_every_network_but_the_first_changes_only_a_prior_around_all(networks, source):
    first = source(networks, "a")
    for snapshots in networks[1:]:
        rows, columns = torch.randperm(3), torch.tensor([1, 0])
        for network in snapshots:
            network.weight.data = network.weight.data[rows][:, columns]
    second = source(networks, "b")
    for around in ("network", "all"):
        before, after = (moments(SourcePosterior(folder, around=around)) for folder in (first, second))
        same = [torch.allclose(a, b, rtol=1e-5) for a, b in zip(before, after, strict=True)]
        assert same == [around == "network"] * 2


def test_with_one_snapshot_of_the_first_network_every_weight_has_the_others_width(networks, source):
    mean, deviation = moments(SourcePosterior(source(networks[::-1])))
    assert torch.equal(mean, networks[-1][0].weight)
    assert deviation.unique().numel() == 1
    torch.testing.assert_close(deviation, moments(SourcePosterior(source(networks[:2], "b"), shrinkage=1e9))[1])


def test_many_draws_of_a_posterior_give_back_its_moments() -> None:
    """2,000 draws; the relative standard error of a variance is sqrt(2 / 2,000) = 0.032."""
    torch.set_default_dtype(torch.float64)
    v, s = torch.randn(SHAPE), torch.rand(SHAPE) + 0.1
    draws = v + s * torch.randn(2_000, *SHAPE)
    mean, deviation = spread([draws], shrinkage=1e-9)
    assert torch.equal(mean, draws.mean(0))
    assert_mean(draws, v, within=0.03)
    assert ((deviation / s).square() - 1).abs().max() < 4 * 0.032


def test_a_folder_is_its_files_each_counted_once_and_several_runs_follow_each_other(networks, source):
    folder = source(networks)
    files = sorted((folder / "networks").iterdir())
    expected = moments(SourcePosterior(folder))
    for given in ([folder], files, [*files, folder]):
        assert all(torch.equal(a, b) for a, b in zip(expected, moments(SourcePosterior(given)), strict=True))
    parts = [source([part], f"part-{number}") for number, part in enumerate(networks)]
    assert all(torch.equal(a, b) for a, b in zip(expected, moments(SourcePosterior(parts)), strict=True))


def test_it_follows_the_model_to_float64_and_is_neither_stored_nor_trained(networks, source):
    prior = SourcePosterior(source(networks)).double()
    assert {moment.dtype for moment in moments(prior)} == {torch.float64}
    assert not prior.state_dict()
    assert not list(prior.parameters())


def test_sources_that_give_no_width_or_do_not_fit_are_refused_with_the_cure(networks, source, tmp_path):
    single = source([snapshots[:1] for snapshots in networks], "single")
    with refuses("single", "--cycles", "--prior pretrained", error=ConfigError):
        SourcePosterior(single)
    moments(SourcePosterior(single, around="all"))
    twins = SourcePosterior(source([networks[0][:1] * 2], "twins"))
    with refuses("twins", "'weight'", "--prior assigned", error=ConfigError):
        moments(twins)
    mixed = source([networks[0], [nn.Conv2d(4, 3, 3, bias=False)]], "mixed")
    with refuses("network-01-cycle-0", "(3, 2, 3, 3)", "(3, 4, 3, 3)", error=CheckpointError):
        SourcePosterior(mixed)
    with refuses("none", error=CheckpointError):
        SourcePosterior(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with refuses("empty/networks", "train_source", error=DataError):
        SourcePosterior(tmp_path / "empty")
    site = weight_sites(UNet(channels=(2, 4), ndim=2))["init_conv.weight"]
    with refuses("'init_conv.weight'", "--prior assigned", error=CheckpointError):
        SourcePosterior(source(networks)).distribution(site)
    for setting in ("rescale", "shrinkage"):
        with refuses(f"{setting} is 0", error=ConfigError):
            SourcePosterior(source(networks), **{setting: 0.0})
