"""Point training of a network on labelled cases: the source networks, and the baseline from a random start."""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from itertools import groupby
from math import ceil
from statistics import fmean

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.data import Augment, Batch, Patches, Prepared, draw_patch, stack
from pyro_dwp.likelihoods import dice_cross_entropy, loss_of_sums, loss_sums
from pyro_dwp.metrics import dice, mean_score
from pyro_dwp.nn import PLAIN, Computing
from pyro_dwp.nn.windows import Network, at_once, class_probabilities, fit_window
from pyro_dwp.train.optim import is_fused

WHOLE = Patches()
SLAB = 2**22  # voxels that are scored at a time


def minibatch(
    cases: Sequence[Prepared],
    indices: Tensor,
    augment: Augment | None,
    patches: Patches = WHOLE,
    device: torch.device | str = "cpu",
) -> Batch:
    """Return the cases of these indices as a batch, each of them cut to a random patch, which is then augmented.

    Args:
        cases: to learn from.
        indices: (B,), int64.
        augment: varies a case; None takes it as it is.
        patches: how they are drawn; without edges whole cases are taken.
        device: of the batch, where it is augmented.
    """
    cut = [draw_patch(cases[i], patches).to(device) for i in indices.tolist()]
    return stack([augment(patch) for patch in cut] if augment else cut).to(device)


class PointTask:
    """Adam on the paper's loss; a `Task` for `fit`.

    Args:
        network: from images (B, C, ...) to logits (B, classes, ...); trained in place.
        training: cases to learn from; may hold a case more than once (bootstrap).
        validation: cases whose loss may control the learning rate; may be empty.
        learning_rate: Adam's, per step; dimensionless.
        weight_decay: decoupled weight decay (AdamW), a fraction of the weight times the learning rate per step.
        augment: varies each training case anew in every step; None takes it as it is.
        computing: how the network computes.
        patches: the random patch of each training case that a step learns from; validation slides a window of its size.
        device: where the steps run.

    Raises:
        ConfigError: if a rate is negative or not finite.

    References:
        Kuzina, Egorov, Burnaev 2019, table 1. Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization.
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        learning_rate: NonNegativeFloat,
        weight_decay: NonNegativeFloat = 0.0,
        augment: Augment | None = None,
        computing: Computing = PLAIN,
        patches: Patches = WHOLE,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = computing.prepare(network.to(device))
        self.training, self.validation, self.augment, self.device = training, validation, augment, device
        self.size, self.computing, self.patches = len(training), computing, patches
        self.modules = {"network": self.network}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=learning_rate,
            weight_decay=weight_decay,
            fused=is_fused(self.network.parameters()),
        )

    def step(self, indices: Tensor) -> dict[str, Tensor]:
        """Take one step on these cases and return the loss, the mean over the scans."""
        batch = minibatch(self.training, indices, self.augment, self.patches, self.device)
        self.optimiser.zero_grad()
        logits = self.computing.run(self.network, batch.image)
        loss = dice_cross_entropy(logits, batch.label, weight=batch.weight, voxels=batch.voxels).mean()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    def validate(self) -> dict[str, float]:
        """Return the mean loss and Dice over the validation cases, on the network's grid."""
        network = partial(self.computing.run, self.network)
        return validation_scores([network], self.validation, self.device, self.patches.patch)


@torch.no_grad()
def validation_scores(
    networks: Sequence[Network],
    cases: Sequence[Prepared],
    device: torch.device | str = "cpu",
    window: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return the mean loss and foreground Dice of networks over cases, on their grid; {} without cases.

    Neighbours of one grid are predicted together, as far as that is faster.

    Args:
        networks: each from images (B, C, ...) to logits (B, classes, ...); their probabilities are averaged.
        cases: with labels.
        device: where the networks are.
        window: edges of a sliding window, voxels; None runs the networks on a whole case.
    """
    losses, scores = [], []
    for chosen in _passes(cases, device, window):
        probabilities = _averaged(networks, chosen, device, window)
        for case, probability in zip(chosen, probabilities, strict=True):
            assert case.label is not None  # only labelled cases are validated with
            loss, mask = _score(probability, case.label)
            losses.append(loss)
            scores.append(mean_score(dice(mask, case.label.cpu())))
    return {"loss": fmean(losses), "dice": fmean(scores)} if cases else {}


def _passes(
    cases: Sequence[Prepared], device: torch.device | str, window: Sequence[int] | None
) -> Iterator[list[Prepared]]:
    """Yield the cases in order, those of one grid together up to the size of a pass, and each that needs windows alone."""
    for grid, group in groupby(cases, lambda case: tuple(case.image.shape[1:])):
        whole = window is None or fit_window(window, grid) == grid
        same = list(group)
        passes = ceil(len(same) / (at_once(grid, device) if whole else 1))
        yield from (same[n * len(same) // passes : (n + 1) * len(same) // passes] for n in range(passes))


def _averaged(
    networks: Sequence[Network], cases: Sequence[Prepared], device: torch.device | str, window: Sequence[int] | None
) -> Tensor:
    """Return the mean of the networks' probabilities, (B, classes, ...), of cases that share a pass, or one."""
    if len(cases) == 1:
        image = cases[0].image if window else cases[0].image.to(device)  # windows are moved one by one
        each = (class_probabilities(network, image, window, device=device)[None] for network in networks)
    else:
        images = torch.stack([case.image for case in cases]).to(device)
        each = (network(images).softmax(1) for network in networks)
    return reduce(Tensor.add_, each).div_(len(networks))


def _score(probability: Tensor, label: Tensor) -> tuple[float, Tensor]:
    """Return the loss of probabilities (C, ...), and their classes, slab by slab."""
    rows = max(1, SLAB // label[0].numel())
    sums, masks = [], []
    for part, truth in zip(probability.split(rows, 1), label.split(rows), strict=True):
        logits = part.clamp_min(1e-12).log()[None].cpu()
        sums.append(loss_sums(logits, truth[None].long()))
        masks.append(logits[0].argmax(0).to(torch.uint8 if len(probability) <= 256 else torch.int64))
    overlap, size, cross_entropy = (torch.stack(column).sum(0) for column in zip(*sums, strict=True))
    return loss_of_sums(overlap, size, cross_entropy, label.numel()).item(), torch.cat(masks)
