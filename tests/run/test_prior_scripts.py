"""The two scripts between source networks and a prior, on networks that were drawn, not trained."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from pyro_dwp.cli import run_script
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn.unet import UNet
from pyro_dwp.priors.store import load_prior
from pyro_dwp.transfer import save_network

RUN = Path(__file__).parents[2] / "run"
BRIEF = ["--schedule.epochs", "2", "--schedule.batch_size", "500"]
DEEP = ["--prior", "deep_weight", "--prior.hidden", "8", "--prior.latent", "2", "--prior.samples", "3"]
QUICK = [*DEEP[2:], *BRIEF]
OWN = '''
import pyro.distributions as dist
import torch

from pyro_dwp.priors import KernelDensity
from pyro_dwp.train import Fitted, PriorFit


class Wide(KernelDensity):
    """Independent Gaussians of one width."""

    family = "wide"

    def __init__(self, kernel_shape):
        super().__init__(kernel_shape)
        self.register_buffer("width", torch.ones(()))

    def distribution(self, group=""):
        return dist.Normal(torch.zeros(self.kernel_shape), self.width).to_event(len(self.kernel_shape))


class FitWide(PriorFit):
    """Independent Gaussians of a given width.

    Args:
        width: standard deviation.
    """

    family = "wide"

    def __init__(self, width: float = 1.0):
        self.width = width

    def fit(self, training, steering, where):
        density = Wide(training.shape[1:])
        density.width.fill_(self.width)
        return Fitted(density, 0, 0.0)
'''


def script(name):
    spec = importlib.util.spec_from_file_location(name, RUN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(autouse=True)
def no_figure(request, monkeypatch):
    """Spare the figure, which takes most of the time, but where a test looks at it."""
    if "draws_figure" in request.fixturenames:
        return
    monkeypatch.setattr("pyro_dwp.report.save_figure", lambda figure, path: path)
    monkeypatch.setattr("pyro_dwp.report.kernels", lambda trained, samples: None)


@pytest.fixture
def draws_figure():
    """Ask for the figure."""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "source"
    for index in range(2):
        for cycle in range(2):
            path = folder / "networks" / f"network-{index:02d}-cycle-{cycle}.safetensors"
            save_network(path, UNet(channels=(4, 8)), {"network": index, "cycle": cycle})
    (folder / "config.yaml").write_text("network: {class_path: pyro_dwp.nn.UNet, init_args: {channels: [4, 8]}}\n")
    return folder


@pytest.fixture
def bank(source):
    assert run_script(script("collect_kernels"), None, ["--sources", str(source), "--name", "kernels"]) == 0
    return Path("runs") / "kernels" / "bank.safetensors"


def test_collected_kernels_are_those_of_all_snapshots(bank):
    found = KernelBank.load(bank)
    assert {group: len(kernels) for group, kernels in found.kernels.items()} == {"1": 144, "2": 768, "3": 128}
    assert found.networks == [0, 1]
    assert [snapshot["cycle"] for snapshot in found.metadata["provenance"]["snapshots"]] == [0, 1, 0, 1]


def test_collecting_prints_a_line_for_each_group(source, capsys):
    run_script(script("collect_kernels"), None, ["--sources", f"[{source}, {source}]"])
    lines = capsys.readouterr().out.splitlines()
    assert "Gauss - iso" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert "8 snapshots of 2 networks" in lines[-1]


@pytest.mark.parametrize(
    ("prior", "exact"),
    [
        ("deep_weight", False),
        ("deep_weight --prior.variant paper", False),
        ("empirical", True),
        ("empirical --prior.student_t true", True),
        ("mixture --prior.components 2 --prior.steps 5", True),
        ("flow --prior.hidden 8 --prior.transforms 2", True),
        ("flow --prior.hidden 8 --prior.bins 4", True),
    ],
)
def test_a_bank_becomes_a_prior_with_its_scores(bank, prior, exact, capsys):
    family, *flags = prior.split()
    settings = DEEP[2:] if family == "deep_weight" else []
    command = ["--bank", str(bank), "--name", "prior", "--licence", "CC0", *BRIEF, "--prior", family, *settings, *flags]
    assert run_script(script("train_prior"), None, command) == 0
    stored = load_prior("runs/prior/prior.safetensors", dict.fromkeys("123", (3, 3, 3)), family)
    assert stored.metadata["licence"] == "CC0"
    assert stored.metadata["kernels"]["1"] == {"fitted": 68, "steering": 4, "held_out": 72}
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        name = flag.removeprefix("--prior.")
        assert name == "steps" or stored.density("2").settings[name] == yaml.safe_load(value)
    scores = json.loads(Path("runs/prior/metrics.json").read_text())
    assert (scores["family"], scores["exact"]) == (family, exact)
    assert [row["group"] for row in scores["nats_per_kernel"]] == ["1", "2", "3"]
    assert all(row["learned"]["error"] > 0 for row in scores["nats_per_kernel"])
    assert all(count > 0 for count in scores["parameters"].values())
    assert f"{family} ({'exact' if exact else 'bound'}) - iso" in capsys.readouterr().out
    page = yaml.safe_load(Path("runs/prior/prior.yaml").read_text())
    assert page["metadata"]["bank"]["left_out"] == {"1": 0, "2": 0, "3": 0}
    assert page["metadata"]["bank"]["networks"] == ["runs/source/network 0", "runs/source/network 1"]


def test_without_a_choice_the_prior_is_a_dense_deep_weight_prior_and_samples_are_drawn(bank, draws_figure):
    assert run_script(script("train_prior"), None, ["--bank", str(bank), "--name", "prior", *QUICK]) == 0
    stored = load_prior("runs/prior/prior.safetensors")
    assert stored.family == "deep_weight"
    assert stored.density("1").settings == {"variant": "dense", "latent": 2, "hidden": 8}
    assert Path("runs/prior/figures/kernels.png").stat().st_size > 1000


@pytest.mark.parametrize("student_t", [False, True])
def test_the_exact_scores_of_an_empirical_prior_are_those_of_the_measurement(bank, student_t):
    """The table's own Gaussian and Student t are the same fit, to float32 and to the order of the kernels."""
    flags = [
        "--bank",
        str(bank),
        "--name",
        "prior",
        "--prior",
        "empirical",
        "--prior.student_t",
        str(student_t).lower(),
    ]
    run_script(script("train_prior"), None, flags)
    for row in json.loads(Path("runs/prior/metrics.json").read_text())["nats_per_kernel"]:
        assert row["learned"]["mean"] == pytest.approx(row["student_t" if student_t else "gaussian"]["mean"], abs=2e-3)


@pytest.mark.parametrize("flags", [QUICK, [*BRIEF, "--prior", "flow", "--prior.hidden", "8"]], ids=["deep", "flow"])
def test_a_resumed_fit_ends_with_the_same_prior(bank, flags):
    main = script("train_prior")
    run_script(main, None, ["--bank", str(bank), "--name", "whole", *flags])
    run_script(main, None, ["--bank", str(bank), "--name", "parts", *flags, "--schedule.epochs", "1"])
    run_script(main, None, ["--bank", str(bank), "--name", "parts", *flags, "--resume"])
    whole, parts = (load_prior(f"runs/{name}/prior.safetensors").densities.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_group_of_too_few_kernels_is_one_clear_error(bank, capsys):
    flags = ["--bank", str(bank), "--name", "prior", "--prior", "mixture", "--validation", "0.3"]
    assert run_script(script("train_prior"), None, flags) == 2
    assert (
        "group '1': A covariance of 27 entries needs 54 kernels to fit or more, but 50 are left"
        in capsys.readouterr().err
    )
    assert not Path("runs/prior").exists()


@pytest.mark.parametrize("flags", ["--validation 0", "--validation 1", "--judged 0", "--held_out 0", "--held_out 1"])
def test_a_share_that_holds_out_nothing_or_all_is_refused(bank, flags, capsys):
    given = ["--bank", str(bank), "--name", "prior", "--prior", "empirical", *flags.split()]
    assert run_script(script("train_prior"), None, given) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    assert not Path("runs/prior").exists()


def test_a_training_that_diverges_is_one_clear_error(bank, capsys):
    flags = [*QUICK, "--schedule.learning_rate", "1e30", "--schedule.epochs", "3"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered NaN")
        assert run_script(script("train_prior"), None, ["--bank", str(bank), "--name", "prior", *flags]) == 2
    found = capsys.readouterr().err
    assert "not finite" in found
    assert "schedule.learning_rate" in found


@pytest.mark.parametrize(
    ("networks", "steer", "counts"),
    [
        (4, None, {"fitted": 120, "steering": 60, "held_out": 60}),
        (4, "kernels", {"fitted": 171, "steering": 9, "held_out": 60}),
        (3, "networks", {"fitted": 114, "steering": 6, "held_out": 60}),
    ],
)
def test_a_fit_is_steered_by_a_whole_network_where_two_others_are_left(tmp_path, monkeypatch, networks, steer, counts):
    """Kernels of a network all have its own value; a prior of the user's own keeps which of them it was given."""
    monkeypatch.chdir(tmp_path)
    sources = torch.arange(networks).repeat_interleave(60)
    KernelBank({"1": 1.0 + sources[:, None, None, None].expand(-1, 3, 3, 3)}, {"1": sources}).save("bank.safetensors")
    told = "density.width.fill_(1 + len(set(training.unique().tolist()) & set(steering.unique().tolist())))"
    Path("my_fit.py").write_text(OWN.replace("density.width.fill_(self.width)", told))
    flags = ["--bank", "bank.safetensors", "--name", "prior", "--prior", "my_fit.py:FitWide"] + (
        ["--steer", steer] if steer else []
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pyro_dwp.train.PriorFit.log_density", lambda self, density, kernels: torch.arange(len(kernels)).double()
        )
        assert run_script(script("train_prior"), None, flags) == 0
    stored = load_prior("runs/prior/prior.safetensors")
    assert stored.metadata["kernels"]["1"] == counts
    shared = stored.density("1").width.item()
    assert (shared == 1) == (counts["steering"] == 60)


def test_a_fit_of_a_users_own_is_named_by_its_file(bank, tmp_path):
    (tmp_path / "my_fit.py").write_text(OWN)
    flags = ["--bank", str(bank), "--name", "prior", "--prior", "my_fit.py:FitWide", "--prior.width", "3"]
    assert run_script(script("train_prior"), None, flags) == 0
    stored = load_prior("runs/prior/prior.safetensors")
    assert stored.family == "wide"
    assert stored.density("2").distribution().variance.unique().item() == pytest.approx(9.0)


def test_a_folder_that_is_no_source_run_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(script("collect_kernels"), None, ["--sources", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_bank_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(script("train_prior"), None, ["--bank", "nowhere.safetensors"]) == 2
    assert "nowhere.safetensors does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
