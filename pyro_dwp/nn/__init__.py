"""Plain deterministic networks; nothing here imports Pyro."""

from pyro_dwp.nn.unet import UNet

__all__ = ["UNet"]
