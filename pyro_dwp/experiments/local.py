"""Jobs on this machine: as many at a time as cores, memory and GPUs allow."""

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import final

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.job import Job


@final
class Local(Engine):
    """A pool of processes on this machine.

    A job takes as many cores as its setting `threads` says (all of them where that is null), the same memory as every other, and,
    where its `device` is cuda, a GPU of its own. Each runs in a session of its own: Ctrl-C reaches it through the pool, once.

    Args:
        cores: CPU cores to use; None for all that this process may use.
        memory_gib: main memory to use, in GiB; None for all that there is.
        job_memory_gib: memory that a job is expected to need, in GiB.
        gpus: GPUs to use, the first ones; None for all that torch finds.
    """

    @checked
    def __init__(
        self,
        cores: PositiveInt | None = None,
        memory_gib: PositiveFloat | None = None,
        job_memory_gib: PositiveFloat = 2.0,
        gpus: NonNegativeInt | None = None,
    ) -> None:
        self.cores = cores or available_cores()
        self.places = max(1, int((memory_gib or available_memory()) / job_memory_gib))
        self.gpus = visible_gpus()[:gpus]
        self.running: dict[Future[str], tuple[Job, str]] = {}
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.pool, self.lock, self.stopped = ThreadPoolExecutor(self.cores), Lock(), False

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse a job with more threads than there are cores, or one on a GPU where there is none."""
        for job in jobs:
            if self._cores(job) > self.cores:
                raise ConfigError(
                    f"{job.name} has {job.threads} threads, but where.cores is {self.cores}. Lower the one or raise the other."
                )
            if job.on_gpu and not self.gpus:
                raise ConfigError(f"{job.name} has device {job.settings['device']}, but no GPU may be used. Use cpu.")

    def start(self, jobs: Sequence[Job]) -> list[Job]:
        """Start those jobs for which cores, memory and GPUs are free, each in a thread that waits for it."""
        started = []
        for job in jobs:
            free = self.cores - sum(self._cores(other) for other, _ in self.running.values())
            gpus = [gpu for gpu in self.gpus if gpu not in {taken for _, taken in self.running.values()}]
            if self._cores(job) <= free and len(self.running) < self.places and (gpus or not job.on_gpu):
                gpu = gpus[0] if job.on_gpu else ""
                future = self.pool.submit(self._attempt, job, job.command(), gpu)
                self.running[future] = job, gpu
                started.append(job)
        return started

    def ended(self) -> dict[Job, str]:
        """Wait until a job ends, at most a second, and return those that have ended."""
        return {self.running.pop(future)[0]: future.result() for future in wait(self.running, 1, FIRST_COMPLETED).done}

    def stop(self) -> None:
        """Send each job a Ctrl-C, upon which it keeps its last checkpoint, and wait for all."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                process.send_signal(signal.SIGINT)
        self.pool.shutdown(cancel_futures=True)

    def width(self, job: Job) -> int:
        """Return how many such jobs fit on this machine."""
        most = min(self.cores // self._cores(job), self.places)
        return max(1, min(most, len(self.gpus)) if job.on_gpu else most)

    def _cores(self, job: Job) -> int:
        return job.threads or self.cores

    def _attempt(self, job: Job, command: list[str], gpu: str) -> str:
        threads = {"OMP_NUM_THREADS": str(self._cores(job))}
        environment = os.environ | threads | {"CUDA_VISIBLE_DEVICES": gpu}  # "" hides the GPUs
        with self.lock:
            if self.stopped:
                return "stopped"
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )
            self.processes.add(process)
        _, said = process.communicate()
        with self.lock:
            self.processes.discard(process)
        return job.failure(process.returncode, said.decode(errors="replace"))


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> float:
    """Return the main memory of this machine, in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES may name, of the GPUs that torch finds."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else list(map(str, range(torch.cuda.device_count())))
