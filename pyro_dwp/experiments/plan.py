"""From the config of an experiment to its jobs: methods × training sizes × splits × seeds, and what they share.

Every setting of every job is checked here, before the first one starts.
"""

import re
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import PositiveInt

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.experiments.job import Job, digest
from pyro_dwp.experiments.methods import Members, Method, one_of, read_method, read_step
from pyro_dwp.runs.folder import ROOT, check_place
from pyro_dwp.runs.script import find_config, resolve_layers
from pyro_dwp.settings import Recipe, setting_names
from pyro_dwp.settings.tree import Tree, inside
from pyro_dwp.transfer import check_source

SET_HERE = ("train", "split_seed", "seed", "name", "resume", "overwrite")
NOT_HASHED = ("name", "resume", "overwrite")


@checked_dataclass
class Experiment:
    """What is compared, and on what.

    Args:
        target: config of run/svi_target.py, a file or a name in run/configs/, that all methods begin from.
        methods: name → settings beside those of the target; `base` names a config in run/configs/methods/, null takes that of the
            method's name, `script` another script than svi_target, `members: {method, seeds}` makes an ensemble.
        reference: name of the method that the others are compared with, scan by scan.
        sizes: numbers of training scans; those of a smaller number are among those of a larger one.
        splits: random splits into training and validation scans; split i has split_seed i. The test scans are always the same.
        seeds: number of trainings for each split; training j has seed j.
        name: name of the folder under runs/.
        common: settings of all methods; those of a method win.
        shared: name → script, config and settings of a job that others need, run if one of them names a file of its folder as
            "@name/file".
        scores: name → script, config and settings of a job that scores each finished run again; it is given the run as `runs`.
    """

    target: str
    methods: Annotated[dict[str, dict[str, Any] | None], MinLen(1)]
    reference: str
    sizes: Annotated[list[PositiveInt], MinLen(1)]
    splits: PositiveInt = 3
    seeds: PositiveInt = 1
    name: str = "experiment"
    common: dict[str, Any] | None = None
    shared: dict[str, dict[str, Any]] | None = None
    scores: dict[str, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        one_of(self.reference, self.methods, "reference")
        check_place(self.name)

    @property
    def folder(self) -> Path:
        """Where the jobs of the experiment are."""
        return ROOT / self.name

    def plan(self, scripts: Path, check_data: bool = True) -> "Plan":
        """Return the jobs, those that others need first, with every setting checked.

        Args:
            scripts: folder of the scripts, with configs/ in it.
            check_data: refuse data that are not there; sizes are checked wherever the data are.

        Raises:
            ConfigError: if a setting of any job does not fit.
            DataError: if there are too few cases.
        """
        planner = Planner(self, scripts)
        cells = [
            Cell(method, train, split, seed, planner.trained(method, train, split, seed))
            for method in self.methods
            for train in self.sizes
            for split in range(self.splits)
            for seed in range(self.seeds)
        ]
        for cell in cells:
            cell.scores.update({name: planner.scored(name, cell) for name in self.scores or {}})
        for label, recipe in planner.recipes:
            try:
                check_cases(recipe, check_data)
            except DataError as error:
                raise DataError(f"{label}: {error}") from error
        needed = {need for job in planner.jobs.values() for need in job.needs}
        return Plan(self, sorted(planner.jobs.values(), key=lambda job: job not in needed), cells)


@dataclass(frozen=True)
class Cell:
    """A training of a method: one entry of the result table."""

    method: str
    train: int  # scans
    split: int
    seed: int
    job: Job
    scores: dict[str, Job] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All jobs of an experiment."""

    experiment: Experiment
    jobs: list[Job]  # those that others need come first
    cells: list[Cell]


class Planner:
    """Makes the jobs of an experiment; what is asked for twice is made once.

    Args:
        experiment: to plan.
        scripts: folder of the scripts, with configs/ in it.
    """

    def __init__(self, experiment: Experiment, scripts: Path) -> None:
        self.experiment, self.scripts, self.configs = experiment, scripts, scripts / "configs"
        self.target: dict[Path, Tree] = dict([find_config(experiment.target, self.configs)])
        self.common: dict[Path, Tree] = {Path("common"): experiment.common or {}}
        self.methods = {name: read_method(name, own, self.configs) for name, own in experiment.methods.items()}
        self.jobs: dict[str, Job] = {}
        self.recipes: list[tuple[str, Recipe]] = []  # label and settings of each job
        self.begun: list[str] = []  # shared jobs whose own needs are being planned
        self.main = cache(self._main)

    def trained(self, name: str, train: int, split: int, seed: int) -> Job:
        """Return the job of a method at a number of scans, a split and a seed."""
        method, layers = self.methods[name]
        grid: Tree = {"train": train, "split_seed": split, "seed": seed}
        needs: list[Job] = []
        if method.members:
            needs = self._members(name, method.members, train, split, seed)
            known = setting_names(self.main(method.script))
            grid = {key: value for key, value in grid.items() if key in known} | {
                "runs": [str(job.folder) for job in needs]
            }
        for path, layer in (layers | self.common).items():
            if fixed := sorted(layer.keys() & {*SET_HERE, *grid}):
                raise ConfigError(f"{path}: the experiment sets {', '.join(fixed)}. Leave it out.")
        label = f"{slug(name)}-{train}-split-{split}-seed-{seed}"
        return self._job(
            label, method.script, self._base(method.script) | layers, grid, needs, f"{name}, {train} scans"
        )

    def _members(self, name: str, members: Members, train: int, split: int, seed: int) -> list[Job]:
        other = one_of(members.method, self.methods, f"methods.{name}.members.method")
        if self.methods[other][0].members:
            raise ConfigError(f"methods.{name}.members: {other} has members itself. Name a method that has none.")
        return [self.trained(other, train, split, seed * members.seeds + k) for k in range(members.seeds)]

    def _base(self, script: str) -> dict[Path, Tree]:
        """Return the layers that all methods begin from; a script other than the target's takes the settings that it knows."""
        layers = self.target | self.common
        if script == Method.script:
            return layers
        known = setting_names(self.main(script))
        return {path: {key: value for key, value in layer.items() if key in known} for path, layer in layers.items()}

    def shared(self, name: str) -> Job:
        """Return a job of `shared`."""
        entries = self.experiment.shared or {}
        place = f"shared.{one_of(name, entries, f'The shared job that @{name} stands for')}"
        if name in self.begun:
            raise ConfigError(f"{place} needs itself, by way of {' and '.join(self.begun)}. Break the circle.")
        self.begun.append(name)
        try:
            step, layers = read_step(place, entries[name], self.configs)
            return self._job(slug(name), step.script, layers, {}, [], name)
        finally:
            self.begun.remove(name)

    def scored(self, name: str, cell: Cell) -> Job:
        """Return the job that scores a run, or the members of an ensemble, again."""
        step, layers = read_step(f"scores.{name}", (self.experiment.scores or {})[name], self.configs)
        runs = list(cell.job.needs) if self.methods[cell.method][0].members else [cell.job]
        label = f"{cell.job.name.rpartition('-')[0]}-{slug(name)}"
        own: Tree = {"runs": [str(job.folder) for job in runs]}
        return self._job(label, step.script, layers, own, runs, f"{name} of {cell.method}")

    def _job(
        self, label: str, script: str, layers: Mapping[Path, Tree], own: Tree, needs: list[Job], group: str
    ) -> Job:
        found = {job.name: job for job in needs}

        def fill(value: Any) -> Any:
            if isinstance(value, str) and value.startswith("@"):
                name, slash, path = value[1:].partition("/")
                job = self.shared(name)
                found[job.name] = job
                return f"{job.folder}{slash}{path}"
            return inside(value, fill)

        filled = {path: fill(layer) for path, layer in layers.items()}
        try:
            recipe = resolve_layers(self.main(script), filled, own)
            given = recipe.arguments
            check_source(given.get("source"), given.get("start", "prior"), given.get("freeze", ()))
        except ConfigError as error:
            raise ConfigError(f"{label}: {error}") from error
        settings = {key: value for key, value in recipe.plain().items() if key not in NOT_HASHED}
        key = digest(script, settings, tuple(found.values()))
        if key not in self.jobs:
            old = sorted(path for path in self.experiment.folder.glob(f"*-{key}") if path.is_dir())
            folder = old[0] if old else self.experiment.folder / f"{label}-{key}"
            self.jobs[key] = Job(self.scripts / f"{script}.py", folder, settings, tuple(found.values()), group)
            self.recipes.append((label, recipe))
        return self.jobs[key]

    def _main(self, script: str) -> Callable[..., Any]:
        paths = {path.stem: path for path in self.scripts.glob("*.py")}
        main: Callable[..., Any] = runpy.run_path(str(paths[one_of(script, paths, "script")]))["main"]
        return main


def check_cases(recipe: Recipe, required: bool = True) -> None:
    """Draw the split of a job that has one, so that a number of cases beyond those that there are is found now.

    Args:
        recipe: settings of the job.
        required: refuse data that are not there; otherwise nothing is checked without them.

    Raises:
        DataError: if there are too few cases.
    """
    data, plan = recipe.arguments.get("data"), recipe.arguments.get("plan")
    if isinstance(data, Recipe) and isinstance(plan, Recipe):
        try:
            names = data.build().names()
        except DataError:
            if required:
                raise
        else:
            plan.build().draw(names)


def slug(name: str) -> str:
    """Return a name as a part of a file's name.

    Example:
        >>> slug("UNet-DWP, KL weight 0.01")
        'UNet-DWP_KL_weight_0.01'
    """
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "job"
