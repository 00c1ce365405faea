"""One input, read in a child process with bounded memory and time, and what came of it."""

import json
import os
import resource
import selectors
import shutil
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

import torch

from pyro_dwp.errors import PyroDwpError

RIGHT, REFUSED = "right", "refused"
FAILURES = ("unclear", "traceback", "killed or hung", "corrupt accepted", "healthy refused", "executed")
OUTCOMES = (RIGHT, REFUSED, *FAILURES)
SENTINEL = "EXECUTED"  # a file that hostile inputs create when something runs them
HEALTHY = 3  # the first inputs of a kind are not damaged, and must be read right
GIB = 2**30


class Wrong(Exception):  # noqa: N818 (not an error of the library)
    """The reader accepted an input that it should have refused, or did not read what is there."""


@dataclass(frozen=True)
class Limits:
    """What one input may use: memory beyond that of the imports, processor time, and time in all."""

    memory: int = 3 * GIB
    seconds: int = 20
    patience: int = 120  # wall time, on a machine that does other things, too
    written: int = GIB // 4


@dataclass
class Input:
    """One input, ready to be read.

    Args:
        folder: of its own, where it lies.
        named: texts of which a clear refusal holds at least one, such as the name of the damaged file.
        read: reads it, and raises `Wrong` if the result is not right.
        damage: what was done to it, in words.
    """

    folder: Path
    named: tuple[str, ...]
    read: Callable[[], None]
    damage: str = "none"


class Kind(ABC):
    """A kind of input. A subclass is known by its `name` as soon as its module is imported.

    Args:
        corpus: folder with what `prepare` made.
    """

    name: str
    share: float = 1.0  # of the inputs, compared with other kinds
    warm: int = 4  # healthy inputs that are read before any child is forked
    kinds: ClassVar[dict[str, type["Kind"]]] = {}

    def __init__(self, corpus: Path) -> None:
        self.corpus = corpus / self.name

    def __init_subclass__(cls) -> None:
        Kind.kinds[cls.name] = cls

    def prepare(self) -> None:  # noqa: B027 (most kinds need nothing)
        """Write healthy files, once, to `corpus`; called in a child."""

    @abstractmethod
    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        """Write an input to a folder; every choice comes from `draw`."""


@dataclass(frozen=True)
class Result:
    """What came of one input."""

    kind: str
    number: int
    outcome: str
    damage: str
    message: str
    seconds: float

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.number}"


def attempt(kind: Kind, number: int, seed: int, folder: Path, limits: Limits) -> Result:
    """Make an input in a folder, read it in a child, and return what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _child(kind, number, seed, folder, limits, sender)
    os.close(sender)
    said, hung = _listen(receiver, start + limits.patience)
    if hung:
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds, lines = time.monotonic() - start, said.decode(errors="replace").splitlines()
    said_last = json.loads(lines[-1]) if lines else ""
    damage = json.loads(lines[0]) if len(lines) > 1 or isinstance(said_last, str) else "?"
    outcome, message = said_last if isinstance(said_last, list) else ("killed or hung", f"exit status {status}")
    if (folder / SENTINEL).exists():
        outcome = "executed"
    return Result(kind.name, number, outcome, damage, message, round(seconds, 3))


def _listen(receiver: int, until: float) -> tuple[bytes, bool]:
    """Return what a child writes until it ends, and whether it took too long."""
    said = b""
    with selectors.DefaultSelector() as selector, os.fdopen(receiver, "rb", buffering=0) as stream:
        selector.register(stream, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if selector.select(left):
                if not (part := stream.read(65536)):
                    return said, False
                said += part
    return said, True


def _child(kind: Kind, number: int, seed: int, folder: Path, limits: Limits, sender: int) -> None:
    """Do what a child does: make the input, say what it is, read it, say what came of it, end."""
    os.setsid()
    log = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    draw = Random(f"{seed} {kind.name} {number}")
    torch.manual_seed(number)
    outcome = "traceback", "the input could not be made"
    try:
        made = kind.make(folder, draw, number < HEALTHY)
        os.write(sender, (json.dumps(made.damage) + "\n").encode())
        _limit(limits)
        outcome = _judge(made, number < HEALTHY)
    except BaseException:
        outcome = "traceback", _shorten(traceback.format_exc())
    os.write(sender, (json.dumps(outcome) + "\n").encode())
    os._exit(0)


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.written, limits.written))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _judge(made: Input, healthy: bool) -> tuple[str, str]:
    try:
        made.read()
    except Wrong as problem:
        return "corrupt accepted", _shorten(str(problem))
    except PyroDwpError as error:
        message = str(error)
        clear = "\n" not in message and any(name in message for name in made.named)
        return "healthy refused" if healthy else REFUSED if clear else "unclear", _shorten(message)
    return RIGHT, ""


def _shorten(text: str) -> str:
    return text if len(text) <= 3000 else f"{text[:1000]}\n…\n{text[-2000:]}"
