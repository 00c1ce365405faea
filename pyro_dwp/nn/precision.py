"""Run a network in half precision; its weights, and whatever is computed from its output, stay in float32."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def run_in(precision: Precision, network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the network's output, computed in this precision.

    In bfloat16, torch's autocast runs convolutions on rounded copies of weights and activations; the output is float32 again.

    Args:
        precision: "float32" leaves the network's own dtype, whatever it is.
        network: takes images.
        image: (B, C, ...).
    """
    if precision == "float32":
        return network(image)
    with torch.autocast(image.device.type, torch.bfloat16):
        return network(image).float()
