"""The README's examples do what it says of them: its prior infers, its program takes a step, its flags exist."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_dwp.cli import load_config

Call = Callable[..., Any]
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted(path.stem for path in (ROOT / "run").glob("*.py"))
OWN = {"--prior.length"}  # of the class that a page shows
OTHERS = ("pip ", "pytest", "tensorboard ", "ruff ")  # programs with flags of their own


def block(word: str) -> str:
    """Return the Python block of the README that has this word."""
    (found,) = (
        text for text in re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), flags=re.DOTALL) if word in text
    )
    return found


def code(page: Path) -> list[str]:
    """Return what a page sets as code within its text, or as indented lines."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [*re.findall(r"`([^`]+)`", text), *re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("extra", [[], ["--prior.scale", "0.3"]], ids=["default", "scale"])
def test_the_prior_of_the_readme_infers(
    finished: Call,
    no_figures: None,
    tmp_path: Path,
    phantom_flags: list[str],
    target_flags: list[str],
    extra: list[str],
) -> None:
    (tmp_path / "my_prior.py").write_text(block("class MyPrior"))
    flags = [*phantom_flags, *target_flags, "--schedule.epochs", "1", "--name", "run"]
    done = finished(tmp_path, "svi_target", *flags, "--prior", "my_prior.py:MyPrior", *extra)
    assert "Dice" in done.out.splitlines()[-1]
    stored = load_config(tmp_path / "runs" / "run")["prior"]
    assert stored["init_args"] == {"scale": float(extra[1]) if extra else 0.02}


def test_the_program_of_the_readme_takes_a_step_and_holds_the_parts_of_the_elbo() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block("from pyro.infer import SVI"), "README.md", "exec"), names)
    loss = names["svi"].step(torch.randn(1, 1, 16, 16, 16), torch.randint(2, (1, 16, 16, 16)))
    parts = names["elbo"].parts
    assert loss == pytest.approx(0.01 * parts["kl"] - parts["data"], rel=1e-4)


@pytest.fixture(scope="module")
def flags(call: Call, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The flags that any script explains in its help."""
    folder = tmp_path_factory.mktemp("help")
    return {flag for script in SCRIPTS for flag in re.findall(r"--[\w.]+", call(folder, script, "--help").out)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_a_page_names_is_in_the_help_of_a_script(page: Path, flags: set[str]) -> None:
    named = {flag for text in code(page) if not text.startswith(OTHERS) for flag in re.findall(r"--[a-z][\w.]*", text)}
    assert named
    assert not {flag.removesuffix(".help") for flag in named} - flags - OWN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    named = {path for text in code(page) for path in re.findall(r"\b(?:run|models|guides|docs|pyro_dwp)/[\w/.]*", text)}
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
