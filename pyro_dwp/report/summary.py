"""Summarise runs in a table: the mean of each method over the splits, its spread, and the paired difference to a reference."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_dwp.files import read_json

SCORES = {"dice": 3, "iou": 3, "negative_log_likelihood": 3, "calibration_error": 4}  # score → decimals printed


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics.json of a finished run.

    Raises:
        DataError: if the file is missing or unreadable.
    """
    return read_json(folder / "metrics.json", "the scores of a finished run", "Finish the run with --resume.")


def scored(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a run, whether of test scans or of validation scans."""
    table: dict[str, Any] = metrics["test"] if "test" in metrics else metrics["validation"]
    return table


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n − 1 in the denominator; None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean difference in Dice between two methods, paired by scan and split, with its standard error.

        d = 1/S Σ_s d_s,   d_s = 1/n_s Σ_i d_si,   standard error² = scans² + trainings²

        scans² = n / (n − 1) Σ_i [ Σ_s (d_si − d_s) / (S n_s) ]²,   trainings² = Σ_s (d_s − d)² / (S (S − 1))

    A scan that several splits score counts as one of the n scans. `scans` estimates how much d would change with other scans,
    `trainings` how much with other training scans and seeds.

    Warning:
        The two terms overlap, so the standard error is biased upwards. What a training does to one scan and not to the others
        enters both. Where the splits score different scans, the variation between scans enters both as well. And an estimate
        from few splits is itself uncertain: with S = 3, Student's t has two degrees of freedom, and a 95 % interval is
        ± 4.3 standard errors. With one split nothing is known about other trainings. There is then no standard error;
        the one over scans alone would make intervals that are far too narrow.

    Args:
        one: metrics of a method, one for each of S splits.
        other: metrics of the method to compare with, for the same splits and scans.

    Returns:
        "mean", d; "splits", d_s; "standard_error", None for one split or one scan; "standard_error_over_scans", the first term
        alone, None for one scan; "better", the share of scans on which `one` has the higher Dice, averaged over splits.
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
    scans, error, count = None, None, len(shares)
    if count > 1:
        scans = math.sqrt(count / (count - 1) * sum(share**2 for share in shares.values()))
        error = math.hypot(scans, statistics.stdev(splits) / math.sqrt(len(splits))) if len(splits) > 1 else None
    return {
        "mean": statistics.fmean(splits),
        "splits": splits,
        "standard_error": error,
        "standard_error_over_scans": scans,
        "better": sum(statistics.fmean(values) > 0 for values in by_scan.values()) / count,
    }


def summarise(methods: Mapping[str, Sequence[Path]], reference: str) -> dict[str, dict[str, Any]]:
    """Summarise finished runs.

    Args:
        methods: name → folders of its runs, one for each split, in the same order for every method.
        reference: name of the method to compare the others with.

    Returns:
        Name → mean and standard deviation over the splits of each of `SCORES`, "splits" (the Dice of each), "seconds_per_step",
        "peak_memory_mib", "machine", and "difference" to the reference (`paired_difference`; None for the reference itself).

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
            "peak_memory_mib": max(run["peak_memory_mib"] or 0.0 for run in runs),
            "machine": runs[0]["machine"],
            "difference": paired_difference(runs, metrics[reference]) if name != reference else None,
        }
    return rows


def summary_table(rows: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Return the result of `summarise` as a Markdown table.

    Args:
        rows: as `summarise` returns them.
        reference: name of the method that the others are compared with.
    """
    lines = [
        f"| method | Dice | IoU | nats per voxel | calibration error | Dice − {reference} | seconds per step | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        cells = [_with_spread(row[key], decimals) for key, decimals in SCORES.items()]
        memory = f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else ""
        cells += [_difference(row["difference"]), f"{row['seconds_per_step']:.2f}", memory]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_spread(row: Mapping[str, float | None], decimals: int) -> str:
    deviation = f" ({row['std']:.{decimals}f})" if row["std"] is not None else ""
    return f"{row['mean']:.{decimals}f}{deviation}"


def _difference(row: Mapping[str, Any] | None) -> str:
    """Return a difference with its standard error, or the one over scans alone where there is no other."""
    if row is None:
        return ""
    if row["standard_error"] is not None:
        return f"{row['mean']:+.3f} ± {row['standard_error']:.3f}"
    scans = row["standard_error_over_scans"]
    return f"{row['mean']:+.3f}" + ("" if scans is None else f" (± {scans:.3f} over scans only)")
