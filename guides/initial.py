"""How wide a guide starts: relative to the weights that it starts from."""

from torch import Tensor

from pyro_dwp.errors import ConfigError


def initial_scale(guide: object, name: str, start: Tensor, relative_scale: float) -> Tensor:
    """Return the standard deviation that a site's weights start with: relative_scale · rms(start).

    Args:
        guide: named in an error.
        name: of the site.
        start: weights that the site starts from, any shape.
        relative_scale: fraction of their root mean square.

    Returns:
        Shape (), of the start's dtype.

    Raises:
        ConfigError: if relative_scale is not positive, or the start is all 0.

    Example:
        >>> import torch
        >>> initial_scale(None, "conv.weight", torch.tensor([3.0, -3.0]), 0.1)
        tensor(0.3000)
    """
    if relative_scale <= 0:
        raise ConfigError(f"{type(guide).__name__} needs a positive relative_scale, but received {relative_scale}.")
    if not start.any():
        raise ConfigError(
            f"{type(guide).__name__} scales site {name!r} by the size of its initial means, but they are all 0, as the biases "
            "of many networks are at first. Start from a draw of the prior (--start prior), or keep such sites point "
            "parameters by a first rule (--prior assigned; {name: '*.bias', prior: null})."
        )
    return relative_scale * start.square().mean().sqrt()
