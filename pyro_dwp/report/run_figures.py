"""The figures of an inference run, from what the run has in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyro_dwp.predict import ScoredCase
from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.files import save_figure
from pyro_dwp.report.kernel_grids import kernels
from pyro_dwp.report.slices import slices
from pyro_dwp.sites import WeightSite

PLANES_AND_VOLUMES = (2, 3)  # axes of the kernels that `kernels` can draw


def figure_cases(number: int, shown: int) -> range:
    """Return the positions of `shown` cases, spread evenly over `number` of them, so that they are not hand-picked.

    Example:
        >>> list(figure_cases(50, 3))
        [0, 16, 32]
    """
    return range(0, number, max(1, number // shown))[:shown] if number else range(0)


def draw_case(folder: Path, case: ScoredCase) -> Path:
    """Write scan, truth, prediction and entropy of a case to figures/NAME.png."""
    figure = slices(
        case.scan.image[0],
        case.truth,
        case.prediction.mask,
        case.prediction.entropy,
        case.scan.spacing,
        f"{case.scan.name}, Dice {case.scores['dice']:.3f}",
    )
    return save_figure(figure, folder / "figures" / f"{case.scan.name}.png")


def by_group(weights: Mapping[str, Tensor], sites: Mapping[str, WeightSite]) -> dict[str, Tensor]:
    """Sort the kernels of a network's weights into groups: group → (n, K, ..., K).

    Sites without kernels of voxels, such as biases and linear layers, have nothing to look at and are left out.
    """
    groups: dict[str, list[Tensor]] = {}
    for name, site in sites.items():
        if len(site.kernel_shape) in PLANES_AND_VOLUMES:
            found = weights[name].detach().flatten(0, len(site.batch_shape) - 1)
            groups.setdefault(site.group, []).append(found)
    return {group: torch.cat(parts) for group, parts in groups.items()}


def draw_run(
    folder: Path,
    history: Sequence[Mapping[str, float]],
    posterior: Mapping[str, Tensor],
    prior: Mapping[str, Tensor],
    sites: Mapping[str, WeightSite],
) -> None:
    """Write figures/learning_curves.png and, where the sites have kernels of voxels, figures/kernels.png.

    Args:
        folder: of the run.
        history: one row per epoch.
        posterior: site name → weights drawn from the guide.
        prior: site name → weights drawn from the prior.
        sites: site name → site.
    """
    save_figure(
        learning_curves([dict(row) for row in history], unit="nats"), folder / "figures" / "learning_curves.png"
    )
    inferred, expected = by_group(posterior, sites), by_group(prior, sites)
    if inferred:
        title = "Kernels drawn from the posterior of this network (left) and from its prior (right)"
        drawn = kernels(inferred, expected, title=title, names=("posterior", "prior"))
        save_figure(drawn, folder / "figures" / "kernels.png")
