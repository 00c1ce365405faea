"""How long a step of variational inference takes."""

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pyro.nn import PyroModule
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.svi import SVI


@checked
def seconds_per_step(
    model: PyroModule,
    guide: PyroModule,
    elbo: AuxiliaryELBO,
    image: Tensor,
    label: Tensor,
    steps: Annotated[int, Ge(1), Le(10_000)] = 5,
) -> float:
    """Return the median wall time of an SVI step on one minibatch, in seconds, after two steps that do not count.

    Computes on the device of the tensors. The steps are real: model, guide and encoders are trained.

    Args:
        model: a Pyro program of image and label.
        guide: samples its weight sites.
        elbo: to maximise.
        image: (B, C, D, H, W) or (B, C, H, W).
        label: (B, D, H, W) or (B, H, W).
        steps: number of timed steps.
    """
    adam = JointAdam({"posterior": [guide, model], "encoders": [elbo.encoders]}, {"posterior": 1e-4, "encoders": 1e-4})
    svi = SVI(model, guide, adam, elbo)
    times = [_seconds(lambda: svi.step(image, label), image.device) for _ in range(steps + 2)]
    return statistics.median(times[2:])


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    start = perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
