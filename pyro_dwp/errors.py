"""Errors that a user can act on: each message says what was expected, what was found, where, and the cure."""

import difflib
from collections.abc import Iterable


class PyroDwpError(Exception):
    """Base of every error that the library raises on bad input; scripts print its message and exit with status 2."""


class ConfigError(PyroDwpError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(PyroDwpError, ValueError):
    """A file or folder of images, labels or kernels that cannot be used as it is."""


class CheckpointError(PyroDwpError, ValueError):
    """A stored network, prior or training state that does not fit, or cannot be read."""


class TrainingError(PyroDwpError, ArithmeticError):
    """A training that cannot go on, e.g. because its loss is no longer a number."""


class Interrupted(KeyboardInterrupt):
    """The user stopped a training (Ctrl-C); the message says what was kept and how to resume."""


def suggest(name: str, legal: Iterable[str]) -> str:
    """Return a sentence that lists the legal names and, where one is close, asks whether it was meant.

    Args:
        name: what was received.
        legal: every name that would have worked.

    Example:
        >>> suggest("gausian", ["gaussian", "laplace"])
        "Legal names are: gaussian, laplace. Did you mean 'gaussian'?"
    """
    names = sorted(legal)
    near = difflib.get_close_matches(name, names, n=1)
    listing = f"Legal names are: {', '.join(names)}." if names else "There are none."
    return listing + (f" Did you mean '{near[0]}'?" if near else "")
