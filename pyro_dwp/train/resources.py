"""What a training took from the machine."""

import platform
import sys

import torch


def peak_memory_mib(device: torch.device | str) -> float | None:
    """Return the most memory this process has held, in MiB: on a CUDA device, or in main memory.

    Args:
        device: where the training ran.

    Returns:
        The peak, or None on a system that does not tell it (Windows).
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def machine(device: torch.device | str) -> dict[str, str | int]:
    """Return the processor's or the GPU's name and the number of threads."""
    cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    return {"device": name, "threads": torch.get_num_threads()}
