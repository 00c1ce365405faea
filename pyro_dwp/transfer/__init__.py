"""What a target network takes over from a source: weights, or draws from a prior over kernels; and meta-tuning."""

from pyro_dwp.transfer.freeze import check_source, freeze_layers, take_over
from pyro_dwp.transfer.meta_tune import MetaTask, MetaTuning
from pyro_dwp.transfer.start import StartKind, scale_parameters, start_function

__all__ = [
    "MetaTask",
    "MetaTuning",
    "StartKind",
    "check_source",
    "freeze_layers",
    "scale_parameters",
    "start_function",
    "take_over",
]
