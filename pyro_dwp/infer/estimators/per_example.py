"""Estimators that draw noise for each example of a minibatch, by replacing what layers compute while the model runs.

A `TorchFunctionMode` sees every call of a function of torch. Where the weight of a convolution, transposed convolution or
linear map *is* the very tensor that the model received at a site, the estimator gives the layer's output instead:

    pyro.sample(name) → w ──functional_call──► F.conv3d(x, w, b, stride, …)   replaced by   estimator.output(layer, …)

Every such layer is linear in its input and linear in (weight, bias), so an estimator only calls it again with other values:
stride, padding, dilation and groups are respected because they are passed on. What else uses a sampled tensor, such as the
scale of a normalisation, keeps the draw that all examples share; that is unbiased, too, unless a layer uses the same tensor (as a
tied weight that is transposed elsewhere).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyro.distributions import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.divergence import unwrap
from pyro_dwp.infer.estimators.base import Estimator, Program, SiteGuide
from pyro_dwp.sites import WeightSite

CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
LAYERS = CONVOLUTIONS | {F.linear}


class Layer(NamedTuple):
    """A call of a convolution or a linear map, to be made with other values.

    Args:
        function: such as `F.conv3d`.
        x: its input, (B, I, ...) or, for a linear map, (B, ..., I).
        rest: its positional arguments after input, weight and bias: stride, padding and so on.
        named: its keyword arguments but input, weight and bias.
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


@dataclass
class Draw:
    """The weights of a site in one run of the model.

    Args:
        value: the guide's draw, of the site's shape.
        q: its distribution under the guide, without `Independent`; batch shape and event shape together are the site's,
            but for a distribution over kernels laid out flat.
        memory: what the estimator keeps for the site's other uses in this run.
    """

    value: Tensor
    q: TorchDistribution
    memory: dict[str, Tensor] = field(default_factory=dict)


class PerExample(Estimator):
    """An estimator that gives every example of the minibatch its own noise."""

    needs: str
    cure: str

    @abstractmethod
    def admits(self, site: WeightSite, q: TorchDistribution) -> bool:
        """Tell whether the estimator is right for a site whose distribution, without `Independent`, is q."""

    @abstractmethod
    def output(self, layer: Layer, weight: Draw, bias: Draw | Tensor | None) -> Tensor:
        """Return the layer's output with noise of its own for each example.

        Args:
            layer: the layer.
            weight: its weight.
            bias: its bias: random, a point parameter, or none.
        """

    def __call__(self, model: Program, guide: Any) -> Program:
        """Return the program that runs the model with its layers replaced; it needs the weights to come from this guide.

        The first tensor among its arguments has one entry for each example along its first axis.

        Raises:
            ConfigError: if the guide does not allow this estimator. The program raises it, too, where a layer's input does not
                begin with the examples, or no layer uses a site.
        """
        if not hasattr(guide, "sites") or not hasattr(guide, "distribution"):
            raise ConfigError(
                f"{type(self).__name__} reads a guide's distribution of each site, but {type(guide).__name__} has no `sites` "
                f"and `distribution(name)`. Use the shared sample, or {self.cure}"
            )
        for site in guide.sites.values():
            self.distribution(guide, site)

        def program(*args: Any, **kwargs: Any) -> Any:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if not tensors:
                raise ConfigError(f"{type(self).__name__} needs a program that is called with a minibatch of images.")
            run = Run(self, guide, len(tensors[0]))
            with Sampled(run), Layers(run):
                result = model(*args, **kwargs)
            run.check()
            return result

        return program

    def distribution(self, guide: SiteGuide, site: WeightSite) -> TorchDistribution:
        """Return q of a site without `Independent`.

        Raises:
            ConfigError: if the estimator would be wrong for it.
        """
        q = guide.distribution(site.name)
        base = unwrap(q)
        if tuple(q.event_shape) != tuple(site.shape) or not self.admits(site, base):
            raise ConfigError(
                f"{type(self).__name__} needs {self.needs}, but {type(guide).__name__} has a {type(base).__name__} of batch "
                f"shape {tuple(base.batch_shape)} and event shape {tuple(base.event_shape)} at site {site.name!r}. Use the "
                f"shared sample, or {self.cure}"
            )
        return base


class Run:
    """One run of the model: which tensor is which site's draw.

    Args:
        estimator: replaces outputs.
        guide: whose draws the model receives.
        examples: B.
    """

    def __init__(self, estimator: PerExample, guide: SiteGuide, examples: int) -> None:
        self.estimator, self.guide, self.examples = estimator, guide, examples
        self.values: dict[int, tuple[str, Tensor]] = {}  # by identity; the tensors are kept, so that no id is reused
        self.draws: dict[str, Draw] = {}
        self.used: set[str] = set()

    def note(self, name: str, value: Tensor) -> None:
        """Remember the tensor that the model received at a site."""
        self.values[id(value)] = (name, value)

    def find(self, value: object) -> Draw | None:
        """Return the site's draw that a tensor is, or None."""
        if id(value) not in self.values:
            return None
        name, tensor = self.values[id(value)]
        if name not in self.draws:
            self.draws[name] = Draw(tensor, self.estimator.distribution(self.guide, self.guide.sites[name]))
        self.used.add(name)
        return self.draws[name]

    def check_input(self, layer: Layer, weight: Tensor) -> None:
        """Raise ConfigError unless the layer's input begins with the examples."""
        axes = weight.dim() if layer.function in CONVOLUTIONS else max(2, layer.x.dim())
        if layer.x.dim() != axes or layer.x.shape[0] != self.examples:
            raise ConfigError(
                f"{type(self.estimator).__name__} draws noise for each of the {self.examples} examples of a minibatch, so the "
                f"input of every layer must have them as its first axis, but that of site {self.values[id(weight)][0]!r} has "
                f"shape {tuple(layer.x.shape)}. Use the shared sample, or a network that keeps the examples apart."
            )

    def check(self) -> None:
        """Raise ConfigError if a site of kernels reached no layer."""
        unused = [name for name, site in self.guide.sites.items() if len(site.shape) > 1 and name not in self.used]
        if unused:
            raise ConfigError(
                f"{type(self.estimator).__name__} replaces convolutions, transposed convolutions and linear layers, but the "
                f"weight of site {unused[0]!r} reached none as the tensor that was sampled. Use the shared sample, or a "
                "prior that does not expose this parameter."
            )


class Sampled(Messenger):
    """Tells a run which tensors the model receives at the guide's sites."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def _pyro_post_sample(self, message: Any) -> None:
        if message["name"] in self.run.guide.sites:
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
            x, given, bias = (values.pop(name, None) for name in ("input", "weight", "bias"))
            weight = self.run.find(given)
            if weight is not None:
                layer = Layer(function, x, args[3:], values)
                self.run.check_input(layer, given)
                return self.run.estimator.output(layer, weight, self.run.find(bias) or bias)
        return function(*args, **named)
