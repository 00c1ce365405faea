#!/usr/bin/env python
"""Compare methods on the same splits: one run of svi_target.py for each method and split, then one table.

A method is a name and the flags that it adds to the config. Every run is a process of its own. Finished runs are kept,
so that a comparison that was stopped goes on where it was.

Example:
    python run/benchmark.py --config lgg_benchmark
"""

import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from threading import Event

from pyro_dwp.cli import first_command, run_script, write_json
from pyro_dwp.errors import ConfigError, TrainingError
from pyro_dwp.report.summary import summarise, summary_table

HERE = Path(__file__).parent
INTERRUPTED = (130, -signal.SIGINT)


def check(folder: Path, arguments: list[str]) -> None:
    """Refuse a run that was begun with other arguments, in whatever order."""
    begun = first_command(folder)[1:] if (folder / "config.yaml").exists() else arguments
    one, other = (sorted(f" {shlex.join(given)}".split(" --")) for given in (begun, arguments))
    if one != other:
        raise ConfigError(
            f"{folder} was begun with other arguments: {shlex.join(begun)}. Choose another --name, or delete it."
        )


def finish(folder: Path, arguments: list[str], log: bool, stop: Event) -> None:
    """Run svi_target.py in this folder, or what is left of it, unless it has finished or another run has failed."""
    if stop.is_set() or (folder / "metrics.json").exists():
        return
    again = ["--resume"] if (folder / "config.yaml").exists() else []
    command = [sys.executable, str(HERE / "svi_target.py"), *arguments, *again]
    path = folder.with_name(folder.name + ".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") if log else nullcontext() as file:
        status = subprocess.run(command, stdout=file, stderr=file).returncode
    if status:
        stop.set()
    if status in INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise TrainingError(f"{shlex.join(command)} failed; its message is {f'in {path}' if log else 'above'}.")


def main(
    target: str,
    methods: dict[str, str],
    reference: str,
    splits: int = 3,
    name: str = "benchmark",
    flags: str = "",
    parallel: int = 1,
) -> None:
    """Run every method on every split and print Dice and IoU with their spread over the splits.

    Args:
        target: config of run/svi_target.py, a file or a name in run/configs/.
        methods: name of a method → the flags that it adds.
        reference: name of the method that the others' Dice is compared with, scan by scan.
        splits: number of random splits; split i has split_seed i and seed i. The test scans are the same for all.
        name: of the folder under runs/ that holds one folder for each run, and summary.json.
        flags: added for all methods, before the method's own, for instance '--threads 1'.
        parallel: runs at the same time; with more than one, each writes to runs/NAME/METHOD-split-i.log.
    """
    if reference not in methods or parallel < 1 or splits < 1:
        raise ConfigError(
            f"A benchmark compares with one of its methods ({', '.join(methods)}) on at least one split, with at least one run "
            f"at a time, but received {reference=}, {splits=}, {parallel=}."
        )
    folders = {method: [Path("runs") / name / f"{method}-split-{i}" for i in range(splits)] for method in methods}
    runs = {
        folders[method][i]: [
            *("--config", target, *shlex.split(f"{flags} {extra}"), "--split_seed", str(i), "--seed", str(i)),
            *("--name", folders[method][i].relative_to("runs").as_posix()),
        ]
        for i in range(splits)
        for method, extra in methods.items()
    }
    for folder, arguments in runs.items():
        check(folder, arguments)
    stop = Event()
    try:
        with ThreadPoolExecutor(parallel) as pool:
            try:
                pending = [pool.submit(finish, *run, parallel > 1, stop) for run in runs.items()]
                for done in as_completed(pending):
                    done.result()
            finally:
                stop.set()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            "Stopped. Run the same command again: finished runs are kept, the last ones are resumed."
        ) from interrupt
    rows = summarise(folders, reference)
    write_json(Path("runs") / name / "summary.json", rows)
    print(summary_table(rows, reference))


if __name__ == "__main__":
    sys.exit(run_script(main, HERE / "configs" / "lgg_benchmark.yaml"))
