"""What a target network takes over from a source: weights, or draws from a prior over kernels."""

from pyro_dwp.transfer.networks import load_network, save_network
from pyro_dwp.transfer.start import StartKind, scale_parameters, start_function

__all__ = ["StartKind", "load_network", "save_network", "scale_parameters", "start_function"]
