"""What README and docs tell a user to type: every script, config, flag and path exists, and the code runs."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from pyro_dwp import runs
from pyro_dwp.data import Phantoms, write_volume
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Prior
from pyro_dwp.runs.script import script_settings
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import instantiate
from pyro_dwp.settings.help import class_help, script_help
from pyro_dwp.sites import weight_sites

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "run").glob("*.py"))
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
COMMANDS = sorted({line.strip() for page in PAGES.values() for line in re.findall(r"python run/\w+\.py[^\n`&]*", page)})
BLOCKS = re.findall(r"```python\n(.*?)```", PAGES["README.md"], flags=re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGES["write_a_prior.md"], flags=re.DOTALL)
SCANS = Phantoms(cases=3, shape=(16, 16, 16))
OWN = {"--prior.length"}  # of the class that a page shows
OTHERS = (
    "pip ",
    "pytest",
    "tensorboard ",
    "torchrun ",
    "ruff ",
    "python -m tests.",
)  # programs with flags of their own


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, with scans and the files that the pages tell to save."""
    (tmp_path / "my_prior.py").write_text(BLOCKS[0])
    for place in (tmp_path, tmp_path / "docs" / "examples"):
        shutil.copytree(ROOT / "docs" / "examples", place, dirs_exist_ok=True)
    for name, block in zip(("my.yaml", "rules.yaml"), YAML, strict=True):
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    for scan in map(SCANS.load, SCANS.names()):
        write_volume(tmp_path / "my_scans" / f"{scan.name}_flair.nii.gz", scan.image[0], scan.affine)
        write_volume(tmp_path / "my_scans" / f"{scan.name}_mask.nii.gz", scan.label, scan.affine, "uint8")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_an_existing_script_config_and_flags(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, script, *arguments = shlex.split(command, comments=True)
    checked = []
    read = lambda main, default=None, **named: checked.append(script_settings(main, arguments, default, **named))  # noqa: E731
    monkeypatch.setattr(runs, "run_script", read)
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert checked


def test_the_readme_has_the_two_set_up_lines() -> None:
    for line in ("pip install -e . && python run/svi_target.py", 'pip install -e ".[dev]" && pytest'):
        assert f"    {line}\n" in PAGES["README.md"]


@pytest.mark.parametrize("prior", ["DeepWeight()", "MyPrior()"])
def test_the_readmes_program_is_short_and_takes_a_step_whose_parts_add_up_under_its_prior_too(prior: str) -> None:
    assert max(len(block.splitlines()) for block in BLOCKS) <= 15
    names: dict = {"__name__": "readme"}
    code = BLOCKS[0] + BLOCKS[2].replace("DeepWeight()", prior).replace("\nSVI(", "\nloss = SVI(")
    exec(compile(code, "README.md", "exec"), names)
    assert type(names["prior"]).__name__ == prior[:-2]
    assert names["loss"] == pytest.approx(0.01 * names["elbo"].parts["kl"] - names["elbo"].parts["data"], rel=1e-4)


def test_the_readmes_ten_lines_fit_predict_and_look(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "my_scans" / "tumour_002_flair.nii.gz", folder / "new_scan.nii.gz")
    names: dict = {"__name__": "readme"}
    brief = BLOCKS[1].replace("MeanField)", 'MeanField, schedule={"steps": 2}, samples=2)')
    exec(compile(brief, "README.md", "exec"), names)
    assert names["prediction"].mask.shape == (16, 16, 16)
    assert "over 1 test scan(s)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["my.yaml", "rules.yaml"])
def test_a_config_shown_on_a_page_builds_a_prior_for_the_default_network(name: str, folder: Path) -> None:
    prior = instantiate(Prior, read_yaml(folder / name)["prior"], "prior")
    prior.check(weight_sites(UNet(), expose=lambda site: True).values())


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """The flags that the help of any script explains, or the help on a class that it offers."""
    mains = [runpy.run_path(str(path))["main"] for path in SCRIPTS]
    texts = [script_help(main, {}) for main in mains]
    for main, text in list(zip(mains, texts, strict=True)):
        for key, names in re.findall(r"^--([\w.]+) CLASS .*?one of (.*?), package", text, flags=re.MULTILINE):
            texts += [f"--{key}.help", *(class_help(main, key, name) for name in names.split(", "))]
    return {"--help", *re.findall(r"--[\w.]+", "\n".join(texts))}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_and_path_that_a_page_names_is_there(page: str, flags: set[str]) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    code = [*re.findall(r"`([^`]+)`", text), *re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)]
    named = {flag for part in code if not part.startswith(OTHERS) for flag in re.findall(r"--[a-z][\w.]*", part)}
    paths = {
        path
        for part in code
        for path in re.findall(r"(?<![\w/])(?:run|models|guides|docs|pyro_dwp|tests)/[\w/.]*", part)
    }
    assert named
    assert paths
    assert not named - flags - OWN
    assert not [path for path in paths if not (ROOT / path).exists()]
