"""A folder of scans: looked through once, and turned into settings that fit it and the machine."""

from pyro_dwp.intake.defaults import proposed_settings, settings_of_data
from pyro_dwp.intake.proposal import Proposal, Setting, propose
from pyro_dwp.intake.resolution import permitted_dice
from pyro_dwp.intake.survey import CaseFacts, Problem, Survey, survey

__all__ = [
    "CaseFacts",
    "Problem",
    "Proposal",
    "Setting",
    "Survey",
    "permitted_dice",
    "propose",
    "proposed_settings",
    "settings_of_data",
    "survey",
]
