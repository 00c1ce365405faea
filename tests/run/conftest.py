"""The scripts of run/, called in this process as their command lines would be, and one small run of the whole chain."""

import contextlib
import io
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dwp.data import CaseSource, Phantoms, write_volume

RUN = Path(__file__).parents[2] / "run"
SHAPE = (16, 16, 16)
CASES = 6
GRID = ["--preprocess.grid", "[16,16,16]"]
PHANTOMS = ["--data", "phantoms", "--data.cases", str(CASES), "--data.shape", "[16,16,16]"]
SMALL = ["--network", "unet", "--network.channels", "[4,8]"]
SPLIT = ["--train", "2", "--validation", "1"]
BRIEF = ["--schedule.epochs", "2", "--schedule.validate_every", "1"]
SOURCE = [*GRID, *SMALL, *SPLIT, *BRIEF, "--networks", "2", "--cycles", "2"]
PRIOR = ["--prior.hidden", "8", "--prior.latent", "2", "--prior.samples", "3", "--schedule.epochs", "2"]
DEEP_WEIGHT = ["--prior", "deep_weight", "--prior.path", "runs/prior/prior.safetensors"]
TARGET = [*GRID, *SMALL, *SPLIT, *BRIEF, "--test", "2", "--samples", "2", "--threads", "1"]


@dataclass(frozen=True)
class Done:
    """How a script ended, and what it said."""

    status: int
    out: str
    err: str


Call = Callable[..., Done]


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def call() -> Call:
    """Return a function of (working folder, script, *arguments) that runs the script's last line too."""

    def run(folder: Path, script: str, *arguments: object) -> Done:
        out, err, before, threads = io.StringIO(), io.StringIO(), sys.argv, torch.get_num_threads()
        path = str(RUN / f"{script}.py")
        sys.argv = [path, *map(str, arguments)]
        status = None
        try:
            with inside(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            status = end.code
        finally:
            sys.argv = before
            torch.set_num_threads(threads)
        assert isinstance(status, int), f"{script}.py ended with {status!r}, not with an exit status"
        return Done(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def finished(call: Call) -> Call:
    """Return a function as `call`, for scripts that must end well."""

    def run(folder: Path, script: str, *arguments: object) -> Done:
        done = call(folder, script, *arguments)
        assert (done.status, done.err) == (0, ""), f"{done.err}\n{done.out}"
        return done

    return run


@pytest.fixture(scope="session")
def target_flags() -> list[str]:
    """Flags of a small run of svi_target.py, but for data and prior."""
    return TARGET


@pytest.fixture(scope="session")
def phantom_flags() -> list[str]:
    """Flags of the phantoms that `tumours` has."""
    return PHANTOMS


@pytest.fixture(scope="session")
def source_flags() -> list[str]:
    """Flags of a small run of train_source.py, but for data: two networks, two cycles, two epochs of one step."""
    return SOURCE


@pytest.fixture(scope="session")
def tumours() -> Phantoms:
    """Six small heads with a tumour."""
    return Phantoms(disease="tumour", cases=CASES, shape=SHAPE)


def write_cases(cases: CaseSource, images: Path, labels: Path) -> None:
    """Write cases as a folder of images and one of labels."""
    for name in cases.names():
        scan = cases.load(name)
        write_volume(images / f"{name}.nii.gz", scan.image[0], scan.affine, np.float32)
        write_volume(labels / f"{name}.nii.gz", scan.label, scan.affine, np.uint8)


@pytest.fixture(scope="session")
def nifti_tumours(tumours: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tumours in images/ and labels/; not to be changed."""
    folder = tmp_path_factory.mktemp("tumours")
    write_cases(tumours, folder / "images", folder / "labels")
    return folder


@pytest.fixture(scope="session")
def source(finished: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder with a run of train_source.py: runs/source."""
    folder = tmp_path_factory.mktemp("chain")
    finished(folder, "train_source", *PHANTOMS, "--data.disease", "plaques", *SOURCE, "--name", "source")
    return folder


@pytest.fixture(scope="session")
def chain(finished: Call, source: Path, nifti_tumours: Path) -> Path:
    """Working folder with a small run of each step, and what each printed, as SCRIPT.txt.

    They are runs/source, runs/kernels, runs/prior, runs/target; maps/ of predict.py, scores/ of evaluate.py.
    """
    steps = {
        "collect_kernels": ["--sources", "runs/source", "--name", "kernels"],
        "train_prior": ["--bank", "runs/kernels/bank.safetensors", "--name", "prior", *PRIOR],
        "svi_target": [*PHANTOMS, *DEEP_WEIGHT, *TARGET, "--name", "target"],
        "predict": ["--run", "runs/target", "--images", nifti_tumours / "images", "--output", "maps"],
        "evaluate": [
            *("--predictions", "runs/target/predictions"),
            *("--truths", nifti_tumours / "labels", "--output", "scores"),
        ],
    }
    for script, arguments in steps.items():
        (source / f"{script}.txt").write_text(finished(source, script, *arguments).out)
    return source


@pytest.fixture(scope="session")
def target(chain: Path) -> Path:
    """Folder of the chain's run of svi_target.py."""
    return chain / "runs" / "target"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the figures, which take most of the time of a small run; those of the chain are looked at."""
    monkeypatch.setattr("pyro_dwp.report.run_figures.save_figure", lambda figure, path: path)


@pytest.fixture
def data(nifti_tumours: Path, tmp_path: Path) -> Path:
    """A copy of the tumours, to be damaged."""
    return shutil.copytree(nifti_tumours, tmp_path / "data")


@pytest.fixture
def refused(call: Call, tmp_path: Path) -> Call:
    """Return a function of (parts of the error, script, *arguments), which must fail on its input and leave nothing."""

    def run(parts: list[str], script: str, *arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        done = call(tmp_path, script, *arguments)
        assert done.status == 2, done.err + done.out
        assert done.err.startswith("error: ")
        assert done.err.count("error:") == 1
        assert "Traceback" not in done.err
        assert [part for part in parts if part not in done.err] == [], done.err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return done.err

    return run
