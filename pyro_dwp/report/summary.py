"""Several runs in one table: each method's mean over the splits, its spread, and the paired difference to another."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_dwp.errors import DataError


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return a finished run's metrics.json.

    Raises:
        DataError: if there is none.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise DataError(f"{path} does not exist: the run has not finished. Run it again with --resume.")
    metrics: dict[str, Any] = json.loads(path.read_text())
    return metrics


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n − 1 in the denominator; None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean difference in Dice between two methods over the same test scans, with its standard error.

    A scan that several splits test counts once, with its mean difference over them. The standard error is over scans; it
    does not hold what another choice of training scans would change, which the spread over the splits shows.

    Args:
        one: metrics of the method, one for each split.
        other: metrics of the method it is compared with, for the same splits.

    Returns:
        "mean", "standard_error", and "better", the share of scans on which `one` is better.
    """
    by_scan: dict[str, list[float]] = defaultdict(list)
    for here, there in zip(one, other, strict=True):
        for name, scores in here["test"]["cases"].items():
            by_scan[name].append(scores["dice"] - there["test"]["cases"][name]["dice"])
    differences = [statistics.fmean(values) for values in by_scan.values()]
    mean, deviation = spread(differences)
    error = None if deviation is None else deviation / len(differences) ** 0.5
    return {"mean": mean, "standard_error": error, "better": sum(d > 0 for d in differences) / len(differences)}


def summarise(methods: Mapping[str, Sequence[Path]], reference: str) -> dict[str, dict[str, Any]]:
    """Summarise finished runs.

    Args:
        methods: name → folders of its runs, one for each split, in the same order for every method.
        reference: name of the method that the others are compared with.

    Returns:
        Name → "dice" and "iou" (mean and standard deviation over the splits of the mean over test scans), "splits" (the
        Dice of each), "seconds_per_step", "peak_memory_mib", and "difference" to the reference.

    Raises:
        DataError: if a run has not finished.
    """
    metrics = {name: [read_metrics(folder) for folder in folders] for name, folders in methods.items()}
    rows = {}
    for name, runs in metrics.items():
        scores = {key: [run["test"]["mean"][key] for run in runs] for key in ("dice", "iou", "negative_log_likelihood")}
        rows[name] = {
            **{key: dict(zip(("mean", "std"), spread(values), strict=True)) for key, values in scores.items()},
            "splits": scores["dice"],
            "seconds_per_step": statistics.median(run["seconds_per_step"] for run in runs),
            "peak_memory_mib": max((run["peak_memory_mib"] or 0.0 for run in runs), default=None),
            "machine": runs[0]["machine"],
            "difference": paired_difference(runs, metrics[reference]) if name != reference else None,
        }
    return rows


def summary_table(rows: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Return `summarise`'s result as a Markdown table."""
    lines = [
        f"| method | Dice | IoU | nats per voxel | Dice − {reference} | seconds per step |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        cells = [_with_spread(row[key]) for key in ("dice", "iou", "negative_log_likelihood")]
        gap = row["difference"]
        difference = "" if gap is None else f"{gap['mean']:+.3f} ± {gap['standard_error'] or float('nan'):.3f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {difference} | {row['seconds_per_step']:.2f} |")
    return "\n".join(lines)


def _with_spread(row: Mapping[str, float | None]) -> str:
    return f"{row['mean']:.3f}" + (f" ({row['std']:.3f})" if row["std"] is not None else "")
