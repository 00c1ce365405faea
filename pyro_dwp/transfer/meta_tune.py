"""Meta-tuning of a source network on a few target scans, and the plain fine-tuning that it is compared with.

For each meta-batch, T_b its bad and T_g its good tasks, with α the inner and β the outer rate:

    for T_i in T_g ∪ T_b:   draw D from T_i;   θ'_i = θ − α ∇_θ L_i(θ; D);   draw D' from T_i
    θ ← θ − β ∇_θ Σ_i L_i(θ'_i; D')

Three orders: *naive* fine-tunes by plain gradients on class-balanced points, in random order; *passive* meta-tunes in random
order; *active* meta-tunes with the worst tasks first, by the source network's Dice, and has good and bad tasks in each
meta-batch, so that what the source network can do is not forgotten. No source data is needed.

The paper gives this algorithm, and the balanced points. It leaves the following open; the choices are ours:

- A task is a slab of a scan, and a meta-batch one patient, for a network of slices; for one of volumes a task is a scan, and a
  meta-batch several (`meta_batches`).
- The inner and the outer loop do not divide the data once; D and D' are drawn anew each time (`meta_batches.draw_twice`).
- Good tasks are those with at least the median Dice, among the tasks that a meta-batch is drawn from.
- L is the loss of all other trainings, `dice_cross_entropy`; for naive, cross-entropy at as many points of each class.
- The outer step is Adam's, with β as its rate; the inner one is plain gradient descent, of one step.
- ∇_θ takes the derivative of the inner step into account (second order), or not (`first_order`).

References:
    Han et al. 2018, Learning to Learn Unlearned Feature for Brain Tumor Segmentation, algorithm 1. Finn, Abbeel, Levine 2017,
    Model-Agnostic Meta-Learning.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call
from torch.nn import functional as F

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.data import Prepared, stack
from pyro_dwp.likelihoods import dice_cross_entropy
from pyro_dwp.nn import PLAIN, Computing
from pyro_dwp.sites import FunctionalNetwork
from pyro_dwp.train.point import validation_scores
from pyro_dwp.transfer.meta_batches import active_batches, cut, draw_twice, passive_batch, pools

Theta = Mapping[str, Tensor]
Loss = Callable[[Theta], Tensor]


def adapt(loss: Loss, theta: Theta, rate: float, steps: int = 1, first_order: bool = False) -> dict[str, Tensor]:
    """Return θ' after gradient steps on a task: θ ← θ − α ∇L(θ), `steps` times.

    Args:
        loss: L, a scalar function of named parameters, differentiable twice unless `first_order`.
        theta: θ, name → value that requires a gradient.
        rate: α.
        steps: number of steps.
        first_order: whether derivatives of θ' with respect to θ take ∇L as a constant.

    Example:
        >>> theta = {"x": torch.tensor(1.0, requires_grad=True)}
        >>> adapt(lambda theta: theta["x"] ** 2, theta, rate=0.25, steps=2)["x"].item()
        0.25
    """
    adapted = dict(theta)
    for _ in range(steps):
        at = {name: value.detach().requires_grad_() for name, value in adapted.items()} if first_order else adapted
        slopes = grad(loss(at), [*at.values()], create_graph=not first_order, materialize_grads=True)
        adapted = {name: value - rate * slope for (name, value), slope in zip(adapted.items(), slopes, strict=True)}
    return adapted


def meta_loss(inner: Loss, outer: Loss, rate: float, steps: int = 1, first_order: bool = False) -> Loss:
    """Return θ → L(θ'; D'), the loss of a task on D' after it was adapted to on D; arguments as for `adapt`."""
    return lambda theta: outer(adapt(inner, theta, rate, steps, first_order))


def balanced_cross_entropy(logits: Tensor, label: Tensor, points: int) -> Tensor:
    """Return the mean cross-entropy, in nats, at points drawn with replacement: as many of each class that occurs.

    Args:
        logits: (B, C, D, H, W) or (B, C, H, W).
        label: classes as integers, (B, D, H, W) or (B, H, W).
        points: voxels of each class.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0, 50.0], [0.0, 0.0, 0.0]]])
        >>> round(balanced_cross_entropy(logits, torch.tensor([[0, 0, 1]]), points=5).item(), 2)  # (log 2 + 50) / 2
        25.35
    """
    truth = label.flatten()
    places = [(truth == value).nonzero()[:, 0] for value in truth.unique()]
    drawn = torch.cat([place[torch.randint(len(place), (points,)).to(place.device)] for place in places])
    return F.cross_entropy(logits.movedim(1, -1).flatten(0, -2)[drawn], truth[drawn])


@checked_dataclass
class MetaTuning:
    """How a source network is tuned to a few scans.

    Args:
        order: naive (plain fine-tuning), passive (meta-tuning in random order) or active (meta-tuning, worst tasks first).
        inner_rate: α, rate of the inner step; dimensionless.
        inner_steps: gradient steps of the inner loop.
        first_order: whether the derivative of the inner step is left out of the meta-gradient, which is then cheaper.
        tasks_per_scan: slabs that meta-tuning cuts a scan into; 1 makes each scan a task.
        points: voxels of each class that naive fine-tuning draws from a batch.
    """

    order: Literal["naive", "passive", "active"] = "active"
    inner_rate: PositiveFloat = 0.01
    inner_steps: Annotated[int, Ge(1), Le(100)] = 1
    first_order: bool = False
    tasks_per_scan: PositiveInt = 1
    points: Annotated[int, Ge(1), Le(10**7)] = 1000


class MetaTask:
    """Meta-tuning, or naive fine-tuning, of a source network; a `Task` for `fit` whose items are the tasks.

    The last meta-batch of an epoch may be smaller, except in active order, which goes round on its own.

    Args:
        network: a source network, from images (B, C, ...) to logits (B, classes, ...), which is copied. One whose `ndim` is 2
            segments each slice on its own.
        training: cases to learn from.
        validation: cases whose loss may control the learning rate; may be empty.
        tuning: order, inner loop and tasks.
        learning_rate: β, rate of the outer step; dimensionless.
        batch_size: tasks of a meta-batch.
        augment: varies each case anew when it is drawn; None takes it as it is.
        computing: how the network computes.
        device: where the steps run.

    Attributes:
        network: the copy that is tuned.
        source_dice: of the source network on each task, before tuning, by name.

    Raises:
        ConfigError: if a number is out of range, or active order has too few tasks to have a good and a bad one.
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        tuning: MetaTuning,
        learning_rate: NonNegativeFloat,
        batch_size: PositiveInt,
        augment: Callable[[Prepared], Prepared] | None = None,
        computing: Computing = PLAIN,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = FunctionalNetwork(network, {}, computing).to(device)
        self.by_slices = getattr(network, "ndim", 3) == 2
        self.validation, self.tuning, self.batch_size = validation, tuning, batch_size
        self.augment, self.device = augment, device
        scans = [cut(case, 1 if tuning.order == "naive" else tuning.tasks_per_scan) for case in training]
        self.tasks = [task for scan in scans for task in scan]
        self.pools, self.size = pools(scans), len(self.tasks)
        scores = [validation_scores([self.draw()], [task], device)["dice"] for task in self.tasks]
        self.source_dice = {task.name: score for task, score in zip(self.tasks, scores, strict=True)}
        self.round = active_batches(self.pools, scores, batch_size) if tuning.order == "active" else []
        self.turn, progress = torch.zeros((), dtype=torch.int64), nn.Module()
        progress.register_buffer("turn", self.turn)  # so that a resumed training goes on where it was in the round
        self.theta = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        self.modules = {"network": self.network, "progress": progress}
        self.optimiser = torch.optim.Adam(self.theta.values(), lr=learning_rate)

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one outer step on a meta-batch and return the loss, the mean over its tasks after adaptation."""
        self.optimiser.zero_grad()
        values = []
        for loss in self._losses(self.meta_batch(indices)):
            value = loss(self.theta)
            value.backward()  # task by task, so that one graph at a time is in memory; the gradients add up
            values.append(value.item())
        self.optimiser.step()
        self.turn += 1
        return {"loss": sum(values) / len(values)}

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return the network: images (B, C, ...) → logits (B, classes, ...)."""
        return partial(self.network, {})

    def validate(self) -> dict[str, float]:
        """Return the mean loss and Dice over the validation cases, on the network's grid, without adaptation; {} if none."""
        return validation_scores([self.draw()], self.validation, self.device)

    def meta_batch(self, indices: Tensor) -> list[int]:
        """Return the numbers of the next meta-batch's tasks.

        Args:
            indices: tasks in the random order of `fit`, which an active order ignores.
        """
        if self.tuning.order == "active":
            return self.round[int(self.turn) % len(self.round)]
        return indices.tolist() if self.tuning.order == "naive" else passive_batch(self.pools, indices)

    def _losses(self, numbers: Sequence[int]) -> Iterator[Loss]:
        """Yield the loss of each task as a function of θ; of naive fine-tuning, that of the whole batch."""
        how, tasks = self.tuning, [self.tasks[number] for number in numbers]
        if how.order == "naive":
            varied = [self.augment(task) for task in tasks] if self.augment else tasks
            yield self._on(varied, lambda logits, label: balanced_cross_entropy(logits, label, how.points))
            return
        for task in tasks:
            pair = draw_twice(task, self.by_slices, self.augment)
            inner, outer = (self._on([drawn], lambda *it: dice_cross_entropy(*it).mean()) for drawn in pair)
            yield meta_loss(inner, outer, how.inner_rate, how.inner_steps, how.first_order)

    def _on(self, cases: Sequence[Prepared], loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
        """Return the loss of the network on a batch of cases as a function of its parameters."""
        batch = stack(cases)
        image, label = batch.image.to(self.device), batch.label.to(self.device)
        return lambda theta: loss(functional_call(self.network, dict(theta), ({}, image)), label)
