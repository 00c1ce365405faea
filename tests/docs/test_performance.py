"""The page on performance shows what was measured, to the digit."""

from pathlib import Path

import pytest

from pyro_dwp.timing import read_timings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("path", sorted((DOCS / "timings").glob("*.json")), ids=lambda path: path.stem)
def test_the_tables_of_the_page_are_those_of_the_file(path: Path) -> None:
    place = f"<!-- {path.stem} -->\n{read_timings(path).to_markdown()}\n<!-- end of {path.stem} -->"
    assert place in (DOCS / "performance.md").read_text()
