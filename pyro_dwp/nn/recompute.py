"""Activation checkpointing: what is cheap to compute again is not kept for the backward pass.

Of y = activate(x), followed by a convolution, the backward pass needs x for the normalisation, and y for the convolution and the
rectifier. It can do with x alone: the convolution, whose gradient comes first, has y computed again, and the rectifier, the last
to need y, lets it go. Convolutions run once, so that it does not matter where their weights come from, nor what replaces them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode


class Recomputing(TorchFunctionMode):
    """While it is active, the backward pass keeps the inputs of some functions in place of their output, and calls them again.

    Derivatives of any order are those without it. `torch.func.grad` does not support it.

    Args:
        functions: of tensors, to a new tensor that follows from them alone; `wrap_torch_function` makes a function visible here.
            Neither the inputs nor the output may be changed in place after the call.

    References:
        Chen, Xu, Zhang, Guestrin 2016, Training Deep Nets with Sublinear Memory Cost.

    Example:
        >>> from pyro_dwp.nn.layers import activate
        >>> x = torch.randn(1, 2, 8, requires_grad=True)
        >>> with Recomputing(activate):
        ...     loss = activate(x).square().sum()
        >>> loss.backward()
    """

    def __init__(self, *functions: Callable[..., Tensor]) -> None:
        super().__init__()
        self.functions = functions
        self.outputs: dict[int, tuple[ReferenceType[Tensor], Recipe]] = {}  # by address, which another may have later
        self.packed: list[Kept] = []  # since the last call of a function
        self.hooks = saved_tensors_hooks(self.pack, Kept.tensor)

    def __enter__(self) -> "Recomputing":
        """Begin."""
        self.hooks.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: from here on, only the graph keeps tensors."""
        super().__exit__(kind, error, trace)
        self.hooks.__exit__(kind, error, trace)
        self.outputs, self.packed = {}, []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call any function; of those to recompute, note how."""
        if function not in self.functions or not torch.is_grad_enabled():
            return function(*args, **(kwargs or {}))
        self.packed = []
        output: Tensor = function(*args)
        own = [k for k in self.packed if isinstance(k.source, Tensor) and address(k.source) == address(output)]
        recipe = Recipe(function, [self.keep(x.detach()) for x in args], autocast(output.device.type), caches=bool(own))
        for kept in own:
            kept.source, kept.last = recipe, True
        self.outputs[address(output)] = ref(output), recipe
        return output

    def pack(self, tensor: Tensor) -> "Kept":
        """Return what the graph keeps of a tensor that the backward pass needs."""
        self.packed.append(kept := self.keep(tensor))
        return kept

    def keep(self, tensor: Tensor) -> "Kept":
        """Return the tensor or, if its memory is that of a living output, how to compute it again."""
        noted = self.outputs.get(address(tensor))
        source = noted[1] if noted and noted[0]() is not None else tensor
        return Kept(source, (tensor.shape, tensor.stride(), tensor.storage_offset()))


@dataclass
class Recipe:
    """How to compute the output of a function again.

    Args:
        function: to call.
        inputs: that it had.
        autocast: as it was then.
        caches: whether the function's own backward pass needs the output; it comes last, and until then the output is kept.
        output: computed, and kept.
    """

    function: Callable[..., Tensor]
    inputs: list["Kept"]
    autocast: torch.autocast
    caches: bool
    output: Tensor | None = None

    def tensor(self, last: bool) -> Tensor:
        """Return the output.

        Args:
            last: nothing needs it later.
        """
        output = self.output
        if output is None:
            with torch.no_grad(), self.autocast:
                output = self.function(*[kept.tensor() for kept in self.inputs])
        self.output = output if self.caches and not last else None
        return output


@dataclass
class Kept:
    """What is kept of a tensor.

    Args:
        source: the tensor, or how to compute it, or what it is a view of.
        view: shape, strides and offset.
        last: whether nothing needs it later.
    """

    source: Tensor | Recipe
    view: tuple[torch.Size, tuple[int, ...], int | torch.SymInt]
    last: bool = False

    def tensor(self) -> Tensor:
        """Return the tensor."""
        return self.source if isinstance(self.source, Tensor) else self.source.tensor(self.last).as_strided(*self.view)


def autocast(device: str) -> torch.autocast:
    """Return the autocast of a device as it is now, to compute in later."""
    return torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))


def address(tensor: Tensor) -> int:
    """Return where a tensor's memory begins."""
    return tensor.untyped_storage().data_ptr()
