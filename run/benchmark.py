#!/usr/bin/env python
"""Compare methods on the same splits: one run of svi_target.py for each method and split, then one table.

A method is a name and the settings that it adds to the target config. Every run is a process of its own. Finished runs are
kept, so that a comparison that was stopped continues where it was.

    python run/benchmark.py --config lgg_benchmark
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import runpy
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import yaml
from pydantic import PositiveInt

from pyro_dwp.errors import ConfigError, Interrupted, TrainingError, suggest
from pyro_dwp.files import write_json, write_text
from pyro_dwp.report.summary import summarise, summary_table
from pyro_dwp.runs import Run, read_config, run_script
from pyro_dwp.runs.folder import CONFIG, ROOT, differences
from pyro_dwp.runs.script import read_configs, resolve_layers
from pyro_dwp.settings import Call, merge

SCRIPT = Path(__file__).parent / "svi_target.py"
INTERRUPTED = (130, -signal.SIGINT)


def finish(folder: Path, settings: dict[str, Any], target: str, log: bool, stop: Event) -> None:
    """Run svi_target.py in this folder, or resume it, unless it has finished or another run has failed."""
    if stop.is_set() or (folder / "metrics.json").exists():
        return
    config = write_text(folder.with_name(folder.name + ".yaml"), yaml.safe_dump(settings, sort_keys=False))
    again = ["--resume"] if (folder / CONFIG).exists() else []
    command = [sys.executable, str(SCRIPT), "--config", target, "--config", str(config), *again]
    path = folder.with_name(folder.name + ".log")
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
    methods: dict[str, dict[str, Any]],
    reference: str,
    splits: PositiveInt = 3,
    name: str = "benchmark",
    common: dict[str, Any] | None = None,
    parallel: PositiveInt = 1,
) -> None:
    """Run every method on every split and print Dice and IoU with their spread over the splits.

    Args:
        target: config of run/svi_target.py, a file or a name in run/configs/.
        methods: name of a method → its settings.
        reference: name of the method that the others' Dice is compared with, scan by scan.
        splits: number of random splits; split i has split_seed i and seed i. The test scans are the same for all.
        name: name of the folder under runs/ that holds one folder for each run, and summary.json.
        common: settings of all methods; those of a method win.
        parallel: runs at the same time; with more than one, each writes to runs/NAME/METHOD-split-i.log.
    """
    if reference not in methods:
        raise ConfigError(
            f"reference is {reference!r}, but it must be one of the methods. {suggest(reference, methods)}"
        )
    target_main, base = runpy.run_path(str(SCRIPT))["main"], read_configs(SCRIPT, [], target)
    folders = {method: [ROOT / name / f"{method}-split-{i}" for i in range(splits)] for method in methods}
    runs: dict[Path, dict[str, Any]] = {}
    for method, settings in methods.items():  # every setting of every run is checked before the first one starts
        for i, folder in enumerate(folders[method]):
            own = {"split_seed": i, "seed": i, "name": folder.relative_to(ROOT).as_posix()}
            runs[folder] = merge(merged := merge(common or {}, settings), own)
            if fixed := sorted(merged.keys() & own.keys()):
                raise ConfigError(f"methods.{method}: the benchmark sets {', '.join(fixed)}. Leave it out.")
            recipe = resolve_layers(target_main, base | {Path(f"methods.{method}"): runs[folder]}, {})
            given, begun = recipe.plain(), (folder / CONFIG).exists()
            Run(
                Call(SCRIPT, (), given), own["name"], overwrite=begun
            )  # refuses a bad name and a folder that cannot be written
            stored = read_config(folder) if begun else given
            if (changed := differences(stored, given)) or differences(given, stored):
                raise ConfigError(
                    f"{folder} was begun with other settings: {'; '.join(changed) or 'fewer epochs'}. Choose another --name, or "
                    "delete it."
                )
    stop = Event()
    try:
        with ThreadPoolExecutor(parallel) as pool:
            try:
                pending = [pool.submit(finish, *run, target, parallel > 1, stop) for run in runs.items()]
                for done in as_completed(pending):
                    done.result()
            finally:
                stop.set()
    except KeyboardInterrupt as interrupt:
        raise Interrupted(
            "Stopped. Run the same command again: finished runs are kept, the last ones are resumed."
        ) from interrupt
    rows = summarise(folders, reference)
    write_json(ROOT / name / "summary.json", rows)
    print(summary_table(rows, reference))


if __name__ == "__main__":
    sys.exit(run_script(main, "lgg_benchmark"))
