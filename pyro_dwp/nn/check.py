"""A network tried on one image before anything is trained with it."""

import torch
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError, PyroDwpError


def check_network(network: nn.Module, image: Tensor) -> None:
    """Run a network on an image, so that one that does not fit is refused before a run begins.

    Args:
        network: its parameters stay as they are.
        image: (C, D, H, W), or (C, H, W) for a network on images alone.

    Raises:
        ConfigError: if the network cannot take the image, or has three dimensions and the image a single slice.
    """
    if getattr(network, "ndim", None) == 3 and image.shape[-1] == 1:
        raise ConfigError(
            f"A network with ndim 3 needs volumes, but the images have a single slice: {tuple(image.shape[1:])} voxels on its "
            "grid. Set network.ndim to 2 (--network.ndim 2), or preprocess.grid to several slices."
        )
    try:
        with torch.no_grad():
            network(image[None])
    except PyroDwpError:
        raise
    except Exception as error:  # whatever a network of the user's own raises
        said = str(error).partition("\n")[0]
        raise ConfigError(
            f"{type(network).__name__} cannot take an image of shape {tuple(image.shape)}: {said}. Change the network's "
            "arguments, or preprocess.grid."
        ) from error
