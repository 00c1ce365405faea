"""Which rows are measured, what they are compared with, and the tables and files that come of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.timing import Bench, Measured, Row, Timings, Workload, entries, measure, read_timings
from pyro_dwp.timing.measure import reference
from pyro_dwp.timing.timings import growth, lines
from pyro_dwp.train import Machine
from tests.helpers.refusal import refuses

BENCH = Bench(Machine("cpu"), torch.device("cpu"), (4, 5, 6), 3)
BOTH = ("float32", "bfloat16")


class Sums(Workload):
    def __init__(self, bench: Bench, times: int = 1) -> None:
        self.images, self.times = [case.image for case in bench.cases()] * times, times

    def run(self) -> float:
        return sum(float(image.sum()) for image in self.images)


def row(times: int = 1, **settings: object) -> Row:
    make: Callable[[Bench], Workload] = lambda bench: Sums(bench, times)  # noqa: E731
    return Row(make, **settings)


TABLE = {
    "plain": row(),
    "own": row(4, against="plain", grid=(8, 8, 8), scans=1),
    "fixed": row(precision="float32", against="own"),
    "chosen": row(precision="default", against="fixed"),
}


def test_noise_has_the_grid_both_classes_and_the_same_values_every_time():
    cases = BENCH.cases()
    assert [tuple(case.image.shape) for case in cases] == [(1, 4, 5, 6)] * 3
    assert all(set(case.label.unique().tolist()) == {0, 1} for case in cases)
    assert all(torch.equal(one.image, two.image) for one, two in zip(cases, BENCH.cases(), strict=True))


def test_each_row_comes_in_each_precision_unless_it_has_one():
    found = [(it.name, it.bench.machine.precision, it.bench.grid, it.bench.scans) for it in entries(TABLE, BENCH, BOTH)]
    plain, own = ((4, 5, 6), 3), ((8, 8, 8), 1)
    assert found == [
        ("plain", "float32", *plain),
        ("plain", "bfloat16", *plain),
        ("own", "float32", *own),
        ("own", "bfloat16", *own),
        ("fixed", "float32", *plain),
        ("chosen", None, *plain),
    ]


def test_what_a_chosen_row_is_compared_with_is_measured_too():
    assert [it.name for it in entries(TABLE, BENCH, ["bfloat16"], ["fix*"])] == ["plain", "own", "fixed"]


def test_a_row_is_compared_in_its_own_precision_and_otherwise_with_the_one_that_there_is():
    found = entries(TABLE, BENCH, BOTH)
    assert [reference(found, entry) for entry in found] == [None, None, 0, 1, 2, 4]


def test_a_row_that_there_is_not_is_named():
    with refuses("plane", "plain", error=ConfigError):
        entries(TABLE, BENCH, BOTH, ["plane"])
    with refuses("table.own.against", "plane", "plain", error=ConfigError):
        entries(TABLE | {"own": row(against="plane")}, BENCH, BOTH)


def test_what_was_measured_is_read_as_it_was_written(tmp_path: Path):
    rows = measure(entries(TABLE, BENCH, ["float32"]), 3)
    assert [len(one.ratios) for one in rows] == [0, 3, 3, 3]
    found = Timings(tuple(rows), {"device": "a machine", "threads": 1}, "python run/time_steps.py")
    found.save(tmp_path / "found.json")
    assert read_timings(tmp_path / "found.json") == found


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{"name": "a"}], "machine": {}, "command": ""}'])
def test_a_file_without_timings_is_refused(tmp_path: Path, text: str):
    (tmp_path / "odd.json").write_text(text)
    with refuses("odd.json", "run/time_steps.py --json", error=DataError):
        read_timings(tmp_path / "odd.json")


MEASURED = Measured("a", "float32", (4, 4, 4), 2, (1.0, 3.0, 2.0), 10.0, 30.0, {"network forward": 0.25, "odd": 0.75})


def test_the_tables_give_medians_quartiles_and_percent():
    other = replace(MEASURED, name="b", against="a", ratios=(1.0, 4.0, 2.0, 3.0, 5.0), memory_ratio=1.5)
    text = Timings((MEASURED, other), {"device": "a machine"}, "measure").to_markdown()
    assert "| a | float32 | 2 | – | – | 10 | – | 15 |" in text
    assert "| b | float32 | 2 | 3.00 (2.00 to 4.00) | a | 10 | 1.50 | 15 |" in text
    assert "| row | precision | network forward | odd |" in text
    assert "| a | float32 | 25.0 | 75.0 |" in text


def test_growth_is_the_line_through_the_medians():
    rows = [replace(MEASURED, series="voxels", size=size, seconds=(0.5 + 2 * size,)) for size in (1.0, 2.0, 4.0)]
    sizes, seconds, fixed, each = lines([MEASURED, *rows])["voxels", "float32"]
    assert (sizes, seconds) == ([1.0, 2.0, 4.0], [2.5, 4.5, 8.5])
    assert (fixed, each) == pytest.approx((0.5, 2.0))
    assert "| voxels | float32 | 1: 2.5, 2: 4.5, 4: 8.5 | 0.5 s + 2 s each |" in growth(rows).to_markdown()


def test_a_page_gets_the_tables_in_their_place_again_and_again(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- all -->\n\n<!-- end of all -->\nAfter.\n")
    found = Timings((MEASURED,), {"device": "a machine"}, "measure")
    for _ in range(2):
        found.insert(page, "all")
        assert page.read_text() == f"Before.\n<!-- all -->\n{found.to_markdown()}\n<!-- end of all -->\nAfter.\n"
    with refuses("page.md", "<!-- some -->", error=DataError):
        found.insert(page, "some")
