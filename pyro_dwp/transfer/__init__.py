"""What a target network takes over from a source: weights, or draws from a prior over kernels."""

from pyro_dwp.transfer.start import Start, StartWeights, load_network, save_network, scale_parameters, start_weights

__all__ = ["Start", "StartWeights", "load_network", "save_network", "scale_parameters", "start_weights"]
