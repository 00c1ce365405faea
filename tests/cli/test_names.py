"""Names of classes, and building them again from the config of a run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from guides import Guide, MeanField, Point
from pyro_dwp.cli import instantiate
from pyro_dwp.cli.names import (
    NAMES,
    class_parameters,
    legal_names,
    load_class,
    nested_parameters,
    resolve,
    resolve_tree,
)
from pyro_dwp.cli.parser import ScriptParser
from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.nn import UNet
from pyro_dwp.priors import PriorFamily
from pyro_dwp.train import Schedule

MY_PAIR = """
from collections.abc import Callable
from typing import TYPE_CHECKING

from guides import Guide

if TYPE_CHECKING:
    from nowhere import Nothing


class Pair(Guide):
    def __init__(
        self, sites: dict, start: dict, guide: Callable[[dict, dict], Guide], note: str = "", network: str = ""
    ) -> None:
        super().__init__(sites, start)
        self.guide, self.note, self.network = guide(sites, start), note, network

    def distribution(self, name):
        return self.guide.distribution(name)


class Unresolvable:
    def __init__(self, guide: "Nothing") -> None:
        self.guide = guide
"""


def script(guide: Callable[[dict, dict], Guide], network: Callable[[], nn.Module] = UNet) -> None:
    """Do nothing.

    Args:
        guide: of the weights.
        network: any.
    """


@pytest.fixture
def pair(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MY_PAIR)
    return f"{tmp_path / 'mine.py'}:Pair"


def build(*flags: str, config: dict | None = None) -> Guide:
    """Return the guide that a script with these flags, and a config before them, would be given."""
    parser = ScriptParser(script)
    configs = {"config": resolve_tree(config, parser.bases)} if config else {}
    settings = parser.parse(configs, parser.translate(flags))
    assert parser.plain(settings) == parser.plain(
        parser.parse({"again": resolve_tree(parser.plain(settings), parser.bases)}, [])
    )
    return parser.build(settings)["guide"]({}, {})


@pytest.mark.parametrize(("name", "path"), [item for group in NAMES for item in group.items()])
def test_a_short_name_is_the_class_name_in_snake_case(name: str, path: str) -> None:
    found = load_class(path).__name__
    assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found).lower().removeprefix("fit_").replace("u_net", "unet") == name


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


def test_short_names_are_resolved_wherever_a_class_is_taken(pair: str) -> None:
    inner = {"class_path": "point"}
    tree = {"guide": {"class_path": pair, "init_args": {"guide": {"class_path": pair, "init_args": {"guide": inner}}}}}
    found = resolve_tree(tree, {"guide": Guide})["guide"]["init_args"]["guide"]["init_args"]["guide"]
    assert found == {"class_path": "guides.Point"}
    rules = [{"prior": "gaussian"}, {"prior": None, "name": "prior"}, {"prior": {"class_path": "deep_weight"}}]
    below = resolve_tree(
        {"x": {"class_path": "pyro_dwp.priors.Assigned", "init_args": {"rules": rules}}}, {"x": PriorFamily}
    )["x"]["init_args"]["rules"]
    assert below == [
        {"prior": "pyro_dwp.priors.Gaussian"},
        {"prior": None, "name": "prior"},
        {"prior": {"class_path": "pyro_dwp.priors.DeepWeight"}},
    ]


def test_a_key_that_takes_no_class_keeps_its_value(pair: str) -> None:
    bases = {"guide": Guide, "network": nn.Module}
    tree = {
        "guide": {"class_path": pair, "init_args": {"guide": "point", "network": "runs/a/network.safetensors"}},
        "methods": {"guide": "--guide point", "network": ["unet"]},
    }
    found = resolve_tree(tree, bases)
    assert found["guide"]["init_args"] == {"guide": "guides.Point", "network": "runs/a/network.safetensors"}
    assert found["methods"] == tree["methods"]


def test_an_unknown_name_below_a_class_is_refused_with_its_place(pair: str) -> None:
    tree = {"guide": {"class_path": pair, "init_args": {"guide": "pont"}}}
    with pytest.raises(
        ConfigError, match=r"guide\.init_args\.guide: there is no Guide called 'pont'.*Did you mean 'point'"
    ):
        resolve_tree(tree, {"guide": Guide})


def test_what_has_no_readable_annotations_takes_no_classes(pair: str) -> None:
    assert nested_parameters(load_class(resolve(pair, Guide, "guide"))) == {"guide": Guide}
    unreadable = load_class(resolve(pair.replace(":Pair", ":Unresolvable"), object, "x"))
    for target in (unreadable, None, nn.Identity, dict):
        assert nested_parameters(target) == {}


def test_a_flag_below_a_class_takes_a_short_name(pair: str) -> None:
    flags = ["--guide", pair, "--guide.guide", "mean_field", "--guide.guide.relative_scale", "0.5", "--guide.note=a [b"]
    built = build(*flags, "--guide.network", "runs/a/network.safetensors")
    assert isinstance(built.guide, MeanField)
    assert (built.note, built.network) == ("a [b", "runs/a/network.safetensors")
    assert isinstance(
        build("--guide", pair, f"--guide.guide={pair}", "--guide.guide.guide", "point").guide.guide, Point
    )
    assert isinstance(build("--guide", pair, "--guide.guide", "{class_path: point}").guide, Point)
    assert build("--guide", pair, "--guide.guide", "point", "--guide.note", "[unclosed").note == "[unclosed"


def test_a_flag_below_a_class_replaces_the_class_in_a_config(pair: str) -> None:
    inner = {"class_path": "mean_field", "init_args": {"relative_scale": 0.5}}
    config = {"guide": {"class_path": pair, "init_args": {"guide": inner, "note": "kept"}}}
    assert isinstance(build(config=config).guide, MeanField)
    built = build("--guide.guide", "point", config=config)
    assert isinstance(built.guide, Point)
    assert built.note == "kept"


def test_an_unknown_name_in_a_flag_below_a_class_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match=r"--guide\.guide: there is no Guide called 'pont'.*Did you mean 'point'"):
        build("--guide", pair, "--guide.guide", "pont")
