"""Each method of run/configs/methods runs on top of a target, and says which file of the user's it needs."""

import json
import math
from pathlib import Path

import pytest

from pyro_dwp.safe_yaml import read_yaml
from tests.run.conftest import PHANTOMS, RUN, TARGET

FILES = sorted((RUN / "configs" / "methods").glob("*.yaml"))
METHODS = [path.stem for path in FILES if "script" not in read_yaml(path)]  # those of run/svi_target.py
NETWORK = "networks/network-00-cycle-1.safetensors"


def flags(name: str, runs: Path) -> list[str]:
    """Return the files that a method needs: source networks, and a prior for the groups of a small network."""
    method, found = read_yaml(RUN / "configs" / "methods" / f"{name}.yaml"), []
    if method["prior"] == "deep_weight":
        found += ["--prior.path", str(runs / "prior" / "prior.safetensors")]
    if "networks" in method["prior"]:
        found += ["--prior.networks", str(runs / "source")]
    if method["start"] == "source":
        found += ["--source", str(runs / "source" / NETWORK)]
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_with_the_files_that_it_asks_for(name, finished, refused, chain, no_figures, tmp_path):
    given = ["--config", "quick", "--config", f"methods/{name}", *PHANTOMS, *TARGET, "--name", name]
    needed = flags(name, chain / "runs")
    if "@" in str(read_yaml(RUN / "configs" / "methods" / f"{name}.yaml")):
        refused(["'@source", "placeholder", needed[-2]], "svi_target", *given, *needed[:-2])
    finished(tmp_path, "svi_target", *given, *needed)
    found = json.loads((tmp_path / "runs" / name / "metrics.json").read_text())
    assert found["test"]["count"] == 2
    assert all(math.isfinite(value) for value in found["elbo"].values())
