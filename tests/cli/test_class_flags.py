"""Flags that name classes and their arguments: in whatever order, the last class for each, and explained on request."""

import json
from collections.abc import Callable
from itertools import permutations

import pytest

from guides import Guide, LowRank, Point
from pyro_dwp.cli import instantiate
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Gaussian, PriorFamily


def test_a_class_counts_before_its_arguments_wherever_it_stands(received: Callable) -> None:
    for flags in permutations([["--prior", "laplace"], ["--prior.gain", "3"], ["--seed", "4"]]):
        arguments = received(*(part for flag in flags for part in flag))
        assert (type(arguments["prior"]).__name__, arguments["prior"].gain, arguments["seed"]) == ("Laplace", 3, 4)


def test_the_order_of_classes_within_classes_does_not_matter(received: Callable) -> None:
    flags = [("--guide", "ensemble"), ("--guide.guide", "ensemble"), ("--guide.guide.guide", "low_rank")]
    for order in permutations([*flags, ("--guide.guide.guide.rank", "3")]):
        built = received(*(part for flag in order for part in flag))["guide"]
        inner = built.keywords["guide"].keywords["guide"]
        assert isinstance(inner({}, {}), LowRank)
        assert inner.keywords["rank"] == 3


def test_the_last_of_two_values_wins(received: Callable) -> None:
    assert received("--prior.gain", 2, "--prior", "gaussian", "--prior.gain", 3)["prior"].gain == 3


@pytest.mark.parametrize(
    "flags",
    [
        ["--prior", "gaussian", "--prior.gain", "0.1", "--prior", "laplace"],
        ["--prior.gain", "0.1", "--prior=gaussian", "--prior.class_path=laplace"],
        ["--prior", "{class_path: gaussian, init_args: {gain: 0.1}}", "--prior", "laplace"],
        ["--prior", "gaussian", "--prior.init_args.gain", "0.1", "--prior", "laplace"],
    ],
)
def test_the_last_of_two_classes_takes_the_place_of_the_other_with_its_arguments(
    received: Callable, flags: list[str]
) -> None:
    prior = received(*flags)["prior"]
    assert (type(prior).__name__, prior.gain) == ("Laplace", 1)
    assert received(*flags, "--prior.gain", 2)["prior"].gain == 2


def test_the_last_of_two_classes_within_a_class_takes_the_place_of_the_other(received: Callable) -> None:
    flags = ["--guide", "ensemble", "--guide.guide", "low_rank", "--guide.guide.rank", 3, "--guide.guide", "point"]
    assert isinstance(received(*flags)["guide"].keywords["guide"]({}, {}), Point)


def test_one_class_may_be_named_twice(received: Callable) -> None:
    assert received("--prior", "gaussian", "--prior", "pyro_dwp.priors.Gaussian", "--prior.gain", 2)["prior"].gain == 2


def test_a_class_on_the_command_line_still_replaces_that_of_a_config(received: Callable, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(json.dumps({"prior": {"class_path": "gaussian", "init_args": {"gain": 9.0}}}))
    assert received("--config", "mine.yaml", "--prior", "laplace")["prior"].gain == 1
    assert received("--config", "mine.yaml", "--prior", "gaussian")["prior"].gain == 9


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--guide", "low_rank", "--guide.rank", "2.5"], "--guide.rank: must be int, but received 2.5."),
        (["--prior", "gaussian", "--prior.scale", "x"], "--prior.scale: must be float or null, but received x."),
        (
            ["--guide", "ensemble", "--guide.guide", "low_rank", "--guide.guide.rank", "x"],
            "--guide.guide.rank: must be int, but received x.",
        ),
        (
            ["--guide", "mean_field", "--guide.sites", "3"],
            "MeanField has no argument 'sites'. Legal names are: relative_scale.",
        ),
        (["--prior", "assigned", "--prior.rules", "[{nme: x}]"], "--prior.rules: Rule has no argument 'nme'"),
        (
            [
                "--prior",
                "assigned",
                "--prior.rules",
                "[{name: x, prior: {class_path: gaussian, init_args: {gain: x}}}]",
            ],
            "--prior.rules.prior.gain: must be float, but received x.",
        ),
        (
            ["--prior", "assigned", "--prior.rules", "[{name: x, prior: pretrained}]"],
            "--prior.rules.prior: Pretrained cannot do without path. Write path: ... below its init_args.",
        ),
        (["--prior"], "--prior needs a value, such as assigned"),
        (["--prior.gain"], "--prior.gain needs a value"),
    ],
)
def test_a_wrong_argument_of_a_class_is_named_as_its_flag(refused: Callable, flags: list[str], found: str) -> None:
    error = refused(*flags)
    assert found in error
    assert error.count("\n") == 1


def test_a_mistake_in_a_rule_is_named_with_file_and_key(refused: Callable, tmp_path) -> None:
    rules = [{"nme": "x", "prior": "gaussian"}]
    (tmp_path / "mine.yaml").write_text(
        json.dumps({"prior": {"class_path": "assigned", "init_args": {"rules": rules}}})
    )
    error = refused("--config", "quick", "--config", "mine.yaml")
    assert "mine.yaml: prior.rules: Rule has no argument 'nme'" in error
    assert "Did you mean 'name'?" in error


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--prior.help"], ["--prior gaussian", "--prior.gain", "laplace: "]),
        (["--prior", "laplace", "--prior.help"], ["--prior laplace", "--prior.gain", "gaussian: "]),
        (["--config", "other", "--guide.help"], ["--guide mean_field", "--guide.relative_scale", "low_rank: "]),
        (["--guide.help", "point"], ["--guide point", "takes no settings"]),
        (["--prior.rules.help"], ["--prior.rules", "\n  kernel_size ", "\n  name "]),
        (["--guide.guide.help", "low_rank"], ["--guide.guide low_rank", "--guide.guide.rank"]),
        (["--guide.guide.help"], ["low_rank: "]),
    ],
)
def test_help_of_a_class_needs_no_name_of_one(
    call: Callable, capsys: pytest.CaptureFixture[str], flags: list[str], found: list[str]
) -> None:
    assert call(*flags) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in found), text


def test_help_of_what_takes_no_class_is_an_error(refused: Callable) -> None:
    assert "'gain' takes no class" in refused("--prior.gain.help")
    assert "no PriorFamily called 'gausian'" in refused("--prior.help", "gausian")


def test_a_class_with_a_default_in_the_config_is_not_required(
    call: Callable, sample, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    from pyro_dwp.cli.parser import ScriptParser

    def main(prior: PriorFamily, seed: int) -> None:
        """Do nothing.

        Args:
            prior: any.
            seed: any.
        """

    text = " ".join(ScriptParser(main).help({"prior": {"class_path": "pyro_dwp.priors.Gaussian"}}).split())
    prior, seed = text.rpartition("--seed SEED")[::2]
    assert "(required" not in prior
    assert "--prior PRIOR any." in prior
    assert "(required, type: int)" in seed


def test_what_is_built_again_and_does_not_fit_is_named_by_its_setting() -> None:
    for where, named in (("", "prior family"), ("fixed.odd", "fixed.odd")):
        with pytest.raises(ConfigError, match=f"^{named}: there is no PriorFamily called 'gausian'"):
            instantiate(PriorFamily, {"class_path": "gausian"}, *([where] if where else []))
        with pytest.raises(ConfigError, match=rf"^{named}\.gain: must be float, but received x\.$"):
            instantiate(PriorFamily, {"class_path": "gaussian", "init_args": {"gain": "x"}}, where)
        with pytest.raises(ConfigError, match=f"^{named}: Gaussian has no argument 'gian'"):
            instantiate(PriorFamily, {"class_path": "gaussian", "init_args": {"gian": 1}}, where)
    with pytest.raises(ConfigError, match=r"^guide: Ensemble has no argument 'mebers'"):
        instantiate(Callable[[dict, dict], Guide], {"class_path": "ensemble", "init_args": {"mebers": 1}})
    assert isinstance(instantiate(PriorFamily, "gaussian", "prior"), Gaussian)
