from pathlib import Path

from pyro_dwp.metrics import CaseTable
from pyro_dwp.report.page.folder import RunFolder, read_run
from pyro_dwp.report.page.tables import case_table, score_tables

ROW = {"dice": 0.5, "dice_2": 0.4, "dice_core_2": 0.6, "hd95": None, "hd95_2": 1.0, "hd95_core_2": 2.0, "mine": 7.0}


def folder(scores: dict) -> RunFolder:
    return RunFolder(Path("run"), {}, [], {}, [], {"test": CaseTable(scores).to_dict()})


def test_each_structure_has_a_table_of_its_own_columns():
    tables = {table.title: table for table in score_tables(folder({"a": ROW, "b": ROW}))}
    assert {title: [cell.number for cell in table.rows[0][1:]] for title, table in tables.items()} == {
        "": [0.5, None, 7.0],
        "label 2": [0.4, 1.0],
        "core_2": [0.6, 2.0],
    }
    assert tables[""].columns == ("Case", "Dice", "HD95 (mm)", "mine")
    assert [row[0].text for row in tables[""].foot] == ["mean", "standard deviation"]


def test_the_table_of_cases_has_their_part_shape_and_spacing_and_dashes_where_they_cannot_be_read(small_run):
    run = read_run(small_run)
    rows = case_table(run, run.source()).rows
    assert [cell.text for cell in rows[0][1:]] == ["test", "1", "20 × 24 × 16", "1 × 1 × 2"]
    for unread in (case_table(run, None), case_table(run, run.source(), patience=0)):
        assert [cell.text for cell in unread.rows[0][1:]] == ["test", "–", "–", "–"]


def test_a_run_that_scored_others_takes_what_it_lacks_from_the_first_of_them(small_run, tmp_path):
    (tmp_path / "config.yaml").write_text(f"runs: ['{small_run}']\ndata: null\n")
    scored, trained = read_run(tmp_path), read_run(small_run)
    assert scored.source().names() == trained.source().names()
    assert scored.classes == trained.classes
