"""A job: one run of a script with settings of its own, found again by a hash of them."""

import hashlib
import json
import re
import signal
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from pyro_dwp.experiments import attempt
from pyro_dwp.files import write_text
from pyro_dwp.runs.folder import CONFIG, FREE, ROOT
from pyro_dwp.settings.tree import Tree

METRICS = "metrics.json"
ERROR = re.compile(r"error: |[\w.]*(Error|Exception)\b")  # begins the line of a log that says why a script ended


@dataclass(frozen=True, eq=False)
class Job:
    """A run of a script.

    Args:
        script: file of the script.
        folder: of the run, runs/EXPERIMENT/LABEL-HASH; LABEL-HASH.yaml and LABEL-HASH.log lie beside it.
        settings: all of them, resolved, without the name of the run.
        needs: jobs whose results this one reads.
        group: jobs of one group are expected to take equally long; such as "unet_ri, 5 scans".
    """

    script: Path
    folder: Path
    settings: Tree
    needs: tuple["Job", ...] = ()
    group: str = ""

    @property
    def name(self) -> str:
        """Readable label and hash."""
        return self.folder.name

    @property
    def done(self) -> bool:
        """Whether the job has finished: metrics.json is renamed into place at its end."""
        return (self.folder / METRICS).exists()

    @property
    def log(self) -> Path:
        """What the script printed, over all attempts."""
        return self.folder.with_name(f"{self.name}.log")

    @property
    def threads(self) -> int | None:
        """CPU threads of the job; None if it takes as many as torch chooses."""
        return self.settings.get("threads") if "threads" in self.settings else 1

    @property
    def on_gpu(self) -> bool:
        """Whether the job's device is a GPU; without a device, a job of an experiment computes on the CPU."""
        return str(self.settings.get("device")).startswith("cuda")

    def command(self) -> list[str]:
        """Write the job's config and return the command that begins the job, or resumes it."""
        named = {**self.settings, "name": self.folder.relative_to(ROOT).as_posix()}
        text = yaml.safe_dump(named, sort_keys=False, allow_unicode=True, width=120)
        config = write_text(self.folder.with_name(f"{self.name}.yaml"), text)
        return [sys.executable, str(attempt.__file__), str(self.folder), str(self.script), str(config)]

    def failure(self, status: int, said: str = "") -> str:
        """Say in a line why an attempt failed; "" if the job is done.

        Args:
            status: that the attempt ended with; negative for a signal.
            said: what it printed beside its log.
        """
        if self.done:
            return ""
        logged = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line.strip() for line in reversed((logged + said).split("\n")) if line.strip()]
        errors = filter(ERROR.match, lines if status > 0 else [])  # below a traceback Pyro prints shapes
        last = next(errors, lines[0] if lines else "it said nothing")
        killed = f"killed by {signal.Signals(-status).name}; last line: " if status < 0 else ""
        return textwrap.shorten(killed + last.removeprefix("error: "), 300)

    def seconds(self) -> float | None:
        """Return how long the job took, from its last beginning to its scores; None if it has not finished.

        A job that was resumed counts at least the seconds that its metrics state.
        """
        if not self.done or not (self.folder / CONFIG).exists():
            return None
        stated = json.loads((self.folder / METRICS).read_text())
        trained = stated.get("seconds") if isinstance(stated, dict) else None
        elapsed = (self.folder / METRICS).stat().st_mtime - (self.folder / CONFIG).stat().st_mtime
        return max(elapsed, trained if isinstance(trained, float) else 0.0)


def digest(script: str, settings: Tree, needs: tuple[Job, ...]) -> str:
    """Return a hash of what a job computes: script and settings, but not where it runs.

    Paths count relative to the working folder, and another job's folder counts as that job's own hash.

    Args:
        script: name of the script.
        settings: all of them, resolved.
        needs: jobs whose folders the settings name.

    Example:
        >>> digest("svi_target", {"seed": 0, "device": "cpu"}, ()) == digest("svi_target", {"seed": 0, "device": "cuda"}, ())
        True
    """
    kept = {key: value for key, value in settings.items() if key not in FREE}
    text = json.dumps([script, kept], sort_keys=True, default=str).replace(f"{Path.cwd()}/", "")
    for job in needs:
        text = text.replace(job.folder.as_posix(), f"@{job.name[-8:]}")
    return hashlib.sha256(text.encode()).hexdigest()[:8]
