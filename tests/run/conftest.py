"""The scripts of run/, called in this process as their command lines would be, and one small run of the whole chain."""

import io
import runpy
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dwp.data import Phantoms, write_volume

RUN = Path(__file__).parents[2] / "run"
CASES = 6
GRID = ["--preprocess.grid", "[16,16,16]"]
PHANTOMS = ["--data", "phantoms", "--data.cases", str(CASES), "--data.shape", "[16,16,16]"]
SMALL = ["--network", "unet", "--network.channels", "[4,8]"]
SPLIT = ["--train", "2", "--validation", "1"]
BRIEF = ["--schedule.epochs", "2", "--schedule.validate_every", "1", "--schedule.checkpoint_every", "1"]
SOURCE = [*GRID, *SMALL, *SPLIT, *BRIEF, "--networks", "2", "--cycles", "2"]
PRIOR = ["--family.hidden", "8", "--family.latent", "2", "--bound_draws", "3", "--schedule.epochs", "2"]
DEEP_WEIGHT = ["--prior", "deep_weight", "--prior.path", "runs/prior/prior.safetensors"]
SCORES = ["--output", "scores", "--allow_missing"]
TARGET = [*GRID, *SMALL, *SPLIT, *BRIEF, "--test", "2", "--samples", "2", "--threads", "1"]


@dataclass(frozen=True)
class Done:
    """How a script ended, and what it said."""

    status: int
    out: str
    err: str


Call = Callable[..., Done]
Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def call() -> Call:
    """Return a function of (working folder, script, *arguments) that runs the script's last line too."""

    def run(folder: Path, script: str, *arguments: object) -> Done:
        out, err, threads, status = io.StringIO(), io.StringIO(), torch.get_num_threads(), None
        path = str(RUN / f"{script}.py")
        try:
            with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setattr(sys, "argv", [path, *map(str, arguments)])
                runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            status = end.code
        finally:
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
def tumours() -> Phantoms:
    """Six small heads with a tumour."""
    return Phantoms(disease="tumour", cases=CASES, shape=(16, 16, 16))


@pytest.fixture(scope="session")
def nifti_tumours(tumours: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tumours in images/ and labels/; not to be changed."""
    folder = tmp_path_factory.mktemp("tumours")
    for name in tumours.names():
        scan = tumours.load(name)
        write_volume(folder / "images" / f"{name}.nii.gz", scan.image[0], scan.affine, np.float32)
        write_volume(folder / "labels" / f"{name}.nii.gz", scan.label, scan.affine, np.uint8)
    return folder


@pytest.fixture(scope="session")
def source(finished: Call, once: Once) -> Path:
    """Working folder with a run of train_source.py: runs/source."""
    flags = [*PHANTOMS, "--data.disease", "plaques", *SOURCE, "--name", "source"]
    return once("source", lambda folder: finished(folder, "train_source", *flags))


@pytest.fixture(scope="session")
def chain(finished: Call, source: Path, nifti_tumours: Path, once: Once) -> Path:
    """Working folder with a small run of each step, and what each printed, as SCRIPT.txt.

    They are runs/source, runs/kernels, runs/prior, runs/target; maps/ of predict.py, scores/ of evaluate.py.
    """
    steps = {
        "collect_kernels": ["--sources", "runs/source", "--name", "kernels"],
        "train_prior": ["--bank", "runs/kernels/bank.safetensors", "--name", "prior", *PRIOR],
        "svi_target": [*PHANTOMS, *DEEP_WEIGHT, *TARGET, "--name", "target"],
        "predict": ["--run", "runs/target", "--images", nifti_tumours / "images", "--output", "maps"],
        "evaluate": ["--predictions", "runs/target/predictions", "--truths", nifti_tumours / "labels", *SCORES],
    }

    def fill(folder: Path) -> None:
        shutil.copytree(source / "runs", folder / "runs")
        for script, arguments in steps.items():
            (folder / f"{script}.txt").write_text(finished(folder, script, *arguments).out)

    return once("chain", fill)


@pytest.fixture(scope="session")
def target(chain: Path) -> Path:
    """Folder of the chain's run of svi_target.py."""
    return chain / "runs" / "target"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the figures, which take most of the time of a small run; those of the chain are looked at."""
    monkeypatch.setattr("pyro_dwp.report.draw_run", lambda *arguments: None)
    monkeypatch.setattr("pyro_dwp.report.report_run", lambda folder: "")


@pytest.fixture(scope="session")
def small(chain: Path, nifti_tumours: Path) -> dict[str, list[str]]:
    """Script → flags with which it runs, briefly."""
    runs = chain / "runs"
    flags = {
        "svi_target": [*PHANTOMS, "--prior", "gaussian", *TARGET],
        "train_source": [*PHANTOMS, *SOURCE],
        "train_prior": ["--bank", runs / "kernels" / "bank.safetensors", *PRIOR],
        "collect_kernels": ["--sources", runs / "source"],
        "predict": ["--run", runs / "target", "--images", nifti_tumours / "images", "--output", "maps"],
        "evaluate": ["--predictions", nifti_tumours / "labels", "--truths", nifti_tumours / "labels"],
    }
    return {script: list(map(str, words)) for script, words in flags.items()}


@pytest.fixture
def infer(finished: Call, small: dict, no_figures: None, tmp_path: Path) -> Callable[..., Path]:
    """Return a function of flags that runs svi_target.py briefly, with a Gaussian prior, and returns the run's folder."""

    def run(*flags: object, name: str = "run") -> Path:
        finished(tmp_path, "svi_target", *small["svi_target"], "--name", name, *flags)
        return tmp_path / "runs" / name

    return run


@pytest.fixture
def data(nifti_tumours: Path, tmp_path: Path) -> Path:
    """A copy of the tumours, to be damaged."""
    return shutil.copytree(nifti_tumours, tmp_path / "data")


@pytest.fixture
def refused(call: Call, tmp_path: Path) -> Call:
    """Return a function of (parts of the error, script, *arguments), which must fail in one line and leave nothing."""

    def run(parts: list[str], script: str, *arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        done = call(tmp_path, script, *arguments)
        assert done.status == 2, done.err + done.out
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1, done.err
        assert [part for part in parts if part not in done.err] == [], done.err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return done.err

    return run
