"""Put the parts of a page together, and write it."""

import base64
import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.errors import PyroDwpError
from pyro_dwp.files import write_text
from pyro_dwp.metrics import structure_title
from pyro_dwp.report.page.figures import calibration_svg, curves_svg
from pyro_dwp.report.page.folder import RunFolder, read_run
from pyro_dwp.report.page.tables import NONE, case_table, headline, score_tables, settings
from pyro_dwp.report.page.volumes import MOST_VOXELS, Case, embed, read_case
from pyro_dwp.report.slices import COLOURS, slices

HERE = Path(__file__).parent
FILE = "report.html"
SHOWN = ("worst", "median", "best", "doubtful")
TRUTH = "#56b4e9"  # of two classes; of several, truth and mask have the colours of their classes
MASK = "#e69f00"


def report_run(folder: Path) -> str:
    """Write the page of a run that has just finished, and return a line that says where it is, or why there is none.

    Nothing that goes wrong here may cost a run its results.

    Args:
        folder: of the run.
    """
    try:
        return f"Report: {write_page(folder)}"
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"No report was written ({reason}). The results are complete; try run/report.py."


def write_page(folder: Path, shown: Sequence[str] = SHOWN, output: Path | None = None) -> Path:
    """Write report.html, which shows a run, and return its path.

    What is missing, such as scans that have moved, is said on the page, which is written without it.

    Args:
        folder: of the run.
        shown: cases whose pictures and volumes it holds: names, or worst, median and best by Dice, and doubtful, the first of
            those to look at.
        output: of the file; None writes report.html into the folder.

    Raises:
        DataError: if the folder holds no run, or there is no case of a name.
    """
    run = read_run(folder)
    chosen = run.chosen(list(shown))
    source, preprocess = _source(run)
    cases = {name: case for name in chosen if (case := _case(run, source, preprocess, name)) is not None}
    context = {
        **_summary(run),
        "headline": headline(run),
        "cases": case_table(run, source),
        "score_tables": score_tables(run),
        "curves": curves_svg(run.history) if run.history else "",
        "calibration": calibration_svg(run.metrics["calibration"]) if run.metrics.get("calibration") else "",
        "pictures": [_picture(run, case, chosen[name]) for name, case in cases.items()],
        "volumes": [embed(case, run.classes) for case in cases.values()],
        "doubt_name": next((case.doubt_name for case in cases.values() if case.doubt is not None), ""),
        "legend": _legend(run, preprocess),
        "ceiling": f"{math.log(run.classes):.2f}",
        "most_voxels": f"{MOST_VOXELS / 1e6:g} million",
        "missing": run.missing,
    }
    return write_text(output or folder / FILE, _template().render(context))


@cache
def _template() -> Any:
    """Return the page's template, which escapes whatever is put into it; styles and scripts are the package's own."""
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    lenient = ChainableUndefined  # a run of another version may lack some number
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=lenient, trim_blocks=True)
    environment.filters["number"] = lambda value, digits: f"{value:.{digits}f}" if _known(value) else NONE
    environment.filters["percent"] = lambda value: f"{100 * value:.0f}" if _known(value) else NONE
    own = ("page.css", "page.js", "niivue/niivue.umd.js", "niivue/LICENSE")
    environment.globals["own"] = {name: (HERE / name).read_text(encoding="utf-8") for name in own}
    return environment.get_template("page.html")


def _known(value: Any) -> bool:
    return isinstance(value, int | float)


def _summary(run: RunFolder) -> dict[str, Any]:
    """Return what was asked, and what the run found out about its own uncertainty."""
    plain = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True, width=100)
    kept = ("review", "validity", "temperature")
    about = {name: run.metrics.get(name) for name in kept}
    return {
        "name": run.path.resolve().name,
        "starts": run.starts,
        "settings": settings(run.config),
        "config": plain,
        **about,
    }


def _source(run: RunFolder) -> tuple[CaseSource | None, Preprocess]:
    try:
        return run.source(), run.preprocess()
    except PyroDwpError as error:
        run.missing.append(f"The cases cannot be found again: {error}")
        return None, Preprocess()


def _case(run: RunFolder, source: CaseSource | None, preprocess: Preprocess, name: str) -> Case | None:
    if source is None:
        return None
    try:
        return read_case(run.path / "predictions", source, preprocess, run.classes, name)
    except PyroDwpError as error:
        run.missing.append(f"{name} is not shown: {error}")
        return None


def _legend(run: RunFolder, preprocess: Preprocess) -> list[dict[str, str]]:
    """Return name, colour in the truth and colour in the mask of each foreground class."""
    if run.classes == 2:
        return [{"name": "", "truth": TRUTH, "mask": MASK}]
    structures = preprocess.classes_of_structures(run.classes)
    titles = {structure_title(name): members for name, members in structures.items()}
    names = [", ".join(name for name, members in titles.items() if c in members) for c in range(1, run.classes)]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    return [{"name": name, "truth": colour, "mask": colour} for name, colour in zip(names, colours, strict=True)]


def _picture(run: RunFolder, case: Case, why: Sequence[str]) -> dict[str, Any]:
    """Return a slice of a case as a picture, with its title and what it shows in words."""
    name, dice = case.scan.name, run.scores.get(case.scan.name, {}).get("dice")
    title = name if dice is None else f"{name}, Dice {dice:.3f}"
    found = {"name": name, "title": title, "why": ", ".join(why), "image": ""}
    if case.mask is not None and case.doubt is not None:
        parts = case.scan.image[0], case.truth, case.mask, case.doubt
        figure = slices(*parts, run.classes, case.scan.spacing, "", f"{case.doubt_name} (nats)")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=90)
        found["image"] = base64.b64encode(stream.getvalue()).decode()
    return found
