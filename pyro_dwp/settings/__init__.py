"""From YAML and flags to a plain tree, checked against annotated signatures, to objects.

This package knows nothing of priors and guides.
"""

from pyro_dwp.settings.classes import Offers
from pyro_dwp.settings.recipes import Call, Flat, Recipe, instantiate, resolve, setting_names
from pyro_dwp.settings.tree import merge

__all__ = ["Call", "Flat", "Offers", "Recipe", "instantiate", "merge", "resolve", "setting_names"]
