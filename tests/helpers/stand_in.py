"""A script that stands in for those of run/: it takes their settings, pretends to work, and notes what it does in notes.txt.

It needs only the standard library and YAML, so that a test can start it often. Its steps resume as theirs do.
"""

import json
import os
import sys
import time
from pathlib import Path

import yaml


def main(
    train: int = 1,
    split_seed: int = 0,
    seed: int = 0,
    kind: str = "",
    steps: int = 1,
    pause: float = 0.0,
    fails: bool = False,
    bank: Path | None = None,
    runs: list[Path] | None = None,
    threads: int | None = 1,
    device: str = "cpu",
    name: str = "",
) -> None:
    """Pretend to train.

    Args:
        train: number of scans.
        split_seed: seed of the split.
        seed: seed of everything else.
        kind: any word.
        steps: number of steps.
        pause: seconds of a step.
        fails: end with an error.
        bank: file that an earlier job made.
        runs: folders of earlier jobs.
        threads: CPU threads.
        device: cpu or cuda.
        name: of the run.
    """


def write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def work(arguments: list[str]) -> None:
    settings = yaml.safe_load(Path(arguments[arguments.index("--config") + 1]).read_text())
    folder = Path("runs") / settings["name"]
    again = "--resume" in arguments
    note(f"{'resume' if again else 'begin'} {folder.name}")
    if again != (folder / "config.yaml").exists():
        sys.exit("error: --resume is for a run that was begun")
    needed = [settings["bank"], *(f"{run}/metrics.json" for run in settings["runs"] or ())]
    if gone := [path for path in needed if path and not Path(path).exists()]:
        sys.exit(f"error: {gone} is not there")
    folder.mkdir(exist_ok=True)
    write(folder / "config.yaml", yaml.safe_dump(settings))
    count = folder / "checkpoint"
    for step in range(int(count.read_text()) if count.exists() else 0, settings["steps"]):
        time.sleep(settings["pause"])
        write(count, str(step + 1))
    if settings["fails"]:
        sys.exit("error: failed, as it was told to")
    write(folder / "bank.safetensors", "")
    table = dict.fromkeys(("dice", "iou", "negative_log_likelihood", "calibration_error"), 0.5)
    scores = {"test": {"count": 1, "mean": table, "cases": {"a": table}}, "machine": {}, "peak_memory_mib": 1.0}
    write(folder / "metrics.json", json.dumps(scores | {"seconds": 3.0, "seconds_per_step": 0.1}))
    note(f"end {folder.name}")


def note(line: str) -> None:
    with Path("notes.txt").open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


if __name__ == "__main__":
    work(sys.argv[1:])
