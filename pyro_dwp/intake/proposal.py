"""Settings of run/svi_target.py that fit a set of scans and a machine, each with its reason."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import yaml

from pyro_dwp.data import Preprocess
from pyro_dwp.errors import DataError
from pyro_dwp.intake.budget import Budget
from pyro_dwp.intake.grid_choice import ENOUGH, Classes, GridChoice, choose_grid
from pyro_dwp.intake.survey import Survey
from pyro_dwp.settings import Tree, instantiate, merge, without_alternatives
from pyro_dwp.train import Machine, Schedule

STEPS, EVERY = 400, 25  # as run/configs/lgg.yaml: steps in all, and from one validation to the next
END = "...\n"  # of a YAML document that is a plain value
SHARE, MOST_VALIDATION, MOST_TEST = 0.2, 10, 50  # of the scans that are validated with, and that are tested on


@dataclass(frozen=True)
class Setting:
    """A setting, why it has its value, and the settings below it."""

    name: str
    value: Any = None
    reason: str = ""
    below: Sequence["Setting"] = field(default_factory=tuple)

    def tree(self) -> Any:
        """Return its plain value."""
        return {setting.name: setting.tree() for setting in self.below} if self.below else self.value

    def lines(self, indent: str = "") -> Iterator[str]:
        """Yield it as YAML, the reason above it."""
        start = f"{indent}# "
        yield from textwrap.wrap(self.reason, 110, initial_indent=start, subsequent_indent=start)
        if self.below:
            yield f"{indent}{self.name}:"
            for setting in self.below:
                yield from setting.lines(f"{indent}  ")
        else:
            text = yaml.safe_dump(self.value, default_flow_style=True, allow_unicode=True, width=10_000)
            yield f"{indent}{self.name}: {text.removesuffix(END).rstrip()}"


@dataclass(frozen=True)
class Proposal:
    """Settings that run.

    Args:
        settings: in the order in which they are written.
        summary: a few lines for whoever does not read the reasons.
    """

    settings: Sequence[Setting]
    summary: Sequence[str]

    def tree(self) -> Tree:
        """Return the plain tree of the settings."""
        return {setting.name: setting.tree() for setting in self.settings}

    def to_yaml(self) -> str:
        """Return the settings as YAML, each reason as a comment above its setting."""
        lines = [f"# {line}" for line in self.summary] + [line for it in self.settings for line in it.lines()]
        return "\n".join(lines) + "\n"


def propose(
    survey: Survey, machine: Machine, data: Tree, given: Preprocess | None = None, schedule: Tree | None = None
) -> Proposal:
    """Choose settings for a set of scans and a machine.

    Args:
        survey: of the scans.
        machine: that will compute.
        data: the setting `data` that the survey's source was built from.
        given: what is settled: a grid or a spacing, a label map, structures.
        schedule: settings of it that override what is proposed, so that the time that is named is that of the run.

    Raises:
        DataError: if fewer than two cases can be used, or none has a label with foreground.
    """
    cases, given, budget = list(survey.usable.values()), given or Preprocess(), Budget.of(machine)
    if not survey.labels:
        raise DataError(
            f"There is nothing to learn from: no case of {len(survey.cases)} that can be read has labels. "
            "Files of labels have mask, seg or label in their names, or in that of their folder; other names are given by label."
        )
    if len(cases) < 2:
        raise DataError(
            "One scan to learn from and one to test on are the least, but only one can be used. Label another."
        )
    classes, parts = _classes(survey, given), deal(len(cases))
    train, validation, test = parts
    choice, hurried = choose_grid(survey.source, cases, classes, budget, STEPS, test, given)
    every = max(1, round(EVERY / ceil(train / choice.batch)))
    seconds = _seconds(choice, budget, parts, _schedule(choice, every, schedule or {}))
    grid = f"{' x '.join(map(str, choice.grid))} voxels of {' x '.join(f'{edge:.3g}' for edge in choice.spacing)} mm"
    permitted = f"Highest Dice that this grid permits: {choice.dice:.2f}"
    worst = f"label {choice.worst}" if choice.worst.isdecimal() else choice.worst
    permitted += "." if len(classes.structures or survey.labels) == 1 else f" (for {worst}, the worst structure)."
    cost = f"About {_duration(seconds)} on {budget.place}."
    summary = (
        f"{survey.source.layout}: {len(cases)} labelled scans, of which {train} to learn from, {validation} to validate with and "
        f"{test} to test on" + (f"; {len(survey.left_out)} cannot be used." if survey.left_out else "."),
        f"Grid: {grid}. {permitted}" + (" A finer one would take too long here." if hurried else ""),
        cost,
    )
    settings = [
        *_source(survey, data),
        _preprocess(choice, classes, survey, permitted, hurried),
        *_network(survey, classes),
        *_split(parts, survey),
        *_training(choice, parts, budget, every, cost),
    ]
    return Proposal(settings, summary)


def deal(count: int) -> tuple[int, int, int]:
    """Return how many scans to learn from, to validate with and to test on.

    Example:
        >>> deal(2), deal(5), deal(8), deal(10), deal(70)
        ((1, 0, 1), (4, 0, 1), (4, 2, 2), (6, 2, 2), (46, 10, 14))
    """
    test = min(MOST_TEST, max(1, round(SHARE * count)))
    validation = min(MOST_VALIDATION, round(SHARE * count))
    validation = validation if validation > 1 else 0
    return count - test - validation, validation, test


def _classes(survey: Survey, given: Preprocess) -> Classes:
    labels = survey.labels
    if given.label_map is not None:
        return Classes(dict(given.label_map), given.structures, max(1, *given.label_map.values()) + 1)
    declared = survey.source.label_map()
    if declared and set(labels) <= declared.keys():
        return Classes(declared, given.structures or survey.structures, max(declared.values()) + 1)
    contiguous = labels == list(range(1, len(labels) + 1))
    label_map = None if contiguous else {label: number for number, label in enumerate(labels, 1)}
    return Classes(label_map, given.structures or survey.structures, len(labels) + 1)


def _source(survey: Survey, data: Tree) -> Iterator[Setting]:
    yield Setting("data", data, f"Recognised: {survey.source.layout}.")
    if survey.left_out:
        why = "; ".join(f"{name} {text.partition('. ')[0]}" for name, text in survey.left_out.items())
        yield Setting("leave_out", sorted(survey.left_out), f"Cannot be used: {why}.")


def _preprocess(choice: GridChoice, classes: Classes, survey: Survey, permitted: str, hurried: bool) -> Setting:
    why = f"{permitted} It is the Dice of the truth brought to the grid and back, in the median case. "
    why += (
        "A finer grid permits more, but takes too long on this machine."
        if hurried
        else f"This is the coarsest on which it is at least {ENOUGH}."
        if choice.dice >= ENOUGH
        else "It is what was asked for, or the scans' own."
    )
    own = Setting("grid", list(choice.grid), f"Voxels that every scan is resampled to. {why}")
    if not choice.whole:
        own = Setting("spacing", [round(edge, 3) for edge in choice.spacing], f"Millimetres. {why}")
    below = [own]
    if classes.label_map is not None:
        below.append(
            Setting(
                "label_map", classes.label_map, "Class of each stored label: the network counts from 0 without gaps."
            )
        )
    if classes.structures is not None:
        below.append(Setting("structures", classes.structures, "What is scored, by its labels, as the data say."))
    return Setting("preprocess", below=below)


def _network(survey: Survey, classes: Classes) -> Iterator[Setting]:
    facts = next(iter(survey.usable.values()))
    slices = all(it.shape[2] == 1 for it in survey.usable.values())
    named = ", ".join(name for name in survey.source.sequences(facts.channels) if not name.isdecimal())
    below = [
        Setting("class", "unet"),
        Setting("in_channels", facts.channels, f"Sequences of a scan: {named}." if named else "Sequences of a scan."),
        Setting("classes", classes.count, f"Background and {', '.join(survey.label_names().values())}."),
        *([Setting("ndim", 2, "The scans are single slices.")] if slices else []),
    ]
    yield Setting("network", below=below)
    learned = (
        "What kernels of trained networks look like; it ships with the package, and serves any number of channels."
    )
    yield (
        Setting("prior", "gaussian", "No prior of 3x3 kernels ships.")
        if slices
        else Setting("prior", "deep_weight", learned)
    )
    yield Setting("guide", "mean_field")
    yield Setting("likelihood", "dice_cross_entropy")
    yield Setting("kl_weight", 0.001 if slices else 0.1)
    yield Setting("kernels_per_group", 400)
    yield Setting("initial_scale", 0.1)


def _split(parts: tuple[int, int, int], survey: Survey) -> Iterator[Setting]:
    train, validation, test = parts
    yield Setting(
        "train",
        train,
        f"Of {sum(parts)} labelled scans; a fifth each to validate with and to test on, where there are enough.",
    )
    yield Setting(
        "validation", validation, "" if validation else "Too few scans to give some away; the schedule needs none."
    )
    yield Setting("test", test)


def _training(
    choice: GridChoice, parts: tuple[int, int, int], budget: Budget, every: int, cost: str
) -> Iterator[Setting]:
    if choice.patch is not None:
        why = (
            f"Whole scans are too large for a step, or differ in shape; {choice.batch} patches fit, on {budget.place}."
        )
        yield Setting("patch", list(choice.patch), why)
    common = [
        Setting("steps", STEPS, cost),
        Setting("batch_size", choice.batch),
        Setting("learning_rate", 3.0e-3),
        Setting("validate_every", every, f"Epochs; {EVERY} steps."),
        Setting("checkpoint_every", every),
    ]
    plateau = [
        Setting("factor", 0.3),
        Setting("patience", 4),
        Setting("threshold", 0.001),
        Setting("stop_rate", 1.0e-5),
    ]
    cosine = [Setting("decay", "cosine", "The rate falls with time, since there are no validation scans to watch.")]
    yield Setting("schedule", below=[*common, *(plateau if parts[1] else cosine)])
    yield Setting("samples", choice.samples, "Networks drawn from the posterior to predict with.")


def _schedule(choice: GridChoice, every: int, asked: Tree) -> Schedule:
    """Return the schedule of the run: what is proposed, and flags over it."""
    own = {"steps": STEPS, "batch_size": choice.batch, "validate_every": every}
    built: Schedule = instantiate(Schedule, without_alternatives(Schedule, merge(own, asked), asked), "schedule")
    return built


def _seconds(choice: GridChoice, budget: Budget, parts: tuple[int, int, int], schedule: Schedule) -> float:
    train, validation, test = parts
    epochs = schedule.length(train)
    passes = validation * (epochs // (schedule.validate_every or epochs + 1)) + test * choice.samples
    voxels = choice.step_voxels * schedule.batch_size / choice.batch
    return budget.training(epochs * schedule.batches(train), voxels) + budget.prediction(
        passes, prod(choice.grid), choice.patch is not None
    )


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
