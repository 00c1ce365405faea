"""One attempt at a job, as a command: begin it, resume what was begun, or do nothing where it is done.

    python attempt.py FOLDER SCRIPT CONFIG

The log FOLDER.log receives what the script says, and is also the lock of the job: this process locks it and then becomes the
script, so that the lock lasts exactly as long as the script runs, however either ends. An attempt at a job that still runs,
because its runner was killed and started again, waits for it. The same command can therefore be given any number of times: by a
local pool, by Slurm after a preemption, or by hand. It needs only the standard library, and starts at once.
"""

import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path

KEPT = ("checkpoint", "history.json", "*.safetensors", "*.nii.gz")  # a run that has none of them begins anew


def attempt(folder: Path, script: str, config: str) -> None:
    """Become the script, or return if metrics.json says that the job is done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    fcntl.flock(log, fcntl.LOCK_EX)
    if (folder / "metrics.json").exists():
        return
    for stream in (1, 2):
        os.dup2(log, stream, inheritable=True)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # with which Slurm tells submitit, and all below it, of the end
    resume = []
    if (folder / "config.yaml").exists() and any(any(folder.rglob(pattern)) for pattern in KEPT):
        resume = ["--resume"]
    else:
        shutil.rmtree(folder, ignore_errors=True)
    os.execv(sys.executable, [sys.executable, script, "--config", config, *resume])


if __name__ == "__main__":
    attempt(Path(sys.argv[1]), *sys.argv[2:])
