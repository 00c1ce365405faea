"""Training: the loop, its schedule, joint optimiser, checkpoints that survive a kill, and what is logged."""

from pyro_dwp.train.checkpoint import load_module
from pyro_dwp.train.density_task import DensityTask
from pyro_dwp.train.kernel_task import KernelTask
from pyro_dwp.train.logbook import Logbook
from pyro_dwp.train.loop import History, Task, fit
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.point import PointTask
from pyro_dwp.train.prior_fit import Circumstances, FitEmpirical, FitFlow, FitMixture, Fitted, PriorFit
from pyro_dwp.train.schedule import Schedule
from pyro_dwp.train.settings import configure_pyro, use_machine
from pyro_dwp.train.variational import VariationalTask, draw_network

__all__ = [
    "Circumstances",
    "DensityTask",
    "FitEmpirical",
    "FitFlow",
    "FitMixture",
    "Fitted",
    "History",
    "JointAdam",
    "KernelTask",
    "Logbook",
    "PointTask",
    "PriorFit",
    "Schedule",
    "Task",
    "VariationalTask",
    "configure_pyro",
    "draw_network",
    "fit",
    "load_module",
    "use_machine",
]
