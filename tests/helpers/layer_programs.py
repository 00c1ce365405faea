"""Layers as Pyro programs with a mean-field guide, and what is known of their outputs in closed form."""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from guides import Guide, MeanField
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.infer.estimators import Estimator
from pyro_dwp.nn.layers import Mix2d, Mix3d
from pyro_dwp.sites import FunctionalNetwork, weight_sites
from tests.helpers.guides import started

# Every function of a layer, with stride, padding, dilation, groups and bias: (layer, edges of the input).
LAYERS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (7,)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (5, 4)),
    "conv2d, no bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (5, 4)),
    "conv2d, stride, groups": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (5, 6)),
    "conv2d, dilation": (lambda: nn.Conv2d(4, 6, 3, dilation=(2, 1), padding="same"), (5, 4)),
    "conv2d, circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (5, 4)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3, padding=1), (3, 4, 3)),
    "conv3d, stride, groups": (lambda: nn.Conv3d(4, 6, 2, stride=2, groups=2), (4, 4, 2)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, 3), (3, 4)),
    "transposed 2d, stride, groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
        (3, 4),
    ),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 6, 2, stride=2), (2, 3, 2)),
    "1-voxel kernels 2d": (lambda: Mix2d(4, 6, 1, bias=False), (5, 4)),
    "1-voxel kernels 3d, stride": (lambda: Mix3d(4, 6, 1, stride=2, bias=False), (4, 3, 2)),
    "linear": (lambda: nn.Linear(4, 6), ()),
    "linear on positions": (lambda: nn.Linear(4, 6), (3,)),
}


class Program(PyroModule):
    """Weights from a wide Gaussian, the network's output; noise of scale 1 on its labels."""

    def __init__(self, network: nn.Module, expose: object = lambda site: True) -> None:
        super().__init__()
        self.sites = weight_sites(network, expose=expose)
        self.network = FunctionalNetwork(network, self.sites)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        weights = {
            name: pyro.sample(name, dist.Normal(0.0, 3.0).expand(s.shape).to_event()) for name, s in self.sites.items()
        }
        output = self.network(weights, x)
        with pyro.plate("examples", len(x), dim=-1):
            pyro.sample("y", dist.Normal(output.flatten(1), 1.0).to_event(1), obs=y)
        return output


def programs(network: nn.Module, scale: float = 0.3, **settings: object) -> tuple[Program, MeanField]:
    model = Program(network, **settings)
    start = {name: network.get_parameter(name).detach() for name in model.sites}
    guide = started(MeanField(model.sites, scale), start)
    with torch.no_grad():  # scales that differ from weight to weight
        for name, site in model.sites.items():
            guide.parameter("log_scale", name).add_(torch.randn(site.shape).mul(0.3))
    return model, guide


def layer_and_input(kind: str, examples: int = 3) -> tuple[nn.Module, Tensor]:
    build, grid = LAYERS[kind]
    shape = (*grid, 4) if "linear" in kind else (4, *grid)
    return build(), torch.randn(examples, *shape)


def output(program: object, guide: Guide, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a program's output under a draw of the guide, and the draw."""
    trace = pyro.poutine.trace(guide).get_trace()
    drawn = {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    return pyro.poutine.replay(program, trace=trace)(x), drawn


def exact_moments(layer: nn.Module, guide: MeanField, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (P,) and covariance (P, P) of a layer's outputs for one example: the layer is linear in its weights."""
    names = list(guide.sites)
    means = tuple(guide.parameter("mean", name).detach() for name in names)

    def outputs(*values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        return torch.func.functional_call(nn.Sequential(layer), weights, (x,)).flatten()

    jacobians = torch.autograd.functional.jacobian(outputs, means)
    covariance = sum(
        j.flatten(1) @ torch.diag(guide.parameter("log_scale", name).detach().mul(2).exp().flatten()) @ j.flatten(1).T
        for name, j in zip(names, jacobians, strict=True)
    )
    return outputs(*means), covariance


def gradients(estimator: Estimator, model: Program, guide: MeanField, data: tuple, times: int) -> Tensor:
    """Return gradients of the data term, (times, number of parameters)."""
    program, parameters, elbo = estimator(model, guide), list(guide.parameters()), AuxiliaryELBO(kl_weight=0.0)
    found = []
    with pyro.validation_enabled(False):
        for _ in range(times):
            loss = elbo.differentiable_loss(program, guide, *data)
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(found)
