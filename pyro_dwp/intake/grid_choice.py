"""Which grid, patch and batch: the coarsest that keeps the labels, as far as time and memory allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median

from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.intake.budget import PREDICTION, Budget, fit_patch
from pyro_dwp.intake.resolution import Edges, median_of_worst, permitted_dice, spacings
from pyro_dwp.intake.survey import CaseFacts

ENOUGH = 0.95  # of Dice: what the grid takes away is then little beside what two readers, or a network after few scans, differ by
SETTLED = 0.99  # finer spacings are not tried on a case
TRIED = 6  # cases that spacings are tried on
BATCH = 2  # scans in a step, as in run/configs/lgg.yaml
SAMPLES = (10, 5)  # networks to predict with, and where these take too long
Voxels = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """How labels become classes; see `Preprocess`."""

    label_map: dict[int, int] | None
    structures: dict[str, list[int]] | None
    count: int  # background included


@dataclass(frozen=True)
class GridChoice:
    """A grid for the network, and how a step is cut from it.

    Args:
        spacing: mm.
        grid: voxels of the median head.
        whole: whether every head is resampled to the grid and learned from as a whole; otherwise to the spacing.
        patch: voxels of the patches; None learns from whole heads.
        batch: scans in a step.
        samples: networks to predict with.
        dice: the highest that the grid permits: the median over cases, of the worst structure.
        worst: that structure.
    """

    spacing: Edges
    grid: Voxels
    whole: bool
    patch: Voxels | None
    batch: int
    samples: int = SAMPLES[0]
    dice: float = 1.0
    worst: str = ""

    @property
    def step_voxels(self) -> int:
        """Voxels of a step."""
        return self.batch * prod(self.patch or self.grid)

    def spacing_of(self, facts: CaseFacts) -> Edges:
        """Return the spacing, in mm, that a case is resampled to."""
        if not self.whole:
            return self.spacing
        d, h, w = (mm / edge for mm, edge in zip(_extent(facts), self.grid, strict=True))
        return d, h, w


def choose_grid(
    source: CaseSource,
    cases: Sequence[CaseFacts],
    classes: Classes,
    budget: Budget,
    steps: int,
    scored: int,
    given: Preprocess,
) -> tuple[GridChoice, bool]:
    """Return the coarsest grid on which every structure keeps its Dice, or the best of those that there is time for.

    Args:
        source: of the cases, of which a few are read again.
        cases: that can be used.
        classes: of the network.
        budget: of the machine.
        steps: of the training.
        scored: scans that will be predicted.
        given: a grid or a spacing that is settled; without one, several are tried.

    Returns:
        The choice, and whether a finer grid would have been better, had there been time.
    """
    every = [_choice(spacing, cases, budget, steps, given) for spacing in _spacings_to_try(cases, given)]
    tried = [replace(it, samples=samples) for it in every if (samples := _samples(it, budget, scored, it is every[0]))]
    scores = _scores(source, cases, classes, tried)
    found = [replace(it, worst=worst, dice=dice) for it, (worst, dice) in zip(tried, scores, strict=True)]
    if good := [it for it in found if it.dice >= ENOUGH]:
        return good[0], False
    return max(found, key=lambda it: it.dice), len(tried) < len(every)


def _spacings_to_try(cases: Sequence[CaseFacts], given: Preprocess) -> list[Edges]:
    own, extent = (_median([facts.spacing for facts in cases]), _median([_extent(facts) for facts in cases]))
    if given.spacing is not None:
        return [given.spacing]
    if given.grid is not None:
        d, h, w = (mm / edge for mm, edge in zip(extent, given.grid, strict=True))
        return [(d, h, w)]
    slices = all(facts.shape[2] == 1 for facts in cases)
    return [(d, h, own[2] if slices else w) for d, h, w in spacings(own, extent)]


def _choice(spacing: Edges, cases: Sequence[CaseFacts], budget: Budget, steps: int, given: Preprocess) -> GridChoice:
    """Return how steps are made at a spacing: of whole heads on one grid, two or one at a time, or of patches."""
    grids = [_grid(_extent(facts), spacing) for facts in cases]
    middle = given.grid or _grid(_median([_extent(facts) for facts in cases]), spacing)
    most, batch = budget.step_voxels(steps), min(BATCH, len(cases) - 1)
    one_grid = given.grid is not None or given.spacing is None or len({*grids}) == 1
    if one_grid and prod(middle) <= most:
        return GridChoice(spacing, middle, given.spacing is None, None, batch if batch * prod(middle) <= most else 1)
    smallest = given.grid or tuple(min(edges) for edges in zip(*grids, strict=True))
    return GridChoice(spacing, middle, given.grid is not None, fit_patch(smallest, most / batch), batch)


def _samples(choice: GridChoice, budget: Budget, scored: int, coarsest: bool) -> int:
    """Return how many networks there is time to predict with; 0 for none."""
    windows, voxels = choice.patch is not None, prod(choice.grid)
    fitting = [it for it in SAMPLES if budget.prediction(scored * it, voxels, windows) <= PREDICTION]
    return fitting[0] if fitting else SAMPLES[-1] * coarsest


def _scores(
    source: CaseSource, cases: Sequence[CaseFacts], classes: Classes, tried: Sequence[GridChoice]
) -> list[tuple[str, float]]:
    """Return the worst structure and its median of the highest Dice, for each grid; one case is in memory at a time."""
    rich = sorted((facts for facts in cases if facts.volumes), key=lambda facts: -len(facts.volumes or ()))
    chosen = rich[:: max(1, len(rich) // TRIED)][:TRIED]
    rows: list[list[Mapping[str, float]]] = [[] for _ in tried]
    for facts in chosen:
        scan, found = source.load(facts.name), {"": 0.0}
        for row, choice in zip(rows, tried, strict=True):
            if min(found.values()) < SETTLED:
                settings = classes.label_map, classes.structures, classes.count
                found = permitted_dice(scan, choice.spacing_of(facts), *settings)
            row.append(found)
    return [median_of_worst(row) for row in rows]


def _grid(extent: Edges, spacing: Edges) -> Voxels:
    d, h, w = (max(1, round(mm / edge)) for mm, edge in zip(extent, spacing, strict=True))
    return d, h, w


def _extent(facts: CaseFacts) -> Edges:
    d, h, w = (edge * mm for edge, mm in zip(facts.extent, facts.spacing, strict=True))
    return d, h, w


def _median(edges: Sequence[Edges]) -> Edges:
    d, h, w = (median(column) for column in zip(*edges, strict=True))
    return d, h, w
