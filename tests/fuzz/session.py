"""Many inputs: how many of each kind, who reads them, and a table of what came of them."""

import json
import math
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import Random

import torch

from pyro_dwp.errors import PyroDwpError
from tests.fuzz.trial import FAILURES, OUTCOMES, Kind, Limits, Result, Wrong, attempt

MODULES = ("images", "detached", "arrays", "stored", "settings", "folders", "layouts", "runs", "reports")
PACKAGES = ("torch", "numpy", "nibabel", "pillow", "monai", "safetensors", "pyyaml", "pydantic")


def all_kinds() -> dict[str, type[Kind]]:
    """Return every kind of input, by name."""
    for module in MODULES:
        import_module(f"tests.fuzz.{module}")
    return {name: kind for name, kind in Kind.kinds.items() if name}


def plan(names: Sequence[str], inputs: int) -> list[tuple[str, int]]:
    """Return (kind, number) of each input, shared out by the kinds' shares."""
    kinds = all_kinds()
    total = sum(kinds[name].share for name in names)
    counts = {name: max(5, math.ceil(inputs * kinds[name].share / total)) for name in names}
    return [(name, number) for name in names for number in range(counts[name])]


class Session:
    """Reads inputs one after another, in folders below a root."""

    def __init__(self, root: Path, names: Sequence[str], seed: int, keep: Path | None) -> None:
        self.root, self.seed, self.keep, self.limits = root, seed, keep, Limits()
        self.kinds = {name: all_kinds()[name](root / "corpus") for name in names}
        for kind in self.kinds.values():
            prepare_apart(kind)
            warm_up(kind, root / "warm")

    def __call__(self, item: tuple[str, int]) -> Result:
        name, number = item
        folder = self.root / "inputs" / f"{name}-{number}"
        result = attempt(self.kinds[name], number, self.seed, folder, self.limits)
        if self.keep and result.outcome in FAILURES:
            shutil.copytree(folder, self.keep / folder.name, symlinks=True, dirs_exist_ok=True, ignore=_no_pipes)
            (self.keep / f"{folder.name}.json").write_text(json.dumps(asdict(result), indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        return result


def _no_pipes(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if (path := Path(folder, name)).exists() and not path.is_file() and not path.is_dir()
    ]


def prepare_apart(kind: Kind) -> None:
    """Have a child make what a kind needs, since that may start threads, which a fork would lose."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kind.corpus.mkdir(parents=True, exist_ok=True)
            os.chdir(kind.corpus)
            kind.prepare()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"The healthy files of {kind.name} could not be made.")


def warm_up(kind: Kind, folder: Path) -> None:
    """Import all that a kind imports late, once for all children."""
    before = Path.cwd()
    for number in range(kind.warm):
        (folder / kind.name / str(number)).mkdir(parents=True)
        os.chdir(folder / kind.name / str(number))
        try:
            kind.make(Path.cwd(), Random(f"0 {kind.name} {number}"), healthy=True).read()
        except (PyroDwpError, Wrong) as problem:
            print(f"{kind.name}: a healthy input is not read right: {problem}")
        finally:
            os.chdir(before)


def fuzz(
    inputs: int = 2000,
    seed: int = 0,
    kinds: str = "",
    only: str = "",
    keep: Path | None = None,
    workers: int = 1,
    report: Path | None = None,
) -> int:
    """Read inputs and print a table; the exit status is 1 if one was neither read right nor refused clearly."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    names = [only.partition(":")[0]] if only else kinds.split(",") if kinds else list(all_kinds())
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz") as root:
        session = Session(Path(root), names, seed, keep and keep.absolute())
        if only:
            return _repeat(session, only)
        results = list(_run(session, plan(names, inputs), workers))
    for slow in sorted(results, key=lambda result: -result.seconds)[:3]:
        print(f"slow: {slow.key}: {slow.seconds} s: {slow.damage}")
    page = describe(results, seed, time.monotonic() - start)
    print(page)
    if report:
        report.mkdir(parents=True, exist_ok=True)
        (report / "fuzz.json").write_text(json.dumps(list(map(asdict, results)), indent=1))
        (report / "fuzz.md").write_text(page)
    return int(any(result.outcome in FAILURES for result in results))


def _run(session: Session, items: Sequence[tuple[str, int]], workers: int) -> Iterable[Result]:
    with multiprocessing.get_context("fork").Pool(workers, _share, (session,)) as pool:
        for result in pool.imap(_work, items, chunksize=8):
            if result.outcome in FAILURES:
                last = result.message.strip().splitlines()[-1:] or [""]
                print(f"{result.key}: {result.outcome}: {result.damage} | {last[0][:200]}", flush=True)
            yield result


_sessions: list[Session] = []


def _share(session: Session) -> None:
    _sessions.append(session)


def _work(item: tuple[str, int]) -> Result:
    return _sessions[-1](item)


def _repeat(session: Session, only: str) -> int:
    name, _, number = only.partition(":")
    folder = (session.keep or session.root) / f"{name}-{number}"
    result = attempt(session.kinds[name], int(number), session.seed, folder, session.limits)
    print(json.dumps(asdict(result), indent=2), result.message, sep="\n")
    return int(result.outcome in FAILURES)


def describe(results: Sequence[Result], seed: int, seconds: float) -> str:
    """Return the counts as a Markdown table, with what is needed to get them again."""
    counts = Counter((result.kind, result.outcome) for result in results)
    names = list(dict.fromkeys(result.kind for result in results))
    rows = [(name, [counts[name, outcome] for outcome in OUTCOMES]) for name in names]
    rows.append(("**all**", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
    lines = [f"| kind | inputs | {' | '.join(OUTCOMES)} |", f"| --- | {'--: | ' * (len(OUTCOMES) + 1)}"]
    lines += [f"| {name} | {sum(row)} | {' | '.join(map(str, row))} |" for name, row in rows]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    times = sorted(result.seconds for result in results)
    lines += [
        "",
        f"Seed {seed}; {seconds:.0f} s in all, {times[len(times) // 2] * 1000:.0f} ms for the median input; Python "
        f"{platform.python_version()}, {versions}; {platform.system()}, {os.cpu_count()} processors ({platform.machine()}).",
    ]
    return "\n".join(islice(lines, None)) + "\n"
