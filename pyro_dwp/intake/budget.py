"""How much fits into a step and how long a run takes, on this machine.

The constants are those of the paper's U-Net with the deep weight prior and the mean-field guide, in float32, on one core of a
server: a step takes 0.97 s at 1 x 64³ voxels, 2.0 s at 2 x 64³ and 4.5 s at 96³; a forward pass 1.6 s at 96³; a step at 96³ takes
0.96 GiB more than the process had before. Two threads make a step 1.6 times as fast. *Not measured*: the speed of a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pyro_dwp.train import Machine

STEP, STEP_VOXEL = 0.3, 4.7e-6  # seconds of a step, and of each voxel in it
FORWARD_VOXEL = 1.7e-6  # seconds of each voxel in a prediction
BYTES_VOXEL = 1200  # of a step, for each voxel in it
SHARE = 0.5  # of the memory that a step may fill
THREADS = 0.7  # t threads are t ** 0.7 times as fast as one
GPU = 30.0  # how many times as fast as one core a GPU is taken to be
OVERLAP = 0.25  # of windows, along each axis
TRAINING, PREDICTION = 15 * 60.0, 15 * 60.0  # seconds that a run should take to learn, and to score its scans
DEPTH = 8  # a patch's edges are multiples of it, as the U-Net halves them three times


@dataclass(frozen=True)
class Budget:
    """What a machine can do.

    Args:
        memory: bytes.
        speed: times that of one core.
        place: where it computes, in words.
    """

    memory: int
    speed: float
    place: str

    @classmethod
    def of(cls, machine: Machine) -> "Budget":
        """Return the budget of a machine."""
        memory = machine.memory
        if torch.device(machine.place).type == "cuda":
            return cls(memory, GPU, f"a GPU with {memory / 2**30:.0f} GiB (its speed is assumed)")
        threads = machine.threads or torch.get_num_threads()
        return cls(memory, threads**THREADS, f"{threads} CPU thread(s) and {memory / 2**30:.0f} GiB")

    def step_voxels(self, steps: int) -> int:
        """Return the voxels that a step may hold: by memory, and so that so many steps keep to the time."""
        by_time = (TRAINING / steps * self.speed - STEP) / STEP_VOXEL
        return int(min(SHARE * self.memory / BYTES_VOXEL, max(by_time, 32**3)))

    def training(self, steps: int, voxels: float) -> float:
        """Return the seconds of so many steps over so many voxels each."""
        return steps * (STEP + STEP_VOXEL * voxels) / self.speed

    def prediction(self, passes: float, voxels: float, windows: bool) -> float:
        """Return the seconds of so many passes of a network over scans of so many voxels.

        Args:
            passes: scans times sampled networks.
            voxels: of a scan.
            windows: whether a window slides over it, so that voxels are predicted several times.
        """
        return passes * voxels * FORWARD_VOXEL * ((1 - OVERLAP) ** -3 if windows else 1) / self.speed


def fit_patch(grid: Sequence[int], voxels: float) -> tuple[int, int, int]:
    """Return the edges of the most cubic patch within a grid that has at most so many voxels.

    Args:
        grid: voxels along each axis that every case has at least.
        voxels: of the patch, at most.

    Example:
        >>> fit_patch((200, 200, 24), 100_000), fit_patch((30, 40, 20), 1e6)
        ((64, 64, 24), (30, 40, 20))
    """
    edges, left = list(grid), 3.0
    for axis in sorted(range(3), key=lambda axis: grid[axis]):
        edge = int(max(1.0, voxels) ** (1 / left) + 1e-9)
        edges[axis] = grid[axis] if grid[axis] <= edge else max(DEPTH, edge // DEPTH * DEPTH)
        voxels, left = voxels / edges[axis], left - 1
    return edges[0], edges[1], edges[2]
