"""Where jobs run: what the runner asks of a pool on this machine, or of a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pyro_dwp.experiments.job import Job


class Engine(ABC):
    """A place where jobs run."""

    @abstractmethod
    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse jobs that could never run here.

        Raises:
            ConfigError: naming what a job asks for and what there is.
        """

    @abstractmethod
    def start(self, jobs: Sequence[Job]) -> list[Job]:
        """Start as many of these jobs as there is room for now, the first ones first, and return them.

        Args:
            jobs: not done, none of them started before, with all that they need done.
        """

    @abstractmethod
    def ended(self) -> dict[Job, str]:
        """Wait about a second, and return the jobs that have ended since the last call: why each failed, "" if it did not."""

    @abstractmethod
    def stop(self) -> None:
        """Let go of all jobs, at the end of the runner: those that still run can be taken up or resumed later."""

    @abstractmethod
    def width(self, job: Job) -> int:
        """Return how many jobs such as this one can run at the same time."""
