"""Settings from configs and flags: layers, classes at any depth, types; what arrives in a script is what was asked for."""

import re
from pathlib import Path
from typing import Annotated

import pytest
import torch
import yaml

from guides import Ensemble, MeanField, Point
from pyro_dwp import data, infer, likelihoods, nn, priors
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Assigned, Gaussian, Laplace, Prior
from pyro_dwp.runs.script import resolve_layers, script_settings
from pyro_dwp.safe_yaml import parse
from pyro_dwp.settings import Flat, instantiate
from pyro_dwp.settings.classes import find_class, offered, public_path
from pyro_dwp.settings.help import script_help
from pyro_dwp.settings.recipes import resolve
from pyro_dwp.settings.tree import flags_tree, read_flags
from pyro_dwp.sites import weight_sites
from tests.helpers import sample

SITES = weight_sites(nn.UNet(channels=(2, 4)))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"prior.gain": 0.1, "length.epochs": 3, "seed": 0, "length.rate": 1e-3}),
        (["--config", "other"], {"prior.gain": 1.0, "length.epochs": 4, "seed": 7}),
        (["--config", "other", "--config=quick"], {"prior.gain": 0.1, "length.epochs": 3, "seed": 7}),
        (["--config", "other", "--config", "methods/loud"], {"seed": 7, "note": "loud"}),
        (["--seed", "1", "--config", "other", "--seed=2"], {"seed": 2}),
        (["--length.epochs", "9", "--length.rate", "1e-2"], {"length.epochs": 9, "length.rate": 0.01}),
        (["--length", "{epochs: 8}"], {"length.epochs": 8}),
        (["--prior.gain", "2"], {"prior.gain": 2.0}),
        (["--prior", "laplace"], {"prior.gain": 1.0}),
        (["--prior.gain", "3", "--prior", "laplace"], {"prior.gain": 3.0}),
        (["--prior", "laplace", "--prior.gain", "3", "--prior", "student_t"], {"prior.gain": 1.0}),
        (["--prior", "{class: laplace, gain: 5}"], {"prior.gain": 5.0}),
        (["--grid", "[64, 64, 24]", "--label_map", "{1: 1, 2: 1}"], {"grid": (64, 64, 24), "label_map": {1: 1, 2: 1}}),
        (["--grid", "64, 64,24"], {"grid": (64, 64, 24)}),
        (["--grid", "2,2,2", "--size", "3.5"], {"grid": (2, 2, 2), "size": 3.5}),
        (["--words", "flair,t1"], {"words": ["flair", "t1"]}),
        (["--words", "[flair, t1]"], {"words": ["flair", "t1"]}),
        (["--words", "012"], {"words": ["012"]}),
        (["--words", "null"], {"words": None}),
        (["--note", "a,b"], {"note": "a,b"}),
        (["a file", "--seed", "1"], {"first": "a file", "seed": 1}),
        (["--first", "b"], {"first": "b"}),
        (["--note", "012", "--name", "7"], {"note": "012"}),
        (["--note", "[a]"], {"note": "[a]"}),
        (["--after"], {"after": True}),
        (["--after", "false"], {"after": False}),
        (["--device", "cuda:1"], {"machine.device": "cuda:1"}),
    ],
)
def test_what_was_asked_for_arrives(received, flags, expected):
    arguments = received(*flags)
    for key, value in expected.items():
        first, *rest = key.split(".")
        found = arguments[first]
        for name in rest:
            found = getattr(found, name)
        assert found == value, key
        assert type(found) is type(value), key


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        (["--guide", "ensemble", "--guide.guide", "point"], [Ensemble, Point]),
        (["--guide.guide", "point", "--guide.members", "2", "--guide", "ensemble"], [Ensemble, Point]),
        (["--guide", "ensemble", "--guide.guide.relative_scale", "0.3"], [Ensemble, MeanField]),
        (
            ["--guide", "guides.Ensemble", "--guide.guide.guide", "point", "--guide.guide", "ensemble"],
            [Ensemble, Ensemble, Point],
        ),
    ],
)
def test_classes_within_classes_arrive_in_any_order(received, flags, kinds):
    guide = received(*flags)["guide"](SITES)
    for kind in kinds[:-1]:
        assert type(guide) is kind
        guide = guide.member(0)
    assert type(guide) is kinds[-1]


def test_rules_hold_priors_of_their_own(received):
    rules = "[{name: init*, prior: {class: laplace, scale: 0.3}}, {group: 2, prior: null}, {kernel_size: 3, prior: gaussian}]"
    prior = received("--prior", "assigned", "--prior.rules", rules)["prior"]
    assert isinstance(prior, Assigned)
    assert [type(rule.prior) for rule in prior.rules.values()] == [Laplace, type(None), Gaussian]
    assert prior.rules["1"].prior.scale == 0.3


@pytest.mark.parametrize("name", ["gaussian", "pyro_dwp.priors.Gaussian", "FILE:Mine"])
def test_a_class_goes_by_short_name_path_or_file(received, mine, name):
    arguments = received("--prior", name.replace("FILE", "mine.py"), "--prior.scale", "0.25")
    assert arguments["prior"].scale == 0.25
    assert isinstance(arguments["prior"], Gaussian)


@pytest.mark.parametrize("name", ["Untyped", "make_point"])
def test_a_guide_of_ones_own_needs_no_types_for_what_the_script_gives(received, mine, name):
    assert received("--guide", f"{mine}:{name}")["guide"](SITES).sites == SITES
    ensemble = received("--guide", "ensemble", "--guide.guide", f"{mine}:{name}")["guide"](SITES)
    assert ensemble.member(1).sites == SITES


def test_a_file_in_a_config_is_looked_for_beside_the_config(received, mine, tmp_path):
    (tmp_path / "folder").mkdir()
    mine.rename(tmp_path / "folder" / "mine.py")
    (tmp_path / "folder" / "my.yaml").write_text("prior: {class: mine.py:Mine, scale: 0.75}\n")
    assert received("--config", "folder/my.yaml")["prior"].scale == 0.75


def test_a_mended_file_is_imported_in_the_same_process(received, refused, tmp_path):
    (tmp_path / "new.py").write_text("import no_such_module\n")
    assert "no_such_module" in refused("--prior", "new.py:Mine")
    (tmp_path / "new.py").write_text("from pyro_dwp.priors import Gaussian as Mine\n")
    assert isinstance(received("--prior", "new.py:Mine")["prior"], Gaussian)


def test_a_config_of_a_run_makes_the_same_objects_in_another_folder(received, call, mine, tmp_path, monkeypatch):
    flags = ["--guide", "ensemble", "--guide.guide", "latent", "--guide.guide.path", "here/prior.safetensors"]
    first = received("--name", "a", "--prior", "mine.py:Mine", "--bank", "x/bank", *flags)
    config = yaml.safe_load((tmp_path / "runs" / "a" / "config.yaml").read_text())
    assert config["bank"] == str(tmp_path / "x" / "bank")
    assert config["guide"]["guide"] == {
        "class": "guides.Latent", "path": str(tmp_path / "here" / "prior.safetensors"), "relative_scale": 0.1, "latent_scale": 0.1
    }  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = received("--config", "../runs/a/config.yaml", "--name", "b")
    assert type(again["prior"]) is type(first["prior"])
    second = yaml.safe_load((tmp_path / "elsewhere" / "runs" / "b" / "config.yaml").read_text())
    assert {**second, "name": "a", "provenance": 0} == {**config, "provenance": 0}


def test_a_placeholder_stays_as_it_is_in_any_folder_and_is_refused_when_the_script_runs(refused):
    flags = [
        "--prior",
        "assigned",
        "--prior.rules",
        "[{prior: {class: pretrained, path: '@job/a'}}]",
        "--bank",
        "@bank/b",
    ]
    settings = script_settings(sample.main, flags, "quick")[1].settings
    assert settings["bank"] == "@bank/b"
    assert settings["prior"]["rules"][0]["prior"]["path"] == "@job/a"
    error = refused(*flags)
    assert [part for part in ("prior.rules.0.prior.path", "'@job/a'", "placeholder") if part not in error] == []
    error = refused("--bank", "@bank/b")
    assert [part for part in ("bank is '@bank/b'", "--bank PATH") if part not in error] == []


def test_a_part_of_a_config_is_built_alone():
    built = instantiate(Prior, {"class": "gaussian", "scale": 2}, "prior")
    assert (type(built), built.scale) == (Gaussian, 2.0)
    assert instantiate(Prior | None, None, "prior") is None
    with pytest.raises(ConfigError, match=r"prior\.scal"):
        instantiate(Prior, {"class": "gaussian", "scal": 2}, "prior")


def test_a_default_of_flat_settings_is_the_default_of_each_and_the_one_that_help_shows():
    def main(plan: Annotated[data.SplitPlan, Flat()] = data.SplitPlan(train=20, test=0)) -> None: ...  # noqa: B008

    assert resolve(main, {"train": 7}).build_arguments()["plan"] == data.SplitPlan(train=7, test=0)
    shown = re.findall(r"--(train|validation|test) .*default (\d+)", script_help(main, {"train": 7}))
    assert shown == [("train", "7"), ("validation", "5"), ("test", "0")]


@pytest.mark.parametrize(
    ("base", "package", "expected"),
    [
        (
            Prior,
            priors,
            "assigned deep_weight empirical flow gaussian laplace mixture pretrained scale_mixture source_posterior student_t",
        ),
        (priors.Fit, priors, "deep_weight empirical flow mixture"),
        (data.CaseSource, data, "decathlon folder folder_pairs phantoms"),
        (likelihoods.Likelihood, likelihoods, "categorical dice_cross_entropy"),
        (infer.Estimator, infer, "flipout shared_sample"),
        (torch.nn.Module, nn, "fcn unet"),
    ],
)
def test_a_package_offers_its_concrete_classes_in_snake_case(base, package, expected):
    found = offered(base, package.__name__)
    assert " ".join(found) == expected
    for name, target in found.items():
        assert find_class(name, base, "key", package.__name__) is target
        assert find_class(public_path(target), base, "key") is target


def test_flags_make_one_tree():
    words = ["--a.b.c", "1", "--a.b", "x", "--d", "--e=-1", "--a.b", "y"]
    assert flags_tree(read_flags(words)) == {"a": {"b": {"class": "y"}}, "d": True, "e": "-1"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("on", "on"),
        ("012", "012"),
        ("1:1", "1:1"),
        ("-.5", -0.5),
        ("null", None),
        ("", None),
        ("{1: 2}", {1: 2}),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text, value):
    found = parse(text, "test")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("layers", "flags", "grid", "size"),
    [
        ([{"grid": [8, 8, 8]}], ["--size", "2"], None, 2.0),
        ([{"size": 2}], ["--grid", "8,8,8"], (8, 8, 8), None),
        ([{"grid": [8, 8, 8]}, {"size": 2}, {"grid": [4, 4, 4]}], [], (4, 4, 4), None),
        ([{"size": 2}], ["--grid", "null"], None, 2.0),
        ([{"size": 2}], ["--seed", "1"], None, 2.0),
        ([{"size": 2}, {"size": 2, "grid": [4, 4, 4]}], [], (4, 4, 4), 2.0),
    ],
)
def test_a_later_layer_that_sets_one_of_two_alternatives_unsets_the_other(layers, flags, grid, size):
    files = {Path(str(number)): {"prior": "gaussian", **layer} for number, layer in enumerate(layers)}
    found = resolve_layers(sample.main, files, flags_tree(read_flags(flags))).arguments
    assert (found["grid"], found["size"]) == (grid, size)


def test_alternatives_within_a_class_replace_each_other_too():
    def main(preprocess: data.Preprocess) -> None: ...

    def with_default(preprocess: data.Preprocess = data.Preprocess(grid=(8, 8, 8))) -> None: ...  # noqa: B008

    layers = {Path("config"): {"preprocess": {"grid": [8, 8, 8]}}}
    for script, files in ((main, layers), (with_default, {}), (with_default, layers)):
        found = resolve_layers(script, files, flags_tree(read_flags(["--preprocess.spacing", "1,1,3"])))
        assert found.build_arguments()["preprocess"] == data.Preprocess(spacing=(1.0, 1.0, 3.0))


def test_what_a_flag_names_proposes_settings_below_all_configs_and_in_place_of_the_default(call, monkeypatch):
    def propose(flags):
        return (lambda: {"prior": "laplace", "seed": 5, "note": "proposed"}) if "first" in flags else None, flags

    settings = lambda *words: script_settings(sample.main, words, "quick", propose)[1].settings  # noqa: E731
    proposed = settings("x", "--config", "methods/loud", "--seed", "6")
    assert (proposed["seed"], proposed["note"]) == (6, "loud")
    assert settings("x")["note"] == "proposed"
    assert settings("x")["length"]["epochs"] == 4  # of the signature, not of quick
    assert settings()["length"]["epochs"] == 3
