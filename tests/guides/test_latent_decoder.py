"""Which decoder a latent guide takes beside a deep weight prior."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guides import Ensemble, Guide, Latent, MeanField
from guides.latent import describe_decoder
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Assigned, DeepWeight, DeepWeightDensity, Gaussian, PriorFamily, Rule
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite

SITES = {"w": WeightSite("w", torch.Size([4, 2, 3, 3, 3]), "1")}
START = {"w": 0.02 * torch.randn(4, 2, 3, 3, 3)}
WRAPPED = {
    "alone": lambda prior: prior,
    "by a rule": lambda prior: Assigned([Rule(Gaussian(), name="other"), Rule(prior)]),
}


def stored(path: Path) -> str:
    save_prior(path, {"1": DeepWeightDensity((3, 3, 3), latent=2, hidden=8, kernel_scale=0.02)}, {})
    return str(path)


def latent(path: str | None) -> Guide:
    return Latent(SITES, START, path=path)


def ensemble(path: str | None) -> Guide:
    return Ensemble(SITES, START, guide=lambda *given: Latent(*given, path=path), members=2)


@pytest.mark.parametrize(("build", "flag"), [(latent, "--guide.path"), (ensemble, "--guide.guide.path")])
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_the_shipped_decoder_is_refused_beside_a_prior_with_another(
    wrapped: str, build: Callable[[str | None], Guide], flag: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / "mine.safetensors")
    prior: PriorFamily = WRAPPED[wrapped](DeepWeight(path))
    with pytest.raises(ConfigError, match=f"assets.*Add {flag} {path}"):
        describe_decoder(build(None), prior)
    assert describe_decoder(build(path), prior) == f"The latent guide decodes with {path}."


def test_another_decoder_that_was_chosen_is_named_with_the_flag_that_makes_them_equal(tmp_path: Path) -> None:
    path, other = stored(tmp_path / "mine.safetensors"), stored(tmp_path / "other.safetensors")
    line = describe_decoder(latent(other), DeepWeight(path))
    assert line.startswith(f"The latent guide decodes with {other}. It is another decoder than the prior's")
    assert f"--guide.path {path} makes them equal" in line


def test_a_copy_of_the_file_is_the_same_decoder(tmp_path: Path) -> None:
    path = stored(tmp_path / "mine.safetensors")
    copy = shutil.copy(path, tmp_path / "copy.safetensors")
    assert describe_decoder(latent(str(copy)), DeepWeight(path)) == f"The latent guide decodes with {copy}."


@pytest.mark.parametrize("prior", [Gaussian, DeepWeight])
def test_the_shipped_decoder_goes_with_the_shipped_prior_and_with_any_that_decodes_nothing(
    prior: Callable[[], PriorFamily],
) -> None:
    assert describe_decoder(latent(None), prior()).endswith("hippocampus.safetensors.")


def test_a_guide_without_a_decoder_has_nothing_to_say() -> None:
    assert describe_decoder(MeanField(SITES, START), DeepWeight()) == ""
