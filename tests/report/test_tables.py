"""Tables of made-up experiments, against means and standard deviations by hand."""

import csv
import io
import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest

from pyro_dwp.report.markup import Cell, Table, latex
from pyro_dwp.report.results import read_experiment
from pyro_dwp.report.tables import experiment_tables, save_tables, tables_of
from tests.helpers.experiment import metrics, write_experiment
from tests.helpers.refusal import refuses

BOTH = {"ours": 0.3, "theirs": 0.4}
OURS = {0: [0.6, 0.8], 1: [0.4, 0.4]}  # split → Dice of two seeds; by split 0.7 and 0.4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods at 5 scans; at 20 scans one split of ours failed."""
    rows = {
        ("ours", 5, s, d): metrics({"a": v, "b": v}, hd95=3.0) for s, row in OURS.items() for d, v in enumerate(row)
    }
    rows |= {("theirs", n, s, 0): metrics({"a": 0.5, "b": 0.5}, hd95=4.0) for n in (5, 20) for s in (0, 1)}
    rows |= {("ours", 20, 0, 0): metrics({"a": 0.9, "b": 0.9}, hd95=1.0), ("ours", 20, 1, 0): "out of memory_"}
    return write_experiment(tmp_path / "small", rows)


def test_seeds_are_averaged_within_a_split_and_mean_and_deviation_are_over_splits(folder: Path) -> None:
    cell = tables_of(read_experiment(folder))["dice"].rows[("ours",)][0]
    assert cell.values == pytest.approx((fmean([0.7, 0.4]), stdev([0.7, 0.4])))
    assert cell.text == "0.550 (0.212)"
    assert tables_of(read_experiment(folder))["iou"].rows[("ours",)][0].text == "0.275 (0.106)"


def test_the_best_of_a_column_is_bold_ties_included_but_not_where_a_split_is_missing(folder: Path) -> None:
    tables = tables_of(read_experiment(folder))
    bold = {method: [cell.bold for cell in cells] for (method,), cells in tables["dice"].rows.items()}
    assert bold == {"ours": [True, False], "theirs": [False, False]}
    more = tables["more"].rows
    assert [more[("5", method)][0].bold for method in ("ours", "theirs")] == [True, False]  # the lower HD95
    tied = write_experiment(folder / "tied", {(m, 5, 0, 0): metrics({"a": 0.50004}) for m in ("ours", "theirs")})
    assert [cell.bold for (cell,) in tables_of(read_experiment(tied))["dice"].rows.values()] == [True, True]


def test_a_single_method_has_no_differences(tmp_path: Path) -> None:
    single = write_experiment(tmp_path, {("theirs", 5, 0, 0): metrics({"a": 0.5})})
    assert list(tables_of(read_experiment(single))) == ["dice", "iou", "more"]


def test_what_is_missing_is_a_dash_or_a_mark_with_its_reason(folder: Path) -> None:
    text = experiment_tables(folder)
    assert "| ours | **0.550 (0.212)** | 0.900 [1] |" in text
    assert "[1] split 1, seed 0: out of memory_" in text
    assert "negative_log_likelihood was not measured" in text
    (folder / "ours-20-0-0" / "metrics.json").write_text("{")
    listing = json.loads((folder / "experiment.json").read_text())
    listing["rows"][-1] |= {"status": "missing", "reason": ""}
    (folder / "experiment.json").write_text(json.dumps(listing))
    text = experiment_tables(folder)
    note = re.search(r"^\[1\].*", text, re.MULTILINE)[0]
    assert "| ours | **0.550 (0.212)** | – [1] |" in text
    assert "ours-20-0-0/metrics.json cannot be read" in note
    assert "split 1, seed 0: not run yet" in note


def test_differences_are_paired_by_split_and_have_an_interval(folder: Path) -> None:
    tables = tables_of(read_experiment(folder))
    cell, distance, nats = tables["differences"].rows[("5", "ours")]
    reach = (
        12.7062 * stdev([0.2, -0.1]) / 2**0.5
    )  # both cases differ alike, so that only trainings vary; t with 1 degree
    assert cell.values == pytest.approx((0.05, 0.05 - reach, 0.05 + reach), rel=1e-4)
    assert cell.text == f"+0.050 [−{reach - 0.05:.3f}, +{0.05 + reach:.3f}]"
    assert (distance.text, nats.text) == ("−1.0 [−1.0, −1.0]", "–")
    cell = tables["differences"].rows[("20", "ours")][0]
    assert (cell.text, cell.values[1:]) == ("+0.400", (None, None))


def test_another_method_can_be_the_reference(folder: Path) -> None:
    assert "| 5 | theirs | −0.050 [" in experiment_tables(folder, "ours")
    with refuses("'our'", "ours, theirs"):
        experiment_tables(folder, "our")


def test_the_dice_on_the_source_stands_beside_that_on_the_target(tmp_path: Path) -> None:
    scored = metrics({"a": 0.5}) | {"scores": {"source": metrics({"c": 0.25, "d": 0.35})}}
    rows = {("ours", 5, 0, 0): scored, ("theirs", 5, 0, 0): metrics({"a": 0.6})}
    table = tables_of(read_experiment(write_experiment(tmp_path, rows)))["others"]
    assert table.columns == ("Dice, target", "Dice, source")
    assert [cell.text for cell in table.rows[("5", "ours")]] == ["0.500", "0.300"]
    assert [cell.text for cell in table.rows[("5", "theirs")]] == ["0.600", "–"]


def test_each_structure_has_a_column_if_there_are_several(tmp_path: Path) -> None:
    rows = {(method, 5, 0, 0): metrics({"a": 0.5}, dice_core=core, dice_whole=0.8) for method, core in BOTH.items()}
    table = tables_of(read_experiment(write_experiment(tmp_path, rows)))["structures"]
    assert table.columns == ("core", "whole")
    assert [[cell.text for cell in cells] for cells in table.rows.values()] == [["0.300", "0.800"], ["0.400", "0.800"]]
    assert [cells[0].bold for cells in table.rows.values()] == [False, True]


def test_csv_reads_back_as_the_same_numbers(folder: Path) -> None:
    for table in tables_of(read_experiment(folder)).values():
        header, *lines = csv.reader(io.StringIO(table.to_csv()))
        assert header[len(table.labels)] == f"{table.columns[0]} {table.parts[0]}"
        for line, (labels, cells) in zip(lines, table.rows.items(), strict=True):
            assert tuple(line[: len(labels)]) == labels
            numbers = [float(field) if field else None for field in line[len(labels) :]]
            assert numbers == [value for cell in cells for value in cell.values]


def test_latex_escapes_what_it_reads_as_commands_and_balances_its_columns() -> None:
    assert latex(r"a_b & 5 % {$#} ~^\ −1 – <") == (
        r"a\_b \& 5 \% \{\$\#\} \textasciitilde{}\textasciicircum{}\textbackslash{} $-$1 -- \textless{}"
    )
    cells = (Cell((0.5, None), "0.5", bold=True), Cell((None, None), "–", note="x_y: failed"))
    text = Table("A & B", "Of 5 %.", ("scans",), ("un_et", "b"), {("5",): cells}).to_latex()
    assert r"5 & \textbf{0.5} & --\textsuperscript{1} \\" in text
    assert r"\textsuperscript{1} x\_y: failed" in text
    assert r"\begin{tabular}{lrr}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_all_tables_are_saved_in_three_forms(folder: Path, tmp_path: Path) -> None:
    paths = save_tables(folder, tmp_path / "new")
    names = {f"{name}.{kind}" for name in ("dice", "iou", "differences", "more") for kind in ("csv", "tex")}
    assert {path.name for path in paths} == names | {"tables.md"}
    assert (tmp_path / "new" / "tables.md").read_text() == experiment_tables(folder) + "\n"


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ('{"name": "a", "reference": "b"}', "rows is missing"),
        ('{"name": "a", "reference": "b", "rows": []}', "'b'"),
    ],
)
def test_a_folder_without_a_whole_experiment_is_refused(tmp_path: Path, content: str | None, token: str) -> None:
    if content is not None:
        (tmp_path / "experiment.json").write_text(content)
    with refuses("experiment.json", token):
        experiment_tables(tmp_path)
