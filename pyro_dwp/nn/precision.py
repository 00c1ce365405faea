"""Run a network in half precision; its weights, and whatever is computed from its output, stay in float32."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"] | None
"""What a network computes in; None takes `best_precision` of the device."""


def best_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return bfloat16 for a CUDA device that has it in hardware, float32 for any other.

    Example:
        >>> best_precision(torch.device("cpu"))
        'float32'
    """
    if device.type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def run_in(precision: Precision, network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the network's output, computed in this precision.

    In bfloat16, torch's autocast runs convolutions on rounded copies of weights and activations; the output is float32 again.

    Args:
        precision: "float32" leaves the network's own dtype, whatever it is; None takes the best of the images' device.
        network: takes images.
        image: (B, C, ...).
    """
    if (precision or best_precision(image.device)) == "float32":
        return network(image)
    with torch.autocast(image.device.type, torch.bfloat16):
        return network(image).float()
