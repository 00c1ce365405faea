"""A finished inference run, read back from its folder: all that is needed to predict new scans, in a script or a notebook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from pyro_dwp.data import Preprocess, Sequences
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import check_header, read_json
from pyro_dwp.nn import Computing, MemoryFormat, Precision
from pyro_dwp.predict import Calibration, Postprocess, Predictor
from pyro_dwp.runs.cases import SEQUENCES, SITES
from pyro_dwp.runs.folder import CONFIG, read_config
from pyro_dwp.settings import instantiate
from pyro_dwp.sites import FunctionalNetwork, classes_and_channels, weight_sites
from pyro_dwp.train import draw_network, load_module


class Facts(BaseModel, extra="allow"):
    """What `load_posterior` takes from a run's config as it is; the rest is checked as it is built."""

    precision: Precision = None
    memory_format: MemoryFormat = "contiguous"
    samples: PositiveInt = 1
    patch: list[PositiveInt] | None = None


class Names(BaseModel):
    """The content of sequences.json; runs of earlier versions have none."""

    sequences: list[str] = []


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
    sequences: tuple[str, ...]  # names of the channels
    postprocess: Postprocess | None  # what the run did to its masks
    calibration: Calibration  # on the run's validation scans
    folder: Path  # of the run
    device: torch.device | str  # of the networks

    def predictor(
        self,
        samples: int | None = None,
        seed: int = 0,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        postprocess: Postprocess | None = None,
    ) -> Predictor:
        """Return what predicts new scans as the run predicted its own, calibrated on its validation scans.

        Args:
            samples: networks drawn from the posterior; None takes the run's number.
            seed: of the draws; every scan sees the same networks.
            window: edges of a sliding window, voxels of the network's grid; None takes the run's patch, or whole volumes if it
                has none.
            overlap: share of a window's edge that it has in common with its neighbour.
            postprocess: what is done to masks; None does what the run did.

        Raises:
            ConfigError: if the post-processing names a structure that the run does not know.
        """
        return Predictor(
            self.draw,
            self.preprocess,
            samples or self.samples,
            seed,
            window or self.window,
            overlap,
            device=self.device,
            postprocess=postprocess or self.postprocess,
            temperature=self.calibration.temperature,
            sequences=Sequences(self.channels, self.sequences),
        )

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return one network from the posterior: images (B, C, ...) → logits (B, classes, ...).

        The network raises CheckpointError if its logits are not finite.
        """
        network = draw_network(self.network, self.guide)

        def checked(image: Tensor) -> Tensor:
            logits = network(image)
            if not logits.isfinite().all():
                raise CheckpointError(
                    f"A network of {self.folder} gives values that are not finite, so its weights are too large. Train it again."
                )
            return logits

        return checked

    def check_sequences(self, names: Sequence[str], where: str) -> None:
        """Refuse scans with this run's sequences in another order; sequences of other names may be another disease's.

        Args:
            names: of the channels of these scans.
            where: what they are of, named in the error.

        Raises:
            ConfigError: if the order differs.
        """
        if tuple(names) != self.sequences and sorted(names) == sorted(self.sequences):
            raise ConfigError(
                f"The sequences of {self.folder} are {', '.join(self.sequences)}, but those of {where} are {', '.join(names)}. "
                "Give both in one order."
            )


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
        DataError: if the folder holds no run, or its calibration.json is damaged.
        ConfigError: if the run is of another script.
        CheckpointError: if it has no checkpoint, or one that does not fit its config.
    """
    folder = Path(folder)
    config = read_config(folder)
    if "score" not in config or "network" not in config:
        raise ConfigError(f"{folder} is not a run of run/svi_target.py or run/meta_tune.py. Name one that is.")
    cure = "Run the script again, or restore the file."
    facts = check_header(Facts, config, str(folder / CONFIG), cure, ConfigError)
    random = read_json(folder / SITES, "the weight sites of a run", cure, CheckpointError)
    network = instantiate(Callable[[], nn.Module], config["network"], "network")()
    sites = weight_sites(network, expose=lambda site: site.name in random) if random else {}
    functional = FunctionalNetwork(network, sites, Computing(facts.precision, facts.memory_format))
    load_module(folder, "network", functional)
    guide: nn.Module = NoGuide()
    if random:
        guide = instantiate(Callable[[dict], nn.Module], config.get("guide"), "guide")(sites)
        load_module(folder, "guide", guide)
    preprocess = instantiate(Preprocess, config.get("preprocess"), "preprocess")
    classes, channels = classes_and_channels(network)
    window = tuple(facts.patch) if facts.patch else None
    stored = read_json(folder / SEQUENCES, "the names of a run's sequences", cure, CheckpointError)
    sequences = tuple(check_header(Names, stored, str(folder / SEQUENCES), cure).sequences)
    after = instantiate(Postprocess | None, config.get("postprocess"), "postprocess")
    how = facts.samples, window, sequences, after, Calibration.read(folder), folder, device
    return Posterior(functional.to(device), guide.to(device), preprocess, channels, classes, *how)


def mixture(members: Sequence[Posterior]) -> Callable[[], Callable[[Tensor], Tensor]]:
    """Return what draws from several posteriors in turn, so that M · S draws take S from each of M members.

    Args:
        members: of one preprocessing, one window, one set of classes and the same sequences.

    Raises:
        ConfigError: if they differ in preprocessing, window, channels or classes, or in the order of their sequences.

    References:
        Lakshminarayanan, Pritzel, Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles.
    """
    kinds = {(member.classes, member.channels, repr(member.preprocess), member.window) for member in members}
    if len(kinds) > 1:
        raise ConfigError(
            f"The members of an ensemble have the same preprocessing, window, channels and classes, but there are {len(kinds)} "
            "kinds of them. Name runs of one config."
        )
    for member in members[1:]:
        members[0].check_sequences(member.sequences, str(member.folder))
    turns = cycle(members)
    return lambda: next(turns).draw()
