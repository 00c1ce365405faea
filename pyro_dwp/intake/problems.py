"""What is wrong, or odd, about cases that can be read: seen only where they stand side by side."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_dwp.intake.survey import CaseFacts

ODD = 2.0  # a spacing this many times the median, or less than one over it, is noted
CUBES, FLAT = (
    (1.0, 1.0, 1.0),
    3.0,
)  # voxels said to be cubes of 1 mm in a grid so much longer than deep have probably lost their spacing
MANY = 32  # labels beyond which a label file is probably something else


@dataclass(frozen=True)
class Problem:
    """Something wrong with a case, or odd about it.

    Args:
        case: its name; "" for all of them.
        text: what, and what to do about it.
        error: whether the case cannot be used.
    """

    case: str
    text: str
    error: bool = False


def compare(cases: Sequence["CaseFacts"]) -> list[Problem]:
    """Return what is wrong with cases by themselves, or odd beside the others."""
    rules = (_labels, _label_values, _channels, _copies, _images_that_are_labels, _spacings, _lost_spacing, _axes)
    return [problem for rule in rules if cases for problem in rule(cases)]


def _labels(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    for facts in cases:
        if facts.volumes is None:
            yield Problem(facts.name, "has no label, so nothing can be learned from it. Add one.", error=True)
        elif not facts.volumes:
            yield Problem(
                facts.name, "its label has no foreground. Right for a healthy scan; otherwise pair the right files."
            )
        elif len(facts.volumes) > MANY:
            yield Problem(facts.name, f"its label holds {len(facts.volumes)} different values. Is it a label map?")


def _label_values(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    labelled = [facts for facts in cases if facts.volumes]
    holders = Counter(value for facts in labelled for value in facts.volumes or ())
    for facts in labelled:
        own = [value for value in facts.volumes or () if holders[value] == 1]
        usual = max(holders, key=lambda value: holders[value])
        if len(labelled) > 2 and own == [*(facts.volumes or ())] and len(own) == 1 < holders[usual]:
            yield Problem(
                facts.name,
                f"holds only label {own[0]}, where most cases hold label {usual}. If both mean the same, add "
                f"--preprocess.label_map '{{{usual}: {usual}, {own[0]}: {usual}}}'; otherwise leave it out.",
            )
            continue
        if own and len(labelled) > 2:
            yield Problem(facts.name, f"holds {_values(own)}, which no other case has. A slip, or a rare structure?")
        lacking = [
            value
            for value, count in holders.items()
            if value not in (facts.volumes or ()) and 2 * count > len(labelled)
        ]
        if lacking:
            yield Problem(facts.name, f"lacks {_values(sorted(lacking))}, which most cases have.")


def _channels(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    usual = Counter(facts.channels for facts in cases).most_common(1)[0][0]
    for facts in cases:
        if facts.channels != usual:
            text = f"has {facts.channels} channel(s), but most cases have {usual}. Add the missing sequences, or leave it out."
            yield Problem(facts.name, text, error=True)


def _copies(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    seen = set()  # pairs whose images are the same; so are their labels, then
    for kind, error in (("image", True), ("label", False)):
        owners: dict[object, list[str]] = defaultdict(list)
        for facts in cases:
            owners[facts.image_keys if kind == "image" else facts.label_key].append(facts.name)
        for key, names in owners.items():
            for name in names[1:] if key else ():
                cure = (
                    "One scan must not be both learned from and tested on; it is left out."
                    if error
                    else "Pair the right files."
                )
                if (name, names[0]) not in seen:
                    yield Problem(name, f"has the same {kind} as {names[0]}. {cure}", error)
                seen.add((name, names[0]))


def _images_that_are_labels(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    labels = {facts.label_key: facts.name for facts in cases if facts.label_key}
    for facts in cases:
        for number, key in enumerate(facts.image_keys):
            if key in labels:
                text = f"channel {number} of its image is the label of {labels[key]}. Name the files that hold images."
                yield Problem(facts.name, text, error=True)


def _spacings(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    usual = [median(facts.spacing[axis] for facts in cases) for axis in range(3)]
    for facts in cases:
        if any(not edge / ODD <= own <= edge * ODD for own, edge in zip(facts.spacing, usual, strict=True)):
            own, others = (" x ".join(f"{edge:.3g}" for edge in edges) for edges in (facts.spacing, usual))
            yield Problem(
                facts.name, f"has voxels of {own} mm, but the median is {others} mm. Another protocol, or a slip?"
            )


def _lost_spacing(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    flat = [facts for facts in cases if max(facts.shape) > FLAT * min(facts.shape) > FLAT]
    if all(facts.spacing == CUBES for facts in cases) and 2 * len(flat) > len(cases):
        yield Problem(
            "",
            "all voxels are said to be cubes of 1 mm, which the shapes make doubtful: the spacing was probably lost. Learning "
            "does not need it, but volumes (ml) and distances (mm) would be wrong.",
        )


def _axes(cases: Sequence["CaseFacts"]) -> Iterable[Problem]:
    usual = Counter(facts.axes for facts in cases).most_common(1)[0][0]
    for facts in cases:
        if facts.axes != usual:
            yield Problem(
                facts.name, f"is stored as {facts.axes}, most cases as {usual}. Harmless if its header is right."
            )


def _values(values: Sequence[int]) -> str:
    return f"label{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"
