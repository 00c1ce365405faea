"""Classes of a user's own that cannot be used: one line that says which, what it lacks, and how that is spelt."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guides import Guide
from pyro_dwp.cli.names import legal_names, resolve
from pyro_dwp.cli.user_file import as_given
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import PriorFamily

MINE = """
from collections.abc import Callable

import torch
from pyro.distributions import Normal
from torch import nn

from guides import Guide, MeanField
from pyro_dwp.priors import Gaussian, PriorFamily


class Misspelt(PriorFamily):
    def distributions(self, site):
        return None


class Lacking(Guide):
    pass


class NoPrior(nn.Module):
    pass


class NeedsScale(Gaussian):
    def __init__(self, scale: float):
        super().__init__(scale)


class NeedsUntyped(Gaussian):
    def __init__(self, scale):
        super().__init__(scale)


class Wide(MeanField):
    def __init__(self, sites, start, width: float):
        super().__init__(sites, start, width)


class Untyped(MeanField):
    def __init__(self, sites, start, relative_scale: float = 0.2):
        super().__init__(sites, start, relative_scale)


class Siteless(MeanField):
    def __init__(self, relative_scale: float = 0.2):
        super().__init__({}, {}, relative_scale)


class Loose(MeanField):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def make(sites, start):
    return MeanField(sites, start)


def make_typed(sites: dict, start: dict) -> Guide:
    return MeanField(sites, start)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return "mine.py:"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--prior", "mine.py:Misspelt"], ["mine.py:Misspelt misses", "distribution(self, site)", "'distributions'"]),
        (["--guide", "mine.py:Lacking"], ["mine.py:Lacking misses", "distribution(self, name)"]),
        (["--prior", "mine.py:NoPrior"], ["mine.py:NoPrior is no PriorFamily", "pyro_dwp.priors.PriorFamily"]),
        (["--prior", "torch.nn.Linear"], ["torch.nn.Linear is no PriorFamily", "pyro_dwp.priors.PriorFamily"]),
        (["--guide", "pyro.distributions.Normal"], ["pyro.distributions.Normal is no Guide", "from guides.Guide"]),
        (["--guide", "mine.py:make"], ["mine.py:make is a function", "guides.Guide"]),
        (["--guide", "mine.py:Siteless"], ["mine.py:Siteless", "def __init__(self, sites, start"]),
        (["--guide", "Guide"], ["Guide is only the base"]),
        (["--guide", ""], ["--guide: the name of a class is missing", "mean_field"]),
        (["--guide", "AutoNormal"], ["'pyro.infer.autoguide.AutoNormal'"]),
        (["--guide", "gaussian"], ["'gaussian' is a prior, but no guide"]),
        (["--prior", "mine.py:NeedsScale"], ["NeedsScale cannot do without scale. Give --prior.scale ..."]),
        (["--prior", "mine.py:NeedsUntyped"], ["'scale' of", "NeedsUntyped", "mine.py:", "has no type"]),
        (["--guide", "mine.py:Wide"], ["Wide cannot do without width. Give --guide.width ..."]),
        (["--guide", "mine.py:Wide", "--guide.width", "x"], ["--guide.width: must be float, but received x."]),
        (["--guide", "ensemble", "--guide.guide", "mine.py:Wide"], ["Give --guide.guide.width ..."]),
        (["--guide", "ensemble", "--guide.guide", "mine.py:Lacking"], ["--guide.guide: mine.py:Lacking misses"]),
    ],
)
def test_a_class_that_cannot_be_used_is_named_as_the_user_did_with_the_cure(
    refused: Callable, mine: str, flags: list[str], found: list[str]
) -> None:
    error = refused(*flags)
    assert all(part in error for part in found), error
    assert "user_file_" not in error
    assert "Namespace" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["Untyped", "Loose", "make_typed"])
def test_a_guide_without_types_for_what_the_script_gives_works_alone_and_in_an_ensemble(
    received: Callable, mine: str, name: str
) -> None:
    received("--guide", mine + name)
    if name != "make_typed":
        inner = received("--guide", "ensemble", "--guide.guide", mine + name, "--guide.members", 2)["guide"]({}, {})
        assert type(inner.member(1)).__name__ == name


def test_a_setting_of_such_a_guide_in_an_ensemble_reaches_it(received: Callable, mine: str) -> None:
    flags = ["--guide", "ensemble", "--guide.guide", f"{mine}Untyped", "--guide.guide.relative_scale", "0.7"]
    assert received(*flags)["guide"].keywords["guide"].keywords == {"relative_scale": 0.7}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\nclass Mine(:\n    pass\n", ["SyntaxError", "line 2"]),
        ("\n\nimport no_such_package\n", ["line 3", "ModuleNotFoundError: No module named 'no_such_package'"]),
        ("x = 1\nx / 0\n", ["line 2", "ZeroDivisionError"]),
        ("def f():\n    return {}['a']\n\n\nf()\n", ["line 2", "KeyError: 'a'"]),
        ("raise SystemExit(3)\n", ["line 1", "SystemExit"]),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_error_with_line_and_exception(
    refused: Callable, tmp_path: Path, text: str, found: list[str]
) -> None:
    (tmp_path / "broken.py").write_text(text)
    (tmp_path / "mine.yaml").write_text("prior: broken.py:Mine\n")
    for flags, where in ((["--prior", "broken.py:Mine"], "--prior: "), (["--config", "mine.yaml"], "mine.yaml: prior")):
        error = refused(*flags)
        assert all(part in error for part in [*found, where, str(tmp_path / "broken.py")]), error
    assert not [name for name in sys.modules if "broken" in name and name.startswith("user_file_")]


def test_a_mended_file_is_imported_in_the_same_process(tmp_path: Path) -> None:
    file = tmp_path / "mended.py"
    for text in ("class Mine(:\n", "class Mine: pass\n"):
        file.write_text(text)
        if "(:" in text:
            with pytest.raises(ConfigError):
                resolve(f"{file}:Mine", object, "x")
    assert as_given(resolve(f"{file}:Mine", object, "x")) == f"{file}:Mine"


def test_only_classes_of_the_file_are_offered(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pyro_dwp.priors import Gaussian, PriorFamily\n\n\nclass Mine(Gaussian): pass\n"
    )
    with pytest.raises(ConfigError, match=r"Legal names are: Mine\. Did you mean 'Mine'"):
        resolve(f"{tmp_path / 'mine.py'}:Mne", PriorFamily, "--prior")


def test_a_guide_of_pyro_goes_by_its_path_alone_whether_or_not_it_was_used_before() -> None:
    path = "pyro.infer.autoguide.AutoNormal"
    assert resolve(path, Guide, "--guide") == "guides.auto.AutoNormal"
    with pytest.raises(ConfigError, match=f"Did you mean '{path}'"):
        resolve("AutoNormal", Guide, "--guide")


def test_a_module_of_the_users_that_fails_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_package_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"failing_package_module\.Mine cannot be imported \(ZeroDivisionError"):
        resolve("failing_package_module.Mine", PriorFamily, "--prior")


def test_a_file_in_a_config_is_looked_for_beside_the_config_first(
    received: Callable, refused: Callable, tmp_path: Path
) -> None:
    beside = tmp_path / "settings"
    beside.mkdir()
    text = "from pyro_dwp.priors import Gaussian\n\n\nclass {name}(Gaussian): pass\n"
    (beside / "mine.yaml").write_text("prior: prior.py:Beside\n")
    (tmp_path / "prior.py").write_text(text.format(name="Beside"))
    assert (
        type(received("--config", "settings/mine.yaml")["prior"]).__module__
        == type(received("--prior", "prior.py:Beside")["prior"]).__module__
    )  # only the working folder has it
    (beside / "prior.py").write_text(text.format(name="Beside"))
    assert (
        sys.modules[type(received("--config", "settings/mine.yaml")["prior"]).__module__].__file__
        == str(beside / "prior.py")
    )  # fmt: skip
    (beside / "mine.yaml").write_text("prior: absent.py:Beside\n")
    error = refused("--config", "settings/mine.yaml")
    assert f"{beside / 'absent.py'} and {tmp_path / 'absent.py'}" in error


def test_every_base_with_short_names_refuses_the_names_of_the_others_by_their_kind() -> None:
    with pytest.raises(ConfigError, match="'mean_field' is a guide, but no prior"):
        resolve("mean_field", PriorFamily, "--prior")
    assert "mean_field" in legal_names(Guide)


def test_a_wrong_setting_of_a_users_class_in_a_config_names_the_file(
    refused: Callable, mine: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("guide: {class_path: mine.py:Untyped, init_args: {sites: 1}}\n")
    error = refused("--config", "mine.yaml")
    assert (
        f"mine.yaml ({tmp_path / 'mine.py'}:Untyped): unknown key 'guide.sites'. Legal names are: relative_scale."
        in error
    )
