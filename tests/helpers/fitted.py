"""Tiny learned priors of every family, fitted in about a second, for tests that need one of each."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeightDensity, EmpiricalDensity, FlowDensity, GroupDensity, MixtureDensity
from pyro_dwp.priors.mixture import fit_mixture
from pyro_dwp.priors.store import save_prior

CHANNELS = (2, 4)
SCALE = 0.1


def synthetic_kernels(count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return correlated, heavy-tailed kernels, (n, *shape), float64."""
    generator = torch.Generator().manual_seed(seed)
    entries = torch.Size(shape).numel()
    matrix = torch.randn(entries, entries, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    white = torch.randn(count, entries, dtype=torch.float64, generator=generator)
    size = torch.randn(count, 1, dtype=torch.float64, generator=generator).mul(0.5).exp()
    return (SCALE * size * (white + 0.3 * white @ matrix / entries**0.5)).reshape(count, *shape)


def fitted_densities(kernels: Tensor) -> dict[str, GroupDensity]:
    """Return a density of every family, fitted to these kernels (n, K, ...) or, the trained ones, made to their scale."""
    shape, flat = kernels.shape[1:], kernels.flatten(1)
    flow = FlowDensity(shape, transforms=2, hidden=8).start_from(fit_student_t(flat))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    scale = float(flat.square().mean().sqrt())
    return {
        "deep_weight": DeepWeightDensity(shape, latent=2, hidden=8, kernel_scale=scale),
        "empirical": EmpiricalDensity.of(shape, fit_gaussian(flat)),
        "student_t": EmpiricalDensity.of(shape, fit_student_t(flat)),
        "mixture": MixtureDensity.of(shape, fit_mixture(flat[::2], flat[1::2], 2, steps=10).mixture),
        "flow": flow,
    }


def fitted_priors(folder: Path, ndim: int) -> dict[str, Path]:
    """Save a learned prior of every family for `UNet(channels=(2, 4), ndim=ndim)`.

    Args:
        folder: where to.
        ndim: 2 or 3.

    Returns:
        Name → file: deep_weight, empirical, student_t (of the class Empirical), mixture, flow.
    """
    torch.manual_seed(0)
    groups = sorted(set(UNet(channels=CHANNELS, ndim=ndim).kernel_groups().values()))
    densities = {
        group: fitted_densities(synthetic_kernels(400, (3,) * ndim, seed)) for seed, group in enumerate(groups)
    }
    paths = {}
    for name in next(iter(densities.values())):
        paths[name] = folder / f"{name}-{ndim}.safetensors"
        save_prior(paths[name], {group: densities[group][name] for group in groups}, {"licence": "none: synthetic"})
    return paths
