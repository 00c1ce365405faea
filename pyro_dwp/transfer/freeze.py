"""What a target network takes over from a source network before it learns, and which layers then keep those values."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.nn import load_network
from pyro_dwp.transfer.start import StartKind


def take_over(network: nn.Module, source: Path | None, start: StartKind, freeze: Sequence[str] = ()) -> None:
    """Fill a network from a source network, if there is one, and freeze layers of it.

    Args:
        network: filled and frozen in place.
        source: file of a source network.
        start: where the random weights start; "source" needs a source.
        freeze: patterns of the names of parameters that keep the source's values.

    Raises:
        ConfigError: if a source is needed and there is none, or given for a random start; if a pattern matches nothing.
        CheckpointError: if the source does not fit.
    """
    check_source(source, start, freeze)
    if source is not None:
        load_network(source, network)
    freeze_layers(network, freeze)


def check_source(source: Path | None, start: StartKind, freeze: Sequence[str] = ()) -> None:
    """Refuse a source network that is needed and missing, or given for a random start; see `take_over`.

    Raises:
        ConfigError: naming what needs it, or leaves it unused.
    """
    if source is not None and start == "random":
        raise ConfigError(
            f"--start random begins at untrained weights, but --source is {source}. Leave one of them out."
        )
    if source is None and (start == "source" or freeze):
        raise ConfigError(
            "--start source and --freeze need a network saved by run/train_source.py, but source is null. Name its file: "
            "--source FILE."
        )


def freeze_layers(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters whose names match a pattern, in place; sites and optimisers then leave them out.

    Args:
        network: usually filled from a source network.
        patterns: of names in the network's state_dict, in the shell's language, such as "down[2-6].*".

    Returns:
        Names of the frozen parameters.

    Raises:
        ConfigError: if a pattern matches no parameter, or nothing is left to train.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> freeze_layers(UNet(channels=(2, 4)), ["init_conv.*", "down?.conv_1.*"])
        ['init_conv.weight', 'down1.conv_1.weight', 'down2.conv_1.weight']
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ConfigError(f"freeze: no parameter matches {pattern!r}. {suggest(pattern, parameters)}")
    frozen = [name for name in parameters if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(frozen) == len(parameters):
        raise ConfigError(
            f"freeze: {list(patterns)} match every parameter, so that nothing is left to train. Name fewer."
        )
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen
