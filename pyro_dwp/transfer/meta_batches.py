"""Tasks of meta-tuning, the order they come in, and what is drawn from them.

A *task* is a scan, or a slab of it: `cut` divides a scan across its last axis, foot to head. Tasks of one scan are a *pool*, from
which a meta-batch is taken, as in the paper, where a meta-batch is one patient. Where a scan is a single task, all scans are
one pool, since a meta-batch of one task could not hold a good and a bad one.

Axis letters: C channel, d h w voxels of the network's grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError


def cut(case: Prepared, parts: int) -> list[Prepared]:
    """Cut a case into slabs of neighbouring slices, whose thickness differs by one slice at most.

    Args:
        case: with a label, on the network's grid.
        parts: number of slabs; a case with fewer slices has as many slabs as slices. 1 returns the case itself.
    """
    if parts == 1:
        return [case]
    depth = case.image.shape[-1]
    slabs = torch.arange(depth).tensor_split(min(parts, depth))
    return [replace(_slices(case, slab), name=f"{case.name}/{i}") for i, slab in enumerate(slabs)]


def pools(scans: Sequence[Sequence[Prepared]]) -> list[list[int]]:
    """Return the pools of the tasks, which are numbered scan after scan.

    Args:
        scans: tasks of each scan.

    Example:
        >>> pools([["a/0", "a/1"], ["b/0", "b/1"]]), pools([["a"], ["b"], ["c"]])
        ([[0, 1], [2, 3]], [[0, 1, 2]])
    """
    numbers = iter(range(sum(map(len, scans))))
    each = [[next(numbers) for _ in tasks] for tasks in scans]
    return each if max(map(len, each)) > 1 else [[task for tasks in each for task in tasks]]


def bad_and_good(pool: Sequence[int], dice: Sequence[float]) -> tuple[list[int], list[int]]:
    """Split a pool at its median Dice into T_b and T_g, each with the worst task first.

    A pool with an odd number of tasks has one more good task than bad ones.

    Args:
        pool: numbers of tasks.
        dice: of the source network, for each task.

    Example:
        >>> bad_and_good([0, 1, 2, 3, 4], [0.9, 0.2, 0.6, 0.8, 0.1])
        ([4, 1], [2, 3, 0])
    """
    ordered = sorted(pool, key=lambda task: dice[task])
    return ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]


def active_batches(pools: Sequence[Sequence[int]], dice: Sequence[float], size: int) -> list[list[int]]:
    """Return one round of meta-batches of active meta-tuning: the worst pool first, and in it the worst tasks first.

    Half of each meta-batch is bad and half is good; of an odd number the larger part is good. A pool yields as many meta-batches
    as it takes to see each of its tasks, so that tasks of the smaller half may come again.

    Args:
        pools: numbers of the tasks of each pool.
        dice: of the source network, for each task.
        size: tasks of a meta-batch.

    Raises:
        ConfigError: if a meta-batch or a pool is too small to hold a good and a bad task.

    Example:
        >>> active_batches([[0, 1, 2, 3, 4]], [0.9, 0.2, 0.6, 0.8, 0.1], size=2)
        [[4, 2], [1, 3], [4, 0]]
    """
    if size < 2 or min(map(len, pools)) < 2:
        raise ConfigError(
            f"Active meta-tuning keeps a good and a bad task in each meta-batch, but schedule.batch_size is {size} and the "
            f"smallest number of tasks to choose from is {min(map(len, pools))}. Both must be at least 2: raise the former, "
            "train on more scans, or set --order passive."
        )
    batches = []
    for pool in sorted(pools, key=lambda pool: fmean(dice[task] for task in pool)):
        parts = list(zip(bad_and_good(pool, dice), (size // 2, size - size // 2), strict=True))
        for turn in range(max(math.ceil(len(part) / share) for part, share in parts)):
            batches.append([task for part, share in parts for task in _turn(part, share, turn)])
    return batches


def passive_batch(pools: Sequence[Sequence[int]], drawn: Tensor) -> list[int]:
    """Return a meta-batch in random order, all of one pool.

    Args:
        pools: numbers of the tasks of each pool.
        drawn: tasks in random order, (B,), such as an epoch's next ones; the first one's pool is taken.
    """
    tasks: list[int] = drawn.tolist()
    if len(pools) == 1:
        return tasks
    pool = next(pool for pool in pools if tasks[0] in pool)
    others = [task for task in pool if task != tasks[0]]
    return [tasks[0], *(others[i] for i in torch.randperm(len(others))[: len(tasks) - 1].tolist())]


def draw_twice(
    task: Prepared, by_slices: bool, augment: Callable[[Prepared], Prepared] | None = None
) -> tuple[Prepared, Prepared]:
    """Draw D for the inner loop and D' for the outer one.

    For a network of slices, D is a random half of the task's slices and D' the other half; a single slice is in both. For a
    network of volumes, both are the whole task. With augmentation they are variations of their own.

    Args:
        task: with a label.
        by_slices: whether the network segments each slice on its own.
        augment: returns a random variation of a case; None takes the case as it is.
    """
    first, second = (augment(task), augment(task)) if augment else (task, task)
    if not by_slices:
        return first, second
    shuffled = torch.randperm(depth := task.image.shape[-1])
    return _slices(first, shuffled[: max(1, depth // 2)]), _slices(second, shuffled[depth // 2 :])


def _slices(case: Prepared, which: Tensor) -> Prepared:
    assert case.label is not None  # only cases to learn from are cut
    return replace(case, image=case.image[..., which], label=case.label[..., which])


def _turn(tasks: Sequence[int], count: int, turn: int) -> list[int]:
    """Return the next `count` different tasks, from the beginning again after the last one."""
    return [tasks[(turn * count + i) % len(tasks)] for i in range(min(count, len(tasks)))]
