"""run/benchmark.py on phantoms: two methods, one split, every run a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

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
