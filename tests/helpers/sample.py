"""A script like those in run/, for the tests of settings and runs."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PositiveInt
from torch import nn

from guides import Guide, MeanField
from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import DataError
from pyro_dwp.files import write_json
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Prior
from pyro_dwp.runs import Run, run_script
from pyro_dwp.settings import Flat, InsteadOf, Offers, Positional

CALLS: list[dict[str, Any]] = []
SCRIPT = Path(__file__)


@checked_dataclass
class Length:
    """How long.

    Args:
        epochs: passes over the data.
        rate: of learning, per step.
    """

    epochs: PositiveInt = 4
    rate: float = 1e-3


@checked_dataclass
class Machine:
    """Where.

    Args:
        device: to compute on.
    """

    device: str = "cpu"


def main(
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    prior: Prior,
    length: Length,
    network: Annotated[Callable[[], nn.Module], Offers("pyro_dwp.nn")] = UNet,
    guide: Callable[[Mapping], Guide] = MeanField,
    start: Literal["prior", "random", "source"] = "prior",
    label_map: dict[int, int] | None = None,
    grid: tuple[int, int, int] | None = None,
    size: Annotated[float | None, InsteadOf("grid")] = None,
    words: list[str] | None = None,
    first: Annotated[str, Positional()] = "",
    bank: Path | None = None,
    seed: int = 0,
    note: str = "",
    fail: Literal["bad", "bug", "ctrl-c"] | None = None,
    after: bool = False,
) -> None:
    """Do next to nothing.

    Args:
        prior: of the kernels.
        length: of the training.
        network: class of the network.
        guide: class of the guide.
        start: of the guide.
        label_map: class of each label.
        grid: edges, in voxels.
        size: of a voxel.
        words: some.
        first: given without its name.
        bank: a file.
        seed: of everything.
        note: any text.
        fail: how.
        after: fail only when there is something to keep.
    """
    CALLS.append(dict(locals()))
    folder = run.begin()
    if not fail or after:
        write_json(folder / "history.json", {"rows": [{"epoch": 1}]})
    if fail == "bad":
        raise DataError("There is no file x. Check the path.")
    if fail == "bug":
        raise ZeroDivisionError
    if fail == "ctrl-c":
        raise KeyboardInterrupt
    write_json(folder / "metrics.json", {"seed": seed})
    print(f"done: {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick"))
