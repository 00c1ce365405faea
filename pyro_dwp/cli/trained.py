"""A finished inference run, read back from its folder: what is needed to predict new scans."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_dwp.cli.configs import load_config
from pyro_dwp.cli.parser import instantiate
from pyro_dwp.data import Preprocess
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import LiftedNetwork, WeightSite, declared, has_voxels, weight_sites
from pyro_dwp.train import draw_network, load_module


@dataclass(frozen=True)
class TrainedRun:
    """Posterior over networks, and how scans become their input.

    Args:
        network: takes the weights of its sites as an argument.
        guide: samples them.
        preprocess: as in training.
        channels: of the network's input.
        samples: posterior samples that the run predicted with.
    """

    network: LiftedNetwork
    guide: nn.Module
    preprocess: Preprocess
    channels: int
    samples: int

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return one network from the posterior: images (B, C, ...) → logits (B, classes, ...)."""
        return draw_network(self.network, self.guide)


def load_run(folder: Path, device: torch.device | str = "cpu") -> TrainedRun:
    """Rebuild network and guide from a run's config.yaml and fill them from its checkpoint.

    Args:
        folder: of a run of run/svi_target.py.
        device: where the networks shall compute.

    Raises:
        DataError: if the folder holds no run.
        ConfigError: if the run is of another script.
        CheckpointError: if it has no checkpoint, or one that does not fit its config.
    """
    config = load_config(folder)
    if missing := [key for key in ("network", "guide", "preprocess", "samples") if key not in config]:
        raise ConfigError(
            f"{folder} is no run of run/svi_target.py: its config.yaml has no {missing[0]!r}. Name one that is."
        )
    network = instantiate(Callable[[], nn.Module], config["network"])()
    sites = weight_sites(network, expose=_exposed(Path(folder)))
    # The checkpoint overwrites this start. A new network's own weights would not do: many biases are all 0 at first, and a
    # guide that starts as wide as its weights are large refuses those.
    start = {name: torch.randn(site.shape) for name, site in sites.items()}
    guide = instantiate(Callable[[dict, dict], nn.Module], config["guide"])(sites, start)
    lifted = LiftedNetwork(network, sites)
    load_module(folder, "network", lifted)
    load_module(folder, "guide", guide)
    preprocess = instantiate(Preprocess, config["preprocess"])
    return TrainedRun(
        lifted.to(device), guide.to(device), preprocess, declared(network, "in_channels"), config["samples"]
    )


def _exposed(folder: Path) -> Callable[[WeightSite], bool]:
    """Return which parameters a run made random; the prior that chose them need not be at hand any more."""
    path = folder / "sites.json"
    if not path.is_file():
        return has_voxels
    names = set(json.loads(path.read_text()))
    return lambda site: site.name in names
