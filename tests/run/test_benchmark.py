"""run/benchmark.py on phantoms: two methods, one split, every run a process of its own."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Call = Callable[..., Any]
RUN = Path(__file__).parents[2] / "run"
TINY = """
data: {class_path: phantoms, init_args: {cases: 5, shape: [16, 16, 16]}}
preprocess: {grid: [16, 16, 16]}
network: {class_path: unet, init_args: {channels: [4, 8]}}
prior: gaussian
guide: mean_field
likelihood: dice_cross_entropy
train: 2
validation: 1
test: 2
samples: 1
schedule: {epochs: 1}
"""
BENCHMARK = """
target: tiny.yaml
reference: point
splits: 1
name: small
parallel: {parallel}
flags: "--threads 1"
methods:
  mean field: ""
  point: "--guide point --kl_weight 0"
"""


def benchmark(folder: Path, parallel: int = 2, *flags: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "benchmark.yaml").write_text(BENCHMARK.format(parallel=parallel))
    command = [sys.executable, str(RUN / "benchmark.py"), "--config", "benchmark.yaml", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_methods_are_compared_finished_runs_are_kept_and_changed_ones_refused(tmp_path: Path) -> None:
    done = benchmark(tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs" / "small" / "summary.json").read_text())
    for name in ("mean field", "point"):
        metrics = json.loads((tmp_path / "runs" / "small" / f"{name}-split-0" / "metrics.json").read_text())
        assert rows[name]["dice"]["mean"] == metrics["test"]["mean"]["dice"]
    assert "| mean field |" in done.stdout
    before = (tmp_path / "runs" / "small" / "point-split-0" / "metrics.json").stat().st_mtime_ns
    assert benchmark(tmp_path).stdout == done.stdout
    assert (tmp_path / "runs" / "small" / "point-split-0" / "metrics.json").stat().st_mtime_ns == before
    changed = benchmark(tmp_path, 2, "--flags", "--schedule.epochs 2")
    assert changed.returncode == 2
    assert "begun with other arguments" in changed.stderr


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, call: Call, tmp_path: Path) -> Callable[..., tuple[Any, list[list[str]]]]:
    """Return a function that runs a benchmark of two methods and splits, in which one run's process ends as it says.

    It returns how the script ended, and the arguments of the runs that it began.
    """

    def run(ends: Callable[[], int], *flags: object) -> tuple[Any, list[list[str]]]:
        commands: list[list[str]] = []

        def process(command: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
            commands.append(command[2:])
            return subprocess.CompletedProcess(command, ends())

        monkeypatch.setattr(subprocess, "run", process)
        (tmp_path / "benchmark.yaml").write_text(BENCHMARK.format(parallel=1))
        return call(tmp_path, "benchmark", "--config", "benchmark.yaml", "--splits", 2, *flags), commands

    return run


def ctrl_c() -> int:
    signal.raise_signal(signal.SIGINT)
    return 130


@pytest.mark.parametrize("ends", [lambda: 130, lambda: -signal.SIGINT, ctrl_c], ids=["stopped", "killed", "ctrl_c"])
def test_after_ctrl_c_no_further_run_is_begun_and_the_cure_is_named(begun: Callable, ends: Callable[[], int]) -> None:
    done, commands = begun(ends)
    assert done.status == 130
    assert done.err.strip() == (
        "Stopped. Run the same command again: finished runs are kept, the last ones are resumed."
    )
    assert len(commands) == 1


@pytest.mark.parametrize(("parallel", "place"), [(1, "above"), (2, "in runs/small/mean field-split-0.log")])
def test_after_a_failure_no_further_run_is_begun_and_its_command_is_named(
    begun: Callable, parallel: int, place: str
) -> None:
    done, commands = begun(lambda: 2, "--parallel", parallel)
    assert done.status == 2
    assert any(shlex.join(command) in done.err for command in commands)  # of two at a time, either may fail first
    assert parallel == 2 or place in done.err
    assert len(commands) <= parallel


def stored(folder: Path, method: str, arguments: str) -> None:
    """Write the config of a run that was begun with these arguments."""
    (folder / "runs" / "small" / f"{method}-split-0").mkdir(parents=True)
    path = folder / "runs" / "small" / f"{method}-split-0" / "config.yaml"
    path.write_text(yaml.safe_dump({"provenance": [{"command": f"svi_target.py {arguments}"}]}))


def test_a_run_that_was_begun_is_resumed_though_it_left_no_checkpoint(begun: Callable, tmp_path: Path) -> None:
    name = shlex.quote("small/mean field-split-0")
    stored(tmp_path, "mean field", f"--seed 0 --split_seed 0 --name {name} --threads 1 --config tiny.yaml")
    _, (command,) = begun(lambda: 1)
    assert command[-3:] == ["--name", "small/mean field-split-0", "--resume"]


def test_a_changed_method_is_refused_before_any_run_is_begun(begun: Callable, tmp_path: Path) -> None:
    rest = "--threads 1 --split_seed 0 --seed 0 --name small/point-split-0"
    stored(tmp_path, "point", f"--config tiny.yaml --guide 0 --kl_weight point {rest}")  # the same words
    done, commands = begun(lambda: 0)
    assert done.status == 2
    assert "runs/small/point-split-0 was begun with other arguments: --config tiny.yaml --guide 0" in done.err
    assert not commands


@pytest.mark.parametrize("flags", [["--reference", "none"], ["--splits", 0], ["--parallel", 0]], ids=str)
def test_numbers_that_make_no_comparison_are_refused(begun: Callable, flags: list[object]) -> None:
    done, commands = begun(lambda: 0, *flags)
    assert done.status == 2
    assert str(flags[0])[2:] in done.err
    assert not commands
