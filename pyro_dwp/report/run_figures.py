"""The figures of an inference run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan
from pyro_dwp.priors import Prior
from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.files import Drawing, save_figure
from pyro_dwp.report.kernel_grids import kernels
from pyro_dwp.report.slices import slices
from pyro_dwp.sites import WeightSite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_dwp.predict import Prediction, ScoredCase


def draw_case(folder: Path, case: "ScoredCase") -> Path:
    """Write scan, truth, prediction and entropy of a case to figures/NAME.png, and return its path.

    Args:
        folder: of the run.
        case: to draw.
    """
    title = f"{case.scan.name}, Dice {case.scores['dice']:.3f}"
    figure = _case(case.scan, case.truth, case.prediction, case.classes, title)
    return save_figure(figure, folder / "figures" / f"{case.scan.name}.png")


def show_case(scan: Scan, prediction: "Prediction", preprocess: Preprocess) -> Drawing:
    """Draw scan, prediction and entropy, and the truth where the scan has one, for a notebook.

    Args:
        scan: that was predicted.
        prediction: on the scan's grid.
        preprocess: of the network, for the label map and the names of the classes.
    """
    classes = preprocess.class_names(len(prediction.probability))
    return Drawing(_case(scan, preprocess.mapped_label(scan), prediction, classes, scan.name))


def _case(scan: Scan, truth: Tensor | None, prediction: "Prediction", classes: Sequence[str], title: str) -> "Figure":
    maps, count = (prediction.mask, prediction.entropy), len(prediction.probability)
    names = classes if len(classes) > 1 else ()
    return slices(scan.image[0], truth, *maps, count, scan.spacing, title, names=names)


def by_group(weights: Mapping[str, Tensor], sites: Mapping[str, WeightSite]) -> dict[str, Tensor]:
    """Collect the spatial kernels of a network by group.

    Args:
        weights: site name → weights, of the site's shape.
        sites: site name → site.

    Returns:
        Group → kernels, (n, K, K) or (n, K, K, K). Sites without spatial kernels, such as biases, are left out.
    """
    groups: dict[str, list[Tensor]] = {}
    for name, site in sites.items():
        if len(site.kernel_shape) in (2, 3):
            found = weights[name].detach().flatten(0, len(site.batch_shape) - 1)
            groups.setdefault(site.group, []).append(found)
    return {group: torch.cat(parts) for group, parts in groups.items()}


def draw_run(
    folder: Path,
    history: Sequence[Mapping[str, float]],
    cases: Iterable["ScoredCase"],
    sites: Mapping[str, WeightSite],
    posterior: Mapping[str, Tensor],
    prior: Prior,
) -> None:
    """Write the figures of a run: NAME.png of some cases, learning_curves.png and, if any site has spatial kernels, kernels.png.

    Args:
        folder: of the run; the figures go to figures/ in it.
        history: one row per epoch.
        cases: to draw.
        sites: site name → site.
        posterior: site name → weights drawn from the guide.
        prior: whose samples are drawn beside these.
    """
    for case in cases:
        draw_case(folder, case)
    save_figure(learning_curves(history, unit="nats"), folder / "figures" / "learning_curves.png")
    inferred = by_group(posterior, sites)
    if inferred:
        expected = by_group(prior.sample(sites), sites)
        title = "Kernels drawn from the posterior of this network (left) and from its prior (right)"
        drawn = kernels(inferred, expected, title=title, names=("posterior", "prior"))
        save_figure(drawn, folder / "figures" / "kernels.png")
