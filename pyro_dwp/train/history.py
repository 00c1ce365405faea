"""The history of a training, which becomes history.json and the learning curves."""

import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pyro_dwp.files import write_json

FILE = "history.json"
Row = dict[str, float]


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        rows: one dict per epoch: "epoch" (from 1), "train/…" (means over the items), "validation/…" (in epochs with a
            validation), "rate/…" (per group, during the epoch), "seconds" (wall time of the epoch) and
            "seconds_per_step" (without validation).
        stopped: why it ended: "epochs", "rate", or "" while it runs.
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = ""

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, in seconds, without interruptions."""
        return sum(row["seconds"] for row in self.rows)

    @property
    def seconds_per_step(self) -> float:
        """Median over the epochs of the wall time of an optimisation step, in seconds, without validation."""
        return statistics.median(self.column("seconds_per_step"))

    def cost(self) -> dict[str, float]:
        """Return the wall times of the training, in seconds, for metrics.json."""
        return {"seconds": self.seconds, "seconds_per_step": self.seconds_per_step}

    def column(self, name: str) -> list[float]:
        """Return one quantity over the epochs that have it, e.g. "validation/dice"."""
        return [row[name] for row in self.rows if name in row]

    def write(self, path: Path) -> None:
        """Write the history as JSON, {"rows": ..., "stopped": ...}; values that are not finite become null."""
        rows = [{name: x if math.isfinite(x) else None for name, x in row.items()} for row in self.rows]
        write_json(path, {"rows": rows, "stopped": self.stopped})
