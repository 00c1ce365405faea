"""A score against the number of training scans, one line for each method."""

from itertools import pairwise
from statistics import fmean, stdev
from textwrap import fill
from typing import TYPE_CHECKING

from pyro_dwp.errors import ConfigError
from pyro_dwp.report.results import Experiment
from pyro_dwp.report.tables import TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "tab20"  # ten strong colours, each with a pale one after it
MARKERS = "osD^vP*Xph"
LETTERS = 24  # in a line of the legend
WIDTH = 0.3  # share of the smallest gap between sizes that the methods are spread over, beside each other


def score_curves(experiment: Experiment, score: str) -> "Figure":
    """Draw the mean of a score over splits against the number of training scans (figure 6 of Kuzina et al. 2019).

    Each method has a line through its means, a bar of one standard deviation over splits on either side, and a dot for each
    split. Methods stand side by side at each size; a cell without a result is left out of its line.

    Args:
        experiment: finished, or in part.
        score: such as "dice".

    Raises:
        ConfigError: if no training has the score.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    sizes = experiment.sizes
    spreads = {m: {n: list(experiment.spread(m, n, score).splits.values()) for n in sizes} for m in experiment.methods}
    if not any(values for row in spreads.values() for values in row.values()):
        names = sorted({name for training in experiment.trainings for name in training.mean})
        raise ConfigError(
            f"No training of {experiment.name} has the score {score!r} yet. Known are: {', '.join(names) or 'none'}."
        )
    step = WIDTH * min((after - before for before, after in pairwise(sizes)), default=1) / len(spreads)
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (method, row) in enumerate(spreads.items()):
        colour, marker = colormaps[COLOURS]((2 * number + number // 10) % 20), MARKERS[number % len(MARKERS)]
        shift = step * (number - (len(spreads) - 1) / 2)
        points = [(size + shift, fmean(values), values) for size, values in row.items() if values]
        places, means = [point[0] for point in points], [point[1] for point in points]
        axes.plot(places, means, label=fill(method, LETTERS), color=colour, marker=marker, markersize=5)
        for place, mean, values in points:
            axes.scatter([place] * len(values), values, s=7, alpha=0.6, color=colour)
            if len(values) > 1:
                axes.vlines(place, mean - stdev(values), mean + stdev(values), alpha=0.6, color=colour)
    axes.set(xlabel="Training scans", ylabel=TITLES.get(score, score), xticks=sizes)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
