"""From source scans to a prior: run/train_source.py, run/collect_kernels.py and run/train_prior.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn import UNet, load_network
from pyro_dwp.priors.store import load_prior

Weights = dict[str, Tensor]
Snapshots = dict[str, tuple[Weights, dict[str, Any]]]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "laplace_family.py"
BRIEF = ["--schedule.epochs", "2", "--schedule.batch_size", "500"]
DEEP = ["--family.hidden", "8", "--family.latent", "2", "--bound_draws", "3"]


@pytest.fixture
def train(finished, small, tmp_path) -> Callable[..., Snapshots]:
    """Return a function that trains with the flags of `source` and these, and returns its `snapshots`."""

    def run(*more: object) -> Snapshots:
        flags = [*small["train_source"], "--data.disease", "plaques", "--name", "run", "--overwrite", *more]
        finished(tmp_path, "train_source", *flags)
        return snapshots(tmp_path / "runs" / "run")

    return run


def snapshots(folder: Path) -> Snapshots:
    """Name → weights and facts of each network that a run has kept."""
    kept = {}
    for path in sorted((folder / "networks").iterdir()):
        network = UNet(channels=(4, 8))
        facts = load_network(path, network)
        kept[path.stem] = network.state_dict(), facts
    return kept


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_validation_cases_networks_are_kept_unscored(train, tmp_path):
    kept = train("--networks", "1", "--cycles", "1", "--validation", "0", "--train", "null", "--test", "1")
    assert [facts.keys() & {"loss", "dice"} for _, facts in kept.values()] == [set()]
    split = json.loads((tmp_path / "runs" / "run" / "split.json").read_text())
    assert {part: len(names) for part, names in split.items()} == {"train": 5, "validation": 0, "test": 1}


def test_every_network_leaves_one_snapshot_per_cycle_that_differ_and_the_metrics_are_theirs(source):
    folder = source / "runs" / "source"
    kept = snapshots(folder)
    assert list(kept) == [f"network-{network:02d}-cycle-{cycle}" for network in range(2) for cycle in range(2)]
    weights, facts = zip(*kept.values(), strict=True)
    assert [fact["seed"] for fact in facts] == [0, 0, 1, 1]
    assert not any(equal(weights[i], weights[j]) for i in range(4) for j in range(i))
    assert json.loads((folder / "metrics.json").read_text())["snapshots"] == list(facts)
    for fact in facts:
        assert (fact["epochs"], fact["stopped"]) == (2, "epochs")
        assert min(fact["seconds"], fact["loss"]) > 0
        assert 0 <= fact["dice"] <= 1
    split = json.loads((folder / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "validation", "test")] == [2, 1, 0]
    assert len({*split["train"], *split["validation"]}) == 3


def test_the_same_seed_gives_the_same_networks_whatever_their_number(train, source):
    weights, facts = train("--networks", 1, "--cycles", 1, "--seed", 1)["network-00-cycle-0"]
    assert facts["seed"] == 1
    assert equal(weights, snapshots(source / "runs" / "source")["network-01-cycle-0"][0])


def test_initial_scale_and_weight_decay_shrink_the_kernels(train):
    sizes = []
    for scale, decay in ((1, 0), (1, 100), (0.05, 0)):
        flags = ["--networks", 1, "--cycles", 1, "--initial_scale", scale, "--weight_decay", decay]
        weights, _ = train(*flags)["network-00-cycle-0"]
        sizes.append(torch.cat([value.flatten() for value in weights.values()]).norm().item())
    assert sizes[2] < 0.5 * sizes[0]
    assert sizes[1] < 0.95 * sizes[0]


@pytest.fixture
def fit(finished, chain, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Return a function that fits a prior with these flags and returns the folder of its run; it draws no figure."""
    monkeypatch.setattr("pyro_dwp.report.save_figure", lambda figure, path: path)
    monkeypatch.setattr("pyro_dwp.report.kernels", lambda trained, samples: None)

    def run(*flags: object, name: str = "prior") -> Path:
        bank = chain / "runs" / "kernels" / "bank.safetensors"
        done = finished(tmp_path, "train_prior", "--bank", bank, "--name", name, *flags)
        (tmp_path / "runs" / name / "said.txt").write_text(done.out)
        return tmp_path / "runs" / name

    return run


def test_collected_kernels_are_those_of_all_snapshots_of_one_or_several_runs(finished, chain):
    found = KernelBank.load(chain / "runs" / "kernels" / "bank.safetensors")
    assert {group: len(kernels) for group, kernels in found.kernels.items()} == {"1": 144, "2": 768, "3": 128}
    kept = found.metadata["provenance"]["snapshots"]
    assert [chain / fact["file"] for fact in kept] == sorted((chain / "runs" / "source" / "networks").iterdir())
    assert ([fact["cycle"] for fact in kept], found.networks) == ([0, 1, 0, 1], [0, 1])
    lines = (chain / "collect_kernels.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    twice = finished(chain, "collect_kernels", "--sources", "[runs/source, runs/source]").out
    assert "8 snapshots of 2 networks" in twice.splitlines()[-1]


@pytest.mark.parametrize(
    ("family", "exact"),
    [
        ("deep_weight", False),
        ("deep_weight --family.variant paper", False),
        ("empirical", True),
        ("empirical --family.student_t true", True),
        ("mixture --family.components 2 --family.steps 5", True),
        ("flow --family.hidden 8 --family.transforms 2", True),
        ("flow --family.hidden 8 --family.bins 4", True),
    ],
)
def test_a_bank_becomes_a_prior_with_its_scores(fit, chain, family, exact):
    name, *flags = family.split()
    folder = fit("--licence", "CC0", *BRIEF, "--family", name, *(DEEP if name == "deep_weight" else []), *flags)
    stored = load_prior(folder / "prior.safetensors")
    assert [(key, *found.kernel_shape) for key, found in stored.densities.items()] == [(key, 3, 3, 3) for key in "123"]
    assert stored.metadata["licence"] == "CC0"
    assert stored.metadata["kernels"]["1"] == {"fitted": 68, "validation": 4, "held_out": 72}
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        setting = flag.removeprefix("--family.")
        assert setting == "steps" or stored.densities["2"].settings[setting] == yaml.safe_load(value)
    scores = json.loads((folder / "metrics.json").read_text())
    rows = scores["nats_per_kernel"]
    assert (scores["family"], scores["exact"], [row["group"] for row in rows]) == (name, exact, ["1", "2", "3"])
    assert all(row["learned"]["error"] > 0 for row in rows)
    assert all(count > 0 for count in scores["parameters"].values())
    assert f"{name} ({'exact' if exact else 'bound'}) - iso" in (folder / "said.txt").read_text()
    page = yaml.safe_load((folder / "prior.yaml").read_text())["metadata"]["bank"]
    assert page["left_out"] == {"1": 0, "2": 0, "3": 0}
    assert page["networks"] == [f"{chain / 'runs' / 'source'}/network {index}" for index in range(2)]
    if name == "empirical":  # the table's own Gaussian and Student t are the same fit, but for rounding
        same = "student_t" if flags else "gaussian"
        assert all(row["learned"]["mean"] == pytest.approx(row[same]["mean"], abs=2e-3) for row in rows)


@pytest.mark.parametrize("flags", [DEEP, ["--family", "flow", "--family.hidden", "8"]], ids=["deep_weight", "flow"])
def test_a_resumed_fit_ends_with_the_same_prior(fit, flags):
    whole = fit(*BRIEF, *flags)
    fit(*BRIEF, *flags, "--schedule.epochs", "1", name="parts")
    parts = fit(*BRIEF, *flags, "--resume", name="parts")
    assert equal(*(load_file(folder / "prior.safetensors") for folder in (whole, parts)))


@pytest.mark.parametrize(
    ("networks", "flags", "fitted"), [(4, [], 120), (4, ["--validate_on", "kernels"], 171), (3, [], 114)]
)
def test_a_whole_network_validates_where_two_others_are_left(fit, tmp_path, networks, flags, fitted):
    """Of 60 kernels a network; the fit is of a user's own."""
    sources = torch.arange(networks).repeat_interleave(60)
    KernelBank({"1": torch.randn(len(sources), 3, 3, 3)}, {"1": sources}).save(tmp_path / "bank.safetensors")
    folder = fit("--bank", "bank.safetensors", "--family", f"{EXAMPLE}:WidthsFit", "--family.smallest", "9", *flags)
    stored = load_prior(folder / "prior.safetensors")
    assert (stored.family, stored.densities["1"].width.min()) == ("laplace_widths", 9)
    counts = {"fitted": fitted, "validation": 60 * (networks - 1) - fitted, "held_out": 60}
    assert stored.metadata["kernels"]["1"] == counts
