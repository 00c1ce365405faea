"""Errors that a user can act on: each message says what was expected, what was found, where, and the cure."""

import difflib
import re
from collections.abc import Iterable

LISTED = 30
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are no UTF-8


class PyroDwpError(Exception):
    r"""Base of every error that the library raises on bad input; scripts print its message and exit with status 2.

    The message is one line that can be printed, whatever the names and values in it: control characters are escaped.

    Example:
        >>> print(PyroDwpError("There is no file a\nb."))
        There is no file a\nb.
    """

    def __str__(self) -> str:
        return UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], super().__str__())


class ConfigError(PyroDwpError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(PyroDwpError, ValueError):
    """A file or folder of images, labels or kernels that cannot be used as it is."""


class WriteError(DataError):
    """A file that cannot be written, e.g. because the disk is full; what it would have replaced is intact."""


class CheckpointError(PyroDwpError, ValueError):
    """A stored network, prior or training state that does not fit, or cannot be read."""


class TrainingError(PyroDwpError, ArithmeticError):
    """A training that cannot go on, e.g. because its loss is no longer a number."""


class Interrupted(KeyboardInterrupt):
    """The user, or the system, stopped a script (Ctrl-C, SIGTERM, SIGHUP); the message says what was kept and how to resume."""


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
