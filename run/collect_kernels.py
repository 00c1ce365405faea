#!/usr/bin/env python
"""Cut the networks of one or several source runs into kernels, and measure what the kernels hold beyond noise.

The table says, for each group of layers, how many nats per kernel a full-covariance Gaussian and a Student t gain over an
isotropic Gaussian on kernels of networks that they were not fitted to. About zero means that the kernels are noise of one scale,
and no prior fitted to them can know more than that scale: train the source networks longer, or from a smaller start.

    python run/collect_kernels.py --sources runs/source --name kernels
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import NonNegativeFloat
from torch import nn

from pyro_dwp.checks import Share
from pyro_dwp.files import write_json
from pyro_dwp.kernels.extract import collect_kernels
from pyro_dwp.kernels.information import bank_information, information_table
from pyro_dwp.nn import NetworkFactory, load_network, snapshot_files
from pyro_dwp.runs import Run, read_config, run_script
from pyro_dwp.settings import Flat, instantiate
from pyro_dwp.sites import weight_sites


def source_network(source: Path) -> nn.Module:
    """Build the network of a source run, as its config says; the weights are still random."""
    return instantiate(NetworkFactory, read_config(source)["network"], f"{source}: network")()


def snapshots(sources: list[Path], facts: list[dict]) -> Iterator[tuple[str, nn.Module]]:
    """Load every snapshot of the source runs in turn, and note what its file says of it in `facts`."""
    for source in sources:
        network = source_network(source)
        for path in snapshot_files(source):
            facts.append({"file": str(path), **load_network(path, network)})
            yield f"{source}/network {facts[-1]['network']}", network


def main(
    sources: Annotated[list[Path], MinLen(1)] | Path,
    run: Annotated[Run, Flat()],
    minimum_norm: NonNegativeFloat = 1e-2,
    held_out: Share = 0.2,
    seed: int = 0,
) -> None:
    """Collect the kernels of source networks in runs/NAME/bank.safetensors.

    Args:
        sources: folder of a run of run/train_source.py, or a list of such folders, as in '[runs/a, runs/b]'.
        minimum_norm: kernels whose L2 norm is below this are left out and counted; in units of the weights.
        held_out: share of the networks (of the kernels, if there is one network) that the fitted densities are tested on.
        seed: seed of that split.
    """
    folders = sources if isinstance(sources, list) else [sources]
    groups = {site.name: site.group for site in weight_sites(source_network(folders[0])).values()}
    facts: list[dict] = []
    provenance = {"snapshots": facts, "sources": [str(folder) for folder in folders]}
    bank = collect_kernels(snapshots(folders, facts), groups, minimum_norm, provenance)
    rows = bank_information(bank, held_out, seed)
    folder = run.begin()
    bank.save(folder / "bank.safetensors")
    write_json(folder / "metrics.json", {"nats_per_kernel": [row.to_dict() for row in rows], **bank.metadata})
    print(information_table(rows, bank))
    print("Gains over the isotropic Gaussian (iso), in nats per kernel, with standard errors.")
    print(f"{len(facts)} snapshots of {len(bank.networks)} networks in {folder / 'bank.safetensors'}")


if __name__ == "__main__":
    sys.exit(run_script(main))
