"""What a user wants to see segmented: structures, each made up of one or several classes of the network.

The classes of a network exclude each other, structures need not: nested regions, such as a whole tumour and the core in it, are
unions of classes. The probability of a structure at a voxel is the sum of its classes'.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge, MinLen
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pyro_dwp.data.labels import labels_of_classes
from pyro_dwp.errors import ConfigError

NAME = re.compile(r"[^\W_]([\w -]*[^\W_])?")


def check_names(structures: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return structures whose names can be those of columns and, with underscores for spaces, of files; for pydantic."""
    for name in structures:
        if not NAME.fullmatch(name):
            rule = "The name of a structure has letters, digits, spaces, hyphens and underscores alone, such as 'whole tumour'"
            raise PydanticCustomError("name", "{rule}, but one is {name}", {"rule": rule, "name": repr(name)})
    if len({name.replace(" ", "_") for name in structures}) < len(structures):
        raise PydanticCustomError("name", "The names of two structures differ by more than a space and an underscore")
    return structures


Label = Annotated[int, Ge(0)]
Structures = Annotated[dict[str, Annotated[list[Label], MinLen(1)]], MinLen(1), AfterValidator(check_names)]
"""Annotation of a setting: names of structures → labels as they are stored."""


def classes_of_structures(
    structures: Mapping[str, Sequence[int]] | None, label_map: Mapping[int, int] | None, classes: int
) -> dict[str, tuple[int, ...]]:
    """Return name → classes of each structure.

    Args:
        structures: name → labels as they are stored; None makes each foreground class one, named by its stored label if the label
            map can be inverted, and by its number if not.
        label_map: stored label → class; None is the identity.
        classes: C of the network, background included.

    Raises:
        ConfigError: if a label is not a foreground class of the network, or a structure has only some of the labels that were
            merged into a class.

    Example:
        >>> classes_of_structures({"whole": [1, 2, 4], "core": [1, 4]}, {1: 1, 2: 2, 4: 3}, classes=4)
        {'whole': (1, 2, 3), 'core': (1, 3)}
        >>> classes_of_structures(None, {1: 1, 2: 2, 4: 3}, classes=4)
        {'1': (1,), '2': (2,), '4': (3,)}
    """
    if structures is None:
        labels = labels_of_classes(label_map, classes) or list(range(classes))
        return {str(labels[number]): (number,) for number in range(1, classes)}
    known = {label: label for label in range(classes)} if label_map is None else {0: 0, **label_map}
    found = {}
    for name, named in structures.items():
        if wrong := [label for label in named if not 0 < known.get(label, 0) < classes]:
            raise ConfigError(
                f"Structures are made up of labels that are classes of the network, but {name!r} names {wrong[0]}, and the "
                f"foreground has {sorted(label for label, number in known.items() if 0 < number < classes)}. Correct "
                "structures or label_map."
            )
        members = {known[label] for label in named}
        if torn := [label for label, number in known.items() if number in members and label not in named]:
            raise ConfigError(
                f"The label map merges {torn[0]} with others of the structure {name!r}, which does not name it. Name it, too, or "
                "give it a class of its own."
            )
        found[name] = tuple(sorted(members))
    return found


def class_names(
    structures: Mapping[str, Sequence[int]] | None, label_map: Mapping[int, int] | None, classes: int
) -> tuple[str, ...]:
    """Return what to call each foreground class in a legend: the structure that is this class alone, or its label.

    Args:
        structures: name → labels as they are stored.
        label_map: stored label → class; None is the identity.
        classes: C of the network, background included.

    Example:
        >>> class_names({"whole": [1, 2, 4], "enhancing": [4]}, {1: 1, 2: 2, 4: 3}, classes=4)
        ('label 1', 'label 2', 'enhancing')
    """
    plain = classes_of_structures(None, label_map, classes)
    names = {members: f"label {name}" for name, members in plain.items()}
    if structures is not None:
        names |= {members: name for name, members in classes_of_structures(structures, label_map, classes).items()}
    return tuple(names[number,] for number in range(1, classes))
