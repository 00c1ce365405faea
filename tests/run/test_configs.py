"""Every config in run/configs fits the script that its comment names, and every script explains all its flags."""

import inspect
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.segmentation import SegmentationModel
from pyro_dwp.cli.configs import read_yaml
from pyro_dwp.cli.parser import ScriptParser

Call = Callable[..., Any]
RUN = Path(__file__).parents[2] / "run"
CONFIGS = {path.stem: path for path in sorted((RUN / "configs").glob("*.yaml"))}
SCRIPTS = sorted(path.stem for path in RUN.glob("*.py"))
PROMISED = {"quick", "lgg", "hippocampus", "paper_brats18", "paper_ms"}
NO_DEFAULT = {"--help", "-h", "--config", "--print_config"}


def parser_of(script: str) -> ScriptParser:
    return ScriptParser(runpy.run_path(str(RUN / f"{script}.py"))["main"])


def script_of(path: Path) -> str:
    """Return the script that the comment at the top of a config says it is for."""
    comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    named = re.search(r"(?:[Ff]or|[Dd]efault of) run/(\w+)\.py", comment)
    assert named, f"the comment of {path.name} names no script"
    return named[1]


def arguments(name: str, *flags: str) -> dict[str, Any]:
    """Return what a config's script would be called with."""
    path = CONFIGS[name]
    parser = parser_of(script_of(path))
    return parser.build(parser.parse({str(path): parser.read(path)}, parser.translate(flags)))


def test_the_promised_configs_are_there() -> None:
    assert CONFIGS.keys() >= PROMISED


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_fits_its_script(name: str) -> None:
    parser = parser_of(script_of(CONFIGS[name]))
    given = read_yaml(CONFIGS[name])
    settings = parser.plain(parser.parse({name: parser.read(CONFIGS[name])}, []))
    assert settings.keys() == inspect.signature(parser.main).parameters.keys()
    for key, value in given.items():
        if not isinstance(value, dict | str):
            assert settings[key] == value, key
    for key, value in given.get("schedule", {}).items():
        assert settings["schedule"][key] == value, key


@pytest.mark.parametrize("name", [name for name in CONFIGS if script_of(CONFIGS[name]) != "benchmark"])
def test_what_a_config_names_can_be_built_without_its_data(name: str) -> None:
    flags = ["--prior", "gaussian"] if script_of(CONFIGS[name]) == "svi_target" else []
    built = arguments(name, *flags)
    assert built.keys() == inspect.signature(parser_of(script_of(CONFIGS[name])).main).parameters.keys()
    if "schedule" in built:
        assert built["schedule"].epochs > 1
    if "network" in built:
        assert built["network"]().classes == 2


@pytest.mark.parametrize("name", ["quick", "lgg"])
def test_the_shipped_prior_fits_the_network_of_a_config(name: str) -> None:
    built = arguments(name)
    model = SegmentationModel(built["network"](), built["prior"], built["likelihood"])
    assert {site.group for site in model.sites.values()} == set(built["prior"].encoders())


def test_the_papers_source_network_is_the_papers() -> None:
    network = arguments("paper_ms")["network"]()
    assert sum(parameter.numel() for parameter in network.parameters()) == 726_480


@pytest.mark.parametrize("name", [name for name in CONFIGS if script_of(CONFIGS[name]) == "benchmark"])
def test_each_method_of_a_benchmark_is_a_command_line_of_its_target(name: str) -> None:
    benchmark = arguments(name)
    path = CONFIGS[benchmark["target"]]
    parser = parser_of("svi_target")
    for flags in benchmark["methods"].values():
        everything = parser.translate(shlex.split(f"{flags} {benchmark['flags']}"))
        settings = parser.parse({str(path): parser.read(path)}, everything)
        if ".path" not in flags:  # a file that an earlier step makes
            parser.build(settings)
    assert benchmark["reference"] in benchmark["methods"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_flag_with_its_default(call: Call, tmp_path: Path, script: str) -> None:
    done = call(tmp_path, script, "--help")
    assert (done.status, done.err) == (0, "")
    blocks = [block.partition("\n\n")[0].split() for block in re.split(r"\n  (?=--)", done.out)[1:]]
    explained = {block[0].rstrip(","): " ".join(block[1:]) for block in blocks if not block[0].endswith(".help")}
    flags = {flag for flag in parser_of(script).flags if not flag.endswith((".help", "+"))} - NO_DEFAULT
    assert flags <= explained.keys()
    for flag in explained.keys() - NO_DEFAULT - {"--preprocess", "--schedule"}:
        words = re.fullmatch(r"(.*) \((?:required, type: |type: .*default: ).*\)", explained[flag])
        assert words, f"{flag} has no type and default: {explained[flag]}"
        assert len(words[1].split()) > 2, f"{flag} is not explained: {explained[flag]}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_begins_with_usage_and_has_an_example(call: Call, tmp_path: Path, script: str) -> None:
    text = call(tmp_path, script, "--help").out
    assert text.startswith(f"usage: {script}.py")
    assert f"python run/{script}.py" in text
    assert not list(tmp_path.iterdir())
