import inspect
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, autoguide

import guides
from guides import Auto, Guide, MeanField
from guides.auto import adapter
from pyro_dwp.cli.names import portable, resolve
from pyro_dwp.cli.parser import ScriptParser, instantiate
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import JointAdam

SITES = {
    "down.conv.weight": WeightSite("down.conv.weight", torch.Size((3, 2, 2, 2)), "1"),
    "down.conv.bias": WeightSite("down.conv.bias", torch.Size((3,)), "bias"),
}
KIND = Callable[[dict, dict], Guide]
JOINT = ["AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal"]
OWN = '''
from pyro.infer.autoguide import AutoDiagonalNormal


class Mine(AutoDiagonalNormal):
    """An autoguide of my own."""

    def __init__(self, model, colour: str = "red", **settings):
        super().__init__(model, **settings)
        self.colour = colour
'''


def script(guide: KIND, seed: int = 0) -> None:
    """Stand for a script.

    Args:
        guide: variational family.
        seed: of the noise.
    """


@pytest.fixture
def start() -> dict:
    return {name: 0.02 * torch.randn(site.shape) for name, site in SITES.items()}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path / 'mine.py'}:Mine"


@pytest.mark.parametrize("family", ["AutoNormal", *JOINT])
def test_its_width_starts_relative_to_all_start_weights(family: str, start: dict) -> None:
    every = torch.cat([value.flatten() for value in start.values()])
    guide = getattr(guides.auto, family)(SITES, start, relative_scale=0.2)
    for name in SITES:
        q = guide.distribution(name)
        torch.testing.assert_close(q.mean, start[name])
        expected = 0.2 * every.square().mean().sqrt()
        if family == "AutoLowRankMultivariateNormal":  # Pyro's factor starts random
            assert 0.5 * expected < q.variance.mean().sqrt() < 2 * expected
        else:
            torch.testing.assert_close(q.variance.sqrt(), expected.expand(start[name].shape))


@pytest.mark.parametrize("family", JOINT)
def test_a_sites_own_distribution_is_the_marginal_of_the_joint(family: str, start: dict) -> None:
    guide = getattr(guides.auto, family)(SITES, start)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    joint = guide.autoguide.get_posterior()
    covariance = getattr(joint, "covariance_matrix", None)
    covariance = torch.diag(joint.variance) if covariance is None else covariance
    parts = {"down.conv.weight": slice(0, 24), "down.conv.bias": slice(24, 27)}
    for name, part in parts.items():
        q, value = guide.distribution(name), torch.randn(SITES[name].shape)
        expected = dist.MultivariateNormal(joint.mean[part], covariance[part, part]).log_prob(value.flatten())
        torch.testing.assert_close(q.log_prob(value), expected, rtol=1e-3, atol=1e-3)


def test_auto_normal_has_in_mean_the_loss_of_the_mean_field(start: dict) -> None:
    """The mean field's divergence is exact; AutoNormal's of 300 draws must meet it within its error."""

    def model() -> None:
        for name, site in SITES.items():
            pyro.sample(name, dist.Normal(torch.zeros(site.shape), 0.05).to_event(len(site.shape)))

    alike = {name: start[name] / start[name].square().mean().sqrt() for name in SITES}
    exact = AuxiliaryELBO().loss(model, MeanField(SITES, alike))
    auto, elbo = guides.auto.AutoNormal(SITES, alike), AuxiliaryELBO()
    losses = torch.tensor([elbo.loss(model, auto) for _ in range(300)])
    assert abs(losses.mean() - exact) < 4 * losses.std() / len(losses) ** 0.5
    assert losses.std() / len(losses) ** 0.5 < 0.02 * exact


@pytest.mark.parametrize("family", ["AutoNormal", "AutoDelta", *JOINT])
def test_svi_moves_it_to_the_posterior_of_a_constant_prior(family: str, start: dict) -> None:
    def model() -> None:
        for name, site in SITES.items():
            pyro.sample(name, dist.Normal(torch.full(site.shape, 0.5), 0.05).to_event(len(site.shape)))

    guide = getattr(guides.auto, family)(SITES, start)
    svi = SVI(model, guide, JointAdam({"theta": [guide]}, 0.03), AuxiliaryELBO())
    for _ in range(90):
        svi.step()
    for name in SITES:
        assert (guide.distribution(name).mean - 0.5).abs().max() < 0.15


@pytest.mark.parametrize(
    "family", ["AutoLaplaceApproximation", "AutoIAFNormal", "AutoStructured", "AutoGaussian", "AutoGuideList"]
)
def test_an_autoguide_that_a_stand_in_cannot_serve_is_refused_with_the_cure(family: str, start: dict) -> None:
    with pytest.raises(ConfigError, match=f"{family} cannot be used .*AutoNormal"):
        getattr(guides.auto, family)(SITES, start)


def test_what_is_no_autoguide_is_refused_and_a_misspelt_one_corrected(start: dict) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'pyro\.infer\.autoguide\.AutoNormal'"):
        Auto(SITES, start, "pyro.infer.autoguide.AutoNorml")
    with pytest.raises(ConfigError, match=r"subclass of pyro\.infer\.autoguide\.AutoGuide.*'SVI'"):
        Auto(SITES, start, "pyro.infer.SVI")


def test_an_autoguide_that_would_fill_the_memory_is_refused() -> None:
    large = {"w": WeightSite("w", torch.Size((500, 100, 3, 3)), "1")}
    begin = {"w": torch.ones(()).expand(500, 100, 3, 3)}
    with pytest.raises(ConfigError, match=r"2\.0e\+11 numbers for these 450000 weights.*low_rank"):
        guides.auto.AutoMultivariateNormal(large, begin)
    with pytest.raises(ConfigError, match=r"3\.0e\+08 numbers for these 450000 weights.*--guide\.rank 8"):
        Auto(large, begin, "pyro.infer.autoguide.AutoLowRankMultivariateNormal")


def test_the_adapter_shows_the_autoguides_own_arguments_and_a_relative_scale() -> None:
    shown = inspect.signature(guides.auto.AutoLowRankMultivariateNormal).parameters
    assert list(shown) == ["sites", "start", "relative_scale", "init_scale", "rank"]
    assert adapter(autoguide.AutoNormal) is guides.auto.AutoNormal
    with pytest.raises(AttributeError, match="AutoNonsense"):
        _ = guides.auto.AutoNonsense


def test_a_dotted_path_and_a_file_name_the_adapter_and_are_written_back(mine: str) -> None:
    path = resolve("pyro.infer.autoguide.AutoNormal", Guide, "guide")
    assert path == "guides.auto.AutoNormal"
    assert resolve(portable(path), Guide, "guide") == path
    own = resolve(mine, Guide, "guide")
    assert own.startswith("guides.auto.")
    assert portable({"class_path": own}) == {"class_path": mine}
    assert resolve("guides.MeanField", Guide, "guide") == portable("guides.MeanField") == "guides.MeanField"


def test_the_command_line_builds_an_autoguide_and_its_config_builds_it_again(start: dict) -> None:
    parser = ScriptParser(script)
    flags = parser.translate(["--guide", "pyro.infer.autoguide.AutoNormal", "--guide.init_scale", "0.01"])
    settings = parser.parse({}, flags)
    again = instantiate(KIND, parser.plain(settings)["guide"])
    for made in (parser.build(settings)["guide"](SITES, start), again(SITES, start)):
        assert isinstance(made.autoguide, autoguide.AutoNormal)
        torch.testing.assert_close(
            made.distribution("down.conv.bias").variance.sqrt(), torch.full((3,), 0.01), rtol=1e-4, atol=0
        )


def test_an_autoguide_in_a_file_of_the_users_own_takes_its_own_arguments(mine: str, start: dict) -> None:
    parser = ScriptParser(script)
    settings = parser.parse({}, parser.translate(["--guide", mine, "--guide.colour", "blue"]))
    guide = parser.build(settings)["guide"](SITES, start)
    assert guide.autoguide.colour == "blue"
    assert parser.plain(settings)["guide"]["class_path"] == mine
    nested = {"class_path": "guides.Ensemble", "init_args": {"guide": mine, "members": 2}}
    assert instantiate(KIND, nested)(SITES, start).member(1).autoguide.colour == "red"
