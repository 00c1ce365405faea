"""The machine that a training runs on, and Pyro's global switches, which scripts and tests set here and imports leave alone."""

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import pyro
import torch
from annotated_types import Ge, Le

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import Computing, MemoryFormat, Precision, best_precision
from pyro_dwp.nn.computing import check_compiler
from pyro_dwp.train.ranks import Ranks

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes, or "max"


def configure_pyro(validation: bool = True) -> None:
    """Make parameters belong to their modules, and have every distribution check its arguments; empty Pyro's store.

    Module-local parameters matter for correctness: under Pyro's default, a second encoder registered under a name
    already in the global store silently receives the first one's values.

    Args:
        validation: whether distributions check arguments and values; costs about 0.3 ms per site and step.
    """
    pyro.settings.set(module_local_params=True)
    pyro.enable_validation(validation)
    pyro.clear_param_store()


def keep_freed_memory() -> None:
    """Let the C library keep the memory that one step frees for the next, up to 2 GB, as torch does on a GPU.

    By default glibc returns it, and the kernel then clears every page of it again: 17 % of a U-Net's step in float32, 8 % in
    bfloat16. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(MMAP_THRESHOLD, 2**30) or library.mallopt(MMAP_THRESHOLD, 2**25)  # older ones refuse more


@checked_dataclass
class Machine:
    """Where to compute.

    Args:
        device: where to compute, such as cpu, cuda or cuda:1; None takes a GPU where PyTorch finds one, and the CPU elsewhere.
            Each process of torchrun takes its own GPU.
        threads: CPU threads; None leaves torch's choice.
        precision: of the network's forward and backward passes; None takes bfloat16 on a GPU or CPU that multiplies it in
            hardware, and float32 elsewhere. Weights, losses and their sums are float32 either way.
        memory_format: order of voxels and channels in memory, contiguous (channels first) or channels_last.
        compile: whether torch compiles the network. Takes minutes at the start and needs a C++ compiler.

    Raises:
        ConfigError: if threads is below 1.

    Example:
        >>> Machine("cpu").use()
        device(type='cpu')
    """

    device: str | None = None
    threads: Annotated[int, Ge(1), Le(4096)] | None = None
    precision: Precision = None
    memory_format: MemoryFormat = "contiguous"
    compile: bool = False

    @property
    def computing(self) -> Computing:
        """How networks compute here."""
        return Computing(self.precision, self.memory_format, self.compile)

    @property
    def place(self) -> str:
        """The device that was asked for, or the one that is there."""
        if self.device is not None:
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def memory(self) -> int:
        """Bytes that there are in all: of the GPU, or of main memory, as far as this process may use it."""
        if torch.device(self.place).type == "cuda":
            return torch.cuda.mem_get_info(self.place)[1]
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
        limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else "max"
        return min(installed, int(limit)) if limit.isdigit() else installed

    def use(self, ranks: Ranks | None = None) -> torch.device:
        """Set the number of threads, check the device by moving a tensor there and back, and return it.

        Args:
            ranks: the process's place among several, which decides its GPU.

        Raises:
            ConfigError: if the device is unknown or absent, or the network is to be compiled and there is no compiler.
        """
        if self.compile:
            check_compiler()
        if self.threads:
            torch.set_num_threads(self.threads)
        keep_freed_memory()
        try:
            device = torch.device(self.place)
            if ranks and ranks.count > 1 and device.type == "cuda":
                device = torch.device("cuda", ranks.local)
                torch.cuda.set_device(device)
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"--device {self.place} cannot be used here ({reason}). Use --device cpu, or cuda where PyTorch finds a GPU."
            ) from error
        return device

    def peak_memory_mib(self) -> float | None:
        """Return the most memory that this process has held, in MiB: on the CUDA device, or in main memory.

        Returns:
            The peak, or None on Windows, which does not report it.
        """
        if torch.device(self.place).type == "cuda":
            return torch.cuda.max_memory_allocated(self.place) / 2**20
        try:
            import resource  # not on Windows
        except ImportError:
            return None
        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

    def cost(self) -> dict[str, Any]:
        """Return the most memory that this process has held, in MiB, and what the machine is, for metrics.json."""
        return {"peak_memory_mib": self.peak_memory_mib(), "machine": self.describe()}

    def describe(self) -> dict[str, str | int]:
        """Return the name of the processor or GPU, the number of threads, and the precision that networks compute in."""
        device = torch.device(self.place)
        cuda = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
        precision = self.precision or best_precision(device)
        return {"device": name, "threads": torch.get_num_threads(), "precision": precision}
