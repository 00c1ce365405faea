import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from pyro_dwp.report import report_run, write_page
from tests.helpers.refusal import refuses
from tests.report.page.conftest import NAMES

VOID = {"meta", "input", "img", "br", "path", "use"}


class Reader(HTMLParser):
    """Collects the text and the addresses of a page, and the elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.open += [] if tag in VOID else [tag]
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data.strip())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


def test_names_with_markup_are_text_everywhere(small_run, tmp_path):
    reader = read(write_page(small_run, NAMES, tmp_path / "report.html"))
    for name in NAMES:
        assert sum(name == text for text in reader.text) >= 2, name
    assert "svi_target.py --name <mine>" in reader.text
    assert "tumour <1>" in reader.text


def test_the_page_refers_to_nothing_outside_itself(small_run, tmp_path):
    addresses = read(write_page(small_run, output=tmp_path / "report.html")).addresses
    assert [address[:30] for address in addresses if not address.startswith(("#", "data:"))] == []


def test_worst_median_and_best_are_chosen_by_dice(small_run, tmp_path):
    text = write_page(small_run, ["best", "worst", "median"], tmp_path / "report.html").read_text()
    embedded = re.search(r'id="volumes">(.*?)</script>', text, flags=re.DOTALL)
    assert [case["name"] for case in json.loads(embedded[1])["cases"]] == [NAMES[2], NAMES[0], NAMES[1]]


def test_a_case_that_does_not_exist_is_refused(small_run, tmp_path):
    with refuses("'fourth'", "median"):
        write_page(small_run, ["fourth"], tmp_path / "report.html")


def test_what_a_run_found_out_about_its_uncertainty_is_said(small_run, tmp_path):
    text = " ".join(read(write_page(small_run, output=tmp_path / "report.html")).text)
    assert "rank correlation of 0.50" in text
    assert "90 % interval of the volume of core holds the true volume in 80 % of 3 cases" in text
    assert "temperature 1.50" in text
    assert "0.30 ml in doubt" in text


@pytest.mark.parametrize("lost", ["history.json", "metrics.json", "split.json", "predictions"])
def test_what_is_missing_is_said_and_the_rest_written(run_copy, lost):
    path = run_copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = " ".join(read(write_page(run_copy)).text)
    assert (f"{lost} is absent" in text) == (lost != "predictions")
    assert ("no history" in text) == (lost == "history.json")
    assert ("no scores yet" in text) == (lost == "metrics.json")


def test_scans_that_have_moved_cost_the_viewer_and_nothing_else(run_copy):
    config = yaml.safe_load((run_copy / "config.yaml").read_text())
    config["data"]["images"] = "elsewhere"
    (run_copy / "config.yaml").write_text(yaml.safe_dump(config))
    text = " ".join(read(write_page(run_copy)).text)
    assert "elsewhere" in text
    assert "No case can be shown" in text
    assert "0.250" in text


def test_a_report_that_fails_at_the_end_of_a_run_is_one_line(tmp_path):
    line = report_run(tmp_path)
    assert str(tmp_path) in line
    assert "\n" not in line
    assert "run/report.py" in line


def test_the_licence_of_the_viewer_is_in_the_page(small_run, tmp_path):
    licence = (Path(__file__).parents[3] / "pyro_dwp/report/page/niivue/LICENSE").read_text()
    assert html.escape(licence.strip(), quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in (
        write_page(small_run, output=tmp_path / "report.html").read_text()
    )
