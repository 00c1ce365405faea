"""Every config in run/configs fits the script that its comment names; the help of a script explains each flag in a line."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.segmentation import SegmentationModel
from pyro_dwp.data import CaseSource
from pyro_dwp.nn import UNet
from pyro_dwp.runs.script import resolve_layers, script_settings
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings.classes import offered
from pyro_dwp.sites import weight_sites

RUN = Path(__file__).parents[2] / "run"
MAIN = {path.stem: runpy.run_path(str(path))["main"] for path in sorted(RUN.glob("*.py"))}
CONFIGS = {path.stem: read_yaml(path) for path in sorted((RUN / "configs").glob("*.yaml"))}
PRIOR_TO_BE_FITTED = ("paper_brats18", "paper_ct_liver", "paper_ct_spleen")
METHODS = {
    path.stem: path
    for path in sorted((RUN / "configs" / "methods").glob("*.yaml"))
    if "script" not in read_yaml(path)  # those of run/svi_target.py
}
SLOW = {"monai", "matplotlib", "nibabel", "tensorboard", "scipy"}
HELP = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
"""


def built(name: str, *flags: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a config's script, as plain values and as what the script is called with."""
    text = (RUN / "configs" / f"{name}.yaml").read_text().replace("\n# ", " ")
    script = re.search(r"(?:[Ff]or|[Dd]efault of) run/(\w+)\.py", text.partition("\n")[0])[1]
    recipe, call = script_settings(MAIN[script], ["--config", name, *flags], None)
    return call.settings, recipe.build_arguments(call)


FOLDER = pytest.mark.skipif("folder" not in offered(CaseSource), reason="no source of the short name folder")


@pytest.mark.parametrize("name", [pytest.param(it, marks=FOLDER) if it == "brats" else it for it in CONFIGS])
def test_a_config_arrives_in_its_script_whole(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYRO_DWP_DATA", raising=False)
    settings, found = built(name, *(["--prior", "gaussian"] if name in PRIOR_TO_BE_FITTED else []))
    for key, value in CONFIGS[name].items():
        if not isinstance(value, dict | str):
            assert settings[key] == value, key
    assert CONFIGS[name].get("schedule", {}).items() <= settings.get("schedule", {}).items()
    network = found["network"]() if "network" in found else None
    assert network is None or (network.in_channels, network.classes) == ((4, 4) if name == "brats" else (1, 2))
    if name == "paper_ms":
        assert sum(parameter.numel() for parameter in network.parameters()) == 726_480
    if name in ("quick", "lgg"):  # with the prior that ships
        sites = SegmentationModel(network, found["prior"], found["likelihood"]).sites.values()
        assert {site.group for site in sites} == set(found["prior"].encoders())
    assert not list(tmp_path.iterdir())


def test_each_prior_of_a_comparison_is_a_setting_of_the_script_that_fits_it():
    for method, own in CONFIGS["priors"]["learned"].items():
        layers = {Path("priors"): {"bank": "bank.safetensors"}, Path(method): own}
        resolve_layers(MAIN["train_prior"], layers, {}).arguments["family"].build()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.endswith("_full") else [])  # over a thousand jobs
        for name, config in CONFIGS.items()
        if "methods" in config
    ],
)
def test_the_jobs_of_an_experiment_fit_their_scripts(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYRO_DWP_DATA", raising=False)
    plan = built(name)[1]["experiment"].plan(RUN, check_data=False)
    assert len({job.folder for job in plan.jobs}) == len(plan.jobs) >= len(plan.cells) > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is_and_fits_on_top_of_a_targets_config(name):
    """Its settings arrive as they stand, every other one is the target's; the guide is built over the sites of its prior."""
    comment = re.match(r"(# .*\n)+", METHODS[name].read_text())[0]
    assert 1 <= comment.count("\n") <= 3
    assert "For run/svi_target.py, on top of a target's config" in comment
    own, main = read_yaml(METHODS[name]), MAIN["svi_target"]
    base = script_settings(main, ["--config", "lgg"], None)[1].settings
    recipe, call = script_settings(main, ["--config", "lgg", "--config", f"methods/{name}"], None)
    assert {key for key, value in call.settings.items() if value != base[key]} <= own.keys()
    assert {key: call.settings[key] for key in own if key not in ("prior", "guide")}.items() <= own.items()
    if "@" in str(own["prior"]):
        return
    sites = weight_sites(UNet(), expose=recipe.arguments["prior"].build().exposes)
    assert recipe.arguments["guide"].build()(sites).sites == sites


@pytest.mark.parametrize("script", MAIN)
def test_help_explains_each_flag_in_a_line(call, script, tmp_path):
    done = call(tmp_path, script, "--help")
    assert (done.status, done.err) == (0, "")
    first, *lines = done.out.splitlines()
    flags = [line for line in lines if line.startswith("--")]
    assert first.endswith(".")
    assert len({line.split()[0] for line in flags}) == len(flags) > 4
    for flag in flags:
        text = re.fullmatch(r"--[\w.]+ .+?  ?(\S.*)", flag)[1]
        assert len(text.split()) > 2, f"{flag} is not explained"
    assert f"python run/{script}.py" in (RUN / f"{script}.py").read_text().split('"""')[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [("import pyro_dwp", {"torch", "pyro", "pydantic", *SLOW}), (HELP, SLOW)],
    ids=["package", "help"],
)
def test_nothing_slow_is_imported_before_it_is_used(code, unwanted):
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)", *map(str, RUN.glob("*.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.splitlines()[-1].split())


def test_folders_of_scans_are_stored_absolute_and_variables_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "folder_pairs", "--data.images", "scans", "--data.labels", "$LABELS/of/mine"]
    data = script_settings(MAIN["svi_target"], flags, "quick")[1].settings["data"]
    assert (data["images"], data["labels"]) == (str(tmp_path / "scans"), "$LABELS/of/mine")
