#!/usr/bin/env python
"""Cut the networks of one or several source runs into kernels, and measure what the kernels hold beyond noise.

The table says, for each group of layers, how many nats per kernel a full-covariance Gaussian and a Student t gain over
an isotropic Gaussian on kernels of networks that they were not fitted to. About zero means that the kernels are noise
of one scale, and no prior fitted to them can know more than that scale: train the source networks longer, or from a
smaller start.

Example:
    python run/collect_kernels.py --sources runs/source --name kernels
"""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from pyro_dwp.cli import begin_run, instantiate, load_config, run_script, write_json
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.extract import collect_kernels, snapshot_files
from pyro_dwp.kernels.information import bank_information, information_table
from pyro_dwp.sites import weight_sites
from pyro_dwp.transfer import load_network


def source_network(source: Path) -> nn.Module:
    """Build the network of a source run, as its config says; the weights are still random."""
    return instantiate(nn.Module, load_config(source)["network"])


def snapshots(sources: list[Path], facts: list[dict]) -> Iterator[tuple[str, nn.Module]]:
    """Load every snapshot of the source runs in turn, and note what its file says of it in `facts`."""
    for source in sources:
        network = source_network(source)
        for path in snapshot_files(source):
            facts.append({"file": str(path), **load_network(path, network)})
            yield f"{source}/network {facts[-1]['network']}", network


def main(
    sources: Path | list[Path],
    minimum_norm: float = 1e-2,
    held_out: float = 0.2,
    seed: int = 0,
    name: str | None = None,
    overwrite: bool = False,
) -> None:
    """Collect the kernels of source networks in runs/NAME/bank.safetensors.

    Args:
        sources: folder of a run of run/train_source.py, or a list of such folders, as in '[runs/a, runs/b]'.
        minimum_norm: kernels whose L2 norm is below this are left out and counted; in units of the weights.
        held_out: share of the networks (of the kernels, if there is one network) that judges the fitted densities.
        seed: of that split.
        name: of the run's folder under runs/; None numbers it.
        overwrite: delete the run of this name first.
    """
    runs = sources if isinstance(sources, list) else [sources]
    if not runs:
        raise ConfigError("sources names no run. Give a folder that run/train_source.py made, or several.")
    groups = {site.name: site.group for site in weight_sites(source_network(runs[0])).values()}
    facts: list[dict] = []
    provenance = {"snapshots": facts, "command": shlex.join(["run/collect_kernels.py", *sys.argv[1:]])}
    bank = collect_kernels(snapshots(runs, facts), groups, minimum_norm, provenance)
    rows = bank_information(bank, held_out, seed)
    folder = begin_run("collect_kernels", name, overwrite=overwrite)
    bank.save(folder / "bank.safetensors")
    write_json(folder / "metrics.json", {"nats_per_kernel": [row.to_dict() for row in rows], **bank.metadata})
    print(information_table(rows, bank))
    print("Gains over the isotropic Gaussian (iso), in nats per kernel, with standard errors.")
    print(f"{len(facts)} snapshots of {len(bank.networks)} networks in {folder / 'bank.safetensors'}")


if __name__ == "__main__":
    sys.exit(run_script(main))
