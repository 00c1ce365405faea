"""Training: the loop, its schedule, joint optimiser, checkpoints that survive a kill, and what is logged."""

from pyro_dwp.train.checkpoint import load_module
from pyro_dwp.train.density_task import DensityTask
from pyro_dwp.train.fit_prior import GradientTrainer, held_out_log_density
from pyro_dwp.train.history import History
from pyro_dwp.train.kernel_task import KernelTask
from pyro_dwp.train.logbook import Logbook
from pyro_dwp.train.loop import Task, fit
from pyro_dwp.train.machine import Machine, configure_pyro
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.point import PointTask
from pyro_dwp.train.ranks import Ranks
from pyro_dwp.train.schedule import Schedule
from pyro_dwp.train.svi import SVI
from pyro_dwp.train.variational import VariationalTask, draw_network

__all__ = [
    "DensityTask",
    "GradientTrainer",
    "History",
    "JointAdam",
    "KernelTask",
    "Logbook",
    "Machine",
    "PointTask",
    "Ranks",
    "SVI",
    "Schedule",
    "Task",
    "VariationalTask",
    "configure_pyro",
    "draw_network",
    "fit",
    "held_out_log_density",
    "load_module",
]
