"""Command lines and configs of the scripts, and the folders that their runs leave."""

from pyro_dwp.cli.configs import first_command, load_config
from pyro_dwp.cli.parser import instantiate
from pyro_dwp.cli.runs import begin_run, latest_run, run_folder, write_json
from pyro_dwp.cli.script import run_script

__all__ = [
    "begin_run",
    "first_command",
    "instantiate",
    "latest_run",
    "load_config",
    "run_folder",
    "run_script",
    "write_json",
]
