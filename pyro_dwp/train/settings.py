"""Pyro's global switches, set in one place that scripts and tests call, never by an import."""

import pyro
import torch

from pyro_dwp.errors import ConfigError


def configure_pyro(validation: bool = True) -> None:
    """Make parameters belong to their modules, and have every distribution check its arguments.

    Module-local parameters matter for correctness: under Pyro's default, a second encoder registered under a name
    already in the global store silently receives the first one's values. The store is emptied.

    Args:
        validation: whether distributions check arguments and values; costs about 0.3 ms per site and step.
    """
    pyro.settings.set(module_local_params=True)
    pyro.enable_validation(validation)
    pyro.clear_param_store()


def use_machine(device: str, threads: int | None = None) -> torch.device:
    """Check a device by putting a tensor there and fetching it, and set the number of CPU threads.

    Args:
        device: such as cpu, cuda or cuda:1.
        threads: of the CPU; None leaves torch's choice.

    Raises:
        ConfigError: if the device is unknown or not there, or threads is below 1.

    Example:
        >>> use_machine("cpu")
        device(type='cpu')
    """
    if threads is not None and threads < 1:
        raise ConfigError(
            f"--threads is a number of CPU threads, 1 or more, but is {threads}. Leave it out for torch's choice."
        )
    if threads:
        torch.set_num_threads(threads)
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device {device} cannot be used here ({reason}). Use --device cpu, or install its driver."
        ) from error
    return chosen
