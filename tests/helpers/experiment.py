"""Folders of experiments whose scores are made up."""

from pathlib import Path
from statistics import fmean
from typing import Any

from pyro_dwp.files import write_json

Cases = dict[str, float]


def metrics(dice: Cases, score: str = "test", **others: float | None) -> dict[str, Any]:
    """Return what svi_target.py writes for these Dice of cases; further scores are the same for each case."""
    cases = {name: {"dice": value, "iou": value / 2, **others} for name, value in dice.items()}
    mean = {"dice": fmean(dice.values()), "iou": fmean(dice.values()) / 2, **others}
    table = {"count": len(dice), "mean": mean, "std": {}, "cases": cases}
    return {score: table, "seconds": 60.0, "seconds_per_step": 0.5, "peak_memory_mib": 100.0}


def write_experiment(folder: Path, rows: dict[tuple[str, int, int, int], Any], reference: str = "theirs") -> Path:
    """Write experiment.json and the metrics of each (method, train, split, seed); a text is the reason why there are none."""
    listed = []
    for (method, train, split, seed), found in rows.items():
        name = f"{method}-{train}-{split}-{seed}"
        row = {"method": method, "train": train, "split": split, "seed": seed, "folder": name, "scores": {}}
        if isinstance(found, str):
            row |= {"status": "failed", "reason": found}
        else:
            row |= {"status": "done", "reason": "", "scores": {key: f"{name}-{key}" for key in found.get("scores", {})}}
            write_json(folder / name / "metrics.json", {key: it for key, it in found.items() if key != "scores"})
            for key, other in found.get("scores", {}).items():
                write_json(folder / f"{name}-{key}" / "metrics.json", other)
        listed.append(row)
    write_json(folder / "experiment.json", {"name": folder.name, "reference": reference, "rows": listed})
    return folder
