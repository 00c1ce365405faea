"""Figures, tables and the HTML page from a run's results; the only package that uses matplotlib.

matplotlib is imported by the functions that draw, because it takes a third of a second that a script's `--help` should not
cost. Figures are made without pyplot: no window opens, and no global state changes.
"""

from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.files import Drawing, save_figure
from pyro_dwp.report.kernel_grids import compare_kernels, kernels
from pyro_dwp.report.page import report_run, write_page
from pyro_dwp.report.reliability import reliability_diagram
from pyro_dwp.report.run_figures import draw_case, draw_run, show_case
from pyro_dwp.report.slices import slices
from pyro_dwp.report.tables import experiment_tables

__all__ = [
    "Drawing",
    "compare_kernels",
    "draw_case",
    "draw_run",
    "experiment_tables",
    "kernels",
    "learning_curves",
    "reliability_diagram",
    "report_run",
    "save_figure",
    "show_case",
    "slices",
    "write_page",
]
