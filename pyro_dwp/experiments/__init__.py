"""Experiments: jobs from a grid of methods, training sizes, splits and seeds, keyed by their settings, and where they run."""

from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.job import Job
from pyro_dwp.experiments.local import Local
from pyro_dwp.experiments.plan import Cell, Experiment, Plan
from pyro_dwp.experiments.runner import Progress, run_jobs
from pyro_dwp.experiments.slurm import Slurm

__all__ = ["Cell", "Engine", "Experiment", "Job", "Local", "Plan", "Progress", "Slurm", "run_jobs"]
