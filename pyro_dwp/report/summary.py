"""Several runs in one table: each method's mean over the splits, its spread, and the paired difference to another."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_dwp.errors import DataError

SCORES = {
    "dice": 3,
    "iou": 3,
    "negative_log_likelihood": 3,
    "calibration_error": 4,
}  # score → decimals that are printed


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


def scored(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a run's scores, whether of its test scans or of its validation scans."""
    table: dict[str, Any] = metrics["test"] if "test" in metrics else metrics["validation"]
    return table


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n − 1 in the denominator; None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean difference in Dice between two methods over the same scans and splits, with its standard error.

        d = 1/S Σ_s d_s,   d_s = 1/n_s Σ_i d_si,   error² = scans² + trainings²

        scans² = n / (n − 1) Σ_i [ Σ_s (d_si − d_s) / (S n_s) ]²,   trainings² = Σ_s (d_s − d)² / (S (S − 1))

    A scan that several splits score is one scan. `scans` is what other scans would change, `trainings` what other training
    scans and seeds would; where the splits score different scans, the latter holds some of the former, too, so that the error
    is rather too large. Of a few splits it is itself uncertain: with three, t has two degrees of freedom.

    Args:
        one: metrics of the method, one for each split; S of them.
        other: metrics of the method it is compared with, for the same splits.

    Returns:
        "mean"; "standard_error", with one split that over scans alone, None for one scan; "splits", d_s; "better", the share
        of scans on which `one` is better in the mean over the splits that score them.
    """
    pairs = [
        {name: here["dice"] - scored(theirs)["cases"][name]["dice"] for name, here in scored(ours)["cases"].items()}
        for ours, theirs in zip(one, other, strict=True)
    ]
    splits = [statistics.fmean(pair.values()) for pair in pairs]
    by_scan: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, float] = defaultdict(float)
    for pair, split in zip(pairs, splits, strict=True):
        for name, difference in pair.items():
            by_scan[name].append(difference)
            shares[name] += (difference - split) / (len(pairs) * len(pair))
    error, count = None, len(shares)
    if count > 1:
        scans = count / (count - 1) * sum(share**2 for share in shares.values())
        trainings = statistics.variance(splits) / len(splits) if len(splits) > 1 else 0.0
        error = math.sqrt(scans + trainings)
    better = sum(statistics.fmean(values) > 0 for values in by_scan.values()) / count
    return {"mean": statistics.fmean(splits), "standard_error": error, "splits": splits, "better": better}


def summarise(methods: Mapping[str, Sequence[Path]], reference: str) -> dict[str, dict[str, Any]]:
    """Summarise finished runs.

    Args:
        methods: name → folders of its runs, one for each split, in the same order for every method.
        reference: name of the method that the others are compared with.

    Returns:
        Name → each of `SCORES` (mean and standard deviation over the splits of the mean over the scans scored), "splits" (the
        Dice of each), "seconds_per_step", "peak_memory_mib", and "difference" to the reference.

    Raises:
        DataError: if a run has not finished.
    """
    metrics = {name: [read_metrics(folder) for folder in folders] for name, folders in methods.items()}
    rows = {}
    for name, runs in metrics.items():
        scores = {key: [scored(run)["mean"][key] for run in runs] for key in SCORES}
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
        f"| method | Dice | IoU | nats per voxel | calibration error | Dice − {reference} | seconds per step | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        cells = [_with_spread(row[key], decimals) for key, decimals in SCORES.items()]
        gap = row["difference"]
        difference = (
            ""
            if gap is None
            else f"{gap['mean']:+.3f} ± {math.nan if gap['standard_error'] is None else gap['standard_error']:.3f}"
        )
        memory = f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {difference} | {row['seconds_per_step']:.2f} | {memory} |")
    return "\n".join(lines)


def _with_spread(row: Mapping[str, float | None], decimals: int) -> str:
    deviation = f" ({row['std']:.{decimals}f})" if row["std"] is not None else ""
    return f"{row['mean']:.{decimals}f}{deviation}"
