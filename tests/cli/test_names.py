"""Names of classes, and building them again from the config of a run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from guides import Guide, MeanField
from pyro_dwp.cli import instantiate
from pyro_dwp.cli.names import NAMES, class_parameters, legal_names, load_class, resolve
from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.nn import UNet
from pyro_dwp.priors import PriorFamily
from pyro_dwp.train import Schedule


@pytest.mark.parametrize(("name", "path"), [item for group in NAMES for item in group.items()])
def test_a_short_name_is_the_class_name_in_snake_case(name: str, path: str) -> None:
    found = load_class(path).__name__
    assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found).lower().replace("u_net", "unet") == name


@pytest.mark.parametrize("base", [nn.Module, CaseSource, PriorFamily, Likelihood, Guide])
def test_a_base_selects_its_own_group(base: type) -> None:
    names = legal_names(base)
    assert names
    assert all(issubclass(load_class(path), base) for path in names.values())
    assert sum(names == legal_names(other) for other in (nn.Module, CaseSource, PriorFamily, Likelihood, Guide)) == 1


def test_only_classes_are_given_by_name() -> None:
    def main(
        prior: PriorFamily | None,
        guide: Callable[[dict, dict], Guide],
        schedule: Schedule,
        file: Path,
        text: str | None,
        sizes: tuple[int, ...],
        rates: dict[str, float],
    ) -> None: ...

    assert class_parameters(main) == {"prior": PriorFamily, "guide": Guide}


def test_an_unknown_class_in_a_users_file_lists_those_there(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine: pass\n")
    with pytest.raises(ConfigError, match="Did you mean 'Mine'"):
        resolve(f"{tmp_path / 'mine.py'}:Mne", object, "--prior")


def test_a_users_file_may_have_the_name_of_an_installed_module(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("class Mine: pass\n")
    assert load_class(resolve(f"{tmp_path / 'torch.py'}:Mine", object, "--prior")).__name__ == "Mine"
    assert load_class("torch.Tensor") is not None


def test_parts_of_a_run_are_built_again_from_its_config() -> None:
    network = instantiate(nn.Module, {"class_path": "pyro_dwp.nn.UNet", "init_args": {"channels": [4, 8]}})
    assert isinstance(network, UNet)
    guide = instantiate(
        Callable[[dict, dict], Guide], {"class_path": "mean_field", "init_args": {"relative_scale": 0.5}}
    )
    assert isinstance(guide({}, {}), MeanField)
    preprocess = instantiate(Preprocess, {"grid": [8, 8, 8], "label_map": {"1": 1}})
    assert preprocess == Preprocess(grid=(8, 8, 8), label_map={1: 1})
    assert instantiate(Schedule, {"epochs": 3}) == Schedule(epochs=3)


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        instantiate(Schedule, {"epochs": "many"})
