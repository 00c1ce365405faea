"""How long a training will still take."""

import time
from collections import deque
from statistics import median

KEPT = 200


class Pace:
    """The time that a training has left, from the medians of what its last steps, and the pauses between epochs, have taken.

    A median does not count the hours that a laptop slept in the middle of a step, nor the first step, in which libraries load.

    Args:
        epochs: that are left.
        batches: steps per epoch.

    Example:
        >>> pace = Pace(epochs=1, batches=10)
        >>> pace.left(), pace.step(), f"{pace.left():.0f}"
        (None, None, '0')
    """

    def __init__(self, epochs: int, batches: int) -> None:
        self.epochs, self.steps = epochs, epochs * batches
        self.stepped: deque[float] = deque(maxlen=KEPT)
        self.paused: dict[bool, deque[float]] = {True: deque(maxlen=KEPT), False: deque(maxlen=KEPT)}
        self.since = time.monotonic()

    def step(self) -> None:
        """Note the end of a step."""
        self.steps -= 1
        self.stepped.append(self._lap())

    def epoch(self, validated: bool) -> None:
        """Note the end of an epoch, after the validation and the checkpoint, if any.

        Args:
            validated: whether there was a validation.
        """
        self.epochs -= 1
        self.paused[validated].append(self._lap())

    def left(self) -> float | None:
        """Return the seconds that are left; None before the first step has ended."""
        if not self.stepped:
            return None
        pauses = [kind for kind in self.paused.values() if kind]
        count = sum(map(len, pauses))
        pause = sum(len(kind) * median(kind) for kind in pauses) / count if count else 0.0
        return self.steps * median(self.stepped) + self.epochs * pause

    def _lap(self) -> float:
        before, self.since = self.since, time.monotonic()
        return self.since - before


def duration(seconds: float | None) -> str:
    """Return a number of seconds in words.

    Example:
        >>> [duration(seconds) for seconds in (None, 40, 400, 40000)]
        ['unknown', '40 s', '7 min', '11 h 7 min']
    """
    if seconds is None:
        return "unknown"
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
