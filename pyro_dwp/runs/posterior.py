"""A finished inference run, read back from its folder: all that is needed to predict new scans, in a script or a notebook."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_dwp.data import Preprocess
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import read_json
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

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return one network from the posterior: images (B, C, ...) → logits (B, classes, ...)."""
        return draw_network(self.network, self.guide)


def load_posterior(folder: Path | str, device: torch.device | str = "cpu") -> Posterior:
    """Rebuild network and guide as a run's config says, and fill them from its checkpoint.

    Args:
        folder: of a run of run/svi_target.py.
        device: where the networks will compute.

    Raises:
        DataError: if the folder holds no run.
        ConfigError: if the run is of another script.
        CheckpointError: if it has no checkpoint, or one that does not fit its config.
    """
    folder = Path(folder)
    config = read_config(folder)
    if "samples" not in config:
        raise ConfigError(f"{folder} is not a run of run/svi_target.py: its config has no samples. Name one that is.")
    cure = "Run run/svi_target.py again, or restore the file."
    random = read_json(folder / "sites.json", "the weight sites of a run", cure, CheckpointError)
    network = instantiate(Callable[[], nn.Module], config.get("network"), "network")()
    sites = weight_sites(network, expose=lambda site: site.name in random)
    guide = instantiate(Callable[[dict], nn.Module], config.get("guide"), "guide")(sites)
    functional = FunctionalNetwork(network, sites)
    load_module(folder, "network", functional)
    load_module(folder, "guide", guide)
    preprocess = instantiate(Preprocess, config.get("preprocess"), "preprocess")
    classes, channels = classes_and_channels(network)
    return Posterior(functional.to(device), guide.to(device), preprocess, channels, classes, config["samples"])
