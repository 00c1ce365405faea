"""A finished inference run, read back from its folder: all that is needed to predict new scans, in a script or a notebook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_dwp.data import Preprocess
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import read_json
from pyro_dwp.runs.cases import SITES
from pyro_dwp.runs.folder import read_config
from pyro_dwp.settings import instantiate
from pyro_dwp.sites import FunctionalNetwork, classes_and_channels, weight_sites
from pyro_dwp.train import draw_network, load_module


@dataclass(frozen=True)
class Posterior:
    """Posterior over networks, and how scans become their input."""

    network: FunctionalNetwork  # takes the weights of its sites as an argument
    guide: nn.Module  # samples them
    preprocess: Preprocess  # as in training
    channels: int  # of the network's input
    classes: int  # of its output, background included
    samples: int  # networks that the run predicted with
    window: tuple[int, ...] | None  # that slides over a volume, voxels, since the run learned from patches of this size

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return one network from the posterior: images (B, C, ...) → logits (B, classes, ...)."""
        return draw_network(self.network, self.guide)


class NoGuide(nn.Module):
    """The guide of a run that trained a single network: it samples nothing, and every parameter is a point."""

    def forward(self) -> dict[str, Tensor]:
        """Return no weights."""
        return {}


def load_posterior(folder: Path | str, device: torch.device | str = "cpu") -> Posterior:
    """Rebuild network and guide as a run's config says, and fill them from its checkpoint.

    Args:
        folder: of a run on a target disease, of run/svi_target.py or run/meta_tune.py.
        device: where the networks will compute.

    Raises:
        DataError: if the folder holds no run.
        ConfigError: if the run is of another script.
        CheckpointError: if it has no checkpoint, or one that does not fit its config.
    """
    folder = Path(folder)
    config = read_config(folder)
    if "score" not in config or "network" not in config:
        raise ConfigError(f"{folder} is not a run of run/svi_target.py or run/meta_tune.py. Name one that is.")
    cure = "Run the script again, or restore the file."
    random = read_json(folder / SITES, "the weight sites of a run", cure, CheckpointError)
    network = instantiate(Callable[[], nn.Module], config["network"], "network")()
    sites = weight_sites(network, expose=lambda site: site.name in random) if random else {}
    functional = FunctionalNetwork(network, sites, config.get("precision", "float32"))
    load_module(folder, "network", functional)
    guide: nn.Module = NoGuide()
    if random:
        guide = instantiate(Callable[[dict], nn.Module], config.get("guide"), "guide")(sites)
        load_module(folder, "guide", guide)
    preprocess = instantiate(Preprocess, config.get("preprocess"), "preprocess")
    classes, channels = classes_and_channels(network)
    samples, window = config.get("samples", 1), tuple(config.get("patch") or ()) or None
    return Posterior(functional.to(device), guide.to(device), preprocess, channels, classes, samples, window)


def mixture(members: Sequence[Posterior]) -> Callable[[], Callable[[Tensor], Tensor]]:
    """Return what draws from several posteriors in turn, so that M · S draws take S from each of M members.

    Args:
        members: of one preprocessing, one window and one set of classes.

    Raises:
        ConfigError: if they differ in preprocessing, window, channels or classes.

    References:
        Lakshminarayanan, Pritzel, Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles.
    """
    kinds = {(member.classes, member.channels, repr(member.preprocess), member.window) for member in members}
    if len(kinds) > 1:
        raise ConfigError(
            f"The members of an ensemble have the same preprocessing, window, channels and classes, but there are {len(kinds)} "
            "kinds of them. Name runs of one config."
        )
    turns = cycle(members)
    return lambda: next(turns).draw()
