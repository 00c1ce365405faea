"""Jobs on a cluster, through Slurm and submitit (extra `slurm`).

What is submitted is a command line: submitit stores the name of `subprocess.check_call` and the words of the command. When Slurm
preempts the job, or its time is nearly over, submitit is signalled and has it queued again, and the same command then resumes the
run (see `attempt`). What became of a job is read from its folder, never from what submitit stores.
"""

import getpass
import importlib
import io
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any, Literal, final

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.job import Job
from pyro_dwp.files import write_text

POLL = 10.0  # seconds between two questions to Slurm
PATIENCE = 30.0  # seconds until the files of a job that has ended must be seen here, over a network file system


@final
class Slurm(Engine):
    """A Slurm cluster. Jobs that can run at the same time are submitted as arrays, those that need them when they are done.

    The runner only watches: stopped or killed, it leaves the cluster's jobs as they are, and finds them again when it is started
    anew. `scancel` stops them. A job takes as many cores as its setting `threads` says (one where that is null), and a GPU where
    its `device` is cuda. Working folder and Python must be the same on all nodes.

    Args:
        minutes: time limit of a job, after which it is queued again and resumed.
        memory_gib: main memory of a job, in GiB.
        parallel: jobs of an array that may run at the same time.
        requeues: how often a job may reach its time limit; preemptions do not count.
        warning_seconds: how long before its end a job is told, so that it can be queued again.
        partition: of the cluster; None takes the default.
        account: that pays; None takes the default.
        options: further options of sbatch, such as {constraint: avx512}.
        cluster: slurm, or local: submitit's imitation of a cluster on this machine, to try things out.
    """

    @checked
    def __init__(
        self,
        minutes: PositiveInt = 240,
        memory_gib: PositiveFloat = 4.0,
        parallel: PositiveInt = 256,
        requeues: NonNegativeInt = 10,
        warning_seconds: PositiveInt = 90,
        partition: str | None = None,
        account: str | None = None,
        options: dict[str, Any] | None = None,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        self.submitit = import_submitit()
        self.parallel, self.cluster = parallel, cluster
        self.requeues = {"slurm_max_num_timeout": requeues} if cluster == "slurm" else {}
        self.parameters: dict[str, Any] = {"timeout_min": minutes, "mem_gb": memory_gib}
        if cluster == "slurm":
            sbatch: dict[str, Any] = {"partition": partition, "account": account, "signal_delay_s": warning_seconds}
            sbatch |= {"array_parallelism": parallel, "additional_parameters": {"requeue": True, **(options or {})}}
            self.parameters |= {f"slurm_{key}": value for key, value in sbatch.items() if value is not None}
        self.handles: dict[str, Any] = {}  # number of a job → submitit's own
        self.running: dict[Job, str] = {}  # job → its number in Slurm
        self.gone: dict[Job, float] = {}  # job that left the queue → when that was seen
        self.queue, self.asked = set[str](), -POLL

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse to go on where there is no Slurm."""
        self._largest_array()

    def start(self, jobs: Sequence[Job]) -> list[Job]:
        """Submit all jobs, those that ask for the same cores and GPUs in one array or, if it is too large, in several."""
        if not jobs:
            return []
        self._look(force=True)
        alike: dict[tuple[int, bool], list[Job]] = defaultdict(list)
        for job in jobs:
            if (number := number_of(job)) in self.queue:
                self.running[job] = number
            else:
                alike[job.threads or 1, job.on_gpu].append(job)
        most = self._largest_array()
        for (cores, gpu), found in alike.items():
            for first in range(0, len(found), most):
                self._submit(found[first : first + most], cores, gpu)
        return list(jobs)

    def ended(self) -> dict[Job, str]:
        """Return the jobs that are done, and those that have left the queue without."""
        time.sleep(1)
        self._look()
        self.gone = {
            job: self.gone.get(job, time.monotonic())
            for job, number in self.running.items()
            if number not in self.queue
        }
        late = [job for job, since in self.gone.items() if time.monotonic() - since > PATIENCE]
        ended = {job: job.failure(0) for job in self.running if job.done or job in late}
        for job in ended:
            del self.running[job]
        return ended

    def stop(self) -> None:
        """Leave the cluster's jobs as they are; wait for those of the imitation."""
        for handle in self.handles.values() if self.cluster == "local" else ():
            handle.wait()

    def width(self, job: Job) -> int:
        """Return how many jobs of an array may run at the same time."""
        return self.parallel

    def _submit(self, jobs: Sequence[Job], cores: int, gpu: bool) -> None:
        folder = jobs[0].folder.parent
        executor = self.submitit.AutoExecutor(folder / ".slurm", cluster=self.cluster, **self.requeues)
        executor.update_parameters(
            name=folder.name,
            cpus_per_task=cores,
            gpus_per_node=int(gpu),
            **self.parameters,
            **({"slurm_setup": [f"export OMP_NUM_THREADS={cores}"]} if self.cluster == "slurm" else {}),
        )
        errors = self.submitit.core.utils
        try:
            with redirect_stderr(io.StringIO()), executor.batch():  # where submitit repeats what sbatch said
                handles = [executor.submit(self._call(job)) for job in jobs]
        except (errors.FailedJobError, errors.FailedSubmissionError) as error:
            said = " ".join(str(error).split()) or "it said nothing"
            raise ConfigError(
                f"Slurm refused {len(jobs)} job(s): {said}. Correct `where`, and run the same command again; what was submitted "
                "before is kept."
            ) from error
        for job, handle in zip(jobs, handles, strict=True):
            write_text(number_file(job), handle.job_id)
            self.running[job], self.handles[handle.job_id] = handle.job_id, handle
            self.queue.add(handle.job_id)

    def _call(self, job: Job) -> Any:
        """Return the command of a job as something that submitit can queue again."""
        sequence = self.submitit.helpers.FunctionSequence()
        sequence.add(subprocess.check_call, job.command())
        return sequence

    def _look(self, force: bool = False) -> None:
        """Ask Slurm what is queued or runs, every ten seconds; what it does not answer is asked again later."""
        if self.cluster == "local":
            self.queue = {number for number, handle in self.handles.items() if not handle.done()}
        elif force or time.monotonic() - self.asked >= POLL:
            self.asked = time.monotonic()
            with suppress(ConfigError):
                self.queue = set(
                    ask("squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}").split()
                )

    def _largest_array(self) -> int:
        """Return the most jobs that an array may have."""
        if self.cluster == "local":
            return 1000
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
        return max(1, int(found[1])) if found else 1


def ask(*command: str) -> str:
    """Return the answer of one of Slurm's commands.

    Raises:
        ConfigError: if there is no such command here, or it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"Slurm's {command[0]} cannot be run here ({error}). Start experiments on a node that submits jobs, or with "
            "--where local."
        ) from error
    if done.returncode:
        raise ConfigError(
            f"Slurm's {command[0]} failed: {' '.join(done.stderr.split())}. Ask again when Slurm answers, or "
            "choose --where local."
        )
    return done.stdout


def number_file(job: Job) -> Path:
    """Return the file that holds the number under which a job was submitted last."""
    return job.folder.with_name(f"{job.name}.slurm")


def number_of(job: Job) -> str:
    """Return the number under which a job was submitted last, "" if it never was."""
    return number_file(job).read_text() if number_file(job).exists() else ""


def import_submitit() -> Any:
    """Return submitit.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise ConfigError(
            f'Slurm needs submitit, which cannot be imported ({error}). Install it with: pip install "pyro-dwp[slurm]"'
        ) from error
