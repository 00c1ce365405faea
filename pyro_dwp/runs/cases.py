"""The labelled cases of a run: dealt or read back, and every one of them checked before anything is trained."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pyro_dwp.data import (
    CaseSource,
    Patches,
    Prepared,
    Preprocess,
    Split,
    SplitPlan,
    check_cases,
    draw_patch,
    read_split,
    write_split,
)
from pyro_dwp.files import write_json
from pyro_dwp.nn import check_network
from pyro_dwp.runs.folder import Run
from pyro_dwp.sites import Sites, classes_and_channels
from pyro_dwp.train import Ranks

FILE, SITES, SEQUENCES = "split.json", "sites.json", "sequences.json"


@dataclass(frozen=True, eq=False)
class RunCases:
    """What a run learns from and is tested on.

    Args:
        split: names of the cases of each part.
        training: cases to learn from, on the network's grid.
        validation: cases whose loss may control the learning rate.
        notes: grid and peculiarities, to print.
        sequences: names of the network's channels.
    """

    split: Split
    training: list[Prepared]
    validation: list[Prepared]
    notes: str
    sequences: tuple[str, ...] = ()

    def begin(self, run: Run, sites: Sites | None = None, ranks: Ranks | None = None) -> Path:
        """Begin the run on the first rank, and write what it is resumed and loaded by.

        Args:
            run: to begin.
            sites: random weights of the network, for `load_posterior`; None for a run that it will not load.
            ranks: processes that share the run.

        Returns:
            The run's folder, the same on every rank.
        """
        ranks = ranks or Ranks()
        folder = Path(ranks.from_first(lambda: str(run.begin())))
        if ranks.is_first:
            write_split(folder / FILE, self.split)
            write_json(folder / SEQUENCES, {"sequences": self.sequences})
            if sites is not None:
                write_json(folder / SITES, {site.name: list(site.shape) for site in sites.values()})
        return folder


def read_cases(
    run: Run | None,
    data: CaseSource,
    plan: SplitPlan,
    preprocess: Preprocess,
    network: nn.Module,
    patches: Patches = Patches(),  # noqa: B008 (immutable)
) -> RunCases:
    """Deal the cases of a run, or those of the run that is resumed; read all of them, and try the network on one.

    Args:
        run: whose folder holds the split if it is resumed; None where there is no run.
        data: source of the cases.
        plan: how they are dealt.
        preprocess: from a scan to the network's input.
        network: that will learn from them.
        patches: that it will learn from.

    Raises:
        DataError: if there are too few cases, or one cannot be used.
        ConfigError: if the network does not fit them, or a structure is not made up of its classes.
    """
    names = data.names()
    classes, channels = classes_and_channels(network)
    preprocess.classes_of_structures(classes)
    split = read_split(run.folder / FILE, names) if run is not None and run.resumed else plan.draw(names)
    checked = check_cases(data, split.names, preprocess, classes, channels, keep=split.learned_from)
    training, validation = ([checked.prepared[name] for name in part] for part in (split.train, split.validation))
    check_network(network, draw_patch(training[0], patches).image)
    return RunCases(split, training, validation, checked.describe(), tuple(data.sequences(len(training[0].image))))
