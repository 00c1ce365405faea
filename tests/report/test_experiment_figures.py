"""Figures of made-up experiments: what is drawn, where, and which cases."""

from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from pyro_dwp.data import Phantoms, Preprocess, write_volume
from pyro_dwp.errors import ConfigError
from pyro_dwp.files import write_json
from pyro_dwp.report.case_grid import CaseRow, case_grid, case_row, reference_run, shown_split, typical_cases
from pyro_dwp.report.results import Experiment, read_experiment
from pyro_dwp.report.score_curves import score_curves
from tests.helpers.experiment import metrics, write_experiment
from tests.helpers.refusal import refuses

PHANTOMS = Phantoms(cases=3, shape=(12, 11, 10))
NAMES = PHANTOMS.names()


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Three methods at 5 and 20 scans and two splits; one has failed throughout, ours at 20 scans."""
    dice = {("ours", 5): (0.4, 0.6), ("theirs", 5): (0.5, 0.5), ("theirs", 20): (0.7, 0.8)}
    rows = {
        (m, n, s, 0): metrics({NAMES[0]: v, NAMES[1]: v / 2}) for (m, n), row in dice.items() for s, v in enumerate(row)
    }
    rows |= {("ours", 20, s, 0): "failed" for s in (0, 1)} | {("broken", n, 0, 0): "failed" for n in (5, 20)}
    return read_experiment(write_experiment(tmp_path, rows))


def test_each_method_has_a_line_through_its_means_a_bar_and_a_dot_for_each_split(experiment: Experiment) -> None:
    (axes,) = score_curves(experiment, "dice").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["ours", "theirs", "broken"]
    assert [len(line.get_xdata()) for line in lines.values()] == [1, 2, 0]
    assert lines["theirs"].get_ydata().tolist() == pytest.approx([0.75 * 0.5, 0.75 * fmean([0.7, 0.8])])
    bars = [path.vertices[:, 1] for it in axes.collections if hasattr(it, "get_segments") for path in it.get_paths()]
    assert sorted(high - low for low, high in bars) == pytest.approx(
        [0, 1.5 * stdev([0.7, 0.8]), 1.5 * stdev([0.4, 0.6])]
    )
    dots = [it.get_offsets() for it in axes.collections if not hasattr(it, "get_segments")]
    assert sorted(np.concatenate(dots)[:, 1]) == pytest.approx(sorted(0.75 * v for v in (0.4, 0.6, 0.5, 0.5, 0.7, 0.8)))
    assert axes.get_ylabel() == "Dice"


def test_a_score_that_nobody_has_is_refused_with_those_that_there_are(experiment: Experiment) -> None:
    with refuses("'dise'", "dice", "iou", error=ConfigError):
        score_curves(experiment, "dise")


def test_rows_are_cases_and_columns_scan_truth_and_methods() -> None:
    truth = torch.zeros(6, 8, 5, dtype=torch.int64)
    truth[1:4, 2:6, 2] = 1
    found = {"ours": (truth.roll(1, 0), 0.67), "broken": None}
    figure = case_grid([CaseRow(name, torch.rand(6, 8, 5), truth, (1.0, 2.0, 4.0), found) for name in "ab"])
    panels = np.reshape(figure.axes, (2, 4))
    assert [axes.get_title() for axes in panels[0]] == ["Scan", "Truth", "ours", "broken"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["a", "b"]
    assert [axes.get_xlabel() for axes in panels[1]] == ["", "", "Dice 0.67", ""]
    assert [len(axes.images) for axes in panels[0]] == [1, 2, 2, 0]
    np.testing.assert_array_equal(panels[0, 2].images[1].get_array().filled(-1) + 1, truth.roll(1, 0)[:, :, 2].T)
    assert {axes.get_aspect() for axes in panels.flat} == {2.0}
    with refuses("at least one", error=ConfigError):
        case_grid([])


def test_many_methods_are_broken_into_lines_that_fit_a_page() -> None:
    truth = torch.ones(3, 4, 5, dtype=torch.int64)
    methods = [f"method {number}" for number in range(9)]
    rows = [CaseRow(name, torch.rand(3, 4, 5), truth, (1, 1, 1), dict.fromkeys(methods, (truth, 1.0))) for name in "ab"]
    figure = case_grid(rows)
    assert [axes.get_title() for axes in figure.axes] == ["Scan", "Truth", *methods] * 2
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places[11:]] == [
        (number // 6 + 2, number % 6) for number in range(11)
    ]


@pytest.mark.parametrize(
    ("count", "ranks"), [(1, [3]), (3, [1, 3, 5]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])]
)
def test_the_cases_shown_are_spread_evenly_over_the_ranks_of_a_score(count: int, ranks: list[int]) -> None:
    assert typical_cases({str(rank): rank / 10 for rank in (3, 0, 5, 1, 4, 2)}, count) == list(map(str, ranks))


def test_masks_come_back_as_classes_beside_the_case_and_a_method_without_one_has_none(experiment, tmp_path) -> None:
    assert shown_split(experiment, 5) == (0, {NAMES[0]: 0.5, NAMES[1]: 0.25})
    assert reference_run(experiment) == tmp_path / "theirs-5-0-0"
    scan = PHANTOMS.load(NAMES[0])
    for method, masks, factor in (("ours", "labels", 4), ("theirs", "classes", 1)):
        folder = tmp_path / f"{method}-5-0-0" / "predictions"
        write_volume(folder / f"{NAMES[0]}_mask.nii.gz", factor * scan.label, scan.affine, np.uint8)
        write_json(folder / "labels.json", {"masks": masks, "label_map": {"4": 1}})
    row = case_row(experiment, NAMES[0], 5, 0, PHANTOMS, Preprocess())
    assert row.predictions["broken"] is None
    assert [row.predictions[method][1] for method in ("ours", "theirs")] == [0.4, 0.5]
    for volume in (row.truth, row.predictions["ours"][0], row.predictions["theirs"][0]):
        assert torch.equal(volume, scan.label)


def test_without_a_result_of_the_reference_it_is_said_why(experiment: Experiment, tmp_path: Path) -> None:
    rows = {("theirs", 5, 0, 0): "no memory", ("ours", 5, 0, 0): metrics({"a": 0.5})}
    failed = read_experiment(write_experiment(tmp_path / "failed", rows))
    with refuses("theirs, 5 scans: no memory"):
        shown_split(failed, 5)
    with refuses("theirs"):
        reference_run(failed)
