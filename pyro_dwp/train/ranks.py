"""The processes that share a training, started by `torchrun --nproc-per-node R run/svi_target.py ...`; each is a rank, 0 to R−1.

A step takes R times the batch size. Rank r estimates the gradient on its m_r of the step's m scans, with weights w_r ~ q of its
own, and every rank follows the weighted mean

    Σ_r (m_r/m) ∇[−(N/m_r) Σ_{scans of r} log p(y | x, w_r) + KL_r]  =  ∇[−(N/m) Σ_scans log p(y | x, w_r) + Σ_r (m_r/m) KL_r]

whose expectation is that of one process with a batch of m: the KL divergence counts once. A rank that has no scan in the last
step of an epoch takes part with weight 0. As in Pyro's `HorovodOptimizer`, the mean is taken in the optimiser.

All ranks begin with the weights of rank 0 and change them alike. Rank 0 writes and prints; the others are silent, and their
random numbers follow from (seed, epoch, rank), so that a checkpoint resumes on any number of ranks.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import PositiveFloat
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from pyro_dwp.checks import checked
from pyro_dwp.errors import TrainingError

LOST = (
    "The processes of this run end together, because one has ended, was told to, or did not answer in time. What the run has "
    "kept is intact: run the same command with --resume (and without --overwrite); if one is slow, with a longer --rank_timeout."
)
T = TypeVar("T")


def launched() -> int:
    """Return how many processes torchrun has started for this run; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_to_fail() -> bool:
    """Tell whether no other process of this run has asked before, so that one failure is reported once."""
    if launched() == 1:
        return True
    try:
        store, *_ = next(rendezvous("env://", timeout=timedelta(seconds=10)))
        return store.add("failures", 1) == 1
    except RuntimeError:  # torchrun itself is gone
        return True


class Ranks:
    """The ranks of a run as one of them sees them; alone, as outside torchrun, every method is trivial and costs nothing.

    As a context manager it meets the other ranks, over gloo for tensors on a CPU and NCCL on CUDA, and parts from them.

    Args:
        rank_timeout: longest time that processes started by torchrun wait for each other, in seconds.

    Attributes:
        rank: number of this process, from 0.
        local: its number on this computer, which is also that of its GPU.
        count: number of ranks, R.
        weight: of this rank's gradient in the mean: its share of the step's items.

    Example:
        >>> with Ranks() as ranks:
        ...     ranks.count, ranks.is_first, ranks.share(torch.arange(3)), ranks.from_first(lambda: "alone")
        (1, True, tensor([0, 1, 2]), 'alone')
    """

    @checked
    def __init__(self, rank_timeout: PositiveFloat = 600.0) -> None:
        self.timeout = timedelta(seconds=rank_timeout)
        self.rank, self.local, self.count, self.weight = 0, 0, 1, 1.0
        self._silence = ExitStack()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def __enter__(self) -> "Ranks":
        if launched() > 1:
            self.local = int(os.environ["LOCAL_RANK"])
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            with _others():
                dist.init_process_group(backend, timeout=self.timeout)
            self.rank, self.count = dist.get_rank(), dist.get_world_size()
            self._alone = signal.signal(signal.SIGTERM, _lost)  # torchrun sends it when a rank has ended
            if not self.is_first:
                self._silence.enter_context(redirect_stdout(self._silence.enter_context(open(os.devnull, "w"))))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and launched() > 1:  # from now on nothing interrupts its report
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.leave()
        self._silence.close()

    def leave(self) -> bool:
        """Part from the other ranks, all at the same time; tell whether this is rank 0, which goes on alone."""
        if self.count > 1:
            dist.destroy_process_group()
            self.count, self.weight = 1, 1.0
            if signal.getsignal(signal.SIGTERM) == _lost:
                signal.signal(signal.SIGTERM, self._alone)
        return self.is_first

    def share(self, indices: Tensor) -> Tensor:
        """Return this rank's items of a step and set `weight`; without any it takes the first, with weight 0.

        Args:
            indices: items of the step, (m,).
        """
        if self.count == 1:
            return indices
        mine = indices[self.rank :: self.count]
        self.weight = len(mine) / len(indices)
        return mine if len(mine) else indices[:1]

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by the weighted mean over the ranks, in one exchange.

        A gradient that some ranks lack counts as 0 there; one that all lack stays missing.

        Args:
            parameters: the same on every rank, in the same order, on one device.
        """
        if self.count == 1:
            return
        trained = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else self.weight * p.grad for p in trained]
        present = parts[0].new_tensor([p.grad is not None for p in trained])
        summed = self._sum(torch.cat([present, *(part.flatten() for part in parts)]))
        present, *means = summed.split([len(trained), *(p.numel() for p in trained)])
        for parameter, mean, found in zip(trained, means, present.tolist(), strict=True):
            if found:
                parameter.grad = torch.empty_like(parameter).copy_(mean.view(parameter.shape))  # its memory layout

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return named numbers summed over the ranks, which must all have the same names."""
        if self.count == 1:
            return dict(values)
        summed = self._sum(torch.tensor(list(values.values()), dtype=torch.float64))
        return dict(zip(values, summed.tolist(), strict=True))

    def from_first(self, work: Callable[[], T]) -> T:
        """Return on every rank what this work returns on rank 0, where alone it is done once all ranks have come here.

        Args:
            work: returns what JSON can hold.
        """
        if self.count == 1:
            return work()
        self._sum(torch.zeros(1))
        text = json.dumps(work()).encode() if self.is_first else b""
        self.copy_first([length := torch.tensor(len(text))])
        self.copy_first([content := torch.tensor(list(text.ljust(int(length))), dtype=torch.uint8)])
        found: T = json.loads(bytes(content.tolist()))
        return found

    @torch.no_grad()
    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Fill tensors with their values on rank 0.

        Args:
            tensors: of the same shapes on every rank.
        """
        for tensor in tensors if self.count > 1 else ():
            with _others():
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def seed(self, seed: int, epoch: int) -> None:
        """Begin an epoch with random numbers of this rank's own; those of rank 0 go on, and are in the checkpoint.

        Args:
            seed: of the run.
            epoch: from 1.
        """
        if not self.is_first:
            words = np.random.SeedSequence([seed % 2**63, epoch, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(words[0]))

    def _sum(self, tensor: Tensor) -> Tensor:
        with _others():
            dist.all_reduce(tensor)
        return tensor


@contextmanager
def _others() -> Iterator[None]:
    """Say what has happened if the other ranks cannot be reached; gloo and NCCL raise RuntimeErrors of many kinds."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(LOST) from error


def _lost(*_: Any) -> NoReturn:
    raise TrainingError(LOST)
