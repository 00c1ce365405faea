"""Pyro programs: short, meant to be read and edited."""
