"""Every case of a source, read once: its facts, and all problems in one pass. One case is in memory at a time."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from io import StringIO

from rich import get_console
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pyro_dwp.data import CaseSource, Preprocess, Scan
from pyro_dwp.errors import DataError
from pyro_dwp.intake.problems import Problem, compare
from pyro_dwp.metrics import label_values
from pyro_dwp.progress import track
from pyro_dwp.report.contact_sheet import Picture, picture

WIDTH = 100  # columns of the table
ENDS = ("LR", "PA", "IS")  # where the voxel index falls and rises along each axis of the body


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """What is known of a case that could be read, on its own grid with axes in RAS order.

    Args:
        name: of the case.
        shape: voxels, (D, H, W).
        spacing: mm.
        extent: voxels of the crop to the head.
        axes: orientation in which the file stores its axes, such as LAS; "" where the format has none.
        channels: C.
        low: smallest intensity.
        high: largest.
        volumes: label → ml, background aside; None without a label.
        image_keys: hash of each channel.
        label_key: hash of the label; "" where it is empty or missing.
        picture: a slice of it.
    """

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    extent: tuple[int, int, int]
    axes: str
    channels: int
    low: float
    high: float
    volumes: dict[int, float] | None
    image_keys: tuple[str, ...]
    label_key: str
    picture: Picture


@dataclass(frozen=True, eq=False)
class Survey:
    """What `survey` found.

    Args:
        source: that was read.
        cases: facts of all cases that could be read, by name.
        problems: all of them, those of one case together.
    """

    source: CaseSource
    cases: dict[str, CaseFacts]
    problems: tuple[Problem, ...]

    @cached_property
    def usable(self) -> dict[str, CaseFacts]:
        """The cases to learn from and to test on: readable, labelled, without an error."""
        return {name: facts for name, facts in self.cases.items() if name not in self.left_out}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Case → why it cannot be used."""
        return {it.case: it.text for it in reversed(self.problems) if it.error}

    @cached_property
    def labels(self) -> list[int]:
        """The foreground labels that the usable cases hold, sorted."""
        return sorted({value for facts in self.usable.values() for value in facts.volumes or ()})

    @cached_property
    def structures(self) -> dict[str, list[int]] | None:
        """Name → labels, of those structures that the source names and the cases have; None if it names none."""
        named = self.source.structures()
        if not named:
            return None
        known = {name: [label for label in labels if label in self.labels] for name, labels in named.items()}
        return {name: labels for name, labels in known.items() if labels} or None

    def label_names(self) -> dict[int, str]:
        """Return a name for each label: that of the structure it makes up alone, or its number."""
        alone = {labels[0]: name for name, labels in (self.structures or {}).items() if len(labels) == 1}
        return {label: alone.get(label, f"label {label}") for label in self.labels}

    def table(self) -> str:
        """Return a table with a line for each case, at most 100 columns wide."""
        titles = ("case", "voxels", "mm", "axes", "channels", "intensities", "labels (ml)")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            table.add_column(title, overflow="fold")
        for facts in self.cases.values():
            table.add_row(*_row(facts, facts.name in self.left_out))
        return _render(table)

    def report(self) -> str:
        """Return the problems, errors first, one line each."""
        found = sorted(self.problems, key=lambda it: not it.error)
        lines = [f"{'ERROR' if it.error else 'Note'}: {it.case}{': ' if it.case else ''}{it.text}" for it in found]
        return "\n".join(lines)


def survey(source: CaseSource, show: bool = True) -> Survey:
    """Read every case of a source once and collect what is worth knowing, and everything that is wrong.

    A case that cannot be used does not end the survey. Of a case that cannot be read, the first reason is told.

    Args:
        source: of the cases.
        show: whether to show progress.

    Raises:
        DataError: if the source itself cannot be used, such as a folder that does not exist.
    """
    cases, names = {}, source.names()
    unlabelled = [name for name in source.unlabelled() if name not in names]
    problems = [Problem(name, "has no label, so nothing can be learned from it.") for name in unlabelled]
    live = sys.stdout.isatty() or get_console().is_jupyter
    for name in track(names, "reading scans", transient=True, disable=not (show and live)):
        try:
            cases[name] = _look(source.load(name))
        except DataError as error:
            problems.append(Problem(name, str(error), error=True))
    return Survey(source, cases, tuple(problems + compare(list(cases.values()))))


def _look(scan: Scan) -> CaseFacts:
    values = () if scan.label is None else [value for value in label_values(scan.label, scan.label_place) if value]
    voxel = scan.spacing[0] * scan.spacing[1] * scan.spacing[2] / 1000
    d, h, w = (stop - start for start, stop in Preprocess().box(scan))
    return CaseFacts(
        name=scan.name,
        shape=scan.shape,
        spacing=scan.spacing,
        extent=(d, h, w),
        axes=_stored_axes(scan),
        channels=len(scan.image),
        low=float(scan.image.min()),
        high=float(scan.image.max()),
        volumes=None if scan.label is None else {v: float((scan.label == v).sum()) * voxel for v in values},
        image_keys=tuple(_key(channel) for channel in scan.image),
        label_key=_key(scan.label.float()) if scan.label is not None and values else "",
        picture=picture(scan),
    )


def _key(volume: Tensor) -> str:
    return blake2b(volume.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _stored_axes(scan: Scan) -> str:
    header = scan.origin.header if scan.origin else None
    return "" if header is None else "".join(ENDS[int(axis)][int(sign > 0)] for axis, sign in header.turn)


def _row(facts: CaseFacts, unusable: bool) -> Sequence[str]:
    labels = (
        "none" if facts.volumes is None else ", ".join(f"{v}: {ml:.3g}" for v, ml in facts.volumes.items()) or "empty"
    )
    voxels, edges = (" x ".join(f"{number:.3g}" for number in numbers) for numbers in (facts.shape, facts.spacing))
    mark = "! " if unusable else ""
    return (
        mark + facts.name,
        voxels,
        edges,
        facts.axes,
        str(facts.channels),
        f"{facts.low:.4g} to {facts.high:.4g}",
        labels,
    )


def _render(table: Table) -> str:
    console = Console(width=WIDTH, file=StringIO(), color_system=None, markup=False, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
