"""Replace what layers compute while a model runs, by watching the torch functions that it calls.

A `TorchFunctionMode` sees every call. Where the weight of a convolution, transposed convolution or linear map *is* the very
tensor that the model received at a site, an estimator gives the layer's output instead:

    pyro.sample(name) → w ──functional_call──► F.conv3d(x, w, b, stride, …)   replaced by   run.output(layer, …)

Every such layer is linear in its input and linear in (weight, bias), so an estimator only calls it again with other values:
stride, padding, dilation and groups are respected because they are passed on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pyro_dwp.nn.layers import mix_channels

TRANSPOSED = {F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d, mix_channels} | TRANSPOSED
LAYERS = CONVOLUTIONS | {F.linear}


class Layer(NamedTuple):
    """A call of a convolution or a linear map, to be made with other values.

    Args:
        function: such as `F.conv3d`.
        x: its input, (B, I, ...) or, for a linear map, (B, ..., I).
        rest: its positional arguments after input, weight and bias: stride, padding and so on.
        named: its keyword arguments except input, weight and bias.
    """

    function: Any
    x: Tensor
    rest: Sequence[Any]
    named: Mapping[str, Any]

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's output for these values."""
        output: Tensor = self.function(x, weight, bias, *self.rest, **self.named)
        return output

    def channels(self, value: Tensor) -> tuple[int, ...]:
        """Return the shape (B, C, 1, ...), or (B, 1, ..., C) for a linear map, that scales a value's channels."""
        middle = (1,) * (value.dim() - 2)
        if self.function in CONVOLUTIONS:
            return (value.shape[0], value.shape[1], *middle)
        return (value.shape[0], *middle, value.shape[-1])


class Run(Protocol):
    """What an estimator keeps of one run of the model."""

    def note(self, name: str, value: Tensor) -> None:
        """Remember the tensor that the model received at a sample site."""

    def output(self, layer: Layer, weight: Any, bias: Any) -> Tensor | None:
        """Return a layer's output, given the weight and bias that the model gave it; None if the weight belongs to no site."""


class Sampled(Messenger):
    """Tells a run which tensors the model receives at its sample sites."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def _pyro_post_sample(self, message: Any) -> None:
        self.run.note(message["name"], message["value"])


class Layers(TorchFunctionMode):
    """Replaces the outputs of the layers whose weights a run knows."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or the estimator in its place."""
        named = dict(kwargs or {})
        if function in LAYERS:
            values: dict[str, Any] = named | dict(zip(("input", "weight", "bias"), args, strict=False))
            x, weight, bias = (values.pop(name, None) for name in ("input", "weight", "bias"))
            output = self.run.output(Layer(function, x, args[3:], values), weight, bias)
            if output is not None:
                return output
        return function(*args, **named)
