#!/usr/bin/env python
"""Compare priors on the kernels of source networks: held-out nats per kernel, parameters, time to fit, time of a step.

Learned priors are fitted by train_prior.py, in processes of their own; the others get the scale of each group's kernels.

    python run/compare_priors.py --bank runs/kernels/bank.safetensors --name comparison
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import NonNegativeInt, PositiveInt

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp import AuxiliaryELBO, DiceCrossEntropy, Gaussian, Prior, UNet, configure_pyro, start_function
from pyro_dwp.checks import Share
from pyro_dwp.errors import ConfigError, TrainingError
from pyro_dwp.files import write_json, write_text
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.report import compare_kernels, comparison, save_figure
from pyro_dwp.runs import Run, run_script
from pyro_dwp.runs.folder import CONFIG, ROOT, keeps_results
from pyro_dwp.runs.script import resolve_layers
from pyro_dwp.settings import Flat, instantiate, merge
from pyro_dwp.timing import median_seconds
from pyro_dwp.train import SVI, JointAdam, Machine

SCRIPT = Path(__file__).parent / "train_prior.py"


def time_step(prior: Prior, grid: tuple[int, ...], steps: int, device: torch.device) -> float | None:
    """Return the seconds of a step of the default U-Net under a prior, with the mean-field guide; None for no steps."""
    network = UNet(ndim=len(grid)).to(device)
    model = SegmentationModel(network, prior.to(device), DiceCrossEntropy())
    guide = MeanField(model.sites)
    guide.start(start_function("random", model.sites, network, prior), prior)
    elbo = AuxiliaryELBO(prior.encoders(), kernels_per_group=400)
    image, label = torch.randn(2, 1, *grid, device=device), torch.randint(2, (2, *grid), device=device)
    svi = SVI(model, guide, JointAdam({"posterior": [guide, model], "encoders": [elbo.encoders]}, rates=1e-4), elbo)
    return median_seconds(lambda: svi.step(image, label), steps, device) if steps else None


def main(
    bank: Path,
    learned: dict[str, dict[str, Any]],
    fixed: dict[str, Callable[..., Prior]],
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    held_out: Share = 0.2,
    seed: int = 0,
    grid: tuple[PositiveInt, ...] = (64, 64, 24),
    steps: NonNegativeInt = 5,
) -> None:
    """Fit every prior to a bank of kernels and print one table; a figure shows samples beside real kernels.

    Args:
        bank: kernels of source networks, written by run/collect_kernels.py.
        learned: name of a prior → settings of run/train_prior.py that fit it.
        fixed: name of a prior → its class and arguments, without `scale`, which is each group's root mean square.
        held_out: share of the source networks that the priors are tested on.
        seed: seed of split, fits and samples.
        grid: edges of the images that a step is timed on, in voxels.
        steps: number of timed steps on two images, of which the median is reported; 0 skips the timing.
    """
    configure_pyro(validation=False)
    device, kernels = machine.use(), KernelBank.load(bank)
    splits = {group: kernels.split(group, held_out, seed) for group in kernels.groups}
    scales = comparison.group_scales(kernels, held_out, seed)
    around = {group: comparison.pretrained_gain(kernels, group, held_out, seed) for group in kernels.groups}
    common = {"bank": str(bank), "held_out": held_out, "seed": seed, **vars(machine)}
    fitter = runpy.run_path(str(SCRIPT))["main"]
    for title, settings in learned.items():  # every setting of every fit is checked before the first one starts
        if both := sorted(settings.keys() & {*common, "name"}):
            raise ConfigError(f"learned.{title}: {', '.join(both)} is the same for all priors. Leave it out.")
        resolve_layers(fitter, {Path(f"learned.{title}"): merge(settings, common)}, {})
    matched = {title: comparison.matched_priors(title, make, scales) for title, make in fixed.items()}
    folder = run.begin()
    rows, samples = [], {}
    for title, priors in matched.items():
        seconds = time_step(priors[kernels.groups[-1]], grid, steps, device)
        gains = {group: comparison.fixed_prior_gain(prior, group, *splits[group]) for group, prior in priors.items()}
        samples[title] = comparison.draw_kernels(priors, kernels)
        rows.append(comparison.PriorRow(title, gains, True, 0, None, seconds))
    places = sum(map(torch.numel, kernels.kernels.values())) // int(kernels.metadata["snapshots"])
    seconds = time_step(Gaussian(), grid, steps, device)  # a step takes as long around a network as around 0
    rows.append(comparison.PriorRow("pretrained: around one network", around, True, places, None, seconds))
    for title, settings in learned.items():
        part = folder / title
        if not (part / "metrics.json").exists():
            own = merge(settings, {**common, "name": part.relative_to(ROOT).as_posix()})
            config = write_text(folder / f"{title}.yaml", yaml.safe_dump(own, sort_keys=False))
            command = [sys.executable, str(SCRIPT), "--config", str(config), *["--resume"] * (part / CONFIG).exists()]
            if subprocess.run(command).returncode:
                cure = f" Go on with --resume --name {folder.relative_to(ROOT)}." * keeps_results(folder)
                raise TrainingError(f"{shlex.join(command)} failed; its message is above.{cure}")
        found = json.loads((part / "metrics.json").read_text())
        prior = instantiate(Prior, {"class": found["family"], "path": str(part / "prior.safetensors")}, title)
        rows.append(comparison.fitted_row(title, found, time_step(prior, grid, steps, device)))
        torch.manual_seed(seed)
        samples[title] = comparison.draw_kernels(dict.fromkeys(kernels.groups, prior), kernels)

    write_json(folder / "metrics.json", [row.to_dict() for row in rows])
    save_figure(compare_kernels(kernels.kernels, samples), folder / "figures" / "kernels.png")
    print(comparison.comparison_table(rows), f"Nats per kernel above an isotropic Gaussian. {folder}", sep="\n")


if __name__ == "__main__":
    sys.exit(run_script(main, "priors"))
