"""The folder of a run: begun, resumed, described, and loaded again."""

from pyro_dwp.runs.cases import RunCases, read_cases
from pyro_dwp.runs.folder import CONFIG, Run, read_config
from pyro_dwp.runs.posterior import Posterior, load_posterior, mixture
from pyro_dwp.runs.script import run_script

__all__ = [
    "CONFIG",
    "Posterior",
    "Run",
    "RunCases",
    "load_posterior",
    "mixture",
    "read_cases",
    "read_config",
    "run_script",
]
