"""What every prior promises, and what each family says of itself."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, Gaussian, PriorFamily
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite, weight_sites

CHANNELS = (2, 4)


def stored(folder: Path, ndim: int, metadata: dict | None = None) -> str:
    path = folder / f"prior-{ndim}.safetensors"
    shape = (3,) * ndim
    groups = sorted(set(UNet(channels=CHANNELS, ndim=ndim).kernel_groups().values()))
    densities = {group: DeepWeightDensity(shape, latent=2, hidden=8, kernel_scale=0.1) for group in groups}
    save_prior(path, densities, metadata or {})
    return str(path)


@pytest.fixture(params=["gaussian", "deep_weight"])
def family(request: pytest.FixtureRequest, tmp_path: Path, ndim: int) -> PriorFamily:
    return Gaussian() if request.param == "gaussian" else DeepWeight(stored(tmp_path, ndim))


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_prior_samples_each_site_in_its_shape(family: PriorFamily, ndim: int) -> None:
    for site in weight_sites(UNet(channels=CHANNELS, ndim=ndim)).values():
        prior = family.site_distribution(site)
        assert prior.batch_shape == ()
        assert prior.event_shape == prior.sample().shape == site.shape
        assert prior.sample((2,)).shape == (2, *site.shape)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_prior_moves_to_another_dtype(family: PriorFamily, ndim: int) -> None:
    site = next(iter(weight_sites(UNet(channels=CHANNELS, ndim=ndim)).values()))
    assert family.double().site_distribution(site).sample().dtype == torch.float64


def test_the_gaussians_default_scale_is_hes() -> None:
    site = WeightSite("w", torch.Size([8, 4, 3, 3, 3]), "1")
    prior = Gaussian().distribution(site).base_dist
    assert prior.scale.unique().item() == pytest.approx((2 / (4 * 27)) ** 0.5)
    assert Gaussian(gain=0.5).distribution(site).base_dist.scale.unique().item() == pytest.approx((2 / 108) ** 0.5 / 2)


def test_the_gaussians_density_is_torchs() -> None:
    site = WeightSite("w", torch.Size([8, 4, 3, 3, 3]), "1")
    w = torch.randn(site.shape)
    expected = Normal(0.0, 0.2).log_prob(w).sum()
    torch.testing.assert_close(Gaussian(scale=0.2).site_distribution(site).log_prob(w), expected)


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"scale": -1.0}, {"gain": 0.0}])
def test_a_gaussian_without_width_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Gaussian(**settings)


def test_a_deep_weight_prior_has_no_density_and_says_what_to_use(tmp_path: Path) -> None:
    prior = DeepWeight(stored(tmp_path, 3)).distribution(WeightSite("w", torch.Size([1, 1, 3, 3, 3]), "1"))
    with pytest.raises(NotImplementedError, match="AuxiliaryELBO"):
        prior.log_prob(prior.sample())


def test_samples_of_a_deep_weight_prior_have_the_decoders_moments(tmp_path: Path) -> None:
    family = DeepWeight(stored(tmp_path, 2))
    site = WeightSite("w", torch.Size([100, 400, 3, 3]), "1")
    drawn = family.site_distribution(site).sample().flatten(0, 1).flatten(1)
    mean, log_scale = family.densities["1"].decoder(torch.randn(40_000, 2))
    expected = mean.var(0) + (2 * log_scale).exp().mean(0)
    torch.testing.assert_close(drawn.mean(0), mean.mean(0), rtol=0, atol=5 * (expected.max() / 20_000).sqrt().item())
    torch.testing.assert_close(drawn.var(0), expected, rtol=0.05, atol=0)


def test_the_decoder_is_frozen_and_the_encoders_are_fresh_and_trainable(tmp_path: Path) -> None:
    family = DeepWeight(stored(tmp_path, 3))
    assert not any(p.requires_grad for p in family.parameters())
    first, second = family.encoders(), family.encoders()
    for group in first:
        assert all(p.requires_grad for p in first[group].parameters())
        assert not set(map(id, first[group].parameters())) & set(map(id, second[group].parameters()))


def test_a_prior_for_other_kernels_or_groups_names_the_site_and_the_cure(tmp_path: Path) -> None:
    family = DeepWeight(stored(tmp_path, 3))
    with pytest.raises(ConfigError, match=r"'w'.*\(3, 3\).*\(3, 3, 3\).*train_prior"):
        family.distribution(WeightSite("w", torch.Size([1, 1, 3, 3]), "1"))
    with pytest.raises(ConfigError, match=r"'w'.*group '9'.*train_prior"):
        family.distribution(WeightSite("w", torch.Size([1, 1, 3, 3, 3]), "9"))


def test_a_family_whose_prior_has_the_wrong_shape_is_refused_with_both_shapes() -> None:
    class Scalar(PriorFamily):
        def distribution(self, site: WeightSite) -> object:
            return Gaussian(scale=1.0).distribution(WeightSite("v", torch.Size([1, 1, 2, 2]), "1"))

    with pytest.raises(ConfigError, match=r"\(3, 3\).*Scalar.*\(2, 2\)"):
        Scalar().site_distribution(WeightSite("w", torch.Size([1, 1, 3, 3]), "1"))


def test_a_prior_of_networks_of_another_depth_is_refused(tmp_path: Path) -> None:
    family = DeepWeight(
        stored(tmp_path, 3, {"bank": {"layers": {"1": ["init_conv.weight"], "3": ["up1.conv_1.weight"]}}})
    )
    with pytest.raises(ConfigError, match=r"'up1.conv_1.weight' is in group '2'.*in group '3'.*another depth"):
        family.distribution(WeightSite("up1.conv_1.weight", torch.Size([1, 1, 3, 3, 3]), "2"))
