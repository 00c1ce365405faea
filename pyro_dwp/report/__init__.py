"""Figures from a run's results; the only place that knows matplotlib."""

from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.files import save_figure
from pyro_dwp.report.kernel_grids import compare_kernels, kernels
from pyro_dwp.report.run_figures import draw_case, draw_run, figure_cases
from pyro_dwp.report.slices import slices

__all__ = [
    "compare_kernels",
    "draw_case",
    "draw_run",
    "figure_cases",
    "kernels",
    "learning_curves",
    "save_figure",
    "slices",
]
