#!/usr/bin/env python
"""Compare methods on the same splits: one run of svi_target.py for each method and split, then one table.

A method is a name and the flags that it adds to the config. Finished runs are kept, so that a comparison that was
stopped goes on where it was.

Example:
    python run/benchmark.py --config lgg_benchmark
"""

import importlib.util
import shlex
import sys
from pathlib import Path

from pyro_dwp.cli import run_script, write_json
from pyro_dwp.errors import TrainingError
from pyro_dwp.report.summary import summarise, summary_table

HERE = Path(__file__).parent


def svi_target(arguments: list[str]) -> None:
    """Call run/svi_target.py; stop if it fails."""
    spec = importlib.util.spec_from_file_location("svi_target", HERE / "svi_target.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if run_script(script.main, script.QUICK, arguments):
        raise TrainingError(f"svi_target.py {shlex.join(arguments)} failed; its message is above.")


def main(
    target: str,
    methods: dict[str, str],
    reference: str,
    splits: int = 3,
    name: str = "benchmark",
    flags: str = "",
) -> None:
    """Run every method on every split and print Dice and IoU with their spread over the splits.

    Args:
        target: config of run/svi_target.py, a file or a name in run/configs/.
        methods: name of a method → the flags that it adds.
        reference: name of the method that the others' Dice is compared with, scan by scan.
        splits: number of random splits; split i has split_seed i and seed i.
        name: of the folder under runs/ that holds one folder for each run, and summary.json.
        flags: added for all methods, for instance '--threads 1'.
    """
    folders = {method: [Path("runs") / name / f"{method}-split-{i}" for i in range(splits)] for method in methods}
    for split in range(splits):
        for method, extra in methods.items():
            folder = folders[method][split]
            if (folder / "metrics.json").exists():
                continue
            place = ["--name", str(folder.relative_to("runs")), "--split_seed", str(split), "--seed", str(split)]
            again = ["--resume"] if (folder / "checkpoint").exists() else []
            svi_target(["--config", target, *shlex.split(extra), *shlex.split(flags), *place, *again])
    rows = summarise(folders, reference)
    write_json(Path("runs") / name / "summary.json", rows)
    print(summary_table(rows, reference))


if __name__ == "__main__":
    sys.exit(run_script(main, HERE / "configs" / "lgg_benchmark.yaml"))
