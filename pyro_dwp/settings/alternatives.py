"""Settings of which a later layer's takes the place of an earlier one's, such as a spacing that of a grid."""

import inspect
from collections.abc import Mapping
from typing import Any

from pyro_dwp.settings.flag_text import is_null
from pyro_dwp.settings.signatures import MISSING, InsteadOf, marks_of, parameters_of, slot_of
from pyro_dwp.settings.tree import CLASS, Tree, is_settings


def without_alternatives(target: Any, tree: Mapping[str, Any], layer: Mapping[str, Any], given: int = 0) -> Tree:
    """Return settings in which what a layer sets has taken the place of its alternatives, which become None.

    Args:
        target: class or function that the settings are for; they have been resolved once.
        tree: lower layers with the layer on top.
        layer: the top one. What it sets itself stays, and so does everything beside a setting that it sets to None.
        given: arguments of the target that come from its caller.

    Raises:
        ConfigError: if the tree names a class that there is not.
    """
    found = dict(tree)
    for name, hint, default in parameters_of(target, given):
        slot = slot_of(hint)
        if slot and slot.flat:
            found |= without_alternatives(slot.base, found, layer, slot.given)
        elif slot and is_settings(layer.get(name)) and is_settings(tree.get(name)):
            named = CLASS in tree[name] or default is MISSING or not inspect.isclass(default)
            inner = slot.target(tree[name].get(CLASS), name) if named else default
            found[name] = without_alternatives(inner, tree[name], layer[name], slot.given)
        for mark in marks_of(hint, InsteadOf):
            for own, other in ((name, mark.other), (mark.other, name)):
                if other not in layer and not is_null(layer.get(own)):
                    found[other] = None
    return found
