"""Pyro programs: short, meant to be read and edited; and the whole method in a notebook."""

from models.segmenter import Segmenter

__all__ = ["Segmenter"]
