"""The folder of a run: begun, resumed, described, and loaded again."""

from pyro_dwp.runs.folder import Run, read_config
from pyro_dwp.runs.posterior import Posterior, load_posterior
from pyro_dwp.runs.script import run_script

__all__ = ["Posterior", "Run", "load_posterior", "read_config", "run_script"]
