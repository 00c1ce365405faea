"""Every row of the tables of timings, on a grid of a few voxels."""

import json
import math
from pathlib import Path

import pytest

from pyro_dwp.timing import read_timings

TINY = "--grid", "[16,16,16]", "--scans", "1", "--repetitions", "1", "--threads", "1", "--device", "cpu"
LIBRARY = Path(__file__).parents[2] / "benchmarks" / "library.py"
SMALL = "{class: unet, channels: [2, 4]}"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A table with a small network, in which every kind of row is used once."""
    rows = {
        "plain": f"Point, network: {SMALL}",
        "gaussian": f"Variational, prior: gaussian, estimator: flipout, network: {SMALL}",
        "validation": f"Validation, prior: gaussian, network: {SMALL}",
        "plain prediction": f"PlainPrediction, network: {SMALL}",
        "prediction": f"Prediction, prior: gaussian, samples: 2, network: {SMALL}",
        "fit": "KernelFit, kernels: 5, bank: 10",
        "preparation": "Preparation",
        "product": "Product, edge: 8",
    }
    against = {"gaussian": "plain", "prediction": "plain prediction"}
    lines = ["table:"]
    for name, work in rows.items():
        lines.append(f"  {name}: {{work: {{class: {LIBRARY}:{work}}}, against: {against.get(name, 'null')}}}")
    (tmp_path / "small.yaml").write_text("\n".join(lines))
    return str(tmp_path / "small.yaml")


def test_every_kind_of_row_is_measured_and_written_to_file_and_page(finished, config, tmp_path):
    (tmp_path / "page.md").write_text("<!-- small -->\n\n<!-- end of small -->\n")
    words = "--config", config, "--precisions", "float32", "--json", "found.json", "--page", "page.md"
    said = finished(tmp_path, "time_steps", *TINY, *words).out
    found = read_timings(tmp_path / "found.json")
    assert (tmp_path / "page.md").read_text() == f"<!-- small -->\n{found.to_markdown()}\n<!-- end of small -->\n"
    assert found.to_markdown() in said
    rows = {row.name: row for row in found.rows}
    assert len(rows) == 8
    assert all(min(row.seconds) >= 0 and math.isclose(math.fsum(row.parts.values()), 1) for row in rows.values())
    assert {"network forward", "network backward", "sampling", "prior", "likelihood", "optimiser"} <= rows[
        "gaussian"
    ].parts.keys()
    assert json.loads((tmp_path / "found.json").read_text())["machine"]["threads"] == 1
    assert [name for name, row in rows.items() if row.ratios] == ["gaussian", "prediction"]


def test_rows_are_chosen_by_name_with_what_they_are_compared_with(finished, config, tmp_path):
    words = "--config", config, "--rows", "gauss*, preparation", "--precisions", "bfloat16"
    said = finished(tmp_path, "time_steps", *TINY, *words).out
    rows = {line.split(" | ")[0] for line in said.splitlines() if line.startswith("| ")}
    assert rows == {"| row", "| ---", "| plain", "| gaussian", "| preparation"}


def test_a_row_that_there_is_not_is_refused(refused):
    refused(["--rows", "plane", "plain"], "time_steps", *TINY, "--rows", "plane")
