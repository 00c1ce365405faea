"""`--data FOLDER`, where a class is expected: the other settings are those that the scans in the folder call for."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial

from pyro_dwp.data import CaseSource, Preprocess, expand
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.intake.proposal import propose
from pyro_dwp.intake.survey import survey
from pyro_dwp.settings import Tree, instantiate
from pyro_dwp.settings.classes import offered
from pyro_dwp.settings.tree import CLASS
from pyro_dwp.train import Machine

TABLE = ".csv"
CLASS_OF_ONES_OWN = re.compile(r"\w+(\.\w+)+|.*\.py(:.*)?")  # package.module.Class, or file.py:Class
MACHINE = tuple(field.name for field in fields(Machine))
SETTLED = ("grid", "spacing", "label_map", "structures")


def settings_of_data(flags: Tree) -> tuple[Callable[[], Tree] | None, Tree]:
    """Read `--data PATH`, an existing folder or CSV file, as `--data folder --data.folder PATH`, and propose the other settings.

    Args:
        flags: of the command line, as a tree.

    Returns:
        What surveys the scans, says in three lines what it chose, and returns the settings below all configs, None where data is
        something else; and the flags.

    Raises:
        ConfigError: if data is neither the path of scans nor what a class may be called.
    """
    data = flags.get("data")
    own = dict(data) if isinstance(data, Mapping) else {CLASS: data}
    place = own.get(CLASS)
    if not isinstance(place, str):
        return None, flags
    if not _holds_scans(place):
        own_class = CLASS_OF_ONES_OWN.fullmatch(place) and not place.endswith(TABLE)
        if not own_class and place not in (known := offered(CaseSource)):
            raise ConfigError(
                f"--data is a folder of scans, a CSV file of their paths or a source of cases, but there is no {place}. "
                f"Check the path. {suggest(place, known)}"
            )
        return None, flags
    own |= {CLASS: "folder", "folder": place}
    flags = {**flags, "data": own}
    return partial(_propose, flags), flags


def _holds_scans(place: str) -> bool:
    found = expand(place)
    return found.is_dir() or (found.suffix == TABLE and found.is_file())


def proposed_settings(source: CaseSource, given: Tree, show: bool = True) -> Tree:
    """Survey a set of scans, say in three lines what fits them and the machine, and return the settings below the given ones.

    Args:
        source: of the scans.
        given: settings, of which the machine, a grid or spacing, a label map, structures and the schedule are kept to.
        show: whether to say it.

    Raises:
        DataError: if there are fewer than two usable cases, or none has a label with foreground.
    """
    machine = instantiate(Machine, {name: given[name] for name in MACHINE if name in given}, "machine")
    known = given.get("preprocess", {})
    settled = instantiate(Preprocess, {name: known[name] for name in SETTLED if name in known}, "preprocess")
    found = propose(survey(source, show), machine, {}, settled, given.get("schedule"))
    if show:
        print(*found.summary, sep="\n")
    return {name: value for name, value in found.tree().items() if name != "data"}


def _propose(flags: Tree) -> Tree:
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, all of which propose the same
    return proposed_settings(instantiate(CaseSource, flags["data"], "data"), flags, first)
