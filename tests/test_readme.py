"""What the README tells a user to type: every script, config and flag exists, and its code runs."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from pyro_dwp.cli.configs import find_config
from pyro_dwp.cli.parser import ScriptParser
from pyro_dwp.nn import UNet
from pyro_dwp.sites import weight_sites

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
COMMANDS = sorted(
    {
        match[0].strip()
        for text in PAGES.values()
        for match in re.finditer(r"python run/\w+\.py[^\n`&]*", text)
        if not match[0].rstrip().endswith("...")
    }
)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGES["README.md"], flags=re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGES["write_a_prior.md"], flags=re.DOTALL)
PIP = ["pip install -e . && python run/svi_target.py", 'pip install -e ".[dev]" && pytest']


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_an_existing_script_config_and_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, script, *arguments = shlex.split(command.partition(" # ")[0])
    (tmp_path / "my_prior.py").write_text(BLOCKS[0])
    (tmp_path / "my_guide.py").write_text("from guides import MeanField\n\n\nclass MyGuide(MeanField):\n    pass\n")
    for example in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)
    (tmp_path / "rules.yaml").write_text(YAML[-1])
    monkeypatch.chdir(tmp_path)
    loaded = runpy.run_path(str(ROOT / script))
    parser = ScriptParser(loaded["main"])
    flags = []
    configs = []
    while arguments:
        if (flag := arguments.pop(0)) == "--config":
            configs.append(find_config(arguments.pop(0), ROOT / "run" / "configs" / "quick.yaml"))
        else:
            flags.append(flag)
    default = loaded.get("QUICK", loaded.get("CONFIG"))
    if not configs and default:
        configs = [default]
    parser.parse({str(path): parser.read(path) for path in configs}, parser.translate(flags))


def test_the_readme_has_the_two_set_up_lines() -> None:
    for line in PIP:
        assert f"    {line}\n" in PAGES["README.md"]
    assert COMMANDS


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_the_readmes_python_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.split("\n")[1].strip())
def test_a_config_shown_on_a_page_builds_a_prior_over_the_default_settings(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "docs" / "examples" / "smooth_prior.py", tmp_path)
    (tmp_path / "my.yaml").write_text(block)
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(ROOT / "run" / "svi_target.py"))
    parser = ScriptParser(script["main"])
    configs = [script["QUICK"], tmp_path / "my.yaml"]
    built = parser.build(parser.parse({str(path): parser.read(path) for path in configs}, []))
    built["prior"].check(weight_sites(UNet(), expose=lambda site: True).values())
