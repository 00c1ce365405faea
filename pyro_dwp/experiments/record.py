"""experiment.json: what has become of each training of an experiment, for tables and figures to read."""

from pathlib import Path

from pyro_dwp.experiments.plan import Cell, Plan
from pyro_dwp.experiments.runner import Progress
from pyro_dwp.files import write_json
from pyro_dwp.report.results import FILE, Listing, Row


def record(plan: Plan, progress: Progress) -> Listing:
    """Return the state of an experiment: what has become of each training."""
    rows = [_row(cell, progress) for cell in plan.cells]
    return Listing(name=plan.experiment.name, reference=plan.experiment.reference, rows=rows)


def _row(cell: Cell, progress: Progress) -> Row:
    failed = progress.failed.get(cell.job, "")
    return Row(
        method=cell.method,
        train=cell.train,
        split=cell.split,
        seed=cell.seed,
        status="done" if cell.job in progress.done else "failed" if failed else "missing",
        folder=cell.job.name,
        scores={name: job.name for name, job in cell.scores.items() if job in progress.done},
        reason=failed,
    )


def write_record(plan: Plan, progress: Progress) -> Path:
    """Write experiment.json and return its path."""
    return write_json(plan.experiment.folder / FILE, record(plan, progress).model_dump())


def missing(plan: Plan, progress: Progress) -> list[str]:
    """Return a line for each training, and each further score, that is not done: which, and why."""
    lines = []
    for cell in plan.cells:
        for what, job in {"": cell.job, **{f", scores {name}": job for name, job in cell.scores.items()}}.items():
            if job not in progress.done:
                where = f"{cell.method}, {cell.train} scans, split {cell.split}, seed {cell.seed}{what}"
                lines.append(f"{where}: {progress.failed.get(job, 'not run yet')}")
    return lines
