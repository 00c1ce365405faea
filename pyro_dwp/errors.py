"""Errors that a user can act on: each message says what was expected, what was found, where, and the cure."""

import difflib
from collections.abc import Iterable

LISTED = 30


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


def suggest(name: str, legal: Iterable[str], most: int = LISTED) -> str:
    """Return a sentence that lists the legal names and, where one is close, asks whether it was meant.

    Args:
        name: what was received.
        legal: every name that would have worked.
        most: of a longer list only the number of names is given, and those that are close.

    Example:
        >>> suggest("gausian", ["gaussian", "laplace"])
        "Legal names are: gaussian, laplace. Did you mean 'gaussian'?"
        >>> suggest("tumor", ["tumour", "plaques", "lesions"], most=2)
        "There are 3; close to it: tumour. Did you mean 'tumour'?"
    """
    names = sorted(legal)
    near = difflib.get_close_matches(name, names, n=min(5, most))
    if len(names) > most:
        close = f"; close to it: {', '.join(near)}" if near else ", none of them close"
        listing = f"There are {len(names)}{close}."
    else:
        listing = f"Legal names are: {', '.join(names)}." if names else "There are none."
    return listing + (f" Did you mean '{near[0]}'?" if near else "")
