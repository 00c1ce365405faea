"""Figures and tables from a run's results; the only package that uses matplotlib.

matplotlib is imported by the functions that draw, because it takes a third of a second that a script's `--help` should not
cost. Figures are made without pyplot: no window opens, and no global state changes.
"""

from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.files import save_figure
from pyro_dwp.report.kernel_grids import compare_kernels, kernels
from pyro_dwp.report.run_figures import draw_case, draw_run
from pyro_dwp.report.slices import slices
from pyro_dwp.report.tables import experiment_tables

__all__ = [
    "compare_kernels",
    "draw_case",
    "draw_run",
    "experiment_tables",
    "kernels",
    "learning_curves",
    "save_figure",
    "slices",
]
