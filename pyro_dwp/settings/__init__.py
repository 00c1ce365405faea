"""From YAML and flags to a plain tree, checked against annotated signatures, to objects.

This package knows nothing of priors and guides.
"""

from pyro_dwp.settings.alternatives import without_alternatives
from pyro_dwp.settings.classes import Offers
from pyro_dwp.settings.recipes import Recipe, instantiate, resolve
from pyro_dwp.settings.signatures import Call, Flat, InsteadOf, Positional, positional_names, setting_names
from pyro_dwp.settings.tree import Text, Tree, merge

__all__ = [
    "Call",
    "Flat",
    "InsteadOf",
    "Offers",
    "Positional",
    "Recipe",
    "Text",
    "Tree",
    "instantiate",
    "merge",
    "positional_names",
    "resolve",
    "setting_names",
    "without_alternatives",
]
