"""The memory that volumes need, measured by the script."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 8 * 2**30 / (512 * 512 * 400)  # bytes for each voxel of a scan of CT that fits into 8 GiB
FIXED = 0.6  # GiB: libraries imported later, the network on a window, chunks of a fixed size


@pytest.mark.parametrize("stage", ["train", "predict"])
def test_the_script_measures_a_small_scan(stage, finished, tmp_path):
    words = "--shape", "[24,20,16]", "--patch", "[16,16,16]", "--spacing", "[1.0,1.0,1.5]", "--output", "found.json"
    finished(tmp_path, "measure_memory", "--stage", stage, *words)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["stage"] == stage
    assert 0 < found["start_gib"] <= found["peak_gib"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "predict"])
def test_a_voxel_needs_no_more_memory_than_lets_a_scan_of_ct_fit_into_8_gib(stage, tmp_path):
    """In a process of its own, because the peak of this one is that of all tests before."""
    shape, script = (256, 256, 200), Path(__file__).parents[2] / "run" / "measure_memory.py"
    words = "--stage", stage, "--shape", str([*shape]), "--patch", "[96,96,96]", "--output", "found.json"
    subprocess.run([sys.executable, script, *words], cwd=tmp_path, check=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["peak_gib"] - found["start_gib"] - FIXED) * 2**30 < LIMIT * math.prod(shape)
