"""How a network computes: in which precision, on which memory format, compiled or not. What it computes stays the same.

Weights are sampled, and likelihoods and divergences summed, outside, in float32.
"""

import os
import shutil
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError

Precision = Literal["float32", "bfloat16"] | None
"""What a network computes in; None takes `best_precision` of the device."""

MemoryFormat = Literal["contiguous", "channels_last"]
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a batch of images
OVERRIDE = "PYRO_DWP_PRECISION"  # environment variable that decides in place of the hardware
COMPILERS = ("g++", "clang++", "c++", "cl")


@checked_dataclass
class Computing:
    """How a network computes.

    Args:
        precision: of its forward and backward passes. "float32" leaves the network's own dtype, whatever it is; "bfloat16" runs
            it under torch's autocast, on rounded copies of weights and activations; None takes the best of the images' device.
        memory_format: order of voxels and channels in memory. Channels last suit the convolutions, and on a CPU the rest less.
        compile: whether torch compiles the network, which takes minutes for a U-Net in three dimensions and needs a C++ compiler.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> network = UNet(channels=(2, 4), ndim=2)
        >>> Computing("bfloat16").run(network, torch.zeros(1, 1, 8, 8)).dtype
        torch.float32
    """

    precision: Precision = None
    memory_format: MemoryFormat = "contiguous"
    compile: bool = False

    def prepare(self, network: nn.Module) -> nn.Module:
        """Return the network, with its forward pass compiled in place where it is to be.

        Raises:
            ConfigError: if it is, and there is no compiler.
        """
        if self.compile:
            check_compiler()
            network.compile()
        return network

    def run(self, network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Return the network's output for images (B, C, ...); float32 after bfloat16."""
        if self.memory_format == "channels_last":
            image = image.to(memory_format=CHANNELS_LAST[image.ndim])
        if (self.precision or best_precision(image.device)) == "float32":
            return network(image)
        with torch.autocast(image.device.type, torch.bfloat16):
            return network(image).float()


PLAIN = Computing("float32")
"""In the network's own dtype, and nothing else."""


def best_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return bfloat16 where the device multiplies it in hardware, float32 elsewhere.

    The environment variable PYRO_DWP_PRECISION, where it is set to one of the two, decides instead.
    """
    if os.environ.get(OVERRIDE) in ("float32", "bfloat16"):
        return "float32" if os.environ[OVERRIDE] == "float32" else "bfloat16"
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and cpu_multiplies_bfloat16() else "float32"


def cpu_multiplies_bfloat16() -> bool:
    """Tell whether the CPU has AMX or AVX512 instructions for bfloat16; False where torch is too old to say."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def check_compiler() -> None:
    """Refuse to compile where there is no C++ compiler.

    Raises:
        ConfigError: if none of the usual names, nor what CXX names, is a command.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "", *COMPILERS)):
        raise ConfigError(
            "compile: true needs a C++ compiler, but there is no g++ or clang++ on the PATH. Install one (apt install g++), or "
            "leave compile out."
        )
