"""run/report.py, and the report that run/svi_target.py writes."""

import json
import re
from pathlib import Path


def embedded(path: Path) -> list[dict]:
    """Return the cases in the viewer of a page."""
    return json.loads(re.search(r'id="volumes">(.*?)</script>', path.read_text(), flags=re.DOTALL)[1])["cases"]


def test_a_run_ends_with_a_report_of_its_test_cases(chain, target):
    assert f"Report: {Path('runs') / 'target' / 'report.html'}" in (chain / "svi_target.txt").read_text()
    names = json.loads((target / "split.json").read_text())["test"]
    cases = embedded(target / "report.html")
    assert {case["name"] for case in cases} == set(names)
    assert all(case[volume] for case in cases for volume in ("scan", "truth", "mask", "doubt"))


def test_it_is_written_again_with_cases_of_ones_choice(finished, target, tmp_path):
    name = json.loads((target / "split.json").read_text())["test"][1]
    finished(tmp_path, "report", target, "--cases", name, "--output", tmp_path / "mine.html")
    assert [case["name"] for case in embedded(tmp_path / "mine.html")] == [name]


def test_runs_that_were_only_scored_have_one_too(finished, target, tmp_path):
    finished(tmp_path, "score", "--runs", f"[{target}]", "--samples", "2", "--name", "scored")
    finished(tmp_path, "report", "runs/scored")
    assert len(embedded(tmp_path / "runs" / "scored" / "report.html")) == 2


def test_a_folder_that_is_no_run_is_refused(refused, tmp_path):
    refused([str(tmp_path), "config.yaml"], "report", tmp_path)
