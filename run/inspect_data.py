#!/usr/bin/env python
"""Look through a folder of scans: what is there, what is wrong with it, and the settings with which to learn from it.

Prints a table with a line for each case and all problems, and writes a picture of every case and a config that runs, each of its
settings with the reason.

    python run/inspect_data.py my_scans
    python run/inspect_data.py my_scans --images flair,t1 --label lesion --output lesions.yaml
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

from pyro_dwp.data import Folder, Preprocess
from pyro_dwp.errors import ConfigError
from pyro_dwp.files import write_text
from pyro_dwp.intake import propose, survey
from pyro_dwp.report.contact_sheet import contact_sheet
from pyro_dwp.report.files import save_figure
from pyro_dwp.runs import run_script
from pyro_dwp.settings import Flat, Positional
from pyro_dwp.train import Machine

NEXT = Path(__file__).with_name("svi_target.py")


def main(
    folder: Annotated[Path, Positional()],
    machine: Annotated[Machine, Flat()],
    images: list[str] | None = None,
    label: str | None = None,
    preprocess: Preprocess = Preprocess(),  # noqa: B008 (immutable)
    output: Path | None = None,
    sheet: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Look through a folder of labelled scans, and write a config for run/svi_target.py.

    Args:
        folder: folder of the scans, in any usual layout, or CSV file of their paths.
        images: words in the names of the image files, or patterns of them, one for each sequence, such as flair,t1; null takes
            what is recognised.
        label: word in the names of the label files, or pattern of them; null takes what is recognised.
        preprocess: what is settled, such as a spacing; the rest is chosen.
        output: config to write; null names it after the folder.
        sheet: picture to write, a slice of every case; null names it after the folder.
        overwrite: replace these files if they exist.
    """
    config, picture = (given or Path(f"{folder.stem}{end}") for given, end in ((output, ".yaml"), (sheet, ".png")))
    if there := [str(path) for path in (config, picture) if path.exists() and not overwrite]:
        raise ConfigError(
            f"{there[0]} exists. Give other names with --output and --sheet, or replace it with --overwrite."
        )
    chosen = {"images": images, "label": label}
    found = survey(Folder(folder, **chosen))
    print(found.table(), "", found.report() or "No problems.", "", sep="\n")
    title = f"{folder.name}: {found.source.layout}"
    save_figure(contact_sheet([facts.picture for facts in found.cases.values()], found.label_names(), title), picture)
    data = {"class": "folder", "folder": str(folder)} | {name: value for name, value in chosen.items() if value}
    proposal = propose(found, machine, data, preprocess)
    write_text(config, proposal.to_yaml())
    print(*proposal.summary, f"A slice of every case: {picture}", "Learn from them with", sep="\n")
    print(f"    {shlex.join(['python', os.path.relpath(NEXT), '--config', str(config)])}")


if __name__ == "__main__":
    sys.exit(run_script(main))
